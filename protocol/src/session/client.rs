//! The client's side of a session.
//!
//! The driver owns sockets, threads and the clock. It greets with what [`ClientSession::hello`] says and
//! reports how that went; it brings every request to [`ClientSession::submit`] before it sends it and every
//! answer to [`ClientSession::answered`]; and it calls [`ClientSession::handle_timeout`] when
//! [`ClientSession::poll_timeout`] is reached, to do what the returned [`Event`]s ask for.
//!
//! `C` is what the driver keeps of a request until it is answered: whom to wake, and the frame to send again.

use std::time::{Duration, Instant};

pub use super::ConnectionId;
use super::backoff::Backoff;
pub use super::in_flight::{Full, Pending, Terms};
use super::in_flight::{InFlight, earlier};
use super::link::{Link, Wakefulness};
use crate::greeting::{GrantedLimits, Hello, Refusal, SessionWish, Welcome};
use crate::id::{BootEpoch, RequestId, SessionId, SessionToken};
use crate::limits::{CONNECTIONS_MAX, IN_FLIGHT_BYTES_MAX, PAYLOAD_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};
use crate::name::Name;
use crate::version::{Features, SPOKEN};

/// What a session of this client is for.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The export's name; empty for the server's default one.
    pub export: Vec<u8>,
    /// The directory below the export's root that is wanted as the root.
    pub path: Vec<Name>,
    /// Who connects, for people to read.
    pub client: String,
    /// What the client can do beyond the protocol's version.
    pub features: Features,
}

/// The client's machine.
#[derive(Debug)]
pub struct ClientSession<C> {
    destination: Destination,
    phase: Phase,
    granted: Option<Granted>,
    in_flight: InFlight<C>,
    links: Vec<Link>,
    connections: u64,
    pings: u64,
    round_trip: Option<Duration>,
    /// The last sign of life on a connection that is gone.
    heard_before: Option<Instant>,
    reconnect: Reconnect,
    backoff: Backoff,
    wakefulness: Wakefulness,
}

/// Where the session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No server has been reached yet.
    Greeting,
    /// At least one connection stands.
    Live,
    /// No connection stands. Requests are accepted and kept, and their deadlines run.
    Lost {
        /// Since when.
        since: Instant,
    },
    /// It cannot be used any more; see [`ClientSession::end`].
    Over(Ending),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// We said good-bye.
    #[error("the mount was ended")]
    Bye,
    /// The server would not have it.
    #[error("{0}")]
    Refused(Refusal),
}

/// What the server granted with the first welcome.
#[derive(Debug)]
struct Granted {
    session: SessionId,
    token: SessionToken,
    epoch: BootEpoch,
    limits: GrantedLimits,
}

/// When to try to connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reconnect {
    /// A session stands, or none is wanted.
    Idle,
    Due(Instant),
    /// The driver is at it.
    Trying,
}

/// A greeting that succeeded.
#[derive(Debug, PartialEq, Eq)]
pub struct Welcomed<'a, C> {
    /// The connection on which it was said.
    pub connection: ConnectionId,
    /// What a resumed session must send on it, in this order: the call, or, where there is none, a cancel
    /// frame with the same id.
    pub send_again: Vec<(RequestId, Option<&'a C>)>,
}

/// The connection on which a welcome came is of no use and must be closed. The session stays as it was,
/// unless [`ClientSession::phase`] says that it is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwelcome {
    /// The session was lost, or went on, while this connection was made.
    #[error("the connection comes too late for its session")]
    TooLate,
    /// The welcome grants what makes no sense, or another session than the one asked for.
    #[error("the server's greeting makes no sense: {0}")]
    Malformed(&'static str),
}

/// What handling a timeout asks the driver to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<C> {
    /// Send a ping with this id on this connection.
    Ping(ConnectionId, RequestId),
    /// Nothing arrives any more: close all connections. The session is lost already.
    Silent,
    /// Connect again and resume.
    Reconnect,
    /// The caller of this request stops waiting: tell it `ETIMEDOUT`.
    Expired(RequestId, Cancelled<C>),
}

/// A request that nobody waits for any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Cancelled<C> {
    /// What the driver kept of it.
    pub call: C,
    /// How its outcome becomes known.
    pub follow: Follow,
}

/// What follows a cancelled request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Nothing: it was never sent and never will be, or the session is over.
    Nothing,
    /// Its answer, once the driver has sent a cancel frame for it.
    SendCancel,
    /// Its answer, some time after the session is resumed.
    Resume,
}

/// What an answer means to the session.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered<C> {
    /// Somebody waits for it.
    Call(C),
    /// The request was cancelled: its outcome is known with this.
    Cancelled,
    /// The session has left the connection on which it came. It counts for nothing: whatever is still
    /// awaited is asked again.
    Late,
}

/// The server answered what was not asked: it is broken, and the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server answered a request that is not in flight")]
pub struct Unasked;

impl<C> ClientSession<C> {
    /// A session that has not reached its server. `seed` makes the waits between attempts differ between
    /// clients.
    pub fn new(destination: Destination, seed: u64) -> ClientSession<C> {
        ClientSession {
            destination,
            phase: Phase::Greeting,
            granted: None,
            in_flight: InFlight::new(),
            links: Vec::new(),
            connections: 0,
            pings: 0,
            round_trip: None,
            heard_before: None,
            reconnect: Reconnect::Idle,
            backoff: Backoff::new(seed),
            wakefulness: Wakefulness::default(),
        }
    }

    /// Where the session stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What to say on the next connection: begin, resume, or join if the session stands.
    pub fn hello(&self) -> Hello {
        let Destination { export, path, client, features } = self.destination.clone();
        let session = match &self.granted {
            None => SessionWish::New { export, path },
            Some(Granted { session, token, .. }) if self.phase == Phase::Live => {
                SessionWish::Join { session: *session, token: *token }
            }
            Some(Granted { session, token, .. }) => SessionWish::Resume { session: *session, token: *token },
        };
        Hello { versions: SPOKEN, features, session, client }
    }

    /// The server welcomed a connection that greeted with `hello`.
    pub fn welcomed(
        &mut self,
        hello: &Hello,
        welcome: &Welcome,
        now: Instant,
    ) -> Result<Welcomed<'_, C>, Unwelcome> {
        self.check(welcome)?;
        let resumes = match (&hello.session, &self.phase) {
            (SessionWish::New { .. }, Phase::Greeting) | (SessionWish::Join { .. }, Phase::Live) => false,
            (SessionWish::Resume { .. }, Phase::Lost { .. }) => true,
            (SessionWish::New { .. } | SessionWish::Resume { .. } | SessionWish::Join { .. }, _) => {
                return Err(Unwelcome::TooLate);
            }
        };
        // A server that was started again and welcomes a resume has kept the session. One that is joined has not been
        // resumed yet.
        let restarted = self.granted.as_ref().is_some_and(|granted| granted.epoch != welcome.epoch);
        if restarted && !resumes {
            return Err(Unwelcome::TooLate);
        }
        self.granted = Some(Granted {
            session: welcome.session,
            token: welcome.token,
            epoch: welcome.epoch,
            limits: welcome.limits,
        });
        self.in_flight.admit(&welcome.limits);
        self.phase = Phase::Live;
        self.reconnect = Reconnect::Idle;
        self.backoff.reset();
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.links.push(Link::new(connection, now));
        let send_again = if resumes { self.in_flight.send_all() } else { Vec::new() };
        Ok(Welcomed { connection, send_again })
    }

    /// The server refused a connection that greeted with `hello`: the session is over, unless the refusal
    /// may pass or only a further connection was asked for.
    pub fn refused(&mut self, hello: &Hello, refusal: Refusal, now: Instant) {
        let may_pass = match refusal {
            Refusal::Full | Refusal::Stopping => true,
            Refusal::Version(_)
            | Refusal::NoExport
            | Refusal::NotAdmitted(_)
            | Refusal::NoSession
            | Refusal::Malformed
            | Refusal::EndedByOwner => false,
        };
        match (&self.phase, &hello.session) {
            (Phase::Greeting, _) => self.over(Ending::Refused(refusal)),
            (Phase::Lost { .. }, SessionWish::Resume { .. }) if may_pass => self.connect_failed(now),
            (Phase::Lost { .. }, SessionWish::Resume { .. }) => self.over(Ending::Refused(refusal)),
            (Phase::Lost { .. } | Phase::Live | Phase::Over(_), _) => {}
        }
    }

    /// An attempt to connect again failed before the server said anything.
    pub fn connect_failed(&mut self, now: Instant) {
        if self.reconnect == Reconnect::Trying {
            self.reconnect = Reconnect::Due(now + self.backoff.wait());
        }
    }

    /// A connection ended. The driver closes the others as well: the session is resumed as a whole, so that
    /// no frame of before can arrive after what is sent again. Returns whether the session is lost by this.
    pub fn lost(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let concerns_us = self.links.iter().any(|link| link.id == connection);
        if concerns_us {
            self.heard_before = self.heard_at();
            self.links.clear();
            self.phase = Phase::Lost { since: now };
            self.reconnect = Reconnect::Due(now);
        }
        concerns_us
    }

    /// We said good-bye, or stop without: no requests are accepted from here on.
    pub fn bye(&mut self) {
        self.over(Ending::Bye);
    }

    /// The server's owner ended the session, and the server said so.
    pub fn dismissed(&mut self) {
        self.over(Ending::Refused(Refusal::EndedByOwner));
    }

    /// Takes every request out of a session that is over, in the order of submission: none of them will be
    /// answered, and of those that were sent nobody knows whether they were carried out.
    pub fn end(&mut self) -> Vec<C> {
        match self.phase {
            Phase::Over(_) => self.in_flight.end(),
            Phase::Greeting | Phase::Live | Phase::Lost { .. } => Vec::new(),
        }
    }

    /// Takes a slot for a request. The driver sends it with the returned id if the session is live; else it
    /// goes out with the next resume. A refused call is handed back.
    pub fn submit(&mut self, now: Instant, terms: Terms, call: C) -> Result<RequestId, (Full, C)> {
        let live = match self.phase {
            Phase::Live => true,
            Phase::Lost { .. } => false,
            Phase::Greeting | Phase::Over(_) => return Err((Full::NoSession, call)),
        };
        self.in_flight.submit(now, terms, live, call)
    }

    /// An answer arrived on a connection of the session.
    pub fn answered(
        &mut self,
        connection: ConnectionId,
        id: RequestId,
        now: Instant,
    ) -> Result<Answered<C>, Unasked> {
        if !self.received(connection, now) {
            return Ok(Answered::Late);
        }
        match self.in_flight.answered(id) {
            Some(Some(call)) => Ok(Answered::Call(call)),
            Some(None) => Ok(Answered::Cancelled),
            None => Err(Unasked),
        }
    }

    /// The caller of a request stops waiting. `None` if the request is not in flight, or was cancelled.
    pub fn cancel(&mut self, id: RequestId) -> Option<Cancelled<C>> {
        let (call, was_sent) = self.in_flight.cancel(id)?;
        let follow = match (was_sent, &self.phase) {
            (false, _) | (true, Phase::Greeting | Phase::Over(_)) => Follow::Nothing,
            (true, Phase::Live) => Follow::SendCancel,
            (true, Phase::Lost { .. }) => Follow::Resume,
        };
        Some(Cancelled { call, follow })
    }

    /// What the driver keeps of a request that is neither answered nor cancelled.
    pub fn call(&self, id: RequestId) -> Option<&C> {
        self.in_flight.call(id)
    }

    /// Something arrived on a connection, be it only a part of a frame. Returns whether the connection still
    /// carries the session.
    pub fn received(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let link = self.links.iter_mut().find(|link| link.id == connection);
        link.map(|link| link.heard(now)).is_some()
    }

    /// A pong arrived.
    pub fn ponged(&mut self, connection: ConnectionId, id: RequestId, now: Instant) {
        if let Some(link) = self.links.iter_mut().find(|link| link.id == connection) {
            link.heard(now);
            self.round_trip = link.answered(id.0, now).or(self.round_trip);
        }
    }

    /// When something arrived last, on whichever connection.
    pub fn heard_at(&self) -> Option<Instant> {
        self.links.iter().map(Link::heard_at).max().max(self.heard_before)
    }

    /// When [`Self::handle_timeout`] wants to be called at the latest. It may become earlier with a request
    /// whose deadline is closer than all others, a new connection, or a loss.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut due = match self.reconnect {
            Reconnect::Due(at) => Some(at),
            Reconnect::Idle | Reconnect::Trying => None,
        };
        for link in &self.links {
            due = earlier(due, Some(link.ping_due()));
            due = earlier(due, Some(self.wakefulness.not_before(link.dead_at())));
        }
        let deadline = self.in_flight.earliest_deadline();
        earlier(due, deadline.map(|at| self.wakefulness.not_before(at)))
    }

    /// Does what is due. Calling it too early does no harm.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Event<C>> {
        let mut events = Vec::new();
        if self.wakefulness.woke(now) {
            self.expire(now, &mut events);
            self.find_silence(now, &mut events);
        }
        for link in self.links.iter_mut().filter(|link| link.ping_due() <= now) {
            self.pings += 1;
            link.ask(self.pings, now);
            events.push(Event::Ping(link.id, RequestId(self.pings)));
        }
        if matches!(self.reconnect, Reconnect::Due(at) if at <= now) {
            self.reconnect = Reconnect::Trying;
            events.push(Event::Reconnect);
        }
        self.wakefulness.sleeps_until(self.poll_timeout());
        events
    }

    /// Whether another connection would be admitted.
    pub fn may_join(&self) -> bool {
        let granted = self.granted.as_ref().map_or(0, |granted| usize::from(granted.limits.connections_max));
        self.phase == Phase::Live && self.links.len() < granted.min(CONNECTIONS_MAX)
    }

    /// What the server granted, once it did.
    pub fn limits(&self) -> Option<&GrantedLimits> {
        self.granted.as_ref().map(|granted| &granted.limits)
    }

    /// Requests that are not answered.
    pub fn pending(&self) -> impl Iterator<Item = Pending<'_, C>> {
        self.in_flight.pending()
    }

    /// How many those are.
    pub fn pending_count(&self) -> usize {
        self.in_flight.len()
    }

    /// Their payload bytes.
    pub fn pending_bytes(&self) -> usize {
        self.in_flight.bytes()
    }

    /// How long the last ping took there and back.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// A client believes no server: a welcome must be possible, and for the session that stands.
    fn check(&self, welcome: &Welcome) -> Result<(), Unwelcome> {
        let limits = &welcome.limits;
        let claims: [(bool, &'static str); 6] = [
            ((SPOKEN.oldest..=SPOKEN.newest).contains(&welcome.version), "version"),
            (self.destination.features.contains(welcome.features), "features"),
            (
                (1..=REQUESTS_IN_FLIGHT_MAX).contains(&(limits.requests_in_flight_max as usize)),
                "requests in flight",
            ),
            ((1..=PAYLOAD_BYTES_MAX).contains(&(limits.payload_bytes_max as usize)), "payload bytes"),
            (
                (limits.payload_bytes_max as usize..=IN_FLIGHT_BYTES_MAX)
                    .contains(&(limits.in_flight_bytes_max as usize)),
                "bytes in flight",
            ),
            (self.granted.as_ref().is_none_or(|granted| granted.session == welcome.session), "session"),
        ];
        match claims.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(Unwelcome::Malformed(what)),
            None => Ok(()),
        }
    }

    fn expire(&mut self, now: Instant, events: &mut Vec<Event<C>>) {
        for id in self.in_flight.overdue(now) {
            events.extend(self.cancel(id).map(|cancelled| Event::Expired(id, cancelled)));
        }
    }

    fn find_silence(&mut self, now: Instant, events: &mut Vec<Event<C>>) {
        let silent = self.links.iter().find(|link| link.dead_at() <= now).map(|link| link.id);
        if silent.is_some_and(|connection| self.lost(connection, now)) {
            events.push(Event::Silent);
        }
    }

    fn over(&mut self, ending: Ending) {
        self.links.clear();
        self.reconnect = Reconnect::Idle;
        self.phase = Phase::Over(ending);
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
