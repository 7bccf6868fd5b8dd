//! Directories, read.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use rustix::fs::{RawDir, SeekFrom};

use super::{Export, stat};
use crate::errno::from_os;

/// A name as the directory itself tells of it.
pub(crate) struct Listed<'a> {
    pub(crate) name: &'a CStr,
    pub(crate) ino: u64,
    pub(crate) kind: Option<FileKind>,
    /// Where the directory is read on after it.
    pub(crate) cookie: u64,
}

impl Export {
    /// Puts an open directory to where a cookie says.
    pub(crate) fn seek_dir(&self, directory: BorrowedFd<'_>, cookie: u64) -> Result<(), Errno> {
        rustix::fs::seek(directory, SeekFrom::Start(cookie)).map(|_| ()).map_err(from_os)
    }

    /// Whether names in an open directory are compared byte for byte for certain: then what it does not list is absent.
    pub(crate) fn has_exact_names(&self, directory: BorrowedFd<'_>) -> bool {
        self.device_of(directory).is_ok_and(|(_, device)| device.has_exact_names(directory))
    }

    /// Reads on in an open directory, at most as many names as fit into `room` in the kernel's own form, and shows each
    /// to `seen`, without `.` and `..`. Returns whether there was anything: nothing is the end.
    pub(crate) fn read_dir(
        &self,
        directory: BorrowedFd<'_>,
        room: &mut [MaybeUninit<u8>],
        mut seen: impl FnMut(Listed<'_>) -> Result<(), Errno>,
    ) -> Result<bool, Errno> {
        let mut entries = RawDir::new(directory, room);
        let mut any = false;
        loop {
            let Some(entry) = entries.next() else { return Ok(any) };
            let entry = entry.map_err(from_os)?;
            any = true;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                let cookie = entry.next_entry_cookie();
                seen(Listed { name, ino: entry.ino(), kind: stat::kind(entry.file_type()), cookie })?;
            }
            if entries.is_buffer_empty() {
                return Ok(any);
            }
        }
    }
}
