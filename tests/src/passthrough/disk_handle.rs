//! File handles of the filesystem beneath (open_by_handle_at(2)): a way back to an inode without an open
//! descriptor, exact over renames and reuse of inode numbers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The largest handle that Linux gives out (`MAX_HANDLE_SZ`).
const HANDLE_BYTES_MAX: usize = 128;

/// The handle of one inode, laid out as `struct file_handle`.
#[repr(C)]
#[derive(Clone)]
pub(super) struct DiskHandle {
    handle_bytes: libc::c_uint,
    handle_type: libc::c_int,
    handle: [u8; HANDLE_BYTES_MAX],
}

impl DiskHandle {
    /// Asks for the handle of an open inode; `O_PATH` is enough.
    ///
    /// # Errors
    /// EOPNOTSUPP where the filesystem has no handles.
    pub(super) fn of(fd: &OwnedFd) -> io::Result<Self> {
        let mut handle = Self {
            handle_bytes: HANDLE_BYTES_MAX as libc::c_uint,
            handle_type: 0,
            handle: [0; HANDLE_BYTES_MAX],
        };
        let mut mount_id = 0;
        // SAFETY: the structure has the layout the call expects, with as much room behind its head as
        // `handle_bytes` says, and all pointers outlive the call.
        let result = unsafe {
            libc::name_to_handle_at(
                fd.as_raw_fd(),
                c"".as_ptr(),
                (&raw mut handle).cast(),
                &raw mut mount_id,
                libc::AT_EMPTY_PATH,
            )
        };
        if result == 0 { Ok(handle) } else { Err(io::Error::last_os_error()) }
    }

    /// Opens the inode with `O_PATH`; `mount` is any ordinary descriptor on the same filesystem.
    ///
    /// # Errors
    /// ESTALE when the inode is gone, EPERM without the right to read by handle (CAP_DAC_READ_SEARCH).
    pub(super) fn open(&self, mount: &OwnedFd) -> io::Result<OwnedFd> {
        let mut handle = self.clone();
        // SAFETY: as above; the kernel reads no more than `handle_bytes`, which it has set itself.
        let fd = unsafe {
            libc::open_by_handle_at(
                mount.as_raw_fd(),
                (&raw mut handle).cast(),
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has just returned this descriptor, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
