//! Readers that take a piece every so many bytes, forward or backward.

use std::ops::Range;

use super::super::block::BLOCK_BYTES;

/// Equal distances in a row after which a reader is taken for strided.
const REPEATS_MIN: u32 = 2;
/// Most reads that are foreseen.
const DEPTH_MAX: u32 = 64;

/// The distances between reads that follow none before them.
#[derive(Debug, Default)]
pub(super) struct Stride {
    last: Option<u64>,
    distance: i64,
    repeats: u32,
    /// How many reads after the last one were already asked for.
    asked: u32,
}

impl Stride {
    /// A sequential reader was seen: whatever came before is no pattern with what comes after.
    pub(super) fn forget(&mut self) {
        *self = Stride::default();
    }

    /// Whether the reads to come are known.
    pub(super) fn is_foreseen(&self) -> bool {
        self.repeats >= REPEATS_MIN
    }

    /// The blocks of the reads to come, if they can be foreseen. Twice as many as proven so far.
    pub(super) fn on_read(
        &mut self,
        read: Range<u64>,
        file_bytes: u64,
        window_bytes_max: u64,
    ) -> Vec<Range<u64>> {
        let distance = self.last.map_or(0, |last| read.start.wrapping_sub(last) as i64);
        self.last = Some(read.start);
        if distance == 0 || distance != self.distance {
            (self.distance, self.repeats, self.asked) = (distance, 0, 0);
            return Vec::new();
        }
        self.repeats = self.repeats.saturating_add(1);
        self.asked = self.asked.saturating_sub(1);
        if !self.is_foreseen() {
            return Vec::new();
        }
        let touched_bytes = blocks_of(&read).count() as u64 * BLOCK_BYTES;
        let affordable = u32::try_from(window_bytes_max / touched_bytes).unwrap_or(u32::MAX);
        let depth = (self.repeats * 2).min(DEPTH_MAX).min(affordable);
        let first = self.asked + 1;
        self.asked = self.asked.max(depth);
        (first..=depth)
            .map_while(|step| {
                let shift = distance.checked_mul(i64::from(step))?;
                let start = read.start.checked_add_signed(shift).filter(|&start| start < file_bytes)?;
                let end = start.saturating_add(read.end - read.start).min(file_bytes);
                Some(blocks_of(&(start..end)))
            })
            .collect()
    }
}

fn blocks_of(read: &Range<u64>) -> Range<u64> {
    read.start / BLOCK_BYTES..read.end.div_ceil(BLOCK_BYTES)
}
