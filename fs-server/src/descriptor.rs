//! The process' descriptors, shared out between open files and nodes held for looking.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};

/// Descriptors kept free for connections, listings and whatever is opened for a moment.
const SPARE: usize = 1024;
/// What is assumed where there is no limit.
const UNLIMITED: usize = 1 << 20;

/// How many descriptors may be held at once, over all exports and sessions. Clones share the count.
#[derive(Clone)]
pub struct Descriptors(Arc<Shared>);

struct Shared {
    max: usize,
    held: AtomicUsize,
}

/// The right to hold one descriptor; given back when dropped.
pub(crate) struct Slot(Descriptors);

impl Descriptors {
    /// What the process' limit (`RLIMIT_NOFILE`) leaves; a small limit is halved instead.
    pub fn of_process() -> Descriptors {
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.map_or(UNLIMITED, |limit| usize::try_from(limit).unwrap_or(UNLIMITED));
        Descriptors::new(limit.saturating_sub(SPARE).max(limit / 2))
    }

    /// At most `max` at once.
    pub fn new(max: usize) -> Descriptors {
        Descriptors(Arc::new(Shared { max, held: AtomicUsize::new(0) }))
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// A slot for an open file, if there is one.
    pub(crate) fn for_file(&self) -> Option<Slot> {
        self.take(self.0.max)
    }

    /// A slot for a node that is held only to be quick: half of all are for those.
    pub(crate) fn for_node(&self) -> Option<Slot> {
        self.take(self.0.max / 2)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_leave_half_to_files() {
        let descriptors = Descriptors::new(4);
        let nodes: Vec<_> = std::iter::from_fn(|| descriptors.for_node()).collect();
        assert_eq!(nodes.len(), 2);
        let files: Vec<_> = std::iter::from_fn(|| descriptors.for_file()).collect();
        assert_eq!((files.len(), descriptors.held()), (2, 4));
        drop(nodes);
        assert_eq!(descriptors.held(), 2);
        assert!(descriptors.for_node().is_none() && descriptors.for_file().is_some());
    }
}
