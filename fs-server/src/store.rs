//! What a server keeps on disk so that its next life goes on as if nothing had happened.
//!
//! A state directory belongs to one server at a time. It has, for each session, a *log* of what it knows, has open and
//! holds locked ([`record`]), and a table of its *slots* with the answers of mutations, or what it takes to see whether
//! one was carried out ([`slot`], [`intent`]). Both are memory of the kernel's that is written without system calls
//! and outlives the process, however that ends. Nothing is synced: the loss of the machine's power loses it.
//!
//! What is on disk is believed no more than a peer: each part has a checksum, and a session with a damaged part is not
//! restored.

mod directory;
mod frame;
mod intent;
mod log;
mod mapping;
mod record;
mod session;
mod slot;
mod table;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nearfs_protocol::attr::Lock;
use nearfs_protocol::id::{BootId, NodeId, SessionId};
use parking_lot::Mutex;

use crate::lock::Journal;
use directory::Directory;

pub use directory::{StateError, default_directories};
pub(crate) use intent::{AfterTruncation, Intent, Publishing};
pub(crate) use record::{Begun, Found, Image, Opened};
pub(crate) use session::{Restored, SessionRecord};
pub(crate) use slot::{Kept, Outcome};

/// The state directory of a server.
pub struct Store {
    directory: Directory,
    boot: BootId,
    order: Arc<AtomicU64>,
    sessions: Mutex<HashMap<SessionId, Arc<SessionRecord>>>,
}

impl Store {
    /// Takes a state directory, which is made if it does not exist, for a server of `served`. `boot`: this start of the
    /// operating system, without which what was not synced may be gone.
    pub fn open(directory: &Path, served: &Path, boot: BootId) -> Result<Store, StateError> {
        let directory = Directory::open(directory, served)?;
        Ok(Store { directory, boot, order: Arc::default(), sessions: Mutex::default() })
    }

    /// Reads all sessions of before. Those that cannot be restored are said so and removed.
    pub(crate) fn restore(&self) -> Vec<Restored> {
        let mut all = Vec::new();
        for (session, path) in self.directory.sessions() {
            match SessionRecord::open(session, path.clone(), self.boot, &self.order) {
                Ok(restored) => {
                    let newest = restored.image.nodes.values().map(|(found, _)| found.order).max();
                    self.order.fetch_max(newest.unwrap_or(0), Ordering::Relaxed);
                    self.sessions.lock().insert(session, restored.record.clone());
                    all.push(restored);
                }
                Err(error) => {
                    ::log::warn!("session {} is not restored: {error} ({})", session.0, path.display());
                    self.directory.remove(&path);
                }
            }
        }
        all
    }

    /// An id that no session of this directory has had.
    pub(crate) fn next_session(&self) -> SessionId {
        self.directory.next_session()
    }

    /// Begins to keep a session. `None`, and a line in the log, if that is not possible.
    pub(crate) fn begin(&self, begun: Begun) -> Option<Arc<SessionRecord>> {
        let session = begun.session;
        let path = self.directory.session(session);
        match SessionRecord::create(path, begun, self.boot, &self.order) {
            Ok(record) => {
                let record = Arc::new(record);
                self.sessions.lock().insert(session, record.clone());
                Some(record)
            }
            Err(error) => {
                ::log::warn!(
                    "session {} will not survive a restart of the server: cannot write to {}: {error}",
                    session.0,
                    self.directory.path().display()
                );
                None
            }
        }
    }

    /// A session is over.
    pub(crate) fn end(&self, session: SessionId) {
        let record = self.sessions.lock().remove(&session);
        if let Some(record) = record {
            record.end();
        }
    }

    /// A log that should be written anew, which takes a while.
    pub(crate) fn compactable(&self) -> Option<Arc<SessionRecord>> {
        self.sessions.lock().values().find(|record| record.wants_compaction()).cloned()
    }

    /// Where open files that have lost their names are kept.
    pub(crate) fn open_files(&self) -> PathBuf {
        self.directory.open_files()
    }
}

impl Journal for Store {
    fn locked(&self, session: SessionId, node: NodeId, lock: &Lock) {
        let record = self.sessions.lock().get(&session).cloned();
        if let Some(record) = record {
            record.locked(node, lock);
        }
    }

    fn fenced(&self, session: SessionId, node: NodeId) {
        let record = self.sessions.lock().get(&session).cloned();
        if let Some(record) = record {
            record.fenced(node);
        }
    }
}
