//! Directories of which all names are known, so that any other name is absent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use lru::DefaultHasher;
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::name::Name;
use parking_lot::Mutex;

use super::count::{HitCount, HitCounter};
use super::epoch::{Epochs, FillToken, Part};
use super::trust::Trust;
use super::weighted::WeightedLru;

/// What a name costs beside its bytes: its allocation, and its share of a hash table that may be less than half full.
const NAME_OVERHEAD_BYTES: usize = 64;

/// All names of some directories. What they lead to is [`super::dentry`]'s.
pub struct CompleteCache {
    epochs: Arc<Epochs>,
    held: Mutex<WeightedLru<Node, Complete>>,
    counter: HitCounter,
}

struct Complete {
    names: HashSet<Name, DefaultHasher>,
    name_bytes: usize,
    trust: Trust,
}

impl CompleteCache {
    pub(super) fn new(epochs: Arc<Epochs>, bytes_max: u64) -> CompleteCache {
        let held = Mutex::new(WeightedLru::new(bytes_max));
        CompleteCache { epochs, held, counter: HitCounter::default() }
    }

    /// Until when it may be said that a directory has no such name; `known` is what is known of the directory itself.
    pub fn lacks(&self, directory: Node, name: &Name, now: Instant, known: Option<Trust>) -> Option<Instant> {
        let mut held = self.held.lock();
        let complete = held.get(&directory).filter(|complete| !complete.names.contains(name));
        let until = complete.and_then(|complete| complete.trust.serves_until(now, known));
        self.counter.note(until.is_some());
        until
    }

    /// Whether a directory had no such name when it was last looked at, however long ago. Not counted as a question.
    pub fn last_seen_without(&self, directory: Node, name: &Name) -> bool {
        self.held.lock().peek(&directory).is_some_and(|complete| !complete.names.contains(name))
    }

    /// Whether all names of a directory are known. Not counted as a question.
    pub fn is_complete(&self, directory: Node, now: Instant, known: Option<Trust>) -> bool {
        let held = self.held.lock();
        held.peek(&directory).is_some_and(|complete| complete.trust.serves_until(now, known).is_some())
    }

    /// Keeps all names of a directory. `trust.change` is a counter that it had before they were read.
    pub fn fill(&self, token: FillToken, directory: Node, names: impl Iterator<Item = Name>, trust: Trust) {
        let mut held = self.held.lock();
        if self.epochs.stands(token, directory, Part::Names) {
            let names: HashSet<_, _> = names.collect();
            let name_bytes = names.iter().map(bytes_of).sum();
            store(&mut held, directory, Complete { names, name_bytes, trust });
        }
    }

    /// A change of our own took a directory's counter from `before` to what `trust` has, and names in it, each with
    /// whether it is there now. If others changed it too, its names are forgotten.
    pub fn own_change(&self, directory: Node, before: Change, trust: Trust, edits: &[(&Name, bool)]) {
        let mut held = self.held.lock();
        self.epochs.bump_part(directory, Part::Names);
        let Some(mut complete) = held.pop(&directory) else { return };
        if complete.trust.change.same_as(before) {
            for (name, is_there) in edits {
                complete.edit(name, *is_there);
            }
            store(&mut held, directory, Complete { trust, ..complete });
        }
    }

    /// Forgets a directory's names after a change whose outcome is not known, and refuses answers under way.
    pub fn invalidate(&self, directory: Node) {
        self.epochs.bump_part(directory, Part::Names);
        self.forget(directory);
    }

    /// Hits and misses.
    pub fn count(&self) -> HitCount {
        self.counter.read()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.held.lock().bytes()
    }

    pub(super) fn forget(&self, directory: Node) {
        self.held.lock().pop(&directory);
    }
}

impl Complete {
    fn edit(&mut self, name: &Name, is_there: bool) {
        let changed = if is_there { self.names.insert(name.clone()) } else { self.names.remove(name) };
        if changed && is_there {
            self.name_bytes += bytes_of(name);
        } else if changed {
            self.name_bytes -= bytes_of(name);
        }
    }
}

fn store(held: &mut WeightedLru<Node, Complete>, directory: Node, complete: Complete) {
    let name_bytes = complete.name_bytes;
    held.put(directory, complete, name_bytes, |_, _| ());
}

fn bytes_of(name: &Name) -> usize {
    size_of::<Name>() + name.as_bytes().len() + NAME_OVERHEAD_BYTES
}
