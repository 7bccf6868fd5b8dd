//! What the operating system's errors become on the wire: one table.

use std::io;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::name::NameError;

/// The errno that the client shall see for an error of a system call.
///
/// Two errnos of Linux have two names for programs to compare with but one number, so that they need no line
/// here: `EWOULDBLOCK` is `EAGAIN`, `ENOTSUP` is `EOPNOTSUPP`. What the protocol does not know becomes `EIO`.
pub(crate) fn from_os(error: rustix::io::Errno) -> Errno {
    match error {
        // The server ran out of descriptors, not the program: it must not look for a leak of its own.
        rustix::io::Errno::MFILE => Errno::ENFILE,
        other => Errno::from_os(other.raw_os_error()),
    }
}

/// The same for the standard library's errors.
pub(crate) fn from_io(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, |number| from_os(rustix::io::Errno::from_raw_os_error(number)))
}

/// A name that no directory can have: why, in the words of path_resolution(7).
pub(crate) fn from_name(error: NameError) -> Errno {
    match error {
        NameError::Invalid => Errno::EINVAL,
        NameError::TooLong => Errno::ENAMETOOLONG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_protocol_knows_passes_and_the_rest_is_an_io_error() {
        assert_eq!(from_os(rustix::io::Errno::NOENT), Errno::ENOENT);
        assert_eq!(from_os(rustix::io::Errno::NOTSUP), Errno::EOPNOTSUPP);
        assert_eq!(from_os(rustix::io::Errno::WOULDBLOCK), Errno::EAGAIN);
        assert_eq!(from_os(rustix::io::Errno::MFILE), Errno::ENFILE);
        assert_eq!(from_os(rustix::io::Errno::from_raw_os_error(4000)), Errno::EIO);
        assert_eq!(from_io(&io::Error::other("no number")), Errno::EIO);
        assert_eq!(from_name(NameError::TooLong), Errno::ENAMETOOLONG);
    }
}
