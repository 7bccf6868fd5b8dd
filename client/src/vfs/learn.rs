//! Listing directories in which names are looked for that are not there, so that later ones need not be asked for.
//!
//! A kernel looks for each name before it makes it. Where the server is far away that doubles the time; one listing, which
//! nobody waits for, answers all further questions while the directory changes by our own doing only.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use nearfs_protocol::id::Node;
use nearfs_protocol::message::{Reply, Request};
use parking_lot::Mutex;

use crate::identity::Caller;
use crate::vfs::Vfs;

/// Directories of which it is remembered how often they were asked for names that are not there.
const DIRECTORIES_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// With this many such questions a directory is listed: one alone is often the only one.
const QUESTIONS_MIN: u8 = 2;
/// Bytes of entries that are asked for. What has more is not listed.
const LISTING_BYTES_MAX: u32 = 64 * 1024;
/// How long a directory is left alone after it was listed: others may change it all the time.
const PAUSE: Duration = Duration::from_secs(1);
/// And after that was in vain, because it has too many names, or is not for the caller to read, or its list does not tell.
const PAUSE_IN_VAIN: Duration = Duration::from_secs(60);

/// Which directories are worth a listing.
pub(crate) struct Learning {
    asked: Mutex<LruCache<Node, Asked>>,
}

#[derive(Clone, Copy)]
struct Asked {
    questions: u8,
    not_before: Instant,
}

impl Default for Learning {
    fn default() -> Learning {
        Learning { asked: Mutex::new(LruCache::new(DIRECTORIES_MAX)) }
    }
}

impl Learning {
    /// Somebody asked for a name that is not there, or is about to. Whether to list the directory now.
    fn is_due(&self, directory: Node, now: Instant) -> bool {
        let mut asked = self.asked.lock();
        let asked = asked.get_or_insert_mut(directory, || Asked { questions: 0, not_before: now });
        asked.questions = asked.questions.saturating_add(1);
        let due = asked.questions >= QUESTIONS_MIN && now >= asked.not_before;
        if due {
            *asked = Asked { questions: 0, not_before: now + PAUSE };
        }
        due
    }

    fn was_in_vain(&self, directory: Node, now: Instant) {
        self.asked.lock().put(directory, Asked { questions: 0, not_before: now + PAUSE_IN_VAIN });
    }
}

impl Vfs {
    /// A name was asked for or made of which it had not been known that it is absent. Never waits.
    pub(crate) fn absence_unknown(self: &Arc<Self>, caller: Caller, directory: Node) {
        let now = Instant::now();
        let wanted = self.rpc.is_far()
            && self.config.cache_bytes > 0
            && !self.config.negative_timeout.is_zero()
            && !self.cache.is_complete(directory, now)
            && self.learning.is_due(directory, now);
        if wanted {
            let vfs = Arc::clone(self);
            self.rpc.defer(Box::new(move || vfs.learn(caller, directory)));
        }
    }

    fn learn(self: &Arc<Self>, caller: Caller, node: Node) {
        let token = self.cache.begin_fill();
        let vfs = Arc::clone(self);
        let request =
            Request::ReadDir { node, cookie: 0, entry_bytes_max: LISTING_BYTES_MAX, with_attrs: false };
        self.call(caller, node, request, move |outcome| match outcome {
            Ok((Reply::Listing { entries, exact: true, change, .. }, _)) => {
                let names = entries.into_iter().map(|entry| entry.name);
                vfs.cache.fill_names(token, node, change, names, Instant::now());
            }
            Ok(_) | Err(_) => vfs.learning.was_in_vain(node, Instant::now()),
        });
    }
}

#[cfg(test)]
mod tests {
    use nearfs_protocol::id::{Generation, NodeId};

    use super::*;

    #[test]
    fn a_directory_is_listed_when_it_is_asked_again_and_then_not_too_often() {
        let learning = Learning::default();
        let node = |id| Node { id: NodeId(id), generation: Generation(0) };
        let start = Instant::now();
        assert_eq!([1, 2, 1, 1].map(|id| learning.is_due(node(id), start)), [false, false, true, false]);
        assert!(!learning.is_due(node(1), start));
        assert!(learning.is_due(node(1), start + PAUSE));
        learning.was_in_vain(node(1), start);
        assert!([PAUSE; 5].into_iter().all(|after| !learning.is_due(node(1), start + after)));
        assert!(learning.is_due(node(1), start + PAUSE_IN_VAIN));
    }
}
