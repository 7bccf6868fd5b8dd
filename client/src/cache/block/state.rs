//! The blocks themselves and their order of use, behind the cache's lock.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lru::DefaultHasher;
use nearfs_protocol::id::{Change, Node};

use super::super::weighted::WeightedLru;
use super::BLOCK_BYTES;
use super::flight::{COPIED_BYTES_MAX, Flight};
use super::node::{NodeBlocks, Verdict};
use super::slices::{Slices, Span, block_range};

/// What was read ahead is given up when as many blocks were read since as the cache has room for, times this.
const STALE_TURNS: u64 = 2;

type Key = (Node, u64);
type Nodes = HashMap<Node, NodeBlocks, DefaultHasher>;

/// A lookup of one block.
pub(super) enum Lookup {
    /// It is here.
    Here(Bytes),
    /// Somebody fetches it.
    UnderWay(Arc<Flight>),
    /// Neither.
    Missing,
}

pub(super) struct State {
    pub(super) nodes: Nodes,
    /// Blocks that somebody has read.
    used: WeightedLru<Key, Bytes>,
    /// Blocks that were fetched ahead and not read yet, with the count of reads at that time. They are
    /// apart so that neither kind can push out all of the other.
    ahead: WeightedLru<Key, (Bytes, u64)>,
    ahead_in_flight: u64,
    read_count: u64,
    bytes_max: u64,
    ahead_bytes_max: u64,
    pub(super) last_write: u64,
}

impl State {
    pub(super) fn new(bytes_max: u64, ahead_bytes_max: u64) -> State {
        State {
            nodes: Nodes::default(),
            used: WeightedLru::new(bytes_max),
            ahead: WeightedLru::new(ahead_bytes_max),
            ahead_in_flight: 0,
            read_count: 0,
            bytes_max,
            ahead_bytes_max,
            last_write: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.used.bytes() + self.ahead.bytes()
    }

    /// The bytes of a span, if all its blocks up to the file's end are here.
    pub(super) fn read(&mut self, node: Node, span: Span) -> Option<Slices> {
        let blocks = span.blocks();
        if blocks.end - blocks.start <= 1 {
            let block = blocks.into_iter().next().map(|index| self.here(node, index));
            return Some(match block {
                Some(bytes) => span.cut(std::iter::once(&bytes?)),
                None => Slices::default(),
            });
        }
        let mut here = Vec::new();
        for index in blocks {
            let bytes = self.here(node, index)?;
            let is_last = (bytes.len() as u64) < BLOCK_BYTES;
            here.push(bytes);
            if is_last {
                break;
            }
        }
        Some(span.cut(here.iter()))
    }

    /// Looks a block up for a reader.
    pub(super) fn look(&mut self, node: Node, index: u64) -> Lookup {
        match self.here(node, index) {
            Some(bytes) => Lookup::Here(bytes),
            None => self.look_aside(node, index),
        }
    }

    /// Looks a block up for nobody in particular.
    pub(super) fn look_aside(&self, node: Node, index: u64) -> Lookup {
        let Some(blocks) = self.nodes.get(&node) else { return Lookup::Missing };
        if let Some(flight) = blocks.flights.get(&index) {
            return Lookup::UnderWay(Arc::clone(flight));
        }
        let used = || self.used.peek(&(node, index));
        match self.ahead.peek(&(node, index)).map(|(bytes, _)| bytes).or_else(used) {
            Some(bytes) => Lookup::Here(bytes.clone()),
            None => Lookup::Missing,
        }
    }

    pub(super) fn claim(&mut self, node: Node, index: u64, ahead: bool) -> Arc<Flight> {
        self.ahead_in_flight += u64::from(ahead);
        self.nodes.entry(node).or_default().claim(index, ahead)
    }

    /// Whether one more block may be read ahead, if need be in the place of one that nobody seems to want.
    pub(super) fn make_room_ahead(&mut self) -> bool {
        let room_bytes = self.ahead_bytes_max.saturating_sub(self.ahead_in_flight * CHARGED_BYTES);
        let stale_after = STALE_TURNS * self.bytes_max / BLOCK_BYTES;
        while self.ahead.bytes() + CHARGED_BYTES > room_bytes {
            let stale = self.ahead.peek_lru().is_some_and(|(_, at)| self.read_count - at > stale_after);
            let Some((key, _)) = stale.then(|| self.ahead.pop_lru()).flatten() else { return false };
            uncache(&mut self.nodes, key);
        }
        true
    }

    /// A fetch ended, with a block or without.
    pub(super) fn landed(
        &mut self,
        node: Node,
        index: u64,
        flight: &Arc<Flight>,
        block: Option<(Change, Bytes)>,
    ) {
        self.ahead_in_flight -= u64::from(flight.ahead);
        let Entry::Occupied(mut entry) = self.nodes.entry(node) else { return };
        let blocks = entry.get_mut();
        if !blocks.flights.get(&index).is_some_and(|held| Arc::ptr_eq(held, flight)) {
            return;
        }
        blocks.flights.remove(&index);
        match block {
            // What a reader waits for is read with its arrival.
            Some((change, bytes)) if !flight.is_left() => {
                self.store(node, index, change, bytes, flight.ahead && !flight.is_awaited());
            }
            Some(_) | None => self.tidy(node),
        }
    }

    /// Keeps a block that was read with this counter, if that fits with the others.
    pub(super) fn store(&mut self, node: Node, index: u64, change: Change, bytes: Bytes, ahead: bool) {
        let blocks = self.nodes.entry(node).or_default();
        let (verdict, keep) = blocks.fetched(change);
        self.carry_out(node, verdict);
        if keep && !bytes.is_empty() {
            self.put(node, index, bytes, ahead);
        }
        self.tidy(node);
    }

    /// Puts a block in its place.
    pub(super) fn put(&mut self, node: Node, index: u64, bytes: Bytes, ahead: bool) {
        self.pop((node, index));
        let blocks = self.nodes.entry(node).or_default();
        blocks.cached.insert(index);
        // A file has one end: two blocks that both claim it cannot be of the same moment.
        if let Some(other) = blocks.note_end(index, (bytes.len() as u64) < BLOCK_BYTES) {
            self.remove(node, other);
        }
        let heap_bytes = charged_bytes(&bytes);
        let (key, nodes) = ((node, index), &mut self.nodes);
        match ahead {
            true => self.ahead.put(key, (bytes, self.read_count), heap_bytes, |key, _| uncache(nodes, key)),
            false => self.used.put(key, bytes, heap_bytes, |key, _| uncache(nodes, key)),
        }
        self.shrink();
    }

    /// Takes a block out.
    pub(super) fn remove(&mut self, node: Node, index: u64) -> Option<Bytes> {
        let bytes = self.pop((node, index));
        uncache(&mut self.nodes, (node, index));
        bytes
    }

    /// Takes a block's bytes out, to be put back changed or to be followed by [`uncache`].
    pub(super) fn pop(&mut self, key: Key) -> Option<Bytes> {
        self.used.pop(&key).or_else(|| self.ahead.pop(&key).map(|(bytes, _)| bytes))
    }

    /// Takes out blocks that were read, now or when they arrive. They are for the caller to free without the lock.
    pub(super) fn leave(&mut self, node: Node, indexes: Range<u64>) -> Vec<Bytes> {
        let take = |index| {
            if let Some(flight) = self.nodes.get(&node)?.flights.get(&index) {
                flight.leave();
            }
            let bytes = self.used.pop(&(node, index))?;
            uncache(&mut self.nodes, (node, index));
            Some(bytes)
        };
        indexes.filter_map(take).collect()
    }

    /// Content in a range of bytes changed: its blocks go.
    pub(super) fn changed(&mut self, node: Node, bytes: Range<u64>) {
        let Some(blocks) = self.nodes.get_mut(&node) else { return };
        for write in &mut blocks.writes {
            write.contended |= write.overlaps(&bytes);
        }
        let touched = block_range(bytes);
        let gone: Vec<u64> = blocks.cached.range(touched.clone()).copied().collect();
        for index in gone {
            self.remove(node, index);
        }
        self.superseded(node, touched, true);
    }

    /// Whatever is being fetched of these blocks is old, and so is the file's end before them if it moved.
    pub(super) fn superseded(&mut self, node: Node, touched: Range<u64>, end_moved: bool) {
        let Some(blocks) = self.nodes.get_mut(&node) else { return };
        blocks.supersede(&touched, end_moved);
        if let Some(short) = blocks.short.filter(|&short| end_moved && short < touched.start) {
            self.remove(node, short);
        }
        self.tidy(node);
    }

    pub(super) fn rebase(&mut self, node: Node, before: Change, after: Change) {
        if let Some(blocks) = self.nodes.get_mut(&node) {
            let verdict = match blocks.rebase(before, after) {
                Verdict::Keep => blocks.settled(),
                Verdict::Drop => Verdict::Drop,
            };
            self.carry_out(node, verdict);
            self.tidy(node);
        }
    }

    pub(super) fn revalidate(&mut self, node: Node, change: Change) -> Vec<Bytes> {
        let Some(blocks) = self.nodes.get_mut(&node) else { return Vec::new() };
        let verdict = blocks.seen(change);
        let gone = self.carry_out(node, verdict);
        self.tidy(node);
        gone
    }

    pub(super) fn drop_node(&mut self, node: Node) -> Vec<Bytes> {
        let Some(blocks) = self.nodes.get_mut(&node) else { return Vec::new() };
        blocks.flights.clear();
        blocks.start(None);
        let gone = self.carry_out(node, Verdict::Drop);
        self.tidy(node);
        gone
    }

    /// Empties the node if the verdict says so. The blocks are for the caller to free without the lock.
    pub(super) fn carry_out(&mut self, node: Node, verdict: Verdict) -> Vec<Bytes> {
        match (verdict, self.nodes.get_mut(&node)) {
            (Verdict::Drop, Some(blocks)) => {
                blocks.short = None;
                let indexes = std::mem::take(&mut blocks.cached);
                indexes.into_iter().filter_map(|index| self.pop((node, index))).collect()
            }
            (Verdict::Drop, None) | (Verdict::Keep, _) => Vec::new(),
        }
    }

    /// Forgets what is only needed while something is here or under way.
    pub(super) fn tidy(&mut self, node: Node) {
        if let Entry::Occupied(entry) = self.nodes.entry(node)
            && entry.get().is_unused()
        {
            entry.remove();
        }
    }

    /// A block as it is used.
    fn here(&mut self, node: Node, index: u64) -> Option<Bytes> {
        let key = (node, index);
        self.read_count += 1;
        if let Some(bytes) = self.used.get(&key) {
            return Some(bytes.clone());
        }
        let (bytes, _) = self.ahead.pop(&key)?;
        let nodes = &mut self.nodes;
        self.used.put(key, bytes.clone(), charged_bytes(&bytes), |key, _| uncache(nodes, key));
        self.shrink();
        Some(bytes)
    }

    fn shrink(&mut self) {
        while self.bytes() > self.bytes_max {
            let oldest = self.used.pop_lru().map(|(key, _)| key);
            let Some(key) = oldest.or_else(|| self.ahead.pop_lru().map(|(key, _)| key)) else { return };
            uncache(&mut self.nodes, key);
        }
    }
}

/// What a block may cost at most, for blocks that are still to come.
const CHARGED_BYTES: u64 = BLOCK_BYTES + 1024;

/// What a block costs beside its key: its buffer, which may be as big as a block if it was not copied, and
/// a share of the node's entry.
fn charged_bytes(bytes: &Bytes) -> usize {
    let buffer_bytes = match bytes.len() {
        0..=COPIED_BYTES_MAX => bytes.len(),
        _ => BLOCK_BYTES as usize,
    };
    buffer_bytes + size_of::<NodeBlocks>()
}

/// Takes a block that is gone out of its node's entry.
fn uncache(nodes: &mut Nodes, (node, index): Key) {
    if let Entry::Occupied(mut entry) = nodes.entry(node) {
        entry.get_mut().uncache(index);
        if entry.get().is_unused() {
            entry.remove();
        }
    }
}
