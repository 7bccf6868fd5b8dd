//! Which local user is at the other end of a loopback TCP connection.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::sock_diag::{self, Owner};

/// `ESTABLISHED` in the tables of proc(5).
const ESTABLISHED: u8 = 1;

/// The owner of the socket at `peer` that is connected to our `local` end; `None` if it has gone. Both
/// are on this machine.
pub(crate) fn of_loopback(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    let (peer, local) = (canonical(peer), canonical(local));
    // Kernels and containers that do not answer questions still have the tables.
    let owner = match sock_diag::owner(peer, local) {
        Ok(Some(owner)) => Some(owner),
        Ok(None) | Err(_) => in_tables(peer, local)?,
    };
    Ok(owner.filter(|owner| owner.state == ESTABLISHED && owner.inode != 0).map(|owner| owner.uid))
}

fn in_tables(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Owner>> {
    // A client with an IPv6 socket may have reached an IPv4 one, so that either table can have it.
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match std::fs::read_to_string(table) {
            Ok(text) => {
                if let Some(owner) = in_table(&text, peer, local) {
                    return Ok(Some(owner));
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

fn in_table(table: &str, peer: SocketAddr, local: SocketAddr) -> Option<Owner> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (its, other, state) = (fields.next()?, fields.next()?, fields.next()?);
        let (uid, inode) = (fields.nth(3)?, fields.nth(1)?);
        let found = canonical(parse(its)?) == peer && canonical(parse(other)?) == local;
        let owner = || {
            Some(Owner {
                uid: uid.parse().ok()?,
                state: u8::from_str_radix(state, 16).ok()?,
                inode: inode.parse().ok()?,
            })
        };
        if found { owner() } else { None }
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
    fn our_own_connection_is_ours_until_it_is_closed() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (far, peer) = listener.accept().unwrap();
            let local = far.local_addr().unwrap();
            let uid = rustix::process::geteuid().as_raw();
            assert_eq!(of_loopback(peer, local).unwrap(), Some(uid), "{address}");
            let told = sock_diag::owner(peer, local).unwrap().unwrap();
            assert_eq!(in_tables(peer, local).unwrap(), Some(told), "{address}");
            drop(near);
            assert_eq!(of_loopback(peer, local).unwrap(), None, "{address}");
        }
    }

    #[test]
    fn tables_are_read() {
        let peer: SocketAddr = "127.0.0.1:41000".parse().unwrap();
        let local: SocketAddr = "127.0.0.1:6327".parse().unwrap();
        let word = u32::from_ne_bytes([127, 0, 0, 1]);
        let table = format!(
            "  sl  local_address\n 1: {word:08X}:A028 {word:08X}:18B7 0A 00:00 00:00 00 1000 0 77 1\n"
        );
        assert_eq!(in_table(&table, peer, local), Some(Owner { uid: 1000, state: 10, inode: 77 }));
        assert_eq!(in_table(&table, local, peer), None);
        assert_eq!(in_table("nonsense\nx\n1: a b c\n", peer, local), None);
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
