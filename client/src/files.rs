//! Open files and directories as the kernel names them.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use lru::LruCache;
use nearfs_protocol::attr::DirEntry;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Fh, Node};
use nearfs_protocol::name::Name;
use parking_lot::{Mutex, RwLock};

use crate::cache::FillToken;
use crate::cache::readahead::Readahead;

/// A file that some program has open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    /// Which file.
    pub(crate) node: Node,
    /// Its name at the server.
    pub(crate) fh: Fh,
    /// The `O_*` flags that it was opened with.
    pub(crate) flags: i32,
    /// What its reader is about to want.
    pub(crate) readahead: Mutex<Readahead>,
    /// Why bytes that a program had put into a mapping never reached the server.
    pub(crate) lost: OnceLock<Errno>,
    /// Why a write that its program did not wait for was not made.
    pub(crate) failed: OnceLock<Errno>,
    /// What was written to it and may be in the server's memory only.
    pub(crate) unsynced: Unsynced,
}

/// How much of what was written through an open file has been brought to the server's disk since.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    changes: AtomicU64,
    synced: AtomicU64,
    is_lost: AtomicBool,
}

impl Unsynced {
    /// The server has answered a change that it need not have on its disk.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The system that the server runs on has lost its memory, perhaps with some of the changes.
    fn lose(&self) {
        if self.changes.load(Ordering::Acquire) > self.synced.load(Ordering::Acquire) {
            self.is_lost.store(true, Ordering::Release);
        }
    }

    /// Errors: `EIO` if changes were lost. It stays so until the file is closed.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        if self.is_lost.load(Ordering::Acquire) { Err(Errno::EIO) } else { Ok(()) }
    }
}

/// What all open files of a node had been changed before it is synced.
pub(crate) struct Syncing(Vec<(Arc<OpenFile>, u64)>);

impl Syncing {
    /// It was synced: that much is safe.
    pub(crate) fn done(self) {
        for (file, changes) in self.0 {
            file.unsynced.synced.fetch_max(changes, Ordering::Release);
        }
    }
}

impl OpenFile {
    /// Errors: why something that was written through it may be lost. It stays so until the file is closed.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        self.failed.get().map_or(Ok(()), |errno| Err(*errno))?;
        self.unsynced.check()
    }

    /// Whether writes go to the end of the file, wherever that is.
    pub(crate) fn appends(&self) -> bool {
        self.flags & libc::O_APPEND != 0
    }

    /// Whether each write is on the server's disk when it is answered.
    pub(crate) fn is_synchronous(&self) -> bool {
        self.flags & libc::O_DSYNC != 0
    }

    /// Whether its content goes past the caches.
    pub(crate) fn is_direct(&self) -> bool {
        self.flags & libc::O_DIRECT != 0
    }
}

/// A directory that some program reads.
#[derive(Debug)]
pub(crate) struct OpenDirectory {
    /// Which directory.
    pub(crate) node: Node,
    /// What was fetched and not yet taken.
    pub(crate) listing: Mutex<Listing>,
    /// The names so far, as long as they may become all names of the directory.
    pub(crate) gathered: Mutex<Option<Gathered>>,
    /// Whether it was read.
    pub(crate) is_read: AtomicBool,
}

/// Most directories of which it is known that they are opened for something else than to be read.
const UNREAD_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// Most names that are gathered for one reader.
const GATHERED_MAX: usize = 64 * 1024;

/// The names of a directory from its start on, read while its counter stood.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// From before the first question.
    pub(crate) token: FillToken,
    /// The directory's counter.
    pub(crate) change: Change,
    pub(crate) names: Vec<Name>,
    /// Where the next entries begin.
    cookie: u64,
}

impl Gathered {
    /// Nothing yet.
    pub(crate) fn new(token: FillToken, change: Change) -> Gathered {
        Gathered { token, change, names: Vec::new(), cookie: 0 }
    }

    /// Adds the entries from a place on. `None` if they do not follow, or are too many, or the directory has changed.
    pub(crate) fn and(mut self, cookie: u64, entries: &[DirEntry], change: Change) -> Option<Gathered> {
        if self.cookie != cookie || !self.change.same_as(change) || self.names.len() > GATHERED_MAX {
            return None;
        }
        self.names.extend(entries.iter().map(|entry| entry.name.clone()));
        self.cookie = entries.last().map_or(cookie, |last| last.cookie);
        Some(self)
    }
}

/// What was fetched of a directory for one reader: consecutive entries from some place on.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The server's cookie at which `entries` begins.
    pub(crate) start: u64,
    pub(crate) entries: Arc<Vec<DirEntry>>,
    /// How many of them were taken.
    pub(crate) taken: usize,
    /// Whether the directory ends behind them.
    pub(crate) end: bool,
    /// Since when, if anything was fetched at all.
    pub(crate) fetched: Option<Fetched>,
    pub(crate) page_bytes: u32,
}

/// Most directories whose listings are kept for whoever opens them next.
const LISTED_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

/// A whole directory as one answer told of it. Its entries hold no references to their nodes.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) entries: Arc<Vec<DirEntry>>,
    /// The directory's counter.
    pub(crate) change: Change,
    pub(crate) fetched: Fetched,
}

/// What decides how long the attributes in a listing are right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    /// From before the question was sent.
    pub(crate) token: FillToken,
    /// When the answer arrived.
    pub(crate) at: Instant,
}

/// Everything open, by the number that the kernel was given.
#[derive(Debug)]
pub(crate) struct Files {
    last: AtomicU64,
    files: RwLock<HashMap<u64, Arc<OpenFile>>>,
    directories: RwLock<HashMap<u64, Arc<OpenDirectory>>>,
    /// Directories that were not read when they were open last: databases open them to sync them.
    unread: Mutex<LruCache<Node, ()>>,
    listed: Mutex<LruCache<Node, Listed>>,
}

impl Default for Files {
    fn default() -> Files {
        Files {
            last: AtomicU64::new(0),
            files: RwLock::default(),
            directories: RwLock::default(),
            unread: Mutex::new(LruCache::new(UNREAD_MAX)),
            listed: Mutex::new(LruCache::new(LISTED_MAX)),
        }
    }
}

impl Files {
    pub(crate) fn add(&self, file: OpenFile) -> u64 {
        let number = self.next();
        self.files.write().insert(number, Arc::new(file));
        number
    }

    pub(crate) fn get(&self, number: u64) -> Result<Arc<OpenFile>, Errno> {
        self.files.read().get(&number).cloned().ok_or(Errno::EBADF)
    }

    pub(crate) fn remove(&self, number: u64) -> Option<Arc<OpenFile>> {
        self.files.write().remove(&number)
    }

    pub(crate) fn add_directory(&self, directory: OpenDirectory) -> u64 {
        let number = self.next();
        self.directories.write().insert(number, Arc::new(directory));
        number
    }

    pub(crate) fn directory(&self, number: u64) -> Result<Arc<OpenDirectory>, Errno> {
        self.directories.read().get(&number).cloned().ok_or(Errno::EBADF)
    }

    pub(crate) fn remove_directory(&self, number: u64) -> Option<Arc<OpenDirectory>> {
        let directory = self.directories.write().remove(&number)?;
        match directory.is_read.load(Ordering::Relaxed) {
            true => _ = self.unread.lock().pop(&directory.node),
            false => _ = self.unread.lock().put(directory.node, ()),
        }
        Some(directory)
    }

    /// Whether a directory is likely to be opened without being read.
    pub(crate) fn is_seldom_read(&self, directory: Node) -> bool {
        self.unread.lock().contains(&directory)
    }

    /// Keeps a listing for whoever opens the directory next.
    pub(crate) fn note_listed(&self, directory: Node, listed: Listed) {
        self.listed.lock().put(directory, listed);
    }

    /// The listing of a directory, if it was one of the last.
    pub(crate) fn last_listed(&self, directory: Node) -> Option<Listed> {
        self.listed.lock().get(&directory).cloned()
    }

    /// Bytes of a node are lost: all who have it open shall hear of it whenever they sync, until they close it.
    pub(crate) fn note_lost(&self, node: Node, errno: Errno) {
        let files = self.files.read();
        let of_node = files.values().filter(|file| file.node == node);
        of_node.for_each(|file| _ = file.lost.set(errno));
    }

    /// A node is about to be synced.
    pub(crate) fn syncing(&self, node: Node) -> Syncing {
        let files = self.files.read();
        let of_node = files.values().filter(|file| file.node == node);
        Syncing(of_node.map(|file| (file.clone(), file.unsynced.changes.load(Ordering::Acquire))).collect())
    }

    /// The server's operating system was started again: what was not synced may be gone, and is never called safe.
    pub(crate) fn note_restarted_system(&self) {
        self.files.read().values().for_each(|file| file.unsynced.lose());
    }

    /// How many files and directories are open.
    pub(crate) fn count(&self) -> usize {
        self.files.read().len() + self.directories.read().len()
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Listing {
    /// Goes to the entry that follows a cookie. Whether it is among those fetched (or known to be the end).
    pub(crate) fn seek(&mut self, cookie: u64) -> bool {
        if self.fetched.is_none() {
            return false;
        }
        let here = match self.taken {
            0 => self.start,
            taken => self.entries[taken - 1].cookie,
        };
        here == cookie && (self.taken < self.entries.len() || self.end)
    }
}
