//! The fault proxy does what it is told, measured from both of its ends.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use nearfs_tests::proxy::{Endpoint, FaultProxy, Side, Way};

/// No read of a test waits longer, so that no test hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to say that nothing came.
const SILENCE: Duration = Duration::from_millis(200);

/// A proxy with one connection through it.
struct Rig {
    proxy: FaultProxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

impl Rig {
    fn new() -> Rig {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = FaultProxy::start(listener.local_addr().unwrap()).unwrap();
        let (client, server) = connect(&proxy, &listener);
        Rig { proxy, listener, client, server }
    }

    fn reconnect(&mut self) {
        (self.client, self.server) = connect(&self.proxy, &self.listener);
    }
}

fn connect(proxy: &FaultProxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy.endpoint().to_string()).unwrap();
    let (server, _) = listener.accept().unwrap();
    for socket in [&client, &server] {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (client, server)
}

fn receive(socket: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    socket.read_exact(&mut bytes).unwrap();
    bytes
}

#[track_caller]
fn assert_silent(socket: &TcpStream) {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let error = (&mut &*socket).read(&mut [0]).expect_err("something came");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[track_caller]
fn assert_reset(socket: &mut TcpStream) {
    assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn bytes_and_the_end_of_a_stream_pass_both_ways() {
    let Rig { proxy, mut client, mut server, .. } = Rig::new();
    let sent: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let writer = thread::spawn({
        let (mut client, sent) = (client.try_clone().unwrap(), sent.clone());
        move || {
            client.write_all(&sent).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
        }
    });
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    assert!(received == sent, "the bytes differ");
    server.write_all(b"reply").unwrap();
    drop(server);
    received.clear();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"reply");
    writer.join().unwrap();
    assert_eq!((proxy.passed_bytes(Way::Up), proxy.passed_bytes(Way::Down)), (3_000_000, 5));
}

#[test]
fn delay_holds_each_byte_but_not_the_stream() {
    let Rig { proxy, mut client, mut server, .. } = Rig::new();
    let delay = Duration::from_millis(40);
    proxy.set_delay(&[Way::Up], delay);

    let start = Instant::now();
    client.write_all(b"x").unwrap();
    receive(&mut server, 1);
    assert!(start.elapsed() >= delay, "{:?} is too early", start.elapsed());

    let start = Instant::now();
    server.write_all(b"x").unwrap();
    receive(&mut client, 1);
    assert!(start.elapsed() < delay, "the way down has a delay of its own");

    // A proxy that waited for each piece would need 256 delays, over ten seconds.
    let start = Instant::now();
    let writer = thread::spawn(move || {
        for _ in 0..256 {
            client.write_all(&[7; 64 << 10]).unwrap();
        }
    });
    receive(&mut server, 256 * (64 << 10));
    writer.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "16 MiB took {:?}", start.elapsed());
}

#[test]
fn a_rate_is_kept_and_pushes_back() {
    let Rig { proxy, mut client, mut server, .. } = Rig::new();
    proxy.set_rate(&[Way::Up], Some(1_000_000));
    let start = Instant::now();
    let writer = thread::spawn(move || client.write_all(&[7; 500_000]).unwrap());
    receive(&mut server, 500_000);
    writer.join().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert!((0.45..2.0).contains(&seconds), "half a second's worth took {seconds} s");
}

#[test]
fn a_trickle_passes_byte_by_byte() {
    let Rig { proxy, mut client, mut server, .. } = Rig::new();
    proxy.set_rate(&[Way::Up], Some(20));
    let start = Instant::now();
    client.write_all(&[7; 10]).unwrap();
    let mut reads = 0;
    let mut received = 0;
    while received < 10 {
        received += server.read(&mut [0; 10]).unwrap();
        reads += 1;
    }
    assert!(reads >= 8, "10 bytes came in {reads} pieces");
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?} is too early", start.elapsed());
}

#[test]
fn a_cut_resets_both_sides_and_lets_new_connections_in() {
    let mut rig = Rig::new();
    rig.proxy.cut();
    assert_reset(&mut rig.client);
    assert_reset(&mut rig.server);
    rig.reconnect();
    rig.client.write_all(b"again").unwrap();
    assert_eq!(receive(&mut rig.server, 5), b"again");
}

#[test]
fn a_close_ends_both_streams_in_good_order() {
    let Rig { proxy, mut client, mut server, .. } = Rig::new();
    proxy.close();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_reset_by_one_program_reaches_the_other() {
    let Rig { proxy: _proxy, client, mut server, .. } = Rig::new();
    // Closing with unread bytes makes the kernel send a reset.
    server.write_all(b"unread").unwrap();
    client.peek(&mut [0]).unwrap();
    drop(client);
    assert_reset(&mut server);
}

#[test]
fn exactly_the_allowed_bytes_pass_before_a_cut() {
    let mut rig = Rig::new();
    for bytes in [1, 17, 4096, 70_000] {
        rig.proxy.cut_after(Way::Up, bytes);
        let mut client = rig.client.try_clone().unwrap();
        // The write fails when the cut comes before all of it has been taken.
        let writer = thread::spawn(move || client.write_all(&[7; 100_000]).ok());
        let mut received = Vec::new();
        let error = rig.server.read_to_end(&mut received).unwrap_err();
        assert_eq!((error.kind(), received.len() as u64), (ErrorKind::ConnectionReset, bytes));
        writer.join().unwrap();
        rig.reconnect();
    }
}

#[test]
fn a_request_arrives_and_its_reply_does_not() {
    let mut rig = Rig::new();
    rig.proxy.cut_after(Way::Down, 0);
    rig.client.write_all(b"request").unwrap();
    assert_eq!(receive(&mut rig.server, 7), b"request");
    rig.server.write_all(b"reply").unwrap();
    assert_reset(&mut rig.client);
    rig.reconnect();
    rig.server.write_all(b"reply").unwrap();
    assert_eq!(receive(&mut rig.client, 5), b"reply", "the cut is over once it has happened");
}

#[test]
fn a_stall_loses_nothing() {
    let Rig { proxy, mut client, mut server, .. } = Rig::new();
    proxy.stall(&Way::BOTH);
    client.write_all(b"patience").unwrap();
    drop(client);
    assert_silent(&server);
    proxy.clear();
    assert_eq!(receive(&mut server, 8), b"patience");
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_black_hole_swallows_one_way_and_is_not_healed() {
    let Rig { proxy, mut client, mut server, .. } = Rig::new();
    proxy.black_hole(&[Way::Up]);
    client.write_all(b"lost").unwrap();
    server.write_all(b"heard").unwrap();
    assert_eq!(receive(&mut client, 5), b"heard");
    assert_silent(&server);
    proxy.clear();
    assert_reset(&mut client);
    assert_reset(&mut server);
}

#[test]
fn half_open_tells_one_side_only() {
    for kept in [Side::Client, Side::Server] {
        let Rig { proxy, client, server, .. } = Rig::new();
        proxy.half_open(kept);
        let (mut told, mut untold) = match kept {
            Side::Client => (server, client),
            Side::Server => (client, server),
        };
        assert_reset(&mut told);
        untold.write_all(b"is anybody there?").unwrap();
        assert_silent(&untold);
    }
}

#[test]
fn flips_damage_bytes_and_keep_their_number() {
    let Rig { proxy, mut client, mut server, .. } = Rig::new();
    proxy.flip(&[Way::Up], 0.01);
    client.write_all(&[0; 100_000]).unwrap();
    let damaged = receive(&mut server, 100_000).into_iter().filter(|byte| *byte != 0).count();
    assert!((700..1300).contains(&damaged), "{damaged} of 100,000 bytes at 0.01");
    server.write_all(&[0; 100_000]).unwrap();
    assert!(receive(&mut client, 100_000).iter().all(|byte| *byte == 0), "the way down is not damaged");
}

#[test]
fn dropping_the_proxy_ends_everything() {
    let Rig { proxy, mut client, mut server, .. } = Rig::new();
    let address = proxy.endpoint().to_string();
    drop(proxy);
    assert_reset(&mut client);
    assert_reset(&mut server);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_missing_server_resets_the_client() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = FaultProxy::start(target).unwrap();
    let mut client = TcpStream::connect(proxy.endpoint().to_string()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_reset(&mut client);
}

#[test]
fn unix_sockets_are_served_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let (front, back) = (directory.path().join("front"), directory.path().join("back"));
    let listener = UnixListener::bind(&back).unwrap();
    let proxy = FaultProxy::start_on(&Endpoint::Unix(front.clone()), Endpoint::Unix(back), 0).unwrap();
    let mut client = UnixStream::connect(&front).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"hello").unwrap();
    assert_eq!(receive(&mut server, 5), b"hello");
    proxy.cut();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    drop(proxy);
    assert!(!front.exists());
}

#[test]
fn many_connections_pass_at_once() {
    let Rig { proxy, listener, .. } = Rig::new();
    let mut pairs: Vec<_> = (0..64).map(|_| connect(&proxy, &listener)).collect();
    for (number, (client, _)) in pairs.iter_mut().enumerate() {
        client.write_all(&[number as u8]).unwrap();
    }
    for (number, (_, server)) in pairs.iter_mut().enumerate() {
        assert_eq!(receive(server, 1), [number as u8]);
    }
    assert!(proxy.connections() >= 64);
}
