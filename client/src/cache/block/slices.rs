//! The bytes of a read, as the blocks hold them.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::BLOCK_BYTES;

/// What was read: one piece of each block, in order.
#[derive(Clone, Debug, Default)]
pub struct Slices {
    parts: Parts,
}

#[derive(Clone, Debug)]
enum Parts {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Default for Parts {
    fn default() -> Parts {
        Parts::One(Bytes::new())
    }
}

impl Slices {
    /// The pieces.
    pub fn parts(&self) -> &[Bytes] {
        match &self.parts {
            Parts::One(bytes) => std::slice::from_ref(bytes),
            Parts::Many(parts) => parts,
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.parts().iter().map(Bytes::len).sum()
    }

    /// Whether the read began at or past the end.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it in one piece, copied if it comes from several blocks.
    pub fn into_bytes(self) -> Bytes {
        match self.parts {
            Parts::One(bytes) => bytes,
            Parts::Many(parts) => {
                let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
                parts.iter().for_each(|part| whole.extend_from_slice(part));
                whole.freeze()
            }
        }
    }
}

/// A range of bytes and the blocks it touches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) fn new(offset: u64, size: usize) -> Span {
        Span { start: offset, end: offset.saturating_add(size as u64) }
    }

    pub(super) fn blocks(self) -> Range<u64> {
        block_range(self.start..self.end)
    }

    /// The part of the span that lies in a block, counted from the block's start.
    pub(super) fn within(self, index: u64) -> Range<usize> {
        let block_start = index * BLOCK_BYTES;
        let clamp = |at: u64| at.saturating_sub(block_start).min(BLOCK_BYTES) as usize;
        clamp(self.start)..clamp(self.end)
    }

    /// The span's pieces out of its blocks, up to the first block that ends early or is not given.
    pub(super) fn cut<'a>(self, blocks: impl Iterator<Item = &'a Bytes>) -> Slices {
        let mut parts = Parts::default();
        for (index, block) in self.blocks().zip(blocks) {
            let range = self.within(index);
            let part = block.slice(range.start.min(block.len())..range.end.min(block.len()));
            let is_short = part.len() < range.len();
            parts = match parts {
                Parts::One(first) if first.is_empty() => Parts::One(part),
                Parts::One(first) => Parts::Many(vec![first, part]),
                Parts::Many(mut parts) => {
                    parts.push(part);
                    Parts::Many(parts)
                }
            };
            if is_short {
                break;
            }
        }
        Slices { parts }
    }
}

/// The blocks that a range of bytes touches.
pub(super) fn block_range(bytes: Range<u64>) -> Range<u64> {
    if bytes.is_empty() {
        return 0..0;
    }
    bytes.start / BLOCK_BYTES..bytes.end.div_ceil(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_is_not_copied() {
        let block = Bytes::from(vec![7; BLOCK_BYTES as usize]);
        let slices = Span::new(BLOCK_BYTES + 10, 100).cut([&block].into_iter());
        assert_eq!(slices.into_bytes().as_ptr(), block[10..].as_ptr());
    }

    #[test]
    fn a_short_block_ends_the_read() {
        let full = Bytes::from(vec![1; BLOCK_BYTES as usize]);
        let short = Bytes::from_static(b"end");
        let slices = Span::new(BLOCK_BYTES - 2, 300_000).cut([&full, &short, &full].into_iter());
        assert_eq!(slices.into_bytes(), b"\x01\x01end"[..]);
        assert!(Span::new(BLOCK_BYTES + 3, 10).cut([&short].into_iter()).is_empty());
        assert!(Span::new(5, 0).blocks().is_empty());
    }
}
