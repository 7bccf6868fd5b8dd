//! What a killed server leaves: the effects of what it did, and what it noted to see afterwards which those were.

use std::collections::BTreeMap;

use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::Answer;
use nearfs_protocol::session::server::Remembered;

use crate::server::answer_to;
use crate::world::{Breakage, Operation};

#[derive(Default)]
pub(crate) struct Disk {
    /// How often each operation took effect.
    pub(crate) effects: BTreeMap<Operation, u32>,
    /// The last mutation of each slot.
    slots: BTreeMap<usize, Kept>,
}

struct Kept {
    id: RequestId,
    fingerprint: u64,
    operation: Operation,
    /// Before the mutation was begun.
    effects: u32,
    answer: Option<Answer>,
}

impl Disk {
    pub(crate) fn count(&self, operation: Operation) -> u32 {
        self.effects.get(&operation).copied().unwrap_or_default()
    }

    /// A mutation is going to be carried out.
    pub(crate) fn intend(&mut self, id: RequestId, fingerprint: u64, operation: Operation) {
        let effects = self.count(operation);
        self.slots.insert(id.slot(), Kept { id, fingerprint, operation, effects, answer: None });
    }

    /// It was, and is about to be answered.
    pub(crate) fn finish(&mut self, id: RequestId, answer: &Answer) {
        if let Some(kept) = self.slots.get_mut(&id.slot()).filter(|kept| kept.id == id) {
            kept.answer = Some(answer.clone());
        }
    }

    /// Another session begins.
    pub(crate) fn forget_slots(&mut self) {
        self.slots.clear();
    }

    /// What the next life of the server knows of the mutations of this one. Of those that were begun and not answered
    /// the effect tells whether they were carried out.
    pub(crate) fn remembered(&self, breakage: Breakage) -> Vec<Remembered> {
        let known = |kept: &Kept| match (&kept.answer, breakage) {
            (_, Breakage::ForgetsTheTable) | (None, Breakage::ForgetsIntents) => None,
            (Some(answer), _) => Some(answer.clone()),
            (None, Breakage::BelievesIntents) => Some(answer_to(kept.operation)),
            (None, _) => (self.count(kept.operation) > kept.effects).then(|| answer_to(kept.operation)),
        };
        let remembered = |kept: &Kept| {
            Some(Remembered { id: kept.id, fingerprint: kept.fingerprint, answer: known(kept)? })
        };
        self.slots.values().filter_map(remembered).collect()
    }
}
