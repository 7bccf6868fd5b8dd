//! Reading: from the block cache where it can be, in whole blocks where that pays, exactly what is asked for elsewhere.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Change;
use nearfs_protocol::limits::PAYLOAD_BYTES_MAX;
use nearfs_protocol::message::{Reply, Request};
use nearfs_transport::pool::Payload;

use crate::cache::block::{BLOCK_BYTES, BlockFill, Slices};
use crate::files::OpenFile;
use crate::identity::Caller;
use crate::rpc::{Outcome, Patience};
use crate::vfs::{Vfs, tri, unexpected};

impl Vfs {
    /// Reads from an open file (pread(2)): fewer bytes than asked for only at its end.
    pub fn read(
        self: &Arc<Self>,
        caller: Caller,
        _ino: u64,
        fh: u64,
        offset: u64,
        size: u32,
        done: impl FnOnce(Result<&[u8], Errno>) + Send + 'static,
    ) {
        let file = tri!(self.files.get(fh), done);
        if self.behind.is_pending(file.node) {
            let vfs = Arc::clone(self);
            return self.once_written(caller, file.node, Patience::Bounded, move |waited| match waited {
                Ok(()) => vfs.read(caller, _ino, fh, offset, size, done),
                Err(errno) => done(Err(errno)),
            });
        }
        let size = size.min(PAYLOAD_BYTES_MAX as u32);
        if file.is_direct() || self.config.cache_bytes == 0 {
            return self.read_exactly(caller, &file, offset, size, done);
        }
        let node = file.node;
        let file_bytes = self.cache.attrs.last_seen(node).map_or(u64::MAX, |attr| attr.size);
        let (ahead, left_behind, whole_blocks) = {
            let mut readahead = file.readahead.lock();
            let window_bytes_max = self
                .link
                .window_bytes()
                .min(self.config.readahead_bytes)
                .min(self.cache.blocks.prefetch_bytes_max());
            let ahead = readahead.on_read(offset, size as usize, file_bytes, window_bytes_max);
            (ahead, readahead.left_behind(), readahead.is_in_order() || file_bytes <= BLOCK_BYTES)
        };
        // The kernel has them now, but where it keeps no pages.
        if !left_behind.is_empty() && !file.appends() {
            self.cache.blocks.leave(node, left_behind);
        }
        match self.cache.blocks.read_if_here(node, offset, size as usize) {
            Some(slices) => in_one_piece(&slices, done),
            None if whole_blocks => {
                let done = self.rpc.wait_apart(caller.pid, |slices: Result<Slices, Errno>| match slices {
                    Ok(slices) => in_one_piece(&slices, done),
                    Err(errno) => done(Err(errno)),
                });
                let fills = self.cache.blocks.read(node, offset, size as usize, done);
                fills.into_iter().for_each(|fill| self.fetch(caller, &file, fill));
            }
            None => self.read_exactly(caller, &file, offset, size, done),
        }
        for blocks in ahead {
            let fills = self.cache.blocks.prefetch(node, blocks);
            fills.into_iter().for_each(|fill| self.fetch(caller, &file, fill));
        }
    }

    /// Reads past the caches.
    fn read_exactly(
        self: &Arc<Self>,
        caller: Caller,
        file: &OpenFile,
        offset: u64,
        size: u32,
        done: impl FnOnce(Result<&[u8], Errno>) + Send + 'static,
    ) {
        let request = Request::Read { fh: file.fh, offset, size };
        self.call(caller, file.node, request, move |outcome| match read_reply(outcome, size) {
            Ok((_, bytes)) => done(Ok(&bytes)),
            Err(errno) => done(Err(errno)),
        });
    }

    /// Fetches a block that was claimed.
    fn fetch(self: &Arc<Self>, caller: Caller, file: &Arc<OpenFile>, fill: BlockFill) {
        let size = BLOCK_BYTES as u32;
        let request = Request::Read { fh: file.fh, offset: fill.offset(), size };
        let start = self.link.started(BLOCK_BYTES, Instant::now());
        let vfs = Arc::clone(self);
        self.call_surviving(caller, file.node, request, Patience::Bounded, move |outcome| {
            match read_reply(outcome, size) {
                Ok((change, bytes)) => {
                    vfs.link.completed(start, Instant::now());
                    fill.complete(change, bytes.into_bytes());
                }
                Err(errno) => {
                    vfs.link.failed(start);
                    fill.fail(errno);
                }
            }
        });
    }
}

thread_local! {
    /// Where the pieces of a read are put together, kept because new memory of that size costs as much as the copy.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Passes on what was read as one slice, which is all that the kernel's side takes.
fn in_one_piece(slices: &Slices, done: impl FnOnce(Result<&[u8], Errno>)) {
    if let [piece] = slices.parts() {
        return done(Ok(piece));
    }
    let mut room = ROOM.take();
    room.clear();
    slices.parts().iter().for_each(|piece| room.extend_from_slice(piece));
    done(Ok(&room));
    ROOM.set(room);
}

/// The bytes in an answer to a read of at most `size` bytes.
fn read_reply(outcome: Outcome, size: u32) -> Result<(Change, Payload), Errno> {
    match outcome? {
        (Reply::Read { change }, bytes) if bytes.len() <= size as usize => Ok((change, bytes)),
        (other, _) => Err(unexpected(&other)),
    }
}
