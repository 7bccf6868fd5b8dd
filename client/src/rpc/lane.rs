//! One connection's way out: frames leave in order, and whoever sends one never waits for the network.
//!
//! The thread that has something to send writes it to the socket itself, which is the shortest way. What the
//! socket does not take at once is queued, and a thread of the lane brings it out when there is room.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use nearfs_protocol::codec::{FrameKind, Header, set_id};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::limits::{HEADER_BYTES, REQUESTS_IN_FLIGHT_MAX};
use nearfs_protocol::session::ConnectionId;
use nearfs_transport::link::{LinkCloser, LinkWriter};
use nearfs_transport::pool::Payload;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::rpc::inbox::Inbox;

/// Most frames that wait: a call and a cancel for each request in flight, and as many pongs and acks. A server that
/// asks for more of these without reading them is given up.
const QUEUE_FRAMES_MAX: usize = 4 * REQUESTS_IN_FLIGHT_MAX;

/// A request as it is sent, and sent again after a loss: everything but its id.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// Header and control part.
    pub(crate) head: Vec<u8>,
    /// Raw bytes behind them.
    pub(crate) payload: Option<Arc<Payload>>,
}

/// A frame on its way out.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    /// A request.
    Call(RequestId, Arc<Encoded>),
    /// A frame without control part and payload.
    Bare(FrameKind, RequestId),
}

/// A connection that can be written to.
pub(crate) struct Lane {
    pub(crate) connection: ConnectionId,
    pub(super) inbox: Inbox,
    writer: LinkWriter,
    closer: LinkCloser,
    out: Mutex<Out>,
    filled: Condvar,
}

#[derive(Default)]
struct Out {
    queue: VecDeque<Outgoing>,
    /// Bytes of the first frame that have left.
    first_sent_bytes: usize,
    closed: bool,
}

impl Lane {
    pub(super) fn new(
        connection: ConnectionId,
        inbox: Inbox,
        writer: LinkWriter,
        closer: LinkCloser,
    ) -> Lane {
        Lane { connection, inbox, writer, closer, out: Mutex::default(), filled: Condvar::new() }
    }

    /// Sends a frame, or queues it. A lane that is closed drops it: the session sends it again when it resumes.
    pub(crate) fn send(&self, outgoing: Outgoing) {
        let mut out = self.out.lock();
        if out.closed {
            return;
        }
        if let Outgoing::Call(..) = outgoing {
            self.inbox.expect();
        }
        out.queue.push_back(outgoing);
        if out.queue.len() > QUEUE_FRAMES_MAX {
            return self.fail(&mut out, &ErrorKind::QuotaExceeded.into());
        }
        if out.queue.len() > 1 {
            return; // The lane's thread is at it.
        }
        self.drain(&mut out);
        if !out.queue.is_empty() {
            self.filled.notify_one();
        }
    }

    /// Ends the connection; its reader notices by itself.
    pub(crate) fn close(&self) {
        self.closer.close();
        self.out.lock().closed = true;
        self.filled.notify_one();
    }

    /// The lane's thread: brings out what had to be queued, until the lane is closed.
    pub(crate) fn run(&self) {
        let mut out = self.out.lock();
        while !out.closed {
            if out.queue.is_empty() {
                self.filled.wait(&mut out);
                continue;
            }
            let waited = MutexGuard::unlocked(&mut out, || self.writer.wait_writable());
            match waited {
                Ok(()) => self.drain(&mut out),
                Err(error) => self.fail(&mut out, &error),
            }
        }
    }

    /// Writes as much as the socket takes.
    fn drain(&self, out: &mut Out) {
        while let Some(first) = out.queue.front() {
            match write_some(&self.writer, first, out.first_sent_bytes) {
                Ok((_, true)) => {
                    out.queue.pop_front();
                    out.first_sent_bytes = 0;
                }
                Ok((bytes, false)) => out.first_sent_bytes += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return self.fail(out, &error),
            }
        }
    }

    fn fail(&self, out: &mut Out, error: &std::io::Error) {
        log::debug!("cannot send: {error}");
        out.closed = true;
        out.queue.clear();
        self.closer.close();
    }
}

/// Writes a frame from its `skip`-th byte on. Returns how many bytes left, and whether that was all.
fn write_some(writer: &LinkWriter, frame: &Outgoing, skip: usize) -> std::io::Result<(usize, bool)> {
    let mut header = [0; HEADER_BYTES];
    let (control, payload): (&[u8], &[u8]) = match frame {
        Outgoing::Call(id, encoded) => {
            header.copy_from_slice(&encoded.head[..HEADER_BYTES]);
            set_id(&mut header, *id);
            let payload = encoded.payload.as_ref().map_or(&[][..], |payload| &payload[..]);
            (&encoded.head[HEADER_BYTES..], payload)
        }
        Outgoing::Bare(kind, id) => {
            header = Header { kind: *kind, control_bytes: 0, payload_bytes: 0, id: *id }.to_bytes();
            (&[], &[])
        }
    };
    let mut left = skip;
    let parts = [&header[..], control, payload].map(|part| {
        let skipped = left.min(part.len());
        left -= skipped;
        IoSlice::new(&part[skipped..])
    });
    let total = parts.iter().map(|part| part.len()).sum::<usize>();
    let sent = writer.try_write_vectored(&parts)?;
    Ok((sent, sent == total))
}
