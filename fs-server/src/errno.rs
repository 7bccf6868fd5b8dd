//! What the operating system's errors become on the wire: one table.

use nearfs_protocol::errno::Errno;

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
    }
}
