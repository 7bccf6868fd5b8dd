//! Asks the kernel about one TCP connection of this machine (sock_diag(7)): some microseconds, however many
//! connections there are.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// Message type of questions and answers (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of netlink(7).
const REQUEST: u16 = 1;
const TCP: u8 = 6;
/// Any incarnation of the socket (`INET_DIAG_NOCOOKIE`).
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Where things stand in an answer: a `nlmsghdr` and a `inet_diag_msg`, whose socket id is laid out as the
/// question's.
const TYPE_AT: usize = 4;
const STATE_AT: usize = 17;
const ID_AT: usize = 20;
const UID_AT: usize = 80;
const INODE_AT: usize = 84;
const ANSWER_BYTES: usize = 88;
/// Ports and both addresses.
const ID_BYTES: usize = 36;

/// Whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) state: u8,
    /// Zero for a socket that no process has open any more: the kernel then names root as its owner,
    /// whoever it was.
    pub(crate) inode: u64,
}

/// Who owns the socket that is bound to `its` end and connected to the `other`; `None` if there is none, or
/// if this kernel does not tell.
pub(crate) fn owner(its: SocketAddr, other: SocketAddr) -> io::Result<Option<Owner>> {
    let kernel = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let question = question(its, other);
    rustix::net::send(&kernel, &question, SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (bytes, _) = rustix::net::recv(&kernel, &mut answer[..], RecvFlags::empty())?;
    Ok(understand(&answer[..bytes], &question))
}

/// A `nlmsghdr` and a `inet_diag_req_v2`.
fn question(its: SocketAddr, other: SocketAddr) -> Vec<u8> {
    let family = match its.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let mut body = vec![family.as_raw() as u8, TCP, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(its.port().to_be_bytes());
    body.extend(other.port().to_be_bytes());
    body.extend(address(its.ip()));
    body.extend(address(other.ip()));
    body.extend(0u32.to_ne_bytes());
    body.extend(NO_COOKIE);
    let mut message = Vec::new();
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn understand(answer: &[u8], question: &[u8]) -> Option<Owner> {
    let answer: &[u8; ANSWER_BYTES] = answer.first_chunk()?;
    let word = |at: usize| u32::from_ne_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
    let is_answer = answer[TYPE_AT..TYPE_AT + 2] == SOCK_DIAG_BY_FAMILY.to_ne_bytes();
    // Without such a connection the kernel may answer with a listener.
    let is_meant = answer[ID_AT..ID_AT + ID_BYTES] == question[24..24 + ID_BYTES];
    (is_answer && is_meant).then(|| Owner {
        uid: word(UID_AT),
        state: answer[STATE_AT],
        inode: word(INODE_AT).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_living_connection_has_an_owner_and_a_listener_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let near = TcpStream::connect(at).unwrap();
        let owner = owner(near.local_addr().unwrap(), at).unwrap().unwrap();
        assert_eq!((owner.uid, owner.state), (rustix::process::geteuid().as_raw(), 1));
        assert_ne!(owner.inode, 0);
        assert_eq!(super::owner(at, "127.0.0.1:1".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn half_an_answer_is_none() {
        let question = question("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(question.len(), 72);
        assert_eq!(understand(&[0; 40], &question), None);
        assert_eq!(understand(&[0; 200], &question), None);
    }
}
