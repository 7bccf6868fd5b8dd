//! Why a command failed, in one line, and the exit code that goes with it.

use std::io;
use std::path::Path;

use nearfs_client::cancel::Cancel;
use nearfs_client::error::ConnectError;
use nearfs_client::remote::path::printable;
use nearfs_client::remote::{Reason, RemoteError};
use nearfs_client::transfer::local_words;
use nearfs_fuse_client::secrecy::SecrecyError;
use nearfs_transport::address::SourceError;

/// Some of several things failed, or one did in a way that has no code of its own.
const FAILED: u8 = 1;
/// It was typed wrong.
const USAGE: u8 = 2;
/// The server cannot be reached, does not answer, or does not admit this client.
const UNREACHABLE: u8 = 3;
/// What was named is not there.
const NOT_FOUND: u8 = 4;
/// Two contents that should be the same differ.
const DIFFERS: u8 = 5;
/// A person ended it: 128 and SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// What the exit codes mean, for the manual.
pub(crate) const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "All is done."),
    ("1", "Some of it failed; lines on standard error say what and why."),
    ("2", "The command line is wrong."),
    ("3", "The server cannot be reached, does not answer, or does not admit this client."),
    ("4", "What was named is not there."),
    ("5", "Contents differ that should be the same."),
    ("130", "Ended by Ctrl-C."),
];

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It was typed wrong.
    #[error("{0}")]
    Usage(String),
    /// There is no server to ask.
    #[error("not connected; use `connect HOST [PORT]` first")]
    NotConnected,
    /// There is no connection to be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A connection that others could read along.
    #[error(transparent)]
    Insecure(#[from] SecrecyError),
    /// What was meant to be a source is none.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The server says so.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// This machine says so.
    #[error("{path}: {}", local_words(.error))]
    Local { path: String, error: io::Error },
    /// It was not done, for this reason.
    #[error("{0}")]
    Refused(String),
    /// What was named is not there.
    #[error("{0}")]
    Missing(String),
    /// Contents differ that should be the same.
    #[error("{0}")]
    Differs(String),
    /// A person ended it.
    #[error("interrupted")]
    Interrupted,
    /// Whoever reads the output has enough of it.
    #[error("the output is not wanted any more")]
    Unread,
    /// All has been told already; this is the code.
    #[error("some of it failed")]
    Told(u8),
}

/// Ends a command that was to be ended.
pub(crate) fn go_on(cancel: &Cancel) -> Result<(), Failure> {
    if cancel.is_cancelled() { Err(Failure::Interrupted) } else { Ok(()) }
}

impl Failure {
    /// A failure with something on this machine.
    pub(crate) fn local(path: &Path) -> impl Fn(io::Error) -> Failure {
        let path = printable(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
        move |error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Unread,
            _ => Failure::Local { path: path.clone(), error },
        }
    }

    /// The code with which a program ends.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) | Failure::Source(_) => USAGE,
            Failure::NotConnected | Failure::Insecure(_) => UNREACHABLE,
            Failure::Connect(error) => error.exit_code(),
            Failure::Remote(error) => match &error.reason {
                Reason::Interrupted => INTERRUPTED,
                Reason::Connect(_) | Reason::SessionOver(_) => UNREACHABLE,
                _ if error.is_unanswered() => UNREACHABLE,
                _ if error.is_not_found() => NOT_FOUND,
                Reason::Errno(_) | Reason::Name(_) | Reason::LinkLeaves { .. } | Reason::TooDeep(_) => FAILED,
            },
            Failure::Local { error, .. } if error.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Failure::Local { .. } | Failure::Refused(_) => FAILED,
            Failure::Missing(_) => NOT_FOUND,
            Failure::Differs(_) => DIFFERS,
            Failure::Interrupted => INTERRUPTED,
            Failure::Unread => 0,
            Failure::Told(code) => *code,
        }
    }

    /// Whether whatever else was to be done shall be left.
    pub(crate) fn ends_all(&self) -> bool {
        matches!(self, Failure::Interrupted | Failure::Unread)
            || matches!(self.code(), INTERRUPTED | UNREACHABLE)
    }
}

/// How several things went that were to be done in one command.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    done: u64,
    failed: u64,
    code: u8,
}

impl Tally {
    /// One more is done.
    pub(crate) fn done(&mut self) {
        self.done += 1;
    }

    /// One more failed with this code.
    pub(crate) fn failed(&mut self, code: u8) {
        self.code = match self.failed {
            0 => code,
            _ if self.code == code => code,
            _ => FAILED,
        };
        self.failed += 1;
    }

    /// What becomes of the command: what failed has been told.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self {
            Tally { failed: 0, .. } => Ok(()),
            Tally { done: 0, code, .. } => Err(Failure::Told(code)),
            Tally { .. } => Err(Failure::Told(FAILED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(done: u64, failures: &[u8]) -> u8 {
        let mut tally = Tally { done, ..Tally::default() };
        failures.iter().for_each(|code| tally.failed(*code));
        tally.finish().map_or_else(|failure| failure.code(), |()| 0)
    }

    #[test]
    fn a_code_says_what_failed_if_nothing_else_was_done() {
        assert_eq!(code(0, &[]), 0);
        assert_eq!(code(3, &[]), 0);
        assert_eq!(code(0, &[NOT_FOUND, NOT_FOUND]), NOT_FOUND);
        assert_eq!(code(0, &[NOT_FOUND, FAILED, NOT_FOUND]), FAILED);
        assert_eq!(code(1, &[NOT_FOUND]), FAILED);
    }

    #[test]
    fn the_systems_words_read_as_ours_do() {
        let missing = std::fs::read("/no/such/file").unwrap_err();
        let failure = Failure::local(Path::new("/no/such/file"))(missing);
        assert_eq!(failure.to_string(), "/no/such/file: no such file or directory");
        assert_eq!(failure.code(), NOT_FOUND);
    }
}
