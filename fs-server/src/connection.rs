//! A connection that carries a session: reads what has arrived, answers what can be answered at once, and
//! writes all answers together.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::codec::{DecodeError, FrameKind, Header, decode_control};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::limits::PAYLOAD_BYTES_MAX;
use nearfs_protocol::message::Call;
use nearfs_protocol::session::server::{
    Admission, Cancellation, ConnectionId, Incoming, Violation, fingerprint,
};
use nearfs_transport::assembler::Assembler;
use nearfs_transport::pool::Payload;

use crate::dispatch::{Response, Served, SlowCall};
use crate::keep::is_kept;
use crate::roster;
use crate::session::Session;
use crate::state::Shared;
use crate::telling::Telling;
use crate::wire::{Closed, Wire};

/// Bytes that one connection moves before others get their turn.
const TURN_BYTES_MAX: usize = 512 * 1024;
/// What a frame counts beside its payload.
const FRAME_COST_BYTES: usize = 4 * 1024;
/// Of a frame that arrives slowly at least this much must arrive in the time for a frame.
const FRAME_PROGRESS_BYTES_MIN: usize = 64 * 1024;

/// One connection, after the greeting.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Session>,
    pub(crate) id: ConnectionId,
    /// Whether it comes from the server's own user or root.
    pub(crate) is_owner: bool,
    pub(crate) wire: Arc<Wire>,
    pub(crate) assembler: Assembler,
    pub(crate) partial: Option<Partial>,
}

/// A frame that has arrived in part.
pub(crate) struct Partial {
    due: Instant,
    bytes: usize,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("it said good-bye")]
    Bye,
    #[error("the peer closed it")]
    Closed,
    #[error("the peer closed it within a frame")]
    Cut,
    #[error("{0}")]
    ClosedHere(#[from] Closed),
    #[error("the server is stopping")]
    Stopping,
    #[error("a frame did not arrive in time")]
    SlowFrame,
    #[error("the peer does not take its answers")]
    Stalled,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the peer broke the protocol: {0}")]
    Undecodable(#[from] DecodeError),
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error("the peer broke the protocol: an unexpected {0:?} frame")]
    Unexpected(FrameKind),
}

impl Connection {
    /// Serves until the connection ends.
    pub(crate) async fn serve(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.turn().await {
                self.wire.flush_own();
                return ended;
            }
        }
    }

    /// Answers what has arrived, then reads more or waits for something to do.
    async fn turn(&mut self) -> Result<(), Ended> {
        let turn_over = self.take_frames()?;
        if !self.wire.flush_own()
            && let Some(why) = self.wire.closed()
        {
            return Err(why.into());
        }
        if turn_over {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let stopping = self.shared.is_stopping();
        if stopping {
            self.wire.wait_for_slow();
            if self.wire.is_idle() {
                return Err(Ended::Stopping);
            }
        }
        let reading = !stopping && self.wire.has_room_or_waits();
        if reading && self.read()? {
            return Ok(());
        }
        self.wait(reading).await
    }

    /// Carries out the frames that have arrived whole, while there is room for their answers. Whether there
    /// may be more of them, but others have to get their turn.
    fn take_frames(&mut self) -> Result<bool, Ended> {
        let now = Instant::now();
        let mut moved_bytes = 0;
        while self.wire.has_room_or_waits() {
            let Some(frame) = self.assembler.next_frame()? else { return Ok(false) };
            moved_bytes += FRAME_COST_BYTES + frame.payload.len();
            let Header { kind, id, .. } = frame.header;
            let peer = Peer {
                shared: &self.shared,
                session: &self.session,
                id: self.id,
                is_owner: self.is_owner,
                wire: &self.wire,
            };
            match kind {
                FrameKind::Call => moved_bytes += peer.call(id, frame.control, frame.payload, now)?,
                FrameKind::Cancel => peer.cancel(id, now)?,
                FrameKind::Ping => self.wire.push(FrameKind::Pong, id, &()),
                FrameKind::Ack => self.session.acked(id)?,
                FrameKind::Bye => return Err(Ended::Bye),
                FrameKind::Pong
                | FrameKind::Hello
                | FrameKind::Welcome
                | FrameKind::Refused
                | FrameKind::Answer
                | FrameKind::Push => return Err(Ended::Unexpected(kind)),
            }
            if moved_bytes > TURN_BYTES_MAX {
                return Ok(true);
            }
            if self.wire.has_bulk() {
                self.wire.flush_own();
            }
        }
        Ok(false)
    }

    /// Reads what is there. Whether that was anything.
    fn read(&mut self) -> Result<bool, Ended> {
        match self.wire.stream.try_read(&mut self.assembler) {
            Ok(0) if self.assembler.at_boundary() => Err(Ended::Closed),
            Ok(0) => Err(Ended::Cut),
            Ok(bytes) => {
                let now = Instant::now();
                self.session.received(self.id, now)?;
                self.note_progress(bytes, now);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// A frame may take its time only while enough of it keeps coming.
    fn note_progress(&mut self, bytes: usize, now: Instant) {
        if let Some(partial) = &mut self.partial {
            partial.bytes += bytes;
            if partial.bytes >= FRAME_PROGRESS_BYTES_MIN {
                *partial = Partial { due: now + self.shared.timings.frame_max, bytes: 0 };
            }
        }
    }

    /// Waits until bytes can be read, if they are wanted, or written, if there are any, or somebody says
    /// that there is something to look at.
    async fn wait(&mut self, reading: bool) -> Result<(), Ended> {
        let timings = &self.shared.timings;
        let stalled = self.wire.stalled_since().map(|since| since + timings.stall_max);
        self.partial = match self.partial.take() {
            _ if self.assembler.at_boundary() => None,
            None if reading => Some(Partial { due: Instant::now() + timings.frame_max, bytes: 0 }),
            partial => partial,
        };
        let partial = self.partial.as_ref().map(|partial| partial.due);
        let stream = &self.wire.stream;
        let ready = async {
            match (reading, stalled.is_some()) {
                (true, write) => stream.ready(write).await,
                (false, true) => stream.writable().await,
                (false, false) => std::future::pending().await,
            }
        };
        let woken = async {
            tokio::select! {
                ready = ready => ready,
                () = self.wire.woken() => Ok(()),
            }
        };
        let Some(due) = stalled.into_iter().chain(partial).min() else { return Ok(woken.await?) };
        match tokio::time::timeout_at(due.into(), woken).await {
            Ok(ready) => Ok(ready?),
            Err(_) if stalled.is_some_and(|due| due <= Instant::now()) => Err(Ended::Stalled),
            Err(_) => Err(Ended::SlowFrame),
        }
    }
}

/// What answers go to.
struct Peer<'a> {
    shared: &'a Arc<Shared>,
    session: &'a Arc<Session>,
    id: ConnectionId,
    is_owner: bool,
    wire: &'a Arc<Wire>,
}

impl Peer<'_> {
    /// Carries out a call or sees to it that it is. Returns the bytes that it moved.
    fn call(&self, id: RequestId, control: &[u8], payload: Payload, now: Instant) -> Result<usize, Ended> {
        let call: Call = decode_control(control)?;
        let asked_bytes = (call.request.answer_bytes_max() as usize).clamp(payload.len(), PAYLOAD_BYTES_MAX);
        let mutation = call.request.is_mutation().then(|| fingerprint(control));
        let incoming = Incoming { mutation, payload_bytes: asked_bytes as u32 };
        let told = (call.request.name(), payload.len());
        match self.session.call(self.id, id, incoming, told, now)? {
            Admission::Run => {
                if let Some(fingerprint) = mutation.filter(|_| is_kept(&call.request)) {
                    self.session.files.note_begun(id, fingerprint);
                }
                Ok(self.run(id, call, payload, asked_bytes))
            }
            Admission::Answer(answer) => {
                self.wire.push_answer(id, Response { answer, payload: Payload::empty() });
                Ok(0)
            }
            Admission::Underway | Admission::Drop => Ok(0),
        }
    }

    fn run(&self, id: RequestId, call: Call, payload: Payload, asked_bytes: usize) -> usize {
        let telling = Telling::new(self.session, &call.request);
        let busy = self.shared.pulse.begin();
        let of_server = roster::serve(self.shared, self.session, self.is_owner, &call.request);
        let served = match of_server {
            Some(served) => served,
            None if busy.is_some() => self.session.files.serve(id, call, payload),
            None => self.session.files.serve_elsewhere(id, call, payload),
        };
        drop(busy);
        match served {
            Served::Answered(response) => {
                telling.tell(self.session, &response);
                let moved_bytes = response.payload.len();
                if let Some(wire) = self.session.finish(id, response)
                    && !Arc::ptr_eq(&wire, self.wire)
                {
                    wire.flush();
                }
                moved_bytes
            }
            Served::Slow(call) => {
                self.run_elsewhere(id, telling, call, asked_bytes);
                0
            }
            Served::Waits(wait) => {
                let session = self.session.clone();
                wait.then(move |response| session.finish_and_flush(id, response));
                0
            }
        }
    }

    /// Carries out a call that may sleep where sleeping hurts nobody.
    fn run_elsewhere(&self, id: RequestId, telling: Telling, call: SlowCall, asked_bytes: usize) {
        let (session, wire) = (self.session.clone(), self.wire.clone());
        let cost_bytes = FRAME_COST_BYTES + asked_bytes;
        wire.begin_slow(cost_bytes);
        let permits = session.slow_permits.clone();
        let run = move |permit| {
            let response = call.run();
            telling.tell(&session, &response);
            session.finish_and_flush(id, response);
            drop(permit);
            wire.end_slow(cost_bytes);
        };
        match permits.clone().try_acquire_owned() {
            Ok(permit) => drop(tokio::task::spawn_blocking(move || run(permit))),
            Err(_) => drop(tokio::spawn(async move {
                // The semaphore is never closed.
                if let Ok(permit) = permits.acquire_owned().await {
                    tokio::task::spawn_blocking(move || run(permit));
                }
            })),
        }
    }

    fn cancel(&self, id: RequestId, now: Instant) -> Result<(), Ended> {
        match self.session.cancel(self.id, id, now)? {
            Cancellation::Answer(answer) => {
                self.wire.push_answer(id, Response { answer, payload: Payload::empty() });
            }
            Cancellation::Running => {
                self.session.files.cancel(id);
            }
            Cancellation::Crossed => {}
        }
        Ok(())
    }
}
