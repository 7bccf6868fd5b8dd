//! The inode table: what the kernel knows, each with an `O_PATH` descriptor and its lookup count.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{Errno, INodeNo};
use parking_lot::RwLock;
use rustix::fs::{CWD, Mode, OFlags, Stat};

/// Nodes by the inode number the kernel was told, which is the one of the directory beneath (the root
/// alone is renamed to 1), so that numbers stay the same over remounts.
pub(super) struct NodeTable {
    device: u64,
    root: Arc<OwnedFd>,
    root_ino: u64,
    nodes: RwLock<HashMap<u64, Node>>,
}

struct Node {
    path_fd: Arc<OwnedFd>,
    lookups: u64,
}

impl NodeTable {
    pub(super) fn open(source: &Path) -> rustix::io::Result<Self> {
        let root = rustix::fs::openat(
            CWD,
            source,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let stat = rustix::fs::fstat(&root)?;
        Ok(Self {
            device: stat.st_dev,
            root: Arc::new(root),
            root_ino: stat.st_ino,
            nodes: RwLock::default(),
        })
    }

    /// The descriptor of a node; it lives as long as the caller holds it, even past a forget.
    ///
    /// # Errors
    /// ESTALE for a number that was never given out.
    pub(super) fn get(&self, ino: INodeNo) -> Result<Arc<OwnedFd>, Errno> {
        if ino == INodeNo::ROOT {
            return Ok(Arc::clone(&self.root));
        }
        self.nodes.read().get(&ino.0).map(|node| Arc::clone(&node.path_fd)).ok_or(Errno::ESTALE)
    }

    /// Counts one lookup of the inode behind `path_fd`.
    ///
    /// An inode that is already known keeps its descriptor. Holding one keeps the number from being reused.
    ///
    /// # Errors
    /// EXDEV for another filesystem, whose inode numbers could collide.
    pub(super) fn remember(&self, path_fd: OwnedFd, stat: &Stat) -> Result<INodeNo, Errno> {
        if stat.st_dev != self.device {
            return Err(Errno::EXDEV);
        }
        if stat.st_ino == self.root_ino {
            return Ok(INodeNo::ROOT);
        }
        let mut nodes = self.nodes.write();
        let node =
            nodes.entry(stat.st_ino).or_insert_with(|| Node { path_fd: Arc::new(path_fd), lookups: 0 });
        node.lookups += 1;
        Ok(INodeNo(stat.st_ino))
    }

    /// Gives back `lookups` references; the last one closes the descriptor.
    pub(super) fn forget(&self, ino: INodeNo, lookups: u64) {
        let mut nodes = self.nodes.write();
        if let Some(node) = nodes.get_mut(&ino.0) {
            node.lookups = node.lookups.saturating_sub(lookups);
            if node.lookups == 0 {
                nodes.remove(&ino.0);
            }
        }
    }
}

/// A path to the inode itself, for the calls that `O_PATH` descriptors refuse (open, truncate, chmod, utimens,
/// extended attributes).
pub(super) fn proc_path(path_fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", path_fd.as_raw_fd()))
}
