//! Whether a change of names was the only one in its directory: asked of inotify(7), because anything on this machine
//! may change the same directory between two looks at it.
//!
//! The kernel queues an event for each name that is made, moved or removed while it still holds the lock of the
//! directory. If between two looks there were as many events as the change itself causes, and nobody holds the lock any
//! more who had it at the second look, then there was no other change.

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;

use lru::LruCache;
use nearfs_protocol::id::Node;
use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Most directories that are watched at a time. Each pins an inode in the kernel, and counts towards the user's
/// `fs.inotify.max_user_watches`.
const WATCHES_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
/// Room for the events that are read at once.
const EVENTS_BYTES: usize = 4096;
/// Bytes of an event without a name (inotify(7)). A name is filled up to a multiple of this.
const EVENT_BYTES: usize = 16;
/// Bytes of one with the longest name.
const EVENT_BYTES_MAX: usize = EVENT_BYTES + 256;

const NAMES_CHANGE: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

/// Watches directories whose names clients change.
pub(crate) struct Witness {
    /// Nothing if the system has no more instances: then nobody knows.
    inotify: Option<OwnedFd>,
    watches: Mutex<Watches>,
}

/// What had happened to a directory's names at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    watch: i32,
    events: u64,
    gaps: u64,
}

struct Watches {
    by_node: LruCache<Node, i32>,
    by_watch: HashMap<i32, Watch>,
    /// How often the kernel dropped events because nobody took them.
    gaps: u64,
}

struct Watch {
    node: Node,
    events: u64,
}

impl Witness {
    pub(super) fn new() -> Witness {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        if let Err(error) = &inotify {
            log::warn!("cannot watch directories, so that clients ask more often: inotify: {error}");
        }
        let watches = Watches { by_node: LruCache::new(WATCHES_MAX), by_watch: HashMap::new(), gaps: 0 };
        Witness { inotify: inotify.ok(), watches: Mutex::new(watches) }
    }

    /// What has happened so far in a directory that is watched. To be asked before its counter is read.
    pub(crate) fn seen(&self, directory: Node) -> Option<Seen> {
        let mut watches = self.watches.lock();
        let watch = *watches.by_node.get(&directory)?;
        watches.seen(watch)
    }

    /// Watches a directory from here on. `None` if the system refuses, for the number of watches or for want of the
    /// right to read the directory.
    pub(super) fn watch(&self, directory: Node, path: &CStr) -> Option<Seen> {
        let inotify = self.inotify.as_ref()?;
        let mut watches = self.watches.lock();
        let watch = inotify::add_watch(inotify, path, NAMES_CHANGE).ok()?;
        // Whoever came first may have begun to count.
        watches.by_watch.entry(watch).or_insert(Watch { node: directory, events: 0 });
        if let Some((_, gone)) = watches.by_node.push(directory, watch)
            && gone != watch
        {
            watches.by_watch.remove(&gone);
            // It may have ended by itself, with its directory.
            let _ = inotify::remove_watch(inotify, gone);
        }
        watches.seen(watch)
    }

    /// Whether nothing has happened to a directory's names since `seen` but changes that cause so many events. To be
    /// asked after its counter was read and [`super::Export::wait_for_changes_of_names`].
    pub(crate) fn saw_only(&self, seen: Seen, events: u64) -> bool {
        let mut watches = self.watches.lock();
        if let Some(inotify) = &self.inotify {
            watches.take_events(inotify);
        }
        watches.seen(seen.watch) == Some(Seen { events: seen.events + events, ..seen })
    }
}

impl Watches {
    fn seen(&self, watch: i32) -> Option<Seen> {
        let events = self.by_watch.get(&watch)?.events;
        Some(Seen { watch, events, gaps: self.gaps })
    }

    /// Takes all events that the kernel has. It gives as many as there is room for: once there was room for another, there
    /// is none left, and nothing has to be asked again.
    fn take_events(&mut self, inotify: &OwnedFd) {
        let mut room = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut events = inotify::Reader::new(inotify, &mut room);
        let mut read_bytes = 0;
        loop {
            match events.next() {
                Ok(event) => {
                    let name_bytes = event.file_name().map_or(0, |name| name.count_bytes() + 1);
                    read_bytes += EVENT_BYTES + name_bytes.next_multiple_of(EVENT_BYTES);
                    self.happened(event.wd(), event.events());
                    if !events.is_buffer_empty() {
                        continue;
                    }
                    if std::mem::take(&mut read_bytes) + EVENT_BYTES_MAX <= EVENTS_BYTES {
                        return;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    log::warn!("cannot read what happened in directories: {error}");
                    self.gaps += 1;
                    return;
                }
            }
        }
    }

    fn happened(&mut self, watch: i32, what: ReadFlags) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.gaps += 1;
        } else if what.contains(ReadFlags::IGNORED) {
            if let Some(gone) = self.by_watch.remove(&watch)
                && self.by_node.peek(&gone.node) == Some(&watch)
            {
                self.by_node.pop(&gone.node);
            }
        } else if let Some(watch) = self.by_watch.get_mut(&watch) {
            watch.events += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use nearfs_protocol::id::{Generation, NodeId};

    use super::*;

    fn watch(witness: &Witness, id: u64, directory: &Path) -> Seen {
        let path = CString::new(directory.as_os_str().as_bytes()).unwrap();
        witness.watch(node(id), &path).unwrap()
    }

    fn node(id: u64) -> Node {
        Node { id: NodeId(id), generation: Generation(0) }
    }

    #[test]
    fn every_change_of_names_is_counted_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b, c) = (directory.path().join("a"), directory.path().join("b"), directory.path().join("c"));
        let witness = Witness::new();
        let mut seen = watch(&witness, 1, directory.path());
        let mut counts = |step: &dyn Fn(), events: u64| {
            step();
            assert!(!witness.saw_only(seen, events + 1));
            assert!(witness.saw_only(seen, events));
            seen = witness.seen(node(1)).unwrap();
        };
        counts(&|| std::fs::write(&a, "x").unwrap(), 1);
        counts(&|| std::fs::write(&a, "y").unwrap(), 0);
        counts(&|| std::fs::hard_link(&a, &b).unwrap(), 1);
        counts(&|| std::fs::rename(&a, &b).unwrap(), 0); // Two names of one file: nothing is done.
        counts(&|| std::fs::rename(&a, &c).unwrap(), 2);
        counts(&|| std::fs::rename(&c, &b).unwrap(), 0);
        counts(&|| std::fs::remove_file(&c).unwrap(), 1);
        counts(&|| std::fs::create_dir(&a).unwrap(), 1);
        counts(&|| std::fs::write(a.join("below"), "").unwrap(), 0);
        counts(&|| std::fs::remove_dir_all(&a).unwrap(), 1);
        counts(&|| std::os::unix::fs::symlink("x", &a).unwrap(), 1);
    }

    #[test]
    fn a_directory_that_is_not_watched_any_more_is_vouched_for_by_nobody() {
        let all = tempfile::tempdir().unwrap();
        let witness = Witness::new();
        let (first, removed) = (all.path().join("first"), all.path().join("removed"));
        std::fs::create_dir(&first).unwrap();
        std::fs::create_dir(&removed).unwrap();
        let (seen, seen_removed) = (watch(&witness, 1, &first), watch(&witness, 2, &removed));
        assert!(witness.saw_only(seen, 0) && witness.saw_only(seen_removed, 0));
        std::fs::remove_dir(&removed).unwrap();
        assert!(!witness.saw_only(seen_removed, 0));
        assert_eq!(witness.seen(node(2)), None);
        for id in 10..10 + WATCHES_MAX.get() as u64 {
            let another = all.path().join(id.to_string());
            std::fs::create_dir(&another).unwrap();
            watch(&witness, id, &another);
        }
        assert!(!witness.saw_only(seen, 0));
        assert_eq!(witness.seen(node(1)), None);
        let watches = witness.watches.lock();
        assert_eq!((watches.by_node.len(), watches.by_watch.len()), (WATCHES_MAX.get(), WATCHES_MAX.get()));
    }
}
