//! What is kept of the latest mutation in each slot of a session, as bytes.
//!
//! A slot goes from [`Stage::Begun`] over [`Stage::Intended`], if it could be applied twice, to [`Stage::Done`]. The word
//! that says how far it is is written last, so that a process that is killed leaves one of them. Each part has its own
//! checksum, since the later ones are written while the earlier ones still count.

use nearfs_protocol::codec::{decode_control, encode_control};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::Answer;
use serde::{Deserialize, Serialize};

use super::intent::Intent;

/// Bytes of a slot: stage, checksums, lengths, request, fingerprint; intent; answer.
pub(super) const SLOT_BYTES: usize = 1280;
const INTENT_AT: usize = 64;
const ANSWER_AT: usize = 704;
const INTENT_BYTES_MAX: usize = ANSWER_AT - INTENT_AT;
const ANSWER_BYTES_MAX: usize = SLOT_BYTES - ANSWER_AT;

const STAGE_AT: usize = 0;
const BEGUN_SUM_AT: usize = 4;
const INTENT_SUM_AT: usize = 8;
const ANSWER_SUM_AT: usize = 12;
const INTENT_LENGTH_AT: usize = 16;
const ANSWER_LENGTH_AT: usize = 20;
const REQUEST_AT: usize = 24;
const FINGERPRINT_AT: usize = 32;

/// One slot.
pub(super) type SlotBytes = [u8; SLOT_BYTES];

/// How far a slot is. No two of these words differ in a few bits only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Stage {
    /// Nothing yet, or just being written.
    Empty = 0,
    Begun = 0x5b1c_93e7,
    Intended = 0xa6d7_2c3a,
    Done = 0xc938_e59d,
}

/// What a slot says of its latest mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: RequestId,
    /// Of its control part.
    pub(crate) fingerprint: u64,
    pub(crate) outcome: Outcome,
}

/// How far it had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It may run again.
    Begun,
    /// It may have been carried out.
    Intended(Intent),
    /// It was answered.
    Done(Answer),
}

/// A slot that nobody wrote like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a slot is damaged")]
pub(crate) struct DamagedSlot;

/// A mutation is going to be carried out; what the slot had before may be forgotten.
pub(super) fn begin(slot: &mut SlotBytes, id: RequestId, fingerprint: u64) {
    set_stage(slot, Stage::Empty);
    put_u64(slot, REQUEST_AT, id.0);
    put_u64(slot, FINGERPRINT_AT, fingerprint);
    let sum = crc32fast::hash(&slot[REQUEST_AT..INTENT_AT]);
    put_u32(slot, BEGUN_SUM_AT, sum);
    set_stage(slot, Stage::Begun);
}

/// Which mutation the slot is at, if it is not done.
pub(super) fn underway(slot: &SlotBytes) -> Option<RequestId> {
    match stage(slot) {
        Some(Stage::Begun | Stage::Intended) => Some(RequestId(get_u64(slot, REQUEST_AT))),
        Some(Stage::Empty | Stage::Done) | None => None,
    }
}

/// What it takes to see later whether it was carried out. `false` if there is no room for that here.
pub(super) fn intend(slot: &mut SlotBytes, intent: &Intent, room: &mut Vec<u8>) -> bool {
    room.clear();
    // Until the new one is whole an earlier one, of the same request, does not count either.
    set_stage(slot, Stage::Begun);
    if encode_control(room, intent).is_err() || room.len() > INTENT_BYTES_MAX {
        return false;
    }
    slot[INTENT_AT..INTENT_AT + room.len()].copy_from_slice(room);
    put_u32(slot, INTENT_LENGTH_AT, room.len() as u32);
    let sum = part_sum(slot, INTENT_LENGTH_AT, INTENT_AT, room.len());
    put_u32(slot, INTENT_SUM_AT, sum);
    set_stage(slot, Stage::Intended);
    true
}

/// The answer. `false` if there is no room for it here.
pub(super) fn finish(slot: &mut SlotBytes, answer: &Answer, room: &mut Vec<u8>) -> bool {
    room.clear();
    if encode_control(room, answer).is_err() || room.len() > ANSWER_BYTES_MAX {
        return false;
    }
    slot[ANSWER_AT..ANSWER_AT + room.len()].copy_from_slice(room);
    put_u32(slot, ANSWER_LENGTH_AT, room.len() as u32);
    let sum = part_sum(slot, ANSWER_LENGTH_AT, ANSWER_AT, room.len());
    put_u32(slot, ANSWER_SUM_AT, sum);
    set_stage(slot, Stage::Done);
    true
}

/// What a slot says; `None` if it was never used.
pub(super) fn read(slot: &SlotBytes) -> Result<Option<Kept>, DamagedSlot> {
    let stage = stage(slot).ok_or(DamagedSlot)?;
    if stage == Stage::Empty {
        return Ok(None);
    }
    if get_u32(slot, BEGUN_SUM_AT) != crc32fast::hash(&slot[REQUEST_AT..INTENT_AT]) {
        return Err(DamagedSlot);
    }
    let outcome = match stage {
        Stage::Empty | Stage::Begun => Outcome::Begun,
        Stage::Intended => {
            let bytes = part(slot, (INTENT_LENGTH_AT, INTENT_SUM_AT), INTENT_AT, INTENT_BYTES_MAX)?;
            Outcome::Intended(decode_control(bytes).map_err(|_| DamagedSlot)?)
        }
        Stage::Done => {
            let bytes = part(slot, (ANSWER_LENGTH_AT, ANSWER_SUM_AT), ANSWER_AT, ANSWER_BYTES_MAX)?;
            Outcome::Done(decode_control(bytes).map_err(|_| DamagedSlot)?)
        }
    };
    let id = RequestId(get_u64(slot, REQUEST_AT));
    Ok(Some(Kept { id, fingerprint: get_u64(slot, FINGERPRINT_AT), outcome }))
}

fn part(
    slot: &SlotBytes,
    (length_at, sum_at): (usize, usize),
    at: usize,
    max: usize,
) -> Result<&[u8], DamagedSlot> {
    let length = get_u32(slot, length_at) as usize;
    if length > max || part_sum(slot, length_at, at, length) != get_u32(slot, sum_at) {
        return Err(DamagedSlot);
    }
    Ok(&slot[at..at + length])
}

/// Covers the request as well, so that no part of another one counts.
fn part_sum(slot: &SlotBytes, length_at: usize, at: usize, length: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&slot[REQUEST_AT..INTENT_AT]);
    hasher.update(&slot[length_at..length_at + 4]);
    hasher.update(&slot[at..at + length]);
    hasher.finalize()
}

fn stage(slot: &SlotBytes) -> Option<Stage> {
    let word = get_u32(slot, STAGE_AT);
    [Stage::Empty, Stage::Begun, Stage::Intended, Stage::Done].into_iter().find(|stage| *stage as u32 == word)
}

fn set_stage(slot: &mut SlotBytes, stage: Stage) {
    // Neither the compiler nor the processor moves the word before what it speaks of, or behind what comes after it.
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    put_u32(slot, STAGE_AT, stage as u32);
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

fn put_u32(slot: &mut SlotBytes, at: usize, number: u32) {
    slot[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn put_u64(slot: &mut SlotBytes, at: usize, number: u64) {
    slot[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

fn get_u32(slot: &SlotBytes, at: usize) -> u32 {
    slot[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn get_u64(slot: &SlotBytes, at: usize) -> u64 {
    slot[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
