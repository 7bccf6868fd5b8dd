//! What outlives a connection: the session machine, the open files, and the connections it has at present.

use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::greeting::{Refusal, SessionWish, Welcome};
use nearfs_protocol::id::{RequestId, SessionId, SessionToken};
use nearfs_protocol::message::Push;
use nearfs_protocol::roster::SessionReport;
use nearfs_protocol::session::server::{
    Admission, Cancellation, ConnectionId, Event, Incoming, Phase, ServerSession, Violation,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::dispatch::Response;
use crate::journal::Journal;
use crate::lock::Untold;
use crate::session_files::SessionFiles;
use crate::visitor::{Traffic, Visitor};
use crate::wire::{Closed, Wire};

/// Most calls of one session that sleep at the same time, so that others find a thread to sleep on.
const SLOW_CALLS_MAX: usize = 16;

/// One client's session.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) token: SessionToken,
    pub(crate) visitor: Visitor,
    pub(crate) journal: Arc<Journal>,
    pub(crate) files: Arc<SessionFiles>,
    pub(crate) slow_permits: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    machine: ServerSession,
    wires: Vec<(ConnectionId, Arc<Wire>)>,
    traffic: Traffic,
    address: String,
}

impl Session {
    /// A session that has no connection yet.
    pub(crate) fn new(
        machine: ServerSession,
        visitor: Visitor,
        files: Arc<SessionFiles>,
        journal: Arc<Journal>,
    ) -> Session {
        let traffic = Traffic::new(Instant::now());
        Session {
            id: machine.id(),
            token: machine.token(),
            visitor,
            journal,
            files,
            slow_permits: Arc::new(Semaphore::new(SLOW_CALLS_MAX)),
            state: Mutex::new(State { machine, wires: Vec::new(), traffic, address: String::new() }),
        }
    }

    /// Has a connection carry the session; it is welcomed before anything else is said on it.
    pub(crate) fn attach(
        &self,
        wish: &SessionWish,
        wire: &Arc<Wire>,
        welcome: &Welcome,
    ) -> Result<ConnectionId, Refusal> {
        let mut state = self.state.lock();
        if state.machine.phase() == Phase::Over {
            return Err(Refusal::NoSession);
        }
        let attached = state.machine.attach(wish, Instant::now())?;
        let untold = self.files.revive();
        state.address = wire.stream.peer().to_string();
        for displaced in attached.displaced {
            state.close_wire(displaced, Closed::Displaced);
        }
        wire.push(FrameKind::Welcome, RequestId(0), welcome);
        state.wires.push((attached.connection, wire.clone()));
        drop(state);
        untold.tell();
        Ok(attached.connection)
    }

    /// A connection ended. Whether it was the last one.
    pub(crate) fn detach(&self, connection: ConnectionId) -> bool {
        let mut state = self.state.lock();
        state.wires.retain(|(id, _)| *id != connection);
        state.machine.detach(connection, Instant::now());
        state.wires.is_empty()
    }

    /// Something arrived on a connection.
    pub(crate) fn received(&self, connection: ConnectionId, now: Instant) -> Result<(), Violation> {
        self.state.lock().machine.received(connection, now)
    }

    /// A call of an operation arrived, with so many bytes of payload. With [`Admission::Run`] it counts as begun.
    pub(crate) fn call(
        &self,
        connection: ConnectionId,
        id: RequestId,
        incoming: Incoming,
        (operation, payload_bytes): (&'static str, usize),
        now: Instant,
    ) -> Result<Admission, Violation> {
        let mut state = self.state.lock();
        let admission = state.machine.call(connection, id, incoming, now)?;
        state.traffic.asked(operation, payload_bytes, now);
        match admission {
            Admission::Run if !state.machine.start(id) => Ok(Admission::Drop),
            Admission::Run | Admission::Underway | Admission::Answer(_) | Admission::Drop => Ok(admission),
        }
    }

    /// A cancel arrived.
    pub(crate) fn cancel(
        &self,
        connection: ConnectionId,
        id: RequestId,
        now: Instant,
    ) -> Result<Cancellation, Violation> {
        self.state.lock().machine.cancel(connection, id, now)
    }

    /// An acknowledgement of a push arrived.
    pub(crate) fn acked(&self, id: RequestId) -> Result<(), Violation> {
        self.state.lock().machine.acked(id)
    }

    /// A call was carried out: remembers the answer and queues it for the connection that wants it, which
    /// is returned. It is not flushed.
    pub(crate) fn finish(&self, id: RequestId, response: Response) -> Option<Arc<Wire>> {
        self.files.note_answer(id, &response.answer);
        let wire = {
            let mut state = self.state.lock();
            let connection = state.machine.finish(id, &response.answer)?;
            state.traffic.answered(response.payload.len());
            state.wires.iter().find(|(id, _)| *id == connection).map(|(_, wire)| wire.clone())?
        };
        wire.push_answer(id, response);
        Some(wire)
    }

    /// The same from a thread that has no more to say.
    pub(crate) fn finish_and_flush(&self, id: RequestId, response: Response) {
        if let Some(wire) = self.finish(id, response) {
            wire.flush();
        }
    }

    /// Says something unasked, on one connection.
    pub(crate) fn push(&self, push: &Push) {
        let wire = {
            let mut state = self.state.lock();
            let id = state.machine.push();
            let first = state.wires.first().map(|(_, wire)| wire.clone());
            first.inspect(|wire| wire.push(FrameKind::Push, id, push))
        };
        if let Some(wire) = wire {
            wire.flush();
        }
    }

    /// Has the tasks of all its connections look around.
    pub(crate) fn wake(&self) {
        for (_, wire) in &self.state.lock().wires {
            wire.wake();
        }
    }

    /// Where it stands.
    pub(crate) fn phase(&self) -> Phase {
        self.state.lock().machine.phase()
    }

    /// Does what is due. Whether the session is over, and to be ended.
    pub(crate) fn keep_time(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        if state.machine.poll_timeout().is_none_or(|due| now < due) {
            return false;
        }
        let mut untold = Untold::default();
        let mut over = false;
        for event in state.machine.handle_timeout(now) {
            match event {
                Event::Silent(connection) => state.close_wire(connection, Closed::Silent),
                // Before the session can be resumed: one that is back must not lose its locks.
                Event::LeaseEnded => {
                    log::info!("session {}: its lease has run out", self.id.0);
                    untold = self.files.lapse();
                    self.files.end_transfers();
                }
                Event::Over => over = true,
            }
        }
        drop(state);
        untold.tell();
        over
    }

    /// What others are told of it.
    pub(crate) fn report(&self, asking: SessionId, now: Instant) -> SessionReport {
        let millis = |since: Instant| now.saturating_duration_since(since).as_millis() as u64;
        let (transfer_count, transfers) = self.files.transfers.reports();
        let state = self.state.lock();
        SessionReport {
            id: self.id,
            own: self.id == asking,
            client: self.visitor.name.clone(),
            address: state.address.clone(),
            uid: self.visitor.uid,
            shell: self.visitor.is_shell,
            connected: !state.wires.is_empty(),
            age_ms: millis(state.traffic.begun),
            idle_ms: millis(state.traffic.asked_at),
            open_files: self.files.open_file_count() as u64,
            locks: self.files.lock_count() as u64,
            read_bytes: state.traffic.read_bytes,
            written_bytes: state.traffic.written_bytes,
            recent: state.traffic.recent().map(str::to_owned).collect(),
            transfers,
            transfer_count,
        }
    }

    /// The server's owner ends it: tells the client, and frees everything it has, see [`Session::end`].
    pub(crate) fn dismiss(&self) {
        self.push(&Push::EndedByOwner);
        for (_, wire) in &self.state.lock().wires {
            wire.close(Closed::EndedByOwner);
        }
        self.end();
    }

    /// Frees everything it has and closes its connections. Closing files may sleep.
    pub(crate) fn end(&self) {
        self.fall_silent();
        self.files.end();
    }

    /// Closes its connections, and answers nothing any more.
    pub(crate) fn fall_silent(&self) {
        let mut state = self.state.lock();
        state.machine.end();
        for (_, wire) in state.wires.drain(..) {
            wire.close(Closed::SessionOver);
        }
    }
}

impl State {
    fn close_wire(&mut self, connection: ConnectionId, why: Closed) {
        if let Some(at) = self.wires.iter().position(|(id, _)| *id == connection) {
            self.wires.swap_remove(at).1.close(why);
        }
    }
}
