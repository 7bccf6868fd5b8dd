//! The server's driver in the simulated world: a process that can be killed and started again.

use std::collections::BTreeMap;
use std::time::Instant;

use nearfs_protocol::attr::{Attr, FileKind, Time};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::{GrantedLimits, Hello, Identity, SessionWish, Welcome};
use nearfs_protocol::id::{
    BootEpoch, BootId, Change, Generation, Node, NodeId, RequestId, SessionId, SessionToken,
};
use nearfs_protocol::limits::{LEASE, PAYLOAD_BYTES_MAX};
use nearfs_protocol::message::{Answer, Reply};
use nearfs_protocol::session::server::{
    Admission, Cancellation, ConnectionId, Event, Incoming, ServerSession, Violation, fingerprint, negotiate,
};
use nearfs_protocol::version::Features;

use crate::disk::Disk;
use crate::network::{Frame, Socket};
use crate::world::{Breakage, Operation};

pub(crate) struct Server {
    pub(crate) session: ServerSession,
    sockets: BTreeMap<Socket, ConnectionId>,
    pub(crate) disk: Disk,
    /// Which life of the process this is.
    life: u64,
    sessions: u64,
    pub(crate) replayed: u32,
    pub(crate) overtaken: u32,
    breakage: Breakage,
}

/// What the driver wants of the world.
pub(crate) enum Wish {
    Send(Socket, Frame),
    Close(Socket),
    /// Start it some time later.
    Queue(RequestId, Operation),
    Broken(String),
}

impl Server {
    pub(crate) fn new(breakage: Breakage) -> Server {
        Server {
            session: new_session(1),
            sockets: BTreeMap::new(),
            disk: Disk::default(),
            life: 1,
            sessions: 1,
            replayed: 0,
            overtaken: 0,
            breakage,
        }
    }

    /// The process was killed and is started again. Without its `state` it knows nothing of before.
    pub(crate) fn restart(&mut self, has_state: bool, now: Instant) {
        self.life += 1;
        self.sockets.clear();
        let (id, token, limits) = (self.session.id(), self.session.token(), *self.session.limits());
        if has_state {
            let remembered = self.disk.remembered(self.breakage);
            self.session = ServerSession::restored(id, token, limits, remembered, now);
        } else {
            self.begin_another();
        }
    }

    fn begin_another(&mut self) {
        self.sessions += 1;
        self.session = new_session(self.sessions);
        self.disk.forget_slots();
    }

    pub(crate) fn arrived(&mut self, socket: Socket, frame: Frame, now: Instant) -> Vec<Wish> {
        if let Frame::Hello(hello) = frame {
            return self.greet(socket, &hello, now);
        }
        let Some(&connection) = self.sockets.get(&socket) else { return Vec::new() };
        let wishes = match frame {
            Frame::Call(id, operation) => self.call(connection, socket, id, operation, now),
            Frame::Cancel(id) => self.cancel(connection, socket, id, now),
            Frame::Ping(id) => {
                self.session.received(connection, now).map(|()| vec![Wish::Send(socket, Frame::Pong(id))])
            }
            Frame::Closed => {
                self.sockets.remove(&socket);
                self.session.detach(connection, now);
                Ok(Vec::new())
            }
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Refused(_) | Frame::Answer(..) | Frame::Pong(_) => {
                return vec![Wish::Broken(format!("the server was sent {frame:?}"))];
            }
        };
        match wishes {
            Ok(wishes) => wishes,
            Err(Violation::Detached) => vec![Wish::Close(socket)],
            Err(violation) => vec![Wish::Broken(violation.to_string())],
        }
    }

    /// Whether the operation may begin.
    pub(crate) fn start(&mut self, id: RequestId, operation: Operation) -> bool {
        let starts = self.session.start(id) || self.breakage == Breakage::StartsWhatWasCancelled;
        if let Some(fingerprint) = operation.fingerprint().filter(|_| starts) {
            self.disk.intend(id, fingerprint, operation);
        }
        starts
    }

    pub(crate) fn finish(&mut self, id: RequestId, operation: Operation) -> Vec<Wish> {
        let answer = answer_to(operation);
        self.disk.finish(id, &answer);
        let to = self.session.finish(id, &answer);
        let to = match (to, self.breakage) {
            (None, Breakage::AnswersUnasked) => self.session.attached().next(),
            (to, _) => to,
        };
        let socket =
            to.and_then(|to| self.sockets.iter().find(|(_, at)| **at == to)).map(|(socket, _)| *socket);
        socket.map(|socket| Wish::Send(socket, Frame::Answer(id, answer))).into_iter().collect()
    }

    pub(crate) fn timer(&mut self, now: Instant) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for event in self.session.handle_timeout(now) {
            match event {
                Event::Silent(connection) => wishes.extend(self.close(connection)),
                Event::LeaseEnded | Event::Over => {}
            }
        }
        wishes
    }

    fn greet(&mut self, socket: Socket, hello: &Hello, now: Instant) -> Vec<Wish> {
        if matches!(hello.session, SessionWish::New { .. }) {
            // If this is not the first, then the welcome to the one before was lost, and nothing was asked.
            self.begin_another();
            self.sockets.clear();
        }
        let attached = negotiate(hello, Features::all())
            .and_then(|spoken| Ok((spoken, self.session.attach(&hello.session, now)?)));
        let ((version, features), attached) = match attached {
            Ok(attached) => attached,
            Err(refusal) => return vec![Wish::Send(socket, Frame::Refused(refusal)), Wish::Close(socket)],
        };
        let mut wishes: Vec<_> = attached.displaced.into_iter().filter_map(|at| self.close(at)).collect();
        self.sockets.insert(socket, attached.connection);
        let welcome = Welcome {
            version,
            features,
            epoch: BootEpoch(self.life),
            boot: BootId([1; 16]),
            session: self.session.id(),
            token: self.session.token(),
            root: root(),
            read_only: false,
            identity: Identity::Passthrough,
            limits: *self.session.limits(),
        };
        wishes.push(Wish::Send(socket, Frame::Welcome(Box::new(welcome))));
        wishes
    }

    fn call(
        &mut self,
        connection: ConnectionId,
        socket: Socket,
        id: RequestId,
        operation: Operation,
        now: Instant,
    ) -> Result<Vec<Wish>, Violation> {
        let mutation = operation.fingerprint();
        let wishes =
            match self.session.call(connection, id, Incoming { mutation, payload_bytes: 100 }, now)? {
                Admission::Run => vec![Wish::Queue(id, operation)],
                Admission::Underway => vec![],
                Admission::Answer(answer) => {
                    self.replayed += 1;
                    if self.breakage == Breakage::ForgetsAnswers {
                        *self.disk.effects.entry(operation).or_default() += 1;
                    }
                    vec![Wish::Send(socket, Frame::Answer(id, answer))]
                }
                Admission::Drop => {
                    self.overtaken += 1;
                    vec![]
                }
            };
        Ok(wishes)
    }

    fn cancel(
        &mut self,
        connection: ConnectionId,
        socket: Socket,
        id: RequestId,
        now: Instant,
    ) -> Result<Vec<Wish>, Violation> {
        Ok(match self.session.cancel(connection, id, now)? {
            Cancellation::Answer(answer) => vec![Wish::Send(socket, Frame::Answer(id, answer))],
            Cancellation::Running if self.breakage == Breakage::LiesAboutCancelled => {
                vec![Wish::Send(socket, Frame::Answer(id, Err(Errno::ECANCELED)))]
            }
            Cancellation::Running | Cancellation::Crossed => vec![],
        })
    }

    fn close(&mut self, connection: ConnectionId) -> Option<Wish> {
        let (&socket, _) = self.sockets.iter().find(|(_, at)| **at == connection)?;
        self.sockets.remove(&socket);
        Some(Wish::Close(socket))
    }
}

impl Operation {
    /// Of its control part, if it is a mutation.
    fn fingerprint(self) -> Option<u64> {
        self.mutation.then(|| fingerprint(&self.number.to_le_bytes()))
    }
}

fn new_session(number: u64) -> ServerSession {
    let limits = GrantedLimits {
        // Few, so that slots are used again all the time.
        requests_in_flight_max: 6,
        payload_bytes_max: PAYLOAD_BYTES_MAX as u32,
        in_flight_bytes_max: PAYLOAD_BYTES_MAX as u32,
        connections_max: 2,
        lease_ms: LEASE.as_millis() as u32,
    };
    ServerSession::new(SessionId(number), SessionToken([number as u8; 16]), limits)
}

/// An answer that says which operation it is the answer to.
pub(crate) fn answer_to(operation: Operation) -> Answer {
    Ok(Reply::Offset(operation.number))
}

fn root() -> Attr {
    let epoch = Time::default();
    Attr {
        node: Node { id: NodeId(1), generation: Generation(1) },
        change: Change(1),
        kind: FileKind::Directory,
        mode: 0o755,
        nlink: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        blksize: 4096,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        btime: None,
    }
}
