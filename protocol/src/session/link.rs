//! Signs of life on connections, and clocks that jump.

use std::time::{Duration, Instant};

use super::ConnectionId;
use crate::limits::{KEEPALIVE_INTERVAL, LINK_SILENCE_MAX};

/// One connection and when something arrived on it last.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: ConnectionId,
    heard: Instant,
    ping_due: Instant,
    asked: Option<(u64, Instant)>,
}

impl Link {
    pub(super) fn new(id: ConnectionId, now: Instant) -> Link {
        // The first ping goes out at once: it measures the round trip of a connection that may stay idle.
        Link { id, heard: now, ping_due: now, asked: None }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// When it counts as dead unless something arrives.
    pub(super) fn dead_at(&self) -> Instant {
        self.heard + LINK_SILENCE_MAX
    }

    /// When something arrived on it last.
    pub(super) fn heard_at(&self) -> Instant {
        self.heard
    }

    /// When the next ping is due.
    pub(super) fn ping_due(&self) -> Instant {
        self.ping_due
    }

    /// Notes that the ping `number` goes out.
    pub(super) fn ask(&mut self, number: u64, now: Instant) {
        self.asked = Some((number, now));
        self.ping_due = now + KEEPALIVE_INTERVAL;
    }

    /// The round trip, if `number` is the last ping's.
    pub(super) fn answered(&mut self, number: u64, now: Instant) -> Option<Duration> {
        let (_, asked) = self.asked.take_if(|(last, _)| *last == number)?;
        Some(now.saturating_duration_since(asked))
    }
}

/// Notices that time went by without us: a suspended machine, a stopped process. What looks overdue then may
/// have arrived long ago and only wait to be read, so nothing is given up before there was time to read it.
#[derive(Debug, Default)]
pub(super) struct Wakefulness {
    due: Option<Instant>,
    settled_at: Option<Instant>,
}

impl Wakefulness {
    /// The timer was called: may anything be given up?
    pub(super) fn woke(&mut self, now: Instant) -> bool {
        if self.due.take().is_some_and(|due| now > due + KEEPALIVE_INTERVAL) {
            self.settled_at = Some(now + KEEPALIVE_INTERVAL);
        }
        self.settled_at = self.settled_at.filter(|at| *at > now);
        self.settled_at.is_none()
    }

    /// Notes when the timer is to be called next.
    pub(super) fn sleeps_until(&mut self, due: Option<Instant>) {
        self.due = due;
    }

    /// The moment before which nothing is given up, or `at` itself if that is later.
    pub(super) fn not_before(&self, at: Instant) -> Instant {
        self.settled_at.map_or(at, |settled| settled.max(at))
    }
}
