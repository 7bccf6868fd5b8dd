//! Hashes of content: of a piece, and of a whole file that is hashed in pieces.

use crate::id::ContentHash;

/// Bytes of the chunks of which the hash of a file is made.
pub const CHUNK_BYTES: u64 = 1024 * 1024;

/// The hash of these bytes.
pub fn hash(bytes: &[u8]) -> ContentHash {
    ContentHash(*blake3::hash(bytes).as_bytes())
}

/// Hashes a piece that comes bit by bit.
#[derive(Clone, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// What comes next.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all that came.
    pub fn finish(&self) -> ContentHash {
        ContentHash(*self.0.finalize().as_bytes())
    }
}

/// The hash of a file: of its size as 8 little-endian bytes, and behind it the hashes of its consecutive chunks of
/// [`CHUNK_BYTES`], the last of which may be shorter. So both ends can hash a file in any order and on several
/// processors.
pub fn file_hash(size: u64, chunks: impl IntoIterator<Item = ContentHash>) -> ContentHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    for chunk in chunks {
        hasher.update(&chunk.0);
    }
    ContentHash(*hasher.finalize().as_bytes())
}

/// The hash of a file that is in memory as a whole.
pub fn file_hash_of(content: &[u8]) -> ContentHash {
    file_hash(content.len() as u64, content.chunks(CHUNK_BYTES as usize).map(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_hashed_as_blake3_says() {
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(hash(b"").to_string(), empty);
    }

    #[test]
    fn the_hash_of_a_file_tells_sizes_and_orders_apart() {
        let chunk = |fill| vec![fill; CHUNK_BYTES as usize];
        let ab = file_hash_of(&[chunk(1), chunk(2)].concat());
        let ba = file_hash_of(&[chunk(2), chunk(1)].concat());
        assert_ne!(ab, ba);
        assert_eq!(ab, file_hash(2 * CHUNK_BYTES, [hash(&chunk(1)), hash(&chunk(2))]));
        assert_ne!(file_hash_of(b""), file_hash_of(b"\0"));
        assert_ne!(file_hash_of(&[]), hash(b""));
    }
}
