//! What can be done to a connection, and the settings all connections of a proxy share.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client, which connected to the proxy, to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Way {
    /// Both directions.
    pub const BOTH: [Way; 2] = [Way::Up, Way::Down];
}

/// An end of a proxied connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The program that connected to the proxy.
    Client,
    /// The program the proxy connected to.
    Server,
}

/// What happens to bytes that go one way. The default passes them on at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Faults {
    /// Time each byte is under way, whatever the rate.
    pub(super) delay: Duration,
    /// Bytes per second at most.
    pub(super) rate: Option<u64>,
    /// Nothing moves and nothing is lost.
    pub(super) stalled: bool,
    /// Everything is read and thrown away.
    pub(super) swallowed: bool,
    /// Probability of each byte to lose a bit.
    pub(super) flip: f64,
}

/// How many bytes may still go one way, over all connections, before everything is cut.
pub(super) struct Allowance(AtomicU64);

impl Allowance {
    const UNLIMITED: u64 = u64::MAX;

    pub(super) fn unlimited() -> Allowance {
        Allowance(AtomicU64::new(Allowance::UNLIMITED))
    }

    pub(super) fn limit(&self, bytes: u64) {
        self.0.store(bytes, SeqCst);
    }

    pub(super) fn lift(&self) {
        self.limit(Allowance::UNLIMITED);
    }

    /// Takes up to `wanted` bytes out and returns how many it got.
    pub(super) fn take(&self, wanted: usize) -> usize {
        let taken = |left: u64| left.min(wanted as u64);
        let spend = |left: u64| (left != Allowance::UNLIMITED).then(|| left - taken(left));
        self.0.fetch_update(SeqCst, SeqCst, spend).map_or(wanted, |left| taken(left) as usize)
    }

    /// Gives back what was taken and not used.
    pub(super) fn give_back(&self, bytes: usize) {
        let refund = |left: u64| (left != Allowance::UNLIMITED).then(|| left + bytes as u64);
        // An error means that there is no limit to give back to.
        self.0.fetch_update(SeqCst, SeqCst, refund).ok();
    }
}
