//! How much of a transfer may be under way: files, bytes, and bytes a second.

use std::time::{Duration, Instant};

use nearfs_protocol::errno::Errno;
use parking_lot::{Condvar, Mutex};

use crate::cancel::Cancel;

/// Files that were begun and are not yet under their names: several times as many as can be asked for at once, so that
/// there is something to do while others are synced.
const FILES_MAX: u64 = 2048;
/// Bytes that were asked for or sent, and are not yet where they belong.
const BYTES_MAX: u64 = 24 * 1024 * 1024;
/// How soon who waits notices that it is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// What a limited rate may catch up on: so long a pause is made good.
const BURST: Duration = Duration::from_millis(100);

/// Room for what is under way.
pub(super) struct Window {
    free: Mutex<Free>,
    freed: Condvar,
    rate: Option<Mutex<Rate>>,
    cancel: Cancel,
}

struct Free {
    files: u64,
    bytes: u64,
}

/// Bytes a second at most.
struct Rate {
    bytes_per_second: u64,
    /// When all that was admitted has passed at that rate.
    passed_at: Instant,
}

impl Window {
    pub(super) fn new(bytes_per_second: Option<u64>, cancel: &Cancel) -> Window {
        let rate = bytes_per_second.map(|bytes_per_second| {
            Mutex::new(Rate { bytes_per_second: bytes_per_second.max(1), passed_at: Instant::now() })
        });
        Window {
            free: Mutex::new(Free { files: FILES_MAX, bytes: BYTES_MAX }),
            freed: Condvar::new(),
            rate,
            cancel: cancel.clone(),
        }
    }

    /// Waits for room for a file.
    ///
    /// Errors: `EINTR` when the transfer is to end.
    pub(super) fn take_file(&self) -> Result<(), Errno> {
        self.take(1, 0)
    }

    /// Waits for room for so many bytes, and for their turn if the rate is limited.
    ///
    /// Errors: `EINTR` when the transfer is to end.
    pub(super) fn take_bytes(&self, bytes: u64) -> Result<(), Errno> {
        self.take(0, bytes.min(BYTES_MAX))?;
        self.await_turn(bytes)
    }

    /// Waits for the turn of bytes that have their room, and gives that back where there is no turn any more.
    pub(super) fn await_turn(&self, bytes: u64) -> Result<(), Errno> {
        self.wait_turn(bytes).inspect_err(|_| self.give_bytes(bytes))
    }

    /// Takes room for so many bytes if there is some. Who has bytes under way himself, and alone gives their room back,
    /// must not wait for it otherwise.
    pub(super) fn take_free_bytes(&self, bytes: u64) -> bool {
        let (mut free, bytes) = (self.free.lock(), bytes.min(BYTES_MAX));
        let is_free = free.bytes >= bytes;
        if is_free {
            free.bytes -= bytes;
        }
        is_free
    }

    pub(super) fn give_file(&self) {
        self.free.lock().files += 1;
        self.freed.notify_all();
    }

    pub(super) fn give_bytes(&self, bytes: u64) {
        self.free.lock().bytes += bytes.min(BYTES_MAX);
        self.freed.notify_all();
    }

    fn take(&self, files: u64, bytes: u64) -> Result<(), Errno> {
        let mut free = self.free.lock();
        loop {
            if self.cancel.is_cancelled() {
                return Err(Errno::EINTR);
            }
            if free.files >= files && free.bytes >= bytes {
                free.files -= files;
                free.bytes -= bytes;
                return Ok(());
            }
            self.freed.wait_for(&mut free, LOOK_INTERVAL);
        }
    }

    /// Waits for the turn of bytes that take no room.
    pub(super) fn wait_turn(&self, bytes: u64) -> Result<(), Errno> {
        let Some(rate) = &self.rate else { return Ok(()) };
        let turn = rate.lock().admit(bytes, Instant::now());
        while Instant::now() < turn {
            if self.cancel.is_cancelled() {
                return Err(Errno::EINTR);
            }
            std::thread::sleep(turn.saturating_duration_since(Instant::now()).min(LOOK_INTERVAL));
        }
        Ok(())
    }
}

impl Rate {
    /// When these bytes may go.
    fn admit(&mut self, bytes: u64, now: Instant) -> Instant {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let turn = self.passed_at.max(earliest);
        self.passed_at = turn + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        turn.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_rate_is_kept_on_average() {
        let start = Instant::now();
        let mut rate = Rate { bytes_per_second: 1000, passed_at: start };
        let turns: Vec<_> = (0..10).map(|_| rate.admit(500, start)).collect();
        assert_eq!(turns[0], start);
        let last = turns.last().copied().unwrap_or(start);
        let lasted = last.duration_since(start).as_secs_f64();
        assert!((4.3..=4.6).contains(&lasted), "{lasted} s");
    }

    #[test]
    fn who_waits_for_room_is_let_go() {
        let cancel = Cancel::new();
        let window = Window::new(None, &cancel);
        window.take_bytes(BYTES_MAX).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| window.take_bytes(1));
            cancel.cancel();
            assert_eq!(waiting.join().unwrap(), Err(Errno::EINTR));
        });
    }
}
