//! Which counter the blocks of a node belong to.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use lru::DefaultHasher;
use nearfs_protocol::id::Change;

use super::flight::Flight;

/// Counters of the past that are remembered: the most own changes during one fetch after which its
/// answer can still be kept.
const PAST_MAX: usize = 64;
/// Own changes told before the one that came first which are remembered.
const EARLY_MAX: usize = 64;

/// What is known of one node's blocks. Exists only while there is something to know.
#[derive(Default)]
pub(super) struct NodeBlocks {
    /// Which blocks are here.
    pub(super) cached: BTreeSet<u64>,
    /// The block in which the file ends, if it is here.
    pub(super) short: Option<u64>,
    /// Which are being fetched.
    pub(super) flights: HashMap<u64, Arc<Flight>, DefaultHasher>,
    /// Our own writes under way.
    pub(super) writes: Vec<OwnWrite>,
    /// The counter of the blocks that are here.
    change: Option<Change>,
    /// Counters that changes of our own have replaced: what was read with one of them is right too, unless
    /// such a change touched it, and then its fetch was taken out of `flights`.
    past: VecDeque<Change>,
    /// Changes of our own that begin at a counter not reached yet: an earlier one is still to be told.
    early: Vec<(Change, Change)>,
}

/// A write that was sent and is not answered yet.
pub(super) struct OwnWrite {
    pub(super) id: u64,
    /// First byte; `None` if the server chooses.
    pub(super) offset: Option<u64>,
    pub(super) size: u64,
    /// Another change of the same bytes was under way at the same time, so that nobody knows which came last.
    pub(super) contended: bool,
}

/// What to do with the blocks of a node when a counter shows up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They belong together.
    Keep,
    /// They are old.
    Drop,
}

impl OwnWrite {
    pub(super) fn overlaps(&self, bytes: &Range<u64>) -> bool {
        self.offset.is_none_or(|offset| offset < bytes.end && bytes.start < offset.saturating_add(self.size))
    }
}

impl NodeBlocks {
    pub(super) fn is_unused(&self) -> bool {
        self.cached.is_empty() && self.flights.is_empty() && self.writes.is_empty()
    }

    /// Notes whether the file ends in a block that is put here. Returns another block of which the same is held.
    pub(super) fn note_end(&mut self, index: u64, is_end: bool) -> Option<u64> {
        if is_end {
            return self.short.replace(index).filter(|&other| other != index);
        }
        self.short = self.short.filter(|&short| short != index);
        None
    }

    /// A block is not here any more.
    pub(super) fn uncache(&mut self, index: u64) {
        self.cached.remove(&index);
        self.short = self.short.filter(|&short| short != index);
    }

    /// Whether a block that was read with this counter may be kept, after what is here was treated by the
    /// verdict.
    pub(super) fn fetched(&mut self, change: Change) -> (Verdict, bool) {
        match self.change {
            Some(held) if held == change || self.past.contains(&change) => (Verdict::Keep, true),
            // The answer may be ahead of what we know of our own writes.
            Some(_) if !self.writes.is_empty() || !self.early.is_empty() => (Verdict::Keep, false),
            None | Some(Change::UNSURE) => {
                self.start(Some(change));
                (Verdict::Drop, true)
            }
            // Which of the two is newer shows at the next look at the attributes.
            Some(_) => (Verdict::Drop, false),
        }
    }

    /// The node was seen with this counter. Who reads from here on shall not see anything older, so that
    /// only fetches that were claimed under it, or since, may still be joined.
    pub(super) fn seen(&mut self, change: Change) -> Verdict {
        let (held, past) = (self.change, &self.past);
        let is_known = |claimed: Change| held == Some(claimed) || past.contains(&claimed);
        if change != Change::UNSURE && is_known(change) {
            self.flights.retain(|_, flight| flight.claimed_under.is_some_and(is_known));
            return Verdict::Keep;
        }
        self.flights.clear();
        self.start(Some(change));
        Verdict::Drop
    }

    /// Fetches under way of these blocks are old; with `end_moved` also those that may tell of an end of the
    /// file before them: all before which no block is known to follow.
    pub(super) fn supersede(&mut self, touched: &Range<u64>, end_moved: bool) {
        let followed = self.cached.last().copied().unwrap_or(0);
        let may_end = |index: u64| end_moved && index < touched.start && index >= followed;
        self.flights.retain(|&index, _| !touched.contains(&index) && !may_end(index));
    }

    /// Begins a fetch.
    pub(super) fn claim(&mut self, index: u64, ahead: bool) -> Arc<Flight> {
        let flight = Arc::new(Flight::new(ahead, self.change));
        self.flights.insert(index, Arc::clone(&flight));
        flight
    }

    /// A change of our own led from one counter to another.
    pub(super) fn rebase(&mut self, before: Change, after: Change) -> Verdict {
        match self.change {
            Some(held) if held.same_as(after) || self.past.contains(&after) => Verdict::Keep,
            Some(held) if held.same_as(before) => {
                self.advance(before, after);
                self.catch_up();
                Verdict::Keep
            }
            None if self.cached.is_empty() => {
                self.advance(before, after);
                Verdict::Keep
            }
            Some(_) if !self.writes.is_empty() && self.early.len() < EARLY_MAX => {
                // A change may be told twice, by the write's own end and by its attributes.
                if !self.early.contains(&(before, after)) {
                    self.early.push((before, after));
                }
                Verdict::Keep
            }
            None | Some(_) => {
                self.start(Some(after));
                Verdict::Drop
            }
        }
    }

    /// Whether all own changes fit together, once none is under way.
    pub(super) fn settled(&mut self) -> Verdict {
        if self.early.is_empty() || !self.writes.is_empty() {
            return Verdict::Keep;
        }
        self.start(None);
        Verdict::Drop
    }

    /// Begins anew, with nothing here.
    pub(super) fn start(&mut self, change: Option<Change>) {
        self.change = change;
        self.past.clear();
        self.early.clear();
    }

    fn advance(&mut self, before: Change, after: Change) {
        if before != Change::UNSURE {
            self.past.push_back(before);
        }
        if self.past.len() > PAST_MAX {
            self.past.pop_front();
        }
        self.change = Some(after);
    }

    fn catch_up(&mut self) {
        while let Some(held) = self.change
            && let Some(next) = self.early.iter().position(|(before, _)| before.same_as(held))
        {
            let (before, after) = self.early.swap_remove(next);
            self.advance(before, after);
        }
    }
}
