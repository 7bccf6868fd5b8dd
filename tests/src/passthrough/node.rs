//! The inode table: what the kernel knows, with lookup counts and `O_PATH` descriptors.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{Errno, INodeNo};
use parking_lot::RwLock;
use rustix::fs::{CWD, Mode, OFlags, Stat};

use super::disk_handle::DiskHandle;

/// Nodes by the inode number the kernel was told, which is the one of the directory beneath (the root
/// alone is renamed to 1), so that numbers stay the same over remounts.
pub(super) struct NodeTable {
    device: u64,
    root: Arc<OwnedFd>,
    root_ino: u64,
    /// The root once more, opened so that file handles can be resolved against it.
    mount: OwnedFd,
    held_max: usize,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    nodes: HashMap<u64, Node>,
    /// Nodes with a descriptor, oldest first; some may be forgotten.
    held: VecDeque<u64>,
}

struct Node {
    place: Place,
    lookups: u64,
}

/// How to reach the inode.
enum Place {
    Held(Arc<OwnedFd>),
    /// Its descriptor was needed for another node.
    Let(Box<DiskHandle>),
}

impl NodeTable {
    /// Opens `source`; at most `held_max` descriptors are kept for nodes.
    pub(super) fn open(source: &Path, held_max: usize) -> rustix::io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, source, flags | OFlags::PATH, Mode::empty())?;
        let mount = rustix::fs::openat(CWD, source, flags | OFlags::RDONLY, Mode::empty())?;
        let stat = rustix::fs::fstat(&root)?;
        let (device, root_ino, root) = (stat.st_dev, stat.st_ino, Arc::new(root));
        Ok(Self { device, root, root_ino, mount, held_max, known: RwLock::default() })
    }

    /// The descriptor of a node; it lives as long as the caller holds it, even past a forget.
    ///
    /// # Errors
    /// ESTALE for a number that was never given out and for an inode that is gone.
    pub(super) fn get(&self, ino: INodeNo) -> Result<Arc<OwnedFd>, Errno> {
        if ino == INodeNo::ROOT {
            return Ok(Arc::clone(&self.root));
        }
        let handle = match &self.known.read().nodes.get(&ino.0).ok_or(Errno::ESTALE)?.place {
            Place::Held(path_fd) => return Ok(Arc::clone(path_fd)),
            Place::Let(handle) => handle.clone(),
        };
        let path_fd = Arc::new(handle.open(&self.mount)?);
        let mut known = self.known.write();
        if let Some(node) = known.nodes.get_mut(&ino.0) {
            node.place = Place::Held(Arc::clone(&path_fd));
            self.hold(&mut known, ino.0);
        }
        Ok(path_fd)
    }

    /// Counts one lookup of the inode behind `path_fd`. Holding a descriptor keeps the number from being
    /// reused.
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
        let mut known = self.known.write();
        if let Some(node) = known.nodes.get_mut(&stat.st_ino) {
            node.lookups += 1;
        } else {
            let node = Node { place: Place::Held(Arc::new(path_fd)), lookups: 1 };
            known.nodes.insert(stat.st_ino, node);
            self.hold(&mut known, stat.st_ino);
        }
        Ok(INodeNo(stat.st_ino))
    }

    /// Gives back `lookups` references; the last one closes the descriptor.
    pub(super) fn forget(&self, ino: INodeNo, lookups: u64) {
        let mut known = self.known.write();
        if let Some(node) = known.nodes.get_mut(&ino.0) {
            node.lookups = node.lookups.saturating_sub(lookups);
            if node.lookups == 0 {
                known.nodes.remove(&ino.0);
            }
        }
    }

    /// Notes that `ino` has a descriptor, and lets the oldest ones go when there are too many.
    fn hold(&self, known: &mut Known, ino: u64) {
        known.held.push_back(ino);
        while known.held.len() > self.held_max {
            let Some(oldest) = known.held.pop_front() else { return };
            if let Some(node) = known.nodes.get_mut(&oldest)
                && let Place::Held(path_fd) = &node.place
                && let Ok(handle) = DiskHandle::of(path_fd)
            {
                node.place = Place::Let(Box::new(handle));
            }
        }
    }
}

/// A path to the inode itself, for the calls that `O_PATH` descriptors refuse (open, truncate, chmod, utimens,
/// extended attributes).
pub(super) fn proc_path(path_fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", path_fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_descriptor_is_found_again_under_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let table = NodeTable::open(dir.path(), 1).unwrap();
        let remember = |name: &str| {
            let file = OwnedFd::from(std::fs::File::create(dir.path().join(name)).unwrap());
            let stat = rustix::fs::fstat(&file).unwrap();
            table.remember(file, &stat).unwrap()
        };
        let (first, _second) = (remember("first"), remember("second"));
        assert!(matches!(table.known.read().nodes[&first.0].place, Place::Let(_)));
        std::fs::rename(dir.path().join("first"), dir.path().join("moved")).unwrap();
        match table.get(first) {
            Ok(path_fd) => assert_eq!(rustix::fs::fstat(&*path_fd).unwrap().st_ino, first.0),
            // Only root may open by handle.
            Err(error) => assert_eq!(error.code(), libc::EPERM),
        }
        table.forget(first, 1);
        assert_eq!(table.get(first).unwrap_err().code(), libc::ESTALE);
    }
}
