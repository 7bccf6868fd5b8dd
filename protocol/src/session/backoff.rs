//! How long to wait between attempts to connect again.

use std::time::Duration;

use crate::limits::RECONNECT_BACKOFF;

/// Waits that double up to a bound. Each is shortened at random by up to a half, so that the clients of a
/// server that restarts do not come back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Backoff {
        // The generator below stands still at zero.
        Backoff { next: RECONNECT_BACKOFF.0, random: seed | 1 }
    }

    /// The connection stands: begin with the shortest wait the next time.
    pub(super) fn reset(&mut self) {
        self.next = RECONNECT_BACKOFF.0;
    }

    /// An attempt failed: how long to wait before the next.
    pub(super) fn wait(&mut self) -> Duration {
        let longest = self.next;
        self.next = (longest * 2).min(RECONNECT_BACKOFF.1);
        let half_us = longest.as_micros() as u64 / 2;
        longest - Duration::from_micros(self.random() % (half_us + 1))
    }

    /// Marsaglia's xorshift64: enough to spread clients, and no dependency.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_bound_and_differ_between_clients() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..12).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        let mut longest = RECONNECT_BACKOFF.0;
        for wait in waits(7) {
            assert!(wait <= longest && wait >= longest / 2, "{wait:?} of {longest:?}");
            longest = (longest * 2).min(RECONNECT_BACKOFF.1);
        }
        assert_ne!(waits(7), waits(123_456));
        assert_eq!(waits(7), waits(7));
    }
}
