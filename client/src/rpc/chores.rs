//! What can wait a moment: jobs that must not run on a reader's thread, and small gifts back to the server
//! (forgotten nodes, closed files) that are cheaper to send together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_protocol::id::Node;
use nearfs_protocol::limits::BATCH_ITEMS_MAX;
use nearfs_protocol::message::{Caller, ReleasedFile, Request};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::rpc::{Ask, Patience, Rpc};

/// How long something is collected before it is sent.
const COLLECT_TIME_MAX: Duration = Duration::from_millis(10);
/// Closed files that are sent without waiting for more.
const RELEASES_AT_ONCE: usize = 64;
/// Forgotten nodes that are sent without waiting for more.
const FORGETS_AT_ONCE: usize = BATCH_ITEMS_MAX;

type Job = Box<dyn FnOnce() + Send>;

/// What is collected, and who is told of it.
#[derive(Default)]
pub(super) struct Chores {
    collected: Mutex<Collected>,
    something: Condvar,
}

/// Bounded by the requests in flight (jobs), by those who set a timer (one each), and by what the kernel knew and had
/// open: while there is no connection it is collected, in whatever number.
#[derive(Default)]
struct Collected {
    jobs: VecDeque<Job>,
    timed: Vec<(Instant, Job)>,
    forgets: Vec<(Node, u64)>,
    releases: Vec<ReleasedFile>,
    join: bool,
    closed: bool,
}

impl Chores {
    pub(super) fn defer(&self, job: Job) {
        self.collected.lock().jobs.push_back(job);
        self.something.notify_one();
    }

    pub(super) fn later(&self, at: Instant, job: Job) {
        self.collected.lock().timed.push((at, job));
        self.something.notify_one();
    }

    /// Connections for bulk data are wanted.
    pub(super) fn join(&self) {
        self.collected.lock().join = true;
        self.something.notify_one();
    }

    /// Never sent by the caller itself, who may be a reader that must not wait for room.
    pub(super) fn forget(&self, node: Node, count: u64) {
        let mut collected = self.collected.lock();
        collected.forgets.push((node, count));
        let forget_count = collected.forgets.len();
        self.wake_for_first(forget_count + collected.releases.len());
        if forget_count == FORGETS_AT_ONCE {
            self.something.notify_one();
        }
    }

    /// Returns whether enough is collected to be sent at once.
    pub(super) fn release(&self, file: ReleasedFile) -> bool {
        let mut collected = self.collected.lock();
        collected.releases.push(file);
        self.wake_for_first(collected.forgets.len() + collected.releases.len());
        collected.releases.len() >= RELEASES_AT_ONCE
    }

    pub(super) fn close(&self) {
        self.collected.lock().closed = true;
        self.something.notify_one();
    }

    /// The first that is collected sets the thread's clock; the others find it set.
    fn wake_for_first(&self, count: usize) {
        if count == 1 {
            self.something.notify_one();
        }
    }
}

impl Collected {
    /// What is to be done at once, or is due.
    fn next_job(&mut self, now: Instant) -> Option<Job> {
        let due = |timed: &[(Instant, Job)]| timed.iter().position(|(at, _)| *at <= now);
        self.jobs.pop_front().or_else(|| Some(self.timed.swap_remove(due(&self.timed)?).1))
    }

    fn is_collecting(&self) -> bool {
        !(self.forgets.is_empty() && self.releases.is_empty())
    }
}

impl Rpc {
    /// The chores' thread: until the session is closed.
    pub(super) fn run_chores(self: &Arc<Self>) {
        let mut collected = self.chores.collected.lock();
        while !collected.closed {
            if let Some(job) = collected.next_job(Instant::now()) {
                MutexGuard::unlocked(&mut collected, job);
            } else if std::mem::take(&mut collected.join) {
                MutexGuard::unlocked(&mut collected, || self.join());
            } else if !collected.is_collecting() {
                match collected.timed.iter().map(|(at, _)| *at).min() {
                    Some(at) => drop(self.chores.something.wait_until(&mut collected, at)),
                    None => self.chores.something.wait(&mut collected),
                }
            } else if collected.forgets.len() >= FORGETS_AT_ONCE
                || self.chores.something.wait_for(&mut collected, COLLECT_TIME_MAX).timed_out()
            {
                MutexGuard::unlocked(&mut collected, || self.send_batches());
            }
        }
    }

    /// Sends everything that was collected.
    pub(super) fn send_batches(&self) {
        let mut collected = self.chores.collected.lock();
        let forgets = std::mem::take(&mut collected.forgets);
        let releases = std::mem::take(&mut collected.releases);
        drop(collected);
        for nodes in forgets.chunks(BATCH_ITEMS_MAX) {
            self.tell(Request::Forget { nodes: nodes.to_vec() });
        }
        for files in releases.chunks(BATCH_ITEMS_MAX) {
            self.tell(Request::Release { files: files.to_vec() });
        }
    }

    /// Asks for something whose answer interests nobody. It waits for a connection as long as it takes, or the
    /// server would keep what it could let go.
    pub(crate) fn tell(&self, request: Request) {
        let ask = Ask {
            caller: Caller::default(),
            pid: 0,
            survives_caller: true,
            ino: 0,
            request,
            patience: Patience::Endless,
            cancel: None,
        };
        self.call(ask, None, |_| ());
    }
}
