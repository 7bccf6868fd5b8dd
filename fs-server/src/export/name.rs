//! Names: made, moved and removed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::RenameMode;
use nearfs_protocol::name::Name;
use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, RenameFlags};

use super::{Export, proc_path};
use crate::errno::from_os;

impl Export {
    /// Makes a directory (mkdirat(2)); the thread's umask applies.
    pub(crate) fn make_dir(&self, parent: impl AsFd, name: &CStr, mode: u32) -> Result<(), Errno> {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode & 0o7777)).map_err(from_os)
    }

    /// Makes a file, fifo, socket or device (mknodat(2)): `mode` with type bits.
    pub(crate) fn make_node(
        &self,
        parent: impl AsFd,
        name: &CStr,
        mode: u32,
        rdev: u64,
    ) -> Result<(), Errno> {
        let file_type = match FileType::from_raw_mode(mode) {
            // No type bits mean a regular file (mknod(2)).
            FileType::Unknown if mode & 0o170_000 == 0 => FileType::RegularFile,
            FileType::Unknown | FileType::Directory | FileType::Symlink => return Err(Errno::EINVAL),
            other => other,
        };
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::mknodat(parent, name, file_type, mode, rdev as Dev).map_err(from_os)
    }

    /// Makes a symlink (symlinkat(2)). Its target is only text.
    pub(crate) fn make_symlink(&self, parent: impl AsFd, name: &CStr, target: &CStr) -> Result<(), Errno> {
        rustix::fs::symlinkat(target, parent, name).map_err(from_os)
    }

    /// A symlink's text.
    ///
    /// Errors: `EINVAL` if it is none.
    pub(crate) fn read_link(&self, fd: impl AsFd) -> Result<Vec<u8>, Errno> {
        match rustix::fs::readlinkat(fd, c"", Vec::with_capacity(256)) {
            Ok(target) => Ok(target.into_bytes()),
            // What readlinkat(2) says of an open node that is no symlink.
            Err(rustix::io::Errno::NOENT) => Err(Errno::EINVAL),
            Err(error) => Err(from_os(error)),
        }
    }

    /// Gives an open node another name (linkat(2)).
    pub(crate) fn link(&self, node: BorrowedFd<'_>, parent: impl AsFd, name: &CStr) -> Result<(), Errno> {
        // AT_EMPTY_PATH would ask for CAP_DAC_READ_SEARCH; the way through /proc asks for what link(2) asks.
        let flags = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(rustix::fs::CWD, proc_path(node), parent, name, flags).map_err(from_os)
    }

    /// Removes a name that is no directory.
    pub(crate) fn unlink(&self, parent: impl AsFd, name: &CStr) -> Result<(), Errno> {
        rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(from_os)
    }

    /// Removes an empty directory.
    pub(crate) fn remove_dir(&self, parent: impl AsFd, name: &CStr) -> Result<(), Errno> {
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(from_os)
    }

    /// Waits for whoever is changing a name of a directory at this moment. `name` is any name in it.
    ///
    /// Changes of names hold the directory's lock until all that shows them is done, and so does every unlink(2),
    /// even this one, which has no effect: what ends in a slash is a directory or nothing, and neither is unlinked.
    pub(crate) fn wait_for_changes_of_names(&self, parent: impl AsFd, name: &Name) {
        let no_file = [name.as_bytes(), b"/"].concat();
        let _ = rustix::fs::unlinkat(parent, no_file, AtFlags::empty());
    }

    /// Renames (renameat2(2)).
    pub(crate) fn rename(
        &self,
        (parent, name): (BorrowedFd<'_>, &CStr),
        (new_parent, new_name): (BorrowedFd<'_>, &CStr),
        mode: RenameMode,
    ) -> Result<(), Errno> {
        let flags = match mode {
            RenameMode::Replace => RenameFlags::empty(),
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        rustix::fs::renameat_with(parent, name, new_parent, new_name, flags).map_err(from_os)
    }

    /// Opens a directory to list or sync it, as the thread's identity may.
    pub(crate) fn open_dir(&self, directory: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(directory, c".", flags, Mode::empty()) {
            // Walking to "." takes the right to search the directory, listing it does not.
            Err(rustix::io::Errno::ACCESS) => {
                rustix::fs::open(proc_path(directory), flags, Mode::empty()).map_err(from_os)
            }
            other => other.map_err(from_os),
        }
    }
}
