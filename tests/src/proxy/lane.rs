//! One direction of one connection: the bytes under way, and when they may leave.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::fault::{Allowance, Faults};
use super::flip::Flipper;
use super::frames::{FrameReader, Seen};
use super::ring::Ring;

/// Bytes under way at most, enough for 1 GB/s over 64 ms; a longer or faster way is limited by it.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Separate departure times at most.
const MARKS_MAX: usize = 1 << 16;
/// Bytes that came within this time of each other leave together.
const MARK_SPACING: Duration = Duration::from_micros(20);
/// Bytes taken by one read.
const READ_BYTES_MAX: usize = 256 << 10;
/// A limited rate is kept by pieces that last this long.
const RATE_PIECE: Duration = Duration::from_millis(5);
/// A limited rate queues what it passes in this time (beyond the delay) and then pushes back on the sender.
const RATE_QUEUE: Duration = Duration::from_millis(100);

/// How far the end of the sender's stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Open,
    Due(Instant),
    Passed,
}

/// What a write to the receiver achieved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    pub(super) bytes: usize,
    /// More was due, and must not pass.
    pub(super) exhausted: bool,
}

/// Bytes that arrived together.
struct Mark {
    due: Instant,
    bytes: usize,
}

pub(super) struct Lane {
    ring: Ring,
    marks: VecDeque<Mark>,
    flipper: Flipper,
    /// When the rate allows the next byte.
    free_at: Instant,
    ending: Ending,
    has_swallowed: bool,
    frames: FrameReader,
    passed: u64,
    /// Where in the stream everything is to be cut.
    cut_at: Option<u64>,
}

impl Lane {
    pub(super) fn new(seed: u64, now: Instant) -> Lane {
        Lane {
            ring: Ring::new(QUEUED_BYTES_MAX),
            marks: VecDeque::new(),
            flipper: Flipper::new(seed),
            free_at: now,
            ending: Ending::Open,
            has_swallowed: false,
            frames: FrameReader::default(),
            passed: 0,
            cut_at: None,
        }
    }

    /// True when the lane should be read into.
    pub(super) fn has_room(&self, faults: &Faults) -> bool {
        let open = !faults.stalled && self.ending == Ending::Open;
        let room = self.ring.len() < queue_bytes_max(faults) && self.marks.len() < MARKS_MAX;
        open && (faults.swallowed || room)
    }

    /// Number of bytes that may leave at `now`.
    pub(super) fn releasable(&self, faults: &Faults, now: Instant) -> usize {
        if faults.stalled || now < self.free_at {
            return 0;
        }
        let due = self.marks.iter().take_while(|mark| mark.due <= now).map(|mark| mark.bytes);
        match faults.rate {
            None => due.sum(),
            Some(rate) => due.sum::<usize>().min(bytes_in(rate, RATE_PIECE).max(1)),
        }
    }

    /// When the lane has something to do next (which may have passed), or None while nothing waits for time.
    pub(super) fn next_release(&self, faults: &Faults) -> Option<Instant> {
        if faults.stalled {
            return None;
        }
        match (self.marks.front(), self.ending) {
            (Some(mark), _) => Some(mark.due.max(self.free_at)),
            (None, Ending::Due(due)) if !faults.swallowed => Some(due),
            (None, Ending::Open | Ending::Due(_) | Ending::Passed) => None,
        }
    }

    /// True once, when the receiver should be told that the stream has ended: the end is due and everything
    /// before it has left.
    pub(super) fn pass_end(&mut self, faults: &Faults, now: Instant) -> bool {
        let due = matches!(self.ending, Ending::Due(due) if due <= now);
        let passes = due && self.ring.len() == 0 && !faults.stalled && !faults.swallowed;
        if passes {
            self.ending = Ending::Passed;
        }
        passes
    }

    /// True when the sender has ended its stream, whether or not the receiver has been told.
    pub(super) fn sender_ended(&self) -> bool {
        self.ending != Ending::Open
    }

    /// True when the receiver has been told that the stream has ended.
    pub(super) fn end_passed(&self) -> bool {
        self.ending == Ending::Passed
    }

    /// True when bytes were thrown away, so that nothing sensible can follow them.
    pub(super) fn has_hole(&self, faults: &Faults) -> bool {
        self.has_swallowed && !faults.swallowed
    }

    /// Reads once from `source`, which does not block, and returns the frames that this makes known. What is asked
    /// by calls is among it only if `with_calls` says so.
    pub(super) fn fill(
        &mut self,
        source: BorrowedFd,
        faults: &Faults,
        with_calls: bool,
        now: Instant,
    ) -> Result<Vec<Seen>, Errno> {
        let spare = self.ring.spare();
        let limit = spare.len().min(READ_BYTES_MAX);
        let count = match rustix::io::read(source, &mut spare[..limit]) {
            Ok(0) => {
                self.ending = Ending::Due(now + faults.delay);
                return Ok(Vec::new());
            }
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if faults.swallowed {
            self.has_swallowed = true;
            return Ok(Vec::new());
        }
        let seen = self.frames.read(&spare[..count], with_calls);
        self.flipper.flip(&mut spare[..count], faults.flip);
        self.ring.commit(count);
        self.mark(count, now + faults.delay);
        Ok(seen)
    }

    /// Lets the stream pass up to this place, and no further.
    pub(super) fn cut_at(&mut self, place: u64) {
        self.cut_at = Some(place);
    }

    /// Writes what may leave to `sink`, which does not block, as far as `allowance` and a cut go.
    pub(super) fn drain(
        &mut self,
        sink: BorrowedFd,
        faults: &Faults,
        allowance: &Allowance,
        now: Instant,
    ) -> Result<Passed, Errno> {
        let wanted = self.releasable(faults, now).min(self.ring.front().len());
        if wanted == 0 {
            return Ok(Passed::default());
        }
        let before_cut =
            self.cut_at.map_or(wanted, |at| at.saturating_sub(self.passed).min(wanted as u64) as usize);
        let allowed = allowance.take(before_cut);
        let bytes = match rustix::io::write(sink, &self.ring.front()[..allowed]) {
            Ok(bytes) => bytes,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(error),
        };
        allowance.give_back(allowed - bytes);
        self.release(bytes);
        self.passed += bytes as u64;
        if let Some(rate) = faults.rate {
            let start = self.free_at.max(now.checked_sub(RATE_PIECE).unwrap_or(now));
            self.free_at = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
        }
        Ok(Passed { bytes, exhausted: bytes == allowed && allowed < wanted })
    }

    /// Throws away what is queued because its receiver is gone.
    pub(super) fn discard(&mut self) {
        self.release(self.ring.len());
    }

    fn mark(&mut self, bytes: usize, due: Instant) {
        match self.marks.back_mut() {
            Some(last) if due < last.due + MARK_SPACING => last.bytes += bytes,
            _ => self.marks.push_back(Mark { due, bytes }),
        }
    }

    fn release(&mut self, mut count: usize) {
        self.ring.consume(count);
        while let Some(first) = self.marks.front_mut() {
            if first.bytes > count {
                first.bytes -= count;
                return;
            }
            count -= first.bytes;
            self.marks.pop_front();
        }
    }
}

fn queue_bytes_max(faults: &Faults) -> usize {
    let under_way = |rate| bytes_in(rate, faults.delay + RATE_QUEUE).max(READ_BYTES_MAX);
    faults.rate.map_or(QUEUED_BYTES_MAX, under_way).min(QUEUED_BYTES_MAX)
}

fn bytes_in(rate: u64, time: Duration) -> usize {
    (rate as f64 * time.as_secs_f64()) as usize
}
