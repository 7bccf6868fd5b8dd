//! What is known of a node: attributes, directory entries, file system figures, locks.

use serde::{Deserialize, Serialize};

use crate::id::{Change, Node};
use crate::name::Name;

/// What a node is (the type bits of `st_mode`, see inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A point in time as the file system keeps it. May lie before 1970: `nanos` always counts forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub secs: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanos: u32,
}

/// What stat(2) tells of a node, and its change counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// Whose attributes these are.
    pub node: Node,
    /// Differs after any change.
    pub change: Change,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: at most 0o7777.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device, as `makedev(3)` packs it; else 0.
    pub rdev: u64,
    /// Bytes of content.
    pub size: u64,
    /// Allocated units of 512 bytes.
    pub blocks: u64,
    /// Preferred bytes of one read or write.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of content or attributes.
    pub ctime: Time,
    /// Birth, where the file system keeps it.
    pub btime: Option<Time>,
}

/// A new time for a node (utimensat(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetTime {
    /// The server's present (`UTIME_NOW`).
    Now,
    /// This moment.
    At(Time),
}

/// Which attributes to change; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAttr {
    /// New permission bits, at most 0o7777.
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size in bytes.
    pub size: Option<u64>,
    /// New time of last access.
    pub atime: Option<SetTime>,
    /// New time of last modification.
    pub mtime: Option<SetTime>,
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntry {
    /// The name; never `.` or `..`.
    pub name: Name,
    /// Where a listing goes on after this entry. Opaque; never 0; stays valid while the directory changes.
    pub cookie: u64,
    /// Its attributes; `None` if it vanished while the directory was read, or if they were not asked for.
    pub attr: Option<Attr>,
    /// Its `st_ino`, also without attributes.
    pub ino: u64,
    /// What it is, where the directory itself tells.
    pub kind: Option<FileKind>,
}

/// The figures of the file system behind the export (statvfs(3)), in its own units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatFs {
    /// Bytes of an allocation unit (`f_frsize`).
    pub block_bytes: u32,
    /// Preferred bytes of one transfer (`f_bsize`).
    pub io_bytes: u32,
    /// Allocation units in all.
    pub blocks: u64,
    /// Free ones.
    pub blocks_free: u64,
    /// Free ones that ordinary users may take.
    pub blocks_available: u64,
    /// Nodes in all.
    pub files: u64,
    /// Free ones.
    pub files_free: u64,
    /// Longest name in bytes.
    pub name_bytes_max: u32,
}

/// What a lock forbids others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LockKind {
    /// Shared (`F_RDLCK`, `LOCK_SH`).
    Read,
    /// Exclusive (`F_WRLCK`, `LOCK_EX`).
    Write,
    /// None: gives the range back (`F_UNLCK`, `LOCK_UN`).
    Unlock,
}

/// By which call a lock was asked for. Locks of different styles do not see each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LockStyle {
    /// fcntl(2) byte ranges.
    Posix,
    /// flock(2).
    Flock,
}

/// A byte-range lock (fcntl(2), "Advisory record locking").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lock {
    /// First byte.
    pub start: u64,
    /// Last byte, included; `u64::MAX` for "to the end, however far that is".
    pub end: u64,
    /// What it forbids.
    pub kind: LockKind,
    /// By which call.
    pub style: LockStyle,
    /// Who holds it, within the session.
    pub owner: u64,
    /// The process that asked, for `F_GETLK`.
    pub pid: u32,
}
