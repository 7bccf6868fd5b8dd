//! Sessions whose lease has run out: each lock of theirs goes to the first who asks for it.
//!
//! Whoever loses a lock must not go on as if he had it. So before a lock changes hands, all files of that node that
//! the session has open are shut, and with them the session loses all its locks of the node. What nobody asks for
//! it finds again when it is back.

use std::collections::{BTreeSet, HashSet};

use nearfs_protocol::attr::{Lock, LockStyle};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{NodeId, SessionId};

use super::{Decided, LockTable, Owner};

/// The open files of a session, as far as locks need them.
pub(crate) trait Fence: Send {
    /// Shuts all files of a node that the session has open: nothing is done through them any more. `false` if something
    /// is being done through one of them, which may take as long as the disk does: then none is shut.
    fn shut(&self, node: NodeId) -> bool;
}

/// What is known of a session whose lease has run out.
pub(super) struct Lapsed {
    fence: Box<dyn Fence>,
    /// Nodes of which others have taken its locks.
    lost: HashSet<NodeId>,
}

impl LockTable {
    /// The lease of a session has run out. Returns the waits that this ends.
    pub(crate) fn lapse(&mut self, session: SessionId, fence: Box<dyn Fence>) -> Vec<Decided> {
        self.lapsed.insert(session, Lapsed { fence, lost: HashSet::new() });
        self.settle()
    }

    /// The client of a session is back. Returns the waits that this ends: those through files that are shut fail.
    pub(crate) fn revive(&mut self, session: SessionId) -> Vec<Decided> {
        let Some(Lapsed { lost, .. }) = self.lapsed.remove(&session) else { return Vec::new() };
        let mut decided =
            self.end_waits(Errno::EIO, |wait| wait.id.0 == session && lost.contains(&wait.node));
        decided.extend(self.settle());
        decided
    }

    /// Tries again what could not be taken from lapsed sessions because their files were in use.
    pub(crate) fn retry(&mut self) -> Vec<Decided> {
        if self.lapsed.is_empty() { Vec::new() } else { self.settle() }
    }

    /// All ranges that a session holds.
    pub(crate) fn of_session(&self, session: SessionId) -> Vec<(NodeId, Lock)> {
        let all = self.files.iter().flat_map(|(&(node, style), ranges)| {
            let own = ranges.all().iter().filter(move |range| range.owner.session == session);
            own.map(move |range| (node, range.lock(style)))
        });
        all.collect()
    }

    /// Takes all locks of a node from a session.
    pub(crate) fn take(&mut self, session: SessionId, node: NodeId) {
        let mut count = self.count(session);
        for style in [LockStyle::Posix, LockStyle::Flock] {
            let Some(ranges) = self.files.get_mut(&(node, style)) else { continue };
            count -= ranges.remove_session(session);
            if ranges.is_empty() {
                self.files.remove(&(node, style));
            }
        }
        self.set_count(session, count);
    }

    pub(super) fn has_lapsed(&self, session: SessionId) -> bool {
        self.lapsed.contains_key(&session)
    }

    /// Takes what is in the way of a lock from sessions that have lapsed. Whether nothing is in the way any more.
    pub(super) fn make_way(&mut self, node: NodeId, owner: Owner, lock: &Lock) -> bool {
        let Some(ranges) = self.files.get(&(node, lock.style)) else { return true };
        let holders: BTreeSet<SessionId> =
            ranges.conflicts(owner, lock).map(|range| range.owner.session).collect();
        let is_kept = |holder: &SessionId| *holder == owner.session || !self.has_lapsed(*holder);
        if holders.iter().any(is_kept) {
            return false;
        }
        holders.into_iter().all(|holder| self.take_from(holder, node))
    }

    /// Takes all locks of a node from a session that has lapsed, unless it is at work there.
    fn take_from(&mut self, session: SessionId, node: NodeId) -> bool {
        let Some(lapsed) = self.lapsed.get_mut(&session) else { return false };
        if !lapsed.fence.shut(node) {
            return false;
        }
        log::info!("session {}: others have got its locks of node {}", session.0, node.0);
        lapsed.lost.insert(node);
        self.take(session, node);
        if let Some(journal) = &self.journal {
            journal.fenced(session, node);
        }
        true
    }
}

#[cfg(test)]
#[path = "lapse_tests.rs"]
mod tests;
