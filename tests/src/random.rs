//! Numbers that look random and are the same in every run.

/// A xorshift generator (Marsaglia 2003): fast, and good enough for contents and offsets.
pub(crate) struct Random(u64);

impl Random {
    /// Different seeds give different sequences.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number less than `bound`; `bound` must not be 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Content that does not repeat.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let words = std::iter::repeat_with(|| random.next().to_le_bytes());
    let mut content: Vec<u8> = words.take(bytes.div_ceil(8)).flatten().collect();
    content.truncate(bytes);
    content
}
