//! Numbers that look random and are the same in every run.

/// A xorshift generator (Marsaglia 2003): fast, and good enough for contents and offsets.
pub(super) struct Random(u64);

impl Random {
    /// Different seeds give different sequences.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number less than `bound`; `bound` must not be 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
