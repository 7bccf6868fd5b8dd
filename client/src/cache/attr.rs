//! What stat(2) tells of a node.

use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::attr::Attr;
use nearfs_protocol::id::{Change, Node};
use parking_lot::Mutex;

use super::count::{HitCount, HitCounter};
use super::epoch::{Epochs, FillToken, Part};
use super::trust::{Cached, Trust};
use super::weighted::WeightedLru;

/// Attributes by node.
pub struct AttrCache {
    epochs: Arc<Epochs>,
    held: Mutex<WeightedLru<Node, Held>>,
    counter: HitCounter,
}

struct Held {
    attr: Attr,
    /// The counter before the change of our own that led to `attr`, else [`Change::UNSURE`].
    before: Change,
    until: Instant,
}

impl AttrCache {
    pub(super) fn new(epochs: Arc<Epochs>, bytes_max: u64) -> AttrCache {
        AttrCache { epochs, held: Mutex::new(WeightedLru::new(bytes_max)), counter: HitCounter::default() }
    }

    /// The attributes, if they may be served.
    pub fn get(&self, node: Node, now: Instant) -> Option<Cached<Attr>> {
        let found = self
            .held
            .lock()
            .get(&node)
            .filter(|held| now < held.until)
            .map(|held| Cached { value: held.attr, until: held.until });
        self.counter.note(found.is_some());
        found
    }

    /// The attributes as last seen, however long ago: for guesses that need not be right.
    pub fn last_seen(&self, node: Node) -> Option<Attr> {
        self.held.lock().peek(&node).map(|held| held.attr)
    }

    /// The change counter that the node has for certain, and until when. Not counted as a question.
    pub fn trust(&self, node: Node, now: Instant) -> Option<Trust> {
        let held = self.held.lock();
        let held = held.peek(&node).filter(|held| now < held.until)?;
        Some(Trust { change: held.attr.change, until: held.until })
    }

    /// The counter that the node had when it was last looked at, else [`Change::UNSURE`]. Taken before a
    /// question is sent, it is what the answer may be tagged with: if the node turns out to have it still
    /// afterwards, nothing changed in between.
    pub fn last_change(&self, node: Node) -> Change {
        self.last_seen(node).map_or(Change::UNSURE, |attr| attr.change)
    }

    /// Whether the node was last seen with another counter than this.
    pub(super) fn is_news(&self, node: Node, change: Change) -> bool {
        self.held.lock().peek(&node).is_some_and(|held| !held.attr.change.same_as(change))
    }

    /// Keeps fetched attributes. Whether they were kept.
    pub fn fill(&self, token: FillToken, attr: Attr, until: Instant) -> bool {
        let mut held = self.held.lock();
        let stands = self.epochs.stands(token, attr.node, Part::Attr);
        if stands {
            store(&mut held, Held { attr, before: Change::UNSURE, until });
        }
        stands
    }

    /// Keeps the attributes after a change of our own that took the counter from `before`; the token is
    /// from before the change was asked for. Changes that overlapped may be told in any order.
    /// Whether these are the latest.
    pub fn own_change(&self, token: FillToken, before: Change, attr: Attr, until: Instant) -> bool {
        let mut held = self.held.lock();
        let undisturbed = self.epochs.stands(token, attr.node, Part::Attr);
        self.epochs.bump_part(attr.node, Part::Attr);
        let (succeeds, precedes) = held.peek(&attr.node).map_or((false, false), |held| {
            (held.attr.change.same_as(before), held.before.same_as(attr.change))
        });
        let latest = succeeds || (undisturbed && !precedes);
        if latest {
            store(&mut held, Held { attr, before, until });
        } else if !precedes {
            held.pop(&attr.node);
        }
        latest
    }

    /// Forgets a node's attributes after a change whose outcome is not known, and refuses answers under way.
    pub fn invalidate(&self, node: Node) {
        self.epochs.bump_part(node, Part::Attr);
        self.forget(node);
    }

    /// Hits and misses.
    pub fn count(&self) -> HitCount {
        self.counter.read()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.held.lock().bytes()
    }

    pub(super) fn forget(&self, node: Node) {
        self.held.lock().pop(&node);
    }

    pub(super) fn forget_everything(&self) {
        self.held.lock().clear();
    }
}

fn store(held: &mut WeightedLru<Node, Held>, new: Held) {
    held.put(new.attr.node, new, 0, |_, _| ());
}
