//! The client's driver in the simulated world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use nearfs_protocol::greeting::Hello;
use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::Answer;
use nearfs_protocol::session::client::{
    Answered, Cancelled, ClientSession, ConnectionId, Destination, Event, Follow, Phase, Terms,
};
use nearfs_protocol::version::Features;

use crate::network::{Frame, Socket};
use crate::world::{Breakage, Operation, Outcome};

pub(crate) struct Client {
    pub(crate) session: ClientSession<Operation>,
    sockets: BTreeMap<Socket, Option<ConnectionId>>,
    greetings: BTreeMap<Socket, Hello>,
    /// Attempts to connect of which the outcome is known.
    decided: BTreeSet<Socket>,
    waiting: Vec<(Operation, Option<Instant>)>,
    cancelled: BTreeMap<RequestId, Operation>,
    breakage: Breakage,
}

/// What the driver wants of the world.
pub(crate) enum Wish {
    Send(Socket, Frame),
    Close(Socket),
    Dial,
    /// The caller learns how its operation ended.
    Tell(Operation, Outcome),
    /// What the server says became of an operation whose caller was told something else before.
    Learn(Operation, Outcome),
    Broken(String),
}

impl Client {
    pub(crate) fn new(seed: u64, breakage: Breakage) -> Client {
        let destination =
            Destination { export: vec![], path: vec![], client: "pair".into(), features: Features::all() };
        Client {
            session: ClientSession::new(destination, seed),
            sockets: BTreeMap::new(),
            greetings: BTreeMap::new(),
            decided: BTreeSet::new(),
            waiting: Vec::new(),
            cancelled: BTreeMap::new(),
            breakage,
        }
    }

    /// A connection was made: greet on it.
    pub(crate) fn dialed(&mut self, socket: Socket) -> Vec<Wish> {
        let hello = self.session.hello();
        self.sockets.insert(socket, None);
        self.greetings.insert(socket, hello.clone());
        vec![Wish::Send(socket, Frame::Hello(hello))]
    }

    /// A connection could not be made, or nobody welcomed it in time.
    pub(crate) fn gave_up(&mut self, socket: Socket, now: Instant) -> Vec<Wish> {
        if !self.decided.insert(socket) {
            return Vec::new();
        }
        self.sockets.remove(&socket);
        self.session.connect_failed(now);
        let again = (*self.session.phase() == Phase::Greeting).then_some(Wish::Dial);
        [Wish::Close(socket)].into_iter().chain(again).collect()
    }

    pub(crate) fn issue(&mut self, operation: Operation, deadline: Option<Instant>) {
        self.waiting.push((operation, deadline));
    }

    /// Whether the session has ended, with all that it had.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.session.phase(), Phase::Over(_))
    }

    /// The caller was interrupted, or its time is up before there was room for it.
    pub(crate) fn interrupt(&mut self, operation: Operation) -> Vec<Wish> {
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == operation) {
            self.waiting.remove(at);
            return vec![Wish::Tell(operation, Outcome::Never)];
        }
        let id = self.session.pending().find(|pending| pending.call == Some(&operation)).map(|p| p.id);
        let Some((id, cancelled)) = id.and_then(|id| Some((id, self.session.cancel(id)?))) else {
            return Vec::new();
        };
        self.stop_waiting(id, cancelled)
    }

    pub(crate) fn arrived(&mut self, socket: Socket, frame: Frame, now: Instant) -> Vec<Wish> {
        let connection = match self.sockets.get(&socket) {
            None => return Vec::new(),
            Some(None) => return self.greeted(socket, frame, now),
            Some(Some(connection)) => *connection,
        };
        match frame {
            Frame::Answer(id, answer) => self.answered(connection, id, &answer, now),
            Frame::Pong(id) => {
                self.session.ponged(connection, id, now);
                Vec::new()
            }
            Frame::Closed => {
                self.session.lost(connection, now);
                self.close_all()
            }
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Refused(_)
            | Frame::Call(..)
            | Frame::Cancel(_)
            | Frame::Ping(_) => vec![Wish::Broken(format!("the client was sent {frame:?}"))],
        }
    }

    pub(crate) fn timer(&mut self, now: Instant) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for event in self.session.handle_timeout(now) {
            match event {
                Event::Ping(connection, id) => {
                    wishes.extend(self.socket(connection).map(|socket| Wish::Send(socket, Frame::Ping(id))));
                }
                Event::Silent => wishes.extend(self.close_all()),
                Event::Reconnect => wishes.push(Wish::Dial),
                Event::Expired(id, cancelled) => wishes.extend(self.stop_waiting(id, cancelled)),
            }
        }
        wishes
    }

    /// Submits what there is room for; `pick` chooses among the connections.
    pub(crate) fn submit_waiting(&mut self, now: Instant, pick: u64) -> Vec<Wish> {
        let mut wishes = Vec::new();
        while let Some((operation, deadline)) = self.waiting.first().copied() {
            let terms = Terms { deadline, payload_bytes: 100 };
            if self.is_over() {
                return self.tell_the_end();
            }
            let Ok(id) = self.session.submit(now, terms, operation) else { break };
            self.waiting.remove(0);
            wishes.extend(self.any_socket(pick).map(|socket| Wish::Send(socket, Frame::Call(id, operation))));
        }
        wishes
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.session.pending_count() == 0
    }

    fn greeted(&mut self, socket: Socket, frame: Frame, now: Instant) -> Vec<Wish> {
        let Some(hello) = self.greetings.remove(&socket) else { return Vec::new() };
        let welcome = match frame {
            Frame::Welcome(welcome) => {
                self.decided.insert(socket);
                welcome
            }
            Frame::Refused(refusal) => {
                self.decided.insert(socket);
                self.session.refused(&hello, refusal, now);
                self.sockets.remove(&socket);
                return [Wish::Close(socket)].into_iter().chain(self.tell_the_end()).collect();
            }
            Frame::Closed => return self.gave_up(socket, now),
            Frame::Hello(_)
            | Frame::Call(..)
            | Frame::Answer(..)
            | Frame::Cancel(_)
            | Frame::Ping(_)
            | Frame::Pong(_) => return vec![Wish::Broken(format!("greeted with {frame:?}"))],
        };
        let Ok(welcomed) = self.session.welcomed(&hello, &welcome, now) else {
            self.sockets.remove(&socket);
            return vec![Wish::Close(socket)];
        };
        let connection = welcomed.connection;
        let again: Vec<_> = welcomed.send_again.into_iter().map(|(id, call)| (id, call.copied())).collect();
        self.sockets.insert(socket, Some(connection));
        let mut wishes = self.send_again(socket, again);
        if self.session.may_join() {
            wishes.push(Wish::Dial);
        }
        wishes
    }

    /// If the session is over nobody is kept waiting, and nobody learns any more what became of what he asked for.
    fn tell_the_end(&mut self) -> Vec<Wish> {
        if !matches!(self.session.phase(), Phase::Over(_)) {
            return Vec::new();
        }
        let asked = self.session.end().into_iter();
        let all = asked.chain(self.waiting.drain(..).map(|(operation, _)| operation));
        all.map(|operation| Wish::Tell(operation, Outcome::Lost)).collect()
    }

    fn send_again(&mut self, socket: Socket, again: Vec<(RequestId, Option<Operation>)>) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for (id, operation) in again {
            let frame = match (operation, self.breakage) {
                (_, Breakage::SendsNothingAgain) => continue,
                (Some(operation), Breakage::SendsAgainAsNew) => {
                    self.session.cancel(id);
                    self.cancelled.insert(id, operation);
                    self.waiting.push((operation, None));
                    Frame::Cancel(id)
                }
                (Some(operation), _) => Frame::Call(id, operation),
                (None, _) => Frame::Cancel(id),
            };
            wishes.push(Wish::Send(socket, frame));
        }
        wishes
    }

    fn answered(
        &mut self,
        connection: ConnectionId,
        id: RequestId,
        answer: &Answer,
        now: Instant,
    ) -> Vec<Wish> {
        let outcome = Outcome::of(answer);
        match self.session.answered(connection, id, now) {
            Ok(Answered::Call(operation)) => vec![Wish::Tell(operation, outcome)],
            Ok(Answered::Cancelled) => match self.cancelled.remove(&id) {
                Some(operation) => vec![Wish::Learn(operation, outcome)],
                None => vec![Wish::Broken(format!("{id:?} was never cancelled"))],
            },
            Ok(Answered::Late) => vec![Wish::Broken(format!("{id:?} came on a socket that was closed"))],
            Err(unasked) => vec![Wish::Broken(format!("{id:?}: {unasked}"))],
        }
    }

    fn stop_waiting(&mut self, id: RequestId, cancelled: Cancelled<Operation>) -> Vec<Wish> {
        let operation = cancelled.call;
        match cancelled.follow {
            Follow::Nothing => vec![Wish::Tell(operation, Outcome::Never)],
            Follow::Resume => {
                self.cancelled.insert(id, operation);
                vec![Wish::Tell(operation, Outcome::Unknown)]
            }
            Follow::SendCancel => {
                self.cancelled.insert(id, operation);
                let cancel = self.any_socket(id.0 >> 16).map(|socket| Wish::Send(socket, Frame::Cancel(id)));
                [Wish::Tell(operation, Outcome::Unknown)].into_iter().chain(cancel).collect()
            }
        }
    }

    fn close_all(&mut self) -> Vec<Wish> {
        let live: Vec<_> = self.sockets.iter().filter(|(_, at)| at.is_some()).map(|(at, _)| *at).collect();
        self.sockets.retain(|_, connection| connection.is_none());
        live.into_iter().map(Wish::Close).collect()
    }

    fn socket(&self, connection: ConnectionId) -> Option<Socket> {
        self.sockets.iter().find(|(_, at)| **at == Some(connection)).map(|(socket, _)| *socket)
    }

    fn any_socket(&self, pick: u64) -> Option<Socket> {
        let live: Vec<_> = self.sockets.iter().filter(|(_, at)| at.is_some()).map(|(at, _)| *at).collect();
        live.get(pick as usize % live.len().max(1)).copied()
    }
}
