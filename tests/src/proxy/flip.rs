//! Bit flips that a seed repeats exactly.

/// Flips one bit in bytes chosen at random. The choice depends on the seed and on the position of a byte in its
/// stream alone, not on how the stream is cut into reads.
pub(super) struct Flipper {
    state: u64,
    probability: f64,
    gap: Option<u64>,
}

impl Flipper {
    pub(super) fn new(seed: u64) -> Flipper {
        Flipper { state: seed, probability: 0.0, gap: None }
    }

    /// Damages `bytes`, the next of the stream, each with `probability`.
    pub(super) fn flip(&mut self, bytes: &mut [u8], probability: f64) {
        if probability != self.probability {
            self.probability = probability;
            self.gap = None;
        }
        if probability <= 0.0 {
            return;
        }
        let mut rest = bytes;
        loop {
            let gap = self.gap.take().unwrap_or_else(|| self.next_gap());
            let Some(skipped) = usize::try_from(gap).ok().filter(|gap| *gap < rest.len()) else {
                self.gap = Some(gap - rest.len() as u64);
                return;
            };
            rest[skipped] ^= 1 << (self.next_random() & 7);
            rest = &mut rest[skipped + 1..];
        }
    }

    /// Number of whole bytes before the next damaged one: geometrically distributed.
    fn next_gap(&mut self) -> u64 {
        if self.probability >= 1.0 {
            return 0;
        }
        let uniform = (self.next_random() >> 11) as f64 / (1u64 << 53) as f64;
        ((1.0 - uniform).ln() / (1.0 - self.probability).ln()) as u64
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(seed: u64, probability: f64, chunk: usize) -> Vec<u8> {
        let mut bytes = vec![0; 100_000];
        let mut flipper = Flipper::new(seed);
        bytes.chunks_mut(chunk).for_each(|chunk| flipper.flip(chunk, probability));
        bytes
    }

    #[test]
    fn a_seed_decides_and_the_chunks_do_not() {
        assert_eq!(damaged(7, 0.01, 100_000), damaged(7, 0.01, 37));
        assert_ne!(damaged(7, 0.01, 100_000), damaged(8, 0.01, 100_000));
    }

    #[test]
    fn as_many_bytes_as_asked_lose_one_bit_each() {
        let bytes = damaged(7, 0.01, 4096);
        let flipped = bytes.iter().filter(|byte| **byte != 0).count();
        assert!((800..1200).contains(&flipped), "{flipped} of 100,000 at 0.01");
        assert!(bytes.iter().all(|byte| byte.count_ones() <= 1));
        assert!(damaged(7, 1.0, 4096).iter().all(|byte| byte.count_ones() == 1));
        assert!(damaged(7, 0.0, 4096).iter().all(|byte| *byte == 0));
    }
}
