//! Where a server waits for clients.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::address::DEFAULT_PORT;
use crate::dial::tune;
use crate::stream::Stream;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// What a server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `ADDRESS[:PORT]`; port 0 lets the kernel pick one.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// Why a server cannot listen. One line, for people.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there already.
    #[error("{0} is in use by another server")]
    InUse(ListenAddress),
    /// The machine has no such address.
    #[error("{0} is no address of this machine")]
    NotOurs(ListenAddress),
    /// Ports below 1,024, or the socket's directory.
    #[error("no permission to listen on {0}")]
    Denied(ListenAddress),
    /// Something that is no socket has the socket's name.
    #[error("{} exists and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Io(ListenAddress, io::Error),
}

impl ListenAddress {
    /// Whether only this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            ListenAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            ListenAddress::Unix(_) => true,
        }
    }
}

/// Accepts connections until it is dropped; a Unix socket's name goes with it.
pub struct Listener {
    acceptor: Acceptor,
    local: ListenAddress,
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Begins to listen. Belongs to the tokio runtime that it is called in.
    pub fn bind(address: &ListenAddress) -> Result<Listener, ListenError> {
        match address {
            ListenAddress::Tcp(wanted) => {
                Listener::bind_tcp(*wanted).map_err(|error| explain(address, error))
            }
            ListenAddress::Unix(path) => {
                clear_away(path)?;
                Listener::bind_unix(path).map_err(|error| explain(address, error))
            }
        }
    }

    /// Where it listens, with the port that the kernel picked.
    pub fn local(&self) -> &ListenAddress {
        &self.local
    }

    /// The next connection. An error concerns that connection or the moment, not the listener.
    pub async fn accept(&self) -> io::Result<Stream> {
        match &self.acceptor {
            Acceptor::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // It fails only when the peer has gone, which the first read tells.
                let _ = tune(&SockRef::from(&stream), peer);
                Stream::from_tcp(stream, peer)
            }
            Acceptor::Unix(listener) => Stream::from_unix(listener.accept().await?.0),
        }
    }

    fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // A server that starts again must not wait for its predecessor's last connections to fade.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let acceptor = TcpListener::from_std(socket.into())?;
        let local = ListenAddress::Tcp(acceptor.local_addr()?);
        Ok(Listener { acceptor: Acceptor::Tcp(acceptor), local })
    }

    fn bind_unix(path: &Path) -> io::Result<Listener> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let acceptor = UnixListener::from_std(socket.into())?;
        Ok(Listener { acceptor: Acceptor::Unix(acceptor), local: ListenAddress::Unix(path.into()) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenAddress::Unix(path) = &self.local {
            // Somebody may have removed it before.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes the socket of a server that was killed. One that answers is left alone.
fn clear_away(path: &Path) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(ListenError::NoSocket(path.into()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        // What cannot be removed is reported by the bind that follows.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let _ = std::fs::remove_file(path);
            Ok(())
        }
        Ok(_) | Err(_) => Err(ListenError::InUse(ListenAddress::Unix(path.into()))),
    }
}

fn explain(address: &ListenAddress, error: io::Error) -> ListenError {
    let address = address.clone();
    match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(address),
        io::ErrorKind::AddrNotAvailable => ListenError::NotOurs(address),
        io::ErrorKind::PermissionDenied => ListenError::Denied(address),
        _ => ListenError::Io(address, error),
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a text is nothing to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing to listen on: write ADDRESS, ADDRESS:PORT or unix:PATH")]
pub struct ListenAddressError(String);

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<ListenAddress, ListenAddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let named = !path.is_empty() && !path.contains('\0');
            return named.then(|| ListenAddress::Unix(path.into())).ok_or(ListenAddressError(text.into()));
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(ListenAddress::Tcp(SocketAddr::new(ip, DEFAULT_PORT)));
        }
        let named = if text.contains(':') { text.into() } else { format!("{text}:{DEFAULT_PORT}") };
        let found = named.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        found.map(ListenAddress::Tcp).ok_or(ListenAddressError(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        let shown = |text: &str| text.parse::<ListenAddress>().unwrap().to_string();
        assert_eq!(shown("127.0.0.1"), "127.0.0.1:6327");
        assert_eq!(shown("0.0.0.0:0"), "0.0.0.0:0");
        assert_eq!(shown("::1"), "[::1]:6327");
        assert_eq!(shown("[::]:80"), "[::]:80");
        assert_eq!(shown("unix:/run/x"), "unix:/run/x");
        for bad in ["", "unix:", "127.0.0.1:", "127.0.0.1:99999", "no.such.host.invalid", "a b:1"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
        for (text, local) in
            [("127.8.0.1", true), ("[::1]:0", true), ("unix:/a", true), ("0.0.0.0", false), ("[::]", false)]
        {
            assert_eq!(text.parse::<ListenAddress>().unwrap().is_local(), local, "{text}");
        }
    }

    #[tokio::test]
    async fn a_port_is_picked_and_not_shared() {
        let any: ListenAddress = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(&any).unwrap();
        assert_ne!(listener.local(), &any);
        assert!(matches!(Listener::bind(listener.local()), Err(ListenError::InUse(_))));
        let foreign: ListenAddress = "192.0.2.1:0".parse().unwrap();
        assert!(matches!(Listener::bind(&foreign), Err(ListenError::NotOurs(_))));
    }

    #[tokio::test]
    async fn a_left_behind_socket_is_replaced_but_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let address = ListenAddress::Unix(path.clone());
        let listener = Listener::bind(&address).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Listener::bind(&address), Err(ListenError::InUse(_))));
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        assert!(matches!(Listener::bind(&address), Err(ListenError::NoSocket(_))));
    }
}
