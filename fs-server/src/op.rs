//! What each request does, a family a file.

mod announce;
mod attr;
mod content;
mod copy;
mod dir;
mod dir_change;
mod intend;
pub(crate) mod limbo;
mod lock;
mod lookup;
mod make;
mod open;
mod publish;
mod rename;
mod transfer;
mod xattr;

use nearfs_protocol::attr::Lock;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Node, NodeId};
use nearfs_protocol::message::{Answer, Reply};
use nearfs_transport::pool::Payload;
use parking_lot::MutexGuard;

use crate::session_files::SessionFiles;

pub(crate) use transfer::Content;

/// What is sent back for a call.
#[derive(Debug)]
pub struct Response {
    /// The control part.
    pub answer: Answer,
    /// The bytes beside it.
    pub payload: Payload,
}

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

/// Where a call is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// On a thread that has others to serve.
    Quick,
    /// On one that may sleep.
    Slow,
}

impl Response {
    pub(crate) fn refused(errno: Errno) -> Response {
        Response { answer: Err(errno), payload: Payload::empty() }
    }
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Response {
        Response { answer: Ok(reply), payload: Payload::empty() }
    }
}

impl SessionFiles {
    /// Keeps other clients from changing the node meanwhile. Where that may take long, it is waited for elsewhere.
    pub(crate) fn changing(&self, node: Node, pace: Pace) -> Result<MutexGuard<'_, ()>, Stop> {
        match pace {
            Pace::Quick => self.tree.try_change(node).ok_or(Stop::MaySleep),
            Pace::Slow => Ok(self.tree.change(node)),
        }
    }
}
