//! A lost connection is made again, and nothing that was asked is lost or done twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_client::config::VfsConfig;
use nearfs_client::vfs::Vfs;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::{Refusal, SessionWish, Welcome};
use nearfs_protocol::id::{BootEpoch, BootId, Change, SessionToken};
use nearfs_protocol::message::{Reply, Request, Written};

use crate::scripted::{Heard, ME, PATIENCE, Peer, ask, write};
use crate::values::{directory, file, look_up, made, open, welcome, with_open_file};

fn await_connected(vfs: &Arc<Vfs>) {
    let begun = Instant::now();
    while !vfs.status().connected {
        assert!(begun.elapsed() < PATIENCE, "never connected again");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_was_not_answered_is_sent_again_with_its_id() {
    let (peer, vfs) = Peer::with_client();
    let pending = ask(|done| vfs.mkdir(ME, 1, b"d", 0o755, 0, done));
    let first = peer.call();
    peer.cut();
    let second = peer.call();
    assert_eq!((second.id, &second.request), (first.id, &first.request));
    second.reply(made(directory(8, 1)));
    assert_eq!(pending.get().unwrap().ino, 8);
    let wish = peer.hellos().pop().unwrap().session;
    assert_eq!(wish, SessionWish::Resume { session: welcome().session, token: SessionToken([7; 16]) });
    assert_eq!(vfs.status().reconnects, 1);
}

#[test]
fn a_write_is_sent_again_with_its_bytes_and_in_order() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 0, 1));
    let bytes = vec![7; 300_000];
    let pending: Vec<_> = (0..4).map(|at| write(&vfs, fh, at * 300_000, &bytes)).collect();
    let first: Vec<_> = (0..4).map(|_| peer.call()).collect();
    peer.cut();
    for (at, before) in first.iter().enumerate() {
        let again = peer.call();
        assert_eq!((again.id, &again.request, again.payload.len()), (before.id, &before.request, 300_000));
        let (offset, counter) = (at as u64 * 300_000, at as u64 + 1);
        let attr = file(7, offset + 300_000, counter + 1);
        again.reply(Reply::Written(Written { size: 300_000, offset, before: Change(counter), attr }));
    }
    for pending in pending {
        assert_eq!(pending.get(), Ok(300_000));
    }
}

#[test]
fn who_asks_while_the_connection_is_lost_is_served_after_it() {
    let (peer, vfs) = Peer::with_client();
    peer.greet_with(Err(Refusal::Full));
    peer.cut();
    while vfs.status().connected {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pending = ask(|done| vfs.getattr(ME, 1, None, done));
    peer.greet_with(Ok(welcome()));
    peer.expect(&Request::GetAttr { node: crate::values::ROOT, fh: None })
        .reply(Reply::Attr(directory(100, 1)));
    pending.get().unwrap();
}

#[test]
fn what_nobody_waits_for_is_taken_back_on_the_new_connection() {
    let timeout = Duration::from_millis(300);
    let (peer, vfs) = Peer::with(VfsConfig { timeout, ..VfsConfig::default() });
    let pending = ask(|done| vfs.mkdir(ME, 1, b"d", 0o755, 0, done));
    let asked = peer.call();
    peer.greet_with(Err(Refusal::Full));
    peer.cut();
    assert_eq!(pending.get().unwrap_err(), Errno::ETIMEDOUT);
    peer.greet_with(Ok(welcome()));
    match peer.hear() {
        Heard::Cancel(id) => assert_eq!(id, asked.id),
        other => panic!("{other:?} instead of a cancel"),
    }
    peer.wire().answer(asked.id, &Err(Errno::ECANCELED), &[]);
    peer.expect_nothing(&vfs);
}

#[test]
fn answers_of_the_old_connection_count_for_nothing() {
    let (peer, vfs) = Peer::with_client();
    let pending = ask(|done| vfs.getattr(ME, 1, None, done));
    let first = peer.call();
    peer.cut();
    let second = peer.call();
    first.fail(Errno::EIO);
    second.reply(Reply::Attr(directory(100, 1)));
    pending.get().unwrap();
}

#[test]
fn a_server_that_forgot_the_session_ends_it() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let pending = write(&vfs, fh, 0, b"abc");
    peer.call();
    peer.greet_with(Err(Refusal::NoSession));
    peer.cut();
    assert_eq!(pending.get(), Err(Errno::EIO));
    assert_eq!(ask(|done| vfs.statfs(ME, 1, done)).get(), Err(Errno::EIO));
    assert!(vfs.status().last_error.is_some());
}

#[test]
fn a_server_that_was_started_again_and_kept_the_session_goes_on() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let pending = write(&vfs, fh, 0, b"abc");
    peer.call();
    peer.greet_with(Ok(Welcome { epoch: BootEpoch(2), ..welcome() }));
    peer.cut();
    let written = Written { size: 3, offset: 0, before: Change(1), attr: file(7, 10, 2) };
    peer.call().reply(Reply::Written(written));
    pending.get().unwrap();
}

#[test]
fn connections_for_bulk_data_join_and_come_back() {
    let peer = Peer::start();
    let vfs = Vfs::connect(&peer.source(), VfsConfig { connections: 3, ..VfsConfig::default() }).unwrap();
    let fh = with_open_file(&peer, &vfs, file(7, 1 << 20, 1));
    for round in 0..2_u64 {
        let pending = write(&vfs, fh, 0, &[1; 100_000]);
        let written = Written {
            size: 100_000,
            offset: 0,
            before: Change(round + 1),
            attr: file(7, 1 << 20, round + 2),
        };
        peer.call().reply(Reply::Written(written));
        pending.get().unwrap();
        let begun = Instant::now();
        while vfs.status().connections < 3 {
            assert!(begun.elapsed() < PATIENCE, "{} connections", vfs.status().connections);
            std::thread::sleep(Duration::from_millis(5));
        }
        let hellos = peer.hellos();
        let joins = hellos.iter().filter(|hello| matches!(hello.session, SessionWish::Join { .. })).count();
        assert_eq!(joins as u64, 2 * (round + 1));
        peer.cut();
        // The loss is noticed before the resume, so that connected means connected again.
        while vfs.status().reconnects <= round {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
        await_connected(&vfs);
    }
    peer.expect_nothing(&vfs);
}

/// The kernel sees a broken cable only after minutes; the client asks for a sign of life.
#[test]
fn a_connection_that_falls_silent_is_given_up() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nearfs_transport::address::Address::Tcp {
        host: "127.0.0.1".into(),
        port: mute.local_addr().unwrap().port(),
    };
    let source = nearfs_transport::address::Source { address, export: Vec::new(), path: Vec::new() };
    let greeting = std::thread::spawn(move || {
        let (first, _) = mute.accept().unwrap();
        let link = nearfs_transport::link::Link::from_socket(first.into());
        let mut writer = nearfs_transport::frame::FrameWriter::new(link.writer());
        let id = nearfs_protocol::id::RequestId(0);
        writer.send(nearfs_protocol::codec::FrameKind::Welcome, id, &welcome(), &[]).unwrap();
        // Nothing more is said on it, while it stands.
        let again = mute.accept().map(drop);
        drop(link);
        again
    });
    let vfs = Vfs::connect(&source, VfsConfig::default()).unwrap();
    let begun = Instant::now();
    while vfs.status().connected {
        assert!(begun.elapsed() < PATIENCE, "still connected");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
    greeting.join().unwrap().unwrap();
}

#[test]
fn what_was_not_synced_when_the_servers_system_was_started_again_is_never_called_safe() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 10, 1));
    let [synced, unsynced, idle, under_way] =
        [500, 501, 502, 503].map(|fh| open(&peer, &vfs, file(7, 10, 1), libc::O_RDWR, fh));
    let fsync = |fh| ask(|done| vfs.fsync(ME, 0, fh, false, done));
    let written = || Written { size: 3, offset: 0, before: Change(1), attr: file(7, 10, 1) };
    let writes = |fh| {
        let pending = write(&vfs, fh, 0, b"abc");
        peer.call().reply(Reply::Written(written()));
        pending.get().unwrap();
    };
    writes(synced);
    let pending = fsync(idle);
    peer.call().reply(Reply::Done);
    pending.get().unwrap();
    writes(unsynced);
    let late = write(&vfs, under_way, 0, b"abc");
    peer.call();
    let asked = fsync(unsynced);
    peer.call();
    peer.greet_with(Ok(Welcome { epoch: BootEpoch(2), boot: BootId([2; 16]), ..welcome() }));
    peer.cut();
    peer.call().reply(Reply::Written(written()));
    peer.call().reply(Reply::Done);
    late.get().unwrap();
    assert_eq!(asked.get(), Err(Errno::EIO), "the new system has synced what it has");
    for fh in [synced, idle, under_way] {
        let pending = fsync(fh);
        peer.call().reply(Reply::Done);
        pending.get().unwrap();
    }
    for _ in 0..2 {
        assert_eq!(fsync(unsynced).get(), Err(Errno::EIO));
        assert_eq!(write(&vfs, unsynced, 0, b"abc").get(), Err(Errno::EIO));
        assert_eq!(ask(|done| vfs.flush(ME, 0, unsynced, 1, done)).get(), Err(Errno::EIO));
    }
}
