//! Addresses a proxy listens on and connects to: TCP, or a Unix socket's path.

use std::fmt;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rustix::net::sockopt;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a socket listens: `host:port`, or a path, which has a slash in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `host:port`.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Endpoint {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Endpoint, Self::Err> {
        Ok(if text.contains('/') { Endpoint::Unix(text.into()) } else { Endpoint::Tcp(text.to_owned()) })
    }
}

impl From<std::net::SocketAddr> for Endpoint {
    fn from(address: std::net::SocketAddr) -> Endpoint {
        Endpoint::Tcp(address.to_string())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => formatter.write_str(address),
            Endpoint::Unix(path) => path.display().fmt(formatter),
        }
    }
}

impl Endpoint {
    /// A free port of the loopback address.
    pub fn loopback() -> Endpoint {
        Endpoint::Tcp("127.0.0.1:0".to_owned())
    }

    pub(super) fn listen(&self) -> io::Result<Listener> {
        let listener = match self {
            Endpoint::Tcp(address) => Listener::Tcp(TcpListener::bind(address)?),
            Endpoint::Unix(path) => Listener::Unix(UnixListener::bind(path)?, path.clone()),
        };
        rustix::io::ioctl_fionbio(listener.as_fd(), true)?;
        Ok(listener)
    }

    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        let socket = match self {
            Endpoint::Tcp(address) => {
                let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
                TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?.into()
            }
            Endpoint::Unix(path) => UnixStream::connect(path)?.into(),
        };
        prepare(&socket)?;
        Ok(socket)
    }
}

/// A listening socket that does not block. The path of a Unix socket goes with it.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    pub(super) fn endpoint(&self) -> io::Result<Endpoint> {
        match self {
            Listener::Tcp(listener) => Ok(listener.local_addr()?.into()),
            Listener::Unix(_, path) => Ok(Endpoint::Unix(path.clone())),
        }
    }

    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        let socket = match self {
            Listener::Tcp(listener) => listener.accept()?.0.into(),
            Listener::Unix(listener, _) => listener.accept()?.0.into(),
        };
        prepare(&socket)?;
        Ok(socket)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // It may have been removed already.
            std::fs::remove_file(path).ok();
        }
    }
}

/// Makes a socket ready for a link: it does not block, and delays nothing on its own account. The kernel's
/// congestion control may pace even loopback (bbr does); a Unix socket knows none of these options.
fn prepare(socket: &OwnedFd) -> io::Result<()> {
    rustix::io::ioctl_fionbio(socket, true)?;
    sockopt::set_tcp_nodelay(socket, true).ok();
    sockopt::set_tcp_congestion(socket, "cubic").ok();
    Ok(())
}

/// Makes the coming close of a TCP socket a reset, as if the machine behind it had lost the connection.
pub(super) fn reset_on_close(socket: &OwnedFd) {
    // A Unix socket has no reset; closing it is all there is.
    sockopt::set_socket_linger(socket, Some(Duration::ZERO)).ok();
}
