//! What each request does, a family a file.

mod attr;
mod content;
mod copy;
mod dir;
mod lock;
mod lookup;
mod make;
mod open;
mod rename;
mod xattr;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nearfs_protocol::attr::{Attr, Lock};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Node, NodeId};
use parking_lot::MutexGuard;

use crate::descriptor::Slot;
use crate::dispatch::{Pace, Response, SessionFiles};
use crate::handle::OpenFile;
use crate::node::{Held, Place, Way};

/// What an operation came to.
pub(crate) type Outcome = Result<Response, Stop>;

/// Why there is no answer yet, or none but an error.
pub(crate) enum Stop {
    /// It failed.
    Refused(Errno),
    /// It would sleep, and has had no effect yet: to be begun again where it may.
    MaySleep,
    /// It has had its effect; the rest would sleep.
    Later(Box<dyn FnOnce() -> Response + Send>),
    /// It waits for this lock of the node.
    Waits(NodeId, Lock),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Refused(errno)
    }
}

/// A node that is at hand.
pub(crate) enum At {
    /// For looking.
    Held(Arc<Held>),
    /// Through an open file.
    Open(Arc<OpenFile>),
}

impl AsFd for At {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            At::Held(held) => held.as_fd(),
            At::Open(file) => file.as_fd(),
        }
    }
}

impl SessionFiles {
    /// Gets at a node that the session knows; one without a name through a file that has it open.
    ///
    /// Errors: `ESTALE` if the session does not know it or it is gone.
    pub(crate) fn reach(&self, node: Node) -> Result<At, Errno> {
        self.known.check(node)?;
        match self.tree.nodes.way(node)? {
            Way::Held(held) => Ok(At::Held(held)),
            Way::Find(place, handle) => match self.files.of_node(node) {
                Some(file) => Ok(At::Open(file)),
                None => self.tree.find(node, place, handle).map(At::Held),
            },
        }
    }

    /// A slot for a file or directory that the session opens.
    ///
    /// Errors: `ENFILE`.
    pub(crate) fn slot(&self) -> Result<Slot, Errno> {
        self.tree.slot_for_file(|| self.files.count())
    }

    /// Counts the lookup that an answer with these attributes carries.
    pub(crate) fn count(&self, attr: &Attr, place: Place) {
        let found = |is_new| self.tree.nodes.found(attr.node, attr.kind, place, is_new);
        self.known.count(attr.node, found);
    }

    /// Keeps other clients from changing the node meanwhile. Where that may take long, it is waited for elsewhere.
    pub(crate) fn changing(&self, node: Node, pace: Pace) -> Result<MutexGuard<'_, ()>, Stop> {
        match pace {
            Pace::Quick => self.tree.try_change(node).ok_or(Stop::MaySleep),
            Pace::Slow => Ok(self.tree.change(node)),
        }
    }
}
