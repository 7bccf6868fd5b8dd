//! Who gets a session, and what the others are told.

use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::greeting::{Refusal, SessionWish};
use nearfs_protocol::id::{RequestId, SessionId, SessionToken};
use nearfs_protocol::version::VersionRange;
use nearfs_transport::frame::ReceiveError;

use crate::harness::*;

#[test]
fn a_client_is_welcomed() {
    let served = Served::start();
    let welcome = served.dial().greet(new_session()).unwrap();
    assert_eq!(welcome.version, 1);
    assert_ne!(welcome.token, SessionToken([0; 16]));
    assert_eq!(welcome.limits.lease_ms, 10_000);
    let other = served.dial().greet(new_session()).unwrap();
    assert_ne!((welcome.session, welcome.token), (other.session, other.token));
    assert_eq!((welcome.root.node, welcome.epoch), (other.root.node, other.epoch));
}

#[test]
fn a_directory_below_the_export_can_be_the_root() {
    let served = Served::start();
    std::fs::create_dir_all(served.directory.path().join("a/b")).unwrap();
    let wish = |export: &str, path: &[&str]| SessionWish::New {
        export: export.into(),
        path: path.iter().map(|text| name(text)).collect(),
    };
    let below = served.dial().greet(wish("", &["a", "b"])).unwrap();
    // The directory has no name of its own: the first component leads into it.
    assert_eq!(served.dial().greet(wish("a", &["b"])).unwrap().root.node, below.root.node);
    assert_ne!(served.client().root(), below.root.node);
    assert_eq!(served.dial().greet(wish("", &["missing"])).unwrap_err(), Refusal::NoExport);
    assert_eq!(served.dial().greet(wish("..", &[])).unwrap_err(), Refusal::NoExport);
    assert_eq!(served.dial().greet(wish(&"x".repeat(256), &[])).unwrap_err(), Refusal::NoExport);
}

#[test]
fn refusals_are_said_before_the_connection_ends() {
    let served = Served::start();
    let mut hello = hello(new_session());
    hello.versions = VersionRange { oldest: 7, newest: 9 };
    let mut client = served.dial();
    assert!(matches!(client.greet_as(&hello), Err(Refusal::Version(_))));
    assert!(matches!(client.receive(), Err(ReceiveError::Closed)));
    for wish in [
        SessionWish::Resume { session: SessionId(1), token: SessionToken([1; 16]) },
        SessionWish::Join { session: SessionId(99), token: SessionToken([1; 16]) },
    ] {
        let mut client = served.dial();
        assert_eq!(client.greet(wish), Err(Refusal::NoSession));
        assert!(matches!(client.receive(), Err(ReceiveError::Closed)));
    }
}

#[test]
fn a_forged_token_opens_no_session() {
    let served = Served::start();
    let client = served.client();
    let session = client.welcome.as_ref().unwrap().session;
    for wish in [
        SessionWish::Resume { session, token: SessionToken([7; 16]) },
        SessionWish::Join { session, token: SessionToken([7; 16]) },
    ] {
        assert_eq!(served.dial().greet(wish), Err(Refusal::NoSession));
    }
}

#[test]
fn nonsense_instead_of_a_greeting_is_refused() {
    let served = Served::start();
    let call = call_frame(RequestId::new(0, 1), &make_dir(Default::default(), "a"), b"");
    for bytes in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &call, &[0; 100], &[0xff; 100]] {
        let mut client = served.dial();
        client.send_raw(bytes);
        let received = client.receive().unwrap();
        assert_eq!(received.kind, FrameKind::Refused);
        assert!(client.is_closed());
    }
    assert!(served.client().make_dir("still-served").is_ok());
}

#[test]
fn a_full_server_says_so() {
    let served = Served::start_with(Default::default(), 2);
    let clients = [served.client(), served.client()];
    assert_eq!(served.dial().greet(new_session()), Err(Refusal::Full));
    drop(clients);
}

#[test]
fn the_greeting_may_come_with_the_first_calls() {
    let served = Served::start();
    let root = served.client().root();
    let mut client = served.dial();
    let mut bytes = frame(FrameKind::Hello, RequestId(0), &hello(new_session()), b"");
    bytes.extend(call_frame(RequestId::new(0, 1), &make_dir(root, "early"), b""));
    client.send_raw(&bytes);
    assert_eq!(client.receive().unwrap().kind, FrameKind::Welcome);
    assert_eq!(client.receive().unwrap().kind, FrameKind::Answer);
    assert!(served.directory.path().join("early").is_dir());
}

#[test]
fn other_users_of_this_machine_are_not_admitted() {
    if !rustix::process::geteuid().is_root() {
        return println!("not run: only root can become somebody else");
    }
    let served = Served::start();
    let greet = || {
        // A socket belongs to the user of the thread that makes it, and the thread ends here.
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        served.dial().greet(new_session())
    };
    let refused = std::thread::scope(|scope| scope.spawn(greet).join().unwrap());
    assert!(matches!(refused, Err(Refusal::NotAdmitted(_))), "{refused:?}");
    assert!(served.dial().greet(new_session()).is_ok());
}
