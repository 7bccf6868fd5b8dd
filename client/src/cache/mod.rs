//! What the client remembers of the server's files, so that it need not ask again.
//!
//! [`Cache`] is the whole; each kind of memory is a file. All of it is synchronous and knows nodes, names
//! and blocks only: no kernel, no connection, no clock.
//!
//! The rules that keep it right:
//! - Who asks the server takes a [`FillToken`] first. The answer is kept only if nothing it tells of was
//!   invalidated in between ([`epoch`]). Content has a finer rule of its own: a block's answer is kept
//!   only while the block is still waited for ([`block`]).
//! - A change of our own is told with the token from before it was asked for: two that overlapped may
//!   have happened in either order, and then nothing is kept.
//! - What is kept rests on a change counter and a moment ([`trust`]): it is served until that moment, and
//!   after it only if the node is known to have the same counter still.
//! - A change of our own tells the counters before and after it. What rests on the one before rests on the one
//!   after from then on, if nobody else changed the node in between.

pub mod attr;
pub mod block;
pub mod complete;
mod count;
pub mod dentry;
#[cfg(test)]
mod directory_tests;
pub mod epoch;
pub mod limits;
pub mod readahead;
pub mod target;
#[cfg(test)]
mod tests;
pub mod trust;
mod weighted;
pub mod xattr;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_protocol::attr::{Attr, DirEntry};
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::message::DirChange;
use nearfs_protocol::name::Name;

pub use self::count::HitCount;
pub use self::epoch::FillToken;

use self::attr::AttrCache;
use self::block::BlockCache;
use self::complete::CompleteCache;
use self::dentry::{Dentry, DentryCache};
use self::epoch::{Epochs, Part};
use self::limits::CacheLimits;
use self::target::TargetCache;
use self::trust::Trust;
use self::xattr::XattrCache;

/// How long answers are believed without asking again.
#[derive(Clone, Copy, Debug)]
pub struct TrustTimes {
    /// Attributes, extended ones included.
    pub attr: Duration,
    /// Names that exist.
    pub entry: Duration,
    /// Names that do not.
    pub negative: Duration,
}

/// All caches of one mount.
pub struct Cache {
    epochs: Arc<Epochs>,
    times: TrustTimes,
    /// Attributes.
    pub attrs: AttrCache,
    /// Names.
    pub dentries: DentryCache,
    /// Directories of which all names are known.
    pub complete: CompleteCache,
    /// Symlink targets.
    pub targets: TargetCache,
    /// Extended attributes.
    pub xattrs: XattrCache,
    /// File content.
    pub blocks: BlockCache,
}

/// The figures of all caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Attributes.
    pub attr: HitCount,
    /// Names.
    pub dentry: HitCount,
    /// Names that are absent because all names of their directory are known.
    pub complete: HitCount,
    /// Symlink targets.
    pub target: HitCount,
    /// Extended attributes.
    pub xattr: HitCount,
    /// Blocks of content.
    pub block: HitCount,
}

impl CacheCounts {
    /// Each cache's name, hits and misses.
    pub fn named(&self) -> Vec<(&'static str, u64, u64)> {
        let CacheCounts { attr, dentry, complete, target, xattr, block } = *self;
        let all = [
            ("attr", attr),
            ("dentry", dentry),
            ("complete", complete),
            ("target", target),
            ("xattr", xattr),
            ("block", block),
        ];
        all.map(|(name, count)| (name, count.hits, count.misses)).to_vec()
    }
}

impl Cache {
    /// Empty caches.
    pub fn new(limits: CacheLimits, times: TrustTimes) -> Cache {
        let epochs = Arc::new(Epochs::new());
        let shared = || Arc::clone(&epochs);
        Cache {
            times,
            attrs: AttrCache::new(shared(), limits.attr_bytes_max),
            dentries: DentryCache::new(shared(), limits.dentry_bytes_max),
            complete: CompleteCache::new(shared(), limits.complete_bytes_max),
            targets: TargetCache::new(shared(), limits.target_bytes_max),
            xattrs: XattrCache::new(shared(), limits.xattr_bytes_max),
            blocks: BlockCache::new(shared(), limits.block_bytes_max),
            epochs,
        }
    }

    /// To be taken before a question is sent; serves for every node that the answer names.
    pub fn begin_fill(&self) -> FillToken {
        self.epochs.begin()
    }

    /// A node's attributes and how long they may be passed on.
    pub fn attr(&self, node: Node, now: Instant) -> Option<(Attr, Duration)> {
        self.attrs.get(node, now).map(|held| (held.value, held.until - now))
    }

    /// Attributes arrived: keeps them, and lets go of what they prove old. Returns how long they may be
    /// passed on: not at all if something changed since they were asked for.
    pub fn fill_attr(&self, token: FillToken, attr: &Attr, now: Instant) -> Duration {
        if self.attrs.is_news(attr.node, attr.change) {
            self.xattrs.invalidate(attr.node);
        }
        self.blocks.revalidate(attr.node, attr.change);
        match self.attrs.fill(token, *attr, now + self.times.attr) {
            true => self.times.attr,
            false => Duration::ZERO,
        }
    }

    /// Attributes after a change of our own arrived with the counter `before` it; the token is from before
    /// the change was asked for. What was right before is still right. Content that the change touched is
    /// the caller's to tell: [`BlockCache::begin_write`], [`BlockCache::truncate`].
    pub fn own_change(&self, token: FillToken, before: Change, attr: &Attr, now: Instant) -> Duration {
        self.xattrs.rebase(attr.node, before, attr.change);
        self.blocks.rebase(attr.node, before, attr.change);
        match self.attrs.own_change(token, before, *attr, now + self.times.attr) {
            true => self.times.attr,
            false => Duration::ZERO,
        }
    }

    /// What a name in a directory stands for and how long that may be passed on.
    pub fn name(&self, parent: Node, name: &Name, now: Instant) -> Option<(Dentry, Duration)> {
        let known = self.attrs.trust(parent, now);
        if let Some(found) = self.dentries.get(parent, name, now, known) {
            return Some((found.value, found.until - now));
        }
        if self.times.negative.is_zero() {
            return None;
        }
        let until = self.complete.lacks(parent, name, now, known)?;
        Some((Dentry::Absent, (until - now).min(self.times.negative)))
    }

    /// What a name stood for when it was last looked at, however long ago. Not counted as a question.
    pub fn name_last_seen(&self, parent: Node, name: &Name) -> Option<Dentry> {
        let absent = || self.complete.last_seen_without(parent, name).then_some(Dentry::Absent);
        self.dentries.last_seen(parent, name).or_else(absent)
    }

    /// Whether a name that is not known is known to be absent.
    pub fn is_complete(&self, directory: Node, now: Instant) -> bool {
        self.complete.is_complete(directory, now, self.attrs.trust(directory, now))
    }

    /// All names of a directory were read, or it was made without any. `change` is its counter from before they were
    /// read.
    pub fn fill_names(
        &self,
        token: FillToken,
        directory: Node,
        change: Change,
        names: impl Iterator<Item = Name>,
        now: Instant,
    ) {
        self.complete.fill(token, directory, names, Trust { change, until: now + self.times.negative });
    }

    /// A name was looked up. `parent_change` is [`AttrCache::last_change`] of the directory from before the
    /// question was sent. Returns how long the answer may be passed on.
    pub fn fill_name(
        &self,
        token: FillToken,
        (parent, name): (Node, &Name),
        parent_change: Change,
        dentry: Dentry,
        now: Instant,
    ) -> Duration {
        let time = self.name_time(dentry);
        let trust = Trust { change: parent_change, until: now + time };
        match self.dentries.fill(token, (parent, name), dentry, trust, self.attrs.last_change(parent)) {
            true => time,
            false => Duration::ZERO,
        }
    }

    /// A change of our own made what it did of names in a directory, or removed them; the token is from before it was
    /// asked for. What else was known of the directory is still right if nobody else changed it. Returns how long
    /// [`Dentry::Node`]s among them may be passed on.
    pub fn own_names(
        &self,
        token: FillToken,
        change: &DirChange,
        names: &[(&Name, Dentry)],
        now: Instant,
    ) -> Duration {
        let DirChange { before, attr } = *change;
        let parent = attr.node;
        self.dentries.moved_along(parent, before, attr.change);
        // What others did in between may have concerned the same names.
        let change = if before == Change::UNSURE { Change::UNSURE } else { attr.change };
        let until = |dentry| now + self.name_time(dentry);
        let changed: Vec<_> = names.iter().map(|(name, dentry)| (*name, *dentry, until(*dentry))).collect();
        // Before anything else is noted: a name that is lost costs most.
        let kept = self.dentries.own_change(token, parent, change, &changed);
        if self.attrs.is_news(parent, before) {
            self.xattrs.invalidate(parent);
        }
        self.attrs.own_change(token, before, attr, now + self.times.attr);
        let edits: Vec<_> = names.iter().map(|(name, dentry)| (*name, *dentry != Dentry::Absent)).collect();
        let trust = Trust { change, until: now + self.times.negative };
        self.complete.own_change(parent, before, trust, &edits);
        if kept { self.times.entry } else { Duration::ZERO }
    }

    /// Whether two names were seen to lead to different nodes. Two names of one node stay both when one is renamed
    /// to the other (rename(2)).
    pub fn lead_apart(&self, one: (Node, &Name), other: (Node, &Name)) -> bool {
        let seen = |place: (Node, &Name)| self.name_last_seen(place.0, place.1);
        seen(one).zip(seen(other)).is_some_and(|(one, other)| one != other)
    }

    /// Whether nothing happened since the token was taken that makes old what was said of a name and its node.
    pub fn stands(&self, token: FillToken, (parent, name): (Node, &Name), node: Node) -> bool {
        self.epochs.stands(token, parent, Part::Name(name)) && self.attr_stands(token, node)
    }

    /// The same of a node alone.
    pub fn attr_stands(&self, token: FillToken, node: Node) -> bool {
        self.epochs.stands(token, node, Part::Attr)
    }

    /// A change of our own to a name ended in a way that does not tell what the name stands for.
    pub fn name_changed(&self, parent: Node, name: &Name) {
        self.attrs.invalidate(parent);
        self.complete.invalidate(parent);
        self.dentries.invalidate(parent, name);
    }

    /// A change of our own took a name away: what it stood for has one name less.
    pub fn unlinked(&self, parent: Node, name: &Name) {
        self.forget_attrs_behind(parent, name);
        self.name_changed(parent, name);
    }

    /// A change of our own moved a name over another: whatever the two stood for has other attributes.
    pub fn moved(&self, from: (Node, &Name), to: (Node, &Name)) {
        self.unlinked(from.0, from.1);
        self.unlinked(to.0, to.1);
    }

    /// Forgets the attributes of the node that a name stands for; if that is not known, those of all nodes.
    pub fn forget_attrs_behind(&self, parent: Node, name: &Name) {
        match self.name_last_seen(parent, name) {
            Some(Dentry::Node(node)) => self.attrs.invalidate(node),
            Some(Dentry::Absent) => {}
            None => {
                self.epochs.bump_everything();
                self.attrs.forget_everything();
            }
        }
    }

    /// The entries of a page of a directory with their attributes. `parent_change` is the directory's
    /// counter that came with the page.
    pub fn fill_page(
        &self,
        token: FillToken,
        parent: Node,
        parent_change: Change,
        page: &[DirEntry],
        now: Instant,
    ) {
        for entry in page {
            if let Some(attr) = &entry.attr {
                self.fill_attr(token, attr, now);
                let dentry = Dentry::Node(attr.node);
                self.fill_name(token, (parent, &entry.name), parent_change, dentry, now);
            }
        }
    }

    /// An extended attribute (`None` inside if the node has none of that name).
    pub fn xattr(&self, node: Node, name: &[u8], now: Instant) -> Option<Option<bytes::Bytes>> {
        self.xattrs.get(node, name, now, self.attrs.trust(node, now)).map(|held| held.value)
    }

    /// An extended attribute was read. `change` is [`AttrCache::last_change`] of the node from before the
    /// question was sent.
    pub fn fill_xattr(
        &self,
        token: FillToken,
        node: Node,
        change: Change,
        name: &[u8],
        value: Option<&[u8]>,
        now: Instant,
    ) {
        self.xattrs.fill(token, node, name, value, Trust { change, until: now + self.times.attr });
    }

    /// The server says, or there is reason to fear, that anything about a node may have changed: everything
    /// known of it goes, names in it included, and answers under way are not kept.
    pub fn invalidate(&self, node: Node) {
        self.epochs.bump(node);
        self.attrs.forget(node);
        self.dentries.forget_parent(node);
        self.complete.forget(node);
        self.targets.forget(node);
        self.xattrs.forget(node);
        self.blocks.drop_node(node);
    }

    /// Hits and misses.
    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            attr: self.attrs.count(),
            dentry: self.dentries.count(),
            complete: self.complete.count(),
            target: self.targets.count(),
            xattr: self.xattrs.count(),
            block: self.blocks.count(),
        }
    }

    /// Bytes held by all.
    pub fn bytes(&self) -> u64 {
        self.attrs.bytes()
            + self.dentries.bytes()
            + self.complete.bytes()
            + self.targets.bytes()
            + self.xattrs.bytes()
            + self.blocks.bytes()
    }

    fn name_time(&self, dentry: Dentry) -> Duration {
        match dentry {
            Dentry::Node(_) => self.times.entry,
            Dentry::Absent => self.times.negative,
        }
    }
}
