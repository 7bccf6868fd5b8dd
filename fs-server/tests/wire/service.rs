//! What a well-behaved client gets.

use std::time::Duration;

use nearfs_protocol::attr::{Lock, LockKind, LockStyle};
use nearfs_protocol::codec::{FrameKind, decode_control};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, RequestId};
use nearfs_protocol::message::{Push, Reply, Request, WriteAt, WriteSync};
use nearfs_transport::link::Link;
use nearfs_transport::stream::Stream;
use tokio::net::UnixStream;

use crate::harness::*;

#[test]
fn calls_are_answered_each_once() {
    let served = Served::start();
    let mut client = served.client();
    let root = client.root();
    let mut bytes = Vec::new();
    for slot in 0..500 {
        let request = make_dir(root, &format!("d{slot}"));
        bytes.extend(call_frame(RequestId::new(slot, 1), &request, b""));
        bytes.extend(frame(FrameKind::Ping, RequestId(u64::from(slot)), &(), b""));
    }
    client.send_raw(&bytes);
    let (mut answered, mut pongs) = (vec![0; 500], 0);
    for _ in 0..1000 {
        let received = client.receive().unwrap();
        match received.kind {
            FrameKind::Answer => {
                assert!(matches!(received.answer(), Ok(Reply::Made { .. })));
                answered[received.id.slot()] += 1;
            }
            FrameKind::Pong => pongs += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(answered.iter().all(|count| *count == 1) && pongs == 500);
    assert_eq!(std::fs::read_dir(served.directory.path()).unwrap().count(), 500);
}

#[test]
fn payloads_of_every_size_go_there_and_back() {
    let served = Served::start();
    let mut client = served.client();
    let fh = client.create("file");
    for size in [0, 1, 4095, 4096, 4097, 65_536, 131_072, 1_000_003, 1 << 20] {
        let content: Vec<u8> = (0..size).map(|n| (n * 31 + size) as u8).collect();
        let write = Request::Write { fh, at: WriteAt::Offset(0), sync: WriteSync::None };
        let Ok(Reply::Written(written)) = client.ask(&write, &content).0 else { panic!("not written") };
        assert_eq!(written.size, size as u64);
        let read = Request::Read { fh, offset: 0, size: size as u32 };
        let (answer, payload) = client.ask(&read, b"");
        assert!(matches!(answer, Ok(Reply::Read { .. })));
        assert!(payload == content, "{size}");
    }
}

#[test]
fn a_session_has_several_connections() {
    let served = Served::start();
    let mut first = served.client();
    let fh = first.create("shared");
    let mut second = served.dial();
    second.greet(first.join()).unwrap();
    let write = Request::Write { fh, at: WriteAt::Offset(0), sync: WriteSync::None };
    second.send_raw(&call_frame(RequestId::new(7, 1), &write, b"through the second"));
    assert!(second.receive().unwrap().answer().is_ok());
    let read = Request::Read { fh, offset: 0, size: 100 };
    assert_eq!(first.ask(&read, b"").1, b"through the second");
    drop(second);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(first.ask(&read, b"").1, b"through the second");
    assert_eq!(served.server.active_sessions(), 1);
}

#[test]
fn good_bye_frees_everything_at_once() {
    let served = Served::start();
    let mut client = served.client();
    client.create("open");
    client.send_raw(&frame(FrameKind::Bye, RequestId(0), &(), b""));
    assert!(client.is_closed());
    served.await_active(0);
    let gone = served.dial().greet(client.resume());
    assert_eq!(gone, Err(nearfs_protocol::greeting::Refusal::NoSession));
}

fn lock(fh: Fh, owner: u64, kind: LockKind, wait: bool) -> Request {
    let lock = Lock { start: 0, end: 9, kind, style: LockStyle::Posix, owner, pid: 1 };
    Request::SetLock { fh, lock, wait }
}

#[test]
fn a_lock_that_waits_holds_up_nothing_else() {
    let served = Served::start();
    let (mut holder, mut waiter) = (served.client(), served.client());
    let fh = holder.create("locked");
    holder.ask(&lock(fh, 1, LockKind::Write, false), b"").0.unwrap();
    let open = waiter.create("locked");
    let refused = waiter.ask(&lock(open, 1, LockKind::Write, false), b"").0;
    assert_eq!(refused, Err(Errno::EAGAIN));
    let waiting = RequestId::new(5, 1);
    waiter.send_raw(&call_frame(waiting, &lock(open, 1, LockKind::Write, true), b""));
    assert!(waiter.make_dir("meanwhile").is_ok());
    holder.ask(&lock(fh, 1, LockKind::Unlock, false), b"").0.unwrap();
    let granted = waiter.receive().unwrap();
    assert_eq!((granted.id, granted.answer()), (waiting, Ok(Reply::Done)));
}

#[test]
fn a_wait_can_be_cancelled() {
    let served = Served::start();
    let (mut holder, mut waiter) = (served.client(), served.client());
    let fh = holder.create("locked");
    holder.ask(&lock(fh, 1, LockKind::Write, false), b"").0.unwrap();
    let open = waiter.create("locked");
    let waiting = RequestId::new(5, 1);
    waiter.send_raw(&call_frame(waiting, &lock(open, 1, LockKind::Write, true), b""));
    waiter.send_raw(&frame(FrameKind::Cancel, waiting, &(), b""));
    let cancelled = waiter.receive().unwrap();
    assert_eq!((cancelled.id, cancelled.answer()), (waiting, Err(Errno::ECANCELED)));
}

#[test]
fn the_memory_link_serves_as_well() {
    let served = Served::start();
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let server = served.server.clone();
    let stream = served.runtime.block_on(async { Stream::from_unix(UnixStream::from_std(far)?) }).unwrap();
    served.runtime.spawn(server.connect(stream));
    let mut client = Client::new(Link::from_socket(near.into()));
    client.greet(new_session()).unwrap();
    assert!(client.make_dir("here").is_ok());
}

#[test]
fn a_stop_finishes_what_has_arrived() {
    let served = Served::start();
    let mut client = served.client();
    let root = client.root();
    let bytes: Vec<u8> = (0..200)
        .flat_map(|slot| call_frame(RequestId::new(slot, 1), &make_dir(root, &format!("d{slot}")), b""))
        .collect();
    client.send_raw(&bytes);
    served.runtime.block_on(served.server.stop());
    let (mut answers, mut told) = (0, false);
    while let Ok(received) = client.receive() {
        match received.kind {
            FrameKind::Answer => answers += 1,
            FrameKind::Push => told = decode_control::<Push>(&received.control) == Ok(Push::Stopping),
            other => panic!("{other:?}"),
        }
    }
    assert!(told);
    // Each directory that was made was answered for: what was not read was not done.
    assert_eq!(std::fs::read_dir(served.directory.path()).unwrap().count(), answers);
}
