//! The files that a session has open.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, Node, NodeId};
use nearfs_protocol::message::WriteSync;
use parking_lot::RwLock;

use crate::descriptor::Slot;
use crate::export::{Opening, Unnamed};
use crate::identity;
use crate::lock::Fence;
use crate::node::IdHash;

/// An open file. Has one descriptor from open to release, because an error of delayed writing is told only through
/// descriptors that were open when it happened (fsync(2)).
pub(crate) struct OpenFile {
    fd: OwnedFd,
    pub(crate) node: Node,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// What each write must bring to stable storage.
    pub(crate) sync: WriteSync,
    /// Whether its file system cannot tell what is in memory: then it is one that is always quick.
    pub(crate) always_cached: AtomicBool,
    /// Whether others have got a lock that was held through it: nothing is done through it any more.
    is_fenced: AtomicBool,
    /// Why something that was written through it may never reach the disk.
    unsafe_since: OnceLock<Errno>,
    unnamed: Arc<Unnamed>,
    _slot: Slot,
}

/// The open files of a session.
#[derive(Default)]
pub(crate) struct OpenFiles {
    last: AtomicU64,
    open: RwLock<Open>,
}

#[derive(Default)]
struct Open {
    files: HashMap<Fh, Arc<OpenFile>>,
    /// Some open file of each node, by which one without a name is still reached.
    of_node: HashMap<NodeId, Vec<Fh>, IdHash>,
    /// Files that were open before the server was started again and could not be opened anew.
    lost: HashSet<Fh>,
}

impl OpenFile {
    pub(crate) fn new(
        fd: OwnedFd,
        node: Node,
        opening: Opening,
        slot: Slot,
        unnamed: &Arc<Unnamed>,
    ) -> OpenFile {
        let Opening { readable, writable, sync, .. } = opening;
        unnamed.opened(node.id);
        OpenFile {
            fd,
            node,
            readable,
            writable,
            sync,
            always_cached: AtomicBool::new(false),
            is_fenced: AtomicBool::new(false),
            unsafe_since: OnceLock::new(),
            unnamed: unnamed.clone(),
            _slot: slot,
        }
    }

    /// Nothing is done through it any more.
    pub(crate) fn shut(&self) {
        self.is_fenced.store(true, Ordering::Relaxed);
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.unnamed.closed(self.node.id) {
            identity::as_server(|| self.unnamed.remove(self.node.id));
        }
    }
}

impl OpenFile {
    /// What `sync` came to, unless an earlier one failed: the kernel tells of each failure once and takes what it could
    /// not write for written, so that a later success says nothing of it. Until the file is closed it stays failed.
    pub(crate) fn synced<T>(&self, sync: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        match self.unsafe_since.get() {
            Some(errno) => Err(*errno),
            None => sync().inspect_err(|errno| self.distrust(*errno)),
        }
    }

    /// Why something that was written through it may never reach the disk.
    pub(crate) fn unsafe_since(&self) -> Option<Errno> {
        self.unsafe_since.get().copied()
    }

    /// Something that was written through it may never reach the disk.
    pub(crate) fn distrust(&self, errno: Errno) {
        // The first reason stays.
        _ = self.unsafe_since.set(errno);
    }

    /// What a write came to. One that was to be on the disk when it is done may have been taken before that failed; of
    /// one that failed for want of room nothing was taken.
    pub(crate) fn written<T>(&self, sync: WriteSync, outcome: Result<T, Errno>) -> Result<T, Errno> {
        outcome.inspect_err(|errno| {
            if sync != WriteSync::None && *errno == Errno::EIO {
                self.distrust(*errno);
            }
        })
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Not of the session as a whole: its last reference must not go while the table of locks is locked, as its end gives
/// locks back.
impl Fence for Arc<OpenFiles> {
    fn shut(&self, node: NodeId) -> bool {
        // Nobody gets at a file meanwhile.
        let open = self.open.write();
        let of_node = || open.of_node.get(&node).into_iter().flatten().filter_map(|fh| open.files.get(fh));
        if of_node().any(|file| Arc::strong_count(file) > 1) {
            return false;
        }
        of_node().for_each(|file| file.shut());
        true
    }
}

impl OpenFiles {
    /// Takes up an open file. Numbers are never used again within a session.
    pub(crate) fn insert(&self, file: Arc<OpenFile>) -> Fh {
        let fh = Fh(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        self.open.write().insert(fh, file);
        fh
    }

    /// Takes up a file that was open before the server was started again, or notes that it is lost.
    pub(crate) fn restore(&self, fh: Fh, file: Option<Arc<OpenFile>>) {
        self.numbers_used(fh);
        let mut open = self.open.write();
        match file {
            Some(file) => open.insert(fh, file),
            None => drop(open.lost.insert(fh)),
        }
    }

    /// Numbers up to this one were given out before.
    pub(crate) fn numbers_used(&self, fh: Fh) {
        self.last.fetch_max(fh.0, Ordering::Relaxed);
    }

    /// An open file. Whoever has it keeps it from being shut.
    ///
    /// Errors: `EBADF` if it is not open; `EIO` if it was shut, or lost when the server was started again.
    pub(crate) fn get(&self, fh: Fh) -> Result<Arc<OpenFile>, Errno> {
        let open = self.open.read();
        match open.files.get(&fh) {
            Some(file) if file.is_fenced.load(Ordering::Relaxed) => Err(Errno::EIO),
            Some(file) => Ok(file.clone()),
            None if open.lost.contains(&fh) => Err(Errno::EIO),
            None => Err(Errno::EBADF),
        }
    }

    /// Those that were shut.
    pub(crate) fn fenced(&self) -> Vec<Fh> {
        let open = self.open.read();
        let fenced = open.files.iter().filter(|(_, file)| file.is_fenced.load(Ordering::Relaxed));
        fenced.map(|(&fh, _)| fh).collect()
    }

    /// Some open file of a node.
    pub(crate) fn of_node(&self, node: Node) -> Option<Arc<OpenFile>> {
        let open = self.open.read();
        let open_of_node = open.of_node.get(&node.id)?.iter();
        open_of_node.filter_map(|fh| open.files.get(fh)).find(|file| file.node == node).cloned()
    }

    /// Closes a file; it stays open for those who are using it.
    pub(crate) fn remove(&self, fh: Fh) -> Option<Arc<OpenFile>> {
        let mut open = self.open.write();
        open.lost.remove(&fh);
        let file = open.files.remove(&fh)?;
        if let Some(others) = open.of_node.get_mut(&file.node.id) {
            others.retain(|&other| other != fh);
            if others.is_empty() {
                open.of_node.remove(&file.node.id);
            }
        }
        Some(file)
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        let closed = std::mem::take(&mut *self.open.write());
        drop(closed);
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.read().files.len()
    }
}

impl Open {
    fn insert(&mut self, fh: Fh, file: Arc<OpenFile>) {
        self.of_node.entry(file.node.id).or_default().push(fh);
        self.files.insert(fh, file);
    }
}
