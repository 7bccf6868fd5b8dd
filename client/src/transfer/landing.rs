//! Writing down what has arrived of a large file, on threads of their own: whoever receives never waits for the disk,
//! and one chunk is hashed while the next is written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::Scope;

use nearfs_protocol::hash::Hasher;
use nearfs_protocol::id::ContentHash;
use nearfs_transport::pool::Payload;
use parking_lot::Mutex;

use crate::transfer::local::begin_writing;
use crate::transfer::upload::next;

/// Threads that write and hash. A file takes one write at a time, which leaves the other to hash.
const THREADS: usize = 2;
/// After so many bytes the disk begins to write them, so that little is left to wait for at the end.
const FLUSH_BYTES: u64 = 16 * 1024 * 1024;

/// All of a chunk.
pub(super) struct Chunk {
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// Its pieces, by their offsets in the file.
    pub(super) pieces: BTreeMap<u64, Payload>,
}

/// What has become of a chunk: its hash, once the file has it.
pub(super) struct Landed {
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) outcome: io::Result<ContentHash>,
}

/// Where chunks are given to be written down. The threads end with it.
pub(super) struct Landing(Sender<Chunk>);

/// What the threads share.
struct Place {
    file: Arc<File>,
    chunks: Mutex<Receiver<Chunk>>,
    /// Bytes that were written since the disk was last told to begin with them.
    unflushed: AtomicU64,
    /// Has the disk begin.
    flush: SyncSender<()>,
}

impl Landing {
    /// Begins to write into a file; `landed` hears of each chunk.
    pub(super) fn begin<'scope>(
        scope: &'scope Scope<'scope, '_>,
        file: &Arc<File>,
        landed: impl Fn(Landed) + Clone + Send + 'scope,
    ) -> Landing {
        let (write, chunks) = mpsc::channel();
        let (flush, flushes) = mpsc::sync_channel(1);
        let (chunks, unflushed) = (Mutex::new(chunks), AtomicU64::new(0));
        let place = Arc::new(Place { file: Arc::clone(file), chunks, unflushed, flush });
        for _ in 0..THREADS {
            let (place, landed) = (Arc::clone(&place), landed.clone());
            scope.spawn(move || {
                while let Some(chunk) = next(&place.chunks) {
                    let (number, bytes, outcome) = (chunk.number, chunk.bytes, place.write(chunk));
                    landed(Landed { number, bytes, outcome });
                }
            });
        }
        let file = Arc::clone(file);
        // Telling the disk to begin waits for it when it has much to do.
        scope.spawn(move || flushes.iter().for_each(|()| begin_writing(&file)));
        Landing(write)
    }

    /// Has a chunk written down.
    pub(super) fn write(&self, chunk: Chunk) {
        // The threads read until this is gone.
        let _ = self.0.send(chunk);
    }
}

impl Place {
    fn write(&self, chunk: Chunk) -> io::Result<ContentHash> {
        for (offset, piece) in &chunk.pieces {
            self.file.write_all_at(piece, *offset)?;
        }
        if self.unflushed.fetch_add(chunk.bytes, Ordering::Relaxed) + chunk.bytes >= FLUSH_BYTES {
            self.unflushed.store(0, Ordering::Relaxed);
            // Where the disk is still at the last time, the next one tells it of this as well.
            let _ = self.flush.try_send(());
        }
        let mut hasher = Hasher::default();
        chunk.pieces.values().for_each(|piece| hasher.update(piece));
        Ok(hasher.finish())
    }
}
