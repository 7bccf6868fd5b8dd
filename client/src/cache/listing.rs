//! Whole directory listings.

use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::attr::{DirEntry, FileKind};
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::name::Name;
use parking_lot::Mutex;

use super::count::{HitCount, HitCounter};
use super::epoch::{Epochs, FillToken, Part};
use super::trust::{Cached, Trust};
use super::weighted::WeightedLru;

/// The share of the cache that one directory may take.
const DIRECTORY_SHARE: u64 = 4;

/// One name of a listing. Attributes are not here but in [`super::attr::AttrCache`], where they age by
/// themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEntry {
    /// The name.
    pub name: Name,
    /// Where the listing goes on after it.
    pub cookie: u64,
    /// Its `st_ino`.
    pub ino: u64,
    /// What it is, where that was told.
    pub kind: Option<FileKind>,
    /// Its node, where attributes came along.
    pub node: Option<Node>,
}

/// All names of a directory, in its own order.
#[derive(Debug, PartialEq, Eq)]
pub struct Listing {
    entries: Vec<ListedEntry>,
    /// Positions by cookie, sorted by cookie.
    positions: Vec<(u64, u32)>,
}

impl Listing {
    /// What follows the entry with this cookie, or everything for 0. `None` if no entry has it: only the
    /// server can tell then.
    pub fn after(&self, cookie: u64) -> Option<&[ListedEntry]> {
        if cookie == 0 {
            return Some(&self.entries);
        }
        let found = self.positions.binary_search_by_key(&cookie, |&(cookie, _)| cookie).ok()?;
        let (_, position) = self.positions[found];
        self.entries.get(position as usize + 1..)
    }

    fn heap_bytes(&self) -> usize {
        let names: usize =
            self.entries.iter().map(|entry| entry.name.as_bytes().len().next_multiple_of(16)).sum();
        names
            + self.entries.capacity() * size_of::<ListedEntry>()
            + self.entries.len() * NAME_ALLOCATION_BYTES
            + self.positions.capacity() * size_of::<(u64, u32)>()
    }
}

/// Collects the pages of one reader until they make a whole listing.
#[derive(Debug)]
pub struct ListingPages {
    token: FillToken,
    change: Change,
    entries: Vec<ListedEntry>,
    bytes: u64,
    bytes_max: u64,
}

impl ListingPages {
    /// Adds the page that begins at `cookie`. `false` if the pages cannot become a listing: one was left
    /// out, the directory changed, or it is too big.
    #[must_use]
    pub fn add(&mut self, cookie: u64, change: Change, page: &[DirEntry]) -> bool {
        let expected = self.entries.last().map_or(0, |last| last.cookie);
        if cookie != expected || (!self.entries.is_empty() && change != self.change) {
            return false;
        }
        self.change = change;
        self.entries.extend(page.iter().map(listed));
        let names: usize = page.iter().map(|entry| entry.name.as_bytes().len()).sum();
        self.bytes += (names + page.len() * (size_of::<ListedEntry>() + NAME_ALLOCATION_BYTES)) as u64;
        self.bytes <= self.bytes_max
    }
}

/// Complete listings by directory.
pub struct ListingCache {
    epochs: Arc<Epochs>,
    listings: Mutex<WeightedLru<Node, (Arc<Listing>, Trust)>>,
    bytes_max: u64,
    counter: HitCounter,
}

impl ListingCache {
    pub(super) fn new(epochs: Arc<Epochs>, bytes_max: u64) -> ListingCache {
        let listings = Mutex::new(WeightedLru::new(bytes_max));
        ListingCache { epochs, listings, bytes_max, counter: HitCounter::default() }
    }

    /// The listing, if it may be served; `known` is what is known of the directory itself.
    pub fn get(&self, node: Node, now: Instant, known: Option<Trust>) -> Option<Cached<Arc<Listing>>> {
        let found = self.listings.lock().get(&node).and_then(|(listing, trust)| {
            let until = trust.serves_until(now, known)?;
            Some(Cached { value: Arc::clone(listing), until })
        });
        self.counter.note(found.is_some());
        found
    }

    /// Begins to collect; the token is from before the first page was asked for.
    pub fn collect(&self, token: FillToken) -> ListingPages {
        let bytes_max = self.bytes_max / DIRECTORY_SHARE;
        ListingPages { token, change: Change::UNSURE, entries: Vec::new(), bytes: 0, bytes_max }
    }

    /// Keeps a listing of which the last page was added.
    pub fn fill(&self, node: Node, pages: ListingPages, until: Instant) {
        let ListingPages { token, change, mut entries, .. } = pages;
        entries.shrink_to_fit();
        let mut positions: Vec<(u64, u32)> =
            (0u32..).zip(&entries).map(|(position, entry)| (entry.cookie, position)).collect();
        positions.sort_unstable();
        let listing = Arc::new(Listing { entries, positions });
        let heap_bytes = listing.heap_bytes();
        let mut listings = self.listings.lock();
        if self.epochs.stands(token, node, Part::Listing) {
            listings.put(node, (listing, Trust { change, until }), heap_bytes, |_, _| ());
        }
    }

    /// Forgets a directory's listing after one of its names changed, and refuses answers under way.
    pub fn invalidate(&self, node: Node) {
        self.epochs.bump_part(node, Part::Listing);
        self.forget(node);
    }

    /// Hits and misses.
    pub fn count(&self) -> HitCount {
        self.counter.read()
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.listings.lock().bytes()
    }

    pub(super) fn forget(&self, node: Node) {
        self.listings.lock().pop(&node);
    }

    pub(super) fn forget_everything(&self) {
        self.listings.lock().clear();
    }
}

/// What an allocator adds to each name.
const NAME_ALLOCATION_BYTES: usize = 16;

fn listed(entry: &DirEntry) -> ListedEntry {
    ListedEntry {
        name: entry.name.clone(),
        cookie: entry.cookie,
        ino: entry.ino,
        kind: entry.attr.as_ref().map(|attr| attr.kind).or(entry.kind),
        node: entry.attr.as_ref().map(|attr| attr.node),
    }
}
