//! Whole files and trees, brought to the server or from it.
//!
//! A [`Transfer`] walks the source on several threads ([`walk`]) and has hundreds of small files and several ranges of
//! large ones under way at once ([`upload`], [`download`]); [`window`] bounds what that takes. A file is written under
//! a name that nobody looks for, compared by hash at both ends, synced, and only then given its name. Small files are
//! synced and named many at a time. Beside a large one there is a [`journal`], by which a later transfer goes on with it.

mod asking;
pub mod compare;
mod copy;
mod download;
mod download_large;
mod failure;
mod journal;
mod landing;
mod local;
mod meter;
mod mirror;
mod names;
mod opened;
mod remote_dir;
mod side;
mod upload;
mod upload_large;
mod walk;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::CHUNK_BYTES;
use nearfs_protocol::limits::{HASHED_BYTES_MAX, PAYLOAD_BYTES_MAX};
use nearfs_protocol::version::Features;

use crate::cancel::{Cancel, Listening};
use crate::remote::{Reason, Remote};
use crate::transfer::window::Window;

pub use crate::transfer::failure::{Cause, Failure, local_words};
pub use crate::transfer::journal::is_staged;
pub use crate::transfer::meter::{Counts, Meter, Running};
pub use crate::transfer::mirror::{MirrorOptions, Step};

/// A file of at most so many bytes is brought by one request.
const SMALL_BYTES_MAX: u64 = PAYLOAD_BYTES_MAX as u64;
/// Threads that look for files: each waits for one answer at a time.
const WALKERS: usize = 8;
/// The same where more was named than that: of each there is an answer to wait for.
const NAMED_WALKERS: usize = 32;
/// Threads that read or write small files here.
const SMALL_THREADS: usize = 2;
/// Large files that are under way at once.
const LARGE_THREADS: usize = 4;
/// Chunks of a large file whose hashes are asked for at a time.
const HASHED_CHUNKS: u64 = 16;
/// How often a file that changes while it is copied is begun anew.
const TRIES: usize = 3;
/// How often it is looked whether anything has moved.
const STALL_LOOK_INTERVAL: Duration = Duration::from_millis(500);

const _: () = assert!(HASHED_CHUNKS * CHUNK_BYTES <= HASHED_BYTES_MAX as u64);

/// How files are transferred.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether what has the target's name is replaced.
    pub overwrite: bool,
    /// Whether large files that an earlier transfer left incomplete are gone on with.
    pub resume: bool,
    /// Whether modes, times and symbolic links are kept.
    pub archive: bool,
    /// Whether missing directories on the way to a target are made.
    pub make_parents: bool,
    /// Bytes a second at most.
    pub rate_limit: Option<u64>,
    /// So long nothing may have moved before the transfer is given up.
    pub stall_time_max: Duration,
    /// Permission bits that new files here do not get.
    pub umask: u32,
}

/// How many threads look at so much that was named.
fn walkers(named: usize) -> usize {
    if named > WALKERS { NAMED_WALKERS } else { WALKERS }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            overwrite: false,
            resume: false,
            archive: false,
            make_parents: true,
            rate_limit: None,
            stall_time_max: Duration::from_secs(60),
            umask: 0o022,
        }
    }
}

/// Who hears what becomes of each file. Called from many threads.
pub trait Observer: Send + Sync {
    /// A file has its name.
    fn done(&self, name: &str, target: &str, bytes: u64);
    /// A file was not transferred.
    fn failed(&self, failure: &Failure);
    /// Something that people should know.
    fn note(&self, text: &str);
    /// What a mirror does beside bringing files, and what it would do in a dry run.
    fn step(&self, step: &Step);
}

/// What was not transferred, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All failures.
    pub failed: u64,
    /// Those where the source was not there.
    pub not_found: u64,
    /// Those where the content differed.
    pub differs: u64,
    /// The session, or the way to the server, is gone.
    pub is_disconnected: bool,
    /// A person ended it.
    pub is_interrupted: bool,
}

/// One transfer of any number of files.
pub struct Transfer {
    remote: Remote,
    options: Options,
    meter: Arc<Meter>,
    observer: Arc<dyn Observer>,
    window: Window,
    /// Ends what waits: told by the person's own wish, and by what makes going on useless.
    cancel: Cancel,
    is_stopped: AtomicBool,
    failed: AtomicU64,
    not_found: AtomicU64,
    differs: AtomicU64,
    is_disconnected: AtomicBool,
    is_interrupted: AtomicBool,
    _wish: Listening,
}

impl Transfer {
    /// A transfer from or to this share. `wish` ends it.
    ///
    /// Errors: `EOPNOTSUPP` from a server that knows no transfers.
    pub fn new(
        remote: &Remote,
        options: Options,
        observer: Arc<dyn Observer>,
        wish: &Cancel,
    ) -> Result<Arc<Transfer>, Reason> {
        if !remote.session()?.welcome().features.contains(Features::TRANSFER) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let cancel = Cancel::new();
        let told = cancel.clone();
        Ok(Arc::new(Transfer {
            remote: remote.with_cancel(&cancel),
            window: Window::new(options.rate_limit, &cancel),
            meter: Arc::default(),
            options,
            observer,
            cancel,
            is_stopped: AtomicBool::new(false),
            failed: AtomicU64::new(0),
            not_found: AtomicU64::new(0),
            differs: AtomicU64::new(0),
            is_disconnected: AtomicBool::new(false),
            is_interrupted: AtomicBool::new(false),
            _wish: wish.listen(move || told.cancel()),
        }))
    }

    /// What it has done so far.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// What was not transferred.
    pub fn tally(&self) -> Tally {
        Tally {
            failed: self.failed.load(Ordering::Relaxed),
            not_found: self.not_found.load(Ordering::Relaxed),
            differs: self.differs.load(Ordering::Relaxed),
            is_disconnected: self.is_disconnected.load(Ordering::Relaxed),
            is_interrupted: self.is_interrupted.load(Ordering::Relaxed),
        }
    }

    /// Whether there is no use in going on.
    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    /// What there is to be looked at from something that was named, if that did not fail.
    fn begun<T>(&self, outcome: Result<Option<T>, Failure>) -> Option<T> {
        outcome.unwrap_or_else(|failure| {
            self.fail(&failure);
            None
        })
    }

    /// Counts and tells a failure. One that concerns all files ends the transfer; what fails because of that is not told.
    fn fail(&self, failure: &Failure) {
        let is_first_end = failure.cause.ends_all() && !self.is_stopped.swap(true, Ordering::SeqCst);
        let is_consequence = !is_first_end && self.is_stopped.load(Ordering::SeqCst);
        self.meter.failed();
        self.failed.fetch_add(1, Ordering::Relaxed);
        if is_consequence {
            return;
        }
        match &failure.cause {
            Cause::Differs => drop(self.differs.fetch_add(1, Ordering::Relaxed)),
            Cause::Remote(Reason::Interrupted) => self.is_interrupted.store(true, Ordering::Relaxed),
            cause if cause.is_disconnected() => self.is_disconnected.store(true, Ordering::Relaxed),
            cause if cause.is_not_found() => drop(self.not_found.fetch_add(1, Ordering::Relaxed)),
            Cause::Remote(_)
            | Cause::Local(_)
            | Cause::Exists
            | Cause::Itself
            | Cause::Changed
            | Cause::Skipped(_)
            | Cause::Stalled(_)
            | Cause::Refused(_) => {}
        }
        self.observer.failed(failure);
        if is_first_end {
            self.cancel.cancel();
        }
    }

    /// Fails with something after which nothing else is to be done.
    fn end_with(&self, failure: &Failure) {
        self.fail(failure);
        self.is_stopped.store(true, Ordering::SeqCst);
        self.cancel.cancel();
    }

    fn fail_with(&self, name: impl Into<String>, cause: impl Into<Cause>) {
        self.fail(&Failure::new(name, cause));
    }

    fn finished(&self, name: &str, target: &str, bytes: u64) {
        self.meter.done();
        self.observer.done(name, target, bytes);
    }

    /// Runs a transfer, and ends it when nothing has moved for too long.
    fn watched(self: &Arc<Self>, run: impl FnOnce()) {
        let (ended, end) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || self.watch(&end));
            run();
            self.meter.all_found();
            drop(ended);
        });
    }

    fn watch(&self, end: &std::sync::mpsc::Receiver<()>) {
        let mut last = (self.meter.counts(), Instant::now());
        while end.recv_timeout(STALL_LOOK_INTERVAL) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let counts = self.meter.counts();
            if counts != last.0 {
                last = (counts, Instant::now());
            }
            let idle = last.1.elapsed();
            if idle > self.options.stall_time_max && !self.is_stopped() {
                self.fail_with("the transfer", Cause::Stalled(idle.as_secs()));
            }
        }
    }
}
