//! System calls that rustix does not offer in the form needed here.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Bytes of a file handle that are kept: ext4 needs 8, xfs up to 16, btrfs 20, tmpfs 12.
const HANDLE_BYTES_MAX: usize = 32;

/// What a file system calls a node by itself, to open it again without a path (open_by_handle_at(2)).
#[derive(Clone, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct FileHandle {
    bytes_used: u32,
    kind: i32,
    bytes: [u8; HANDLE_BYTES_MAX],
}

impl FileHandle {
    /// The handle of a name in a directory, or of the directory itself for an empty name.
    ///
    /// Errors: `EOPNOTSUPP` if the file system has none, `EOVERFLOW` if it is longer than is kept.
    pub(crate) fn of(directory: BorrowedFd<'_>, name: &CStr) -> Result<FileHandle, Errno> {
        let mut handle =
            FileHandle { bytes_used: HANDLE_BYTES_MAX as u32, kind: 0, bytes: [0; HANDLE_BYTES_MAX] };
        let mut mount = 0_i32;
        // SAFETY: the layout is that of `struct file_handle`, with as much room behind it as its first field says.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                directory.as_raw_fd(),
                name.as_ptr(),
                &raw mut handle,
                &raw mut mount,
                libc::AT_EMPTY_PATH,
            )
        };
        checked(outcome).map(|_| handle)
    }

    /// Opens the node, for looking only (`O_PATH`), on the file system that `mount` is on.
    ///
    /// Errors: `ESTALE` if it is gone, `EPERM` without `CAP_DAC_READ_SEARCH`.
    pub(crate) fn open(&self, mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: the kernel only reads the handle, which has the layout of `struct file_handle`.
        let outcome = unsafe {
            libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), std::ptr::from_ref(self), flags)
        };
        // SAFETY: a successful call returns a new descriptor, which nobody else owns.
        checked(outcome).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// What tells it from others, for mixing into a generation.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..(self.bytes_used as usize).min(HANDLE_BYTES_MAX)]
    }
}

/// A handle as it is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredHandle {
    kind: i32,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

impl From<&FileHandle> for StoredHandle {
    fn from(handle: &FileHandle) -> StoredHandle {
        StoredHandle { kind: handle.kind, bytes: handle.bytes().to_vec() }
    }
}

impl StoredHandle {
    /// The handle, if it is as long as one may be.
    pub(crate) fn handle(&self) -> Option<FileHandle> {
        let mut bytes = [0; HANDLE_BYTES_MAX];
        bytes.get_mut(..self.bytes.len())?.copy_from_slice(&self.bytes);
        Some(FileHandle { bytes_used: self.bytes.len() as u32, kind: self.kind, bytes })
    }
}

/// Whether this thread's identity may access an open node (faccessat2(2)); the mask is that of access(2).
pub(crate) fn access(fd: impl AsFd, mask: u8) -> Result<(), Errno> {
    // SAFETY: the path is a constant C string.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            i32::from(mask),
            libc::AT_EMPTY_PATH | libc::AT_EACCESS,
        )
    };
    checked(outcome).map(|_| ())
}

/// Sets a file's size by path (truncate(2)).
pub(crate) fn truncate(path: &CStr, size: u64) -> Result<(), Errno> {
    let size = libc::off64_t::try_from(size).map_err(|_| Errno::FBIG)?;
    // SAFETY: the path is a C string that outlives the call.
    let outcome = unsafe { libc::truncate64(path.as_ptr(), size) };
    checked(i64::from(outcome)).map(|_| ())
}

/// Waits for writes of a file that are under way, and reports those that failed (sync_file_range(2)).
pub(crate) fn await_written(file: impl AsFd) -> Result<(), Errno> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE;
    // SAFETY: a descriptor and plain numbers.
    let outcome = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, flags) };
    checked(i64::from(outcome)).map(|_| ())
}

fn checked(outcome: i64) -> Result<i64, Errno> {
    if outcome >= 0 {
        return Ok(outcome);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
