//! Regular files: opened, created, read, written, allocated, copied.

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::{SeekTarget, WriteSync};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::ReadWriteFlags;

use super::{Export, proc_path, raw};
use crate::errno::from_os;

/// Bytes that are copied at a time where the kernel cannot copy by itself.
const COPY_PIECE_BYTES: usize = 256 * 1024;

/// The flag by which the client's kernel says that a file is opened to be executed (`__FMODE_EXEC`).
const FOR_EXECUTION: u32 = 0x20;

/// How a file is opened: what is let through of open(2)'s flags. `O_APPEND` is the business of each write, the page
/// cache serves `O_DIRECT`, and nothing here ever blocks or follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) truncate: bool,
    /// What each write must bring to stable storage (`O_SYNC`, `O_DSYNC`).
    pub(crate) sync: WriteSync,
    /// Whether it is opened only to be executed, for which the right to read is not needed.
    pub(crate) execute: bool,
    no_atime: bool,
}

impl Opening {
    /// Opens for reading, as a lookup does.
    pub(crate) const READ: Opening = Opening {
        readable: true,
        writable: false,
        truncate: false,
        sync: WriteSync::None,
        execute: false,
        no_atime: false,
    };

    /// Opens again what was open before the server was started again.
    pub(crate) const fn again(readable: bool, writable: bool, sync: WriteSync) -> Opening {
        Opening { readable, writable, sync, ..Opening::READ }
    }

    /// Understands Linux's `O_*`.
    ///
    /// Errors: `EINVAL` for no access mode.
    pub(crate) fn from_flags(bits: u32) -> Result<Opening, Errno> {
        let flags = OFlags::from_bits_retain(bits);
        let (readable, writable) = match flags & OFlags::RWMODE {
            OFlags::RDONLY => (true, false),
            OFlags::WRONLY => (false, true),
            OFlags::RDWR => (true, true),
            _ => return Err(Errno::EINVAL),
        };
        // O_SYNC has the bit of O_DSYNC and one more.
        let sync = match bits & libc::O_SYNC as u32 {
            0 => WriteSync::None,
            data if data == libc::O_DSYNC as u32 => WriteSync::Data,
            _ => WriteSync::All,
        };
        Ok(Opening {
            readable,
            writable,
            truncate: flags.contains(OFlags::TRUNC),
            sync,
            execute: bits & FOR_EXECUTION != 0 && !writable && !flags.contains(OFlags::TRUNC),
            no_atime: flags.contains(OFlags::NOATIME),
        })
    }

    /// Never blocks, whatever it turns out to be.
    fn flags(self) -> OFlags {
        let access = match (self.readable, self.writable) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (true | false, false) => OFlags::RDONLY,
        };
        let atime = if self.no_atime { OFlags::NOATIME } else { OFlags::empty() };
        access | atime | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC
    }
}

/// How long a read may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Only what is in memory: `EAGAIN` if a disk would have to be waited for, `EOPNOTSUPP` if the file system cannot
    /// tell.
    Cached,
    /// As long as it takes.
    Disk,
}

/// A part of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Export {
    /// Opens a name that was a regular file a moment ago, without truncating: the caller makes sure that what was opened
    /// is what it meant. What took its place meanwhile is at worst a fifo or device opened for that moment.
    pub(crate) fn open_name(
        &self,
        directory: impl AsFd,
        name: &CStr,
        opening: Opening,
    ) -> Result<OwnedFd, Errno> {
        let flags = opening.flags() | OFlags::NOFOLLOW;
        rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(from_os)
    }

    /// Opens a regular file that is at hand for looking, without truncating. If another program of the server has a
    /// lease on it (fcntl(2), `F_SETLEASE`), `patience` decides between `EAGAIN` and waiting until it is given up.
    pub(crate) fn open_node(
        &self,
        node: BorrowedFd<'_>,
        opening: Opening,
        patience: Patience,
    ) -> Result<OwnedFd, Errno> {
        let flags = match patience {
            Patience::Cached => opening.flags(),
            Patience::Disk => opening.flags().difference(OFlags::NONBLOCK),
        };
        rustix::fs::open(proc_path(node), flags, Mode::empty()).map_err(from_os)
    }

    /// Opens again what was open before the server was started again, or what was created with a mode that does not let
    /// it be opened: whoever has a descriptor may use it whatever the mode says by now.
    pub(crate) fn open_again(&self, node: BorrowedFd<'_>, opening: Opening) -> Result<OwnedFd, Errno> {
        match self.open_node(node, opening, Patience::Cached) {
            Err(Errno::EACCES) => {
                let mode = self.attr(node)?.mode;
                let path = proc_path(node);
                let set = |mode| rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).map_err(from_os);
                set(mode | 0o600)?;
                let opened = self.open_node(node, opening, Patience::Cached);
                set(mode)?;
                opened
            }
            opened => opened,
        }
    }

    /// Creates a file that must not exist, and opens it; the thread's umask applies.
    pub(crate) fn create(
        &self,
        parent: impl AsFd,
        name: &CStr,
        mode: u32,
        opening: Opening,
    ) -> Result<OwnedFd, Errno> {
        let flags = opening.flags() | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode & 0o7777)).map_err(from_os)
    }

    /// Creates a file without a name, and opens it (`O_TMPFILE`); `linkable` if it may get one later.
    pub(crate) fn create_unnamed(
        &self,
        parent: BorrowedFd<'_>,
        mode: u32,
        opening: Opening,
        linkable: bool,
    ) -> Result<OwnedFd, Errno> {
        let excl = if linkable { OFlags::empty() } else { OFlags::EXCL };
        let flags = opening.flags() | OFlags::TMPFILE | excl;
        rustix::fs::openat(parent, c".", flags, Mode::from_raw_mode(mode & 0o7777)).map_err(from_os)
    }

    /// Fills `room` from `offset` on and returns how many bytes there were: fewer only at the end.
    pub(crate) fn read(
        &self,
        file: impl AsFd,
        room: &mut [u8],
        offset: u64,
        patience: Patience,
    ) -> Result<usize, Errno> {
        check_offset(offset)?;
        let flags = match patience {
            Patience::Cached => ReadWriteFlags::NOWAIT,
            Patience::Disk => ReadWriteFlags::empty(),
        };
        let mut filled = 0;
        while filled < room.len() {
            let rest = &mut [IoSliceMut::new(&mut room[filled..])];
            match rustix::io::preadv2(&file, rest, offset + filled as u64, flags) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(from_os(error)),
            }
        }
        Ok(filled)
    }

    /// Writes at `offset`, all of it or as far as an error allowed: an error is only returned if nothing was written.
    pub(crate) fn write(
        &self,
        file: impl AsFd,
        bytes: &[u8],
        offset: u64,
        sync: WriteSync,
    ) -> Result<usize, Errno> {
        check_offset(offset)?;
        let mut written = 0;
        while written < bytes.len() {
            let rest = &[IoSlice::new(&bytes[written..])];
            match rustix::io::pwritev2(&file, rest, offset + written as u64, sync_flags(sync)) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) if written == 0 => return Err(from_os(error)),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    /// Writes at the end (`O_APPEND`) and returns where that was. The descriptor's own position is used, so that
    /// appends through one descriptor must not run at the same time.
    pub(crate) fn append(
        &self,
        file: impl AsFd,
        bytes: &[u8],
        sync: WriteSync,
    ) -> Result<(u64, usize), Errno> {
        let flags = sync_flags(sync) | ReadWriteFlags::APPEND;
        loop {
            match rustix::io::pwritev2(&file, &[IoSlice::new(bytes)], u64::MAX, flags) {
                Ok(count) => {
                    let end = rustix::fs::seek(&file, SeekFrom::Current(0)).map_err(from_os)?;
                    return Ok((end - count as u64, count));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(from_os(error)),
            }
        }
    }

    /// Brings an open file or directory to stable storage.
    pub(crate) fn sync(&self, file: impl AsFd, data_only: bool) -> Result<(), Errno> {
        if data_only { rustix::fs::fdatasync(file) } else { rustix::fs::fsync(file) }.map_err(from_os)
    }

    /// Brings the whole file system that an open directory is on to stable storage (syncfs(2)).
    pub(crate) fn sync_device(&self, directory: impl AsFd) -> Result<(), Errno> {
        rustix::fs::syncfs(directory).map_err(from_os)
    }

    /// Waits until what is being written of a file is written, and tells what went wrong with it: what
    /// [`Export::sync_device`] does not tell of each file.
    pub(crate) fn await_written(&self, file: impl AsFd) -> Result<(), Errno> {
        raw::await_written(file).map_err(from_os)
    }

    /// Allocates or frees space (fallocate(2)), `mode` being Linux's bits.
    pub(crate) fn allocate(&self, file: impl AsFd, mode: u32, part: Spread) -> Result<(), Errno> {
        let mode = FallocateFlags::from_bits_retain(mode);
        rustix::fs::fallocate(file, mode, part.offset, part.length).map_err(from_os)
    }

    /// Finds the next data or hole (lseek(2)).
    pub(crate) fn seek(&self, file: impl AsFd, offset: u64, target: SeekTarget) -> Result<u64, Errno> {
        let from = match target {
            SeekTarget::Data => SeekFrom::Data(offset),
            SeekTarget::Hole => SeekFrom::Hole(offset),
        };
        rustix::fs::seek(file, from).map_err(from_os)
    }

    /// Copies between two open files; returns how many bytes: fewer than asked for at the end of `from` or if an error
    /// stopped it.
    pub(crate) fn copy(
        &self,
        (from, from_offset): (BorrowedFd<'_>, u64),
        (to, to_offset): (BorrowedFd<'_>, u64),
        length: u64,
    ) -> Result<u64, Errno> {
        let mut copied = 0;
        while copied < length {
            let (mut source, mut target) = (from_offset + copied, to_offset + copied);
            let rest = usize::try_from(length - copied).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), rest) {
                Ok(0) => break,
                Ok(count) => copied += count as u64,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) if copied == 0 && copies_by_hand(error) => {
                    return self.copy_by_hand((from, from_offset), (to, to_offset), length);
                }
                Err(error) if copied == 0 => return Err(from_os(error)),
                Err(_) => break,
            }
        }
        Ok(copied)
    }

    fn copy_by_hand(
        &self,
        (from, from_offset): (BorrowedFd<'_>, u64),
        (to, to_offset): (BorrowedFd<'_>, u64),
        length: u64,
    ) -> Result<u64, Errno> {
        let mut piece = vec![0; COPY_PIECE_BYTES.min(usize::try_from(length).unwrap_or(usize::MAX))];
        let mut copied = 0;
        while copied < length {
            let want = piece.len().min(usize::try_from(length - copied).unwrap_or(usize::MAX));
            let count = self.read(from, &mut piece[..want], from_offset + copied, Patience::Disk);
            let written =
                count.and_then(|count| self.write(to, &piece[..count], to_offset + copied, WriteSync::None));
            match written {
                Ok(0) => break,
                Ok(count) => copied += count as u64,
                Err(error) if copied == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(copied)
    }
}

/// Offsets beyond the largest file are refused here, because the kernel takes one of them for "wherever the descriptor
/// stands".
fn check_offset(offset: u64) -> Result<(), Errno> {
    i64::try_from(offset).map(|_| ()).map_err(|_| Errno::EINVAL)
}

/// Whether the file systems cannot copy to each other, rather than must not.
fn copies_by_hand(error: rustix::io::Errno) -> bool {
    matches!(error, rustix::io::Errno::XDEV | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS)
}

fn sync_flags(sync: WriteSync) -> ReadWriteFlags {
    match sync {
        WriteSync::None => ReadWriteFlags::empty(),
        WriteSync::Data => ReadWriteFlags::DSYNC,
        WriteSync::All => ReadWriteFlags::DSYNC | ReadWriteFlags::SYNC,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_flags_get_through() {
        let opening = Opening::from_flags((libc::O_RDWR | libc::O_TRUNC | libc::O_SYNC) as u32);
        let opening = opening.expect("flags");
        assert_eq!((opening.readable, opening.writable, opening.truncate), (true, true, true));
        assert_eq!(opening.sync, WriteSync::All);
        assert_eq!(Opening::from_flags(libc::O_DSYNC as u32).map(|o| o.sync), Ok(WriteSync::Data));
        let forbidden = libc::O_DIRECT | libc::O_APPEND | libc::O_CREAT | libc::O_ASYNC | libc::O_PATH;
        assert_eq!(Opening::from_flags(forbidden as u32), Ok(Opening::READ));
        assert_eq!(Opening::from_flags(libc::O_ACCMODE as u32), Err(Errno::EINVAL));
    }
}
