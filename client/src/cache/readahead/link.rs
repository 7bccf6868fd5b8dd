//! How many bytes under way a link can use.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Always allowed: enough for any link on which answers come at once.
const WINDOW_BYTES_MIN: u64 = 512 * 1024;
/// Allowed before anything was measured.
const WINDOW_BYTES_FIRST: u64 = 4 * 1024 * 1024;
/// Never more than this.
const WINDOW_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// An answer that takes more than this many times the shortest waited behind others.
const QUEUED_RATIO: f64 = 2.0;
/// How long the shortest latency is believed. Then the window is closed until one answer has come back over
/// an all but empty link, should the way to the server have changed.
const LATENCY_TRUST: Duration = Duration::from_secs(10);
/// Bytes under way on a link that is all but empty.
const PROBE_BYTES: u64 = 256 * 1024;
/// How long that is tried; others may keep the link full.
const PROBE_TIME_MAX: Duration = Duration::from_secs(1);
/// How much one answer counts when the window shrinks.
const SHRINK_WEIGHT: f64 = 1.0 / 8.0;

/// Measures fetches and says how many bytes may be under way so that the link is busy and nothing waits in
/// a queue for long: about twice what it carries during one latency.
///
/// What the link carries in the shortest latency is, by Little's law, the bytes that were under way times
/// the shortest latency over the one seen.
#[derive(Debug, Default)]
pub struct LinkEstimate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    under_way_bytes: u64,
    window_bytes: f64,
    /// The shortest latency in seconds, and when it was last seen.
    latency_min: Option<(f64, Instant)>,
    /// Since when the window is closed to measure that anew.
    probing_since: Option<Instant>,
}

/// A fetch that was measured from its start.
#[derive(Clone, Copy, Debug)]
pub struct FetchStart {
    at: Instant,
    bytes: u64,
    under_way_bytes: u64,
}

impl LinkEstimate {
    /// Nothing is known of the link yet.
    pub fn new() -> LinkEstimate {
        LinkEstimate::default()
    }

    /// A fetch of this many bytes is sent.
    pub fn started(&self, bytes: u64, now: Instant) -> FetchStart {
        let mut state = self.state.lock();
        state.under_way_bytes += bytes;
        FetchStart { at: now, bytes, under_way_bytes: state.under_way_bytes }
    }

    /// It was answered.
    pub fn completed(&self, start: FetchStart, now: Instant) {
        let mut state = self.state.lock();
        state.under_way_bytes -= start.bytes;
        state.measured(start, now);
    }

    /// It failed, which tells nothing about the link.
    pub fn failed(&self, start: FetchStart) {
        self.state.lock().under_way_bytes -= start.bytes;
    }

    /// Bytes that may be under way.
    pub fn window_bytes(&self) -> u64 {
        let state = self.state.lock();
        match state.probing_since {
            Some(_) => PROBE_BYTES,
            None => state.window_bytes as u64,
        }
    }
}

impl State {
    fn measured(&mut self, start: FetchStart, now: Instant) {
        let latency = now.saturating_duration_since(start.at).as_secs_f64().max(1e-6);
        let latency_min = self.shortest(start, latency, now);
        let under_way_bytes = start.under_way_bytes as f64;
        if latency > latency_min * QUEUED_RATIO {
            let carried_bytes = under_way_bytes * latency_min / latency;
            self.window_bytes += (2.0 * carried_bytes - self.window_bytes) * SHRINK_WEIGHT;
        } else if under_way_bytes * 2.0 >= self.window_bytes {
            // The window was made use of and nothing queued: it doubles with each latency.
            self.window_bytes += start.bytes as f64;
        }
        self.window_bytes = self.window_bytes.clamp(WINDOW_BYTES_MIN as f64, WINDOW_BYTES_MAX as f64);
    }

    fn shortest(&mut self, start: FetchStart, latency: f64, now: Instant) -> f64 {
        let since = |then: Instant| now.saturating_duration_since(then);
        let (shortest, seen_at) = self.latency_min.unwrap_or((latency, now));
        let measured = match self.probing_since {
            Some(_) if start.under_way_bytes <= PROBE_BYTES => (latency, now),
            Some(probing_since) if since(probing_since) >= PROBE_TIME_MAX => (shortest, now),
            _ if latency <= shortest => (latency, now),
            probing_since => {
                let is_old = since(seen_at) >= LATENCY_TRUST;
                self.probing_since = probing_since.or(is_old.then_some(now));
                self.latency_min = Some((shortest, seen_at));
                return shortest;
            }
        };
        self.probing_since = None;
        self.latency_min = Some(measured);
        measured.0
    }
}

impl Default for State {
    fn default() -> State {
        State {
            under_way_bytes: 0,
            window_bytes: WINDOW_BYTES_FIRST as f64,
            latency_min: None,
            probing_since: None,
        }
    }
}
