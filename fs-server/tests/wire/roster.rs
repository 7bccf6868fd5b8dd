//! Who is connected, and the end of sessions that the server's owner does not want.

use std::time::{Duration, Instant};

use nearfs_protocol::attr::{Lock, LockKind, LockStyle};
use nearfs_protocol::codec::{FrameKind, decode_control};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Refusal;
use nearfs_protocol::id::{RequestId, SessionId};
use nearfs_protocol::limits::{CLIENT_NAME_BYTES_MAX, SESSIONS_PAGE_MAX};
use nearfs_protocol::message::{Push, Reply, Request, WriteAt, WriteSync};
use nearfs_protocol::roster::SessionReport;
use nearfs_protocol::version::Features;

use crate::harness::*;

fn page(client: &mut Client, after: SessionId) -> (Vec<SessionReport>, bool) {
    match client.ask(&Request::ListSessions { after }, b"").0 {
        Ok(Reply::Sessions { sessions, end }) => (sessions, end),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn list(client: &mut Client) -> Vec<SessionReport> {
    let mut all: Vec<SessionReport> = Vec::new();
    loop {
        let (sessions, end) = page(client, all.last().map_or(SessionId(0), |last| last.id));
        assert!(sessions.len() <= SESSIONS_PAGE_MAX && (end || !sessions.is_empty()));
        all.extend(sessions);
        if end {
            return all;
        }
    }
}

pub(crate) fn id(client: &Client) -> SessionId {
    client.welcome.as_ref().unwrap().session
}

fn kick(client: &mut Client, session: Option<SessionId>) -> Result<Reply, Errno> {
    client.ask(&Request::Kick { session }, b"").0
}

/// Whether the server says that the owner ended the session, and then closes the connection.
fn is_dismissed(client: &mut Client) -> bool {
    let Ok(received) = client.receive() else { return false };
    received.kind == FrameKind::Push
        && decode_control(&received.control) == Ok(Push::EndedByOwner)
        && client.is_closed()
}

#[test]
fn sessions_are_listed_with_what_they_do() {
    let served = Served::start();
    let mut mount = served.dial();
    let mut hello = hello(new_session());
    hello.features = Features::all() - Features::SHELL;
    hello.client = format!("a\n{}", "\u{20ac}".repeat(200));
    mount.greet_as(&hello).unwrap();
    let fh = mount.create("busy");
    let lock = Lock { start: 0, end: 9, kind: LockKind::Write, style: LockStyle::Posix, owner: 1, pid: 1 };
    mount.ask(&Request::SetLock { fh, lock, wait: false }, b"").0.unwrap();
    let write = Request::Write { fh, at: WriteAt::Offset(0), sync: WriteSync::None };
    mount.ask(&write, &[7; 5000]).0.unwrap();
    mount.ask(&Request::Read { fh, offset: 0, size: 3000 }, b"").0.unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let mut asking = served.client();
    let sessions = list(&mut asking);
    let [report, own] = &sessions[..] else { panic!("{sessions:?}") };
    assert_eq!((report.id, report.own, report.shell, report.connected), (id(&mount), false, false, true));
    assert!(report.client.len() <= CLIENT_NAME_BYTES_MAX && hello.client.starts_with(&report.client));
    assert_eq!(report.uid, Some(rustix::process::geteuid().as_raw()));
    assert!(report.address.starts_with("127.0.0.1:"), "{}", report.address);
    assert_eq!((report.open_files, report.locks), (1, 1));
    assert_eq!((report.read_bytes, report.written_bytes), (3000, 5000));
    assert_eq!(report.recent, ["read", "write", "setlk", "create"]);
    assert!(report.idle_ms >= 30 && report.age_ms >= report.idle_ms && report.age_ms < 20_000);
    assert_eq!((own.id, own.own, own.shell), (id(&asking), true, true));
    assert_eq!(own.recent, ["who"]);
    mount.link.closer().close();
    served.await_active(1);
    assert!(!list(&mut asking)[0].connected, "it is kept, but has no connection");
}

#[test]
fn a_kicked_session_ends_at_once_and_is_told_why() {
    let served = Served::start();
    let (mut owner, mut kicked, mut waiter) = (served.client(), served.client(), served.client());
    let fh = kicked.create("locked");
    let lock = Lock { start: 0, end: 9, kind: LockKind::Write, style: LockStyle::Posix, owner: 1, pid: 1 };
    kicked.ask(&Request::SetLock { fh, lock, wait: false }, b"").0.unwrap();
    let open = waiter.create("locked");
    let waiting = RequestId::new(5, 1);
    waiter.send_raw(&call_frame(waiting, &Request::SetLock { fh: open, lock, wait: true }, b""));
    waiter.ping();
    let ended = id(&kicked);
    assert_eq!(kick(&mut owner, Some(ended)), Ok(Reply::Kicked(1)));
    assert_eq!(
        list(&mut owner).iter().map(|session| session.id).collect::<Vec<_>>(),
        [id(&owner), id(&waiter)]
    );
    assert_eq!(page(&mut owner, id(&waiter)), (vec![], true));
    assert_eq!(waiter.receive().unwrap().answer(), Ok(Reply::Done), "the lock is free at once");
    assert!(is_dismissed(&mut kicked));
    assert_eq!(served.dial().greet(kicked.resume()), Err(Refusal::EndedByOwner));
    assert_eq!(served.dial().greet(kicked.join()), Err(Refusal::EndedByOwner));
    assert_eq!(kick(&mut owner, Some(ended)), Err(Errno::ENOENT));
    let own = id(&owner);
    assert_eq!(kick(&mut owner, Some(own)), Err(Errno::EINVAL));
    assert!(served.client().make_dir("whoever comes anew is welcome").is_ok());
}

#[test]
fn a_client_that_is_away_is_told_when_it_comes_back() {
    let served = Served::start();
    let (mut owner, away) = (served.client(), served.client());
    away.link.closer().close();
    served.await_active(1);
    assert_eq!(kick(&mut owner, Some(id(&away))), Ok(Reply::Kicked(1)));
    assert_eq!(served.dial().greet(away.resume()), Err(Refusal::EndedByOwner));
}

#[test]
fn all_others_are_kicked_together() {
    let served = Served::start();
    let mut owner = served.client();
    let mut others: Vec<_> = (0..20).map(|_| served.client()).collect();
    let mut second = served.dial();
    second.greet(others[0].join()).unwrap();
    assert_eq!(kick(&mut owner, None), Ok(Reply::Kicked(20)));
    assert!(others.iter_mut().all(is_dismissed));
    assert!(second.is_closed());
    served.await_active(1);
    assert_eq!(kick(&mut owner, None), Ok(Reply::Kicked(0)));
    assert!(owner.make_dir("goes-on").is_ok());
}

#[test]
fn a_client_that_takes_nothing_is_kicked_all_the_same() {
    let served = Served::start();
    let (mut owner, mut stuck) = (served.client(), served.client());
    let fh = stuck.create("large");
    let write = Request::Write { fh, at: WriteAt::Offset(0), sync: WriteSync::None };
    stuck.ask(&write, &vec![7; 1 << 20]).0.unwrap();
    for slot in 1..30 {
        let read = Request::Read { fh, offset: 0, size: 1 << 20 };
        stuck.offer_raw(&call_frame(RequestId::new(slot, 1), &read, b""));
    }
    let begun = Instant::now();
    assert_eq!(kick(&mut owner, None), Ok(Reply::Kicked(1)));
    served.await_active(1);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(served.dial().greet(stuck.resume()), Err(Refusal::EndedByOwner));
}
