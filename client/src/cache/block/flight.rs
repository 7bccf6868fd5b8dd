//! Blocks that are being fetched, and who waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Node};
use parking_lot::Mutex;

use super::slices::{Slices, Span};
use super::{BLOCK_BYTES, Shared};

/// A block this short is copied when it arrives, so that it does not hold on to a buffer made for more.
pub(super) const COPIED_BYTES_MAX: usize = BLOCK_BYTES as usize / 2;

pub(super) type Waiter = Box<dyn FnOnce(Result<Bytes, Errno>) + Send>;

/// One fetch of one block. The node's entry holds it while its answer may be kept: a fetch that is no
/// longer there is passed on to those who wait, and to nobody else.
pub(super) struct Flight {
    waiters: Mutex<Vec<Waiter>>,
    /// Whether it was claimed ahead of any reader.
    pub(super) ahead: bool,
    /// The counter of the node's blocks when it was claimed: its answer is at least as new.
    pub(super) claimed_under: Option<Change>,
    /// Whether whoever waits for it is not expected to come back to it.
    left: AtomicBool,
}

impl Flight {
    pub(super) fn new(ahead: bool, claimed_under: Option<Change>) -> Flight {
        Flight { waiters: Mutex::default(), ahead, claimed_under, left: AtomicBool::new(false) }
    }

    pub(super) fn join(&self, waiter: Waiter) {
        self.waiters.lock().push(waiter);
    }

    /// Whether a reader waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiters.lock().is_empty()
    }

    /// Its block is not to be kept once it was passed on, unless it is for readers who are still to come.
    pub(super) fn leave(&self) {
        self.left.fetch_or(self.is_awaited(), Ordering::Relaxed);
    }

    pub(super) fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    fn land(&self, result: Result<Bytes, Errno>) {
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for waiter in waiters {
            waiter(result.clone());
        }
    }
}

/// A claimed block: whoever has this fetches it. Dropped without an answer it fails with `EIO`.
#[must_use = "others wait for the block"]
pub struct BlockFill {
    shared: Arc<Shared>,
    node: Node,
    index: u64,
    /// Taken when it is answered.
    flight: Option<Arc<Flight>>,
}

impl BlockFill {
    pub(super) fn new(shared: Arc<Shared>, node: Node, index: u64, flight: Arc<Flight>) -> BlockFill {
        BlockFill { shared, node, index, flight: Some(flight) }
    }

    /// Whose block it is.
    pub fn node(&self) -> Node {
        self.node
    }

    /// Where in the file the block begins. It is to be read whole: [`BLOCK_BYTES`] bytes.
    pub fn offset(&self) -> u64 {
        self.index * BLOCK_BYTES
    }

    /// The block arrived: fewer bytes than [`BLOCK_BYTES`] mean that the file ends in it. `change` was read
    /// before the bytes. They must not be part of a buffer that is much bigger than a block.
    pub fn complete(mut self, change: Change, bytes: Bytes) {
        let bytes = match bytes.len() {
            0..=COPIED_BYTES_MAX => Bytes::copy_from_slice(&bytes),
            len => bytes.slice(..len.min(BLOCK_BYTES as usize)),
        };
        if let Some(flight) = self.flight.take() {
            self.shared.state.lock().landed(self.node, self.index, &flight, Some((change, bytes.clone())));
            flight.land(Ok(bytes));
        }
    }

    /// It cannot be had; all who wait for it are told so.
    pub fn fail(mut self, errno: Errno) {
        self.give_up(errno);
    }

    fn give_up(&mut self, errno: Errno) {
        if let Some(flight) = self.flight.take() {
            self.shared.state.lock().landed(self.node, self.index, &flight, None);
            flight.land(Err(errno));
        }
    }
}

impl Drop for BlockFill {
    fn drop(&mut self) {
        self.give_up(Errno::EIO);
    }
}

impl std::fmt::Debug for BlockFill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockFill({:?}, block {})", self.node, self.index)
    }
}

type Done = Box<dyn FnOnce(Result<Slices, Errno>) + Send>;

/// Collects the blocks of one read and completes it with the last.
#[derive(Clone)]
pub(super) struct Gathering {
    inner: Arc<Mutex<Gathered>>,
}

struct Gathered {
    span: Span,
    blocks: Vec<Bytes>,
    missing: usize,
    error: Option<Errno>,
    done: Option<Done>,
}

impl Gathering {
    pub(super) fn new(span: Span, done: impl FnOnce(Result<Slices, Errno>) + Send + 'static) -> Gathering {
        let missing = span.blocks().count();
        let blocks = vec![Bytes::new(); missing];
        let done: Option<Done> = Some(Box::new(done));
        Gathering { inner: Arc::new(Mutex::new(Gathered { span, blocks, missing, error: None, done })) }
    }

    pub(super) fn waiter(&self, index: u64) -> Waiter {
        let gathering = self.clone();
        Box::new(move |result| gathering.arrived(index, result))
    }

    pub(super) fn arrived(&self, index: u64, result: Result<Bytes, Errno>) {
        let mut gathered = self.inner.lock();
        let position = (index - gathered.span.blocks().start) as usize;
        match result {
            Ok(bytes) => gathered.blocks[position] = bytes,
            Err(errno) => gathered.error = Some(errno),
        }
        gathered.missing -= 1;
        if gathered.missing > 0 {
            return;
        }
        let Some(done) = gathered.done.take() else { return };
        let result = match gathered.error {
            Some(errno) => Err(errno),
            None => Ok(gathered.span.cut(gathered.blocks.iter())),
        };
        drop(gathered);
        done(result);
    }
}
