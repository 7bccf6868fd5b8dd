//! The locked ranges of one file.

use nearfs_protocol::attr::{Lock, LockKind, LockStyle};
use nearfs_protocol::id::SessionId;

use super::Owner;

/// Bytes that an owner has locked; both ends included. Never `Unlock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) owner: Owner,
    start: u64,
    end: u64,
    kind: LockKind,
    pid: u32,
}

/// All of a file. Those of one owner neither overlap nor, if they are of one kind, touch.
#[derive(Default)]
pub(super) struct Ranges(Vec<Range>);

impl Range {
    pub(super) fn new(owner: Owner, lock: &Lock) -> Range {
        Range { owner, start: lock.start, end: lock.end, kind: lock.kind, pid: lock.pid }
    }

    pub(super) fn lock(&self, style: LockStyle) -> Lock {
        let Range { owner, start, end, kind, pid } = *self;
        Lock { start, end, kind, style, owner: owner.owner, pid }
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start <= end && start <= self.end
    }

    /// Whether it has or borders on some of those bytes.
    fn meets(&self, start: u64, end: u64) -> bool {
        self.start <= end.saturating_add(1) && start <= self.end.saturating_add(1)
    }
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, range: Range) {
        self.0.push(range);
    }

    pub(super) fn of(&self, owner: Owner) -> impl Iterator<Item = &Range> {
        self.0.iter().filter(move |range| range.owner == owner)
    }

    pub(super) fn all(&self) -> &[Range] {
        &self.0
    }

    /// Removes what a session has. How many ranges that were.
    pub(super) fn remove_session(&mut self, session: SessionId) -> usize {
        let before = self.0.len();
        self.0.retain(|range| range.owner.session != session);
        before - self.0.len()
    }

    /// The ranges of others that are in the way of a lock; none of a lock that gives back.
    pub(super) fn conflicts(&self, owner: Owner, lock: &Lock) -> impl Iterator<Item = &Range> {
        let (start, end, kind) = (lock.start, lock.end, lock.kind);
        self.0.iter().filter(move |range| {
            let exclusive = kind == LockKind::Write || range.kind == LockKind::Write;
            kind != LockKind::Unlock && exclusive && range.owner != owner && range.overlaps(start, end)
        })
    }

    /// What a lock of an owner puts in place of what it held: how many ranges go, and which come.
    pub(super) fn replaced(&self, owner: Owner, lock: &Lock) -> (usize, Vec<Range>) {
        let mut new = Range::new(owner, lock);
        let mut left = Vec::new();
        let mut gone = 0;
        for range in self.of(owner).filter(|range| range.meets(lock.start, lock.end)) {
            gone += 1;
            if range.kind == lock.kind {
                new.start = new.start.min(range.start);
                new.end = new.end.max(range.end);
                continue;
            }
            if range.start < lock.start {
                left.push(Range { end: range.end.min(lock.start - 1), ..*range });
            }
            if range.end > lock.end {
                left.push(Range { start: range.start.max(lock.end + 1), ..*range });
            }
        }
        if lock.kind != LockKind::Unlock {
            left.push(new);
        }
        (gone, left)
    }

    /// Carries out what [`Ranges::replaced`] told.
    pub(super) fn replace(&mut self, owner: Owner, lock: &Lock, come: Vec<Range>) {
        self.0.retain(|range| range.owner != owner || !range.meets(lock.start, lock.end));
        self.0.extend(come);
    }
}
