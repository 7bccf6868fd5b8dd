//! What all sessions of an export share.

use std::path::Path;

use nearfs_protocol::greeting::Identity;

use crate::export::OpenError;

/// An export that is served: its directory on disk, the nodes that sessions know of it, and its locks.
pub struct Tree {
    identity: Identity,
    read_only: bool,
}

impl Tree {
    /// Opens the directory to serve. `identity`: as whom requests are carried out; `read_only`: whether every
    /// change is refused with `EROFS`.
    pub fn open(directory: &Path, identity: Identity, read_only: bool) -> Result<Tree, OpenError> {
        let _ = directory;
        Ok(Tree { identity, read_only })
    }

    /// As whom requests are carried out.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether every change is refused.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
}
