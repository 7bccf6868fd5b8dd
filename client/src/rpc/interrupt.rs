//! Looks whether those who wait are to end, and lets them go.
//!
//! A thread of its own reads the signals of every thread that has waited for a while ([`signals`]). A request is
//! given up with its caller ([`Rpc::abandon`]); what is fetched for others as well goes on, and only the one who is
//! to end gets his answer ([`Rpc::wait_apart`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::RequestId;
use parking_lot::{Mutex, MutexGuard};

use crate::rpc::{Rpc, State, signals};

/// How often is looked.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Who has waited for less is left alone: nearly all answers are faster.
const WAIT_TIME_MIN: Duration = Duration::from_millis(50);
/// Most threads that are looked at in one round; the others follow in the next.
const LOOKS_MAX: usize = 256;
/// After so many rounds in which nobody waited the thread sleeps until it is called. Not after the first, or each
/// request of a program that asks now and then would pay for the call.
const IDLE_ROUNDS_MAX: u32 = 20;

/// Those who wait for what goes on without them; at most one for each request of the kernel.
#[derive(Default)]
pub(super) struct Bystanders {
    last: u64,
    waiting: HashMap<u64, Bystander>,
}

struct Bystander {
    pid: u32,
    since: Instant,
    let_go: Box<dyn FnOnce() + Send>,
}

#[derive(Clone, Copy)]
enum Waiter {
    Request(RequestId),
    Bystander(u64),
}

impl Rpc {
    /// Lets the thread `pid` wait for something that does not end with it: `done` gets what comes of that, or
    /// `EINTR` if the thread is to end before.
    pub(crate) fn wait_apart<T: 'static>(
        self: &Arc<Self>,
        pid: u32,
        done: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) -> impl FnOnce(Result<T, Errno>) + Send + 'static {
        let done = Arc::new(Mutex::new(Some(done)));
        let own = Arc::clone(&done);
        let let_go = move || {
            let done = own.lock().take();
            done.into_iter().for_each(|done| done(Err(Errno::EINTR)));
        };
        let number = self.bystanders.lock().add(pid, Box::new(let_go));
        let rpc = Arc::clone(self);
        move |result| {
            rpc.bystanders.lock().waiting.remove(&number);
            let done = done.lock().take();
            if let Some(done) = done {
                done(result);
            }
        }
    }

    /// The thread's work: until the session is closed.
    pub(super) fn run_interrupts(self: &Arc<Self>) {
        let (mut idle_rounds, mut last_pid) = (0, 0);
        let mut state = self.state.lock();
        while !state.closed {
            if idle_rounds == IDLE_ROUNDS_MAX {
                state.watched = false;
                self.watch.wait(&mut state);
                idle_rounds = 0;
                continue;
            }
            self.watch.wait_for(&mut state, LOOK_INTERVAL);
            idle_rounds = if state.session.pending_count() == 0 { idle_rounds + 1 } else { 0 };
            if let Some(long_ago) = Instant::now().checked_sub(WAIT_TIME_MIN) {
                let waiters = self.waiters(&state, long_ago);
                MutexGuard::unlocked(&mut state, || last_pid = self.let_go_of_ended(waiters, last_pid));
            }
        }
    }

    /// Wakes the thread, unless it is awake.
    pub(super) fn call_watch(&self, state: &mut State) {
        if !state.watched {
            state.watched = true;
            self.watch.notify_one();
        }
    }

    /// Who has waited since then.
    fn waiters(&self, state: &State, long_ago: Instant) -> Vec<(u32, Waiter)> {
        let requests = state.session.pending().filter(|pending| pending.since <= long_ago);
        let requests =
            requests.filter_map(|pending| Some((pending.call?.sole_caller()?, Waiter::Request(pending.id))));
        let bystanders = self.bystanders.lock();
        let apart = bystanders.waiting.iter();
        let apart = apart.filter(|(_, bystander)| bystander.since <= long_ago && bystander.pid != 0);
        let apart = apart.map(|(number, bystander)| (bystander.pid, Waiter::Bystander(*number)));
        requests.chain(apart).collect()
    }

    /// Looks at each thread once, beginning after the last one that was looked at before. Returns the last.
    fn let_go_of_ended(&self, mut waiters: Vec<(u32, Waiter)>, last_pid: u32) -> u32 {
        waiters.sort_unstable_by_key(|(pid, _)| *pid);
        let next = waiters.partition_point(|(pid, _)| *pid <= last_pid);
        waiters.rotate_left(next);
        let mut last_pid = last_pid;
        for same in waiters.chunk_by(|one, other| one.0 == other.0).take(LOOKS_MAX) {
            last_pid = same[0].0;
            if signals::is_ended(last_pid) {
                same.iter().for_each(|(_, waiter)| self.let_go(*waiter));
            }
        }
        last_pid
    }

    fn let_go(&self, waiter: Waiter) {
        match waiter {
            Waiter::Request(id) => {
                let mut state = self.state.lock();
                if let Some(cancelled) = state.session.cancel(id) {
                    state.note_doubt(id, &cancelled);
                    drop(state);
                    self.abandon(id, cancelled, Errno::EINTR);
                }
            }
            Waiter::Bystander(number) => {
                let bystander = self.bystanders.lock().waiting.remove(&number);
                if let Some(bystander) = bystander {
                    (bystander.let_go)();
                }
            }
        }
    }
}

impl Bystanders {
    fn add(&mut self, pid: u32, let_go: Box<dyn FnOnce() + Send>) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, Bystander { pid, since: Instant::now(), let_go });
        self.last
    }
}
