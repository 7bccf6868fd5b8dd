//! Completion: verbs, files of the server, files of this machine.
//!
//! Names on the server come from listings that are remembered. One that is missing is fetched in the background, and
//! waited for only as long as nobody notices; the next attempt finds it.

use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use lru::LruCache;
use nearfs_client::cancel::Cancel;
use nearfs_client::remote::path::printable;
use nearfs_client::remote::{Remote, RemoteError, RemotePath};
use nearfs_protocol::attr::FileKind;
use parking_lot::Mutex;

use crate::shell::parser::{self, Unfinished, Word};
use crate::shell::state::local_path;
use crate::shell::verb::{self, Side};

/// Directories that are remembered.
const LISTINGS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Names of one directory that are remembered; more do not fit a screen either.
const NAMES_MAX: usize = 10_000;
/// Longest wait for a listing while somebody waits for the completion.
const WAIT_MAX: Duration = Duration::from_millis(80);
/// A listing that is older is fetched again, and used until that is done.
const FRESH_TIME_MAX: Duration = Duration::from_secs(2);

/// Names in a directory, and which are directories.
type Names = Arc<Vec<(Vec<u8>, bool)>>;

/// Listings of the server.
pub(crate) struct Listings(Mutex<LruCache<RemotePath, Listing>>);

struct Listing {
    names: Names,
    since: Instant,
}

impl Default for Listings {
    fn default() -> Self {
        Listings(Mutex::new(LruCache::new(LISTINGS_MAX)))
    }
}

impl Listings {
    /// Remembers what a directory has.
    pub(crate) fn keep(&self, path: &RemotePath, mut names: Vec<(Vec<u8>, bool)>) {
        names.truncate(NAMES_MAX);
        names.sort();
        let listing = Listing { names: Arc::new(names), since: Instant::now() };
        self.0.lock().push(path.clone(), listing);
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    fn get(&self, path: &RemotePath) -> Option<(Names, bool)> {
        let mut listings = self.0.lock();
        let listing = listings.get(path)?;
        Some((Arc::clone(&listing.names), listing.since.elapsed() < FRESH_TIME_MAX))
    }
}

/// What completion has to know of a shell; a copy, because the shell itself waits for the line.
#[derive(Clone, Default)]
pub(crate) struct Completion {
    pub(crate) listings: Arc<Listings>,
    pub(crate) connection: Option<(Remote, RemotePath)>,
    /// Verbs of the user's own, and what each stands for.
    pub(crate) verbs: Vec<(String, String)>,
}

/// One way to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// What people see.
    pub(crate) display: String,
    /// What is put in the place of the word.
    pub(crate) replacement: String,
}

impl Completion {
    /// How the line may go on at its end: from which byte on, and by what.
    pub(crate) fn complete(&self, line: &str) -> (usize, Vec<Candidate>) {
        let Some(Unfinished { before, word, start, is_output }) = parser::unfinished(line.as_bytes()) else {
            return (line.len(), Vec::new());
        };
        let (typed, pattern) = (word.bytes(), word.pattern());
        let side = match before.split_first() {
            _ if is_output => Side::Local,
            None => Side::Verbs,
            Some((first, arguments)) => {
                let name = String::from_utf8_lossy(&first.bytes()).into_owned();
                let meaning = self.verbs.iter().find(|(own, _)| *own == name).map(|(_, meaning)| meaning);
                let is_option = |word: &&Word| word.pattern().starts_with(b"-");
                let number = arguments.len() - arguments.iter().filter(is_option).count();
                verb::side(meaning.unwrap_or(&name), number)
            }
        };
        let candidates = match side {
            Side::Remote => self.remote_like(&typed, false),
            Side::RemoteDirectories => self.remote_like(&typed, true),
            Side::Local => local_like(&typed, &pattern, false),
            Side::LocalDirectories => local_like(&typed, &pattern, true),
            Side::Both => {
                let mut both = self.remote_like(&typed, false);
                both.extend(local_like(&typed, &pattern, false));
                both.sort_by(|one, other| one.replacement.cmp(&other.replacement));
                both.dedup();
                both
            }
            Side::Verbs => self.verbs_like(&typed),
            Side::Nothing => Vec::new(),
        };
        (start, candidates)
    }

    /// Fetches what one may soon want to complete.
    pub(crate) fn prefetch(&self) {
        if let Some((_, place)) = &self.connection
            && self.listings.get(place).is_none()
        {
            self.fetch(place.clone());
        }
    }

    fn verbs_like(&self, typed: &[u8]) -> Vec<Candidate> {
        let own = self.verbs.iter().map(|(name, _)| name.clone());
        let mut names: Vec<String> = verb::names().into_iter().chain(own).collect();
        names.retain(|name| name.as_bytes().starts_with(typed));
        names.sort();
        let candidate = |name: String| Candidate { replacement: format!("{name} "), display: name };
        names.into_iter().map(candidate).collect()
    }

    fn remote_like(&self, typed: &[u8], only_directories: bool) -> Vec<Candidate> {
        let Some((_, place)) = &self.connection else { return Vec::new() };
        let (directory, _) = split(typed);
        let Ok(path) = place.join(directory) else { return Vec::new() };
        candidates(typed, &self.names(&path), only_directories)
    }

    /// What a directory of the server has, as far as is known in time.
    fn names(&self, path: &RemotePath) -> Names {
        match self.listings.get(path) {
            Some((names, true)) => names,
            Some((names, false)) => {
                self.fetch(path.clone());
                names
            }
            None => {
                // Whether it came in time or not, what is remembered by then is used.
                let _ = self.fetch(path.clone()).recv_timeout(WAIT_MAX);
                self.listings.get(path).map(|(names, _)| names).unwrap_or_default()
            }
        }
    }

    /// Fetches a listing in the background. What is returned disconnects when that has ended.
    fn fetch(&self, path: RemotePath) -> mpsc::Receiver<()> {
        let (end, ended) = mpsc::channel();
        let (listings, connection) = (Arc::clone(&self.listings), self.connection.clone());
        let spawned = std::thread::Builder::new().name("completion".into()).spawn(move || {
            if let Some((remote, _)) = connection
                && let Ok(names) = list(&remote.with_cancel(&Cancel::new()), &path)
            {
                listings.keep(&path, names);
            }
            drop(end);
        });
        if let Err(error) = spawned {
            log::debug!("cannot start a thread: {error}");
        }
        ended
    }
}

fn list(remote: &Remote, path: &RemotePath) -> Result<Vec<(Vec<u8>, bool)>, RemoteError> {
    let mut names = Vec::new();
    for piece in remote.list(path)? {
        let piece = piece?.into_iter();
        names.extend(
            piece.map(|listed| (listed.name.as_bytes().to_vec(), listed.kind == Some(FileKind::Directory))),
        );
        if names.len() > NAMES_MAX {
            break;
        }
    }
    Ok(names)
}

fn local_like(typed: &[u8], pattern: &[u8], only_directories: bool) -> Vec<Candidate> {
    let (directory, _) = split(pattern);
    let place = if directory.is_empty() { ".".into() } else { local_path(directory) };
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let mut names: Vec<(Vec<u8>, bool)> = entries
        .flatten()
        .take(NAMES_MAX)
        .map(|entry| (entry.file_name().as_bytes().to_vec(), entry.path().is_dir()))
        .collect();
    names.sort();
    candidates(typed, &names, only_directories)
}

/// The names that begin as the last one of a path does.
fn candidates(typed: &[u8], names: &[(Vec<u8>, bool)], only_directories: bool) -> Vec<Candidate> {
    let (directory, begun) = split(typed);
    let fits = |name: &[u8]| name.starts_with(begun) && (!name.starts_with(b".") || begun.starts_with(b"."));
    names
        .iter()
        .filter(|(name, is_directory)| fits(name) && (*is_directory || !only_directories))
        .map(|(name, is_directory)| {
            let path = [directory, name].concat();
            let shown = printable(name);
            let (display, end) = if *is_directory { (format!("{shown}/"), "/") } else { (shown, " ") };
            let replacement = parser::quote(&path) + end;
            Candidate { display, replacement }
        })
        .collect()
}

/// The part of a path up to its last slash, and what follows it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    path.split_at(at)
}
