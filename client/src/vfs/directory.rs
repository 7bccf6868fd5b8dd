//! Listing directories.
//!
//! The kernel keeps whole listings itself, for as long as the directory's change counter stands; here
//! is what was fetched for one reader and not yet taken, and the last listings that came whole in one answer, for whoever
//! opens the directory again: rm(1) looks whether there is anything in a directory before it lists it. Attributes that
//! have become old meanwhile, by time or by a change of our own, are not handed out: they are fetched again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nearfs_protocol::attr::{DirEntry, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::name::Name;
use parking_lot::Mutex;

use crate::cache::FillToken;
use crate::files::{Fetched, Gathered, Listed, Listing, OpenDirectory};
use crate::identity::Caller;
use crate::rpc::Outcome;
use crate::vfs::types::{DirItem, Entry, Opened};
use crate::vfs::{Vfs, tri, unexpected};

/// Bytes of entries asked for at first; a reader that goes on gets more at a time.
const FIRST_PAGE_BYTES: u32 = 32 * 1024;
/// Most bytes of entries asked for at once.
const PAGE_BYTES_MAX: u32 = 192 * 1024;
/// Where the server's cookies begin among the offsets: `.` and `..` come before them and are our own.
const OWN_OFFSETS: u64 = 2;

/// What the server told of a directory in one answer.
struct Page {
    entries: Arc<Vec<DirEntry>>,
    end: bool,
    exact: bool,
    change: Change,
}

impl Vfs {
    /// Opens a directory. Its first entries come along, unless the kernel still has them all or nobody is likely to want any.
    pub fn opendir(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        done: impl FnOnce(Result<Opened, Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        if let Some((attr, _)) = self.cache.attr(node, Instant::now()) {
            let keep = self.nodes.pages_change(node).same_as(attr.change);
            if keep || self.files.is_seldom_read(node) {
                return done(Ok(self.opened_directory(node, Listing::default(), None, keep)));
            }
        }
        let vfs = Arc::clone(self);
        let token = self.cache.begin_fill();
        self.call(caller, node, page(node, 0, FIRST_PAGE_BYTES, true), move |outcome| {
            let listed = match vfs.listed(token, node, outcome) {
                // A directory that was removed while it is in use has no names, and can be opened.
                Err(Errno::ENOENT) => {
                    Ok(Page { entries: Arc::default(), end: true, exact: false, change: Change::UNSURE })
                }
                listed => listed,
            };
            done(listed.map(|page| {
                let keep = vfs.nodes.pages_opened(node, page.change);
                let gathered = vfs.gathered(Gathered::new(token, page.change), node, 0, &page);
                let fetched = Fetched { token, at: Instant::now() };
                if page.end {
                    let entries = Arc::clone(&page.entries);
                    vfs.files.note_listed(node, Listed { entries, change: page.change, fetched });
                }
                let listing = Listing {
                    entries: page.entries,
                    end: page.end,
                    fetched: Some(fetched),
                    page_bytes: FIRST_PAGE_BYTES,
                    ..Listing::default()
                };
                vfs.opened_directory(node, listing, gathered, keep)
            }));
        });
    }

    /// Lists from `offset` on (0 for the start, else that of the last item taken). `take` gets the next items,
    /// none at the end, and says how many it took.
    pub fn readdir(
        self: &Arc<Self>,
        caller: Caller,
        _ino: u64,
        fh: u64,
        offset: u64,
        plus: bool,
        take: impl FnOnce(Result<&[DirItem], Errno>) -> usize + Send + 'static,
    ) {
        let directory = match self.files.directory(fh) {
            Ok(directory) => directory,
            Err(errno) => {
                take(Err(errno));
                return;
            }
        };
        directory.is_read.store(true, Ordering::Relaxed);
        let node = directory.node;
        let cookie = cookie_at(offset);
        let mut listing = directory.listing.lock();
        if cookie == 0
            && listing.fetched.is_none()
            && let Some(listed) = self.listed_lately(node)
        {
            *listing = listed;
        }
        if listing.seek(cookie) && (!plus || self.is_fresh(node, &listing)) {
            return self.hand_over(node, &mut listing, offset, plus, take);
        }
        let page_bytes = (listing.page_bytes * 2).clamp(FIRST_PAGE_BYTES, PAGE_BYTES_MAX);
        drop(listing);
        let vfs = Arc::clone(self);
        let token = self.cache.begin_fill();
        self.call(caller, node, page(node, cookie, page_bytes, plus), move |outcome| {
            let page = match vfs.listed(token, node, outcome) {
                Ok(listed) => listed,
                Err(errno) => {
                    take(Err(errno));
                    return;
                }
            };
            let so_far = match cookie {
                0 => Some(Gathered::new(token, page.change)),
                _ => directory.gathered.lock().take(),
            };
            let gathered = so_far.and_then(|so_far| vfs.gathered(so_far, node, cookie, &page));
            *directory.gathered.lock() = gathered;
            let Page { entries, end, .. } = page;
            let mut listing = directory.listing.lock();
            let fetched = Some(Fetched { token, at: Instant::now() });
            let fetched = Listing { start: cookie, entries, taken: 0, end, fetched, page_bytes };
            let rest = std::mem::replace(&mut *listing, fetched);
            vfs.give_back(rest);
            vfs.hand_over(node, &mut listing, offset, plus, take);
        });
    }

    /// Closes a directory.
    pub fn releasedir(self: &Arc<Self>, _ino: u64, fh: u64) {
        if let Some(directory) = self.files.remove_directory(fh) {
            self.give_back(std::mem::take(&mut *directory.listing.lock()));
        }
    }

    /// Brings a directory's names to the server's disk (fsync(2)).
    pub fn fsyncdir(
        self: &Arc<Self>,
        caller: Caller,
        _ino: u64,
        fh: u64,
        data_only: bool,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let directory = tri!(self.files.directory(fh), done);
        let node = directory.node;
        self.call_writing(caller, node, Request::FsyncDir { node, data_only }, None, |outcome| {
            done(outcome.map(|_| ()));
        });
    }

    fn opened_directory(
        &self,
        node: Node,
        listing: Listing,
        gathered: Option<Gathered>,
        keep_cache: bool,
    ) -> Opened {
        let (listing, gathered) = (Mutex::new(listing), Mutex::new(gathered));
        // What the kernel kept it may have read without asking.
        let is_read = AtomicBool::new(keep_cache);
        let fh = self.files.add_directory(OpenDirectory { node, listing, gathered, is_read });
        Opened { fh, keep_cache, direct_io: false, cache_dir: self.config.cache_bytes > 0 }
    }

    /// Gathers the names of a page that begins at a cookie. At the end they are all names of the directory; if there is
    /// more to come, returns those so far.
    fn gathered(&self, so_far: Gathered, node: Node, cookie: u64, page: &Page) -> Option<Gathered> {
        if !self.rpc.is_far() {
            return None; // Asking costs less than remembering.
        }
        let gathered = so_far.and(cookie, &page.entries, page.change)?;
        if page.exact {
            let Gathered { token, change, names, .. } = gathered;
            self.cache.fill_names(token, node, change, names.into_iter(), Instant::now());
            return None;
        }
        (!page.end).then_some(gathered)
    }

    /// Takes a listing out of an answer and counts the references that came with it.
    fn listed(&self, token: FillToken, parent: Node, outcome: Outcome) -> Result<Page, Errno> {
        match outcome?.0 {
            Reply::Listing { entries, end, exact, change } => {
                if entries.iter().any(|entry| entry.cookie == 0 || entry.cookie > i64::MAX as u64) {
                    return Err(Errno::EIO); // No kernel offset can express it: the server is broken.
                }
                for entry in &entries {
                    if let Some(attr) = &entry.attr {
                        self.nodes.grant(attr.node);
                    }
                }
                self.cache.fill_page(token, parent, change, &entries, Instant::now());
                Ok(Page { entries: Arc::new(entries), end, exact, change })
            }
            other => Err(unexpected(&other)),
        }
    }

    fn hand_over(
        &self,
        node: Node,
        listing: &mut Listing,
        offset: u64,
        plus: bool,
        take: impl FnOnce(Result<&[DirItem], Errno>) -> usize,
    ) {
        let mut items = self.dots(node, offset);
        let dot_count = items.len();
        let waiting = &listing.entries[listing.taken..];
        let fetched = listing.fetched.filter(|_| plus);
        items.extend(waiting.iter().map(|entry| self.item(node, entry, fetched)));
        let node_of = |item: &DirItem| Some(item.entry.as_ref()?.attr.node);
        let waiting_items = &items[dot_count..];
        // Before the kernel has them: it may give a reference back before this thread goes on.
        waiting_items.iter().filter_map(node_of).for_each(|node| self.nodes.reference(node));
        let taken = take(Ok(&items)).min(items.len()).saturating_sub(dot_count);
        waiting_items[taken..].iter().filter_map(node_of).for_each(|node| self.nodes.unreference(node));
        for (item, entry) in waiting_items[..taken].iter().zip(waiting) {
            if let (None, Some(attr)) = (&item.entry, &entry.attr) {
                self.give_back_one(attr.node);
            }
        }
        listing.taken += taken;
    }

    /// What another reader was told of a directory, if that is known to have the same names still and the kernel knows all
    /// that they lead to.
    fn listed_lately(&self, directory: Node) -> Option<Listing> {
        let Listed { entries, change, fetched } = self.files.last_listed(directory)?;
        let (attr, _) = self.cache.attr(directory, Instant::now())?;
        if !attr.change.same_as(change) {
            return None;
        }
        let nodes = || entries.iter().filter_map(|entry| entry.attr.as_ref()).map(|attr| attr.node);
        let held_count = nodes().take_while(|node| self.nodes.hold_again(*node)).count();
        if held_count < nodes().count() {
            nodes().take(held_count).for_each(|node| self.give_back_one(node));
            return None;
        }
        let page_bytes = FIRST_PAGE_BYTES;
        Some(Listing { entries, end: true, fetched: Some(fetched), page_bytes, ..Listing::default() })
    }

    /// Whether all attributes in a listing are still right. The kernel would take old ones for new, however short
    /// the time for which it may believe them.
    fn is_fresh(&self, parent: Node, listing: &Listing) -> bool {
        let waiting = &listing.entries[listing.taken..];
        waiting.iter().all(|entry| match (&entry.attr, listing.fetched) {
            (Some(attr), Some(fetched)) => self.ttls(parent, &entry.name, attr.node, fetched).is_some(),
            (None, _) | (_, None) => true,
        })
    }

    /// How long a listed name and its attributes are right; `None` if they no longer are.
    fn ttls(&self, parent: Node, name: &Name, node: Node, fetched: Fetched) -> Option<(Duration, Duration)> {
        let left = |trust: Duration| trust.checked_sub(fetched.at.elapsed());
        let ttls = (left(self.config.entry_timeout)?, left(self.config.attr_timeout)?);
        self.cache.stands(fetched.token, (parent, name), node).then_some(ttls)
    }

    /// An entry for the kernel, with its attributes if they are wanted. What changed while they were fetched is
    /// not believed: the kernel sees by itself that they are from before the change.
    fn item(&self, parent: Node, entry: &DirEntry, fetched: Option<Fetched>) -> DirItem {
        let full = fetched.zip(entry.attr).and_then(|(fetched, attr)| {
            let ttls = self.ttls(parent, &entry.name, attr.node, fetched);
            // It does not see that of a write that its program did not wait for.
            let (entry_ttl, attr_ttl) = ttls.or((!self.behind.is_used()).then(Default::default))?;
            Some(Entry { entry_ttl, attr_ttl, ..self.entry(attr) })
        });
        DirItem {
            ino: entry.ino,
            offset: offset_after(entry.cookie),
            kind: entry.attr.as_ref().map(|attr| attr.kind).or(entry.kind),
            name: entry.name.as_bytes().to_vec(),
            entry: full,
        }
    }

    /// `.` and `..` as far as they come at or after `offset`.
    fn dots(&self, node: Node, offset: u64) -> Vec<DirItem> {
        let dot = |offset, name: &[u8]| DirItem {
            ino: node.id.0,
            offset,
            kind: Some(FileKind::Directory),
            name: name.to_vec(),
            entry: None,
        };
        [dot(1, b"."), dot(OWN_OFFSETS, b"..")].into_iter().filter(|item| item.offset > offset).collect()
    }

    /// Gives the references of entries that nobody took back to the server.
    fn give_back(&self, listing: Listing) {
        for entry in &listing.entries[listing.taken..] {
            if let Some(attr) = &entry.attr {
                self.give_back_one(attr.node);
            }
        }
    }

    fn give_back_one(&self, node: Node) {
        if let Some((node, count)) = self.nodes.unused(node) {
            self.forgotten(node, count);
        }
    }
}

fn page(node: Node, cookie: u64, entry_bytes_max: u32, with_attrs: bool) -> Request {
    Request::ReadDir { node, cookie, entry_bytes_max, with_attrs }
}

/// The kernel's offset for a cookie of the server. The largest that there is means the end, on ext4 for example, and
/// stays itself.
fn offset_after(cookie: u64) -> u64 {
    cookie.saturating_add(OWN_OFFSETS).min(i64::MAX as u64)
}

/// The cookie for an offset of the kernel.
fn cookie_at(offset: u64) -> u64 {
    if offset == i64::MAX as u64 { offset } else { offset.saturating_sub(OWN_OFFSETS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_come_back_as_they_were() {
        for cookie in [1, 2, 1 << 40, i64::MAX as u64 - 3, i64::MAX as u64] {
            assert_eq!(cookie_at(offset_after(cookie)), cookie);
        }
        assert_eq!([0, 1, 2].map(cookie_at), [0; 3]);
    }
}
