//! Who could read along on the way to a server.

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use nearfs_transport::address::Address;

use crate::bounded::within;

/// Longest wait for the resolver.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(10);

/// Why a server is not connected to.
#[derive(Debug, thiserror::Error)]
pub enum SecrecyError {
    /// The name leads nowhere.
    #[error("unknown host {0}")]
    UnknownHost(String),
    /// Another machine, and no way yet to keep the conversation secret.
    #[error(
        "{0} is another machine and the connection is not encrypted: use an ssh tunnel, or allow it with `-o insecure` \
         (a mount) or `--insecure` if everybody on the way may read along"
    )]
    Insecure(String),
}

/// What is sent to another machine can be read on the way, so that somebody has to allow it. A name that leads nowhere is
/// told first.
pub fn check(address: &Address, insecure: bool) -> Result<(), SecrecyError> {
    let Address::Tcp { host, port } = address else { return Ok(()) };
    let literal = host.parse::<IpAddr>().ok();
    if insecure || host == "localhost" || literal.is_some_and(|ip| ip.is_loopback()) {
        return Ok(());
    }
    let (name, port) = (host.clone(), *port);
    match within(RESOLVE_TIME_MAX, move || (name.as_str(), port).to_socket_addrs().map(drop)) {
        Some(Ok(())) => Err(SecrecyError::Insecure(host.clone())),
        Some(Err(_)) | None => Err(SecrecyError::UnknownHost(host.clone())),
    }
}
