//! A client that keeps no rules: the server's machine carries out each mutation once at most, answers no
//! request twice on one connection, and loses count of nothing.
#![no_main]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use nearfs_protocol::greeting::{GrantedLimits, SessionWish};
use nearfs_protocol::id::{RequestId, SessionId, SessionToken};
use nearfs_protocol::message::Reply;
use nearfs_protocol::session::server::{
    Admission, Cancellation, ConnectionId, Incoming, Phase, ServerSession,
};

const ID: SessionId = SessionId(1);
const TOKEN: SessionToken = SessionToken([1; 16]);
const SLOTS: u8 = 4;

fuzz_target!(|steps: &[u8]| {
    let limits = GrantedLimits {
        requests_in_flight_max: u32::from(SLOTS),
        in_flight_bytes_max: 1000,
        payload_bytes_max: 1000,
        connections_max: 2,
        lease_ms: 10_000,
    };
    let mut session = ServerSession::new(ID, TOKEN, limits);
    let mut now = Instant::now();
    let mut world = World::default();
    let _ = session.attach(&SessionWish::New { export: vec![], path: vec![] }, now);
    for step in steps.chunks_exact(3) {
        let id = RequestId::new(u16::from(step[1] % (SLOTS + 1)), u64::from(step[1] / 16));
        let connection = ConnectionId(u64::from(step[2] % 8));
        match step[0] % 7 {
            0 => world.call(&mut session, connection, id, step[2], now),
            1 => world.cancel(&mut session, connection, id, now),
            2 => world.begin(&mut session, id),
            3 => world.finish(&mut session, id),
            4 => {
                let (session_id, token) = (ID, TOKEN);
                let wish = match step[1] % 2 {
                    0 => SessionWish::Resume { session: session_id, token },
                    _ => SessionWish::Join { session: session_id, token },
                };
                if let Ok(attached) = session.attach(&wish, now) {
                    world.answered.retain(|(on, _)| !attached.displaced.contains(on));
                }
            }
            5 => session.detach(connection, now),
            _ => {
                now += Duration::from_millis(u64::from(step[1]) * 100);
                session.handle_timeout(now);
            }
        }
        if session.phase() == Phase::Over {
            return;
        }
        assert_eq!(session.running(), world.admitted.len());
        assert!(session.attached().count() <= 2);
    }
});

#[derive(Default)]
struct World {
    /// Mutations that were told to run, ever.
    run: BTreeSet<RequestId>,
    /// Requests that were admitted and are not finished.
    admitted: BTreeSet<RequestId>,
    started: BTreeSet<RequestId>,
    cancelled: BTreeSet<RequestId>,
    answered: BTreeSet<(ConnectionId, RequestId)>,
}

impl World {
    fn call(&mut self, session: &mut ServerSession, on: ConnectionId, id: RequestId, what: u8, now: Instant) {
        let mutation = (what & 16 != 0).then_some(u64::from(what & 32));
        match session.call(on, id, Incoming { mutation, payload_bytes: u32::from(what) * 3 }, now) {
            Ok(Admission::Run) => {
                assert!(mutation.is_none() || self.run.insert(id), "{id:?} is carried out twice");
                assert!(!self.cancelled.contains(&id), "{id:?} was cancelled");
                assert!(self.admitted.insert(id));
            }
            Ok(Admission::Answer(_)) => self.answer(on, id),
            Ok(Admission::Underway) => assert!(self.admitted.contains(&id)),
            Ok(Admission::Drop) | Err(_) => {}
        }
    }

    fn cancel(&mut self, session: &mut ServerSession, on: ConnectionId, id: RequestId, now: Instant) {
        match session.cancel(on, id, now) {
            Ok(Cancellation::Answer(answer)) => {
                if answer.is_err() {
                    self.cancelled.insert(id);
                }
                self.admitted.remove(&id);
                self.answer(on, id);
            }
            Ok(Cancellation::Running) => assert!(self.started.contains(&id)),
            Ok(Cancellation::Crossed) | Err(_) => {}
        }
    }

    fn begin(&mut self, session: &mut ServerSession, id: RequestId) {
        if session.start(id) {
            assert!(self.admitted.contains(&id));
            self.started.insert(id);
        }
    }

    fn finish(&mut self, session: &mut ServerSession, id: RequestId) {
        let was_admitted = self.admitted.remove(&id);
        match session.finish(id, &Ok(Reply::Done)) {
            Some(on) => {
                assert!(was_admitted);
                self.answer(on, id);
            }
            None => {}
        }
    }

    fn answer(&mut self, on: ConnectionId, id: RequestId) {
        assert!(self.answered.insert((on, id)), "{id:?} is answered twice on {on:?}");
    }
}
