//! What a session keeps when its connection is lost.

use nearfs_fs_server::config::Timings;
use nearfs_fs_server::descriptor::Descriptors;
use nearfs_protocol::attr::{Lock, LockKind, LockStyle};
use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::{Refusal, SessionWish};
use nearfs_protocol::id::{RequestId, SessionToken};
use nearfs_protocol::message::{Reply, Request, WriteAt, WriteSync};
use nearfs_protocol::session::server::remembered;

use crate::harness::*;

/// Sends a call, and loses the connection before the answer.
fn send_and_vanish(client: Client, bytes: &[u8], done: impl FnMut() -> bool) -> Client {
    client.send_raw(bytes);
    wait_until(done);
    client.link.closer().close();
    client
}

#[test]
fn a_mutation_that_is_sent_again_is_answered_again_and_not_repeated() {
    let served = Served::start();
    let client = served.client();
    let id = RequestId::new(0, 1);
    let bytes = call_frame(id, &make_dir(client.root(), "once"), b"");
    let path = served.directory.path().join("once");
    let lost = send_and_vanish(client, &bytes, || path.is_dir());
    let mut client = served.dial();
    client.greet(lost.resume()).unwrap();
    client.send_raw(&bytes);
    let answer = client.receive().unwrap();
    assert_eq!(answer.id, id);
    assert!(matches!(answer.answer(), Ok(Reply::Made { .. })), "{:?}", answer.answer());
    // Under another id it is another request.
    client.send_raw(&call_frame(RequestId::new(0, 2), &make_dir(client.root(), "once"), b""));
    assert_eq!(client.receive().unwrap().answer(), Err(Errno::EEXIST));
}

#[test]
fn an_append_that_is_sent_again_is_there_once() {
    let served = Served::start();
    let mut client = served.client();
    let fh = client.create("log");
    let write = Request::Write { fh, at: WriteAt::End, sync: WriteSync::None };
    let bytes = call_frame(RequestId::new(3, 1), &write, b"a record\n");
    let path = served.directory.path().join("log");
    let lost = send_and_vanish(client, &bytes, || path.metadata().is_ok_and(|found| found.len() == 9));
    let mut client = served.dial();
    client.greet(lost.resume()).unwrap();
    client.send_raw(&bytes);
    assert!(matches!(client.receive().unwrap().answer(), Ok(Reply::Written(_))));
    assert_eq!(std::fs::read(path).unwrap(), b"a record\n");
}

#[test]
fn an_id_used_for_something_else_ends_the_connection() {
    let served = Served::start();
    let client = served.client();
    let id = RequestId::new(0, 1);
    let bytes = call_frame(id, &make_dir(client.root(), "one"), b"");
    let path = served.directory.path().join("one");
    let lost = send_and_vanish(client, &bytes, || path.is_dir());
    let mut client = served.dial();
    client.greet(lost.resume()).unwrap();
    client.send_raw(&call_frame(id, &make_dir(client.root(), "other"), b""));
    assert!(client.is_closed());
    assert!(!served.directory.path().join("other").exists());
}

#[test]
fn open_files_and_locks_are_there_after_a_resume() {
    let served = Served::start();
    let mut client = served.client();
    let fh = client.create("file");
    let lock = Lock { start: 0, end: 9, kind: LockKind::Write, style: LockStyle::Posix, owner: 1, pid: 1 };
    client.ask(&Request::SetLock { fh, lock, wait: false }, b"").0.unwrap();
    std::fs::remove_file(served.directory.path().join("file")).unwrap();
    client.link.closer().close();
    served.await_active(0);
    let mut resumed = served.dial();
    resumed.greet(client.resume()).unwrap();
    let write = Request::Write { fh, at: WriteAt::Offset(0), sync: WriteSync::None };
    resumed.send_raw(&call_frame(RequestId::new(9, 1), &write, b"still mine"));
    assert!(resumed.receive().unwrap().answer().is_ok());
    let unlock = Request::SetLock { fh, lock: Lock { kind: LockKind::Unlock, ..lock }, wait: false };
    resumed.send_raw(&call_frame(RequestId::new(9, 2), &unlock, b""));
    assert_eq!(resumed.receive().unwrap().answer(), Ok(Reply::Done));
}

#[test]
fn a_resume_ends_the_connections_before_it() {
    let served = Served::start();
    let mut first = served.client();
    let mut second = served.dial();
    second.greet(first.resume()).unwrap();
    assert!(first.is_closed());
    assert!(second.make_dir("goes-on").is_ok());
    let mut third = served.dial();
    third.greet(first.join()).unwrap();
    assert_eq!(served.server.active_sessions(), 1);
}

#[test]
fn nobody_joins_a_session_without_a_connection() {
    let served = Served::start();
    let client = served.client();
    client.link.closer().close();
    served.await_active(0);
    assert_eq!(served.dial().greet(client.join()), Err(Refusal::NoSession));
    assert!(served.dial().greet(client.resume()).is_ok());
}

#[test]
fn a_session_is_resumed_from_another_address() {
    let served = Served::start();
    let mut client = served.client();
    let fh = client.create("file");
    client.link.closer().close();
    let mut moved = served.dial_from("127.0.0.2");
    moved.greet(client.resume()).unwrap();
    let id = RequestId::new(9, 1);
    let write = Request::Write { fh, at: WriteAt::End, sync: WriteSync::None };
    moved.send_raw(&call_frame(id, &write, b"from elsewhere"));
    assert!(moved.receive().unwrap().answer().is_ok());
    assert_eq!(std::fs::read(served.directory.path().join("file")).unwrap(), b"from elsewhere");
}

#[test]
fn what_was_asked_before_a_restart_is_known_after_it() {
    let served = Served::start_kept(Timings::default(), 64, &Descriptors::new(1000));
    let (mut client, mut left) = (served.client(), served.client());
    let id = client.next_id();
    let asked = call_frame(id, &make_dir(client.root(), "once"), b"");
    client.send_raw(&asked);
    let answer = client.receive().unwrap().answer();
    left.make_dir("left").unwrap();
    left.send_raw(&frame(FrameKind::Bye, RequestId(0), &(), b""));
    assert!(left.is_closed());
    let served = served.restart();
    assert_eq!(served.dial().greet(left.resume()), Err(Refusal::NoSession), "it is over");
    let SessionWish::Resume { session, token } = client.resume() else { panic!("not a resume") };
    let forged = SessionToken(token.0.map(|byte| byte ^ 1));
    let wish = SessionWish::Resume { session, token: forged };
    assert_eq!(served.dial().greet(wish), Err(Refusal::NoSession), "it is somebody else's");
    let mut again = served.dial();
    again.greet(client.resume()).unwrap();
    again.send_raw(&asked);
    assert_eq!(again.receive().unwrap().answer(), remembered(&answer), "it is not made twice");
    let mut wrong = served.dial();
    wrong.greet(client.resume()).unwrap();
    wrong.send_raw(&call_frame(id, &make_dir(client.root(), "other"), b""));
    assert!(wrong.is_closed(), "an id that is used for something else");
    assert!(!served.directory.path().join("other").exists());
    assert!(served.dial().greet(client.resume()).is_ok(), "the session has not suffered");
}
