//! What the system tells of a node, in the protocol's words.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nearfs_protocol::attr::{Attr, FileKind, StatFs, Time};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Generation, Node};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp};

use super::device::{Device, DeviceNumber};
use super::raw::FileHandle;
use super::{Export, mix};
use crate::errno::from_os;

/// Where change times are coarse, a change this soon after the last one may not show: four ticks of a kernel with the
/// longest tick, and more than the 10 ms of ext3.
const COARSE_TIMES: Duration = Duration::from_millis(40);

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

impl Export {
    /// The attributes of an open node (also one opened with `O_PATH`).
    pub(crate) fn attr(&self, fd: impl AsFd) -> Result<Attr, Errno> {
        self.attr_at(fd.as_fd(), c"", AtFlags::EMPTY_PATH)
    }

    /// The attributes of a name in a directory; a symlink's own.
    pub(crate) fn attr_of(&self, directory: impl AsFd, name: &CStr) -> Result<Attr, Errno> {
        self.attr_at(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
    }

    fn attr_at(&self, fd: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<Attr, Errno> {
        let stat = rustix::fs::statx(fd, name, flags, WANTED).map_err(from_os)?;
        let number = device_number(&stat);
        let device = match self.devices.known(number) {
            Some(device) => device,
            None => self.meet_device(number, fd, name)?,
        };
        let btime = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let btime = btime.then(|| time(stat.stx_btime));
        let handle = if device.fine_times && btime.is_some() { None } else { FileHandle::of(fd, name).ok() };
        let node = Node {
            id: self.fold(number, device, stat.stx_ino)?,
            generation: generation(btime, handle.as_ref()),
        };
        let mut attr = attr(&stat, node, device, btime);
        attr.nlink = attr.nlink.saturating_sub(self.unnamed.names_of(node.id));
        Ok(attr)
    }

    pub(super) fn meet_device(
        &self,
        number: DeviceNumber,
        fd: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<Device, Errno> {
        let opened;
        let on_device = if name.is_empty() {
            fd
        } else {
            opened = self.open_path(fd, name)?;
            opened.as_fd()
        };
        self.devices.meet(number, on_device).map_err(from_os)
    }

    /// The device that a node is on.
    pub(crate) fn device_of(&self, fd: BorrowedFd<'_>) -> Result<(DeviceNumber, Device), Errno> {
        let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::INO).map_err(from_os)?;
        let number = device_number(&stat);
        match self.devices.known(number) {
            Some(device) => Ok((number, device)),
            None => Ok((number, self.meet_device(number, fd, c"")?)),
        }
    }

    /// The figures of the file system that a node is on.
    pub(crate) fn stat_fs(&self, fd: impl AsFd) -> Result<StatFs, Errno> {
        let figures = rustix::fs::fstatvfs(fd).map_err(from_os)?;
        Ok(StatFs {
            block_bytes: figures.f_frsize as u32,
            io_bytes: figures.f_bsize as u32,
            blocks: figures.f_blocks,
            blocks_free: figures.f_bfree,
            blocks_available: figures.f_bavail,
            files: figures.f_files,
            files_free: figures.f_ffree,
            name_bytes_max: figures.f_namemax as u32,
        })
    }
}

/// What a node is, by the type bits of its mode or of a directory entry.
pub(crate) fn kind(file_type: FileType) -> Option<FileKind> {
    match file_type {
        FileType::RegularFile => Some(FileKind::File),
        FileType::Directory => Some(FileKind::Directory),
        FileType::Symlink => Some(FileKind::Symlink),
        FileType::Fifo => Some(FileKind::Fifo),
        FileType::Socket => Some(FileKind::Socket),
        FileType::CharacterDevice => Some(FileKind::CharDevice),
        FileType::BlockDevice => Some(FileKind::BlockDevice),
        FileType::Unknown => None,
    }
}

/// The same where type bits may be missing, which means a regular file (mknod(2)).
pub(crate) fn kind_of_mode(mode: u32) -> FileKind {
    kind(FileType::from_raw_mode(mode)).unwrap_or(FileKind::File)
}

fn attr(stat: &Statx, node: Node, device: Device, btime: Option<Time>) -> Attr {
    let mode = u32::from(stat.stx_mode);
    let kind = kind(FileType::from_raw_mode(mode)).unwrap_or(FileKind::File);
    let ctime = time(stat.stx_ctime);
    Attr {
        node,
        change: change(ctime, device),
        kind,
        mode: mode & 0o7777,
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: match kind {
            FileKind::CharDevice | FileKind::BlockDevice => {
                rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor)
            }
            FileKind::File | FileKind::Directory | FileKind::Symlink | FileKind::Fifo | FileKind::Socket => 0,
        },
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        blksize: stat.stx_blksize,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime,
        btime,
    }
}

pub(super) fn device_number(stat: &Statx) -> DeviceNumber {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

pub(super) fn time(stamp: StatxTimestamp) -> Time {
    Time { secs: stamp.tv_sec, nanos: stamp.tv_nsec }
}

fn nanos(time: Time) -> u64 {
    time.secs.wrapping_mul(1_000_000_000).wrapping_add(i64::from(time.nanos)) as u64
}

/// The birth time tells apart what had one inode number, where a look forces the next stamp to be another; elsewhere
/// the file system's own generation, which is in the handle, is mixed in.
fn generation(btime: Option<Time>, handle: Option<&FileHandle>) -> Generation {
    let born = mix(btime.map_or(0, nanos));
    let bytes = handle.map_or(&[][..], FileHandle::bytes);
    Generation(bytes.chunks(8).fold(born, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(sum ^ u64::from_le_bytes(word))
    }))
}

fn change(ctime: Time, device: Device) -> Change {
    let stamp = Change(nanos(ctime));
    if device.fine_times {
        return stamp;
    }
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return Change::UNSURE };
    let settled = now.saturating_sub(COARSE_TIMES).as_nanos();
    let settled = ctime.secs < 0 || u128::from(stamp.0) < settled;
    if settled { stamp } else { Change::UNSURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_stay_distinct() {
        let stamps = [(-1, 999_999_999), (-1, 0), (0, 0), (0, 1), (-2, 5)];
        let numbers: std::collections::HashSet<_> =
            stamps.iter().map(|&(secs, nanos_)| nanos(Time { secs, nanos: nanos_ })).collect();
        assert_eq!(numbers.len(), stamps.len());
    }
}
