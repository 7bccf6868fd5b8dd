//! Where symlinks lead.

use std::sync::Arc;

use bytes::Bytes;
use nearfs_protocol::id::Node;
use parking_lot::Mutex;

use super::count::{HitCount, HitCounter};
use super::epoch::{Epochs, FillToken, Part};
use super::weighted::WeightedLru;

/// Symlink targets by node. They need no time limit: a symlink is never changed, only replaced by
/// another node (symlink(7)).
pub struct TargetCache {
    epochs: Arc<Epochs>,
    targets: Mutex<WeightedLru<Node, Bytes>>,
    counter: HitCounter,
}

impl TargetCache {
    pub(super) fn new(epochs: Arc<Epochs>, bytes_max: u64) -> TargetCache {
        TargetCache {
            epochs,
            targets: Mutex::new(WeightedLru::new(bytes_max)),
            counter: HitCounter::default(),
        }
    }

    /// The target, if it is known.
    pub fn get(&self, node: Node) -> Option<Bytes> {
        let target = self.targets.lock().get(&node).cloned();
        self.counter.note(target.is_some());
        target
    }

    /// Keeps a fetched target.
    pub fn fill(&self, token: FillToken, node: Node, target: &[u8]) {
        let mut targets = self.targets.lock();
        if self.epochs.stands(token, node, Part::Target) {
            targets.put(node, Bytes::copy_from_slice(target), target.len(), |_, _| ());
        }
    }

    /// Hits and misses.
    pub fn count(&self) -> HitCount {
        self.counter.read()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.targets.lock().bytes()
    }

    pub(super) fn forget(&self, node: Node) {
        self.targets.lock().pop(&node);
    }
}
