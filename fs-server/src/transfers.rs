//! What shells are doing with names, as they announced it: who is at a name, and how far he is.
//!
//! Nothing here changes or refuses an operation on files. The table is shared by all sessions of a tree; what one of
//! them has under way, and which of its open files count for what, is [`OwnTransfers`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, Node, SessionId, TransferId};
use nearfs_protocol::limits::{TRANSFER_FILES_MAX, TRANSFERS_MAX, TRANSFERS_SHOWN_MAX};
use nearfs_protocol::name::Name;
use nearfs_protocol::roster::{Busy, Tally, TransferKind, TransferOutcome, TransferReport};
use parking_lot::Mutex;

use crate::journal::{Event, Journal};

/// Most transfers of all sessions together.
const TRANSFERS_ALL_MAX: usize = 65_536;

/// No transfer has this number: they count from 1.
const NO_TRANSFER: TransferId = TransferId(0);

/// A name in a directory.
pub(crate) type Target = (Node, Name);

/// The transfers of all sessions.
#[derive(Default)]
pub(crate) struct Transfers {
    table: Mutex<Table>,
    journal: OnceLock<Arc<Journal>>,
}

/// How a transfer came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Its client told.
    Told(TransferOutcome),
    /// The last of its open files was released.
    Released,
    /// Its session has ended, or its client has been away for longer than the lease.
    Left,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    running: usize,
    /// Those that nobody else shall get in the way of, by what they are at.
    exclusive: HashMap<Target, Vec<Arc<Transfer>>>,
}

/// One transfer, from its announcement to its end.
pub(crate) struct Transfer {
    pub(crate) id: TransferId,
    pub(crate) session: SessionId,
    pub(crate) kind: TransferKind,
    pub(crate) path: Box<[u8]>,
    pub(crate) total_bytes: u64,
    target: Target,
    by: Arc<str>,
    begun: Instant,
    bytes: AtomicU64,
    files: AtomicU64,
}

/// What is announced.
pub(crate) struct Announcement {
    pub(crate) session: SessionId,
    /// Who announces it, as others shall read it.
    pub(crate) by: Arc<str>,
    pub(crate) kind: TransferKind,
    pub(crate) target: Target,
    /// The directories above the target, nearest first, each as a name in the one above it.
    pub(crate) above: Vec<Target>,
    pub(crate) path: Box<[u8]>,
    pub(crate) total_bytes: u64,
}

/// The transfers of one session.
#[derive(Default)]
pub(crate) struct OwnTransfers {
    /// Whether there are any: a session that never announces, as a mount's, pays for nothing else.
    any: AtomicBool,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    running: BTreeMap<TransferId, Running>,
    by_file: HashMap<Fh, TransferId>,
    /// The session has ended: nothing begins any more.
    is_over: bool,
}

struct Running {
    transfer: Arc<Transfer>,
    /// How many open files count for it; `None` if it never had one, so that it is what passes otherwise.
    files: Option<usize>,
}

/// What an operation moved, as far as it concerns transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed<'a> {
    /// In which direction.
    pub(crate) kind: TransferKind,
    /// The name that was removed.
    pub(crate) removed: Option<(Node, &'a Name)>,
    /// Through which open file, if it is known.
    pub(crate) fh: Option<Fh>,
    pub(crate) bytes: u64,
    /// Files that were opened or removed.
    pub(crate) files: u64,
}

impl Transfers {
    /// Begins a transfer, unless another session is in its way.
    ///
    /// Errors: `ENFILE` if there are too many.
    fn begin(&self, announcement: Announcement) -> Result<Result<Arc<Transfer>, Busy>, Errno> {
        let Announcement { session, by, kind, target, above, path, total_bytes } = announcement;
        let mut table = self.table.lock();
        if let Some(other) = table.in_the_way(session, &target, &above) {
            let busy = other.busy();
            drop(table);
            self.tell(|| {
                let event = Event::new(kind.verb()).session(session).quoted("client", by.as_bytes());
                event.quoted("path", &path).quoted("outcome", busy.to_string().as_bytes())
            });
            return Ok(Err(busy));
        }
        if table.running >= TRANSFERS_ALL_MAX {
            return Err(Errno::ENFILE);
        }
        table.running += 1;
        table.last_id += 1;
        let transfer = Arc::new(Transfer {
            id: TransferId(table.last_id),
            session,
            kind,
            path,
            total_bytes,
            target,
            by,
            begun: Instant::now(),
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
        });
        if kind.is_exclusive() {
            let at_name = table.exclusive.entry(transfer.target.clone()).or_default();
            at_name.push(transfer.clone());
        }
        drop(table);
        self.tell(|| transfer.event("begins").number("total", total_bytes));
        Ok(Ok(transfer))
    }

    /// None gets this number, or a lower one: they may be those of transfers of before the server was started again.
    pub(crate) fn skip_numbers(&self, last: u64) {
        let mut table = self.table.lock();
        table.last_id = table.last_id.max(last);
    }

    /// Who is told of transfers, from here on.
    pub(crate) fn set_journal(&self, journal: Arc<Journal>) {
        // There is one server for a tree, which says it once.
        let _ = self.journal.set(journal);
    }

    fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(journal) = self.journal.get() {
            journal.tell(event);
        }
    }

    fn end(&self, transfer: &Transfer, end: End) {
        self.tell(|| transfer.ended(end));
        let mut table = self.table.lock();
        table.running -= 1;
        if let Some(at_name) = table.exclusive.get_mut(&transfer.target) {
            at_name.retain(|other| other.id != transfer.id);
            if at_name.is_empty() {
                table.exclusive.remove(&transfer.target);
            }
        }
    }
}

impl Table {
    fn in_the_way(&self, session: SessionId, target: &Target, above: &[Target]) -> Option<&Transfer> {
        let others = |target: &Target| {
            let at_name = self.exclusive.get(target).into_iter().flatten();
            at_name.map(Arc::as_ref).find(|other| other.session != session)
        };
        let takes_all_below = |other: &&Transfer| match other.kind {
            TransferKind::Delete | TransferKind::Rename => true,
            TransferKind::Upload | TransferKind::Download => false,
        };
        others(target).or_else(|| above.iter().find_map(|above| others(above).filter(takes_all_below)))
    }
}

impl Transfer {
    /// What was counted so far.
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            bytes: self.bytes.load(Ordering::Relaxed),
            files: self.files.load(Ordering::Relaxed),
            elapsed_ms: self.begun.elapsed().as_millis() as u64,
        }
    }

    /// As others are told of it.
    pub(crate) fn report(&self) -> TransferReport {
        TransferReport {
            transfer: self.id,
            kind: self.kind,
            path: self.path.to_vec(),
            total_bytes: self.total_bytes,
            tally: self.tally(),
        }
    }

    fn event(&self, stage: &str) -> Event {
        let event = Event::new(self.kind.verb()).session(self.session).number("transfer", self.id.0);
        event
            .quoted("client", self.by.as_bytes())
            .quoted("path", &self.path)
            .quoted("stage", stage.as_bytes())
    }

    fn ended(&self, end: End) -> Event {
        let Tally { bytes, files, elapsed_ms } = self.tally();
        let event = self.event("ends").number("bytes", bytes).number("files", files);
        let event = event.number("ms", elapsed_ms);
        match end {
            End::Told(TransferOutcome::Done) | End::Released => event.outcome(Ok(())),
            End::Told(TransferOutcome::Failed(errno)) => event.outcome(Err(errno)),
            End::Told(TransferOutcome::GivenUp) => event.quoted("outcome", b"given up"),
            End::Left => event.quoted("outcome", b"its client left"),
        }
    }

    fn busy(&self) -> Busy {
        let Transfer { kind, total_bytes, .. } = *self;
        Busy { by: self.by.to_string(), kind, total_bytes, tally: self.tally() }
    }

    fn count(&self, bytes: u64, files: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.files.fetch_add(files, Ordering::Relaxed);
    }
}

impl OwnTransfers {
    /// Whether any runs.
    pub(crate) fn is_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Begins a transfer, which counts what passes through `fh` if there is one.
    ///
    /// Errors: `EMFILE` if the session has too many, `ENFILE` if all together have, `ECANCELED` if the session is over.
    pub(crate) fn begin(
        &self,
        all: &Transfers,
        announcement: Announcement,
        fh: Option<Fh>,
    ) -> Result<Result<Arc<Transfer>, Busy>, Errno> {
        let mut own = self.own.lock();
        if own.is_over {
            return Err(Errno::ECANCELED);
        }
        if own.running.len() >= TRANSFERS_MAX {
            return Err(Errno::EMFILE);
        }
        let transfer = match all.begin(announcement)? {
            Ok(transfer) => transfer,
            Err(busy) => return Ok(Err(busy)),
        };
        own.running.insert(transfer.id, Running { transfer: transfer.clone(), files: None });
        if let Some(fh) = fh {
            own.count_file(transfer.id, fh)?;
        }
        self.any.store(true, Ordering::Relaxed);
        Ok(Ok(transfer))
    }

    /// Counts what passes through an open file for a transfer, and for no other from here on.
    ///
    /// Errors: `ENOENT` if the session has no such transfer, `EMFILE` if it has too many files.
    pub(crate) fn count_file(&self, id: TransferId, fh: Fh) -> Result<(), Errno> {
        self.own.lock().count_file(id, fh)
    }

    /// Counts what passes through an open file for no transfer.
    pub(crate) fn pass_over(&self, fh: Fh) {
        self.own.lock().by_file.insert(fh, NO_TRANSFER);
    }

    /// Ends a transfer.
    ///
    /// Errors: `ENOENT` if the session has no such transfer.
    pub(crate) fn end(&self, all: &Transfers, id: TransferId, end: End) -> Result<Arc<Transfer>, Errno> {
        let mut own = self.own.lock();
        let Running { transfer, .. } = own.running.remove(&id).ok_or(Errno::ENOENT)?;
        let is_last = own.running.is_empty();
        own.by_file.retain(|_, other| *other != id && !is_last);
        self.any.store(!own.running.is_empty(), Ordering::Relaxed);
        all.end(&transfer, end);
        Ok(transfer)
    }

    /// Ends all. `for_good`: none begins after this one.
    pub(crate) fn end_all(&self, all: &Transfers, for_good: bool) {
        let mut own = self.own.lock();
        own.is_over |= for_good;
        own.by_file.clear();
        for running in std::mem::take(&mut own.running).into_values() {
            all.end(&running.transfer, End::Left);
        }
        self.any.store(false, Ordering::Relaxed);
    }

    /// An open file was released. The transfer that ended with it.
    pub(crate) fn released(&self, all: &Transfers, fh: Fh) -> Option<Arc<Transfer>> {
        if !self.is_any() {
            return None;
        }
        let id = {
            let mut own = self.own.lock();
            let id = own.by_file.remove(&fh)?;
            let files = own.running.get_mut(&id)?.files.as_mut()?;
            *files -= 1;
            if *files > 0 {
                return None;
            }
            id
        };
        self.end(all, id, End::Released).ok()
    }

    /// Counts what an operation moved.
    pub(crate) fn passed(&self, passed: Passed<'_>) {
        let own = self.own.lock();
        let by_file = passed.fh.and_then(|fh| own.by_file.get(&fh));
        let running = match by_file {
            Some(id) => own.running.get(id),
            None => own.running_without_files(&passed),
        };
        if let Some(running) = running {
            running.transfer.count(passed.bytes, passed.files);
        }
    }

    /// How many run, and the oldest of them.
    pub(crate) fn reports(&self) -> (u64, Vec<TransferReport>) {
        let own = self.own.lock();
        let shown = own.running.values().take(TRANSFERS_SHOWN_MAX);
        (own.running.len() as u64, shown.map(|running| running.transfer.report()).collect())
    }
}

impl Own {
    /// The transfer without open files for which something counts: of several the one at the name itself.
    fn running_without_files(&self, passed: &Passed<'_>) -> Option<&Running> {
        let is_meant = |running: &&Running| running.files.is_none() && running.transfer.kind == passed.kind;
        let is_at = |(node, name): (Node, &Name)| {
            let mut meant = self.running.values().filter(is_meant);
            meant.find(|running| running.transfer.target.0 == node && running.transfer.target.1 == *name)
        };
        passed.removed.and_then(is_at).or_else(|| self.running.values().find(is_meant))
    }

    fn count_file(&mut self, id: TransferId, fh: Fh) -> Result<(), Errno> {
        let running = self.running.get_mut(&id).ok_or(Errno::ENOENT)?;
        if running.files.is_some_and(|files| files >= TRANSFER_FILES_MAX) {
            return Err(Errno::EMFILE);
        }
        if self.by_file.get(&fh) == Some(&id) {
            return Ok(());
        }
        running.files = Some(running.files.unwrap_or(0) + 1);
        running.transfer.count(0, 1);
        let before = self.by_file.insert(fh, id);
        if let Some(other) = before.and_then(|before| self.running.get_mut(&before)) {
            other.files = other.files.map(|files| files.saturating_sub(1));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(session: u64, number: u64) -> Announcement {
        Announcement {
            session: SessionId(session),
            by: "somebody".into(),
            kind: TransferKind::Upload,
            target: (Node::default(), Name::new(number.to_string().as_bytes()).unwrap()),
            above: vec![],
            path: Box::default(),
            total_bytes: 0,
        }
    }

    #[test]
    fn files_of_a_transfer_are_bounded_and_count_for_one() {
        let (all, own) = (Transfers::default(), OwnTransfers::default());
        let begin = |number| own.begin(&all, announcement(1, number), None).unwrap().unwrap();
        let (one, other) = (begin(1), begin(2));
        for fh in 0..TRANSFER_FILES_MAX as u64 {
            assert_eq!(own.count_file(one.id, Fh(fh)), Ok(()));
        }
        assert_eq!(own.count_file(one.id, Fh(u64::MAX)), Err(Errno::EMFILE));
        assert_eq!(own.count_file(other.id, Fh(0)), Ok(()));
        assert_eq!(own.count_file(one.id, Fh(u64::MAX)), Ok(()), "one has gone over");
        let kind = TransferKind::Upload;
        own.passed(Passed { kind, removed: None, fh: Some(Fh(0)), bytes: 7, files: 0 });
        assert_eq!((one.tally().bytes, other.tally().bytes), (0, 7));
        assert!(own.released(&all, Fh(0)).is_some_and(|ended| ended.id == other.id));
        assert!((1..TRANSFER_FILES_MAX as u64).all(|fh| own.released(&all, Fh(fh)).is_none()));
        assert!(own.released(&all, Fh(u64::MAX)).is_some());
        assert!(!own.is_any() && own.own.lock().by_file.is_empty());
    }

    #[test]
    fn what_is_removed_counts_for_whoever_announced_that_name() {
        let (all, own) = (Transfers::default(), OwnTransfers::default());
        let kind = TransferKind::Delete;
        let begin = |number| {
            let announcement = Announcement { kind, ..announcement(1, number) };
            own.begin(&all, announcement, None).unwrap().unwrap()
        };
        let (one, other) = (begin(1), begin(2));
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        for text in ["2", "below one of them"] {
            let removed = name(text);
            let removed = Some((Node::default(), &removed));
            own.passed(Passed { kind, removed, fh: None, bytes: 0, files: 1 });
        }
        assert_eq!((one.tally().files, other.tally().files), (1, 1));
    }

    #[test]
    fn all_sessions_together_have_a_bound_and_leave_nothing_behind() {
        let all = Transfers::default();
        let sessions: Vec<_> =
            (0..TRANSFERS_ALL_MAX / TRANSFERS_MAX).map(|_| OwnTransfers::default()).collect();
        for (session, own) in sessions.iter().enumerate() {
            for number in 0..TRANSFERS_MAX as u64 {
                let number = number + (session * TRANSFERS_MAX) as u64;
                assert!(own.begin(&all, announcement(session as u64, number), None).unwrap().is_ok());
            }
        }
        let late = OwnTransfers::default();
        assert_eq!(late.begin(&all, announcement(9999, u64::MAX), None).err(), Some(Errno::ENFILE));
        sessions.iter().for_each(|own| own.end_all(&all, true));
        let table = all.table.lock();
        assert_eq!((table.running, table.exclusive.len()), (0, 0));
        drop(table);
        assert_eq!(sessions[0].begin(&all, announcement(0, 1), None).err(), Some(Errno::ECANCELED));
    }
}
