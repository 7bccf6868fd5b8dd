//! The errors that cross the wire.

use serde::{Deserialize, Serialize};

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $number:literal),+ $(,)?) => {
        /// Why an operation was refused: a closed set with Linux's numbers (errno(3)), whatever the
        /// machine that serves runs on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u16", into = "u16")]
        pub enum Errno { $($(#[$doc])* $name = $number),+ }

        impl Errno {
            /// Every errno there is, in numeric order.
            pub const ALL: &[Errno] = &[$(Errno::$name),+];

            /// The errno with this Linux number, if it may cross the wire.
            pub fn from_number(number: i32) -> Option<Errno> {
                match number { $($number => Some(Errno::$name),)+ _ => None }
            }

            /// Its symbol, as `errno -l` prints it.
            pub fn symbol(self) -> &'static str {
                match self { $(Errno::$name => stringify!($name)),+ }
            }
        }
    };
}

errnos! {
    /// Operation not permitted.
    EPERM = 1,
    /// No such file or directory.
    ENOENT = 2,
    /// Interrupted.
    EINTR = 4,
    /// Input/output error.
    EIO = 5,
    /// No such device or address.
    ENXIO = 6,
    /// Argument list too long.
    E2BIG = 7,
    /// Bad file descriptor.
    EBADF = 9,
    /// Try again.
    EAGAIN = 11,
    /// Out of memory.
    ENOMEM = 12,
    /// Permission denied.
    EACCES = 13,
    /// Device or resource busy.
    EBUSY = 16,
    /// File exists.
    EEXIST = 17,
    /// Cross-device link.
    EXDEV = 18,
    /// No such device.
    ENODEV = 19,
    /// Not a directory.
    ENOTDIR = 20,
    /// Is a directory.
    EISDIR = 21,
    /// Invalid argument.
    EINVAL = 22,
    /// Too many open files in system.
    ENFILE = 23,
    /// Too many open files.
    EMFILE = 24,
    /// Inappropriate ioctl for device.
    ENOTTY = 25,
    /// Text file busy.
    ETXTBSY = 26,
    /// File too large.
    EFBIG = 27,
    /// No space left on device.
    ENOSPC = 28,
    /// Illegal seek.
    ESPIPE = 29,
    /// Read-only file system.
    EROFS = 30,
    /// Too many links.
    EMLINK = 31,
    /// Broken pipe.
    EPIPE = 32,
    /// Result not representable.
    ERANGE = 34,
    /// Deadlock avoided.
    EDEADLK = 35,
    /// File name too long.
    ENAMETOOLONG = 36,
    /// No locks available.
    ENOLCK = 37,
    /// Not implemented.
    ENOSYS = 38,
    /// Directory not empty.
    ENOTEMPTY = 39,
    /// Too many symbolic links.
    ELOOP = 40,
    /// No such attribute.
    ENODATA = 61,
    /// Protocol error.
    EPROTO = 71,
    /// Value too large.
    EOVERFLOW = 75,
    /// Operation not supported.
    EOPNOTSUPP = 95,
    /// Connection reset.
    ECONNRESET = 104,
    /// Not connected.
    ENOTCONN = 107,
    /// Timed out.
    ETIMEDOUT = 110,
    /// The node is gone, or belongs to another life of the server.
    ESTALE = 116,
    /// Disk quota exceeded.
    EDQUOT = 122,
    /// Cancelled: the operation was not done and never will be.
    ECANCELED = 125,
}

impl Errno {
    /// Its Linux number.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The errno for a number of the operating system. What may not cross the wire becomes `EIO`.
    pub fn from_os(number: i32) -> Errno {
        Errno::from_number(number).unwrap_or(Errno::EIO)
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.symbol())
    }
}

impl std::error::Error for Errno {}

impl TryFrom<u16> for Errno {
    type Error = UnknownErrno;
    fn try_from(number: u16) -> Result<Errno, UnknownErrno> {
        Errno::from_number(i32::from(number)).ok_or(UnknownErrno(number))
    }
}

impl From<Errno> for u16 {
    fn from(errno: Errno) -> u16 {
        errno as u16
    }
}

/// A number that is no errno of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no errno of the protocol")]
pub struct UnknownErrno(u16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_there_and_back() {
        for &errno in Errno::ALL {
            assert_eq!(Errno::from_number(errno.number()), Some(errno));
            assert_eq!(Errno::try_from(u16::from(errno)), Ok(errno));
        }
        assert_eq!(Errno::from_os(12345), Errno::EIO);
        assert!(Errno::try_from(0).is_err());
    }
}
