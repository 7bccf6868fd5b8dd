//! What the proxy itself lets through: a stream and a ping over loopback.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{Command, FaultProxy};

/// Bytes per write of the stream.
const WRITE_BYTES: usize = 256 << 10;
/// Round trips the median is taken of.
const PINGS: usize = 101;
/// Sent to choose what the far end does.
const SINK: u8 = b's';
const ECHO: u8 = b'e';

/// What a proxy reached.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Bytes per second of one stream.
    pub bytes_per_second: f64,
    /// Median time of one byte to the server and back.
    pub round_trip: Duration,
}

/// Streams for `duration` through a proxy that has run `commands`, and pings through it.
pub fn measure(commands: &[Command], duration: Duration) -> io::Result<Measured> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let proxy = FaultProxy::start(listener.local_addr()?)?;
    commands.iter().for_each(|command| command.run(&proxy));
    let server = thread::spawn(move || serve_two(&listener));
    let measured = measure_both(&proxy.endpoint().to_string(), duration);
    drop(proxy);
    if measured.is_ok() {
        server.join().map_err(|_| io::Error::other("the measuring server has panicked"))??;
    }
    measured
}

fn measure_both(address: &str, duration: Duration) -> io::Result<Measured> {
    Ok(Measured { round_trip: ping(address)?, bytes_per_second: stream(address, duration)? })
}

fn ping(address: &str) -> io::Result<Duration> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.write_all(&[ECHO])?;
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let start = Instant::now();
        socket.write_all(&[1])?;
        socket.read_exact(&mut [0])?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[PINGS / 2])
}

/// The rate at which bytes arrive, from the first to the last, so that a delay is not counted.
fn stream(address: &str, duration: Duration) -> io::Result<f64> {
    let mut socket = TcpStream::connect(address)?;
    socket.write_all(&[SINK])?;
    let chunk = vec![1; WRITE_BYTES];
    let start = Instant::now();
    while start.elapsed() < duration {
        socket.write_all(&chunk)?;
    }
    socket.shutdown(std::net::Shutdown::Write)?;
    let mut rate = [0; 8];
    socket.read_exact(&mut rate)?;
    Ok(f64::from_be_bytes(rate))
}

fn serve_two(listener: &TcpListener) -> io::Result<()> {
    for _ in 0..2 {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut role = [0];
        socket.read_exact(&mut role)?;
        if role == [ECHO] { echo(&mut socket)? } else { sink(&mut socket)? }
    }
    Ok(())
}

fn echo(socket: &mut TcpStream) -> io::Result<()> {
    let mut byte = [0];
    while socket.read(&mut byte)? > 0 {
        socket.write_all(&byte)?;
    }
    Ok(())
}

fn sink(socket: &mut TcpStream) -> io::Result<()> {
    let mut chunk = vec![0; WRITE_BYTES];
    let mut first = None;
    let mut received = 0;
    loop {
        let count = socket.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        first.get_or_insert_with(Instant::now);
        received += count;
    }
    let seconds = first.map_or(f64::INFINITY, |first| first.elapsed().as_secs_f64());
    socket.write_all(&(received as f64 / seconds).to_be_bytes())
}
