//! Which answers still under way may be cached when they arrive.
//!
//! An answer was true at some moment between its question and its arrival. If something changed in that
//! time, nobody can tell on which side of the change the answer lies, so it is passed on but not kept.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

use lru::DefaultHasher;
use nearfs_protocol::id::Node;
use nearfs_protocol::name::Name;

/// Slots in which changes are remembered. Nodes share slots, so that memory is bounded: a shared slot
/// costs an answer that could have been kept, never keeps one that should not.
const SLOTS: usize = 8192;

/// What of a node changes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part<'a> {
    /// Its attributes.
    Attr,
    /// A file's content.
    Content,
    /// One name in a directory, present or absent.
    Name(&'a Name),
    /// Which names there are in a directory.
    Names,
    /// A symlink's target.
    Target,
    /// Its extended attributes.
    Xattr,
}

/// The moment before a question was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillToken(u64);

/// When each node, and each part of it, was last known to change.
#[derive(Debug)]
pub struct Epochs {
    clock: AtomicU64,
    everything: AtomicU64,
    slots: Box<[AtomicU64]>,
    hasher: DefaultHasher,
}

impl Epochs {
    /// Nothing has changed yet.
    pub fn new() -> Epochs {
        Epochs {
            clock: AtomicU64::new(0),
            everything: AtomicU64::new(0),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: DefaultHasher::default(),
        }
    }

    /// To be taken before the question is sent. It serves for every node that the answer names.
    pub fn begin(&self) -> FillToken {
        FillToken(self.clock.load(Ordering::SeqCst))
    }

    /// Whether an answer about this part may be kept. A cache asks under its own lock, and takes the same
    /// lock to drop things after [`Epochs::bump`]: so either the answer is refused or it is dropped.
    pub fn stands(&self, token: FillToken, node: Node, part: Part<'_>) -> bool {
        let changed = |slot: &AtomicU64| slot.load(Ordering::SeqCst) > token.0;
        !changed(&self.everything) && !changed(self.node_slot(node)) && !changed(self.part_slot(node, part))
    }

    /// Notes a change of a node as a whole.
    pub fn bump(&self, node: Node) {
        self.note(self.node_slot(node));
    }

    /// Notes a change of one part of a node.
    pub fn bump_part(&self, node: Node, part: Part<'_>) {
        self.note(self.part_slot(node, part));
    }

    /// Notes that anything may have changed.
    pub fn bump_everything(&self) {
        self.note(&self.everything);
    }

    fn note(&self, slot: &AtomicU64) {
        let now = self.clock.fetch_add(1, Ordering::SeqCst) + 1;
        slot.fetch_max(now, Ordering::SeqCst);
    }

    fn node_slot(&self, node: Node) -> &AtomicU64 {
        self.slot(self.hasher.hash_one(node))
    }

    fn part_slot(&self, node: Node, part: Part<'_>) -> &AtomicU64 {
        self.slot(self.hasher.hash_one((node, part)))
    }

    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.slots[(hash % SLOTS as u64) as usize]
    }
}

impl Default for Epochs {
    fn default() -> Epochs {
        Epochs::new()
    }
}

#[cfg(test)]
mod tests {
    use nearfs_protocol::id::{Generation, NodeId};

    use super::*;

    fn node(id: u64) -> Node {
        Node { id: NodeId(id), generation: Generation(0) }
    }

    #[test]
    fn a_change_after_the_question_refuses_the_answer() {
        let epochs = Epochs::new();
        let before = epochs.begin();
        assert!(epochs.stands(before, node(1), Part::Attr));
        epochs.bump(node(1));
        assert!(!epochs.stands(before, node(1), Part::Attr));
        assert!(!epochs.stands(before, node(1), Part::Content));
        assert!(epochs.stands(epochs.begin(), node(1), Part::Attr));
    }

    #[test]
    fn a_change_of_one_part_leaves_the_others() {
        let (a, b) = (Name::new(b"a").unwrap(), Name::new(b"b").unwrap());
        // Slots are shared by chance; that all of these share one would need luck of 1 in 8192 each time.
        let clean = (0..3).any(|_| {
            let epochs = Epochs::new();
            let before = epochs.begin();
            epochs.bump_part(node(1), Part::Name(&a));
            assert!(!epochs.stands(before, node(1), Part::Name(&a)));
            epochs.stands(before, node(1), Part::Name(&b)) && epochs.stands(before, node(2), Part::Name(&a))
        });
        assert!(clean);
    }

    #[test]
    fn everything_is_every_node() {
        let epochs = Epochs::new();
        let before = epochs.begin();
        epochs.bump_everything();
        assert!((0..100).all(|id| !epochs.stands(before, node(id), Part::Xattr)));
    }
}
