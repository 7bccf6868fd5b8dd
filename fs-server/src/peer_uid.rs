//! Which local user is at the other end of a loopback TCP connection.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// `ESTABLISHED` in the tables of proc(5).
const ESTABLISHED: &str = "01";
/// A socket that no process has open any more. The tables then name root as its owner, whoever it was.
const ORPHAN: &str = "0";

/// The owner of the socket at `peer` that is connected to our `local` end; `None` if it has gone. Both
/// are on this machine.
pub(crate) fn of_loopback(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    // A client with an IPv6 socket may have reached an IPv4 one, so that either table can have it.
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match std::fs::read_to_string(table) {
            Ok(text) => {
                if let Some(uid) = owner(&text, canonical(peer), canonical(local)) {
                    return Ok(Some(uid));
                }
            }
            // Without IPv6 there is no second table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn owner(table: &str, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (its, other, state) = (fields.next()?, fields.next()?, fields.next()?);
        let (uid, inode) = (fields.nth(3)?, fields.nth(1)?);
        let found = state == ESTABLISHED
            && inode != ORPHAN
            && parse(its).is_some_and(|address| canonical(address) == peer)
            && parse(other).is_some_and(|address| canonical(address) == local);
        if found { uid.parse().ok() } else { None }
    })
}

/// `0100007F:1F90`: words of four bytes in the machine's own order, then the port.
fn parse(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = [0; 16];
    if !address.is_ascii() || (address.len() != 8 && address.len() != 32) {
        return None;
    }
    for (word, digits) in bytes.chunks_exact_mut(4).zip(address.as_bytes().chunks_exact(8)) {
        let value = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        word.copy_from_slice(&value.to_ne_bytes());
    }
    let ip = match address.len() {
        8 => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        _ => IpAddr::from(bytes),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn our_own_connection_is_ours() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (far, peer) = listener.accept().unwrap();
            let uid = of_loopback(peer, far.local_addr().unwrap()).unwrap();
            assert_eq!(uid, Some(rustix::process::geteuid().as_raw()), "{address}");
            drop(near);
            assert_eq!(of_loopback(peer, far.local_addr().unwrap()).unwrap(), None, "{address}");
        }
    }

    #[test]
    fn only_a_living_socket_counts() {
        let peer: SocketAddr = "127.0.0.1:41000".parse().unwrap();
        let local: SocketAddr = "127.0.0.1:6327".parse().unwrap();
        let word = u32::from_ne_bytes([127, 0, 0, 1]);
        let line = |state: &str, uid: u32, inode: u32| {
            format!(
                "  sl  local_address\n 1: {word:08X}:A028 {word:08X}:18B7 {state} 00:00 00:00 00 {uid} 0 {inode} 1\n"
            )
        };
        assert_eq!(owner(&line("01", 1000, 77), peer, local), Some(1000));
        assert_eq!(owner(&line("01", 0, 0), peer, local), None);
        assert_eq!(owner(&line("04", 1000, 77), peer, local), None);
        assert_eq!(owner(&line("01", 1000, 77), local, peer), None);
        assert_eq!(owner("nonsense\nx\n1: a b c\n", peer, local), None);
    }

    #[test]
    fn mapped_addresses_are_the_same_peer() {
        let words = [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), u32::from_ne_bytes([127, 0, 0, 1])];
        let text: String = words.iter().map(|word| format!("{word:08X}")).collect();
        let parsed = parse(&format!("{text}:0050")).unwrap();
        assert_eq!(canonical(parsed), "127.0.0.1:80".parse().unwrap());
        for bad in ["", ":", "00:1", "0100007F", "0100007F:zz", "é100007:1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
