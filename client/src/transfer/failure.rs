//! Why a file was not transferred, in words, and of which sort the reason is.

use std::io;

use nearfs_protocol::errno::Errno;

use crate::remote::{Reason, RemoteError};

/// What was not transferred, and why. Reads as one line.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {cause}")]
pub struct Failure {
    /// Which file or directory, for people.
    pub name: String,
    /// Why.
    #[source]
    pub cause: Cause,
}

/// Why something was not transferred.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The server, or the way to it.
    #[error("{0}")]
    Remote(Reason),
    /// This machine.
    #[error("{}", local_words(.0))]
    Local(io::Error),
    /// The target has a file of that name.
    #[error("already exists; -f replaces it")]
    Exists,
    /// Source and target are one file, or one lies within the other.
    #[error("is the target itself, or has it inside")]
    Itself,
    /// The content that arrived is not the content that was sent.
    #[error("the content that arrived differs from the source")]
    Differs,
    /// Somebody writes to it.
    #[error("changed while it was being copied")]
    Changed,
    /// Neither a file nor a directory, nor a link that is to be copied.
    #[error("skipped: {0}")]
    Skipped(&'static str),
    /// Nothing has moved for too long.
    #[error("nothing has moved for {0} seconds; -c goes on with it")]
    Stalled(u64),
    /// What a mirror refuses to do without being told twice.
    #[error("{0}")]
    Refused(String),
}

/// What this machine says, without the number behind it, as it stands behind a name.
pub fn local_words(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

impl Failure {
    /// A failure with something.
    pub fn new(name: impl Into<String>, cause: impl Into<Cause>) -> Failure {
        Failure { name: name.into(), cause: cause.into() }
    }
}

impl Cause {
    /// Whether there is no use in going on with other files.
    pub fn ends_all(&self) -> bool {
        match self {
            Cause::Remote(Reason::Interrupted | Reason::SessionOver(_) | Reason::Connect(_)) => true,
            Cause::Remote(reason) => {
                let errno = reason.errno();
                matches!(errno, Errno::ENOSPC | Errno::EROFS | Errno::EDQUOT) || self.is_disconnected()
            }
            Cause::Local(error) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::ReadOnlyFilesystem)
            }
            Cause::Stalled(_) => true,
            Cause::Exists
            | Cause::Itself
            | Cause::Differs
            | Cause::Changed
            | Cause::Skipped(_)
            | Cause::Refused(_) => false,
        }
    }

    /// Whether the server refuses what was to be put there. It is not the source that is to blame then.
    pub(super) fn is_about_target(&self) -> bool {
        match self {
            Cause::Remote(_) | Cause::Exists => true,
            Cause::Local(_)
            | Cause::Itself
            | Cause::Differs
            | Cause::Changed
            | Cause::Skipped(_)
            | Cause::Stalled(_)
            | Cause::Refused(_) => false,
        }
    }

    /// Whether the server, or the way to it, is gone.
    pub fn is_disconnected(&self) -> bool {
        match self {
            Cause::Remote(reason) => {
                matches!(reason, Reason::SessionOver(_) | Reason::Connect(_))
                    || reason.errno() == Errno::ETIMEDOUT
            }
            Cause::Stalled(_) => true,
            Cause::Local(_)
            | Cause::Exists
            | Cause::Itself
            | Cause::Differs
            | Cause::Changed
            | Cause::Skipped(_)
            | Cause::Refused(_) => false,
        }
    }

    /// Whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Cause::Remote(reason) => matches!(reason.errno(), Errno::ENOENT | Errno::ENOTDIR),
            Cause::Local(error) => {
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
            Cause::Exists
            | Cause::Itself
            | Cause::Differs
            | Cause::Changed
            | Cause::Skipped(_)
            | Cause::Stalled(_)
            | Cause::Refused(_) => false,
        }
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Failure {
        Failure { name: error.path, cause: Cause::Remote(error.reason) }
    }
}

impl From<Reason> for Cause {
    fn from(reason: Reason) -> Cause {
        Cause::Remote(reason)
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Cause {
        Cause::Remote(errno.into())
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        Cause::Local(error)
    }
}
