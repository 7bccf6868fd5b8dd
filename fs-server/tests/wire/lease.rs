//! What becomes of a session whose client is gone: for its lease, after it, and when the client is back.

use std::time::{Duration, Instant};

use nearfs_fs_server::config::Timings;
use nearfs_fs_server::descriptor::Descriptors;
use nearfs_protocol::attr::{Lock, LockKind, LockStyle, SetAttr};
use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Refusal;
use nearfs_protocol::id::{Fh, Node, RequestId};
use nearfs_protocol::message::{Answer, ReleasedFile, Reply, Request, WriteAt, WriteSync};

use crate::harness::*;

const LEASE: Duration = Duration::from_millis(300);
const LOCK: Lock =
    Lock { start: 0, end: 9, kind: LockKind::Write, style: LockStyle::Posix, owner: 1, pid: 1 };
const UNLOCK: Lock = Lock { kind: LockKind::Unlock, ..LOCK };

fn serve(lease: Duration) -> Served {
    Served::start_with(Timings { lease, ..Timings::default() }, 64)
}

fn lock(client: &mut Client, fh: Fh, lock: Lock) -> Result<(), Errno> {
    client.ask(&Request::SetLock { fh, lock, wait: false }, b"").0.map(|_| ())
}

fn lock_waiting(client: &mut Client, fh: Fh) -> Result<(), Errno> {
    client.ask(&Request::SetLock { fh, lock: LOCK, wait: true }, b"").0.map(|_| ())
}

fn write(client: &mut Client, fh: Fh) -> Result<(), Errno> {
    let request = Request::Write { fh, at: WriteAt::Offset(0), sync: WriteSync::None };
    client.ask(&request, b"late").0.map(|_| ())
}

/// The client goes on with its session over another connection.
fn come_back(served: &Served, mut gone: Client) -> Client {
    gone.link.closer().close();
    let mut back = served.dial();
    back.greet(gone.resume()).unwrap();
    // Its ids go on, or the server would take the first calls for old ones.
    let last = gone.next_id();
    while back.next_id() < last {}
    back
}

/// Loses the connection and waits until the lease has run out.
fn vanish(served: &Served, client: &Client, lease: Duration) {
    let active = served.server.active_sessions();
    client.link.closer().close();
    served.await_active(active - 1);
    std::thread::sleep(lease + Duration::from_millis(700));
}

#[test]
fn a_lock_is_kept_for_the_lease_and_then_goes_to_who_waits() {
    let served = serve(Duration::from_millis(600));
    let (mut holder, mut other) = (served.client(), served.client());
    let fh = holder.create("locked");
    lock(&mut holder, fh, LOCK).unwrap();
    let open = other.create("locked");
    holder.link.closer().close();
    served.await_active(1);
    assert_eq!(lock(&mut other, open, LOCK), Err(Errno::EAGAIN));
    let begun = Instant::now();
    assert_eq!(lock_waiting(&mut other, open), Ok(()));
    assert!(begun.elapsed() > Duration::from_millis(300), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(1600), "{:?}", begun.elapsed());
}

#[test]
fn a_lock_that_nobody_asked_for_is_there_when_its_holder_is_back() {
    let served = serve(LEASE);
    let (mut holder, mut other) = (served.client(), served.client());
    let fh = holder.create("locked");
    lock(&mut holder, fh, LOCK).unwrap();
    let open = other.create("locked");
    vanish(&served, &holder, LEASE);
    let mut holder = come_back(&served, holder);
    assert_eq!(lock(&mut other, open, LOCK), Err(Errno::EAGAIN));
    assert_eq!(write(&mut holder, fh), Ok(()));
    lock(&mut holder, fh, UNLOCK).unwrap();
    assert_eq!(lock(&mut other, open, LOCK), Ok(()));
}

#[test]
fn who_lost_a_lock_can_do_nothing_through_that_file_until_it_is_closed() {
    let served = serve(LEASE);
    let (mut holder, mut other) = (served.client(), served.client());
    let (fh, elsewhere) = (holder.create("locked"), holder.create("elsewhere"));
    let beside = holder.create("locked");
    lock(&mut holder, fh, LOCK).unwrap();
    lock(&mut holder, elsewhere, LOCK).unwrap();
    let open = other.create("locked");
    vanish(&served, &holder, LEASE);
    assert_eq!(lock(&mut other, open, LOCK), Ok(()));
    let mut holder = come_back(&served, holder);
    let node = node_of(&mut holder, "locked");
    for fh in [fh, beside] {
        for request in everything_through(fh, node) {
            assert_eq!(holder.ask(&request, b"").0, Err(Errno::EIO), "{request:?}");
        }
    }
    assert_eq!(std::fs::read(served.directory.path().join("locked")).unwrap(), b"");
    // Looking at it is no use of it; what was not taken is as it was.
    assert!(matches!(holder.ask(&Request::GetAttr { node, fh: Some(fh) }, b"").0, Ok(Reply::Attr(_))));
    assert_eq!(write(&mut holder, elsewhere), Ok(()));
    let open_elsewhere = other.create("elsewhere");
    assert_eq!(lock(&mut other, open_elsewhere, LOCK), Err(Errno::EAGAIN));
    let close = Request::Release { files: vec![ReleasedFile { fh, flock_owner: None }] };
    assert_eq!(holder.ask(&close, b"").0, Ok(Reply::Done));
    let again = holder.create("locked");
    assert_eq!(write(&mut holder, again), Ok(()));
    assert_eq!(lock(&mut holder, again, LOCK), Err(Errno::EAGAIN));
}

fn node_of(client: &mut Client, text: &str) -> Node {
    let request = Request::Lookup { parent: client.root(), name: name(text), also_open: None };
    match client.ask(&request, b"").0 {
        Ok(Reply::Entry { attr, .. }) => attr.node,
        other => panic!("looked up as {other:?}"),
    }
}

/// Every request that uses an open file.
fn everything_through(fh: Fh, node: Node) -> Vec<Request> {
    let write = |at| Request::Write { fh, at, sync: WriteSync::None };
    let set = SetAttr { size: Some(1), ..SetAttr::default() };
    vec![
        Request::Read { fh, offset: 0, size: 10 },
        write(WriteAt::Offset(0)),
        write(WriteAt::End),
        Request::Fsync { fh, data_only: true },
        Request::Flush { fh, owner: 1 },
        Request::Allocate { fh, mode: 0, offset: 0, length: 10 },
        Request::Seek { fh, offset: 0, target: nearfs_protocol::message::SeekTarget::Data },
        Request::CopyRange { from: fh, from_offset: 0, to: fh, to_offset: 20, length: 1 },
        Request::GetLock { fh, lock: LOCK },
        Request::SetLock { fh, lock: LOCK, wait: false },
        Request::SetLock { fh, lock: UNLOCK, wait: false },
        Request::SetAttr { node, fh: Some(fh), set },
    ]
}

#[test]
fn a_write_that_was_under_way_when_the_lock_was_lost_is_refused() {
    let served = serve(LEASE);
    let (mut holder, mut other) = (served.client(), served.client());
    let fh = holder.create("locked");
    lock(&mut holder, fh, LOCK).unwrap();
    let open = other.create("locked");
    // Its client sends it again when it is back, as it has no answer.
    let request = Request::Write { fh, at: WriteAt::Offset(0), sync: WriteSync::None };
    let unanswered = call_frame(holder.next_id(), &request, b"late");
    vanish(&served, &holder, LEASE);
    assert_eq!(lock(&mut other, open, LOCK), Ok(()));
    lock(&mut other, open, UNLOCK).unwrap();
    let mut back = served.dial();
    back.greet(holder.resume()).unwrap();
    back.send_raw(&unanswered);
    assert_eq!(back.receive().unwrap().answer(), Err(Errno::EIO));
    assert_eq!(std::fs::read(served.directory.path().join("locked")).unwrap(), b"");
}

#[test]
fn a_good_bye_frees_everything_at_once() {
    let served = serve(Duration::from_secs(60));
    let (mut holder, mut other) = (served.client(), served.client());
    let fh = holder.create("locked");
    lock(&mut holder, fh, LOCK).unwrap();
    let open = other.create("locked");
    holder.send_raw(&frame(FrameKind::Bye, RequestId(0), &(), b""));
    let begun = Instant::now();
    assert_eq!(lock_waiting(&mut other, open), Ok(()));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(served.dial().greet(holder.resume()), Err(Refusal::NoSession));
}

#[test]
fn the_longest_gone_makes_room_for_the_next() {
    let timings = Timings { lease: Duration::from_millis(100), ..Timings::default() };
    let served = Served::start_with(timings, 1);
    let gone = served.client();
    gone.link.closer().close();
    served.await_active(0);
    let mut newcomer = served.dial();
    assert_eq!(newcomer.greet(new_session()), Err(Refusal::Full));
    wait_until(|| served.dial().greet(new_session()).is_ok());
    assert_eq!(served.dial().greet(gone.resume()), Err(Refusal::NoSession));
}

#[test]
fn those_who_are_gone_keep_no_descriptors_that_others_need() {
    let descriptors = Descriptors::new(16);
    let timings = Timings { lease: Duration::from_millis(100), ..Timings::default() };
    let served = Served::start_sharing(timings, 64, &descriptors);
    let mut gone = served.client();
    let open = |client: &mut Client, number: usize| -> Answer {
        let name = name(&format!("file-{number}"));
        let request = Request::Create { parent: client.root(), name, mode: 0o644, umask: 0, flags: 2 };
        client.ask(&request, b"").0
    };
    while descriptors.held() < 12 {
        open(&mut gone, descriptors.held()).unwrap();
    }
    gone.link.closer().close();
    served.await_active(0);
    wait_until(|| descriptors.held() < 3);
    assert_eq!(served.dial().greet(gone.resume()), Err(Refusal::NoSession));
}
