//! Extended attributes, above all the absent ones: the kernel asks for `security.capability` before
//! every write, and for POSIX ACLs at every permission check.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nearfs_protocol::id::{Change, Node};
use parking_lot::Mutex;

use super::count::{HitCount, HitCounter};
use super::epoch::{Epochs, FillToken, Part};
use super::trust::{Cached, Trust};
use super::weighted::WeightedLru;

/// Most bytes of a value that is kept.
const VALUE_BYTES_MAX: usize = 4096;
/// Most attributes of one node that are kept.
const NAMES_MAX: usize = 16;

/// What writes and changes of the owner take away from a file (capabilities(7)): the kernel asks for it before each of them.
pub const CAPABILITY: &[u8] = b"security.capability";

/// Values of extended attributes by node and name; `None` where there is no such attribute.
pub struct XattrCache {
    epochs: Arc<Epochs>,
    held: Mutex<WeightedLru<Node, Vec<Held>>>,
    counter: HitCounter,
}

struct Held {
    name: Bytes,
    value: Option<Bytes>,
    trust: Trust,
}

impl XattrCache {
    pub(super) fn new(epochs: Arc<Epochs>, bytes_max: u64) -> XattrCache {
        XattrCache { epochs, held: Mutex::new(WeightedLru::new(bytes_max)), counter: HitCounter::default() }
    }

    /// The value, if it may be served; `known` is what is known of the node itself.
    pub fn get(
        &self,
        node: Node,
        name: &[u8],
        now: Instant,
        known: Option<Trust>,
    ) -> Option<Cached<Option<Bytes>>> {
        let found = self.held.lock().get(&node).and_then(|values| {
            let held = values.iter().find(|held| held.name == name)?;
            let until = held.trust.serves_until(now, known)?;
            Some(Cached { value: held.value.clone(), until })
        });
        self.counter.note(found.is_some());
        found
    }

    /// Keeps a fetched value. `trust.change` is the node's counter before the question was sent.
    pub fn fill(&self, token: FillToken, node: Node, name: &[u8], value: Option<&[u8]>, trust: Trust) {
        let mut all = self.held.lock();
        if !self.epochs.stands(token, node, Part::Xattr) || value.is_some_and(|v| v.len() > VALUE_BYTES_MAX) {
            return;
        }
        let mut values = all.pop(&node).unwrap_or_default();
        values.retain(|held| held.name != name);
        values.truncate(NAMES_MAX - 1);
        let (name, value) = (Bytes::copy_from_slice(name), value.map(Bytes::copy_from_slice));
        values.push(Held { name, value, trust });
        let heap_bytes = values.iter().map(Held::heap_bytes).sum();
        all.put(node, values, heap_bytes, |_, _| ());
    }

    /// A change of our own took the node's counter from `before` to `after` without touching these.
    pub fn rebase(&self, node: Node, before: Change, after: Change) {
        let mut all = self.held.lock();
        let values = all.get_mut(&node).into_iter().flatten();
        for held in values.filter(|held| held.trust.change.same_as(before)) {
            held.trust.change = after;
        }
    }

    /// We ourselves changed a node's mode or owner: access control lists go along with it, and a capability may be gone,
    /// but none has come where there was none.
    pub fn mode_or_owner_changed(&self, node: Node) {
        self.epochs.bump_part(node, Part::Xattr);
        let mut all = self.held.lock();
        let Some(mut values) = all.pop(&node) else { return };
        values.retain(|held| held.name == CAPABILITY && held.value.is_none());
        if !values.is_empty() {
            let heap_bytes = values.iter().map(Held::heap_bytes).sum();
            all.put(node, values, heap_bytes, |_, _| ());
        }
    }

    /// Forgets a node's values that may have changed, and refuses answers under way.
    pub fn invalidate(&self, node: Node) {
        self.epochs.bump_part(node, Part::Xattr);
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
}

impl Held {
    /// Two small allocations, and the slack of a vector that doubles.
    fn heap_bytes(&self) -> usize {
        2 * size_of::<Held>() + 32 + self.name.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}
