//! Byte-range locks (fcntl(2)), and those of flock(2), which arrive as locks of the whole file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nearfs_protocol::attr::{Lock, LockKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::limits::REQUESTS_IN_FLIGHT_MAX;
use nearfs_protocol::message::{Reply, Request};

use parking_lot::Mutex;

use crate::identity::Caller;
use crate::rpc::Patience;
use crate::vfs::{Vfs, tri, unexpected};

impl Vfs {
    /// Asks which lock would be in the way (`F_GETLK`).
    pub fn getlk(
        self: &Arc<Self>,
        caller: Caller,
        _ino: u64,
        fh: u64,
        lock: Lock,
        done: impl FnOnce(Result<Option<Lock>, Errno>) + Send + 'static,
    ) {
        let file = tri!(self.files.get(fh), done);
        self.call(caller, file.node, Request::GetLock { fh: file.fh, lock }, |outcome| {
            done(outcome.and_then(|(reply, _)| match reply {
                Reply::Lock(lock) => Ok(lock),
                other => Err(unexpected(&other)),
            }));
        });
    }

    /// Takes or gives back a lock; with `wait` as long as it takes (`F_SETLKW`).
    pub fn setlk(
        self: &Arc<Self>,
        caller: Caller,
        _ino: u64,
        fh: u64,
        lock: Lock,
        wait: bool,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let file = tri!(self.files.get(fh), done);
        let node = file.node;
        if self.behind.is_pending(node) {
            let again = move |vfs: &Arc<Vfs>, done| vfs.setlk(caller, _ino, fh, lock, wait, done);
            let patience = if wait { Patience::Endless } else { Patience::Bounded };
            return self.after_writes(caller, node, patience, done, again);
        }
        let takes = lock.kind != LockKind::Unlock;
        let waits = takes && wait;
        if waits && self.locked.waiting.fetch_add(1, Ordering::Relaxed) >= LOCK_WAITS_MAX {
            self.locked.waiting.fetch_sub(1, Ordering::Relaxed);
            return done(Err(Errno::ENOLCK));
        }
        let token = self.cache.begin_fill();
        let patience = if wait { Patience::Endless } else { Patience::Bounded };
        let vfs = Arc::clone(self);
        let request = Request::SetLock { fh: file.fh, lock, wait };
        let mut owners = self.locked.owners.lock();
        if takes {
            owners.insert((node, lock.owner), fh);
        }
        // Sent with the table locked, so that a file that is closed meanwhile gives up only its own lock.
        self.call_patient(caller, node, request, None, patience, move |outcome| {
            if waits {
                vfs.locked.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            // Whoever held the lock before may have written. What is cached from before that must be gone when the
            // program goes on.
            match outcome {
                Ok((Reply::Attr(attr), _))
                    if attr.node == node && vfs.nodes.pages_change(node).same_as(attr.change) =>
                {
                    vfs.cache.fill_attr(token, &attr, Instant::now());
                    done(Ok(()));
                }
                Ok(_) if takes => vfs.distrust(node, Box::new(move || done(Ok(())))),
                Ok(_) => done(Ok(())),
                Err(errno) => done(Err(errno)),
            }
        });
    }
}

impl Vfs {
    /// The connection was lost for a while, perhaps for so long that others have got locks which programs here believe
    /// to hold: they shall read nothing of those files that is not the server's word.
    pub(crate) fn distrust_locked(&self) {
        for node in self.locked.nodes() {
            self.distrust(node, Box::new(|| ()));
        }
    }
}

/// Most programs that wait for locks at once: each takes a slot of the session, and those who give locks back need
/// some too.
const LOCK_WAITS_MAX: usize = REQUESTS_IN_FLIGHT_MAX / 2;

/// Who took locks of which node, and through which file: only for them the server must hear of a closed descriptor.
#[derive(Debug, Default)]
pub(crate) struct Locked {
    owners: Mutex<HashMap<(Node, u64), u64>>,
    waiting: AtomicUsize,
}

impl Locked {
    fn nodes(&self) -> HashSet<Node> {
        self.owners.lock().keys().map(|(node, _)| *node).collect()
    }

    /// The owner closed a descriptor and so gives its locks up. Whether it had any.
    pub(crate) fn take(&self, node: Node, owner: u64) -> bool {
        self.owners.lock().remove(&(node, owner)).is_some()
    }

    /// A file that had flock(2) locks is closed: `send` tells the server, with the owner unless its locks are another
    /// file's by now. The kernel tells of closed files late, and uses the numbers of owners again.
    pub(crate) fn closed(&self, node: Node, owner: u64, fh: u64, send: impl FnOnce(Option<u64>)) {
        let mut owners = self.owners.lock();
        let is_own = owners.get(&(node, owner)) == Some(&fh);
        if is_own {
            owners.remove(&(node, owner));
        }
        send(is_own.then_some(owner));
    }
}
