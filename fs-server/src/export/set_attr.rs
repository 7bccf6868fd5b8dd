//! Attributes: owner, mode, times, size.

use std::os::fd::{AsFd, BorrowedFd};

use nearfs_protocol::attr::{SetAttr, SetTime};
use nearfs_protocol::errno::Errno;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};

use super::{Export, proc_path, raw};
use crate::errno::from_os;

impl Export {
    /// Changes what `set` names of an open node, in the order that leaves what was asked for: truncating and changing
    /// the owner both take set-user-id bits away, and all three move the times.
    pub(crate) fn set_attr(&self, node: Reached<'_>, set: &SetAttr) -> Result<(), Errno> {
        if let Some(size) = set.size {
            self.truncate(node, size)?;
        }
        if set.uid.is_some() || set.gid.is_some() {
            let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
            rustix::fs::chownat(node.fd(), c"", uid, gid, AtFlags::EMPTY_PATH).map_err(from_os)?;
        }
        if let Some(mode) = set.mode {
            self.change_mode(node, mode)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            let times =
                Timestamps { last_access: timespec(set.atime), last_modification: timespec(set.mtime) };
            rustix::fs::utimensat(node.fd(), c"", &times, AtFlags::EMPTY_PATH).map_err(from_os)?;
        }
        Ok(())
    }

    fn truncate(&self, node: Reached<'_>, size: u64) -> Result<(), Errno> {
        match node {
            Reached::Open(file) => rustix::fs::ftruncate(file, size).map_err(from_os),
            Reached::Path(fd) => raw::truncate(&proc_path(fd), size).map_err(from_os),
        }
    }

    /// Sets the permission bits. Not of a symlink: its way through /proc ends with `EOPNOTSUPP`, as locally.
    pub(crate) fn change_mode(&self, node: Reached<'_>, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        match node {
            Reached::Open(file) => rustix::fs::fchmod(file, mode).map_err(from_os),
            Reached::Path(fd) => rustix::fs::chmod(proc_path(fd), mode).map_err(from_os),
        }
    }

    /// Whether the thread's identity may access an open node; the mask is that of access(2).
    pub(crate) fn access(&self, fd: impl AsFd, mask: u8) -> Result<(), Errno> {
        raw::access(fd, mask).map_err(from_os)
    }
}

/// How a node is at hand.
#[derive(Clone, Copy)]
pub(crate) enum Reached<'fd> {
    /// Opened for reading or writing.
    Open(BorrowedFd<'fd>),
    /// Opened for looking (`O_PATH`).
    Path(BorrowedFd<'fd>),
}

impl<'fd> Reached<'fd> {
    /// The descriptor, good for whatever needs no more than looking.
    pub(crate) fn fd(self) -> BorrowedFd<'fd> {
        match self {
            Reached::Open(fd) | Reached::Path(fd) => fd,
        }
    }
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(time)) => Timespec { tv_sec: time.secs, tv_nsec: i64::from(time.nanos) },
    }
}
