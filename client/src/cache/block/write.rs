//! Our own writes, as the cache sees them.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use nearfs_protocol::id::{Change, Node};

use super::super::epoch::Part;
use super::node::OwnWrite;
use super::slices::Span;
use super::state::State;
use super::{BLOCK_BYTES, Shared};

/// A write under way. Dropped without [`WriteTicket::finish`] its outcome is unknown, and the node's
/// content is forgotten.
#[must_use = "the write's end must be told"]
pub struct WriteTicket {
    shared: Arc<Shared>,
    node: Node,
    id: u64,
    finished: bool,
}

impl WriteTicket {
    pub(super) fn new(shared: Arc<Shared>, node: Node, offset: Option<u64>, size: usize) -> WriteTicket {
        let id = shared.state.lock().begin_write(node, offset, size as u64);
        WriteTicket { shared, node, id, finished: false }
    }

    /// `content` was written at `offset`, took the node's counter from `before` to `after` and left a file
    /// of `file_bytes`. A write cut short tells only what was written. Every read that begins after this
    /// sees it.
    pub fn finish(mut self, offset: u64, content: &[u8], before: Change, after: Change, file_bytes: u64) {
        self.finished = true;
        self.shared.epochs.bump_part(self.node, Part::Content);
        let mut state = self.shared.state.lock();
        let write = state.end_write(self.node, self.id);
        state.rebase(self.node, before, after);
        let span = Span::new(offset, content.len());
        if write.is_none_or(|write| write.contended) {
            return state.changed(self.node, span.bytes());
        }
        state.patch_all(self.node, span, content);
        // A write that ends before the file does has not moved its end.
        state.superseded(self.node, span.blocks(), span.end >= file_bytes);
    }
}

impl Drop for WriteTicket {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.epochs.bump_part(self.node, Part::Content);
            let gone = self.shared.state.lock().lost_write(self.node, self.id);
            drop(gone);
        }
    }
}

impl State {
    fn begin_write(&mut self, node: Node, offset: Option<u64>, size: u64) -> u64 {
        self.last_write += 1;
        let mut write = OwnWrite { id: self.last_write, offset, size, contended: false };
        let others = &mut self.nodes.entry(node).or_default().writes;
        for other in others.iter_mut() {
            // Two appends never meet: the server lays one behind the other.
            let meet = match (offset, other.offset) {
                (None, None) => false,
                (None, Some(_)) => true,
                (Some(offset), _) => other.overlaps(&(offset..offset.saturating_add(size))),
            };
            other.contended |= meet;
            write.contended |= meet;
        }
        others.push(write);
        self.last_write
    }

    /// Writes into the blocks that are here.
    fn patch_all(&mut self, node: Node, span: Span, content: &[u8]) {
        let Some(blocks) = self.nodes.get(&node) else { return };
        let cached: Vec<u64> = blocks.cached.range(span.blocks()).copied().collect();
        for index in cached {
            let within = span.within(index);
            let skipped = (index * BLOCK_BYTES).saturating_sub(span.start) as usize;
            self.patch(node, index, within.start, &content[skipped..skipped + within.len()]);
        }
    }

    fn lost_write(&mut self, node: Node, id: u64) -> Vec<Bytes> {
        self.end_write(node, id);
        self.drop_node(node)
    }

    fn end_write(&mut self, node: Node, id: u64) -> Option<OwnWrite> {
        let writes = &mut self.nodes.get_mut(&node)?.writes;
        let position = writes.iter().position(|write| write.id == id)?;
        Some(writes.swap_remove(position))
    }

    /// Writes into one block. The bytes are copied first if somebody else still reads them.
    fn patch(&mut self, node: Node, index: u64, start: usize, content: &[u8]) {
        let Some(block) = self.pop((node, index)) else { return };
        if start > block.len() {
            // What lies between is zeros here, but another write may be about to say otherwise.
            self.remove(node, index);
            return;
        }
        let mut block = block.try_into_mut().unwrap_or_else(|shared| {
            let mut copy = BytesMut::with_capacity(shared.len().max(start + content.len()));
            copy.extend_from_slice(&shared);
            copy
        });
        let overlap = content.len().min(block.len() - start);
        block[start..start + overlap].copy_from_slice(&content[..overlap]);
        block.extend_from_slice(&content[overlap..]);
        self.put(node, index, block.freeze(), false);
    }
}

impl Span {
    fn bytes(self) -> Range<u64> {
        self.start..self.end
    }
}
