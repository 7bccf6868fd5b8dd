//! Records behind one another in a file that is prepared a step at a time.
//!
//! A record is its length, a checksum and its bytes, and lies within one step; what is left of a step is skipped. The
//! length is written last, so that a process that is killed leaves all of a record or none.

/// Bytes by which a file grows. A file of another length has lost something.
pub(super) const STEP_BYTES: usize = 256 * 1024;
/// Length and checksum.
pub(super) const HEAD_BYTES: usize = 8;
/// Longest record.
pub(super) const RECORD_BYTES_MAX: usize = 192 * 1024;
/// In place of a length: the next record is in the next step.
pub(super) const SKIP: u32 = u32::MAX;
/// Stands with each length, so that no flipped bit makes the end out of one.
const LENGTH_MARK: u32 = 0x5a00_0000;
const LENGTH_BITS: u32 = 24;

/// What is no file of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record at byte {0} is damaged")]
pub(crate) struct Damaged(pub(super) usize);

/// The word that says how long a record is.
pub(super) fn length_word(bytes: usize) -> u32 {
    LENGTH_MARK | bytes as u32
}

/// The checksum of a record that stands at `at`: one that has got to another place is damaged as well.
pub(super) fn checksum(at: usize, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(at as u32);
    hasher.update(&(bytes.len() as u32).to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Where a record of so many bytes goes that is to follow at `end`, and whether a step is left for it.
pub(super) fn place(end: usize, bytes: usize) -> (usize, bool) {
    let left = STEP_BYTES - end % STEP_BYTES;
    if bytes + HEAD_BYTES <= left { (end, false) } else { (end + left, true) }
}

/// Calls `read` with each record of a whole file, in order; it refuses one with `None`. Returns where the next one goes.
pub(super) fn read_all(bytes: &[u8], read: impl FnMut(&[u8]) -> Option<()>) -> Result<usize, Damaged> {
    read_from(bytes, 0, 0, read)
}

/// The same for the part of a file that begins at `start`, which is that of a step, from the record at `at` on.
pub(super) fn read_from(
    bytes: &[u8],
    start: usize,
    mut at: usize,
    mut read: impl FnMut(&[u8]) -> Option<()>,
) -> Result<usize, Damaged> {
    if !bytes.len().is_multiple_of(STEP_BYTES) {
        return Err(Damaged(start + bytes.len()));
    }
    while at < start + bytes.len() {
        let left = STEP_BYTES - at % STEP_BYTES;
        let rest = bytes.get(at - start..at - start + left).ok_or(Damaged(at))?;
        let word = number(rest);
        if left < HEAD_BYTES || word == SKIP {
            at += left;
            continue;
        }
        if word == 0 {
            break;
        }
        let length = (word & ((1 << LENGTH_BITS) - 1)) as usize;
        let record = rest.get(HEAD_BYTES..HEAD_BYTES + length).ok_or(Damaged(at))?;
        if word != length_word(length)
            || length > RECORD_BYTES_MAX
            || number(&rest[4..]) != checksum(at, record)
        {
            return Err(Damaged(at));
        }
        read(record).ok_or(Damaged(at))?;
        at += HEAD_BYTES + length;
    }
    Ok(at)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; STEP_BYTES];
        let mut end = 0;
        for record in records {
            let (at, skips) = place(end, record.len());
            if skips {
                bytes.resize(at + STEP_BYTES, 0);
                if let Some(mark) = bytes[..at].get_mut(end..end + 4) {
                    mark.copy_from_slice(&SKIP.to_le_bytes());
                }
            }
            bytes[at..at + 4].copy_from_slice(&length_word(record.len()).to_le_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&checksum(at, record).to_le_bytes());
            bytes[at + 8..at + 8 + record.len()].copy_from_slice(record);
            end = at + 8 + record.len();
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Damaged> {
        let mut records = Vec::new();
        read_all(bytes, |record| {
            records.push(record.to_vec());
            Some(())
        })?;
        Ok(records)
    }

    #[test]
    fn records_come_back_over_steps() {
        let records: Vec<_> = (1..400_usize).map(|n| vec![n as u8; n * 37 % 5000 + 1]).collect();
        assert_eq!(read(&file(&records)), Ok(records));
        assert_eq!(read(&[]), Ok(vec![]));
    }

    #[test]
    fn a_record_whose_length_was_not_written_is_none() {
        let mut bytes = file(&[vec![1; 20], vec![2; 30]]);
        bytes[28..32].fill(0);
        assert_eq!(read(&bytes), Ok(vec![vec![1; 20]]));
    }

    #[test]
    fn a_file_that_was_cut_is_damaged() {
        let bytes = file(&[vec![1; 20], vec![2; 30]]);
        for length in 1..STEP_BYTES {
            if length < 200 || length % 4093 == 0 {
                assert!(read(&bytes[..length]).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn no_flipped_bit_makes_another_record() {
        let records = vec![vec![1; 16], vec![2; 34], vec![3; 5]];
        let bytes = file(&records);
        for bit in 0..80 * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Behind the last record nothing has been written yet.
            if let Ok(read) = read(&flipped) {
                assert!(bit / 8 >= 79 && read == records, "bit {bit}: {read:?}");
            }
        }
    }
}
