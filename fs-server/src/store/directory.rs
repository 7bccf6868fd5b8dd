//! The state directory itself: where it is, whose it is, and what is in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nearfs_protocol::id::SessionId;
use parking_lot::Mutex;
use rustix::fs::FlockOperation;

/// What the format file says. Another version says something else.
const FORMAT: &[u8] = b"nearfs state 1\n";
/// The format file's name.
const FORMAT_FILE: &str = "format";
/// Where each session has a directory.
const SESSIONS: &str = "sessions";
/// Where open files without a name have one.
const OPEN_FILES: &str = "open";
/// The highest number of a session so far.
const LAST_SESSION: &str = "last-session";
/// Numbers of sessions that are noted as used at once.
const SESSIONS_STEP: u64 = 256;
/// Most bytes of a served directory's path in the name of its state directory, so that people recognize it.
const NAME_BYTES_MAX: usize = 80;

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It would be seen, and changed, by clients.
    #[error("the state directory {} is in the served directory; --state-dir names another", .0.display())]
    Served(PathBuf),
    /// Another server has it.
    #[error("the state directory {} is used by another server; --state-dir names another", .0.display())]
    InUse(PathBuf),
    /// It is of another version, or something else altogether.
    #[error("{} is no state directory of this version of nearfs; --state-dir names another, or remove it", .0.display())]
    Foreign(PathBuf),
    /// Others could change it.
    #[error("the state directory {} belongs to another user; --state-dir names another", .0.display())]
    NotOurs(PathBuf),
    /// The system refuses.
    #[error("cannot use the state directory {}: {source}", .directory.display())]
    Io {
        /// Which.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A state directory that this process has for itself.
pub(super) struct Directory {
    path: PathBuf,
    /// Holds the lock.
    _locked: File,
    numbers: Mutex<Numbers>,
}

struct Numbers {
    last: u64,
    /// As far as they are noted.
    noted: u64,
}

impl Directory {
    /// Makes or takes it for a server of `served`.
    pub(super) fn open(directory: &Path, served: &Path) -> Result<Directory, StateError> {
        let refused = |source| StateError::Io { directory: directory.into(), source };
        refuse_served(directory, served)?;
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refused)?;
        let path = directory.canonicalize().map_err(refused)?;
        refuse_served(&path, served)?;
        let locked = File::open(&path).map_err(refused)?;
        let status = locked.metadata().map_err(refused)?;
        if status.uid() != rustix::process::geteuid().as_raw() {
            return Err(StateError::NotOurs(path));
        }
        rustix::fs::flock(&locked, FlockOperation::NonBlockingLockExclusive).map_err(
            |error| match error {
                rustix::io::Errno::WOULDBLOCK => StateError::InUse(path.clone()),
                other => refused(other.into()),
            },
        )?;
        take(&path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => StateError::Foreign(path.clone()),
            _ => refused(error),
        })?;
        let last = last_session(&path);
        Ok(Directory { path, _locked: locked, numbers: Mutex::new(Numbers { last, noted: last }) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The sessions that are kept.
    pub(super) fn sessions(&self) -> Vec<(SessionId, PathBuf)> {
        let entries = fs::read_dir(self.path.join(SESSIONS)).into_iter().flatten().filter_map(Result::ok);
        let number = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut sessions: Vec<_> =
            entries.filter_map(|entry| Some((SessionId(number(&entry)?), entry.path()))).collect();
        sessions.sort_unstable_by_key(|(session, _)| session.0);
        sessions
    }

    /// The directory of a session.
    pub(super) fn session(&self, session: SessionId) -> PathBuf {
        self.path.join(SESSIONS).join(session.0.to_string())
    }

    /// Removes what was a session.
    pub(super) fn remove(&self, session: &Path) {
        if let Err(error) = fs::remove_dir_all(session) {
            log::warn!("cannot remove {}: {error}", session.display());
        }
    }

    pub(super) fn open_files(&self) -> PathBuf {
        self.path.join(OPEN_FILES)
    }

    /// A number that no session has had. Numbers are noted some at a time, before they are used; where that is not
    /// possible they go on with the time.
    pub(super) fn next_session(&self) -> SessionId {
        let mut numbers = self.numbers.lock();
        if numbers.last >= numbers.noted {
            let noted = numbers.last + SESSIONS_STEP;
            match write_whole(&self.path, LAST_SESSION, format!("{noted}\n").as_bytes()) {
                Ok(()) => numbers.noted = noted,
                Err(error) => {
                    log::warn!("cannot write to {}: {error}", self.path.join(LAST_SESSION).display());
                    numbers.last = numbers.last.max(number_by_time());
                }
            }
        }
        numbers.last += 1;
        SessionId(numbers.last)
    }
}

/// Where a server of `served` that listens at `addresses` keeps its state unless it is told, the first choice first.
/// None at all if every place would be in the served directory.
pub fn default_directories(served: &Path, addresses: &[String]) -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let bases = if rustix::process::geteuid().is_root() {
        vec![Some("/var/lib".into()), Some("/run".into())]
    } else {
        let home = || Some(variable("HOME")?.join(".local/state"));
        vec![variable("XDG_STATE_HOME").or_else(home), variable("XDG_RUNTIME_DIR")]
    };
    let name = name_of(served, addresses);
    let places = bases.into_iter().flatten().map(|base: PathBuf| base.join("nearfs").join(&name));
    places.filter(|place| refuse_served(place, served).is_ok()).collect()
}

/// Readable, and different for different servers.
fn name_of(served: &Path, addresses: &[String]) -> String {
    let mut whole = served.as_os_str().as_bytes().to_vec();
    for address in addresses {
        whole.push(0);
        whole.extend_from_slice(address.as_bytes());
    }
    let path = served.to_string_lossy();
    let mut readable: String =
        path.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let from = readable.len().saturating_sub(NAME_BYTES_MAX);
    readable.drain(..from);
    let hash = nearfs_protocol::session::server::fingerprint(&whole);
    format!("{}-{hash:016x}", readable.trim_matches('-'))
}

/// As far as the path exists its links are followed.
fn refuse_served(directory: &Path, served: &Path) -> Result<(), StateError> {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.into());
    let existing = absolute.ancestors().find_map(|part| part.canonicalize().ok().map(|real| (part, real)));
    let real = match existing {
        Some((part, real)) => real.join(absolute.strip_prefix(part).unwrap_or(Path::new(""))),
        None => absolute,
    };
    if real.starts_with(served) { Err(StateError::Served(directory.into())) } else { Ok(()) }
}

/// Checks what is there, or begins anew in an empty directory.
fn take(path: &Path) -> io::Result<()> {
    match fs::read(path.join(FORMAT_FILE)) {
        Ok(format) if format == FORMAT => {}
        Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::read_dir(path)?.next().is_some_and(|entry| !is_leftover(&entry)) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            write_whole(path, FORMAT_FILE, FORMAT)?;
        }
        Err(error) => return Err(error),
    }
    for part in [SESSIONS, OPEN_FILES] {
        match DirBuilder::new().mode(0o700).create(path.join(part)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// What was being written when a server was killed that had only just begun.
fn is_leftover(entry: &io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.file_name() == format!("{FORMAT_FILE}.new").as_str())
}

/// Whatever the file says, no session that is still there has a higher number. One that cannot be read is as good as
/// the time.
fn last_session(path: &Path) -> u64 {
    match fs::read_to_string(path.join(LAST_SESSION)) {
        Ok(text) if text.ends_with('\n') && text.trim_end().parse::<u64>().is_ok() => {
            text.trim_end().parse().unwrap_or(0)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Ok(_) | Err(_) => {
            log::warn!(
                "{} is damaged: numbers of sessions go on with the time",
                path.join(LAST_SESSION).display()
            );
            number_by_time()
        }
    }
}

/// Higher than that of any session before: no server begins one each nanosecond.
fn number_by_time() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// Readers see all of it or what was there before.
fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = directory.join(format!("{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    fs::rename(new, directory.join(name))
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
