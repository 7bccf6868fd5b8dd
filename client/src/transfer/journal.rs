//! Names of files that are not complete, and the journal beside a large one, by which it is gone on with.
//!
//! A journal says what is being copied, and which chunks have arrived with which content. All of it is checked before it
//! is believed: that the source is what it was, and each chunk by its hash.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use nearfs_protocol::attr::Time;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::{CHUNK_BYTES, hash};
use nearfs_protocol::id::ContentHash;
use nearfs_protocol::name::{JOURNAL_ENDING, Name, STAGED_BEGINNING, STAGED_ENDING};

const MAGIC: [u8; 8] = *b"nfjrnl01";
/// Bytes of the header: magic, size, seconds, nanoseconds, a stamp.
pub(super) const HEADER_BYTES: usize = 36;
/// Bytes of a record: which chunk, and its hash.
pub(super) const RECORD_BYTES: usize = 40;
/// A journal is not read further than this, which tells of a file of 100 TiB.
const RECORDS_MAX: u64 = 100 * 1024 * 1024;

static LAST: AtomicU64 = AtomicU64::new(0);

/// What makes a source the same as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceStamp {
    pub(super) size: u64,
    pub(super) mtime: Time,
    /// Differs after any change: a counter of the server, or the time of the last change here.
    pub(super) change: u64,
}

/// What a journal says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Journal {
    pub(super) source: SourceStamp,
    pub(super) chunks: HashMap<u64, ContentHash>,
}

/// The names under which one file is brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StagedNames {
    pub(super) part: Name,
    pub(super) journal: Name,
}

impl StagedNames {
    /// Names that nobody else uses.
    pub(super) fn fresh() -> Result<StagedNames, Errno> {
        let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let seed = [moment.as_nanos().to_le_bytes(), u128::from(number).to_le_bytes()].concat();
        StagedNames::of(&[&seed[..], &std::process::id().to_le_bytes()].concat())
    }

    /// Names that are found again: those of what is told apart by these bytes.
    pub(super) fn of(bytes: &[u8]) -> Result<StagedNames, Errno> {
        let digits = hash(bytes).to_string();
        let named = |ending: &[u8]| {
            let name = [STAGED_BEGINNING, &digits.as_bytes()[..16], ending].concat();
            Name::new(&name).map_err(|_| Errno::EINVAL)
        };
        Ok(StagedNames { part: named(STAGED_ENDING)?, journal: named(JOURNAL_ENDING)? })
    }
}

/// Whether a name is one of those that a transfer gives to what is not complete.
pub fn is_staged(name: &[u8]) -> bool {
    name.strip_prefix(STAGED_BEGINNING)
        .and_then(|rest| rest.strip_suffix(STAGED_ENDING).or_else(|| rest.strip_suffix(JOURNAL_ENDING)))
        .is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

impl SourceStamp {
    /// The beginning of a journal.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.size.to_le_bytes());
        bytes.extend(self.mtime.secs.to_le_bytes());
        bytes.extend(self.mtime.nanos.to_le_bytes());
        bytes.extend(self.change.to_le_bytes());
        bytes
    }

    /// How many chunks it has.
    pub(super) fn chunks(&self) -> u64 {
        self.size.div_ceil(CHUNK_BYTES)
    }

    /// How long a journal of it may be; a chunk may have been written down more than once.
    pub(super) fn journal_bytes_max(&self) -> u64 {
        HEADER_BYTES as u64 + 2 * self.chunks().min(RECORDS_MAX) * RECORD_BYTES as u64
    }
}

/// What is written down of a chunk.
pub(super) fn record(chunk: u64, hash: ContentHash) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(&chunk.to_le_bytes());
    bytes[8..].copy_from_slice(&hash.0);
    bytes
}

impl Journal {
    /// Understands a journal; `None` if it is none. What was cut off at its end does not count.
    pub(super) fn parse(bytes: &[u8]) -> Option<Journal> {
        let (header, records) = bytes.split_at_checked(HEADER_BYTES)?;
        let word = |at: usize| Some(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?));
        if header[..8] != MAGIC {
            return None;
        }
        let nanos = u32::from_le_bytes(header.get(24..28)?.try_into().ok()?);
        let mtime = Time { secs: word(16)?.cast_signed(), nanos };
        let source = SourceStamp { size: word(8)?, mtime, change: word(28)? };
        let chunks = records
            .as_chunks::<RECORD_BYTES>()
            .0
            .iter()
            .filter_map(|record| {
                let (number, hash) = record.split_first_chunk::<8>()?;
                Some((u64::from_le_bytes(*number), ContentHash(hash.try_into().ok()?)))
            })
            .filter(|(chunk, _)| *chunk < source.chunks())
            .collect();
        Some(Journal { source, chunks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_as_it_was_written() {
        let source = SourceStamp { size: 5 << 20, mtime: Time { secs: -3, nanos: 7 }, change: 9 };
        let mut bytes = source.header();
        bytes.extend(record(4, hash(b"4")));
        bytes.extend(record(1, hash(b"1")));
        bytes.extend(record(5, hash(b"behind the end")));
        bytes.extend(&record(2, hash(b"cut off"))[..39]);
        let journal = Journal::parse(&bytes).unwrap();
        assert_eq!(journal.source, source);
        assert_eq!(journal.chunks, HashMap::from([(4, hash(b"4")), (1, hash(b"1"))]));
        for length in 0..HEADER_BYTES {
            assert_eq!(Journal::parse(&bytes[..length]), None);
        }
        assert_eq!(Journal::parse(&[b"x", &bytes[1..]].concat()), None);
    }

    #[test]
    fn staged_names_are_told_from_others() {
        let (one, other) = (StagedNames::fresh().unwrap(), StagedNames::fresh().unwrap());
        assert_ne!(one, other);
        assert_eq!(StagedNames::of(b"a"), StagedNames::of(b"a"));
        for name in [&one.part, &one.journal] {
            assert!(is_staged(name.as_bytes()));
        }
        for name in
            [&b".nearfs-.part"[..], b".nearfs-0123456789abcdef", b".nearfs-0123456789abcdeg.part", b"a"]
        {
            assert!(!is_staged(name), "{name:?}");
        }
    }
}
