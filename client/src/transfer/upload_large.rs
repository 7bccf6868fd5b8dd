//! Bringing a large file to the server: pieces of it under way at once, and a journal beside it.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use nearfs_protocol::attr::{Attr, FileKind, Lock, LockKind, LockStyle, SetAttr};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::{CHUNK_BYTES, hash};
use nearfs_protocol::id::{ContentHash, Fh, Node};
use nearfs_protocol::limits::{HASH_BYTES, PAYLOAD_BYTES_MAX};
use nearfs_protocol::message::{Publication, Reply, Request, WriteAt, WriteSync};
use nearfs_protocol::name::Name;
use rustix::fs::OFlags;

use crate::remote::{Held, Outcome, Patience, Session};
use crate::transfer::asking::{answer, ask_for, begin};
use crate::transfer::failure::Cause;
use crate::transfer::journal::{Journal, SourceStamp, StagedNames, record};
use crate::transfer::local::{next_content, stamp_of};
use crate::transfer::meter::Running;
use crate::transfer::opened::Opened;
use crate::transfer::remote_dir::{RemoteDir, unexpected};
use crate::transfer::upload::UploadTask;
use crate::transfer::{HASHED_CHUNKS, TRIES, Transfer};

/// Bytes that are sent at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// How soon it is looked for room again that other files have.
pub(super) const NO_ROOM_PAUSE: Duration = Duration::from_millis(2);
/// After so many bytes the server begins to bring them to its disk, so that little is left to wait for at the end.
const FLUSH_BYTES: u64 = 64 * 1024 * 1024;
/// Chunks that are written down together.
const RECORDS_AT_ONCE: usize = 4;

/// An incomplete file at the server, open for us alone.
pub(super) struct Staged {
    pub(super) session: Session,
    fh: Fh,
    node: Arc<Held>,
    names: StagedNames,
    /// Whether there was nothing in it when it was locked.
    was_empty: bool,
    /// The journal, open for appending.
    journal: Option<Fh>,
}

/// What is sent, and what of it has arrived.
struct Sending<'task> {
    task: &'task UploadTask,
    source: File,
    stamp: SourceStamp,
    staged: Staged,
    running: Arc<Running>,
    hashes: HashMap<u64, ContentHash>,
    /// Pieces of each chunk that have not arrived.
    unsettled: HashMap<u64, u64>,
    records: Vec<u8>,
    tell: Sender<(u64, u64, Outcome)>,
    told: Receiver<(u64, u64, Outcome)>,
    under_way: usize,
    /// Bytes that have arrived since the server was asked to bring them to its disk.
    unflushed: u64,
    /// What becomes of that. Who is told of an error there is the only one who ever is.
    flushes: Vec<Receiver<Outcome>>,
    /// Chunks of each span of [`HASHED_CHUNKS`] that the server does not have yet.
    missing: HashMap<u64, u64>,
    /// Hashes of the spans that it has, as it computes them of its own file, by their first chunks.
    arrived: Vec<(u64, Receiver<Outcome>)>,
}

impl Transfer {
    /// Brings a large file.
    pub(super) fn upload_large(&self, task: &UploadTask) {
        let running = self.meter.begin(task.name(), task.stat.st_size.cast_unsigned());
        let mut outcome = Err(Cause::Changed);
        for _ in 0..TRIES {
            outcome = self.try_upload_large(task, &running);
            if !matches!(outcome, Err(Cause::Changed)) {
                break;
            }
            self.meter.begun_anew(&running);
        }
        self.meter.end(&running);
        self.window.give_file();
        match outcome {
            Ok(bytes) => self.finished(&task.name(), &task.target(), bytes),
            Err(cause) => self.fail(&task.failed(cause)),
        }
    }

    fn try_upload_large(&self, task: &UploadTask, running: &Arc<Running>) -> Result<u64, Cause> {
        if self.is_stopped() {
            return Err(Errno::EINTR.into());
        }
        let source = task.from.open_file(&task.from_name, OFlags::RDONLY)?;
        let stat = rustix::fs::fstat(&source).map_err(std::io::Error::from)?;
        self.check_target(task, &stat)?;
        let stamp = stamp_of(&stat);
        let key = [&machine()[..], task.from.path_of(&task.from_name).as_os_str().as_bytes(), b"\0"].concat();
        let key = [&key[..], &task.to.path.child(task.to_name.clone()).to_bytes()].concat();
        let mode = (stat.st_mode & 0o777) | 0o600;
        let (staged, journal) = self.claim_remote(&task.to, &key, mode)?;
        let earlier = match journal {
            Some(journal) if journal.source == stamp => journal.chunks,
            Some(_) => {
                let name = task.name();
                self.observer
                    .note(&format!("{name} has changed since the transfer was interrupted: starting over"));
                HashMap::new()
            }
            None => HashMap::new(),
        };
        let (tell, told) = mpsc::channel();
        let mut sending = Sending {
            task,
            source,
            stamp,
            staged,
            running: Arc::clone(running),
            hashes: HashMap::new(),
            unsettled: HashMap::new(),
            records: Vec::new(),
            tell,
            told,
            under_way: 0,
            unflushed: 0,
            flushes: Vec::new(),
            missing: HashMap::new(),
            arrived: Vec::new(),
        };
        let sent = self.begin_staged(&mut sending, &earlier).and_then(|()| self.send_all(&mut sending));
        // What is still under way has to be waited for, whatever comes of it: its bytes are counted.
        while sending.under_way > 0
            && let Ok(answer) = sending.told.recv()
        {
            let _ = self.settle(&mut sending, answer);
        }
        self.write_records(&mut sending);
        let complete = sent.and_then(|()| self.complete_staged(&mut sending, &stat));
        match complete {
            Ok(()) => Ok(stamp.size),
            Err(cause) => {
                if !is_worth_keeping(&cause) {
                    self.discard(&task.to, &sending.staged.names.part);
                    self.discard(&task.to, &sending.staged.names.journal);
                }
                Err(cause)
            }
        }
    }

    /// Refuses what would be refused in the end anyway, and a file that is the target itself.
    fn check_target(&self, task: &UploadTask, stat: &rustix::fs::Stat) -> Result<(), Cause> {
        let found = task.to.look_up(&task.to_name).map_err(|failure| failure.cause)?;
        let Some((attr, _)) = found else { return Ok(()) };
        if is_same_file(&attr, stat) {
            return Err(Cause::Itself);
        }
        match attr.kind {
            FileKind::Directory => Err(Errno::EISDIR.into()),
            _ if self.options.overwrite => Ok(()),
            _ => Err(Cause::Exists),
        }
    }

    /// Opens the incomplete file of this name for us alone, and reads its journal if it is to be gone on with; if somebody
    /// else is at it, one of another name.
    fn claim_remote(
        &self,
        directory: &RemoteDir,
        key: &[u8],
        mode: u32,
    ) -> Result<(Staged, Option<Journal>), Cause> {
        let names = StagedNames::of(key)?;
        if let Some(staged) = claim(directory, names, mode)? {
            let journal = self.options.resume.then(|| read_journal(directory, &staged.names.journal));
            return Ok((staged, journal.flatten()));
        }
        let staged = claim(directory, StagedNames::fresh()?, mode)?;
        Ok((staged.ok_or(Errno::EBUSY)?, None))
    }

    /// Prepares the incomplete file, and finds which chunks it has already.
    fn begin_staged(
        &self,
        sending: &mut Sending<'_>,
        earlier: &HashMap<u64, ContentHash>,
    ) -> Result<(), Cause> {
        let staged = &sending.staged;
        if earlier.is_empty() && !staged.was_empty {
            // Nothing that was in it may shine through its holes.
            ask_for(&staged.session, staged.size_request(0))?;
        }
        let mut sized = Some(begin(&staged.session, staged.size_request(sending.stamp.size)));
        for (chunk, hash) in earlier {
            sized.take().map_or(Ok(()), |sized| answer(&sized).map(drop))?;
            let arrived = remote_hashes(&sending.staged, chunk * CHUNK_BYTES, CHUNK_BYTES)?;
            if arrived.first() != Some(hash) || self.hash_source(sending, *chunk)? != *hash {
                continue;
            }
            sending.hashes.insert(*chunk, *hash);
            let bytes = sending.chunk_bytes(*chunk);
            self.meter.resumed(&sending.running, bytes);
            self.moved(sending, bytes);
        }
        let mut records = sending.stamp.header();
        sending.hashes.iter().for_each(|(chunk, hash)| records.extend(record(*chunk, *hash)));
        sending.staged.journal = begin_journal(&sending.task.to, &sending.staged.names.journal, &records);
        Ok(sized.map_or(Ok(()), |sized| answer(&sized).map(drop))?)
    }

    fn send_all(&self, sending: &mut Sending<'_>) -> Result<(), Cause> {
        let mut content_part = next_content(&sending.source, 0)?;
        let mut room = vec![0; CHUNK_BYTES as usize];
        for chunk in 0..sending.stamp.chunks() {
            if sending.hashes.contains_key(&chunk) {
                sending.has_arrived(chunk);
                continue;
            }
            let (begin, bytes) = (chunk * CHUNK_BYTES, sending.chunk_bytes(chunk));
            while content_part.is_some_and(|(_, end)| end <= begin) {
                content_part = next_content(&sending.source, begin)?;
            }
            let is_hole = content_part.is_none_or(|(content_begin, _)| content_begin >= begin + bytes);
            let content = &mut room[..bytes as usize];
            if is_hole {
                // Nothing is sent here that would end with the transfer.
                if self.is_stopped() {
                    return Err(Errno::EINTR.into());
                }
                content.fill(0);
            } else {
                read_exactly(&sending.source, content, begin)?;
            }
            sending.hashes.insert(chunk, hash(content));
            if is_hole {
                self.moved(sending, bytes);
                sending.has_arrived(chunk);
                continue;
            }
            sending.unsettled.insert(chunk, content.len().div_ceil(PIECE_BYTES) as u64);
            for (number, piece) in content.chunks(PIECE_BYTES).enumerate() {
                self.send_piece(sending, chunk, begin + (number * PIECE_BYTES) as u64, piece)?;
            }
        }
        while sending.under_way > 0 {
            self.settle_one(sending)?;
        }
        Ok(())
    }

    fn send_piece(
        &self,
        sending: &mut Sending<'_>,
        chunk: u64,
        offset: u64,
        piece: &[u8],
    ) -> Result<(), Cause> {
        while let Ok(answer) = sending.told.try_recv() {
            self.settle(sending, answer)?;
        }
        let bytes = piece.len() as u64;
        while !self.window.take_free_bytes(bytes) {
            match sending.under_way {
                0 => std::thread::sleep(NO_ROOM_PAUSE),
                _ => self.settle_one(sending)?,
            }
        }
        self.window.await_turn(bytes)?;
        let (tell, session) = (sending.tell.clone(), &sending.staged.session);
        let request =
            Request::Write { fh: sending.staged.fh, at: WriteAt::Offset(offset), sync: WriteSync::None };
        sending.under_way += 1;
        session.start(request, Some(session.keep(piece)), Patience::Endless, move |outcome| {
            let _ = tell.send((chunk, bytes, outcome));
        });
        Ok(())
    }

    fn settle_one(&self, sending: &mut Sending<'_>) -> Result<(), Cause> {
        let answer = sending.told.recv().map_err(|_| Errno::EIO)?;
        self.settle(sending, answer)
    }

    /// A piece has arrived, or not.
    fn settle(
        &self,
        sending: &mut Sending<'_>,
        (chunk, bytes, outcome): (u64, u64, Outcome),
    ) -> Result<(), Cause> {
        sending.under_way -= 1;
        self.window.give_bytes(bytes);
        match outcome? {
            (Reply::Written(written), _) if written.size == bytes => {}
            (Reply::Written(_), _) => return Err(Errno::ENOSPC.into()),
            (other, _) => return Err(unexpected(&other).into()),
        }
        self.meter.far(bytes);
        self.moved(sending, bytes);
        sending.unflushed += bytes;
        if sending.unflushed >= FLUSH_BYTES {
            sending.unflushed = 0;
            let request = Request::Fsync { fh: sending.staged.fh, data_only: true };
            sending.flushes.push(begin(&sending.staged.session, request));
        }
        let Some(left) = sending.unsettled.get_mut(&chunk) else { return Ok(()) };
        *left -= 1;
        if *left == 0 {
            sending.unsettled.remove(&chunk);
            sending.has_arrived(chunk);
            if let Some(hash) = sending.hashes.get(&chunk) {
                sending.records.extend(record(chunk, *hash));
            }
            if sending.records.len() >= RECORDS_AT_ONCE * record(0, ContentHash::default()).len() {
                self.write_records(sending);
            }
        }
        Ok(())
    }

    fn moved(&self, sending: &Sending<'_>, bytes: u64) {
        self.meter.moved(bytes);
        sending.running.moved(bytes);
    }

    /// Writes down which chunks have arrived. A journal with gaps costs sending them again, nothing else.
    fn write_records(&self, sending: &mut Sending<'_>) {
        let records = std::mem::take(&mut sending.records);
        let (Some(fh), false) = (sending.staged.journal, records.is_empty()) else { return };
        let session = sending.staged.session.with_cancel(&crate::cancel::Cancel::new());
        let request = Request::Write { fh, at: WriteAt::End, sync: WriteSync::None };
        session.start(request, Some(session.keep(&records)), Patience::Bounded, |_| {});
    }

    /// Compares what arrived with what was sent, and gives it its name.
    fn complete_staged(&self, sending: &mut Sending<'_>, before: &rustix::fs::Stat) -> Result<(), Cause> {
        let after = rustix::fs::fstat(&sending.source).map_err(std::io::Error::from)?;
        if stamp_of(&after) != sending.stamp {
            return Err(Cause::Changed);
        }
        let (staged, task) = (&sending.staged, sending.task);
        let mode = if self.options.archive {
            before.st_mode & 0o7777
        } else {
            before.st_mode & 0o777 & !staged.session.umask()
        };
        let set = SetAttr { mode: Some(mode), ..self.kept_attr(before) };
        let request = Request::SetAttr { node: staged.node.node(), fh: Some(staged.fh), set };
        // Everything is written: this is on its way while the server is still at hashes.
        let set = begin(&staged.session, request);
        for flush in sending.flushes.drain(..) {
            answer(&flush)?;
        }
        let mut arrived = HashMap::new();
        for (first, hashes) in sending.arrived.drain(..) {
            arrived.extend((first..).zip(hashes_of(answer(&hashes)?)?));
        }
        let is_equal = (0..sending.stamp.chunks()).all(|chunk| {
            let sent = sending.hashes.get(&chunk);
            sent.is_some() && sent == arrived.get(&chunk)
        });
        if !is_equal {
            return Err(Cause::Differs);
        }
        answer(&set)?;
        let item = Publication {
            parent: task.to.node(),
            staged: staged.names.part.clone(),
            name: task.to_name.clone(),
            mode: self.rename_mode(),
        };
        match ask_endless(&staged.session, Request::Publish { items: vec![item] })? {
            Reply::Published { refusals } => match refusals.first() {
                Some(None) => {}
                Some(Some(Errno::EEXIST)) => return Err(Cause::Exists),
                Some(Some(errno)) => return Err((*errno).into()),
                None => return Err(Errno::EPROTO.into()),
            },
            other => return Err(unexpected(&other).into()),
        }
        self.discard(&task.to, &staged.names.journal);
        Ok(())
    }

    fn hash_source(&self, sending: &Sending<'_>, chunk: u64) -> Result<ContentHash, Cause> {
        let mut content = vec![0; sending.chunk_bytes(chunk) as usize];
        read_exactly(&sending.source, &mut content, chunk * CHUNK_BYTES)?;
        Ok(hash(&content))
    }
}

impl Sending<'_> {
    fn chunk_bytes(&self, chunk: u64) -> u64 {
        CHUNK_BYTES.min(self.stamp.size.saturating_sub(chunk * CHUNK_BYTES))
    }

    /// The server has all of a chunk. Once it has all of a span it hashes what it has, while the rest is under way.
    fn has_arrived(&mut self, chunk: u64) {
        let (span, first) = (chunk / HASHED_CHUNKS, chunk - chunk % HASHED_CHUNKS);
        let chunks = HASHED_CHUNKS.min(self.stamp.chunks() - first);
        let missing = self.missing.entry(span).or_insert(chunks);
        *missing -= 1;
        if *missing > 0 {
            return;
        }
        self.missing.remove(&span);
        let request = hash_request(self.staged.fh, first * CHUNK_BYTES, HASHED_CHUNKS * CHUNK_BYTES);
        self.arrived.push((first, begin(&self.staged.session, request)));
    }
}

impl Staged {
    fn size_request(&self, size: u64) -> Request {
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        Request::SetAttr { node: self.node.node(), fh: Some(self.fh), set }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        self.session.release(self.fh);
        if let Some(journal) = self.journal {
            self.session.release(journal);
        }
    }
}

/// Opens or makes an incomplete file, and locks it. `None` if somebody else has it, or has just given it its name.
fn claim(directory: &RemoteDir, names: StagedNames, mode: u32) -> Result<Option<Staged>, Cause> {
    let session = directory.session.clone();
    let request = Request::Create {
        parent: directory.node(),
        name: names.part.clone(),
        mode,
        umask: 0,
        flags: libc::O_RDWR as u32,
    };
    let (fh, node) = match session.ask(request, None)?.0 {
        Reply::Created { fh, attr, .. } => (fh, Arc::new(session.hold(attr.node, &directory.held))),
        other => return Err(unexpected(&other).into()),
    };
    let mut staged = Staged { session, fh, node, names, was_empty: false, journal: None };
    let lock = Lock {
        start: 0,
        end: u64::MAX,
        kind: LockKind::Write,
        style: LockStyle::Flock,
        owner: fh.0,
        pid: std::process::id(),
    };
    match staged.session.ask(Request::SetLock { fh, lock, wait: false }, None) {
        Ok(_) => {}
        Err(Errno::EAGAIN) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    let named = directory.look_up(&staged.names.part).map_err(|failure| failure.cause)?;
    Ok(named.filter(|(attr, _)| attr.node == staged.node.node()).map(|(attr, _)| {
        staged.was_empty = attr.size == 0;
        staged
    }))
}

fn read_journal(directory: &RemoteDir, name: &Name) -> Option<Journal> {
    let (attr, held) = directory.look_up(name).ok().flatten()?;
    let session = &directory.session;
    let (file, _) = Opened::for_reading(session, held.node()).ok()?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < attr.size {
        let request =
            Request::Read { fh: file.fh, offset: bytes.len() as u64, size: PAYLOAD_BYTES_MAX as u32 };
        match session.ask(request, None) {
            Ok((_, piece)) if !piece.is_empty() => bytes.extend_from_slice(&piece),
            Ok(_) | Err(_) => break,
        }
        let bound = Journal::parse(&bytes).map_or(0, |journal| journal.source.journal_bytes_max());
        if bytes.len() as u64 > bound {
            break;
        }
    }
    Journal::parse(&bytes)
}

/// A journal that says this so far; none if it cannot be made, which costs only that the transfer cannot be gone on
/// with.
fn begin_journal(directory: &RemoteDir, name: &Name, records: &[u8]) -> Option<Fh> {
    let session = &directory.session;
    let flags = (libc::O_WRONLY | libc::O_TRUNC) as u32;
    let request =
        Request::Create { parent: directory.node(), name: name.clone(), mode: 0o600, umask: 0, flags };
    let Ok((Reply::Created { fh, attr, .. }, _)) = session.ask(request, None) else { return None };
    drop(session.hold(attr.node, &directory.held));
    for piece in records.chunks(PAYLOAD_BYTES_MAX) {
        let request = Request::Write { fh, at: WriteAt::End, sync: WriteSync::None };
        if session.ask(request, Some(session.keep(piece))).is_err() {
            session.release(fh);
            return None;
        }
    }
    Some(fh)
}

fn remote_hashes(staged: &Staged, offset: u64, length: u64) -> Result<Vec<ContentHash>, Cause> {
    hashes_of(ask_for(&staged.session, hash_request(staged.fh, offset, length))?)
}

fn hash_request(fh: Fh, offset: u64, length: u64) -> Request {
    Request::HashRange { fh, offset, length, chunk_bytes: CHUNK_BYTES as u32 }
}

/// The hashes that an answer brought.
pub(super) fn hashes_of(
    (reply, payload): (Reply, nearfs_transport::pool::Payload),
) -> Result<Vec<ContentHash>, Cause> {
    match reply {
        Reply::Hashed { .. } => {
            Ok(payload.as_chunks::<HASH_BYTES>().0.iter().map(|hash| ContentHash(*hash)).collect())
        }
        other => Err(unexpected(&other).into()),
    }
}

fn ask_endless(session: &Session, request: Request) -> Result<Reply, Errno> {
    ask_for(session, request).map(|(reply, _)| reply)
}

/// A file that got shorter meanwhile has changed.
fn read_exactly(file: &File, content: &mut [u8], offset: u64) -> Result<(), Cause> {
    file.read_exact_at(content, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Cause::Changed,
        _ => error.into(),
    })
}

/// Whether a transfer that ended so can be gone on with.
pub(super) fn is_worth_keeping(cause: &Cause) -> bool {
    match cause {
        Cause::Remote(_) | Cause::Local(_) | Cause::Stalled(_) => true,
        Cause::Exists
        | Cause::Itself
        | Cause::Differs
        | Cause::Changed
        | Cause::Skipped(_)
        | Cause::Refused(_) => false,
    }
}

/// Whether a file of the server is a file of this machine, seen through a server on this machine.
pub(super) fn is_same_file(attr: &Attr, stat: &rustix::fs::Stat) -> bool {
    let changed = |secs: i64, nanos: u32| (stat.st_ctime, stat.st_ctime_nsec) == (secs, u64::from(nanos));
    let Node { id, .. } = attr.node;
    id.0 == stat.st_ino
        && attr.size == stat.st_size.cast_unsigned()
        && changed(attr.ctime.secs, attr.ctime.nanos)
}

/// What tells this machine from others, so that two do not take each other's incomplete files for their own.
fn machine() -> Vec<u8> {
    let id = std::fs::read("/etc/machine-id").unwrap_or_default();
    [id, rustix::system::uname().nodename().to_bytes().to_vec()].concat()
}
