//! Sees to it that a call that sleeps in a system call, as on a disk that hangs, holds up none but its own client.
//!
//! Tokio's workers carry calls out themselves, as handing each to another thread would take longer than most calls. So
//! there is one worker more than calls may be carried out by workers at once, and further ones go where they may sleep:
//! however many hang, one worker is left.
//!
//! It must also be awake. Of the workers one waits for sockets and timers, and the others wait to be woken by it. Where
//! that one finds a single task and the task sleeps, nobody is woken, and everything stands still. A task that comes from
//! another thread does wake a worker, which takes over.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::runtime::Handle;

/// Longest time that everything stands still.
const BEAT: Duration = Duration::from_millis(50);

/// How many calls are being carried out by threads that have others to serve, and may be.
pub(crate) struct Pulse {
    busy: AtomicUsize,
    busy_max: AtomicUsize,
    /// Whether any call has begun since the last beat.
    was_busy: AtomicBool,
    /// Whether there are no beats, until a call begins.
    is_resting: AtomicBool,
    thread: OnceLock<Thread>,
}

/// Counts one until it is dropped.
pub(crate) struct Busy<'pulse>(&'pulse Pulse);

impl Pulse {
    /// Keeps a worker of the runtime free, once [`keep`] is called.
    pub(crate) fn spare_worker(&self, runtime: &Handle) {
        self.busy_max.store(runtime.metrics().num_workers().saturating_sub(1), Ordering::Relaxed);
    }

    /// A call begins, which lasts as long as what this returns. `None` if so many are being carried out by workers that it
    /// has to be carried out elsewhere.
    pub(crate) fn begin(&self) -> Option<Busy<'_>> {
        // Counted before it looks whether the thread rests, which first rests and then looks at the count: one of the two
        // sees the other.
        let before = self.busy.fetch_add(1, Ordering::SeqCst);
        let busy = Busy(self);
        self.was_busy.store(true, Ordering::Relaxed);
        if self.is_resting.load(Ordering::SeqCst) && self.is_resting.swap(false, Ordering::SeqCst) {
            self.wake();
        }
        (before < self.busy_max.load(Ordering::Relaxed)).then_some(busy)
    }

    /// Whether there is nothing to watch over until a call begins, which then wakes the thread.
    fn rests(&self) -> bool {
        if self.was_busy.swap(false, Ordering::Relaxed) || self.busy.load(Ordering::SeqCst) > 0 {
            return false;
        }
        self.is_resting.store(true, Ordering::SeqCst);
        if self.busy.load(Ordering::SeqCst) == 0 {
            return true;
        }
        self.is_resting.store(false, Ordering::SeqCst);
        false
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Default for Pulse {
    /// One that refuses nobody yet.
    fn default() -> Pulse {
        Pulse {
            busy: AtomicUsize::new(0),
            busy_max: AtomicUsize::new(usize::MAX),
            was_busy: AtomicBool::new(false),
            is_resting: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.wake();
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wakes a worker now and then while any call is carried out, until the server is gone.
pub(crate) fn keep(pulse: &Weak<Pulse>, runtime: &Handle) {
    while let Some(pulse) = pulse.upgrade() {
        pulse.thread.get_or_init(thread::current);
        let rests = pulse.rests();
        if pulse.busy.load(Ordering::Relaxed) > 0 {
            runtime.spawn(async {});
        }
        // So that it can go while this thread rests.
        drop(pulse);
        if rests {
            thread::park();
        } else {
            thread::sleep(BEAT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_is_kept_from_calls() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
        let pulse = Pulse::default();
        pulse.spare_worker(runtime.handle());
        let first = pulse.begin();
        let second = pulse.begin();
        assert!(first.is_some() && second.is_some() && pulse.begin().is_none());
        drop(first);
        assert!(pulse.begin().is_some());
    }

    #[test]
    fn it_rests_while_there_are_no_calls() {
        let pulse = Pulse::default();
        let call = pulse.begin();
        assert!(!pulse.rests() && !pulse.rests(), "while it is carried out");
        drop(call);
        assert!(pulse.rests(), "nothing has begun since the last beat");
        assert!(pulse.is_resting.load(Ordering::SeqCst));
        drop(pulse.begin());
        assert!(!pulse.is_resting.load(Ordering::SeqCst) && !pulse.rests(), "a short one counts as well");
        assert!(pulse.rests());
    }
}
