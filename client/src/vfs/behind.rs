//! Writes that their programs do not wait for, where the server is far away.
//!
//! A program goes on while its writes are under way, within a window that the link is worth. Whatever else is done here with
//! such a file, or told of it, waits until all of them are answered ([`Vfs::once_written`]), so that programs of this
//! machine notice nothing but the speed. An error is told by whatever is done next through that open file: another write,
//! fsync or close.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearfs_protocol::attr::Attr;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::limits::IN_FLIGHT_BYTES_MAX;
use nearfs_protocol::message::{Reply, Request, WriteAt, WriteSync};
use nearfs_transport::pool::Payload;
use parking_lot::Mutex;

use crate::cache::FillToken;
use crate::cache::block::WriteTicket;
use crate::cache::readahead::link::{FetchStart, LinkEstimate};
use crate::files::OpenFile;
use crate::identity::Caller;
use crate::rpc::{Ask, Outcome, Patience};
use crate::vfs::types::Invalidation;
use crate::vfs::{Vfs, unexpected};

/// Most bytes of all files that are under way without anybody waiting for them: the rest of what may be in flight is for
/// others.
pub const BEHIND_BYTES_MAX: u64 = IN_FLIGHT_BYTES_MAX as u64 / 2;
/// What a write counts at least, so that small ones do not take all slots of the session.
const COST_BYTES_MIN: u64 = 64 * 1024;

/// Most answers of one file that wait for earlier ones.
const EARLY_MAX: usize = 16;

/// The writes that nobody waits for.
#[derive(Default)]
pub(crate) struct Behind {
    /// Most bytes of one file; 0 if each write is waited for.
    bytes_max: AtomicU64,
    link: LinkEstimate,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<Node, Queue>,
    cost_bytes: u64,
    /// Whether somebody will look whether those who wait have done so for too long.
    is_timed: bool,
}

/// The writes of one node, and who waits for them. Gone when there are none.
#[derive(Default)]
struct Queue {
    under_way: Vec<Range<u64>>,
    cost_bytes: u64,
    /// The furthest end of them.
    end: u64,
    /// Answers that arrived before those of the changes before them.
    early: Vec<Applying>,
    /// Who may go on when there is room again: one for each program that writes.
    writers: VecDeque<Box<dyn FnOnce() + Send>>,
    /// Who does something else with the node. While anybody waits, further writes wait behind him.
    waiters: VecDeque<Waiter>,
}

/// A change of the node's counter, to be taken into the caches.
struct Applying {
    before: Change,
    after: Change,
    apply: Box<dyn FnOnce(&Vfs) + Send>,
}

struct Waiter {
    deadline: Option<Instant>,
    go_on: Box<dyn FnOnce(Result<(), Errno>) + Send>,
}

/// How a write has to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Its program waits for the answer.
    Awaited,
    /// Its program goes on. It is noted as under way.
    Behind,
    /// Not before those that are under way are answered.
    Later,
}

/// A write that its program does not wait for.
pub(crate) struct LateWrite {
    pub(crate) caller: Caller,
    pub(crate) ino: u64,
    pub(crate) file: Arc<OpenFile>,
    pub(crate) offset: u64,
    pub(crate) content: Arc<Payload>,
    /// Bytes of the content that the server has.
    written: usize,
    start: FetchStart,
}

impl Behind {
    /// How a write of a range is to be made; `is_plain` if its program need not wait as far as the file is concerned.
    pub(crate) fn turn(&self, node: Node, range: &Range<u64>, is_plain: bool) -> Turn {
        if !self.is_used() {
            return Turn::Awaited;
        }
        let cost = cost_bytes(range);
        let mut state = self.state.lock();
        let is_crowded = state.cost_bytes + cost > BEHIND_BYTES_MAX;
        match state.nodes.get(&node) {
            None if !is_plain || is_crowded => return Turn::Awaited,
            Some(queue) if !is_plain || !queue.waiters.is_empty() || queue.meets(range) => {
                return Turn::Later;
            }
            None | Some(_) => {}
        }
        state.cost_bytes += cost;
        let queue = state.nodes.entry(node).or_default();
        queue.under_way.push(range.clone());
        queue.cost_bytes += cost;
        queue.end = queue.end.max(range.end);
        Turn::Behind
    }

    /// Whether writes of a node are under way that nobody waits for.
    pub(crate) fn is_pending(&self, node: Node) -> bool {
        self.is_used() && self.state.lock().nodes.contains_key(&node)
    }

    /// Whether there may be such writes at all.
    pub(crate) fn is_used(&self) -> bool {
        self.bytes_max.load(Ordering::Relaxed) > 0
    }

    /// Attributes as they will be when all that is under way has been written.
    pub(crate) fn foreseen(&self, mut attr: Attr) -> Attr {
        if self.is_used()
            && let Some(queue) = self.state.lock().nodes.get(&attr.node)
        {
            attr.size = attr.size.max(queue.end);
        }
        attr
    }

    fn window_bytes(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed).min(self.link.window_bytes())
    }
}

impl State {
    /// Those who have waited for too long.
    fn overdue(&mut self, now: Instant) -> Vec<Waiter> {
        let is_due = |waiter: &Waiter| waiter.deadline.is_some_and(|deadline| deadline <= now);
        let mut overdue = Vec::new();
        for queue in self.nodes.values_mut() {
            let (due, rest) = queue.waiters.drain(..).partition::<VecDeque<_>, _>(is_due);
            queue.waiters = rest;
            overdue.extend(due);
        }
        overdue
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.nodes.values().flat_map(|queue| &queue.waiters).filter_map(|waiter| waiter.deadline).min()
    }
}

impl Queue {
    fn meets(&self, range: &Range<u64>) -> bool {
        self.under_way.iter().any(|other| other.start < range.end && range.start < other.end)
    }

    fn has_room(&self, window_bytes: u64) -> bool {
        self.under_way.is_empty() || self.cost_bytes <= window_bytes
    }

    /// The next answer to be taken into the caches: the one that follows `change`, or the first if no other can come before
    /// it, or too many wait for that.
    fn next_applying(&mut self, change: Change) -> Option<Applying> {
        let is_next = |applying: &Applying| {
            applying.before.same_as(change) || [applying.before, change].contains(&Change::UNSURE)
        };
        let is_in_vain = self.under_way.is_empty() || self.early.len() > EARLY_MAX;
        let first = || (0..self.early.len()).min_by_key(|at| self.early[*at].after);
        let next = self.early.iter().position(is_next).or_else(|| if is_in_vain { first() } else { None })?;
        Some(self.early.swap_remove(next))
    }
}

impl Vfs {
    /// From here on programs need not wait for their writes, up to so many bytes of a file.
    pub fn write_behind(&self, bytes_max: u64) {
        self.behind.bytes_max.store(bytes_max.min(BEHIND_BYTES_MAX), Ordering::Relaxed);
    }

    /// Calls `then` when no write of a node is under way without anybody waiting for it: at once, or on a thread that may
    /// wait.
    ///
    /// Errors: `ETIMEDOUT`, `EINTR` if the caller is to end before.
    pub(crate) fn once_written(
        self: &Arc<Self>,
        caller: Caller,
        node: Node,
        patience: Patience,
        then: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        if !self.behind.is_pending(node) {
            return then(Ok(()));
        }
        let then = self.rpc.wait_apart(caller.pid, then);
        let deadline = (patience == Patience::Bounded).then(|| Instant::now() + self.config.timeout);
        let mut state = self.behind.state.lock();
        let Some(queue) = state.nodes.get_mut(&node) else {
            drop(state);
            return then(Ok(()));
        };
        queue.waiters.push_back(Waiter { deadline, go_on: Box::new(then) });
        if deadline.is_some() && !std::mem::replace(&mut state.is_timed, true) {
            self.end_long_waits_later(self.config.timeout);
        }
    }

    /// The same for an operation that begins anew then, and that is told of an error instead.
    pub(crate) fn after_writes<T, D: FnOnce(Result<T, Errno>) + Send + 'static>(
        self: &Arc<Self>,
        caller: Caller,
        node: Node,
        patience: Patience,
        done: D,
        again: impl FnOnce(&Arc<Vfs>, D) + Send + 'static,
    ) {
        let vfs = Arc::clone(self);
        self.once_written(caller, node, patience, move |waited| match waited {
            Ok(()) => again(&vfs, done),
            Err(errno) => done(Err(errno)),
        });
    }

    /// Sends a write that was noted as under way, and lets its program go on as soon as there is room for more.
    pub(crate) fn write_late(
        self: &Arc<Self>,
        (caller, ino): (Caller, u64),
        file: Arc<OpenFile>,
        offset: u64,
        content: Arc<Payload>,
        done: impl FnOnce(Result<u32, Errno>) + Send + 'static,
    ) {
        let (node, size) = (file.node, content.len());
        let range = range_of(offset, &content);
        let start = self.behind.link.started(cost_bytes(&range), Instant::now());
        let told = Arc::clone(&file);
        self.send_late(LateWrite { caller, ino, file, offset, content, written: 0, start });
        let mut state = self.behind.state.lock();
        let window_bytes = self.behind.window_bytes();
        if let Some(queue) = state.nodes.get_mut(&node)
            && !queue.has_room(window_bytes)
        {
            let done = self.rpc.wait_apart(caller.pid, done);
            queue.writers.push_back(Box::new(move || done(told.check().map(|()| size as u32))));
            return;
        }
        drop(state);
        done(told.check().map(|()| size as u32));
    }

    fn send_late(self: &Arc<Self>, write: LateWrite) {
        let (node, offset) = (write.file.node, write.offset + write.written as u64);
        let rest = match write.written {
            0 => Arc::clone(&write.content),
            written => self.rpc.keep(&write.content[written..]),
        };
        let writing = self.cache.blocks.begin_write(node, Some(offset), rest.len());
        let token = self.cache.begin_fill();
        let at = WriteAt::Offset(offset);
        let request = Request::Write { fh: write.file.fh, at, sync: WriteSync::None };
        let ask = self.ask(write.caller, node, request, self.writers_patience());
        let vfs = Arc::clone(self);
        let answered = move |outcome| vfs.late_answered(write, (token, writing), outcome);
        self.rpc.call(Ask { survives_caller: true, ..ask }, Some(rest), self.noting_gone(node, answered));
    }

    fn late_answered(
        self: &Arc<Self>,
        mut write: LateWrite,
        (token, writing): (FillToken, WriteTicket),
        outcome: Outcome,
    ) {
        let (node, offset) = (write.file.node, write.offset + write.written as u64);
        let rest_bytes = write.content.len() - write.written;
        let written = match outcome {
            Ok((Reply::Written(written), _)) => match usize::try_from(written.size) {
                Ok(size) if (1..=rest_bytes).contains(&size) && written.offset == offset => {
                    Ok((size, written))
                }
                Ok(_) | Err(_) => Err(Errno::EIO),
            },
            Ok((other, _)) => Err(unexpected(&other)),
            Err(errno) => Err(errno),
        };
        match written {
            Ok((size, written)) => {
                write.file.unsynced.changed();
                let (content, begin) = (Arc::clone(&write.content), write.written);
                let (before, after) = (written.before, written.attr.change);
                let apply = Box::new(move |vfs: &Vfs| {
                    vfs.changed(token, before, &written.attr);
                    writing.finish(offset, &content[begin..begin + size], before, after, written.attr.size);
                });
                write.written += size;
                let is_whole = write.written == write.content.len();
                self.settle(&write, Some(Applying { before, after, apply }), is_whole);
                if !is_whole {
                    // What kept the server from writing the rest is only told to whoever tries again.
                    let vfs = Arc::clone(self);
                    self.rpc.defer(Box::new(move || vfs.send_late(write)));
                }
            }
            Err(errno) => {
                drop(writing);
                // Whoever has the file open shall not believe that it is safe; and what the kernel has is not the file's.
                _ = write.file.failed.set(errno);
                self.files.note_lost(node, errno);
                self.cache.attrs.invalidate(node);
                self.notify(Invalidation::Node { ino: write.ino });
                self.settle(&write, None, true);
            }
        }
    }

    /// An answer has arrived: takes what can be taken into the caches, one change after the other as the server made
    /// them, and lets those go on who waited for it.
    fn settle(self: &Arc<Self>, write: &LateWrite, applying: Option<Applying>, is_over: bool) {
        let node = write.file.node;
        match (is_over, &applying) {
            (true, Some(_)) => self.behind.link.completed(write.start, Instant::now()),
            (true, None) => self.behind.link.failed(write.start),
            (false, _) => {}
        }
        let mut state = self.behind.state.lock();
        let State { nodes, cost_bytes: all_bytes, .. } = &mut *state;
        let Some(queue) = nodes.get_mut(&node) else { return };
        if is_over {
            let range = range_of(write.offset, &write.content);
            if let Some(at) = queue.under_way.iter().position(|other| *other == range) {
                queue.under_way.swap_remove(at);
            }
            queue.cost_bytes = queue.cost_bytes.saturating_sub(cost_bytes(&range));
            *all_bytes = all_bytes.saturating_sub(cost_bytes(&range));
        }
        queue.early.extend(applying);
        while let Some(next) = queue.next_applying(self.nodes.pages_change(node)) {
            (next.apply)(self);
        }
        let has_room = queue.has_room(self.behind.window_bytes());
        let writers = if has_room { std::mem::take(&mut queue.writers) } else { VecDeque::new() };
        let over = if queue.under_way.is_empty() { nodes.remove(&node) } else { None };
        drop(state);
        writers.into_iter().for_each(|go_on| go_on());
        for waiter in over.into_iter().flat_map(|queue| queue.waiters) {
            self.rpc.defer(Box::new(move || (waiter.go_on)(Ok(()))));
        }
    }

    fn end_long_waits_later(self: &Arc<Self>, after: Duration) {
        let vfs = Arc::clone(self);
        self.rpc.later(
            after,
            Box::new(move || {
                let now = Instant::now();
                let mut state = vfs.behind.state.lock();
                let overdue = state.overdue(now);
                match state.next_deadline() {
                    Some(deadline) => vfs.end_long_waits_later(deadline.saturating_duration_since(now)),
                    None => state.is_timed = false,
                }
                drop(state);
                overdue.into_iter().for_each(|waiter| (waiter.go_on)(Err(Errno::ETIMEDOUT)));
            }),
        );
    }
}

/// Where in a file a write goes.
pub(crate) fn range_of(offset: u64, content: &[u8]) -> Range<u64> {
    offset..offset.saturating_add(content.len() as u64)
}

fn cost_bytes(range: &Range<u64>) -> u64 {
    (range.end - range.start).max(COST_BYTES_MIN)
}
