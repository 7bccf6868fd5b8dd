//! Sees to it that somebody looks after sockets and timers while a call sleeps.
//!
//! Of tokio's workers one waits for sockets and timers, and the others wait to be woken by it. Where that one finds a single
//! task and the task sleeps in a system call, as a mkdir(2) on a disk that hangs, nobody is woken, and everything stands
//! still. A task that comes from another thread does wake a worker, which takes over.

use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

/// Longest time that everything stands still.
const BEAT: Duration = Duration::from_millis(50);

/// How many calls are being carried out by threads that have others to serve.
#[derive(Default)]
pub(crate) struct Pulse(AtomicUsize);

/// Counts one until it is dropped.
pub(crate) struct Busy<'pulse>(&'pulse Pulse);

impl Pulse {
    /// A call begins, which lasts as long as what this returns.
    pub(crate) fn begin(&self) -> Busy<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wakes a worker now and then while any call is carried out, until the server is gone.
pub(crate) fn keep(pulse: &Weak<Pulse>, runtime: &Handle) {
    while let Some(pulse) = pulse.upgrade() {
        if pulse.0.load(Ordering::Relaxed) > 0 {
            runtime.spawn(async {});
        }
        drop(pulse);
        thread::sleep(BEAT);
    }
}
