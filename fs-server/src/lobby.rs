//! Where connections are until they have said who they are: a bounded place that nobody can block.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use nearfs_transport::stream::Peer;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Most connections that have not been admitted.
pub(crate) const GREETING_CONNECTIONS_MAX: usize = 256;
/// Most of them from one address of another machine.
pub(crate) const GREETING_CONNECTIONS_PER_ADDRESS_MAX: usize = 8;

/// The connections that have not been admitted, oldest first. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Lobby(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    tickets: VecDeque<Ticket>,
    last_number: u64,
}

struct Ticket {
    number: u64,
    /// `None` for this machine, whose users the admission tells apart.
    address: Option<IpAddr>,
    /// Dropped to tell the connection that it has to leave.
    _stay: oneshot::Sender<()>,
}

/// A place in the lobby, until it is dropped.
pub(crate) struct Place {
    lobby: Lobby,
    number: u64,
    leave: oneshot::Receiver<()>,
}

impl Lobby {
    /// Takes a connection in. When there is no room the one that has been there longest has to leave: a
    /// client says who he is at once, so that whoever hesitates pays for the crowd.
    pub(crate) fn enter(&self, peer: Peer) -> Place {
        let address = match peer {
            Peer::Tcp { peer, .. } if !peer.ip().to_canonical().is_loopback() => {
                Some(peer.ip().to_canonical())
            }
            Peer::Tcp { .. } | Peer::Unix { .. } | Peer::Stdio => None,
        };
        let (stay, leave) = oneshot::channel();
        let mut waiting = self.0.lock();
        waiting.make_room(address);
        waiting.last_number += 1;
        let number = waiting.last_number;
        waiting.tickets.push_back(Ticket { number, address, _stay: stay });
        Place { lobby: self.clone(), number, leave }
    }

    /// How many wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().tickets.len()
    }
}

impl Waiting {
    fn make_room(&mut self, address: Option<IpAddr>) {
        let neighbours = self.tickets.iter().filter(|ticket| address.is_some() && ticket.address == address);
        if neighbours.count() >= GREETING_CONNECTIONS_PER_ADDRESS_MAX {
            let oldest = self.tickets.iter().position(|ticket| ticket.address == address);
            oldest.and_then(|at| self.tickets.remove(at));
        } else if self.tickets.len() >= GREETING_CONNECTIONS_MAX {
            self.tickets.pop_front();
        }
    }
}

impl Place {
    /// Returns when the connection has to leave.
    pub(crate) async fn lost(&mut self) {
        // The sender is never used, only dropped.
        let _ = (&mut self.leave).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.0.lock().tickets.retain(|ticket| ticket.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: [u8; 4]) -> Peer {
        let peer = std::net::SocketAddr::from((ip, 1));
        Peer::Tcp { peer, local: peer }
    }

    fn must_leave(place: &mut Place) -> bool {
        place.leave.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn one_address_takes_few_places() {
        let lobby = Lobby::default();
        let mut places: Vec<_> = (0..9).map(|_| lobby.enter(from([192, 0, 2, 1]))).collect();
        let mut other = lobby.enter(from([192, 0, 2, 2]));
        assert!(must_leave(&mut places[0]));
        assert!(!must_leave(&mut places[1]) && !must_leave(&mut other));
        assert_eq!(lobby.len(), 9);
    }

    #[test]
    fn a_crowd_drives_out_its_oldest() {
        let lobby = Lobby::default();
        let mut places: Vec<_> = (0..300).map(|_| lobby.enter(from([127, 0, 0, 1]))).collect();
        let left = places.iter_mut().filter_map(|place| must_leave(place).then_some(())).count();
        assert_eq!((left, lobby.len()), (300 - GREETING_CONNECTIONS_MAX, GREETING_CONNECTIONS_MAX));
        drop(places);
        assert_eq!(lobby.len(), 0);
    }
}
