use super::*;
use crate::limits::{KEEPALIVE_INTERVAL, LEASE, LINK_SILENCE_MAX};
use crate::message::Reply;

const ID: SessionId = SessionId(9);
const TOKEN: SessionToken = SessionToken([7; 16]);
const READ: Incoming = Incoming { mutation: None, payload_bytes: 0 };
const MKDIR: Incoming = Incoming { mutation: Some(1), payload_bytes: 0 };
const DONE: Answer = Ok(Reply::Done);
const CANCELLED: Cancellation = Cancellation::Answer(Err(Errno::ECANCELED));

fn limits() -> GrantedLimits {
    GrantedLimits {
        requests_in_flight_max: 4,
        in_flight_bytes_max: 1000,
        payload_bytes_max: 600,
        connections_max: 2,
        lease_ms: LEASE.as_millis() as u32,
    }
}

fn live() -> (ServerSession, ConnectionId, Instant) {
    let (mut session, now) = (ServerSession::new(ID, TOKEN, limits()), Instant::now());
    let wish = SessionWish::New { export: vec![], path: vec![] };
    let connection = session.attach(&wish, now).unwrap().connection;
    (session, connection, now)
}

fn resume(session: &mut ServerSession, now: Instant) -> ConnectionId {
    session.attach(&SessionWish::Resume { session: ID, token: TOKEN }, now).unwrap().connection
}

fn join(session: &mut ServerSession, now: Instant) -> Result<Attached, Refusal> {
    session.attach(&SessionWish::Join { session: ID, token: TOKEN }, now)
}

fn id(slot: u16, sequence: u64) -> RequestId {
    RequestId::new(slot, sequence)
}

#[test]
fn a_mutation_that_is_sent_again_is_answered_and_not_repeated() {
    let (mut session, first, now) = live();
    assert_eq!(session.call(first, id(0, 1), MKDIR, now), Ok(Admission::Run));
    assert!(session.start(id(0, 1)));
    assert_eq!(session.finish(id(0, 1), &DONE), Some(first));
    session.detach(first, now);
    for _ in 0..3 {
        let connection = resume(&mut session, now);
        assert_eq!(session.call(connection, id(0, 1), MKDIR, now), Ok(Admission::Answer(DONE)));
    }
}

#[test]
fn a_call_that_is_being_carried_out_is_answered_where_it_was_asked_last() {
    let (mut session, first, now) = live();
    session.call(first, id(0, 1), MKDIR, now).unwrap();
    session.call(first, id(1, 1), READ, now).unwrap();
    session.call(first, id(2, 1), MKDIR, now).unwrap();
    assert!(session.start(id(0, 1)) && session.start(id(1, 1)) && session.start(id(2, 1)));
    let second = resume(&mut session, now);
    assert_eq!(session.call(second, id(0, 1), MKDIR, now), Ok(Admission::Underway));
    assert_eq!(session.finish(id(0, 1), &DONE), Some(second));
    assert_eq!(session.finish(id(1, 1), &DONE), None, "nobody has asked on a connection that stands");
    assert_eq!(session.finish(id(2, 1), &DONE), None);
    assert_eq!(session.call(second, id(1, 1), READ, now), Ok(Admission::Run), "a read may run again");
    assert_eq!(session.call(second, id(2, 1), MKDIR, now), Ok(Admission::Answer(DONE)));
}

#[test]
fn the_next_request_in_a_slot_confirms_the_last() {
    let (mut session, connection, now) = live();
    session.call(connection, id(0, 1), MKDIR, now).unwrap();
    assert_eq!(session.call(connection, id(0, 2), MKDIR, now), Err(Violation::SlotTaken));
    session.finish(id(0, 1), &DONE);
    assert_eq!(session.call(connection, id(0, 5), MKDIR, now), Ok(Admission::Run), "gaps are allowed");
    assert_eq!(session.call(connection, id(0, 1), MKDIR, now), Ok(Admission::Drop));
    assert_eq!(session.cancel(connection, id(0, 1), now), Ok(Cancellation::Crossed));
    assert_eq!(session.running(), 1);
}

#[test]
fn a_client_that_breaks_the_rules_is_found_out() {
    let (mut session, first, now) = live();
    session.call(first, id(0, 1), MKDIR, now).unwrap();
    assert_eq!(session.call(first, id(0, 1), READ, now), Err(Violation::OtherContent));
    assert_eq!(session.call(first, id(0, 1), MKDIR, now), Ok(Admission::Drop), "one connection, one answer");
    assert_eq!(session.call(first, id(4, 1), MKDIR, now), Err(Violation::BadId));
    assert_eq!(session.call(first, id(1, 0), MKDIR, now), Err(Violation::BadId));
    assert_eq!(session.cancel(first, id(1, 0), now), Err(Violation::BadId));
    assert_eq!(session.cancel(first, id(0, 2), now), Err(Violation::SlotTaken));
    assert_eq!(session.acked(RequestId(1)), Err(Violation::AckOfNothing));
    let push = session.push();
    assert_eq!(session.acked(push), Ok(()));
    let second = resume(&mut session, now);
    assert_eq!(session.call(first, id(1, 1), MKDIR, now), Err(Violation::Detached));
    for other in [Incoming { mutation: Some(2), ..MKDIR }, READ] {
        assert_eq!(session.call(second, id(0, 1), other, now), Err(Violation::OtherContent));
    }
}

#[test]
fn bytes_under_way_are_bounded() {
    let (mut session, connection, now) = live();
    let large = Incoming { mutation: Some(1), payload_bytes: 600 };
    session.call(connection, id(0, 1), large, now).unwrap();
    assert_eq!(session.call(connection, id(1, 1), large, now), Err(Violation::TooManyBytes));
    session.finish(id(0, 1), &DONE);
    assert_eq!(session.call(connection, id(1, 1), large, now), Ok(Admission::Run));
    assert_eq!(session.cancel(connection, id(1, 1), now), Ok(CANCELLED));
    assert_eq!(session.call(connection, id(2, 1), large, now), Ok(Admission::Run));
}

#[test]
fn a_cancelled_call_is_answered_once() {
    let (mut session, first, now) = live();
    let calls = [id(0, 1), id(1, 1), id(2, 1)];
    for call in calls {
        session.call(first, call, MKDIR, now).unwrap();
    }
    let [waiting, running, done] = calls;
    assert!(session.start(running) && session.start(done));
    session.finish(done, &DONE);
    assert_eq!(session.cancel(first, waiting, now), Ok(CANCELLED));
    assert!(!session.start(waiting), "cancelled means never");
    assert_eq!(session.finish(waiting, &DONE), None);
    assert_eq!(session.cancel(first, waiting, now), Ok(Cancellation::Crossed));
    assert_eq!(session.cancel(first, running, now), Ok(Cancellation::Running));
    assert_eq!(session.finish(running, &DONE), Some(first));
    assert_eq!(session.cancel(first, done, now), Ok(Cancellation::Crossed), "its answer is on the way");

    let second = resume(&mut session, now);
    assert_eq!(session.cancel(second, waiting, now), Ok(CANCELLED));
    assert_eq!(session.cancel(second, running, now), Ok(Cancellation::Answer(DONE)));
    assert_eq!(session.cancel(second, done, now), Ok(Cancellation::Answer(DONE)));
    assert_eq!(session.cancel(second, done, now), Ok(Cancellation::Crossed));
}

#[test]
fn a_cancelled_call_that_runs_over_a_resume_is_answered_where_the_cancel_came() {
    let (mut session, first, now) = live();
    session.call(first, id(0, 1), MKDIR, now).unwrap();
    session.start(id(0, 1));
    let second = resume(&mut session, now);
    assert_eq!(session.cancel(second, id(0, 1), now), Ok(Cancellation::Running));
    assert_eq!(session.call(second, id(0, 1), MKDIR, now), Ok(Admission::Drop), "overtaken while sent again");
    assert_eq!(session.finish(id(0, 1), &DONE), Some(second));
}

#[test]
fn a_read_that_was_cancelled_does_not_run_again() {
    let (mut session, first, now) = live();
    session.call(first, id(0, 1), READ, now).unwrap();
    session.start(id(0, 1));
    session.finish(id(0, 1), &DONE);
    let second = resume(&mut session, now);
    assert_eq!(session.cancel(second, id(0, 1), now), Ok(CANCELLED));
    let third = resume(&mut session, now);
    assert_eq!(session.call(third, id(0, 1), READ, now), Ok(Admission::Answer(Err(Errno::ECANCELED))));
}

#[test]
fn a_cancel_that_overtakes_its_call_keeps_it_from_being_carried_out() {
    let (mut session, first, now) = live();
    let second = join(&mut session, now).unwrap().connection;
    assert_eq!(session.cancel(second, id(0, 1), now), Ok(CANCELLED));
    assert_eq!(session.call(first, id(0, 1), MKDIR, now), Ok(Admission::Drop));
    assert_eq!(session.call(first, id(0, 2), MKDIR, now), Ok(Admission::Run));
    assert_eq!(session.call(first, id(0, 1), MKDIR, now), Ok(Admission::Drop), "overtaken even by the next");

    let third = resume(&mut session, now);
    assert_eq!(session.cancel(third, id(1, 1), now), Ok(CANCELLED), "a call that was lost on its way");
    let fourth = resume(&mut session, now);
    assert_eq!(session.cancel(fourth, id(1, 1), now), Ok(CANCELLED), "an answer that was lost on its way");
}

#[test]
fn a_session_is_for_those_who_have_its_token() {
    let (mut session, first, now) = live();
    let mut forged = TOKEN;
    forged.0[15] ^= 1;
    for (session_id, token) in [(ID, forged), (SessionId(8), TOKEN)] {
        let wishes = [
            SessionWish::Resume { session: session_id, token },
            SessionWish::Join { session: session_id, token },
        ];
        for wish in wishes {
            assert_eq!(session.attach(&wish, now), Err(Refusal::NoSession));
        }
    }
    assert_eq!(session.received(first, now), Ok(()), "a forged resume displaces nobody");
    let second = join(&mut session, now).unwrap();
    assert_eq!(second.displaced, []);
    assert_eq!(join(&mut session, now), Err(Refusal::Full));
    let wish = SessionWish::Resume { session: ID, token: TOKEN };
    assert_eq!(session.attach(&wish, now).unwrap().displaced, [first, second.connection]);
    session.end();
    assert_eq!(session.attach(&wish, now), Err(Refusal::NoSession));
}

#[test]
fn a_lost_session_is_kept_for_its_lease_and_then_by_courtesy() {
    let (mut session, connection, start) = live();
    let mut events = Vec::new();
    while let Some(due) = session.poll_timeout() {
        events.extend(session.handle_timeout(due).into_iter().map(|event| (due - start, event)));
    }
    assert_eq!(
        events,
        [
            (LINK_SILENCE_MAX, Event::Silent(connection)),
            // Both count from the last sign of life.
            (LEASE, Event::LeaseEnded),
            (COURTESY, Event::Over),
        ]
    );
    assert_eq!(session.phase(), Phase::Over);
}

#[test]
fn the_sleep_of_a_server_is_not_its_clients_silence() {
    let (mut session, connection, start) = live();
    session.handle_timeout(start);
    let woken = start + LEASE * 100;
    assert_eq!(session.handle_timeout(woken), []);
    let settled = woken + KEEPALIVE_INTERVAL;
    assert_eq!(session.handle_timeout(settled), [Event::Silent(connection)]);
    let lease_end = settled - LINK_SILENCE_MAX + LEASE;
    assert_eq!(session.poll_timeout(), Some(lease_end));
    assert_eq!(session.handle_timeout(lease_end), [Event::LeaseEnded]);
}

#[test]
fn a_session_comes_back_whole_also_from_courtesy() {
    let (mut session, first, start) = live();
    session.call(first, id(0, 1), MKDIR, start).unwrap();
    session.finish(id(0, 1), &DONE);
    session.detach(first, start);
    assert_eq!(join(&mut session, start), Err(Refusal::NoSession), "resume it first");
    let late = start + LEASE;
    assert_eq!(session.handle_timeout(late), [Event::LeaseEnded]);
    let second = resume(&mut session, late);
    assert_eq!(session.phase(), Phase::Live);
    assert_eq!(session.call(second, id(0, 1), MKDIR, late), Ok(Admission::Answer(DONE)));
}

#[test]
fn a_server_that_was_stopped_gives_its_clients_time_to_be_heard() {
    let (mut session, connection, start) = live();
    session.handle_timeout(start);
    let woken = start + LEASE * 100;
    assert_eq!(session.handle_timeout(woken), []);
    session.received(connection, woken).unwrap();
    assert_eq!(session.handle_timeout(woken + KEEPALIVE_INTERVAL), []);
    assert_eq!(session.phase(), Phase::Live);
}

#[test]
fn a_greeting_is_negotiated() {
    let hello =
        |versions, session| Hello { versions, features: Features::RESUME, session, client: "".into() };
    let wish = |bytes| SessionWish::New { export: vec![b'x'; bytes], path: vec![] };
    let future = crate::version::VersionRange { oldest: 900, newest: 901 };
    assert_eq!(negotiate(&hello(SPOKEN, wish(1)), Features::all()), Ok((SPOKEN.newest, Features::RESUME)));
    assert_eq!(negotiate(&hello(future, wish(1)), Features::all()), Err(Refusal::Version(SPOKEN)));
    assert_eq!(negotiate(&hello(SPOKEN, wish(256)), Features::all()), Err(Refusal::NoExport));
}

#[test]
fn a_fingerprint_sees_every_byte() {
    let control: Vec<u8> = (0..61).collect();
    for at in 0..control.len() {
        let mut other = control.clone();
        other[at] ^= 1;
        assert_ne!(fingerprint(&control), fingerprint(&other), "byte {at}");
        assert_ne!(fingerprint(&control), fingerprint(&control[..at]), "length {at}");
    }
}

#[test]
fn a_session_of_before_a_restart_is_resumed_with_its_answers() {
    let now = Instant::now();
    let answered = |id, answer| Remembered { id, fingerprint: 1, answer };
    let remembered =
        [answered(id(0, 7), DONE), answered(id(2, 3), Err(Errno::EEXIST)), answered(id(9, 1), DONE)];
    let mut session = ServerSession::restored(ID, TOKEN, limits(), remembered, now);
    let begin = SessionWish::New { export: vec![], path: vec![] };
    assert_eq!(session.attach(&begin, now), Err(Refusal::Malformed));
    assert_eq!(join(&mut session, now), Err(Refusal::NoSession));
    let connection = resume(&mut session, now);
    assert_eq!(session.call(connection, id(0, 7), MKDIR, now), Ok(Admission::Answer(DONE)));
    assert_eq!(session.call(connection, id(0, 6), MKDIR, now), Ok(Admission::Drop));
    assert_eq!(session.call(connection, id(2, 3), MKDIR, now), Ok(Admission::Answer(Err(Errno::EEXIST))));
    assert_eq!(session.call(connection, id(1, 5), MKDIR, now), Ok(Admission::Run), "it was not known yet");
    assert_eq!(session.call(connection, id(2, 4), MKDIR, now), Ok(Admission::Run));
}

#[test]
fn a_restored_session_that_nobody_resumes_ends_as_any_other() {
    let now = Instant::now();
    let since = now + Duration::from_secs(5);
    let mut session = ServerSession::restored(ID, TOKEN, limits(), [], since);
    assert_eq!(session.handle_timeout(now + LEASE), [], "its clients may take a while to notice the restart");
    assert_eq!(session.handle_timeout(since + LEASE), [Event::LeaseEnded]);
    assert_eq!(session.phase(), Phase::Courtesy { since });
}
