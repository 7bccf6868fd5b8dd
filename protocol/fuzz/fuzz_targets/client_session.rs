//! A server that keeps no rules, and a network that has none: the client's machine gives every call back once
//! at most, and forgets none.
#![no_main]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use nearfs_protocol::attr::{Attr, FileKind, Time};
use nearfs_protocol::greeting::{GrantedLimits, Identity, Refusal, Welcome};
use nearfs_protocol::id::{BootEpoch, BootId, Change, Node, RequestId, SessionId, SessionToken};
use nearfs_protocol::session::client::{
    Answered, ClientSession, ConnectionId, Destination, Event, Follow, Phase, Terms,
};
use nearfs_protocol::version::Features;

fuzz_target!(|steps: &[u8]| {
    let destination =
        Destination { export: vec![], path: vec![], client: String::new(), features: Features::all() };
    let mut world = World {
        session: ClientSession::new(destination, 1),
        now: Instant::now(),
        calls: BTreeMap::new(),
        cancelled: BTreeMap::new(),
        submitted: 0,
    };
    steps.chunks_exact(2).for_each(|step| world.take(step[0], step[1]));
});

struct World {
    session: ClientSession<u64>,
    now: Instant,
    /// What is not answered, and what was cancelled and is not answered either.
    calls: BTreeMap<RequestId, u64>,
    cancelled: BTreeMap<RequestId, u64>,
    submitted: u64,
}

impl World {
    fn take(&mut self, step: u8, with: u8) {
        let id = RequestId::new(u16::from(with % 8), u64::from(with / 16));
        let connection = ConnectionId(u64::from(step / 16));
        match step % 8 {
            0 => self.submit(with),
            1 => match self.session.answered(connection, id, self.now) {
                Ok(Answered::Call(call)) => assert_eq!(self.calls.remove(&id), Some(call)),
                Ok(Answered::Cancelled) => assert!(self.cancelled.remove(&id).is_some()),
                Ok(Answered::Late) => {}
                Err(_) => assert!(!self.calls.contains_key(&id) && !self.cancelled.contains_key(&id)),
            },
            2 => {
                if let Some(cancelled) = self.session.cancel(id) {
                    self.give_up(id, cancelled.call, cancelled.follow);
                }
            }
            3 => self.greet(with),
            4 => {
                let lost = self.session.lost(connection, self.now);
                assert!(!lost || matches!(self.session.phase(), Phase::Lost { .. }));
            }
            5 => {
                let hello = self.session.hello();
                let refusal = if with % 32 == 0 { Refusal::NoSession } else { Refusal::Full };
                self.session.refused(&hello, refusal, self.now);
            }
            _ => self.wait(with),
        }
        if matches!(self.session.phase(), Phase::Over(_)) {
            let mut ended = self.session.end();
            ended.sort_unstable();
            let mut calls: Vec<_> = std::mem::take(&mut self.calls).into_values().collect();
            calls.sort_unstable();
            assert_eq!(ended, calls);
            self.cancelled.clear();
        }
        assert_eq!(self.session.pending_count(), self.calls.len() + self.cancelled.len());
    }

    fn submit(&mut self, with: u8) {
        let deadline = (with % 2 == 0).then(|| self.now + Duration::from_millis(u64::from(with) * 50));
        self.submitted += 1;
        match self.session.submit(
            self.now,
            Terms { deadline, payload_bytes: u32::from(with) },
            self.submitted,
        ) {
            Ok(id) => assert_eq!(self.calls.insert(id, self.submitted), None),
            Err((_, call)) => assert_eq!(call, self.submitted),
        }
    }

    fn greet(&mut self, with: u8) {
        let hello = self.session.hello();
        let Ok(welcomed) = self.session.welcomed(&hello, &welcome(with), self.now) else { return };
        let again = welcomed.send_again;
        if !again.is_empty() {
            assert_eq!(again.len(), self.calls.len() + self.cancelled.len());
        }
        for (id, call) in again {
            assert_eq!(call, self.calls.get(&id));
        }
    }

    fn wait(&mut self, with: u8) {
        self.now += Duration::from_millis(u64::from(with) * 40);
        for event in self.session.handle_timeout(self.now) {
            match event {
                Event::Expired(id, cancelled) => self.give_up(id, cancelled.call, cancelled.follow),
                Event::Ping(connection, id) => {
                    if with % 3 > 0 {
                        self.session.ponged(connection, id, self.now);
                    }
                }
                Event::Silent | Event::Reconnect => {}
            }
        }
    }

    fn give_up(&mut self, id: RequestId, call: u64, follow: Follow) {
        assert_eq!(self.calls.remove(&id), Some(call));
        if follow != Follow::Nothing {
            self.cancelled.insert(id, call);
        }
    }
}

fn welcome(with: u8) -> Welcome {
    let time = Time::default();
    Welcome {
        version: 1,
        features: Features::all(),
        epoch: BootEpoch(u64::from(with / 250)),
        boot: BootId::default(),
        session: SessionId(1),
        token: SessionToken([0; 16]),
        root: Attr {
            node: Node::default(),
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
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
        },
        read_only: false,
        identity: Identity::Passthrough,
        limits: GrantedLimits {
            requests_in_flight_max: u32::from(with % 8),
            in_flight_bytes_max: 700,
            payload_bytes_max: 600,
            connections_max: 2,
            lease_ms: 10_000,
        },
    }
}
