//! A session's records in a file, which grows, and is written anew when most of it says nothing any more.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nearfs_protocol::codec::{decode_control, encode_control};

use super::frame::{self, HEAD_BYTES, RECORD_BYTES_MAX, SKIP, STEP_BYTES};
use super::mapping::{Mapping, allocate};
use super::record::{Image, Record};

/// A log of this many bytes is not worth writing anew.
const COMPACT_BYTES_MIN: usize = 4 * STEP_BYTES;
/// A log is written anew when it is so many times as long as it was when it said nothing twice.
const GARBAGE_FACTOR: usize = 3;

/// What is not a log, or cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(#[from] frame::Damaged),
    #[error("it is longer than any log")]
    TooLong,
}

/// Longest log that is read: hundreds of millions of nodes.
const LOG_BYTES_MAX: u64 = 1 << 36;

/// Where records go.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// The step that is written to.
    step: Option<(usize, Mapping)>,
    end: usize,
    /// How long it is when it says nothing twice.
    compact_bytes: usize,
    room: Vec<u8>,
}

/// A log that is being written anew while the old one goes on.
pub(super) struct Compaction {
    new: Log,
    /// What of the old one is in it.
    until: usize,
    old: File,
}

impl Log {
    /// Starts an empty log.
    pub(super) fn create(path: &Path) -> io::Result<Log> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Log { path: path.into(), file, step: None, end: 0, compact_bytes: 0, room: Vec::new() })
    }

    /// Opens a log and reads it.
    pub(super) fn open(path: &Path) -> Result<(Log, Image), LogError> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let (image, end) = read(&mut file)?;
        // What a killed process had begun to write behind the last record goes.
        let rest = vec![0; end.next_multiple_of(STEP_BYTES) - end];
        std::os::unix::fs::FileExt::write_all_at(&file, &rest, end as u64)?;
        let log = Log { path: path.into(), file, step: None, end, compact_bytes: end, room: Vec::new() };
        Ok((log, image))
    }

    /// Adds a record.
    ///
    /// Errors: `ENOSPC` and others of posix_fallocate(3); the log is as it was.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut room = std::mem::take(&mut self.room);
        room.clear();
        let encoded = encode_control(&mut room, record);
        let outcome = match encoded {
            Ok(()) if room.len() <= RECORD_BYTES_MAX => self.append_bytes(&room),
            Ok(()) | Err(_) => Err(io::ErrorKind::InvalidInput.into()),
        };
        self.room = room;
        outcome
    }

    /// Whether most of it says nothing any more.
    pub(super) fn wants_compaction(&self) -> bool {
        self.end > COMPACT_BYTES_MIN.max(self.compact_bytes.saturating_mul(GARBAGE_FACTOR))
    }

    /// Notes that it is being written anew, and says what [`Self::compact`] needs, which holds up nobody.
    pub(super) fn compaction_begins(&mut self) -> io::Result<(PathBuf, File, usize)> {
        self.compact_bytes = self.end;
        Ok((self.path.with_extension("new"), self.file.try_clone()?, self.end))
    }

    /// Writes a log anew as far as it goes at present.
    pub(super) fn compact((path, old, until): (PathBuf, File, usize)) -> Result<Compaction, LogError> {
        let mut image = Image::default();
        let mut bytes = read_part(&old, 0, until)?;
        bytes.resize(until.next_multiple_of(STEP_BYTES), 0);
        apply_all(&bytes, &mut image)?;
        drop(bytes);
        let mut new = Log::create(&path)?;
        for record in image.records() {
            new.append(&record)?;
        }
        Ok(Compaction { new, until, old })
    }

    /// Takes the new log in place of this one, with what was added meanwhile.
    pub(super) fn replace(&mut self, compaction: Compaction) -> Result<(), LogError> {
        let Compaction { mut new, until, old } = compaction;
        // The steps of the new log are others, so that its tail is written record by record.
        let start = until - until % STEP_BYTES;
        let mut tail = read_part(&old, start, self.end)?;
        tail.resize((self.end - start).next_multiple_of(STEP_BYTES), 0);
        frame::read_from(&tail, start, until, |record| new.append_bytes(record).ok())?;
        std::fs::rename(&new.path, &self.path)?;
        new.path = std::mem::take(&mut self.path);
        new.compact_bytes = new.end;
        *self = new;
        Ok(())
    }

    fn append_bytes(&mut self, record: &[u8]) -> io::Result<()> {
        let (at, skips) = frame::place(self.end, record.len());
        if skips && !self.end.is_multiple_of(STEP_BYTES) {
            let end = self.end % STEP_BYTES;
            let rest = &mut self.step(self.end / STEP_BYTES)?.bytes()[end..];
            if let Some(mark) = rest.first_chunk_mut::<4>() {
                *mark = SKIP.to_le_bytes();
            }
        }
        let step = self.step(at / STEP_BYTES)?;
        let within = at % STEP_BYTES;
        let place = &mut step.bytes()[within..within + HEAD_BYTES + record.len()];
        let (head, body) = place.split_at_mut(HEAD_BYTES);
        body.copy_from_slice(record);
        head[4..].copy_from_slice(&frame::checksum(at, record).to_le_bytes());
        // The length comes last: see `frame`.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        head[..4].copy_from_slice(&frame::length_word(record.len()).to_le_bytes());
        self.end = at + HEAD_BYTES + record.len();
        Ok(())
    }

    /// The step of this number, with room on the disk.
    fn step(&mut self, number: usize) -> io::Result<&mut Mapping> {
        let present = self.step.take().filter(|(present, _)| *present == number);
        let step = match present {
            Some((_, step)) => step,
            None => {
                allocate(&self.file, number * STEP_BYTES, STEP_BYTES)?;
                Mapping::new(&self.file, number * STEP_BYTES, STEP_BYTES)?
            }
        };
        Ok(&mut self.step.insert((number, step)).1)
    }
}

fn read(file: &mut File) -> Result<(Image, usize), LogError> {
    let length = file.metadata()?.len();
    if length > LOG_BYTES_MAX {
        return Err(LogError::TooLong);
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.read_to_end(&mut bytes)?;
    let mut image = Image::default();
    let end = apply_all(&bytes, &mut image)?;
    Ok((image, end))
}

fn read_part(file: &File, start: usize, end: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; end - start];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, start as u64)?;
    Ok(bytes)
}

fn apply_all(bytes: &[u8], image: &mut Image) -> Result<usize, frame::Damaged> {
    frame::read_all(bytes, |record| image.apply(decode_control(record).ok()?))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
