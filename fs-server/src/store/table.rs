//! The slots of a session in a file that is in memory as a whole; only what is used takes room.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nearfs_protocol::id::{BootId, RequestId};
use nearfs_protocol::limits::REQUESTS_IN_FLIGHT_MAX;
use nearfs_protocol::message::Answer;

use super::intent::Intent;
use super::mapping::{Mapping, allocate};
use super::slot::{self, DamagedSlot, Kept, SLOT_BYTES, SlotBytes};

/// Slots that get their room on the disk together.
const STEP_SLOTS: usize = 16;
/// The boot id and its checksum, before the slots.
const HEAD_BYTES: usize = 64;
const TABLE_BYTES: usize = HEAD_BYTES + REQUESTS_IN_FLIGHT_MAX * SLOT_BYTES;

/// What is no table of slots.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(#[from] DamagedSlot),
    #[error("its length is wrong")]
    Length,
    #[error("its head is damaged")]
    Head,
}

/// Where something of a mutation is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// In its slot.
    Here,
    /// Nowhere yet: there is no room for it here.
    Aside,
    /// Nowhere: its slot is at something else.
    Nowhere,
}

/// The slots of a session.
pub(super) struct Table {
    file: File,
    mapping: Mapping,
    /// Slots that have room.
    slots: usize,
    /// Those of which something stands elsewhere.
    aside: HashSet<usize>,
    room: Vec<u8>,
}

impl Table {
    /// Starts a table for this start of the operating system.
    pub(super) fn create(path: &Path, boot: BootId) -> io::Result<Table> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all_at(&head(boot), 0)?;
        file.set_len(TABLE_BYTES as u64)?;
        Table::over(file, 0)
    }

    /// Notes for which slots something stands elsewhere.
    pub(super) fn set_aside(&mut self, slots: impl IntoIterator<Item = usize>) {
        self.aside.extend(slots);
    }

    /// Whether something of this slot stood elsewhere, which does not count any more.
    pub(super) fn take_back(&mut self, id: RequestId) -> bool {
        !self.aside.is_empty() && self.aside.remove(&id.slot())
    }

    /// Opens a table and reads what it keeps; `None` if it is of another start of the operating system, which may have
    /// lost what was done since.
    pub(super) fn open(path: &Path, boot: BootId) -> Result<(Table, Option<Vec<Kept>>), TableError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() != TABLE_BYTES as u64 {
            return Err(TableError::Length);
        }
        let mut bytes = vec![0; TABLE_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let (present, slots) = bytes.split_at(HEAD_BYTES);
        if boot_of(present).ok_or(TableError::Head)? != boot {
            drop(file);
            return Ok((Table::create(path, boot)?, None));
        }
        let (slots, _) = slots.as_chunks::<SLOT_BYTES>();
        let mut kept = Vec::new();
        for (number, bytes) in slots.iter().enumerate() {
            match slot::read(bytes)? {
                Some(of_slot) if of_slot.id.slot() == number => kept.push(of_slot),
                Some(_) => return Err(DamagedSlot.into()),
                None => {}
            }
        }
        let used = kept.iter().map(|kept| kept.id.slot() + 1).max().unwrap_or(0);
        Ok((Table::over(file, used)?, Some(kept)))
    }

    fn over(file: File, used: usize) -> io::Result<Table> {
        let mapping = Mapping::new(&file, 0, TABLE_BYTES)?;
        let mut table = Table { file, mapping, slots: 0, aside: HashSet::new(), room: Vec::new() };
        table.make_room(used.max(1))?;
        Ok(table)
    }

    /// See [`slot::begin`]. Errors: `ENOSPC` and others of posix_fallocate(3).
    pub(super) fn begin(&mut self, id: RequestId, fingerprint: u64) -> io::Result<()> {
        if id.slot() >= self.slots {
            self.make_room(id.slot() + 1)?;
        }
        if let Some(slot) = self.slot(id) {
            slot::begin(slot, id, fingerprint);
        }
        Ok(())
    }

    /// Notes an intent of a mutation that has begun.
    pub(super) fn intend(&mut self, id: RequestId, intent: &Intent) -> Noted {
        self.note(id, |slot, room| slot::intend(slot, intent, room))
    }

    /// Whether this mutation has begun and is not done.
    pub(super) fn is_underway(&mut self, id: RequestId) -> bool {
        self.slot(id).is_some_and(|slot| slot::underway(slot) == Some(id))
    }

    /// Notes the answer of a mutation that has begun.
    pub(super) fn finish(&mut self, id: RequestId, answer: &Answer) -> Noted {
        self.note(id, |slot, room| slot::finish(slot, answer, room))
    }

    fn note(&mut self, id: RequestId, note: impl FnOnce(&mut SlotBytes, &mut Vec<u8>) -> bool) -> Noted {
        let mut room = std::mem::take(&mut self.room);
        let slot = self.slot(id).filter(|slot| slot::underway(slot) == Some(id));
        let noted = match slot.map(|slot| note(slot, &mut room)) {
            Some(true) => Noted::Here,
            Some(false) => Noted::Aside,
            None => Noted::Nowhere,
        };
        self.room = room;
        noted
    }

    fn slot(&mut self, id: RequestId) -> Option<&mut SlotBytes> {
        if id.slot() >= self.slots {
            return None;
        }
        self.mapping.bytes()[HEAD_BYTES..].as_chunks_mut::<SLOT_BYTES>().0.get_mut(id.slot())
    }

    fn make_room(&mut self, slots: usize) -> io::Result<()> {
        let slots = slots.next_multiple_of(STEP_SLOTS).min(REQUESTS_IN_FLIGHT_MAX);
        allocate(&self.file, 0, HEAD_BYTES + slots * SLOT_BYTES)?;
        self.slots = slots;
        Ok(())
    }
}

fn head(boot: BootId) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..16].copy_from_slice(&boot.0);
    head[16..20].copy_from_slice(&crc32fast::hash(&boot.0).to_le_bytes());
    head
}

fn boot_of(bytes: &[u8]) -> Option<BootId> {
    let boot = BootId(*bytes.first_chunk()?);
    (bytes == head(boot)).then_some(boot)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
