//! The server's side of a session.
//!
//! A driver admits connections with [`ServerSession::attach`], brings every call to
//! [`ServerSession::call`], every cancel frame to [`ServerSession::cancel`], and every outcome to
//! [`ServerSession::finish`] before the answer is sent. So each mutation is carried out once, however often it
//! arrives, and each call that arrives gets one answer.

use std::time::{Duration, Instant};

pub use super::ConnectionId;
use super::in_flight::earlier;
use super::link::{Link, Wakefulness};
pub use super::slot::{Incoming, fingerprint, remembered};
use super::slot::{Slot, State};
use crate::errno::Errno;
use crate::greeting::{GrantedLimits, Hello, Refusal, SessionWish};
use crate::id::{RequestId, SessionId, SessionToken};
use crate::limits::{COURTESY, EXPORT_NAME_BYTES_MAX, LINK_SILENCE_MAX};
use crate::message::Answer;
use crate::version::{Features, SPOKEN};

/// The server's machine for one session.
#[derive(Debug)]
pub struct ServerSession {
    id: SessionId,
    token: SessionToken,
    limits: GrantedLimits,
    phase: Phase,
    slots: Vec<Slot>,
    running: usize,
    bytes: usize,
    links: Vec<Link>,
    connections: u64,
    /// The connection that resumed the session last. What earlier ones asked must be asked again.
    resumed_on: ConnectionId,
    pushes: u64,
    wakefulness: Wakefulness,
}

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// At least one connection is attached, or none was yet.
    Live,
    /// All connections are lost; it keeps everything it has.
    Lease {
        /// Since when.
        since: Instant,
    },
    /// The lease has run out: what others ask for is theirs, the rest stays.
    Courtesy {
        /// Since when no connection is attached.
        since: Instant,
    },
    /// Nothing of it is left.
    Over,
}

/// A mutation that was answered before the server was started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Which.
    pub id: RequestId,
    /// [`fingerprint`] of its control part.
    pub fingerprint: u64,
    /// What was answered, without content.
    pub answer: Answer,
}

/// A connection that carries the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its number.
    pub connection: ConnectionId,
    /// Earlier connections that the session has left, which must be closed.
    pub displaced: Vec<ConnectionId>,
}

/// What to do with a call that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Carry it out: [`ServerSession::start`] first, [`ServerSession::finish`] in the end.
    Run,
    /// Nothing: it is being carried out, and is answered when that is finished.
    Underway,
    /// Send this answer, which it was given before.
    Answer(Answer),
    /// Nothing: it was answered or cancelled, or is answered without it. A cancel on another connection can
    /// overtake its call, and so can the next call of the slot.
    Drop,
}

/// What to do with a cancel that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// Send this answer.
    Answer(Answer),
    /// End it early if that is possible (a wait for a lock); it is answered when it is finished.
    Running,
    /// Nothing: its answer is on the way.
    Crossed,
}

/// The client broke the rules: its connection is closed, and the reason logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The session has left this connection. No fault of the client's, but the end of the connection as well.
    #[error("the session has left this connection")]
    Detached,
    /// The slot is above what was granted, or the sequence number is zero.
    #[error("a request id that was not granted")]
    BadId,
    /// The slot carries a request that is not answered.
    #[error("a second request in a slot")]
    SlotTaken,
    /// An operation id was used twice.
    #[error("a request with the id of another")]
    OtherContent,
    /// More payload under way than was granted.
    #[error("more bytes in flight than were granted")]
    TooManyBytes,
    /// An acknowledgement of a push that was never sent.
    #[error("an acknowledgement of nothing")]
    AckOfNothing,
}

/// What handling a timeout found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing arrives on this connection any more. It is detached already; close it.
    Silent(ConnectionId),
    /// The lease has run out: locks go to whoever waits for them.
    LeaseEnded,
    /// Nobody came back: free everything.
    Over,
}

/// Which version and features a client and this server speak.
pub fn negotiate(hello: &Hello, features: Features) -> Result<(u16, Features), Refusal> {
    let version = SPOKEN.newest_shared(hello.versions).ok_or(Refusal::Version(SPOKEN))?;
    match &hello.session {
        SessionWish::New { export, .. } if export.len() > EXPORT_NAME_BYTES_MAX => Err(Refusal::NoExport),
        SessionWish::New { .. } | SessionWish::Resume { .. } | SessionWish::Join { .. } => {
            Ok((version, features & hello.features))
        }
    }
}

impl ServerSession {
    /// A session without a connection. `token` must be unguessable.
    pub fn new(id: SessionId, token: SessionToken, limits: GrantedLimits) -> ServerSession {
        ServerSession {
            id,
            token,
            limits,
            phase: Phase::Live,
            slots: Vec::new(),
            running: 0,
            bytes: 0,
            links: Vec::new(),
            connections: 0,
            resumed_on: ConnectionId(0),
            pushes: 0,
            wakefulness: Wakefulness::default(),
        }
    }

    /// A session of before the server was started again: it has no connection, and what each of its slots
    /// remembers. It can be resumed as if its last connection had been lost at `since`, which may be ahead.
    /// Slots beyond what `limits` grant are passed over.
    pub fn restored(
        id: SessionId,
        token: SessionToken,
        limits: GrantedLimits,
        remembered: impl IntoIterator<Item = Remembered>,
        since: Instant,
    ) -> ServerSession {
        let mut session = ServerSession::new(id, token, limits);
        session.phase = Phase::Lease { since };
        // One that has had connections is not begun again.
        session.connections = 1;
        for Remembered { id, fingerprint, answer } in remembered {
            if let Ok(slot) = session.slot(id) {
                let request = Incoming { mutation: Some(fingerprint), payload_bytes: 0 };
                slot.take(id, ConnectionId(0), request, State::Done(Some(answer)));
            }
        }
        session
    }

    /// Which session it is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What resuming or joining it takes.
    pub fn token(&self) -> SessionToken {
        self.token
    }

    /// What it was granted.
    pub fn limits(&self) -> &GrantedLimits {
        &self.limits
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Admits a connection that wishes for this session. A resume displaces all earlier connections.
    pub fn attach(&mut self, wish: &SessionWish, now: Instant) -> Result<Attached, Refusal> {
        let displaced = match wish {
            SessionWish::New { .. } if self.connections > 0 => return Err(Refusal::Malformed),
            SessionWish::New { .. } => Vec::new(),
            SessionWish::Resume { session, token } => {
                self.prove(*session, token)?;
                self.resumed_on = ConnectionId(self.connections + 1);
                self.links.drain(..).map(|link| link.id).collect()
            }
            SessionWish::Join { session, token } => {
                self.prove(*session, token)?;
                if self.links.is_empty() {
                    return Err(Refusal::NoSession);
                }
                if self.links.len() >= usize::from(self.limits.connections_max) {
                    return Err(Refusal::Full);
                }
                Vec::new()
            }
        };
        self.phase = Phase::Live;
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.links.push(Link::new(connection, now));
        Ok(Attached { connection, displaced })
    }

    /// A connection ended.
    pub fn detach(&mut self, connection: ConnectionId, now: Instant) {
        let attached = self.links.len();
        self.links.retain(|link| link.id != connection);
        if attached > 0 && self.links.is_empty() && self.phase == Phase::Live {
            self.phase = Phase::Lease { since: now };
        }
    }

    /// The client said good-bye, or somebody conflicts with what the session keeps by courtesy.
    pub fn end(&mut self) {
        self.links.clear();
        self.slots.clear();
        (self.running, self.bytes) = (0, 0);
        self.phase = Phase::Over;
    }

    /// A call arrived.
    pub fn call(
        &mut self,
        connection: ConnectionId,
        id: RequestId,
        request: Incoming,
        now: Instant,
    ) -> Result<Admission, Violation> {
        self.received(connection, now)?;
        let resumed_on = self.resumed_on;
        let slot = self.slot(id)?;
        if id.sequence() > slot.sequence {
            return if slot.is_busy() {
                Err(Violation::SlotTaken)
            } else {
                self.run(connection, id, request)
            };
        }
        if id.sequence() < slot.sequence {
            return Ok(Admission::Drop);
        }
        let asked_before = slot.asked_on >= resumed_on;
        if matches!(slot.state, State::Refused) && asked_before {
            return Ok(Admission::Drop);
        }
        if slot.request.mutation != request.mutation {
            return Err(Violation::OtherContent);
        }
        if asked_before {
            return Ok(Admission::Drop);
        }
        slot.asked_on = connection;
        match &slot.state {
            State::Done(Some(answer)) => Ok(Admission::Answer(answer.clone())),
            State::Done(None) => self.run(connection, id, request),
            State::Refused => Ok(Admission::Answer(Err(Errno::ECANCELED))),
            State::Waiting | State::Running | State::Idle => Ok(Admission::Underway),
        }
    }

    /// A call is about to be carried out. `false`: it was cancelled and answered, and must not be.
    pub fn start(&mut self, id: RequestId) -> bool {
        let waiting = self.slots.get_mut(id.slot()).filter(|slot| slot.sequence == id.sequence());
        match waiting {
            Some(Slot { state: state @ State::Waiting, .. }) => {
                *state = State::Running;
                true
            }
            Some(_) | None => false,
        }
    }

    /// A call was carried out. Returns the connection on which to send the answer; `None` if the one that
    /// asked is gone. The client then asks again if it still wants to know.
    pub fn finish(&mut self, id: RequestId, answer: &Answer) -> Option<ConnectionId> {
        let slot = self.slots.get_mut(id.slot()).filter(|slot| slot.sequence == id.sequence())?;
        if !slot.is_busy() {
            return None;
        }
        slot.state = State::Done(slot.request.mutation.map(|_| remembered(answer)));
        let (asked_on, bytes) = (slot.asked_on, slot.request.payload_bytes as usize);
        self.bytes -= bytes;
        self.running -= 1;
        self.links.iter().any(|link| link.id == asked_on).then_some(asked_on)
    }

    /// A cancel frame arrived.
    pub fn cancel(
        &mut self,
        connection: ConnectionId,
        id: RequestId,
        now: Instant,
    ) -> Result<Cancellation, Violation> {
        self.received(connection, now)?;
        let resumed_on = self.resumed_on;
        let slot = self.slot(id)?;
        if id.sequence() < slot.sequence {
            return Ok(Cancellation::Crossed);
        }
        let refused = Ok(Cancellation::Answer(Err(Errno::ECANCELED)));
        if id.sequence() > slot.sequence {
            if slot.is_busy() {
                return Err(Violation::SlotTaken);
            }
            slot.take(id, connection, Incoming::default(), State::Refused);
            return refused;
        }
        let asked_before = slot.asked_on >= resumed_on;
        if !asked_before {
            slot.asked_on = connection;
        }
        match &slot.state {
            State::Waiting => {
                let bytes = slot.request.payload_bytes as usize;
                slot.state = State::Refused;
                self.bytes -= bytes;
                self.running -= 1;
                refused
            }
            State::Running => Ok(Cancellation::Running),
            State::Done(_) | State::Refused | State::Idle if asked_before => Ok(Cancellation::Crossed),
            State::Done(Some(answer)) => Ok(Cancellation::Answer(answer.clone())),
            State::Done(None) | State::Refused | State::Idle => {
                slot.state = State::Refused;
                refused
            }
        }
    }

    /// Something arrived on a connection, be it only a part of a frame.
    pub fn received(&mut self, connection: ConnectionId, now: Instant) -> Result<(), Violation> {
        let link = self.links.iter_mut().find(|link| link.id == connection).ok_or(Violation::Detached)?;
        link.heard(now);
        Ok(())
    }

    /// Numbers a push.
    pub fn push(&mut self) -> RequestId {
        self.pushes += 1;
        RequestId(self.pushes)
    }

    /// The client carried out a push.
    pub fn acked(&mut self, id: RequestId) -> Result<(), Violation> {
        if (1..=self.pushes).contains(&id.0) { Ok(()) } else { Err(Violation::AckOfNothing) }
    }

    /// Calls that were admitted and are not finished.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Connections that carry the session.
    pub fn attached(&self) -> impl Iterator<Item = ConnectionId> {
        self.links.iter().map(|link| link.id)
    }

    /// When [`Self::handle_timeout`] wants to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = match self.phase {
            Phase::Live => self.links.iter().fold(None, |due, link| earlier(due, Some(link.dead_at()))),
            Phase::Lease { since } => Some(since + self.lease()),
            Phase::Courtesy { since } => Some(since + COURTESY),
            Phase::Over => None,
        };
        due.map(|at| self.wakefulness.not_before(at))
    }

    /// Does what is due. Calling it too early does no harm.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        if self.wakefulness.woke(now) {
            let is_silent = |link: &&Link| link.dead_at() <= now;
            let heard_at = self.links.iter().filter(is_silent).map(Link::heard_at).max();
            let silent: Vec<_> = self.links.iter().filter(is_silent).map(|link| link.id).collect();
            // The lease counts from the last sign of life, but not from before this side slept itself.
            let lost_at = heard_at.max(now.checked_sub(LINK_SILENCE_MAX)).unwrap_or(now);
            for connection in silent {
                self.detach(connection, lost_at);
                events.push(Event::Silent(connection));
            }
            match self.phase {
                Phase::Lease { since } if since + self.lease() <= now => {
                    self.phase = Phase::Courtesy { since };
                    events.push(Event::LeaseEnded);
                }
                Phase::Courtesy { since } if since + COURTESY <= now => {
                    self.end();
                    events.push(Event::Over);
                }
                Phase::Live | Phase::Lease { .. } | Phase::Courtesy { .. } | Phase::Over => {}
            }
        }
        self.wakefulness.sleeps_until(self.poll_timeout());
        events
    }

    fn run(
        &mut self,
        connection: ConnectionId,
        id: RequestId,
        request: Incoming,
    ) -> Result<Admission, Violation> {
        if self.bytes + request.payload_bytes as usize > self.limits.in_flight_bytes_max as usize {
            return Err(Violation::TooManyBytes);
        }
        self.bytes += request.payload_bytes as usize;
        self.running += 1;
        self.slots[id.slot()].take(id, connection, request, State::Waiting);
        Ok(Admission::Run)
    }

    fn slot(&mut self, id: RequestId) -> Result<&mut Slot, Violation> {
        if id.slot() >= self.limits.requests_in_flight_max as usize || id.sequence() == 0 {
            return Err(Violation::BadId);
        }
        if id.slot() >= self.slots.len() {
            self.slots.resize_with(id.slot() + 1, Slot::idle);
        }
        Ok(&mut self.slots[id.slot()])
    }

    fn prove(&self, session: SessionId, token: &SessionToken) -> Result<(), Refusal> {
        let ours = self.phase != Phase::Over && session == self.id && same_token(&self.token, token);
        if ours { Ok(()) } else { Err(Refusal::NoSession) }
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(u64::from(self.limits.lease_ms))
    }
}

/// Compares in a time that does not depend on where they differ.
fn same_token(one: &SessionToken, other: &SessionToken) -> bool {
    let differing = one.0.iter().zip(&other.0).fold(0, |differing, (a, b)| differing | (a ^ b));
    std::hint::black_box(differing) == 0
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
