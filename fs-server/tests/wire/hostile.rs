//! What a broken or hostile peer can do: end its own connection.

use std::time::{Duration, Instant};

use nearfs_fs_server::config::Timings;
use nearfs_protocol::codec::{FrameKind, Header};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::limits::{CONTROL_BYTES_MAX, GREETING_BYTES_MAX, PAYLOAD_BYTES_MAX};
use nearfs_protocol::message::{Request, WriteAt, WriteSync};

use crate::harness::*;

fn header(kind: FrameKind, control_bytes: usize, payload_bytes: usize) -> Vec<u8> {
    let (control_bytes, payload_bytes) = (control_bytes as u32, payload_bytes as u32);
    Header { kind, control_bytes, payload_bytes, id: RequestId::new(0, 1) }.to_bytes().into()
}

#[test]
fn what_breaks_the_protocol_ends_that_connection_only() {
    let served = Served::start();
    let mut witness = served.client();
    let ping = frame(FrameKind::Ping, RequestId(1), &(), b"");
    let mut unknown_kind = ping.clone();
    unknown_kind[2] = 99;
    let mut reserved = ping.clone();
    reserved[3] = 1;
    let mut trailing = call_frame(RequestId::new(0, 1), &make_dir(witness.root(), "x"), b"");
    trailing[4] += 1;
    trailing.push(0);
    let bad_slot = call_frame(RequestId::new(600, 1), &make_dir(witness.root(), "x"), b"");
    for (what, bytes) in [
        ("garbage", vec![0xa5; 4096]),
        ("zeros", vec![0; 4096]),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n\r\n".to_vec()),
        ("a frame of unknown kind", unknown_kind),
        ("reserved bits", reserved),
        ("a control part above the limit", header(FrameKind::Call, CONTROL_BYTES_MAX + 1, 0)),
        ("a payload above the limit", header(FrameKind::Call, 0, PAYLOAD_BYTES_MAX + 1)),
        ("lengths of 4 GiB", header(FrameKind::Call, u32::MAX as usize, u32::MAX as usize)),
        ("an empty call", header(FrameKind::Call, 0, 0)),
        ("bytes behind a call", trailing),
        ("a slot that was not granted", bad_slot),
        ("a second greeting", frame(FrameKind::Hello, RequestId(0), &hello(new_session()), b"")),
        ("an answer", frame(FrameKind::Answer, RequestId(1), &(), b"")),
        ("an ack of nothing", frame(FrameKind::Ack, RequestId(9), &(), b"")),
    ] {
        let mut client = served.client();
        client.offer_raw(&bytes);
        assert!(client.is_closed(), "{what}");
        assert!(witness.make_dir(&what.replace('/', " ")).is_ok(), "{what}");
    }
    assert!(!served.directory.path().join("x").exists());
}

#[test]
fn a_frame_cut_at_any_byte_does_nothing() {
    let served = Served::start();
    let root = served.client().root();
    let whole = call_frame(RequestId::new(0, 1), &make_dir(root, "never"), b"payload");
    for cut in 0..whole.len() {
        let mut client = served.client();
        client.send_raw(&whole[..cut]);
        client.link.writer().finish().unwrap();
        assert!(client.is_closed(), "{cut}");
    }
    assert!(!served.directory.path().join("never").exists());
}

#[test]
fn a_greeting_cut_at_any_byte_makes_no_session() {
    let served = Served::start();
    let whole = frame(FrameKind::Hello, RequestId(0), &hello(new_session()), b"");
    for cut in 0..whole.len() {
        let mut client = served.dial();
        client.send_raw(&whole[..cut]);
        client.link.writer().finish().unwrap();
        assert!(client.is_closed(), "{cut}");
    }
    assert_eq!(served.server.active_sessions(), 0);
}

#[test]
fn strangers_may_not_announce_much() {
    let served = Served::start();
    let mut client = served.dial();
    client.send_raw(&header(FrameKind::Hello, 0, GREETING_BYTES_MAX + 1));
    assert_eq!(client.receive().unwrap().kind, FrameKind::Refused);
    assert!(client.is_closed());
}

#[test]
fn whoever_hesitates_has_to_leave() {
    let timings = Timings { greeting_max: Duration::from_millis(100), ..Timings::default() };
    let served = Served::start_with(timings, 64);
    let mut silent = served.dial();
    let mut trickling = served.dial();
    let begun = Instant::now();
    for byte in frame(FrameKind::Hello, RequestId(0), &hello(new_session()), b"") {
        trickling.offer_raw(&[byte]);
        std::thread::sleep(Duration::from_millis(4));
    }
    assert!(silent.is_closed() && trickling.is_closed());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_crowd_of_silent_connections_keeps_nobody_out() {
    let served = Served::start();
    let crowd: Vec<_> = (0..600).map(|_| std::net::TcpStream::connect(served.address).unwrap()).collect();
    let begun = Instant::now();
    let mut client = served.client();
    assert!(client.make_dir("through").is_ok());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(crowd);
}

#[test]
fn a_frame_that_never_ends_ends_the_connection() {
    let timings = Timings { frame_max: Duration::from_millis(100), ..Timings::default() };
    let served = Served::start_with(timings, 64);
    let mut client = served.client();
    client.send_raw(&header(FrameKind::Call, 100, 1000));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        client.offer_raw(&[0]);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(client.is_closed());
}

#[test]
fn whoever_does_not_take_answers_is_cut_off() {
    let timings = Timings { stall_max: Duration::from_millis(200), ..Timings::default() };
    let served = Served::start_with(timings, 64);
    let mut client = served.client();
    let fh = client.create("large");
    let write = Request::Write { fh, at: WriteAt::Offset(0), sync: WriteSync::None };
    client.ask(&write, &vec![7; PAYLOAD_BYTES_MAX]).0.unwrap();
    client.link.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let size = PAYLOAD_BYTES_MAX as u32;
    for slot in 1..30 {
        client.offer_raw(&call_frame(RequestId::new(slot, 1), &Request::Read { fh, offset: 0, size }, b""));
    }
    served.await_active(0);
    assert!(served.client().make_dir("others-are-served").is_ok());
}
