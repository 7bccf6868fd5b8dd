//! Connects a client to a server, with a bound on the time it takes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::Address;
use crate::link::Link;

/// Why there is no connection. One line, for people.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name leads to no address.
    #[error("unknown host {host}: {why}")]
    UnknownHost {
        /// As it was written.
        host: String,
        /// The resolver's words.
        why: String,
    },
    /// Nobody listens there.
    #[error("{0} refused the connection: does a server listen there?")]
    Refused(Address),
    /// No way leads there.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(Address, io::Error),
    /// No answer.
    #[error("{0} did not answer within {1:?}")]
    TimedOut(Address, Duration),
    /// There is no such socket.
    #[error("there is no socket {}", .0.display())]
    NoSocket(PathBuf),
    /// The command could not be started.
    #[error("cannot run {0}: {1}")]
    Command(String, io::Error),
    /// Anything else.
    #[error("cannot connect to {0}: {1}")]
    Io(Address, io::Error),
}

/// Connects. Looking up a name and trying all its addresses take at most `timeout` together.
pub fn dial(address: &Address, timeout: Duration) -> Result<Link, DialError> {
    match address {
        Address::Tcp { host, port } => dial_tcp(address, (host, *port), timeout),
        Address::Unix(path) => dial_unix(address, path, timeout),
        Address::Exec(words) => dial_command(address, words),
    }
}

fn dial_tcp(address: &Address, (host, port): (&str, u16), timeout: Duration) -> Result<Link, DialError> {
    let deadline = Instant::now() + timeout;
    let timed_out = || DialError::TimedOut(address.clone(), timeout);
    let candidates = resolve(host, port, timeout)
        .ok_or_else(timed_out)?
        .map_err(|error| DialError::UnknownHost { host: host.into(), why: one_line(&error) })?;
    let mut last = None;
    for (tried, candidate) in candidates.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        // Each address gets its share, so that a dead first one leaves time for the others.
        let share = left / (candidates.len() - tried) as u32;
        if share.is_zero() {
            break;
        }
        match connect_tcp(*candidate, share) {
            Ok(socket) => return Ok(Link::from_socket(socket)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(timed_out, |error| explain(address, error, timeout)))
}

/// The addresses of a host, or `None` when the resolver takes too long. It cannot be interrupted, so a
/// thread waits for it and is left behind.
fn resolve(host: &str, port: u16, timeout: Duration) -> Option<io::Result<Vec<SocketAddr>>> {
    if let Ok(literal) = host.parse::<std::net::IpAddr>() {
        return Some(Ok(vec![SocketAddr::new(literal, port)]));
    }
    let (tell, told) = mpsc::sync_channel(1);
    let wanted = (host.to_owned(), port);
    std::thread::spawn(move || {
        let found = wanted.to_socket_addrs().map(Vec::from_iter);
        // Nobody listens any more when the time was over.
        let _ = tell.send(found);
    });
    told.recv_timeout(timeout).ok()
}

fn connect_tcp(peer: SocketAddr, timeout: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, None)?;
    tune(&socket, peer)?;
    socket.connect_timeout(&peer.into(), timeout)?;
    Ok(socket)
}

/// What every TCP connection is set to, on both sides.
pub(crate) fn tune(socket: &Socket, peer: SocketAddr) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if peer.ip().to_canonical().is_loopback() {
        // BBR, a common default, paces its packets also where there is no network. A kernel without
        // cubic keeps what it has.
        let _ = socket.set_tcp_congestion(b"cubic");
    }
    Ok(())
}

fn dial_unix(address: &Address, path: &PathBuf, timeout: Duration) -> Result<Link, DialError> {
    let connect = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let peer = SockAddr::unix(path)?;
        // A Unix socket's connect waits while the server's backlog is full, as long as a write may.
        socket.set_write_timeout(Some(timeout))?;
        socket.connect(&peer)?;
        socket.set_write_timeout(None)?;
        Ok(socket)
    };
    connect().map(Link::from_socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => DialError::NoSocket(path.clone()),
        _ => explain(address, error, timeout),
    })
}

/// Starts a command with a socket as its standard input and output. What it writes to standard error is
/// passed on to ours, so that ssh can say what it wants. It does not get ours itself: a mount that goes into
/// the background must not keep a terminal or a pipe open through its command.
fn dial_command(address: &Address, words: &[String]) -> Result<Link, DialError> {
    let io_error = |error| DialError::Io(address.clone(), error);
    let Some((name, arguments)) = words.split_first() else {
        return Err(io_error(io::ErrorKind::InvalidInput.into()));
    };
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).map_err(io_error)?;
    let output = far.try_clone().map_err(io_error)?;
    let mut command = Command::new(name);
    ignore_interrupts(&mut command);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| DialError::Command(name.clone(), error))?;
    let silence = child.stderr.take().map(pass_on).transpose().map_err(io_error)?;
    Ok(Link::from_child(near, child, silence))
}

/// A terminal sends Ctrl-C to all its programs. It is meant for us: we end what we do, or ourselves, and then the
/// command's input ends. ssh leaves a signal alone that is ignored when it starts.
fn ignore_interrupts(command: &mut Command) {
    let ignore = || {
        // SAFETY: signal(2) may be called between fork and exec, and sets no function of ours.
        let before = unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
        if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes one system call and allocates nothing, as is asked for after fork(2).
    unsafe { command.pre_exec(ignore) };
}

/// Copies what a command says to standard error. What is returned disconnects when it says no more.
fn pass_on(mut words: ChildStderr) -> io::Result<mpsc::Receiver<()>> {
    let (end, silence) = mpsc::sync_channel(0);
    std::thread::Builder::new().name("stderr".into()).spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(size @ 1..) = words.read(&mut chunk) {
            // Where nobody reads it, it is lost; the command must not have to wait.
            let _ = io::stderr().write_all(&chunk[..size]);
        }
        drop(end);
    })?;
    Ok(silence)
}

fn explain(address: &Address, error: io::Error, timeout: Duration) -> DialError {
    use io::ErrorKind::*;
    let address = address.clone();
    match error.kind() {
        ConnectionRefused => DialError::Refused(address),
        TimedOut | WouldBlock => DialError::TimedOut(address, timeout),
        HostUnreachable | NetworkUnreachable | NetworkDown => DialError::Unreachable(address, error),
        _ => DialError::Io(address, error),
    }
}

/// The resolver's words without the prefix that the standard library puts before them.
fn one_line(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    const SOON: Duration = Duration::from_secs(5);

    fn fails(source: &str) -> DialError {
        let address = source.parse::<crate::address::Source>().unwrap().address;
        match dial(&address, SOON) {
            Ok(_) => panic!("{source} answered"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_server_is_reached() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp { host: "localhost".into(), port: listener.local_addr().unwrap().port() };
        let link = dial(&address, SOON).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        link.writer().write_all(b"there").unwrap();
        let mut there = [0; 5];
        peer.read_exact(&mut there).unwrap();
        peer.write_all(b"and back").unwrap();
        drop(peer);
        let mut back = String::new();
        link.reader().read_to_string(&mut back).unwrap();
        assert_eq!((&there, back.as_str()), (b"there", "and back"));
    }

    #[test]
    fn what_went_wrong_is_told_apart() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(fails(&format!("nearfs://{nobody}")), DialError::Refused(_)));
        assert!(matches!(fails("nearfs://no.such.host.invalid/"), DialError::UnknownHost { .. }));
        assert!(matches!(fails("unix:/no/such/socket"), DialError::NoSocket(_)));
        assert!(matches!(fails("exec:/no/such/command"), DialError::Command(..)));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("left-behind");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(fails(&format!("unix:{}", path.display())), DialError::Refused(_)));
    }

    #[test]
    fn a_command_is_spoken_to_and_ends_with_the_link() {
        let link = dial(&Address::Exec(vec!["cat".into()]), SOON).unwrap();
        link.writer().write_all(b"echo").unwrap();
        let mut echo = [0; 4];
        let mut reader = link.reader();
        reader.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"echo");
        link.closer().close();
        assert_eq!(reader.read(&mut echo).unwrap(), 0);
    }

    #[test]
    fn an_address_that_drops_packets_costs_no_more_than_the_timeout() {
        // A full backlog on loopback swallows further connection attempts as a black hole does.
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let port = listener.local_addr().unwrap().as_socket().unwrap().port();
        let address = Address::Tcp { host: "127.0.0.1".into(), port };
        let timeout = Duration::from_millis(200);
        let begun = Instant::now();
        let mut held = Vec::new();
        let error = loop {
            match dial(&address, timeout) {
                Ok(link) => held.push(link),
                Err(error) => break error,
            }
            assert!(held.len() < 16, "the backlog never fills");
        };
        assert!(matches!(error, DialError::TimedOut(..)), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}
