//! The nodes that one session knows: how many lookups it has been told of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use parking_lot::{Mutex, MutexGuard};

use crate::node::IdHash;

/// Parts with a lock each, so that threads of one session seldom meet.
const SHARDS: usize = 8;

/// How many lookups were told of each node.
type Counts = HashMap<Node, u64, IdHash>;

/// Lookup counts of a session.
#[derive(Default)]
pub(crate) struct KnownNodes {
    shards: [Mutex<Counts>; SHARDS],
}

impl KnownNodes {
    /// Counts a lookup and calls `found` with whether the node is new to the session, before anybody can forget it.
    pub(crate) fn count(&self, node: Node, found: impl FnOnce(bool)) {
        let mut shard = self.shard(node);
        let count = shard.entry(node).or_default();
        *count += 1;
        found(*count == 1);
    }

    /// Takes up a node that the session knew before the server was started again.
    pub(crate) fn restore(&self, node: Node, lookups: u64) {
        self.shard(node).insert(node, lookups);
    }

    /// Gives lookups back; more than were counted are as good as all. Calls `left` with how many are left, before anybody
    /// can count the node again.
    pub(crate) fn forget(&self, node: Node, lookups: u64, left: impl FnOnce(u64)) {
        let mut shard = self.shard(node);
        let Entry::Occupied(mut entry) = shard.entry(node) else { return };
        let count = entry.get_mut();
        *count = count.saturating_sub(lookups);
        let count = *count;
        if count == 0 {
            entry.remove();
        }
        left(count);
    }

    /// Errors: `ESTALE` if the session does not know the node.
    pub(crate) fn check(&self, node: Node) -> Result<(), Errno> {
        if self.shard(node).contains_key(&node) { Ok(()) } else { Err(Errno::ESTALE) }
    }

    /// Forgets all and calls `gone` with each.
    pub(crate) fn clear(&self, mut gone: impl FnMut(Node)) {
        for shard in &self.shards {
            shard.lock().drain().for_each(|(node, _)| gone(node));
        }
    }

    /// How many nodes are known.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, node: Node) -> MutexGuard<'_, Counts> {
        let spread = node.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        self.shards[spread as usize % SHARDS].lock()
    }
}
