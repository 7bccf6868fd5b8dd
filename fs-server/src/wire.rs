//! One connection's stream and what waits to be written to it. Whoever has an answer writes it at once, from
//! any thread; only what the peer does not take waits for the connection's task.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::RequestId;
use nearfs_protocol::limits::IN_FLIGHT_BYTES_MAX;
use nearfs_protocol::message::Answer;
use nearfs_transport::pool::Payload;
use nearfs_transport::stream::Stream;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use crate::dispatch::Response;
use crate::outbox::{Outbox, PIECES_MAX};

/// A connection with this much under way is not read from until it has less.
const WIRE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What every connection may have under way even when all together have [`IN_FLIGHT_BYTES_MAX`].
const WIRE_BYTES_SHARE: usize = 64 * 1024;

/// From here on answers are written before more is read from the disk.
const BULK_BYTES_MIN: usize = 64 * 1024;

/// Bytes under way on all connections of a server.
#[derive(Clone, Default)]
pub(crate) struct Budget(Arc<AtomicUsize>);

/// A connection as everybody sees it but its own task, which alone reads.
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    outgoing: Mutex<Outgoing>,
    /// Bytes of calls that are being carried out elsewhere.
    slow_bytes: AtomicUsize,
    /// Whether the connection's task waits until less of that is under way.
    waits_for_slow: AtomicBool,
    budget: Budget,
    wake: Notify,
    closed: OnceLock<Closed>,
}

/// Why a connection was ended from this side, without its peer or its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Closed {
    #[error("the session goes on without it")]
    Displaced,
    #[error("nothing was heard on it")]
    Silent,
    #[error("its session is over")]
    SessionOver,
    #[error("its session was ended by the server's owner")]
    EndedByOwner,
    #[error("it takes nothing any more")]
    Failed,
}

#[derive(Default)]
struct Outgoing {
    outbox: Outbox,
    /// Since when the peer takes nothing.
    stalled_since: Option<Instant>,
}

impl Wire {
    pub(crate) fn new(stream: Stream, budget: Budget) -> Wire {
        Wire {
            stream,
            outgoing: Mutex::default(),
            slow_bytes: AtomicUsize::new(0),
            waits_for_slow: AtomicBool::new(false),
            budget,
            wake: Notify::new(),
            closed: OnceLock::new(),
        }
    }

    /// Adds a frame without a payload, to be written by the next [`flush`](Wire::flush).
    pub(crate) fn push<T: Serialize + ?Sized>(&self, kind: FrameKind, id: RequestId, control: &T) {
        let mut outgoing = self.outgoing.lock();
        let before = outgoing.outbox.bytes();
        if let Err(error) = outgoing.outbox.push(kind, id, control, Payload::empty()) {
            log::error!("{}: dropped a {kind:?} frame: {error}", self.stream.peer());
        }
        self.budget.add(outgoing.outbox.bytes() - before);
    }

    /// Adds an answer, to be written by the next [`flush`](Wire::flush).
    pub(crate) fn push_answer(&self, id: RequestId, response: Response) {
        let mut outgoing = self.outgoing.lock();
        let before = outgoing.outbox.bytes();
        let Response { answer, payload } = response;
        if outgoing.outbox.push(FrameKind::Answer, id, &answer, payload).is_err() {
            log::error!("{}: an answer larger than a frame may be", self.stream.peer());
            let refused: Answer = Err(Errno::EIO);
            // Two numbers always fit.
            let _ = outgoing.outbox.push(FrameKind::Answer, id, &refused, Payload::empty());
        }
        self.budget.add(outgoing.outbox.bytes() - before);
    }

    /// Writes what the peer takes, from any thread. What it does not take is left to the connection's task.
    pub(crate) fn flush(&self) {
        if !self.flush_own() {
            self.wake();
        }
    }

    /// The same from the connection's own task, which needs not be woken. Whether nothing is left to do.
    pub(crate) fn flush_own(&self) -> bool {
        let mut outgoing = self.outgoing.lock();
        match outgoing.write(&self.stream) {
            Ok(written) => self.budget.give_back(written),
            Err(error) => {
                log::debug!("{}: {error}", self.stream.peer());
                self.closed.get_or_init(|| Closed::Failed);
            }
        }
        outgoing.outbox.bytes() == 0 && self.closed().is_none()
    }

    /// Whether something waits to be written.
    pub(crate) fn has_backlog(&self) -> bool {
        self.outgoing.lock().outbox.bytes() > 0
    }

    /// Whether so much waits to be written that writing it with what comes next saves nothing: it leaves the processor's
    /// cache meanwhile.
    pub(crate) fn has_bulk(&self) -> bool {
        let outgoing = self.outgoing.lock();
        outgoing.stalled_since.is_none() && outgoing.outbox.bytes() >= BULK_BYTES_MIN
    }

    /// Whether the connection may begin more. If not, its task is woken when a call has ended elsewhere.
    pub(crate) fn has_room_or_waits(&self) -> bool {
        if self.has_room() {
            return true;
        }
        self.wait_for_slow();
        self.has_room()
    }

    /// Whether the connection may begin more. If not, it may once more was written or finished.
    fn has_room(&self) -> bool {
        let under_way = self.outgoing.lock().outbox.bytes() + self.slow_bytes.load(Ordering::SeqCst);
        under_way < if self.budget.is_spent() { WIRE_BYTES_SHARE } else { WIRE_BYTES_MAX }
    }

    /// Has the next call that ends elsewhere wake the connection's task. To be said before it looks whether it has to wait
    /// for that.
    pub(crate) fn wait_for_slow(&self) {
        self.waits_for_slow.store(true, Ordering::SeqCst);
    }

    /// Returns when the connection's task has something to look at.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Has the connection's task look around.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Counts a call of so many bytes that is carried out elsewhere.
    pub(crate) fn begin_slow(&self, bytes: usize) {
        self.slow_bytes.fetch_add(bytes, Ordering::SeqCst);
        self.budget.add(bytes);
    }

    /// Such a call has been carried out. The task is woken only if it waits for that: mostly it waits for the peer.
    pub(crate) fn end_slow(&self, bytes: usize) {
        self.budget.give_back(bytes);
        self.slow_bytes.fetch_sub(bytes, Ordering::SeqCst);
        if self.waits_for_slow.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Ends the connection: its task leaves as soon as it looks.
    pub(crate) fn close(&self, why: Closed) {
        self.closed.get_or_init(|| why);
        self.wake();
    }

    /// Whether it was ended, and why.
    pub(crate) fn closed(&self) -> Option<Closed> {
        self.closed.get().copied()
    }

    /// Since when the peer has taken nothing of what waits for it.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.outgoing.lock().stalled_since
    }

    /// Whether nothing is under way: nothing to be written, and no call carried out elsewhere.
    pub(crate) fn is_idle(&self) -> bool {
        !self.has_backlog() && self.slow_bytes.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let outgoing = self.outgoing.get_mut();
        self.budget.give_back(outgoing.outbox.bytes());
        outgoing.outbox.clear();
    }
}

impl Outgoing {
    fn write(&mut self, stream: &Stream) -> io::Result<usize> {
        let mut total = 0;
        while self.outbox.bytes() > 0 {
            let mut parts = [IoSlice::new(&[]); PIECES_MAX];
            let count = self.outbox.parts(&mut parts);
            match stream.try_write(&parts[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.outbox.advance(written);
                    total += written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let stalled = self.outbox.bytes() > 0;
        self.stalled_since = match self.stalled_since {
            Some(since) if stalled && total == 0 => Some(since),
            Some(_) | None => stalled.then(Instant::now),
        };
        Ok(total)
    }
}

impl Budget {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) > IN_FLIGHT_BYTES_MAX
    }
}
