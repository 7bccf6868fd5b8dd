//! The nodes that one session knows: how many lookups it has been told of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Generation, Node, NodeId};
use parking_lot::Mutex;

use crate::node::IdHash;

/// Parts with a lock each, so that threads of one session seldom meet.
const SHARDS: usize = 8;

/// Of each node its generation and how many lookups were told.
type Counts = HashMap<NodeId, (Generation, u64), IdHash>;

/// Lookup counts of a session.
#[derive(Default)]
pub(crate) struct KnownNodes {
    shards: [Mutex<Counts>; SHARDS],
}

impl KnownNodes {
    /// Counts a lookup. Whether the node is new to the session.
    pub(crate) fn count(&self, node: Node) -> bool {
        match self.shard(node.id).entry(node.id) {
            Entry::Occupied(mut entry) if entry.get().0 == node.generation => {
                entry.get_mut().1 += 1;
                false
            }
            entry => {
                entry.insert_entry((node.generation, 1));
                true
            }
        }
    }

    /// Gives lookups back; more than were counted are as good as all. Whether that was the last of the node.
    pub(crate) fn forget(&self, node: Node, lookups: u64) -> bool {
        let mut shard = self.shard(node.id);
        let Entry::Occupied(mut entry) = shard.entry(node.id) else { return false };
        let (generation, count) = entry.get_mut();
        if *generation != node.generation {
            return false;
        }
        *count = count.saturating_sub(lookups);
        let last = *count == 0;
        if last {
            entry.remove();
        }
        last
    }

    /// Errors: `ESTALE` if the session does not know the node.
    pub(crate) fn check(&self, node: Node) -> Result<(), Errno> {
        match self.shard(node.id).get(&node.id) {
            Some((generation, _)) if *generation == node.generation => Ok(()),
            Some(_) | None => Err(Errno::ESTALE),
        }
    }

    /// Forgets all of a part after the other and returns what they were.
    pub(crate) fn drain(&self) -> impl Iterator<Item = Node> {
        self.shards.iter().flat_map(|shard| {
            let known = std::mem::take(&mut *shard.lock());
            known.into_iter().map(|(id, (generation, _))| Node { id, generation })
        })
    }

    /// How many nodes are known.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, id: NodeId) -> parking_lot::MutexGuard<'_, Counts> {
        let spread = id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        self.shards[spread as usize % SHARDS].lock()
    }
}
