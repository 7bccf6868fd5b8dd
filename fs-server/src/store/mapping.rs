//! A part of a file in memory: what is written there is the kernel's at once, and outlives the process.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A part of a file that may be read and written.
pub(super) struct Mapping {
    start: *mut u8,
    length: usize,
}

// SAFETY: the memory belongs to the mapping alone and is reached through `&mut self` or `&self` by Rust's usual rules.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes from `offset` on, which is a multiple of a page. Bytes that the file does not have, or has no
    /// room for on its disk, must not be touched: see [`allocate`].
    pub(super) fn new(file: &File, offset: usize, length: usize) -> io::Result<Mapping> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory. The file is the server's
        // own, in a directory that is closed to others, and nobody maps the same part twice.
        let start =
            unsafe { mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, file, offset as u64)? };
        Ok(Mapping { start: start.cast(), length })
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is that long and lives as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into the mapping any more. It cannot fail for a mapping that exists.
        let _ = unsafe { munmap(self.start.cast(), self.length) };
    }
}

/// Gives a part of a file its room on the disk, so that a full disk is an error here and not a signal later.
pub(super) fn allocate(file: &File, offset: usize, length: usize) -> io::Result<()> {
    loop {
        // SAFETY: a descriptor that is open, and numbers.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), offset as i64, length as i64) } {
            0 => return Ok(()),
            libc::EINTR => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}
