//! Names in directories: where they lead, or that there are none.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use lru::DefaultHasher;
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::name::Name;
use parking_lot::Mutex;

use super::count::{HitCount, HitCounter};
use super::epoch::{Epochs, FillToken, Part};
use super::trust::{Cached, Trust};
use super::weighted::WeightedLru;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dentry {
    /// A node.
    Node(Node),
    /// Nothing: there is no such name.
    Absent,
}

/// Dentries by directory and name.
pub struct DentryCache {
    epochs: Arc<Epochs>,
    names: Mutex<Names>,
    counter: HitCounter,
}

impl DentryCache {
    pub(super) fn new(epochs: Arc<Epochs>, bytes_max: u64) -> DentryCache {
        DentryCache { epochs, names: Mutex::new(Names::new(bytes_max)), counter: HitCounter::default() }
    }

    /// What a name stands for, if that may be served; `known` is what is known of the directory itself.
    pub fn get(
        &self,
        parent: Node,
        name: &Name,
        now: Instant,
        known: Option<Trust>,
    ) -> Option<Cached<Dentry>> {
        let mut names = self.names.lock();
        let found = names.get(parent, name).and_then(|held| {
            let until = names.trust(parent, held).serves_until(now, known)?;
            Some(Cached { value: held.dentry, until })
        });
        drop(names);
        self.counter.note(found.is_some());
        found
    }

    /// What a name stood for when it was last looked at, however long ago. Not counted as a question.
    pub fn last_seen(&self, parent: Node, name: &Name) -> Option<Dentry> {
        self.names.lock().get(parent, name).map(|held| held.dentry)
    }

    /// Keeps a looked up name. `trust.change` is the directory's counter before the question was sent, `last_change` the
    /// latest that is known by now. Whether it was kept.
    pub fn fill(
        &self,
        token: FillToken,
        (parent, name): (Node, &Name),
        dentry: Dentry,
        trust: Trust,
        last_change: Change,
    ) -> bool {
        let mut names = self.names.lock();
        let stands = self.epochs.stands(token, parent, Part::Name(name));
        if stands {
            names.put(parent, name, dentry, trust, last_change);
        }
        stands
    }

    /// Changes of our own, and no others, took a directory's counter from `before` to `after`: what was known of its
    /// names with the one is known with the other, but for what they changed.
    pub fn moved_along(&self, parent: Node, before: Change, after: Change) {
        self.names.lock().moved_along(parent, before, after);
    }

    /// Keeps what a change of our own made of names in a directory, each with the moment until which it serves; the
    /// token is from before the change was asked for. Whether all were kept.
    pub fn own_change(
        &self,
        token: FillToken,
        parent: Node,
        change: Change,
        changed: &[(&Name, Dentry, Instant)],
    ) -> bool {
        let mut names = self.names.lock();
        let stands = |name| self.epochs.stands(token, parent, Part::Name(name));
        // All are judged before any is noted: those whose slots are the same by chance would refuse each other.
        let undisturbed: Vec<_> = changed.iter().map(|(name, ..)| stands(name)).collect();
        for (&(name, dentry, until), undisturbed) in changed.iter().zip(&undisturbed) {
            self.epochs.bump_part(parent, Part::Name(name));
            match undisturbed {
                true => names.put(parent, name, dentry, Trust { change, until }, change),
                false => names.remove(parent, name),
            }
        }
        undisturbed.iter().all(|undisturbed| *undisturbed)
    }

    /// Forgets a name that may have changed, and refuses answers under way.
    pub fn invalidate(&self, parent: Node, name: &Name) {
        self.epochs.bump_part(parent, Part::Name(name));
        self.names.lock().remove(parent, name);
    }

    /// Where some nodes are, as far as names lead to them among those used last, at most `names_max` of which are
    /// looked at.
    pub fn places(&self, wanted: &HashSet<Node>, names_max: usize) -> HashMap<Node, (Node, Name)> {
        let names = self.names.lock();
        let alive = |key: &Key, held: &Held| {
            names.parents.get(&key.parent).is_some_and(|parent| parent.stamp == held.stamp)
        };
        let found = names.entries.iter().take(names_max).filter_map(|(key, held)| match held.dentry {
            Dentry::Node(node) if wanted.contains(&node) && alive(key, held) => {
                Some((node, (key.parent, key.name.clone())))
            }
            Dentry::Node(_) | Dentry::Absent => None,
        });
        found.collect()
    }

    /// Hits and misses.
    pub fn count(&self) -> HitCount {
        self.counter.read()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.names.lock().entries.bytes()
    }

    pub(super) fn forget_parent(&self, parent: Node) {
        self.names.lock().forget_parent(parent);
    }
}

/// That of entries which are from another counter than their directory's.
const NO_ERA: u64 = 0;

/// All names of a directory are dropped at once by giving the directory a new stamp: entries with an
/// older one are dead and leave when they are met or not used for longest. Likewise all that were seen with one counter
/// of the directory get another at once: they have the era of their directory, which lasts while its counter moves by
/// changes of our own alone.
struct Names {
    entries: WeightedLru<Key, Held>,
    parents: Parents,
    last_stamp: u64,
}

#[derive(Clone, Copy)]
struct Held {
    dentry: Dentry,
    trust: Trust,
    stamp: u64,
    /// That of the directory when its counter was the one in `trust`.
    era: u64,
}

type Parents = HashMap<Node, Parent, DefaultHasher>;

/// A directory with at least one entry, dead ones included.
struct Parent {
    stamp: u64,
    entry_count: u32,
    /// A counter that it had, and how many there were before with changes of others in between.
    change: Change,
    era: u64,
}

impl Names {
    fn new(bytes_max: u64) -> Names {
        Names { entries: WeightedLru::new(bytes_max), parents: Parents::default(), last_stamp: 0 }
    }

    fn get(&mut self, parent: Node, name: &Name) -> Option<Held> {
        let held = *self.entries.get(&(parent, name) as &dyn Place)?;
        let alive = self.parents.get(&parent).is_some_and(|parent| parent.stamp == held.stamp);
        if !alive {
            self.remove(parent, name);
        }
        alive.then_some(held)
    }

    /// What an entry rests on by now: the directory's counter may have moved along since then.
    fn trust(&self, parent: Node, held: Held) -> Trust {
        match self.parents.get(&parent) {
            Some(parent) if parent.era == held.era => Trust { change: parent.change, ..held.trust },
            Some(_) | None => held.trust,
        }
    }

    fn moved_along(&mut self, parent: Node, before: Change, after: Change) {
        let Some(parent) = self.parents.get_mut(&parent) else { return };
        if !parent.change.same_as(before) {
            parent.era += 1;
        }
        parent.change = after;
    }

    fn put(&mut self, parent: Node, name: &Name, dentry: Dentry, trust: Trust, last_change: Change) {
        let new = Parent { stamp: self.last_stamp, entry_count: 0, change: last_change, era: 1 };
        let entry = self.parents.entry(parent).or_insert(new);
        entry.entry_count += 1;
        if last_change != Change::UNSURE && entry.change != last_change {
            entry.change = last_change;
            entry.era += 1;
        }
        let era = if entry.change.same_as(trust.change) { entry.era } else { NO_ERA };
        let held = Held { dentry, trust, stamp: entry.stamp, era };
        let heap_bytes = name.as_bytes().len() + size_of::<(Node, Parent)>();
        let parents = &mut self.parents;
        let key = Key { parent, name: name.clone() };
        self.entries.put(key, held, heap_bytes, |key, _| uncount(parents, key.parent));
    }

    fn remove(&mut self, parent: Node, name: &Name) {
        if self.entries.pop(&(parent, name) as &dyn Place).is_some() {
            uncount(&mut self.parents, parent);
        }
    }

    fn forget_parent(&mut self, parent: Node) {
        if let Some(parent) = self.parents.get_mut(&parent) {
            self.last_stamp += 1;
            parent.stamp = self.last_stamp;
        }
    }
}

fn uncount(parents: &mut Parents, node: Node) {
    if let Some(parent) = parents.get_mut(&node) {
        parent.entry_count -= 1;
        if parent.entry_count == 0 {
            parents.remove(&node);
        }
    }
}

#[derive(PartialEq, Eq)]
struct Key {
    parent: Node,
    name: Name,
}

/// A key that may be borrowed in two halves, so that looking one up needs no copy of the name.
trait Place {
    fn halves(&self) -> (Node, &Name);
}

impl Place for Key {
    fn halves(&self) -> (Node, &Name) {
        (self.parent, &self.name)
    }
}

impl Place for (Node, &Name) {
    fn halves(&self) -> (Node, &Name) {
        (self.0, self.1)
    }
}

impl<'a> Borrow<dyn Place + 'a> for Key {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.halves() == other.halves()
    }
}

impl Eq for dyn Place + '_ {}

impl Hash for dyn Place + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.halves().hash(state);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.halves().hash(state);
    }
}
