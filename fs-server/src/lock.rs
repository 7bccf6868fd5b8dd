//! Locks on files: who holds which bytes, who waits for them. No file, no thread, no clock.
//!
//! Both styles are kept as byte ranges, apart from each other. An owner never conflicts with itself: what it sets
//! replaces what it held of the same bytes (fcntl(2), "Advisory record locking").
//!
//! A session whose lease has run out keeps its locks until somebody asks for one that conflicts ([`lapse`]).

mod lapse;
mod range;
mod wait;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nearfs_protocol::attr::{Lock, LockKind, LockStyle};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{NodeId, RequestId, SessionId};
use nearfs_protocol::limits::LOCKS_MAX;

pub(crate) use lapse::Fence;
use lapse::Lapsed;
use range::{Range, Ranges};
pub(crate) use wait::{Locks, Outcome, Untold};

/// Who holds or wants locks: one of a session's owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) session: SessionId,
    pub(crate) owner: u64,
}

/// A request that waits for a lock.
pub(crate) type WaitId = (SessionId, RequestId);

/// A wait that is over, and how.
pub(crate) type Decided = (WaitId, Result<(), Errno>);

/// Is told of every lock that is set, given back or taken, in the order in which that happens; but not of those that go
/// with their session.
pub(crate) trait Journal: Send + Sync {
    /// One was set or given back.
    fn locked(&self, session: SessionId, node: NodeId, lock: &Lock);

    /// All that a session held of a node were taken from it, and its files shut.
    fn fenced(&self, session: SessionId, node: NodeId);
}

/// All locks of an export.
#[derive(Default)]
pub(crate) struct LockTable {
    journal: Option<Arc<dyn Journal>>,
    files: HashMap<(NodeId, LockStyle), Ranges>,
    /// In the order in which they came.
    waits: Vec<Wait>,
    held_by: HashMap<SessionId, usize>,
    lapsed: HashMap<SessionId, Lapsed>,
}

#[derive(Clone, Copy)]
struct Wait {
    id: WaitId,
    node: NodeId,
    lock: Lock,
}

/// Why a lock is not set at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Others hold what it conflicts with.
    Conflict,
    /// The session has as many as it may.
    Full,
}

impl LockTable {
    /// Has somebody told of all that is set from here on.
    pub(crate) fn set_journal(&mut self, journal: Arc<dyn Journal>) {
        self.journal = Some(journal);
    }

    /// Sets a lock or gives it back. Returns the waits that this ends.
    pub(crate) fn set(
        &mut self,
        node: NodeId,
        session: SessionId,
        lock: &Lock,
    ) -> Result<Vec<Decided>, Denied> {
        self.place(node, session, lock)?;
        // More rights for this owner never free anybody; fewer do.
        if lock.kind == LockKind::Write { Ok(Vec::new()) } else { Ok(self.settle()) }
    }

    /// Waits for a lock that was denied for a conflict.
    ///
    /// Errors: `EDEADLK` if those in the way wait, directly or not, for this owner.
    pub(crate) fn wait(&mut self, id: WaitId, node: NodeId, lock: &Lock) -> Result<(), Errno> {
        if lock.style == LockStyle::Posix && self.would_deadlock(id.0, node, lock) {
            return Err(Errno::EDEADLK);
        }
        self.waits.push(Wait { id, node, lock: *lock });
        Ok(())
    }

    /// Ends a wait without the lock. Whether there was one.
    pub(crate) fn cancel(&mut self, id: WaitId) -> bool {
        let before = self.waits.len();
        self.waits.retain(|wait| wait.id != id);
        self.waits.len() < before
    }

    /// A lock that others hold and that is in the way of this one.
    pub(crate) fn conflict(&self, node: NodeId, session: SessionId, lock: &Lock) -> Option<Lock> {
        let owner = Owner { session, owner: lock.owner };
        let ranges = self.files.get(&(node, lock.style))?;
        let mut kept = ranges.conflicts(owner, lock).filter(|range| !self.has_lapsed(range.owner.session));
        kept.next().map(|range| range.lock(lock.style))
    }

    /// Whether an owner holds or waits for anything of a file.
    pub(crate) fn holds(&self, node: NodeId, style: LockStyle, owner: Owner) -> bool {
        self.files.get(&(node, style)).is_some_and(|ranges| ranges.of(owner).next().is_some())
    }

    /// Gives back all that an owner holds of a file. Returns the waits that this ends.
    pub(crate) fn release(&mut self, node: NodeId, style: LockStyle, owner: Owner) -> Vec<Decided> {
        if !self.holds(node, style, owner) {
            return Vec::new();
        }
        let whole =
            Lock { start: 0, end: u64::MAX, kind: LockKind::Unlock, style, owner: owner.owner, pid: 0 };
        self.set(node, owner.session, &whole).unwrap_or_default()
    }

    /// Gives back all that a session holds and ends its waits with `ECANCELED`. Returns all waits that this ends.
    pub(crate) fn release_session(&mut self, session: SessionId) -> Vec<Decided> {
        let mut decided = self.end_waits(Errno::ECANCELED, |wait| wait.id.0 == session);
        self.lapsed.remove(&session);
        if self.held_by.remove(&session).is_some() {
            self.files.retain(|_, ranges| {
                ranges.remove_session(session);
                !ranges.is_empty()
            });
            decided.extend(self.settle());
        }
        decided
    }

    /// How many ranges a session holds.
    pub(crate) fn count(&self, session: SessionId) -> usize {
        self.held_by.get(&session).copied().unwrap_or(0)
    }

    fn place(&mut self, node: NodeId, session: SessionId, lock: &Lock) -> Result<(), Denied> {
        let owner = Owner { session, owner: lock.owner };
        let held = self.count(session);
        let key = (node, lock.style);
        if !self.make_way(node, owner, lock) {
            return Err(Denied::Conflict);
        }
        let Some(ranges) = self.files.get_mut(&key) else {
            return self.place_first(key, owner, lock);
        };
        let (fewer, more) = ranges.replaced(owner, lock);
        let count = held - fewer + more.len();
        if count > LOCKS_MAX && more.len() > fewer {
            return Err(Denied::Full);
        }
        ranges.replace(owner, lock, more);
        if ranges.is_empty() {
            self.files.remove(&key);
        }
        self.set_count(session, count);
        self.note(session, key.0, lock);
        Ok(())
    }

    fn note(&self, session: SessionId, node: NodeId, lock: &Lock) {
        if let Some(journal) = &self.journal {
            journal.locked(session, node, lock);
        }
    }

    fn place_first(&mut self, key: (NodeId, LockStyle), owner: Owner, lock: &Lock) -> Result<(), Denied> {
        if lock.kind == LockKind::Unlock {
            return Ok(());
        }
        let held = self.count(owner.session);
        if held >= LOCKS_MAX {
            return Err(Denied::Full);
        }
        self.files.entry(key).or_default().push(Range::new(owner, lock));
        self.set_count(owner.session, held + 1);
        self.note(owner.session, key.0, lock);
        Ok(())
    }

    fn set_count(&mut self, session: SessionId, count: usize) {
        if count == 0 {
            self.held_by.remove(&session);
        } else {
            self.held_by.insert(session, count);
        }
    }

    /// Grants what can be granted, oldest wait first. A grant can give rights back as well (a reader that was a writer),
    /// so that each one begins again.
    fn settle(&mut self) -> Vec<Decided> {
        let mut decided = Vec::new();
        let mut at = 0;
        while at < self.waits.len() {
            let Wait { id, node, lock } = self.waits[at];
            if self.has_lapsed(id.0) {
                at += 1;
                continue;
            }
            match self.place(node, id.0, &lock) {
                Err(Denied::Conflict) => {
                    at += 1;
                    continue;
                }
                Ok(()) => decided.push((id, Ok(()))),
                Err(Denied::Full) => decided.push((id, Err(Errno::ENOLCK))),
            }
            self.waits.remove(at);
            at = 0;
        }
        decided
    }

    /// Whether somebody who is in the way waits for this owner, over however many others.
    fn would_deadlock(&self, session: SessionId, node: NodeId, lock: &Lock) -> bool {
        let asking = Owner { session, owner: lock.owner };
        let mut seen = HashSet::new();
        let mut ahead = self.in_the_way(asking, node, lock);
        while let Some(owner) = ahead.pop() {
            if owner == asking {
                return true;
            }
            if !seen.insert(owner) {
                continue;
            }
            let waits =
                self.waits.iter().filter(|wait| wait.is_of(owner) && wait.lock.style == LockStyle::Posix);
            for wait in waits {
                ahead.extend(self.in_the_way(owner, wait.node, &wait.lock));
            }
        }
        false
    }

    fn in_the_way(&self, owner: Owner, node: NodeId, lock: &Lock) -> Vec<Owner> {
        let ranges = self.files.get(&(node, lock.style)).into_iter();
        let owners = ranges.flat_map(|ranges| ranges.conflicts(owner, lock)).map(|range| range.owner);
        owners.filter(|owner| !self.has_lapsed(owner.session)).collect()
    }

    /// Ends some of the waits without the lock.
    fn end_waits(&mut self, errno: Errno, ends: impl Fn(&Wait) -> bool) -> Vec<Decided> {
        self.waits.extract_if(.., |wait| ends(wait)).map(|wait| (wait.id, Err(errno))).collect()
    }
}

impl Wait {
    fn is_of(&self, owner: Owner) -> bool {
        self.id.0 == owner.session && self.lock.owner == owner.owner
    }
}

#[cfg(test)]
mod tests;
