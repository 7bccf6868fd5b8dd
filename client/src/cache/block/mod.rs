//! File content, in blocks.
//!
//! A reader gets what is here ([`BlockCache::read_if_here`]) and claims what is not ([`BlockCache::read`]):
//! whoever wants a block that is already claimed waits for the same answer. An own write is told when it
//! begins and when it ends ([`write`]), so that it is seen at once and an answer from before it is not kept.
//!
//! All blocks of a node belong to one change counter. A change of our own moves the counter along with
//! the blocks; any other counter that shows up empties the node (`node`).

mod flight;
mod node;
mod slices;
mod state;
#[cfg(test)]
mod tests;
mod write;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Node};
use parking_lot::Mutex;

use super::count::{HitCount, HitCounter};
use super::epoch::{Epochs, FillToken, Part};

pub use self::flight::BlockFill;
pub use self::slices::Slices;
pub use self::write::WriteTicket;

use self::flight::Gathering;
use self::slices::Span;
use self::state::{Lookup, State};

/// Bytes of a block, and of the read request that fetches it.
pub const BLOCK_BYTES: u64 = 128 * 1024;

/// The share of the cache that may be filled ahead of readers.
const AHEAD_SHARE: u64 = 2;

/// Blocks of files, within a bound in bytes. Cheap to share.
#[derive(Clone)]
pub struct BlockCache {
    shared: Arc<Shared>,
}

struct Shared {
    epochs: Arc<Epochs>,
    state: Mutex<State>,
    ahead_bytes_max: u64,
    counter: HitCounter,
}

impl BlockCache {
    pub(super) fn new(epochs: Arc<Epochs>, bytes_max: u64) -> BlockCache {
        let ahead_bytes_max = bytes_max / AHEAD_SHARE;
        let state = Mutex::new(State::new(bytes_max, ahead_bytes_max));
        let counter = HitCounter::default();
        BlockCache { shared: Arc::new(Shared { epochs, state, ahead_bytes_max, counter }) }
    }

    /// The bytes of a read, fewer than asked for only at the end of the file, if they are all here.
    pub fn read_if_here(&self, node: Node, offset: u64, size: usize) -> Option<Slices> {
        let span = Span::new(offset, size);
        let found = self.shared.state.lock().read(node, span);
        let block_count = span.blocks().count();
        match found {
            Some(_) => self.shared.counter.add(block_count, 0),
            None => self.shared.counter.add(0, block_count),
        }
        found
    }

    /// Reads what was not here. `done` gets the bytes as soon as all blocks are. The fills returned are the
    /// caller's to fetch, one request each; those that others fetch are waited for. `done` is called without
    /// any lock held, on the thread that brings the last block, before this returns if that came meanwhile.
    ///
    /// A fill must not fail because the program that caused it gave up: others may be waiting by then.
    pub fn read(
        &self,
        node: Node,
        offset: u64,
        size: usize,
        done: impl FnOnce(Result<Slices, Errno>) + Send + 'static,
    ) -> Vec<BlockFill> {
        let span = Span::new(offset, size);
        let mut state = self.shared.state.lock();
        if let Some(slices) = state.read(node, span) {
            drop(state);
            done(Ok(slices));
            return Vec::new();
        }
        let (mut here, mut fills) = (Vec::new(), Vec::new());
        let gathering = Gathering::new(span, done);
        for index in span.blocks() {
            match state.look(node, index) {
                Lookup::Here(bytes) => here.push((index, bytes)),
                Lookup::UnderWay(flight) => flight.join(gathering.waiter(index)),
                Lookup::Missing => {
                    let flight = state.claim(node, index, false);
                    flight.join(gathering.waiter(index));
                    fills.push(BlockFill::new(Arc::clone(&self.shared), node, index, flight));
                }
            }
        }
        drop(state);
        for (index, bytes) in here {
            gathering.arrived(index, Ok(bytes));
        }
        fills
    }

    /// Claims blocks that are likely to be read soon. Some may be left out: those that are here or claimed
    /// already, and those for which there is no room beside what was read ahead and not used yet.
    pub fn prefetch(&self, node: Node, blocks: Range<u64>) -> Vec<BlockFill> {
        let mut state = self.shared.state.lock();
        blocks
            .filter_map(|index| {
                let wanted = matches!(state.look_aside(node, index), Lookup::Missing);
                let flight = (wanted && state.make_room_ahead()).then(|| state.claim(node, index, true))?;
                Some(BlockFill::new(Arc::clone(&self.shared), node, index, flight))
            })
            .collect()
    }

    /// Lets go of blocks that were read and are not expected to be read again from here, so that one long file does not
    /// push out everything else, and the memory serves what comes next. What was fetched ahead for others stays.
    pub fn leave(&self, node: Node, blocks: Range<u64>) {
        let gone = self.shared.state.lock().leave(node, blocks);
        drop(gone);
    }

    /// Most bytes that can be read ahead of all readers together.
    pub fn prefetch_bytes_max(&self) -> u64 {
        self.shared.ahead_bytes_max
    }

    /// Keeps the whole content of a small file that came with another answer; the token is from before
    /// that was asked for, `change` was read before the content.
    pub fn fill_whole(&self, token: FillToken, node: Node, change: Change, content: &[u8]) {
        if content.is_empty() || content.len() as u64 > BLOCK_BYTES {
            return;
        }
        let bytes = Bytes::copy_from_slice(content);
        let mut state = self.shared.state.lock();
        if self.shared.epochs.stands(token, node, Part::Content)
            && matches!(state.look_aside(node, 0), Lookup::Missing)
        {
            state.store(node, 0, change, bytes, false);
        }
    }

    /// Tells of a write that is about to be sent: `offset` is `None` if the server chooses it.
    pub fn begin_write(&self, node: Node, offset: Option<u64>, size: usize) -> WriteTicket {
        WriteTicket::new(Arc::clone(&self.shared), node, offset, size)
    }

    /// Content in this range of bytes was changed by ourselves, to something that is not known here
    /// (fallocate(2), copy_file_range(2)).
    pub fn changed(&self, node: Node, bytes: Range<u64>) {
        self.shared.epochs.bump_part(node, Part::Content);
        self.shared.state.lock().changed(node, bytes);
    }

    /// The file's size was set by ourselves.
    pub fn truncate(&self, node: Node, size: u64) {
        self.changed(node, size..u64::MAX);
    }

    /// A change of our own took the node from one counter to the next: its blocks are still right, apart
    /// from what [`BlockCache::changed`] tells.
    pub fn rebase(&self, node: Node, before: Change, after: Change) {
        self.shared.state.lock().rebase(node, before, after);
    }

    /// The node was seen with this counter: blocks of another one go.
    pub fn revalidate(&self, node: Node, change: Change) {
        let gone = self.shared.state.lock().revalidate(node, change);
        drop(gone);
    }

    /// Forgets a node's content; answers under way are passed on but not kept.
    pub fn drop_node(&self, node: Node) {
        self.shared.epochs.bump_part(node, Part::Content);
        let gone = self.shared.state.lock().drop_node(node);
        drop(gone);
    }

    /// Blocks that were here when a program read them, and those that were not.
    pub fn count(&self) -> HitCount {
        self.shared.counter.read()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.shared.state.lock().bytes()
    }
}
