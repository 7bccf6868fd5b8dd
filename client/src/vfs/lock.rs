//! Byte-range locks (fcntl(2)), and those of flock(2), which arrive as locks of the whole file.

use std::collections::HashSet;
use std::sync::Arc;

use nearfs_protocol::attr::{Lock, LockKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
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
        let takes = lock.kind != LockKind::Unlock;
        if takes {
            self.locked.note(file.node, lock.owner);
        }
        let patience = if wait { Patience::Endless } else { Patience::Bounded };
        let vfs = Arc::clone(self);
        let request = Request::SetLock { fh: file.fh, lock, wait };
        self.call_patient(caller, file.node, request, None, patience, move |outcome| {
            if takes && outcome.is_ok() {
                // Whoever held the lock before may have written: what is cached dates from before it.
                vfs.distrust(file.node);
            }
            done(outcome.map(|_| ()));
        });
    }
}

/// Who took a lock of which node: only for them the server must hear of a closed descriptor.
#[derive(Debug, Default)]
pub(crate) struct Locked(Mutex<HashSet<(Node, u64)>>);

impl Locked {
    fn note(&self, node: Node, owner: u64) {
        self.0.lock().insert((node, owner));
    }

    /// The owner closed a descriptor and so gives its locks up. Whether it had any.
    pub(crate) fn take(&self, node: Node, owner: u64) -> bool {
        self.0.lock().remove(&(node, owner))
    }
}
