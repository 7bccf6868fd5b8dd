//! What people read afterwards: who came and went, what shells did, what failed. One line an event, to the log at
//! info and, where one is kept, to the access log.
//!
//! Names and whatever else comes from outside stand in quotes and are escaped, so that no name can forge a line or
//! reach a terminal. Nothing is put into words unless somebody reads it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::SessionId;
use parking_lot::Mutex;

/// Where events go.
#[derive(Default)]
pub struct Journal {
    access: Option<AccessLog>,
}

/// A file that gets a line for each event.
pub struct AccessLog {
    path: PathBuf,
    file: Mutex<File>,
    /// The last line could not be written, which is said once.
    is_failing: AtomicBool,
}

/// An event that is being put into words: `mkdir session=3 path="docs/new" outcome="done"`.
pub(crate) struct Event(String);

impl Journal {
    /// One that keeps an access log as well.
    pub fn with_access_log(access: AccessLog) -> Journal {
        Journal { access: Some(access) }
    }

    /// Whether anybody reads events.
    pub(crate) fn is_on(&self) -> bool {
        self.access.is_some() || log::log_enabled!(log::Level::Info)
    }

    /// Tells of an event, which is put into words only if somebody reads it.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.is_on() {
            let Event(line) = event();
            log::info!("{line}");
            if let Some(access) = &self.access {
                access.write(&line);
            }
        }
    }

    /// Opens the access log again under its name: whoever rotates logs has moved the old one away.
    pub fn reopen(&self) {
        if let Some(access) = &self.access {
            access.reopen();
        }
    }
}

impl AccessLog {
    /// Opens or makes the file, which its group may read and others may not.
    pub fn open(path: &Path) -> io::Result<AccessLog> {
        let file = Mutex::new(open(path)?);
        Ok(AccessLog { path: path.to_owned(), file, is_failing: AtomicBool::new(false) })
    }

    fn write(&self, line: &str) {
        let line = format!("{:.3} {line}\n", Timestamp::now());
        // In one piece, so that lines stay whole also when the disk is full now and then.
        let written = self.file.lock().write_all(line.as_bytes());
        let was_failing = self.is_failing.swap(written.is_err(), Ordering::Relaxed);
        if let (Err(error), false) = (written, was_failing) {
            log::error!("cannot write to {}: {error}", self.path.display());
        }
    }

    fn reopen(&self) {
        match open(&self.path) {
            Ok(file) => *self.file.lock() = file,
            Err(error) => log::error!("{} stays as it is: {error}", self.path.display()),
        }
    }
}

impl Event {
    /// Something happened.
    pub(crate) fn new(what: &str) -> Event {
        Event(what.to_owned())
    }

    /// To or by this session.
    pub(crate) fn session(self, id: SessionId) -> Event {
        self.number("session", id.0)
    }

    /// With this number.
    pub(crate) fn number(mut self, key: &str, number: u64) -> Event {
        // Writing to a string cannot fail.
        let _ = write!(self.0, " {key}={number}");
        self
    }

    /// With these bytes, in quotes and escaped.
    pub(crate) fn quoted(mut self, key: &str, bytes: &[u8]) -> Event {
        let _ = write!(self.0, " {key}=\"");
        for chunk in bytes.utf8_chunks() {
            // The quotes are double ones, so that a single one stands for itself.
            let _ = write!(self.0, "{}", chunk.valid().escape_debug().to_string().replace(r"\'", "'"));
            for byte in chunk.invalid() {
                let _ = write!(self.0, "\\x{byte:02x}");
            }
        }
        self.0.push('"');
        self
    }

    /// With what became of it.
    pub(crate) fn outcome(self, outcome: Result<(), Errno>) -> Event {
        match outcome {
            Ok(()) => self.quoted("outcome", b"done"),
            Err(errno) => self.quoted("outcome", errno.to_string().as_bytes()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn no_name_forges_a_line() {
        let hostile = b"a\n2026-01-01T00:00:00Z kick session=1 \x1b[2J\"\\ it's \xff\xe2\x80\xae\xc3\xa4";
        let Event(line) =
            Event::new("mkdir").session(SessionId(3)).quoted("path", hostile).outcome(Err(Errno::EEXIST));
        let escaped = r#"a\n2026-01-01T00:00:00Z kick session=1 \u{1b}[2J\"\\ it's \xff\u{202e}ä"#;
        let outcome = Errno::EEXIST.to_string();
        assert_eq!(line, format!(r#"mkdir session=3 path="{escaped}" outcome="{outcome}""#));
    }

    #[test]
    fn lines_go_to_the_file_that_has_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access");
        let journal = Journal::with_access_log(AccessLog::open(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
        journal.tell(|| Event::new("one"));
        std::fs::rename(&path, directory.path().join("access.1")).unwrap();
        journal.tell(|| Event::new("two"));
        journal.reopen();
        journal.tell(|| Event::new("three").number("n", 3));
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        let words = |text: String| -> Vec<String> {
            text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
        };
        assert_eq!(words(read("access.1")), ["one", "two"]);
        assert_eq!(words(read("access")), ["three n=3"]);
        let stamp = read("access");
        let stamp = stamp.split_once(' ').unwrap().0;
        assert!(
            stamp.parse::<Timestamp>().is_ok() && stamp.len() == "2026-11-25T04:00:00.123Z".len(),
            "{stamp}"
        );
    }

    #[test]
    fn nothing_is_put_into_words_for_nobody() {
        // Tests have no logger, so that info is off.
        Journal::default().tell(|| panic!("nobody reads it"));
    }
}
