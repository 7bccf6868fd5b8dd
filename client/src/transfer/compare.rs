//! Comparing files and trees by content, each hashed where it is: many at once, because each waits for its answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};

use nearfs_protocol::attr::FileKind;

use crate::remote::{Remote, RemotePath};
use crate::transfer::failure::Failure;
use crate::transfer::journal::is_staged;
use crate::transfer::names::{Names, Turn};
use crate::transfer::side::{Entry, Spot, Top};
use crate::transfer::walk::walk;

pub use crate::transfer::side::Side;

/// Files and directories that are compared at once; most of the time each waits for an answer.
const COMPARERS: usize = 64;

/// Results that wait to be told: whoever compares is faster than whoever reads.
const RESULTS_MAX: usize = 1024;

/// What comes of two files.
#[derive(Debug)]
pub enum Comparison {
    /// They have the same content.
    Equal {
        /// Where the first of them is.
        path: String,
        /// How much that is.
        bytes: u64,
    },
    /// They differ, or only one is there.
    Differs {
        /// Where the first of them is, or would be.
        path: String,
        /// In what.
        why: &'static str,
    },
}

/// Two of a name.
enum Pair {
    Dirs(Spot, Spot),
    Entries(Entry, Entry),
}

/// Compares what is at one place of the server with what is at another place, and tells what comes of each file, in no
/// particular order. Directories are compared with all below them. Ends early when `tell` returns false, and with
/// the first error.
pub fn compare(
    remote: &Remote,
    one: &RemotePath,
    other: &Side,
    tell: &mut dyn FnMut(Comparison) -> bool,
) -> Result<(), Failure> {
    let first = match (Side::Remote(one.clone()).look(remote)?, other.look(remote)?) {
        (Top::Dir(one), Top::Dir(other)) => Pair::Dirs(Spot::Open(one), Spot::Open(other)),
        (Top::Entry(one), Top::Entry(other)) => Pair::Entries(one, other),
        (Top::Dir(_), Top::Entry(_)) | (Top::Entry(_), Top::Dir(_)) => {
            tell(Comparison::Differs { path: one.to_string(), why: OTHER_KIND });
            return Ok(());
        }
    };
    let (is_over, turn) = (AtomicBool::new(false), Turn::default());
    let (done, results) = mpsc::sync_channel(RESULTS_MAX);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let visit = Visit { remote, is_over: &is_over, turn: &turn, done };
            walk(COMPARERS, vec![first], |pair, found| visit.pair(pair, found));
        });
        let mut first_failure = Ok(());
        for result in results {
            match result {
                _ if is_over.load(Ordering::Relaxed) => {}
                Ok(comparison) => is_over.store(!tell(comparison), Ordering::Relaxed),
                Err(failure) => {
                    is_over.store(true, Ordering::Relaxed);
                    first_failure = Err(failure);
                }
            }
        }
        first_failure
    })
}

const OTHER_KIND: &str = "another kind of file";

type Compared = Result<Comparison, Failure>;

/// One comparison, for the threads that are at it.
struct Visit<'a> {
    remote: &'a Remote,
    is_over: &'a AtomicBool,
    turn: &'a Turn,
    done: SyncSender<Compared>,
}

impl Visit<'_> {
    fn pair(&self, pair: Pair, found: &dyn Fn(Pair)) {
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        let outcome = match pair {
            Pair::Dirs(one, other) => self.dirs(one, other, found),
            Pair::Entries(one, other) => self.entries(&one, &other).map(|comparison| self.tell(comparison)),
        };
        if let Err(failure) = outcome {
            // It is read until all are done.
            let _ = self.done.send(Err(failure));
        }
    }

    fn tell(&self, comparison: Comparison) {
        let _ = self.done.send(Ok(comparison));
    }

    fn dirs(&self, one: Spot, other: Spot, found: &dyn Fn(Pair)) -> Result<(), Failure> {
        let (one, other) = (one.open()?, other.open()?);
        let is_whole = |entry: &Entry| !is_staged(entry.name().as_bytes());
        let is_over = || self.is_over.load(Ordering::Relaxed);
        let mut theirs = Names::of(&other, self.turn, is_whole, is_over)?;
        one.each(|ours| {
            match theirs.remove(ours.name()) {
                Some(other) if (ours.kind(), other.kind()) == (FileKind::Directory, FileKind::Directory) => {
                    found(Pair::Dirs(Spot::Below(ours), Spot::Below(other)));
                }
                Some(other) => found(Pair::Entries(ours, other)),
                None => self.tell(Comparison::Differs { path: ours.to_string(), why: "only here" }),
            }
            !self.is_over.load(Ordering::Relaxed)
        })?;
        for entry in theirs.rest() {
            self.tell(Comparison::Differs { path: one.place_of(entry.name()), why: "only in the other" });
        }
        Ok(())
    }

    fn entries(&self, one: &Entry, other: &Entry) -> Result<Comparison, Failure> {
        let path = one.to_string();
        let bytes = if one.kind() == FileKind::File { one.size() } else { 0 };
        let difference = match (one.kind(), other.kind()) {
            (FileKind::File, FileKind::File) if one.size() != other.size() => Some("another size"),
            (FileKind::File, FileKind::File) => {
                let session = self.remote.current();
                let hash = |entry: &Entry| entry.hash(session.cancel(), &|_| {});
                (hash(one)? != hash(other)?).then_some("another content")
            }
            (FileKind::Symlink, FileKind::Symlink) => {
                (one.read_link()? != other.read_link()?).then_some("another target")
            }
            (one, other) => (one != other).then_some(OTHER_KIND),
        };
        Ok(match difference {
            Some(why) => Comparison::Differs { path, why },
            None => Comparison::Equal { path, bytes },
        })
    }
}
