//! The nodes that sessions know of an export, and how each is found again. Opens nothing itself.
//!
//! An entry costs about 100 bytes and its name. A descriptor is held only for those used last; the others are found
//! by their file handle, or by their parent and name. Whoever finds one checks that it is the same node.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use lru::LruCache;
use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::name::Name;
use parking_lot::Mutex;

use crate::descriptor::{Descriptors, Slot};
use crate::export::FileHandle;

/// Parts with a lock each, so that threads seldom meet.
const SHARDS: usize = 32;
/// Nodes that are let go at once when files need descriptors.
const SHED: usize = 64;

/// The nodes of an export.
pub(crate) struct Nodes {
    shards: [Mutex<Shard>; SHARDS],
    descriptors: Descriptors,
}

#[derive(Default)]
struct Shard {
    known: HashMap<Node, Known, IdHash>,
    held: Option<LruCache<Node, Arc<Held>, IdHash>>,
}

/// What is kept of a node.
struct Known {
    place: Place,
    handle: Option<Box<FileHandle>>,
    /// How many sessions know it.
    sessions: u32,
    kind: FileKind,
}

/// Where a node was found last.
#[derive(Clone)]
pub(crate) enum Place {
    /// In a directory.
    Named(Node, Name),
    /// It is the root of a session, which holds it.
    Root(Arc<Held>),
    /// Nowhere: it has no name.
    Nameless,
}

/// A node's descriptor, for looking.
pub(crate) struct Held {
    fd: OwnedFd,
    _slot: Option<Slot>,
}

/// How to get at a node that the table knows.
pub(crate) enum Way {
    /// Its descriptor is there.
    Held(Arc<Held>),
    /// It has to be found.
    Find(Place, Option<Box<FileHandle>>),
}

/// A node whose descriptor was let go: it may be remembered by its handle.
pub(crate) type LetGo = (Node, Arc<Held>);

impl Held {
    /// A descriptor that is not counted: there is one for each session at most.
    pub(crate) fn uncounted(fd: OwnedFd) -> Held {
        Held { fd, _slot: None }
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Nodes {
    /// None yet.
    pub(crate) fn new(descriptors: Descriptors) -> Nodes {
        Nodes { shards: std::array::from_fn(|_| Mutex::default()), descriptors }
    }

    /// Takes up a node that was found at a place; `is_new` if the session that found it did not know it. Whether it was
    /// found elsewhere before.
    pub(crate) fn found(&self, node: Node, kind: FileKind, place: &Place, is_new: bool) -> bool {
        let mut shard = self.shard(node);
        let known = shard.known.entry(node);
        let known =
            known.or_insert_with(|| Known { place: Place::Nameless, handle: None, sessions: 0, kind });
        known.sessions += u32::from(is_new);
        known.move_to(place)
    }

    /// A session knows the node no more.
    pub(crate) fn forget(&self, node: Node) {
        let mut shard = self.shard(node);
        let Entry::Occupied(mut entry) = shard.known.entry(node) else { return };
        let known = entry.get_mut();
        known.sessions -= 1;
        if known.sessions > 0 {
            return;
        }
        let known = entry.remove();
        let held = shard.held.as_mut().and_then(|held| held.pop(&node));
        // The last descriptor of a deleted file may take long to close, which is not to hold up others.
        drop(shard);
        drop((known, held));
    }

    /// The node has another name, or another of its names is the better one to find it by. What it is, if anybody knows
    /// it and that is news.
    pub(crate) fn moved(&self, node: Node, place: &Place) -> Option<FileKind> {
        let mut shard = self.shard(node);
        let known = shard.known.get_mut(&node)?;
        known.move_to(place).then_some(known.kind)
    }

    /// How to get at a node.
    ///
    /// Errors: `ESTALE` if nobody knows it.
    pub(crate) fn way(&self, node: Node) -> Result<Way, Errno> {
        let mut shard = self.shard(node);
        let shard = &mut *shard;
        let known = shard.known.get(&node).ok_or(Errno::ESTALE)?;
        if let Place::Root(held) = &known.place {
            return Ok(Way::Held(held.clone()));
        }
        if let Some(held) = shard.held.as_mut().and_then(|held| held.get(&node)) {
            return Ok(Way::Held(held.clone()));
        }
        Ok(Way::Find(known.place.clone(), known.handle.clone()))
    }

    /// What a node is and where it was found last.
    ///
    /// Errors: `ESTALE` if nobody knows it.
    pub(crate) fn place(&self, node: Node) -> Result<(FileKind, Place), Errno> {
        let shard = self.shard(node);
        let known = shard.known.get(&node).ok_or(Errno::ESTALE)?;
        Ok((known.kind, known.place.clone()))
    }

    /// Keeps a known node's descriptor for a while. Returns it to be used, and what was let go for it, which is the same
    /// if there is no room.
    pub(crate) fn hold(&self, node: Node, fd: OwnedFd) -> (Arc<Held>, Option<LetGo>) {
        let mut slot = self.descriptors.for_node();
        let mut let_go = None;
        let mut shard = self.shard(node);
        if slot.is_none() {
            let_go = shard.let_oldest_go();
            // That one gives its slot back as soon as its last user is done with it.
            slot = let_go.as_ref().and_then(|_| self.descriptors.for_replacement());
        }
        let is_counted = slot.is_some();
        let held = Arc::new(Held { fd, _slot: slot });
        if !is_counted {
            return (held.clone(), Some((node, held)));
        }
        if shard.known.contains_key(&node) {
            shard.held_mut().put(node, held.clone());
        }
        (held, let_go)
    }

    /// Remembers the handle of a node whose descriptor was let go.
    pub(crate) fn remember(&self, node: Node, handle: FileHandle) {
        if let Some(known) = self.shard(node).known.get_mut(&node) {
            known.handle.get_or_insert_with(|| Box::new(handle));
        }
    }

    /// Lets some nodes' descriptors go, because files need them.
    pub(crate) fn shed(&self) -> Vec<LetGo> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| {
                let mut shard = shard.lock();
                std::iter::from_fn(|| shard.let_oldest_go()).take(SHED.div_ceil(SHARDS)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// How many nodes are known.
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().known.len()).sum()
    }

    fn shard(&self, node: Node) -> parking_lot::MutexGuard<'_, Shard> {
        let spread = node.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.shards[spread as usize % SHARDS].lock()
    }
}

impl Known {
    /// A root stays one: its session holds it whatever it is called. Whether the place is another.
    fn move_to(&mut self, place: &Place) -> bool {
        let moves = match (&self.place, place) {
            (Place::Root(_), _) | (_, Place::Nameless) => false,
            (Place::Named(parent, name), Place::Named(new_parent, new_name)) => {
                (parent, name) != (new_parent, new_name)
            }
            (Place::Named(..) | Place::Nameless, Place::Root(_)) | (Place::Nameless, Place::Named(..)) => {
                true
            }
        };
        if moves {
            self.place = place.clone();
        }
        moves
    }
}

impl Shard {
    fn held_mut(&mut self) -> &mut LruCache<Node, Arc<Held>, IdHash> {
        self.held.get_or_insert_with(|| LruCache::unbounded_with_hasher(IdHash::default()))
    }

    fn let_oldest_go(&mut self) -> Option<LetGo> {
        self.held.as_mut()?.pop_lru()
    }
}

/// Node ids are spread well enough by one multiplication; they come from the own disk, not from a peer.
pub(crate) type IdHash = BuildHasherDefault<IdHasher>;

/// See [`IdHash`].
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_nodes_are_cheap() {
        assert!(size_of::<(Node, Known)>() <= 72);
    }
}
