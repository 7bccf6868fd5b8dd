//! Sockets between the two drivers: in order, delayed, and cut at any frame.

use std::collections::BTreeMap;
use std::time::Duration;

use nearfs_protocol::greeting::{Hello, Refusal, Welcome};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::Answer;

use crate::world::Operation;

/// What travels. The bytes of frames are tested elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Hello(Hello),
    Welcome(Box<Welcome>),
    Refused(Refusal),
    Call(RequestId, Operation),
    Answer(RequestId, Answer),
    Cancel(RequestId),
    Ping(RequestId),
    Pong(RequestId),
    /// The other side has closed the socket.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Socket(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Marsaglia's xorshift64 behind a splitmix step, so that neighbouring seeds differ at once.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Random((mixed ^ (mixed >> 29)) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

#[derive(Default)]
pub(crate) struct Network {
    pipes: BTreeMap<Socket, Pipe>,
    sockets: u64,
}

/// In both directions.
#[derive(Default)]
struct Pipe {
    last: [Duration; 2],
    /// Nothing arrives any more.
    cut: [bool; 2],
    /// Nothing more can be sent, but what was sent arrives.
    closed: [bool; 2],
}

impl Network {
    pub(crate) fn open(&mut self) -> Socket {
        self.sockets += 1;
        let socket = Socket(self.sockets);
        self.pipes.insert(socket, Pipe::default());
        socket
    }

    /// When a frame that is sent now arrives; `None` if never.
    pub(crate) fn send(
        &mut self,
        socket: Socket,
        to: Side,
        now: Duration,
        random: &mut Random,
    ) -> Option<Duration> {
        let pipe = self.pipes.get_mut(&socket)?;
        if pipe.cut[to as usize] || pipe.closed[to as usize] {
            return None;
        }
        let slow = if random.chance(3) { random.ms(100, 3000) } else { random.ms(0, 8) };
        pipe.last[to as usize] = pipe.last[to as usize].max(now + slow);
        Some(pipe.last[to as usize])
    }

    /// Whether what was sent before still arrives.
    pub(crate) fn carries(&self, socket: Socket, to: Side) -> bool {
        self.pipes.get(&socket).is_some_and(|pipe| !pipe.cut[to as usize])
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = Socket> {
        let open = |pipe: &&Pipe| !pipe.closed.contains(&true) && !pipe.cut.contains(&true);
        self.pipes.iter().filter(move |(_, pipe)| open(pipe)).map(|(socket, _)| *socket)
    }

    /// Nothing more can be sent to that side.
    pub(crate) fn close(&mut self, socket: Socket, to: Side) {
        if let Some(pipe) = self.pipes.get_mut(&socket) {
            pipe.closed[to as usize] = true;
        }
    }

    /// Nothing arrives any more on that side, from here on.
    pub(crate) fn cut(&mut self, socket: Socket, to: Side) {
        if let Some(pipe) = self.pipes.get_mut(&socket) {
            pipe.cut[to as usize] = true;
        }
    }
}
