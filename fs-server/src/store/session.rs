//! What is kept of one session, so that the next life of the server can go on with it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nearfs_protocol::attr::{FileKind, Lock};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{BootId, Fh, Node, NodeId, RequestId, SessionId};
use nearfs_protocol::message::Answer;
use nearfs_protocol::name::Name;
use parking_lot::{Mutex, RwLock};

use super::intent::Intent;
use super::log::{Log, LogError};
use super::record::{Begun, Found, Image, Opened, Record};
use super::slot::{Kept, Outcome};
use super::table::{Noted, Table, TableError};
use crate::export::StoredHandle;

/// Its log, in its directory.
const LOG: &str = "log";
/// Its slots.
const SLOTS: &str = "slots";

/// What one session leaves behind on disk. When its disk is full the session goes on without, and will not survive.
pub(crate) struct SessionRecord {
    session: SessionId,
    directory: PathBuf,
    /// Numbers the places that nodes of all sessions are found at.
    order: Arc<AtomicU64>,
    log: Mutex<Log>,
    table: Mutex<Table>,
    /// Whether nothing is noted any more.
    is_over: AtomicBool,
    /// Whether it stays when the session ends with the process.
    is_left: AtomicBool,
    /// Held for writing when that begins, so that no intent is half noted.
    leaving: RwLock<()>,
    is_compacting: AtomicBool,
}

/// Why a session cannot be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("its log: {0}")]
    Log(#[from] LogError),
    #[error("its slots: {0}")]
    Table(#[from] TableError),
    #[error("it is another one")]
    Other,
}

/// A session of before.
pub(crate) struct Restored {
    pub(crate) record: Arc<SessionRecord>,
    pub(crate) begun: Begun,
    pub(crate) image: Image,
    /// `None` if the operating system was started again meanwhile: then nobody knows what it lost.
    pub(crate) kept: Option<Vec<Kept>>,
}

impl SessionRecord {
    /// Begins to keep a session in a directory of its own.
    pub(super) fn create(
        directory: PathBuf,
        begun: Begun,
        boot: BootId,
        order: &Arc<AtomicU64>,
    ) -> io::Result<SessionRecord> {
        let session = begun.session;
        let created = (|| -> io::Result<_> {
            DirBuilder::new().mode(0o700).create(&directory)?;
            let mut log = Log::create(&directory.join(LOG))?;
            log.append(&Record::Begun(begun))?;
            let table = Table::create(&directory.join(SLOTS), boot)?;
            Ok((log, table))
        })();
        match created {
            Ok((log, table)) => Ok(SessionRecord::over(session, directory, order, log, table)),
            Err(error) => {
                let _ = fs::remove_dir_all(&directory);
                Err(error)
            }
        }
    }

    /// Opens what was kept of a session.
    pub(super) fn open(
        session: SessionId,
        directory: PathBuf,
        boot: BootId,
        order: &Arc<AtomicU64>,
    ) -> Result<Restored, RestoreError> {
        let (log, mut image) = Log::open(&directory.join(LOG))?;
        let begun = image.begun.take().filter(|begun| begun.session == session).ok_or(RestoreError::Other)?;
        image.begun = Some(begun.clone());
        let (mut table, mut kept) = Table::open(&directory.join(SLOTS), boot)?;
        for Kept { id, outcome, .. } in kept.iter_mut().flatten() {
            *outcome = image.outcome_of(*id, std::mem::replace(outcome, Outcome::Begun));
        }
        table.set_aside(image.aside_slots());
        let record = Arc::new(SessionRecord::over(session, directory, order, log, table));
        Ok(Restored { record, begun, image, kept })
    }

    fn over(
        session: SessionId,
        directory: PathBuf,
        order: &Arc<AtomicU64>,
        log: Log,
        table: Table,
    ) -> SessionRecord {
        SessionRecord {
            session,
            directory,
            order: order.clone(),
            log: Mutex::new(log),
            table: Mutex::new(table),
            is_over: AtomicBool::new(false),
            is_left: AtomicBool::new(false),
            leaving: RwLock::default(),
            is_compacting: AtomicBool::new(false),
        }
    }

    /// A mutation is going to be carried out.
    pub(crate) fn begin(&self, id: RequestId, fingerprint: u64) {
        if self.is_over() {
            return;
        }
        self.take_back(id);
        let begun = self.table.lock().begin(id, fingerprint);
        if let Err(error) = begun {
            self.give_up(&error);
        }
    }

    /// What tells later whether a mutation was carried out.
    ///
    /// Errors: `ECANCELED` if the session was left: nothing that is not noted may have an effect.
    pub(crate) fn intend(&self, id: RequestId, intent: &Intent) -> Result<(), Errno> {
        let _noting = self.leaving.read();
        if self.is_left.load(Ordering::Acquire) {
            return Err(Errno::ECANCELED);
        }
        if self.is_over() {
            return Ok(());
        }
        let noted = self.table.lock().intend(id, intent);
        match noted {
            Noted::Here | Noted::Nowhere => {}
            Noted::Aside => self.set_aside(id, Outcome::Intended(intent.clone())),
        }
        Ok(())
    }

    /// Whether a mutation has begun and is not done, so that its answer is worth keeping.
    pub(crate) fn is_underway(&self, id: RequestId) -> bool {
        !self.is_over() && self.table.lock().is_underway(id)
    }

    /// A mutation was carried out and is about to be answered.
    pub(crate) fn finish(&self, id: RequestId, answer: &Answer) {
        if self.is_over() {
            return;
        }
        let noted = self.table.lock().finish(id, answer);
        match noted {
            Noted::Here => self.take_back(id),
            Noted::Aside => self.set_aside(id, Outcome::Done(answer.clone())),
            Noted::Nowhere => {}
        }
    }

    /// What has no room in a slot goes to the log ...
    fn set_aside(&self, request: RequestId, outcome: Outcome) {
        self.table.lock().set_aside([request.slot()]);
        self.append(&Record::Aside { request, outcome });
    }

    /// ... and does not count any more.
    fn take_back(&self, request: RequestId) {
        let was_aside = self.table.lock().take_back(request);
        if was_aside {
            self.append(&Record::Aside { request, outcome: Outcome::Begun });
        }
    }

    /// A node was looked up, or is somewhere else.
    pub(crate) fn known(
        &self,
        node: Node,
        kind: FileKind,
        place: Option<(Node, Name)>,
        handle: Option<StoredHandle>,
    ) {
        let order = self.order.fetch_add(1, Ordering::Relaxed) + 1;
        self.append(&Record::Known { node, found: Found { kind, place, order, handle } });
    }

    /// A node that perhaps only others know has been moved.
    pub(crate) fn moved(&self, node: Node, kind: FileKind, place: (Node, Name)) {
        let order = self.order.fetch_add(1, Ordering::Relaxed) + 1;
        self.append(&Record::Moved { node, found: Found { kind, place: Some(place), order, handle: None } });
    }

    /// A known node was looked up again.
    pub(crate) fn counted(&self, node: Node) {
        self.append(&Record::Counted { node, lookups: 1 });
    }

    /// Some of a node's lookups were given back.
    pub(crate) fn given_back(&self, node: Node, lookups: u64) {
        self.append(&Record::GivenBack { node, lookups });
    }

    /// All lookups of a node were given back.
    pub(crate) fn forgotten(&self, node: Node) {
        self.append(&Record::Forgotten(node));
    }

    /// A file was opened.
    pub(crate) fn opened(&self, fh: Fh, file: Opened) {
        self.append(&Record::Opened { fh, file });
    }

    /// Something that was written through it may never reach the disk.
    pub(crate) fn failed(&self, fh: Fh, errno: Errno) {
        self.append(&Record::Failed { fh, errno });
    }

    /// It was closed.
    pub(crate) fn closed(&self, fh: Fh) {
        self.append(&Record::Closed(fh));
    }

    /// A lock was set or given back.
    pub(crate) fn locked(&self, node: NodeId, lock: &Lock) {
        self.append(&Record::Locked(node, *lock));
    }

    /// What is kept stays as it is when the session ends with the process.
    pub(crate) fn leave(&self) {
        let _leaving = self.leaving.write();
        self.is_left.store(true, Ordering::Release);
        self.is_over.store(true, Ordering::Release);
    }

    /// Others have got the locks that it held of a node.
    pub(crate) fn fenced(&self, node: NodeId) {
        self.append(&Record::Fenced(node));
    }

    /// The session is over: nothing of it is kept.
    pub(crate) fn end(&self) {
        if self.is_left.load(Ordering::Acquire) {
            return;
        }
        if !self.is_over.swap(true, Ordering::AcqRel)
            && let Err(error) = fs::remove_dir_all(&self.directory)
        {
            log::warn!("cannot remove {}: {error}", self.directory.display());
        }
    }

    /// Whether its log should be written anew; at most one caller is told so. [`Self::compact`] does it.
    pub(crate) fn wants_compaction(&self) -> bool {
        !self.is_over()
            && self.log.lock().wants_compaction()
            && !self.is_compacting.swap(true, Ordering::AcqRel)
    }

    /// Writes the log anew. Takes as long as reading and writing it; others go on meanwhile.
    pub(crate) fn compact(&self) {
        let outcome = (|| -> Result<(), LogError> {
            let part = self.log.lock().compaction_begins()?;
            let compaction = Log::compact(part)?;
            let mut log = self.log.lock();
            if self.is_over() { Ok(()) } else { log.replace(compaction) }
        })();
        if let Err(error) = outcome {
            log::warn!("session {}: its log stays as long as it is: {error}", self.session.0);
        }
        self.is_compacting.store(false, Ordering::Release);
    }

    fn append(&self, record: &Record) {
        if !self.is_over() {
            let outcome = self.log.lock().append(record);
            if let Err(error) = outcome {
                self.give_up(&error);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// What is not kept whole must not be believed later.
    fn give_up(&self, error: &io::Error) {
        if !self.is_over() {
            log::warn!(
                "session {} will not survive a restart of the server: cannot write to {}: {error}",
                self.session.0,
                self.directory.display()
            );
            self.end();
        }
    }
}
