//! The only place that calls the operating system's file system, and never leaves the export's root.
//!
//! Whatever is named is named by an open directory and one checked component; symlinks are never followed; what is
//! no regular file or directory is only ever opened for looking (`O_PATH`).

mod device;
mod file;
mod inode;
mod listing;
mod name;
mod raw;
mod set_attr;
mod stat;
mod unnamed;
mod witness;
mod xattr;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Node, NodeId};
use nearfs_protocol::name::Name;
use rustix::fs::{Mode, OFlags, ResolveFlags, StatxFlags};

use crate::errno::from_os;
pub(crate) use device::DeviceNumber;
use device::{Device, Devices};
use witness::Witness;

pub(crate) use file::{Opening, Patience, Spread};
pub(crate) use inode::{Glance, Inode};
pub(crate) use listing::Listed;
pub(crate) use raw::{FileHandle, StoredHandle};
pub(crate) use set_attr::Reached;
pub(crate) use stat::kind_of_mode;
pub(crate) use unnamed::Unnamed;
pub(crate) use witness::Seen;
pub(crate) use xattr::{XattrName, XattrRights};

/// For looking only; a symlink is opened itself.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory on disk, and what lies below it.
pub(crate) struct Export {
    root: OwnedFd,
    devices: Devices,
    /// The root opened for reading, which opening by handle asks for; only if the process may do that at all.
    by_handle: Option<OwnedFd>,
    /// Sees whether somebody else changes a directory at the same time.
    pub(crate) witness: Witness,
    pub(crate) unnamed: Arc<Unnamed>,
}

/// Why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nothing of that name.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// It is something else.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The system refuses.
    #[error("cannot open {}: {source}", .directory.display())]
    Refused {
        /// What was to be served.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Export {
    /// Opens the directory to serve. Symlinks on the way to it are the owner's and are followed.
    pub(crate) fn open(directory: &Path) -> Result<Export, OpenError> {
        let refused = |error: rustix::io::Errno| match error {
            rustix::io::Errno::NOENT => OpenError::Missing(directory.to_owned()),
            rustix::io::Errno::NOTDIR => OpenError::NotADirectory(directory.to_owned()),
            other => OpenError::Refused { directory: directory.to_owned(), source: other.into() },
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty()).map_err(refused)?;
        let stat = rustix::fs::statx(&root, c"", rustix::fs::AtFlags::EMPTY_PATH, StatxFlags::INO);
        let stat = stat.map_err(refused)?;
        let devices =
            Devices::new((stat.stx_dev_major, stat.stx_dev_minor), root.as_fd()).map_err(refused)?;
        let by_handle = mount_for_handles(root.as_fd());
        Ok(Export { root, devices, by_handle, witness: Witness::new(), unnamed: Arc::default() })
    }

    /// Walks down from the root, a directory at a time.
    ///
    /// Errors: `ENOENT`; `ENOTDIR` or `ELOOP` for a symlink on the way.
    pub(crate) fn descend(&self, path: &[Name]) -> Result<OwnedFd, Errno> {
        let mut directory = rustix::io::fcntl_dupfd_cloexec(&self.root, 0).map_err(from_os)?;
        for name in path {
            directory = rustix::fs::openat2(
                &directory,
                name.as_bytes(),
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
            )
            .map_err(from_os)?;
        }
        Ok(directory)
    }

    /// The id of a node that is on a device and has an inode number there.
    pub(crate) fn fold(&self, number: DeviceNumber, device: Device, ino: u64) -> Result<NodeId, Errno> {
        self.devices.fold(number, device, ino).map_err(from_os)
    }

    /// Opens a name for looking.
    pub(crate) fn open_path(&self, directory: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(directory, name, LOOK, Mode::empty()).map_err(from_os)
    }

    /// Watches a directory's names from here on, if the system lets it; the thread's identity needs the right to read it.
    pub(crate) fn watch(&self, directory: BorrowedFd<'_>, node: Node) -> Option<Seen> {
        self.witness.watch(node, &proc_path(directory))
    }

    /// What finds the node again without a name, if the process may use it.
    pub(crate) fn handle_of(&self, fd: BorrowedFd<'_>) -> Option<FileHandle> {
        self.by_handle.as_ref()?;
        FileHandle::of(fd, c"").ok()
    }

    /// The same of what a name leads to.
    pub(crate) fn handle_of_name(&self, directory: BorrowedFd<'_>, name: &CStr) -> Option<FileHandle> {
        self.by_handle.as_ref()?;
        FileHandle::of(directory, name).ok()
    }

    /// Whether nodes of the root's file system can be found by their handles.
    pub(crate) fn finds_by_handle(&self) -> bool {
        self.by_handle.is_some()
    }

    /// As in a process that may not open by handle.
    #[cfg(test)]
    pub(crate) fn forgo_handles(&mut self) {
        self.by_handle = None;
    }

    /// Opens a node of the root's file system by its handle, for looking.
    pub(crate) fn open_handle(&self, handle: &FileHandle) -> Result<OwnedFd, Errno> {
        let mount = self.by_handle.as_ref().ok_or(Errno::EPERM)?;
        handle.open(mount.as_fd()).map_err(from_os)
    }
}

fn mount_for_handles(root: BorrowedFd<'_>) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mount = rustix::fs::openat(root, c".", flags, Mode::empty()).ok()?;
    let opened = FileHandle::of(root, c"").and_then(|handle| handle.open(mount.as_fd()));
    opened.is_ok().then_some(mount)
}

/// A name as system calls take it. Names have no NUL, so that this does not fail.
pub(crate) fn c_name(name: &Name) -> Result<CString, Errno> {
    CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)
}

/// The path that leads to an open node, whatever its name is by now (proc(5)): for calls that refuse descriptors
/// opened for looking.
fn proc_path(fd: BorrowedFd<'_>) -> CString {
    let mut path = Vec::with_capacity(32);
    path.extend_from_slice(b"/proc/self/fd/");
    path.extend_from_slice(rustix::path::DecInt::from_fd(fd).as_bytes());
    CString::new(path).unwrap_or_default()
}

/// Spreads a number over all its bits, each input to another output (splitmix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
