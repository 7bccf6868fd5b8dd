//! Reading: from the block cache where it can be, in whole blocks where that pays, exactly what is asked for elsewhere.

use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::limits::PAYLOAD_BYTES_MAX;
use nearfs_protocol::message::{Reply, Request};

use crate::cache::block::{BLOCK_BYTES, BlockFill};
use crate::files::OpenFile;
use crate::identity::Caller;
use crate::rpc::Outcome;
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
        let size = size.min(PAYLOAD_BYTES_MAX as u32);
        if file.is_direct() || self.config.cache_bytes == 0 {
            return self.read_exactly(caller, &file, offset, size, done);
        }
        let file_bytes = self.cache.attrs.last_seen(file.node).map_or(u64::MAX, |attr| attr.size);
        let advice = file.readahead.lock().read(offset, size, file_bytes);
        let here = self.cache.blocks.read_if_here(file.node, offset, size as usize);
        match here {
            Some(slices) => done(Ok(&slices.into_bytes())),
            None if advice.sequential => {
                let fills = self.cache.blocks.read(file.node, offset, size as usize, move |slices| {
                    match slices {
                        Ok(slices) => done(Ok(&slices.into_bytes())),
                        Err(errno) => done(Err(errno)),
                    }
                });
                fills.into_iter().for_each(|fill| self.fetch(caller, &file, fill));
            }
            None => self.read_exactly(caller, &file, offset, size, done),
        }
        for blocks in advice.prefetch {
            let fills = self.cache.blocks.prefetch(file.node, blocks);
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
        let (file, asked_at) = (Arc::clone(file), Instant::now());
        let node = file.node;
        self.call(caller, node, request, move |outcome| match read_reply(outcome, size) {
            Ok((change, bytes)) => {
                file.readahead.lock().completed(asked_at.elapsed(), bytes.len());
                fill.complete(change, bytes.into_bytes());
            }
            Err(errno) => fill.fail(errno),
        });
    }
}

/// The bytes in an answer to a read of at most `size` bytes.
fn read_reply(
    outcome: Outcome,
    size: u32,
) -> Result<(nearfs_protocol::id::Change, nearfs_transport::pool::Payload), Errno> {
    match outcome? {
        (Reply::Read { change }, bytes) if bytes.len() <= size as usize => Ok((change, bytes)),
        (other, _) => Err(unexpected(&other)),
    }
}
