//! How often a cache knew the answer.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts without a lock; exact, though the two figures may be read a moment apart.
#[derive(Debug, Default)]
pub(super) struct HitCounter {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// The figures of one cache since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HitCount {
    /// Questions answered.
    pub hits: u64,
    /// Questions that had to be asked of the server.
    pub misses: u64,
}

impl HitCounter {
    pub(super) fn note(&self, hit: bool) {
        self.add(usize::from(hit), usize::from(!hit));
    }

    pub(super) fn add(&self, hits: usize, misses: usize) {
        for (counter, count) in [(&self.hits, hits), (&self.misses, misses)] {
            if count > 0 {
                counter.fetch_add(count as u64, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn read(&self) -> HitCount {
        HitCount { hits: self.hits.load(Ordering::Relaxed), misses: self.misses.load(Ordering::Relaxed) }
    }
}
