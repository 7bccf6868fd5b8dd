//! A client believes no server: whatever is answered, it survives, and the operation gets a clean errno.

use std::sync::Arc;
use std::time::Instant;

use nearfs_client::vfs::Vfs;
use nearfs_protocol::attr::{Attr, FileKind, Lock, LockKind, LockStyle, SetAttr, StatFs, Time};
use nearfs_protocol::codec::{FrameKind, encode_frame};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Fh, Node, NodeId, RequestId};
use nearfs_protocol::message::{Answer, Reply, Request, Written};

use crate::scripted::{Asked, ME, PATIENCE, Peer, ask, list, read, write};
use crate::values::{content, directory, file, listed, look_up, made, with_open_file};

#[track_caller]
fn await_hellos(peer: &Peer, count: usize) {
    let begun = Instant::now();
    while peer.hellos().len() < count {
        assert!(begun.elapsed() < PATIENCE, "only {} greetings", peer.hellos().len());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The client gives the connection up, and goes on with a new one.
#[track_caller]
fn expect_cut_and_resume(peer: &Peer, vfs: &Arc<Vfs>) {
    await_hellos(peer, 2);
    peer.expect_nothing(vfs);
}

#[test]
fn answers_to_what_was_not_asked_end_the_connection() {
    for id in [RequestId(0), RequestId::new(0, 99), RequestId::new(63, 1), RequestId(u64::MAX)] {
        let (peer, vfs) = Peer::with_client();
        peer.wire().answer(id, &Ok(Reply::Done), &[]);
        expect_cut_and_resume(&peer, &vfs);
    }
}

#[test]
fn garbage_ends_the_connection() {
    let bad_control = |bytes: &[u8]| {
        let mut frame = Vec::new();
        encode_frame(&mut frame, FrameKind::Answer, RequestId::new(0, 1), bytes, 0).unwrap();
        frame
    };
    let header = |kind: u8, control: u32, payload: u32| {
        let mut bytes = vec![b'n', b'f', kind, 0];
        bytes.extend(control.to_le_bytes());
        bytes.extend(payload.to_le_bytes());
        bytes.extend([0; 12]);
        bytes
    };
    let garbage = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0; 64],
        header(99, 0, 0),
        header(FrameKind::Answer as u8, u32::MAX, 0),
        header(FrameKind::Answer as u8, 0, u32::MAX),
        header(FrameKind::Welcome as u8, 0, 0),
        header(FrameKind::Call as u8, 0, 0),
        header(FrameKind::Push as u8, 0, 0),
        bad_control(&[0xff; 40]),
    ];
    for bytes in garbage {
        let (peer, vfs) = Peer::with_client();
        peer.wire().send_raw(&bytes);
        expect_cut_and_resume(&peer, &vfs);
    }
}

#[test]
fn names_that_cannot_be_end_the_connection() {
    let (peer, vfs) = Peer::with_client();
    let pending = ask(|done| vfs.opendir(ME, 1, done));
    let asked = peer.call();
    let listing: Answer = Ok(Reply::Listing {
        entries: vec![listed("XXYXX", 11, file(7, 1, 1))],
        end: true,
        exact: true,
        change: Change(1),
    });
    let mut frame = Vec::new();
    encode_frame(&mut frame, FrameKind::Answer, asked.id, &listing, 0).unwrap();
    let at = frame.windows(5).position(|bytes| bytes == b"XXYXX").unwrap();
    frame[at + 2] = b'/';
    peer.wire().send_raw(&frame);
    let again = peer.expect(&asked.request);
    again.reply(Reply::Listing { entries: vec![], end: true, exact: true, change: Change(1) });
    pending.get().unwrap();
    await_hellos(&peer, 2);
}

#[test]
fn replies_of_the_wrong_kind_are_errors_of_the_operation() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 1 << 20, 1));
    let lock = Lock { start: 0, end: 9, kind: LockKind::Read, style: LockStyle::Posix, owner: 3, pid: 4 };
    let wrong = |asked: Asked| match asked.request {
        Request::StatFs { .. } => asked.reply(Reply::Offset(7)),
        _ => asked.reply_with(Reply::StatFs(StatFs::default()), &content(0, 4096)),
    };
    let set = SetAttr { mode: Some(0), ..SetAttr::default() };
    let pending = [
        ask(|done| vfs.getattr(ME, 1, None, |result| done(result.map(drop)))),
        ask(|done| vfs.setattr(ME, 7, None, set, |result| done(result.map(drop)))),
        ask(|done| vfs.statfs(ME, 1, |result| done(result.map(drop)))),
        ask(|done| vfs.lookup(ME, 1, b"x", |result| done(result.map(drop)))),
        ask(|done| vfs.mkdir(ME, 1, b"x", 0o755, 0, |result| done(result.map(drop)))),
        ask(|done| vfs.create(ME, 1, b"x", 0o644, 0, 0, |result| done(result.map(drop)))),
        ask(|done| vfs.opendir(ME, 1, |result| done(result.map(drop)))),
        ask(|done| vfs.open(ME, 7, 0, |result| done(result.map(drop)))),
        ask(|done| vfs.read(ME, 7, fh, 5000, 4096, |result| done(result.map(drop)))),
        ask(|done| vfs.write(ME, 7, fh, 0, b"x", false, |result| done(result.map(drop)))),
        ask(|done| vfs.fallocate(ME, 7, fh, 0, 1, 0, done)),
        ask(|done| vfs.copy_file_range(ME, 7, fh, 0, 7, fh, 9, 1, |result| done(result.map(drop)))),
        ask(|done| vfs.lseek(ME, 7, fh, 0, libc::SEEK_DATA, |result| done(result.map(drop)))),
        ask(|done| vfs.getlk(ME, 7, fh, lock, |result| done(result.map(drop)))),
    ];
    for pending in pending {
        wrong(peer.call());
        assert_eq!(pending.get(), Err(Errno::EIO));
    }
    peer.expect_nothing(&vfs);
    assert_eq!(peer.hellos().len(), 1, "only the operations suffer");
}

#[test]
fn more_bytes_than_were_asked_for_are_not_passed_on() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 64 << 20, 1));
    for offset in [40_000_000, 5_000_000] {
        let pending = read(&vfs, fh, offset, 4096);
        let asked = peer.call();
        let Request::Read { size, .. } = asked.request else { panic!("{asked:?}") };
        asked.reply_with(Reply::Read { change: Change(1) }, &content(0, size as usize + 1));
        assert_eq!(pending.get(), Err(Errno::EIO));
    }
    // A whole block, too.
    let pending = read(&vfs, fh, 0, 4096);
    peer.call().reply_with(Reply::Read { change: Change(1) }, &content(0, 1 << 20));
    assert_eq!(pending.get(), Err(Errno::EIO));
}

#[test]
fn a_write_of_more_than_was_sent_is_no_success() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    for (size, offset) in [(4, 0), (u64::MAX, 0), (3, u64::MAX), (3, i64::MAX as u64)] {
        let pending = write(&vfs, fh, 0, b"abc");
        let written = Written { size, offset, before: Change(1), attr: file(7, 10, 2) };
        peer.call().reply(Reply::Written(written));
        assert!(matches!(pending.get(), Err(Errno::EIO) | Ok(3)), "{size} at {offset}");
    }
    let pending = ask(|done| vfs.copy_file_range(ME, 7, fh, 0, 7, fh, 100, 5, done));
    let written = Written { size: 6, offset: 100, before: Change(2), attr: file(7, 10, 3) };
    peer.call().reply(Reply::Written(written));
    assert_eq!(pending.get(), Err(Errno::EIO));
}

#[test]
fn cookies_that_no_kernel_can_express_are_refused() {
    for cookie in [0, i64::MAX as u64 + 1, u64::MAX] {
        let (peer, vfs) = Peer::with_client();
        let pending = ask(|done| vfs.opendir(ME, 1, done));
        let entries = vec![listed("a", cookie, file(7, 1, 1))];
        peer.call().reply(Reply::Listing { entries, end: true, exact: true, change: Change(1) });
        assert_eq!(pending.get().map(drop), Err(Errno::EIO), "cookie {cookie}");
    }
}

/// A reader who wants to see the end of it never does, but the client's memory does not grow with it.
#[test]
fn an_endless_listing_takes_no_memory_that_stays() {
    let (peer, vfs) = Peer::with_client();
    let pending = ask(|done| vfs.opendir(ME, 1, done));
    let page = |from: u64| {
        let entries = (from..from + 500).map(|id| listed(&format!("n{id}"), id, file(id, 1, 1))).collect();
        Reply::Listing { entries, end: false, exact: false, change: Change(1) }
    };
    peer.call().reply(page(1000));
    let fh = pending.get().unwrap().fh;
    let answer = |asked: &Asked| match asked.request {
        Request::ReadDir { cookie, .. } => asked.reply(page(cookie + 1)),
        _ => asked.reply(Reply::Done),
    };
    let mut offset = 0;
    for _ in 0..200 {
        let mut pending = list(&vfs, fh, offset, usize::MAX);
        peer.answer_until_ended(&mut pending, answer);
        let items = pending.get().unwrap();
        // As a kernel would that has no room for so many.
        let dots = 2 * usize::from(offset == 0);
        items[dots..].iter().for_each(|(_, after)| vfs.forget(after - 2, 1));
        offset = items.last().unwrap().1;
        assert!(vfs.status().nodes < 2000, "{} nodes are kept", vfs.status().nodes);
    }
    assert!(vfs.status().cache_bytes <= 64 << 20);
}

#[test]
fn attributes_without_sense_are_passed_on_without_harm() {
    let (peer, vfs) = Peer::with_client();
    let time = Time { secs: i64::MIN, nanos: u32::MAX };
    let odd = Attr {
        mode: u32::MAX,
        size: u64::MAX,
        blocks: u64::MAX,
        atime: time,
        mtime: Time { secs: i64::MAX, nanos: u32::MAX },
        ..file(7, 0, 1)
    };
    look_up(&peer, &vfs, "odd", odd);
    let fh = crate::values::open(&peer, &vfs, odd, libc::O_RDWR, 500);
    for offset in [0, u64::MAX, i64::MAX as u64] {
        let mut pending = read(&vfs, fh, offset, 4096);
        peer.answer_until_ended(&mut pending, |asked| {
            asked.reply_with(Reply::Read { change: Change(1) }, b"");
        });
        assert_eq!(pending.get(), Ok(vec![]));
    }
}

#[test]
fn a_node_that_is_the_root_or_nothing_confuses_nobody() {
    let (peer, vfs) = Peer::with_client();
    for (text, id) in [("root", 100), ("nothing", 0), ("one", 1), ("last", u64::MAX)] {
        let node = Node { id: NodeId(id), ..file(1, 0, 1).node };
        let attr = Attr { node, kind: FileKind::File, ..file(1, 0, 1) };
        let ino = look_up(&peer, &vfs, text, attr);
        vfs.forget(ino, 1);
    }
    let pending = ask(|done| vfs.opendir(ME, 1, done));
    loop {
        let asked = peer.call();
        match asked.request {
            Request::Forget { .. } => asked.reply(Reply::Done),
            _ => {
                asked.reply(Reply::Listing { entries: vec![], end: true, exact: true, change: Change(1) });
                break;
            }
        }
    }
    pending.get().unwrap();
}

#[test]
fn a_link_that_no_kernel_would_take_is_an_error() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "link", Attr { kind: FileKind::Symlink, ..file(8, 4, 1) });
    for target in [&b"a\0b"[..], &[b'x'; 4096], &[b'x'; 100_000], b""] {
        let pending = ask(|done| vfs.readlink(ME, 8, done));
        peer.call().reply_with(Reply::Done, target);
        assert_eq!(pending.get(), Err(Errno::EIO), "{} bytes", target.len());
    }
}

#[test]
fn values_of_extended_attributes_are_no_longer_than_linux_allows() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 4, 1));
    let pending = ask(|done| vfs.getxattr(ME, 7, b"user.x", done));
    peer.call().reply_with(Reply::Done, &[0; 64 * 1024 + 1]);
    assert_eq!(pending.get(), Err(Errno::EIO));
    let pending = ask(|done| vfs.listxattr(ME, 7, done));
    peer.call().reply_with(Reply::Done, &[0; 64 * 1024 + 1]);
    assert_eq!(pending.get(), Err(Errno::EIO));
}

#[test]
fn content_that_comes_with_an_open_unasked_is_not_taken_for_the_file() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 1 << 20, 1));
    let pending = ask(|done| vfs.open(ME, 7, libc::O_RDONLY, done));
    let reply = Reply::Opened { fh: Fh(500), attr: file(7, 1 << 20, 1), created: false, whole: true };
    peer.call().reply_with(reply, b"short");
    let fh = pending.get().unwrap().fh;
    let pending = read(&vfs, fh, 70_000, 4096);
    let asked = peer.call();
    let Request::Read { offset, size, .. } = asked.request else { panic!("{asked:?}") };
    asked.reply_with(Reply::Read { change: Change(1) }, &content(offset, size as usize));
    assert_eq!(pending.get().unwrap(), content(70_000, 4096));
}

/// Pongs and acks wait for a server that does not read. Their queue must not grow without a bound.
#[test]
fn a_flood_that_is_not_read_back_ends_the_connection() {
    let (listener, source) = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = nearfs_transport::address::Address::Tcp { host: "127.0.0.1".into(), port };
        (listener, nearfs_transport::address::Source { address, export: Vec::new(), path: Vec::new() })
    };
    let flooding = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let link = nearfs_transport::link::Link::from_socket(stream.into());
        let mut writer = nearfs_transport::frame::FrameWriter::new(link.writer());
        writer.send(FrameKind::Welcome, RequestId(0), &crate::values::welcome(), &[]).unwrap();
        let mut frame = Vec::new();
        encode_frame(&mut frame, FrameKind::Ping, RequestId(1), &(), 0).unwrap();
        let pings = frame.repeat(10_000);
        let bytes_max = 512 << 20;
        let mut sent_bytes = 0;
        while sent_bytes < bytes_max && std::io::Write::write_all(&mut link.writer(), &pings).is_ok() {
            sent_bytes += pings.len();
        }
        sent_bytes < bytes_max
    });
    let vfs = Vfs::connect(&source, nearfs_client::config::VfsConfig::default()).unwrap();
    assert!(flooding.join().unwrap(), "the client took half a gigabyte of pings");
    drop(vfs);
}

#[test]
fn directories_that_are_files_are_passed_on_as_they_are() {
    let (peer, vfs) = Peer::with_client();
    let pending = ask(|done| vfs.mkdir(ME, 1, b"d", 0o755, 0, done));
    peer.call().reply(made(file(8, 0, 1)));
    assert_eq!(pending.get().unwrap().attr.kind, FileKind::File);
    look_up(&peer, &vfs, "e", directory(9, 1));
}
