//! The process' descriptors, shared out between open files and nodes held for looking.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Descriptors that a session holds beside its files: its root, and two for what is kept of it.
const PER_SESSION: usize = 3;

/// How many descriptors may be held at once, over all exports and sessions. Clones share the count.
#[derive(Clone)]
pub struct Descriptors(Arc<Shared>);

struct Shared {
    max: usize,
    held: AtomicUsize,
    sessions: AtomicUsize,
}

/// A session's part in the descriptors, for as long as it lives.
pub(crate) struct Share(Descriptors);

/// The right to hold one descriptor; given back when dropped.
pub(crate) struct Slot(Descriptors);

impl Descriptors {
    /// At most `max` at once.
    pub fn new(max: usize) -> Descriptors {
        Descriptors(Arc::new(Shared { max, held: AtomicUsize::new(0), sessions: AtomicUsize::new(0) }))
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Counts a session among those that share, with what it holds itself, if there is room: the last quarter is for the
    /// files of those that are there.
    pub(crate) fn join(&self) -> Option<Share> {
        if self.0.held.fetch_add(PER_SESSION, Ordering::Relaxed) + PER_SESSION > self.0.max - self.0.max / 4 {
            self.0.held.fetch_sub(PER_SESSION, Ordering::Relaxed);
            return None;
        }
        self.0.sessions.fetch_add(1, Ordering::Relaxed);
        Some(Share(self.clone()))
    }

    /// The same for a session of before the server was started again, for which there was room.
    pub(crate) fn join_again(&self) -> Share {
        self.0.held.fetch_add(PER_SESSION, Ordering::Relaxed);
        self.0.sessions.fetch_add(1, Ordering::Relaxed);
        Share(self.clone())
    }

    /// Whether so many are held that sessions have to be content with their parts.
    pub(crate) fn are_scarce(&self) -> bool {
        self.held() >= self.0.max - self.0.max / 4
    }

    /// A slot for an open file of a session that has so many, if there is one: the last quarter is for sessions that
    /// have less than an equal part of all.
    pub(crate) fn for_file(&self, open_files: impl FnOnce() -> usize) -> Option<Slot> {
        let sessions = self.0.sessions.load(Ordering::Relaxed).max(1);
        if self.are_scarce() && open_files() >= self.0.max / sessions {
            return None;
        }
        self.take(self.0.max)
    }

    /// A slot for a node that is held only to be quick: half of all are for those.
    pub(crate) fn for_node(&self) -> Option<Slot> {
        self.take(self.0.max / 2)
    }

    /// A slot for a node in place of another, which gives its own back soon.
    pub(crate) fn for_replacement(&self) -> Option<Slot> {
        self.take(self.0.max)
    }

    fn take(&self, below: usize) -> Option<Slot> {
        if self.0.held.fetch_add(1, Ordering::Relaxed) < below {
            return Some(Slot(self.clone()));
        }
        self.0.held.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.0.sessions.fetch_sub(1, Ordering::Relaxed);
        self.0.0.held.fetch_sub(PER_SESSION, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_leave_half_to_files() {
        let descriptors = Descriptors::new(4);
        let nodes: Vec<_> = std::iter::from_fn(|| descriptors.for_node()).collect();
        assert_eq!(nodes.len(), 2);
        let files: Vec<_> = std::iter::from_fn(|| descriptors.for_file(|| 0)).collect();
        assert_eq!((files.len(), descriptors.held()), (2, 4));
        drop(nodes);
        assert_eq!(descriptors.held(), 2);
        assert!(descriptors.for_node().is_none() && descriptors.for_file(|| 0).is_some());
    }

    #[test]
    fn a_greedy_session_leaves_others_their_part() {
        let descriptors = Descriptors::new(32);
        let shares = [descriptors.join(), descriptors.join()];
        assert!(shares.iter().all(Option::is_some));
        let mut greedy = Vec::new();
        while let Some(slot) = descriptors.for_file(|| greedy.len()) {
            greedy.push(slot);
        }
        assert_eq!(greedy.len(), 18);
        let modest: Vec<_> = (0..8).filter_map(|open| descriptors.for_file(|| open)).collect();
        assert_eq!(modest.len(), 8);
        assert!(descriptors.join().is_none(), "no room for another");
        drop((shares, modest));
        assert!(descriptors.for_file(|| greedy.len()).is_some(), "it is alone");
    }

    #[test]
    fn sessions_leave_a_quarter_to_files() {
        let descriptors = Descriptors::new(16);
        let sessions: Vec<_> = std::iter::from_fn(|| descriptors.join()).collect();
        assert_eq!((sessions.len(), descriptors.held()), (4, 12));
        let again = descriptors.join_again();
        assert_eq!(descriptors.held(), 15, "what was there before is taken up in any case");
        drop((sessions, again));
        assert_eq!(descriptors.held(), 0);
    }
}
