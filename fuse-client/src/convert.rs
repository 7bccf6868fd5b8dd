//! Our words to the FUSE library's and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, FopenFlags, INodeNo, TimeOrNow};
use nearfs_client::vfs::types::Opened;
use nearfs_protocol::attr::{Attr, FileKind, Lock, LockKind, LockStyle, SetTime, Time};
use nearfs_protocol::errno::Errno;

/// The last byte of a lock "to the end" as the kernel writes it (`OFFSET_MAX`).
const KERNEL_LOCK_END: u64 = i64::MAX as u64;

/// The errno to answer. `ENOSYS` would tell the kernel that this operation never works, on any file, for
/// the life of the mount, so that it would not ask again.
pub(crate) fn errno(errno: Errno) -> fuser::Errno {
    match errno {
        Errno::ENOSYS => fuser::Errno::EOPNOTSUPP,
        other => fuser::Errno::from_i32(other.number()),
    }
}

/// The attributes of a node under the number by which programs shall know it.
pub(crate) fn file_attr(ino: u64, attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: attr.btime.map_or(UNIX_EPOCH, system_time),
        kind: file_type(attr.kind),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: pack_device(attr.rdev),
        blksize: attr.blksize,
        flags: 0,
    }
}

/// The attributes that stand for "no node": number 0.
pub(crate) fn no_attr(kind: FileKind) -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// What a node is.
pub(crate) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// A new time that a program asked for.
///
/// The library computes a time before 1970 as `seconds - nanoseconds` where it should be `seconds +
/// nanoseconds`, so that both parts can be read back from the distance to 1970.
pub(crate) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Time { secs: after.as_secs().cast_signed(), nanos: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                Time { secs: before.as_secs().cast_signed().wrapping_neg(), nanos: before.subsec_nanos() }
            }
        }),
    }
}

/// How the kernel shall treat what was opened.
pub(crate) fn fopen_flags(opened: Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_CACHE_DIR, opened.cache_dir);
    let direct = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
    flags.set(direct, opened.direct_io);
    flags
}

/// A lock as the kernel describes it; `None` if its type is none of fcntl(2)'s. The library does not tell
/// flock(2) from fcntl(2); the kernel writes the former as a lock of the whole file.
pub(crate) fn lock(owner: u64, start: u64, end: u64, kind: i32, pid: u32) -> Option<Lock> {
    let kind = match kind {
        libc::F_RDLCK => LockKind::Read,
        libc::F_WRLCK => LockKind::Write,
        libc::F_UNLCK => LockKind::Unlock,
        _ => return None,
    };
    let end = if end >= KERNEL_LOCK_END { u64::MAX } else { end };
    Some(Lock { start, end, kind, style: LockStyle::Posix, owner, pid })
}

/// First byte, last byte and type of a lock, as the kernel describes it.
pub(crate) fn lock_range(lock: &Lock) -> (u64, u64, i32) {
    let kind = match lock.kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    };
    (lock.start.min(KERNEL_LOCK_END), lock.end.min(KERNEL_LOCK_END), kind)
}

/// Times are the server's word: what does not fit becomes the epoch.
fn system_time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos.min(999_999_999)));
    let seconds = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// From the C library's packing of a device number (makedev(3)) to the kernel's: 12 bits of major in the
/// middle of 20 bits of minor.
fn pack_device(rdev: u64) -> u32 {
    let (major, minor) = (libc::major(rdev), libc::minor(rdev));
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
