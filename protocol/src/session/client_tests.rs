use super::*;
use crate::attr::{Attr, FileKind, Time};
use crate::greeting::Identity;
use crate::id::{BootId, Change, Generation, Node, NodeId};
use crate::limits::{KEEPALIVE_INTERVAL, LINK_SILENCE_MAX, RECONNECT_BACKOFF};

const SECOND: Duration = Duration::from_secs(1);

fn welcome() -> Welcome {
    let time = Time { secs: 1, nanos: 2 };
    Welcome {
        version: 1,
        features: Features::RESUME,
        epoch: BootEpoch(3),
        boot: BootId([4; 16]),
        session: SessionId(5),
        token: SessionToken([6; 16]),
        root: Attr {
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
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
        },
        read_only: false,
        identity: Identity::Passthrough,
        limits: GrantedLimits {
            requests_in_flight_max: 4,
            in_flight_bytes_max: 2 << 20,
            payload_bytes_max: 1 << 20,
            connections_max: 2,
            lease_ms: 10_000,
        },
    }
}

fn session() -> ClientSession<&'static str> {
    let features = Features::all();
    let destination = Destination { export: b"home".to_vec(), path: vec![], client: "test".into(), features };
    ClientSession::new(destination, 1)
}

/// A session with one connection, and when it was made.
fn live() -> (ClientSession<&'static str>, ConnectionId, Instant) {
    let (mut session, now) = (session(), Instant::now());
    let hello = session.hello();
    let connection = session.welcomed(&hello, &welcome(), now).unwrap().connection;
    session.handle_timeout(now);
    (session, connection, now)
}

fn resume(session: &mut ClientSession<&'static str>, now: Instant) -> Vec<(RequestId, Option<&'static str>)> {
    let hello = session.hello();
    assert!(matches!(hello.session, SessionWish::Resume { .. }));
    let again = session.welcomed(&hello, &welcome(), now).unwrap().send_again;
    again.into_iter().map(|(id, call)| (id, call.copied())).collect()
}

fn within(now: Instant, seconds: u64) -> Terms {
    Terms { deadline: Some(now + SECOND * seconds as u32), payload_bytes: 0 }
}

#[test]
fn requests_are_accepted_up_to_the_granted_limits() {
    let (mut session, connection, now) = live();
    let mib = Terms { deadline: None, payload_bytes: 1 << 20 };
    let first = session.submit(now, mib, "a").unwrap();
    let second = session.submit(now, mib, "b").unwrap();
    assert_eq!(session.submit(now, mib, "c"), Err((Full::Bytes, "c")));
    assert_eq!(session.answered(connection, first, now), Ok(Answered::Call("a")));
    let third = session.submit(now, mib, "c").unwrap();
    assert_eq!((third.slot(), third.sequence()), (first.slot(), 2), "a free slot is used again");
    for call in ["d", "e"] {
        session.submit(now, Terms::default(), call).unwrap();
    }
    assert_eq!(session.submit(now, Terms::default(), "f"), Err((Full::Slots, "f")));
    assert_eq!((session.pending_count(), session.pending_bytes()), (4, 2 << 20));
    assert_eq!(session.answered(connection, second, now), Ok(Answered::Call("b")));
}

#[test]
fn an_answer_for_no_request_is_a_violation() {
    let (mut session, connection, now) = live();
    let id = session.submit(now, Terms::default(), "a").unwrap();
    for other in [RequestId(0), RequestId::new(0, 2), RequestId::new(3, 1), RequestId(u64::MAX)] {
        assert_eq!(session.answered(connection, other, now), Err(Unasked));
    }
    assert_eq!(session.answered(connection, id, now), Ok(Answered::Call("a")));
    assert_eq!(session.answered(connection, id, now), Err(Unasked));
}

#[test]
fn what_was_not_answered_is_sent_again_in_order_after_a_loss() {
    let (mut session, connection, now) = live();
    let a = session.submit(now, Terms::default(), "a").unwrap();
    let b = session.submit(now, Terms::default(), "b").unwrap();
    session.answered(connection, a, now).unwrap();
    let c = session.submit(now, Terms::default(), "c").unwrap();
    assert!(c.slot() < b.slot(), "slots are in another order than submission");
    assert!(session.lost(connection, now));
    assert!(!session.lost(connection, now), "a loss counts once");
    let d = session.submit(now, Terms::default(), "d").unwrap();
    assert_eq!(session.handle_timeout(now), [Event::Reconnect]);
    assert_eq!(resume(&mut session, now), [(b, Some("b")), (c, Some("c")), (d, Some("d"))]);
}

#[test]
fn a_cancelled_request_keeps_its_slot_until_its_outcome_is_known() {
    let (mut session, connection, now) = live();
    let id = session.submit(now, Terms { deadline: None, payload_bytes: 10 }, "a").unwrap();
    assert_eq!(session.cancel(id), Some(Cancelled { call: "a", follow: Follow::SendCancel }));
    assert_eq!(session.cancel(id), None);
    assert_eq!((session.pending_count(), session.pending_bytes()), (1, 10));
    session.lost(connection, now);
    assert_eq!(resume(&mut session, now), [(id, None)], "never again as something new");
    assert_eq!(session.answered(connection, id, now), Ok(Answered::Late), "it will be answered again");
    assert_eq!(session.answered(ConnectionId(2), id, now), Ok(Answered::Cancelled));
    assert_eq!((session.pending_count(), session.pending_bytes()), (0, 0));
}

#[test]
fn a_request_that_was_never_sent_is_cancelled_without_the_server() {
    let (mut session, connection, now) = live();
    let sent = session.submit(now, Terms::default(), "sent").unwrap();
    session.lost(connection, now);
    let kept = session.submit(now, Terms::default(), "kept").unwrap();
    assert_eq!(session.cancel(kept).map(|cancelled| cancelled.follow), Some(Follow::Nothing));
    assert_eq!(session.cancel(sent).map(|cancelled| cancelled.follow), Some(Follow::Resume));
    assert_eq!(resume(&mut session, now), [(sent, None)]);
}

#[test]
fn deadlines_run_also_while_the_session_is_lost() {
    let (mut session, connection, now) = live();
    let early = session.submit(now, within(now, 3), "early").unwrap();
    let late = session.submit(now, within(now, 5), "late").unwrap();
    session.submit(now, Terms::default(), "patient").unwrap();
    let tick = |session: &mut ClientSession<_>, after| {
        let events = session.handle_timeout(now + SECOND * after);
        events.into_iter().filter(|event| matches!(event, Event::Expired(..))).collect::<Vec<_>>()
    };
    for after in 1..3 {
        session.received(connection, now + SECOND * after);
        assert_eq!(tick(&mut session, after), []);
    }
    let expired = |id, call, follow| [Event::Expired(id, Cancelled { call, follow })];
    assert_eq!(tick(&mut session, 3), expired(early, "early", Follow::SendCancel));
    session.lost(connection, now + SECOND * 3);
    assert_eq!(tick(&mut session, 4), []);
    assert_eq!(tick(&mut session, 5), expired(late, "late", Follow::Resume));
    assert_eq!(session.pending().filter(|pending| pending.call.is_some()).count(), 1);
}

#[test]
fn a_silent_link_is_pinged_and_then_given_up() {
    let (mut session, connection, start) = live();
    let mut pings = 0;
    let now = loop {
        let now = session.poll_timeout().unwrap();
        match session.handle_timeout(now).as_slice() {
            [Event::Ping(on, _)] if *on == connection => pings += 1,
            [Event::Silent, Event::Reconnect] => break now,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((pings, now - start), (2, LINK_SILENCE_MAX));
    assert_eq!(*session.phase(), Phase::Lost { since: now });
}

#[test]
fn a_pong_is_a_sign_of_life_and_measures_the_round_trip() {
    let (mut session, connection, start) = live();
    let mut now = start;
    for _ in 0..10 {
        now = session.poll_timeout().unwrap();
        let events = session.handle_timeout(now);
        let [Event::Ping(on, id)] = events[..] else { panic!("{events:?}") };
        session.ponged(on, id, now + Duration::from_millis(20));
        session.ponged(on, id, now + SECOND);
    }
    assert_eq!(session.round_trip(), Some(Duration::from_millis(20)));
    assert_eq!(*session.phase(), Phase::Live);
    assert!(now - start > LINK_SILENCE_MAX * 2);
    assert!(session.lost(connection, now));
}

#[test]
fn after_a_suspend_there_is_time_to_read_what_arrived() {
    let (mut session, connection, now) = live();
    session.submit(now, within(now, 30), "a").unwrap();
    let woken = now + SECOND * 3600;
    let events = session.handle_timeout(woken);
    assert!(matches!(events[..], [Event::Ping(..)]), "only a question: {events:?}");
    session.received(connection, woken + SECOND);
    let events = session.handle_timeout(woken + KEEPALIVE_INTERVAL);
    assert!(matches!(events[..], [Event::Expired(..), Event::Ping(..)]), "{events:?}");
    assert_eq!(*session.phase(), Phase::Live);
}

#[test]
fn attempts_to_reconnect_are_spaced() {
    let (mut session, connection, mut now) = live();
    session.lost(connection, now);
    let mut waits = Vec::new();
    for _ in 0..10 {
        assert_eq!(session.handle_timeout(now), [Event::Reconnect]);
        assert_eq!(session.poll_timeout(), None, "the driver is at it");
        session.connect_failed(now);
        let due = session.poll_timeout().unwrap();
        waits.push(due - now);
        now = due;
    }
    assert!(waits[0] <= RECONNECT_BACKOFF.0 && waits[9] >= RECONNECT_BACKOFF.1 / 2);
    let hello = session.hello();
    session.refused(&hello, Refusal::Stopping, now);
    assert!(matches!(session.phase(), Phase::Lost { .. }), "a server that stops may come back");
    session.refused(&hello, Refusal::NoSession, now);
    assert_eq!(*session.phase(), Phase::Over(Ending::Refused(Refusal::NoSession)));
}

#[test]
fn a_server_that_was_started_again_may_have_kept_the_session() {
    let (mut session, connection, now) = live();
    let a = session.submit(now, Terms::default(), "a").unwrap();
    let b = session.submit(now, Terms::default(), "b").unwrap();
    session.cancel(a);
    let join = session.hello();
    let restarted = Welcome { epoch: BootEpoch(4), ..welcome() };
    assert_eq!(session.welcomed(&join, &restarted, now).unwrap_err(), Unwelcome::TooLate, "resume it first");
    session.lost(connection, now);
    let hello = session.hello();
    let welcomed = session.welcomed(&hello, &restarted, now).unwrap();
    assert_eq!(welcomed.send_again, [(a, None), (b, Some(&"b"))]);
    let connection = welcomed.connection;
    assert_eq!(session.answered(connection, b, now), Ok(Answered::Call("b")));
    assert!(session.may_join());
    let join = session.hello();
    assert_eq!(session.welcomed(&join, &welcome(), now).unwrap_err(), Unwelcome::TooLate);
    session.welcomed(&join, &restarted, now).unwrap();
}

#[test]
fn a_server_that_does_not_know_the_session_ends_it() {
    let (mut session, connection, now) = live();
    let b = session.submit(now, Terms::default(), "b").unwrap();
    session.lost(connection, now);
    assert_eq!(session.end(), [""; 0], "it may still be resumed");
    let hello = session.hello();
    session.refused(&hello, Refusal::NoSession, now);
    assert_eq!(session.submit(now, Terms::default(), "c"), Err((Full::NoSession, "c")));
    assert_eq!(session.end(), ["b"]);
    assert_eq!(session.answered(connection, b, now), Ok(Answered::Late));
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn further_connections_join_as_long_as_the_session_stands() {
    let (mut session, first, now) = live();
    assert!(session.may_join());
    let (early, late) = (session.hello(), session.hello());
    assert!(matches!(early.session, SessionWish::Join { .. }));
    let second = session.welcomed(&early, &welcome(), now).unwrap().connection;
    assert!(!session.may_join(), "two were granted");
    assert!(session.lost(second, now), "one lost connection takes the others with it");
    assert!(!session.lost(first, now));
    assert_eq!(session.welcomed(&late, &welcome(), now).unwrap_err(), Unwelcome::TooLate);
}

#[test]
fn a_welcome_that_makes_no_sense_is_not_believed() {
    let limits = welcome().limits;
    let bad = [
        Welcome { version: 9, ..welcome() },
        Welcome { limits: GrantedLimits { requests_in_flight_max: 0, ..limits }, ..welcome() },
        Welcome { limits: GrantedLimits { requests_in_flight_max: 70_000, ..limits }, ..welcome() },
        Welcome { limits: GrantedLimits { payload_bytes_max: 0, ..limits }, ..welcome() },
        Welcome { limits: GrantedLimits { payload_bytes_max: 2 << 20, ..limits }, ..welcome() },
        Welcome { limits: GrantedLimits { in_flight_bytes_max: 1, ..limits }, ..welcome() },
        Welcome { limits: GrantedLimits { in_flight_bytes_max: u32::MAX, ..limits }, ..welcome() },
    ];
    let mut session = session();
    let hello = session.hello();
    for welcome in &bad {
        let error = session.welcomed(&hello, welcome, Instant::now()).unwrap_err();
        assert!(matches!(error, Unwelcome::Malformed(_)), "{error:?}");
    }
    assert_eq!(*session.phase(), Phase::Greeting);

    let (mut session, _, now) = live();
    let hello = session.hello();
    let other = Welcome { session: SessionId(6), ..welcome() };
    assert_eq!(session.welcomed(&hello, &other, now).unwrap_err(), Unwelcome::Malformed("session"));
}
