//! Open files and directories by the number the kernel was given for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::{Errno, FileHandle};
use parking_lot::RwLock;

/// What is open, by file handle.
pub(super) struct OpenTable<T> {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> OpenTable<T> {
    pub(super) fn new() -> Self {
        Self { next: AtomicU64::new(1), open: RwLock::default() }
    }

    pub(super) fn insert(&self, opened: T) -> FileHandle {
        let fh = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(fh, Arc::new(opened));
        FileHandle(fh)
    }

    /// # Errors
    /// EBADF for a handle that is not open.
    pub(super) fn get(&self, fh: FileHandle) -> Result<Arc<T>, Errno> {
        self.open.read().get(&fh.0).map(Arc::clone).ok_or(Errno::EBADF)
    }

    pub(super) fn remove(&self, fh: FileHandle) {
        self.open.write().remove(&fh.0);
    }
}
