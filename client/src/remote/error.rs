//! Why something could not be done, in words.

use nearfs_protocol::errno::Errno;
use nearfs_protocol::name::NameError;

use crate::error::ConnectError;
use crate::remote::path::{RemotePath, printable};

/// What was wrong, and with what. Reads as one line: `/a/b: no such file or directory`.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct RemoteError {
    /// About what, for people.
    pub path: String,
    /// What was wrong.
    #[source]
    pub reason: Reason,
}

/// What can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The server, or the way to it, says so.
    #[error("{}", words(*.0))]
    Errno(Errno),
    /// Ctrl-C, or what else stands for it.
    #[error("interrupted")]
    Interrupted,
    /// It cannot be a path.
    #[error("{0}")]
    Name(#[from] NameError),
    /// A symbolic link that points out of the share, where a client cannot follow it.
    #[error("the symbolic link {link} leads out of the share, to {target}")]
    LinkLeaves {
        /// Where it is.
        link: RemotePath,
        /// What it says.
        target: String,
    },
    /// It lies too many directories below what was named.
    #[error("more than {0} directories below what was named; name it by itself")]
    TooDeep(usize),
    /// The server was started again, or has given the session up. Whether a change that was asked for has been carried
    /// out, nobody can say.
    #[error("the connection was lost for good: {0}")]
    SessionOver(String),
    /// The session was over, and there was no new one to be had.
    #[error("{0}")]
    Connect(#[from] ConnectError),
}

impl RemoteError {
    /// An error about a path.
    pub fn new(path: &RemotePath, reason: impl Into<Reason>) -> RemoteError {
        RemoteError { path: path.to_string(), reason: reason.into() }
    }

    /// An error about something that is no path yet.
    pub fn about(text: &[u8], reason: impl Into<Reason>) -> RemoteError {
        RemoteError { path: printable(text), reason: reason.into() }
    }

    /// The number for programs (errno(3)).
    pub fn errno(&self) -> Errno {
        self.reason.errno()
    }

    /// Whether the name is not there; a file where a directory should be on the way to it counts as well.
    pub fn is_not_found(&self) -> bool {
        matches!(self.errno(), Errno::ENOENT | Errno::ENOTDIR)
    }

    /// Whether the server did not answer in time.
    pub fn is_unanswered(&self) -> bool {
        self.errno() == Errno::ETIMEDOUT
    }

    /// Whether a person ended it.
    pub fn is_interrupted(&self) -> bool {
        matches!(self.reason, Reason::Interrupted)
    }
}

impl Reason {
    /// The number for programs.
    pub fn errno(&self) -> Errno {
        match self {
            Reason::Errno(errno) => *errno,
            Reason::Interrupted => Errno::EINTR,
            Reason::Name(NameError::TooLong) => Errno::ENAMETOOLONG,
            Reason::Name(NameError::Invalid) => Errno::EINVAL,
            Reason::LinkLeaves { .. } => Errno::EXDEV,
            Reason::TooDeep(_) => Errno::ELOOP,
            Reason::SessionOver(_) => Errno::EIO,
            Reason::Connect(_) => Errno::ENOTCONN,
        }
    }
}

impl From<Errno> for Reason {
    fn from(errno: Errno) -> Reason {
        match errno {
            Errno::EINTR => Reason::Interrupted,
            errno => Reason::Errno(errno),
        }
    }
}

/// What an error means to whoever asked for a file.
pub fn words(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => "not permitted",
        Errno::ENOENT => "no such file or directory",
        Errno::EINTR => "interrupted",
        Errno::EIO => "input/output error on the server",
        Errno::ENXIO => "no such device or address",
        Errno::E2BIG => "too large a request",
        Errno::EBADF => "the file is not open any more",
        Errno::EAGAIN => "the server is busy, try again",
        Errno::ENOMEM => "the server is out of memory",
        Errno::EACCES => "permission denied",
        Errno::EBUSY => "in use",
        Errno::EEXIST => "already exists",
        Errno::EXDEV => "on another file system",
        Errno::ENODEV => "no such device",
        Errno::ENOTDIR => "not a directory",
        Errno::EISDIR => "is a directory",
        Errno::EINVAL => "not a valid request",
        Errno::ENFILE | Errno::EMFILE => "the server has too many files open",
        Errno::ENOTTY => "not possible with this kind of file",
        Errno::ETXTBSY => "the program is running",
        Errno::EFBIG => "the file would be too large",
        Errno::ENOSPC => "the server's disk is full",
        Errno::ESPIPE => "cannot seek in it",
        Errno::EROFS => "the share is read-only",
        Errno::EMLINK => "too many links",
        Errno::EPIPE => "the other side has gone",
        Errno::ERANGE => "the result is too large",
        Errno::EDEADLK => "would wait for itself",
        Errno::ENAMETOOLONG => "the name is too long",
        Errno::ENOLCK => "no more locks",
        Errno::ENOSYS => "the server cannot do that",
        Errno::ENOTEMPTY => "the directory is not empty",
        Errno::ELOOP => "too many symbolic links",
        Errno::ENODATA => "no such attribute",
        Errno::EPROTO => "the server broke the protocol",
        Errno::EOVERFLOW => "the value is too large",
        Errno::EOPNOTSUPP => "not supported there",
        Errno::ECONNRESET => "the connection was lost",
        Errno::ENOTCONN => "not connected",
        Errno::ETIMEDOUT => "the server did not answer in time",
        Errno::ESTALE => "it has been removed meanwhile",
        Errno::EDQUOT => "the disk quota is used up",
        Errno::ECANCELED => "given up before it was done",
    }
}
