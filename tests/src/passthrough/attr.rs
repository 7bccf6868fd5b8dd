//! Attributes between the system and the FUSE library, and the changes `setattr` asks for.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};

/// The attributes of `stat` under the number the kernel knows.
pub(super) fn file_attr(ino: INodeNo, stat: &Stat) -> FileAttr {
    FileAttr {
        ino,
        size: stat.st_size.unsigned_abs(),
        blocks: stat.st_blocks.unsigned_abs(),
        atime: system_time(stat.st_atime, stat.st_atime_nsec),
        mtime: system_time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: system_time(stat.st_ctime, stat.st_ctime_nsec),
        crtime: UNIX_EPOCH,
        kind: file_type(rustix::fs::FileType::from_raw_mode(stat.st_mode)),
        perm: (stat.st_mode & 0o7777) as u16,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: u32::try_from(stat.st_rdev).unwrap_or(0),
        blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
        flags: 0,
    }
}

/// The kernel sends what kind an entry is; a kind it does not tell is looked up later, so any will do.
pub(super) fn file_type(kind: rustix::fs::FileType) -> FileType {
    match kind {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        rustix::fs::FileType::RegularFile | rustix::fs::FileType::Unknown => FileType::RegularFile,
    }
}

/// The fields that one `setattr` changes.
pub(super) struct AttrChange {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) atime: Option<TimeOrNow>,
    pub(super) mtime: Option<TimeOrNow>,
}

impl AttrChange {
    /// Applies the change to an open file when there is one, else through a path to the inode.
    pub(super) fn apply(&self, open: Option<&OwnedFd>, path: &Path) -> Result<(), Errno> {
        if let Some(mode) = self.mode {
            rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(errno)?;
        }
        if self.uid.is_some() || self.gid.is_some() {
            let (uid, gid) = (self.uid.map(Uid::from_raw), self.gid.map(Gid::from_raw));
            rustix::fs::chownat(CWD, path, uid, gid, AtFlags::empty()).map_err(errno)?;
        }
        if let Some(size) = self.size {
            match open {
                Some(fd) => rustix::fs::ftruncate(fd, size).map_err(errno)?,
                None => File::options().write(true).open(path)?.set_len(size)?,
            }
        }
        if self.atime.is_some() || self.mtime.is_some() {
            let times =
                Timestamps { last_access: timespec(self.atime), last_modification: timespec(self.mtime) };
            rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).map_err(errno)?;
        }
        Ok(())
    }
}

/// The errno of a system call, as the FUSE library wants it.
pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

fn system_time(seconds: i64, nanoseconds: u64) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    base + Duration::from_nanos(nanoseconds)
}

fn timespec(time: Option<TimeOrNow>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(TimeOrNow::SpecificTime(time)) => match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timespec { tv_sec: seconds_of(after), tv_nsec: i64::from(after.subsec_nanos()) },
            Err(before) => timespec_before_epoch(before.duration()),
        },
    }
}

/// Nanoseconds always count forward, so a fraction before 1970 belongs to the second before it.
fn timespec_before_epoch(before: Duration) -> Timespec {
    match i64::from(before.subsec_nanos()) {
        0 => Timespec { tv_sec: -seconds_of(before), tv_nsec: 0 },
        nanoseconds => Timespec { tv_sec: -seconds_of(before) - 1, tv_nsec: 1_000_000_000 - nanoseconds },
    }
}

fn seconds_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
