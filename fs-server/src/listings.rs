//! Directories that a session is in the middle of listing.
//!
//! A stream is out of the table while a call uses it, so that two listings of one directory never share one.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;

use lru::LruCache;
use nearfs_protocol::id::Node;
use parking_lot::Mutex;

use crate::descriptor::Slot;

/// Most listings of a session that are remembered; one that is forgotten is opened again at its cookie.
const LISTINGS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);

/// Interrupted listings, by what they list and the cookie at which they go on.
pub(crate) struct Listings(Mutex<LruCache<(Node, u64), Stream>>);

/// A directory open for listing, at some place in it.
pub(crate) struct Stream {
    pub(crate) fd: OwnedFd,
    _slot: Slot,
}

impl Stream {
    pub(crate) fn new(fd: OwnedFd, slot: Slot) -> Stream {
        Stream { fd, _slot: slot }
    }
}

impl Listings {
    /// The stream that stands at a cookie, if one does.
    pub(crate) fn take(&self, node: Node, cookie: u64) -> Option<Stream> {
        self.0.lock().pop(&(node, cookie))
    }

    /// Puts a stream away for the call that goes on at the cookie.
    pub(crate) fn put(&self, node: Node, cookie: u64, stream: Stream) {
        let oldest = self.0.lock().push((node, cookie), stream);
        drop(oldest);
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}

impl Default for Listings {
    fn default() -> Listings {
        Listings(Mutex::new(LruCache::new(LISTINGS_MAX)))
    }
}
