//! Which nodes the kernel knows, and how many references the server has counted for us.
//!
//! The kernel names a node by one number; the number is the server's node id, except that the kernel
//! fixed 1 for the root. About 50 bytes a node, however many the kernel remembers.

use std::collections::HashMap;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Generation, Node, NodeId};
use parking_lot::Mutex;

/// The kernel's number of the root (`FUSE_ROOT_ID`).
pub(crate) const ROOT_INO: u64 = 1;
/// What stands for a node whose server id is the root's number.
const STAND_IN_FOR_ONE: u64 = u64::MAX;
const SHARD_COUNT: usize = 16;

/// The nodes that the kernel holds references to.
#[derive(Debug)]
pub(crate) struct Nodes {
    root: Node,
    shards: [Mutex<HashMap<u64, Known>>; SHARD_COUNT],
}

#[derive(Debug)]
struct Known {
    generation: Generation,
    /// Lookup count of the kernel.
    kernel: u64,
    /// Lookup count of the server.
    granted: u64,
    /// Answers that granted a reference and have not yet gone to the kernel, or never will.
    held: u32,
    /// With which content the kernel's pages agree.
    pages: Change,
    /// How often programs have it open as a file, so that they may look at its pages without opening it.
    open: u32,
}

impl Nodes {
    pub(crate) fn new(root: Node) -> Nodes {
        let nodes = Nodes { root, shards: Default::default() };
        nodes.grant(root);
        nodes.reference(root);
        nodes
    }

    /// The number by which the kernel knows a node.
    pub(crate) fn ino(&self, id: NodeId) -> u64 {
        match id.0 {
            _ if id == self.root.id => ROOT_INO,
            ROOT_INO => STAND_IN_FOR_ONE,
            number => number,
        }
    }

    /// The node behind a number of the kernel.
    pub(crate) fn node(&self, ino: u64) -> Result<Node, Errno> {
        let id = self.id(ino);
        let shard = self.shard(id).lock();
        let known = shard.get(&id.0).ok_or(Errno::ESTALE)?;
        Ok(Node { id, generation: known.generation })
    }

    /// The server counted one more reference of ours. Each call is followed by one of [`Nodes::reference`]
    /// or [`Nodes::unused`] for the same node.
    pub(crate) fn grant(&self, node: Node) {
        let mut shard = self.shard(node.id).lock();
        let known = shard.entry(node.id.0).or_insert(Known {
            generation: node.generation,
            kernel: 0,
            granted: 0,
            held: 0,
            pages: Change::UNSURE,
            open: 0,
        });
        if known.generation != node.generation {
            // Another file has the number. The kernel notices by the generation and gives the old one up.
            known.generation = node.generation;
            known.pages = Change::UNSURE;
        }
        known.granted += 1;
        known.held += 1;
    }

    /// The kernel is about to count one more reference to a granted node.
    pub(crate) fn reference(&self, node: Node) {
        if let Some(known) = self.shard(node.id).lock().get_mut(&node.id.0) {
            known.held = known.held.saturating_sub(1);
            known.kernel += 1;
        }
    }

    /// The kernel has not counted a reference after all: it is as if there had been only the grant.
    pub(crate) fn unreference(&self, node: Node) {
        if let Some(known) = self.shard(node.id).lock().get_mut(&node.id.0) {
            known.kernel = known.kernel.saturating_sub(1);
            known.held += 1;
        }
    }

    /// The kernel is about to count one more reference to a node that it knows. Whether it does know it.
    pub(crate) fn reference_again(&self, node: Node) -> bool {
        let mut shard = self.shard(node.id).lock();
        let known = shard.get_mut(&node.id.0).filter(|known| known.generation == node.generation);
        known.map(|known| known.kernel += 1).is_some()
    }

    /// Keeps a node that the kernel knows, as if the server had just granted it: followed by one of
    /// [`Nodes::reference`] or [`Nodes::unused`]. Whether the kernel does know it.
    pub(crate) fn hold_again(&self, node: Node) -> bool {
        let mut shard = self.shard(node.id).lock();
        let known = shard.get_mut(&node.id.0).filter(|known| known.generation == node.generation);
        known.map(|known| known.held += 1).is_some()
    }

    /// With which content the kernel's pages and our blocks agree.
    pub(crate) fn pages_change(&self, node: Node) -> Change {
        self.shard(node.id).lock().get(&node.id.0).map_or(Change::UNSURE, |known| known.pages)
    }

    /// The kernel gives references back. Returns what to give back to the server if none is left.
    pub(crate) fn forget(&self, ino: u64, count: u64) -> Option<(Node, u64)> {
        let id = self.id(ino);
        if ino == ROOT_INO {
            return None;
        }
        let mut shard = self.shard(id).lock();
        let known = shard.get_mut(&id.0)?;
        known.kernel = known.kernel.saturating_sub(count);
        take_if_unused(&mut shard, id)
    }

    /// Gives up a node that was granted but that the kernel was not told of, unless it knows it from elsewhere.
    pub(crate) fn unused(&self, node: Node) -> Option<(Node, u64)> {
        let mut shard = self.shard(node.id).lock();
        let known = shard.get_mut(&node.id.0)?;
        known.held = known.held.saturating_sub(1);
        take_if_unused(&mut shard, node.id)
    }

    /// The file is opened and now has this counter: whether the kernel's pages may stay. Followed by
    /// [`Nodes::closed`].
    pub(crate) fn opened(&self, node: Node, change: Change) -> bool {
        if let Some(known) = self.shard(node.id).lock().get_mut(&node.id.0) {
            known.open = known.open.saturating_add(1);
        }
        self.pages_opened(node, change)
    }

    /// A file that was opened is closed, and nothing is mapped through it any more.
    pub(crate) fn closed(&self, node: Node) {
        if let Some(known) = self.shard(node.id).lock().get_mut(&node.id.0) {
            known.open = known.open.saturating_sub(1);
        }
    }

    /// Whether somebody can look at the pages of a file without opening it first.
    pub(crate) fn is_open(&self, node: Node) -> bool {
        self.shard(node.id).lock().get(&node.id.0).is_some_and(|known| known.open > 0)
    }

    /// The file or directory is opened and now has this counter: whether the kernel's pages may stay.
    pub(crate) fn pages_opened(&self, node: Node, change: Change) -> bool {
        let mut shard = self.shard(node.id).lock();
        let Some(known) = shard.get_mut(&node.id.0) else { return false };
        let keep = known.pages.same_as(change);
        known.pages = change;
        keep
    }

    /// We ourselves changed the file from one counter to the other. Returns whether nobody else did in between.
    pub(crate) fn pages_rebased(&self, node: Node, before: Change, after: Change) -> bool {
        let mut shard = self.shard(node.id).lock();
        let Some(known) = shard.get_mut(&node.id.0) else { return true };
        let ours_alone = known.pages.same_as(before);
        known.pages = if ours_alone { after } else { Change::UNSURE };
        ours_alone
    }

    /// Attributes with this counter were seen. Returns whether the kernel's pages are of another content.
    pub(crate) fn pages_outdated(&self, node: Node, change: Change) -> bool {
        let mut shard = self.shard(node.id).lock();
        let Some(known) = shard.get_mut(&node.id.0) else { return false };
        if known.pages == Change::UNSURE || known.pages.same_as(change) {
            return false;
        }
        known.pages = Change::UNSURE;
        true
    }

    /// How many nodes the kernel knows.
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn id(&self, ino: u64) -> NodeId {
        match ino {
            ROOT_INO => self.root.id,
            STAND_IN_FOR_ONE => NodeId(ROOT_INO),
            number => NodeId(number),
        }
    }

    fn shard(&self, id: NodeId) -> &Mutex<HashMap<u64, Known>> {
        &self.shards[(id.0 ^ id.0 >> 8) as usize % SHARD_COUNT]
    }
}

fn take_if_unused(shard: &mut HashMap<u64, Known>, id: NodeId) -> Option<(Node, u64)> {
    let known = shard.get(&id.0)?;
    if known.kernel > 0 || known.held > 0 {
        return None;
    }
    let known = shard.remove(&id.0)?;
    // A table that was large once shall not stay so.
    if shard.len() * 4 < shard.capacity() && shard.capacity() > 4096 {
        shard.shrink_to(shard.len() * 2);
    }
    Some((Node { id, generation: known.generation }, known.granted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, generation: u64) -> Node {
        Node { id: NodeId(id), generation: Generation(generation) }
    }

    #[test]
    fn what_the_server_granted_is_given_back_with_the_last_reference() {
        let nodes = Nodes::new(node(2, 0));
        for _ in 0..3 {
            nodes.grant(node(7, 1));
            nodes.reference(node(7, 1));
        }
        nodes.grant(node(7, 1)); // An answer that the kernel never gets.
        assert_eq!(nodes.forget(7, 2), None);
        assert_eq!(nodes.forget(7, 1), None);
        assert_eq!(nodes.unused(node(7, 1)), Some((node(7, 1), 4)));
        assert_eq!(nodes.node(7), Err(Errno::ESTALE));
    }

    #[test]
    fn what_the_kernel_knows_is_held_again_without_a_grant() {
        let nodes = Nodes::new(node(2, 0));
        assert!(!nodes.hold_again(node(7, 1)));
        nodes.grant(node(7, 1));
        nodes.reference(node(7, 1));
        assert!(!nodes.hold_again(node(7, 2)));
        assert!(nodes.hold_again(node(7, 1)));
        assert_eq!(nodes.forget(7, 1), None);
        nodes.reference(node(7, 1));
        assert!(nodes.hold_again(node(7, 1)));
        assert_eq!(nodes.forget(7, 1), None);
        assert_eq!(nodes.unused(node(7, 1)), Some((node(7, 1), 1)));
    }

    #[test]
    fn the_root_is_one_and_never_forgotten() {
        let nodes = Nodes::new(node(2, 0));
        assert_eq!(nodes.ino(NodeId(2)), ROOT_INO);
        assert_eq!(nodes.forget(ROOT_INO, 99), None);
        assert_eq!(nodes.node(ROOT_INO), Ok(node(2, 0)));
        nodes.grant(node(1, 5));
        nodes.reference(node(1, 5));
        assert_eq!(nodes.node(nodes.ino(NodeId(1))), Ok(node(1, 5)));
        assert_ne!(nodes.ino(NodeId(1)), ROOT_INO);
    }

    #[test]
    fn pages_are_kept_only_over_what_we_did_ourselves() {
        let nodes = Nodes::new(node(2, 0));
        nodes.grant(node(7, 1));
        nodes.reference(node(7, 1));
        assert!(!nodes.pages_opened(node(7, 1), Change(10)));
        assert!(nodes.pages_opened(node(7, 1), Change(10)));
        assert!(nodes.pages_rebased(node(7, 1), Change(10), Change(11)));
        assert!(nodes.pages_opened(node(7, 1), Change(11)));
        assert!(nodes.pages_outdated(node(7, 1), Change(12)));
        assert!(!nodes.pages_opened(node(7, 1), Change(12)));
        assert!(!nodes.pages_rebased(node(7, 1), Change(13), Change(14)));
        assert!(!nodes.pages_opened(node(7, 1), Change(14)));
        assert!(!nodes.pages_opened(node(7, 1), Change::UNSURE));
        assert!(!nodes.pages_opened(node(7, 1), Change::UNSURE));
    }
}
