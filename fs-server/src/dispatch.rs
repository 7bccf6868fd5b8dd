//! One session's requests, carried out: the only place that tells requests apart.
//!
//! [`SessionFiles::serve`] is called from many threads at once and never waits for a disk longer than it must:
//! what may sleep comes back as [`Served::Slow`], to be run where sleeping hurts nobody, and a lock that others
//! hold as [`Served::Waits`].

use std::sync::Arc;

use nearfs_protocol::attr::Attr;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{RequestId, SessionId};
use nearfs_protocol::message::{Answer, Call};
use nearfs_protocol::name::Name;
use nearfs_transport::pool::{Payload, Pool};

use crate::tree::Tree;

/// What one session knows and holds of an export: nodes, open files, listings, lock waits.
/// Dropping it, or [`SessionFiles::end`], gives everything back.
pub struct SessionFiles {
    tree: Arc<Tree>,
    session: SessionId,
    pool: Pool,
}

/// What became of a call.
pub enum Served {
    /// It is done.
    Answered(Response),
    /// It would wait for a disk: run it on a thread that may sleep.
    Slow(SlowCall),
    /// Somebody else holds the lock it asks for: answered when it is granted or given up.
    Waits(LockWait),
}

/// What is sent back for a call.
#[derive(Debug)]
pub struct Response {
    /// The control part.
    pub answer: Answer,
    /// The bytes beside it.
    pub payload: Payload,
}

/// The rest of a call that may sleep.
pub struct SlowCall(Box<dyn FnOnce() -> Response + Send>);

impl SlowCall {
    /// Carries it out.
    pub fn run(self) -> Response {
        (self.0)()
    }
}

/// A call that waits for a lock.
pub struct LockWait(());

impl LockWait {
    /// Has `reply` called with the answer, once: at once if the lock has been granted meanwhile; with
    /// `ECANCELED` after [`SessionFiles::cancel`] or the session's end; else by whichever thread gives the lock
    /// back. `reply` must not sleep and must not call the session.
    pub fn then(self, reply: impl FnOnce(Response) + Send + 'static) {
        drop(reply);
    }
}

impl SessionFiles {
    /// Starts a session on the directory of the tree that is reached by `path`, its root.
    /// `pool` gives the room for what is read.
    ///
    /// Errors: `ENOENT`, `ENOTDIR` (also for a symlink on the way, which is never followed).
    pub fn begin(
        tree: &Arc<Tree>,
        session: SessionId,
        path: &[Name],
        pool: &Pool,
    ) -> Result<Arc<SessionFiles>, Errno> {
        let _ = path;
        Ok(Arc::new(SessionFiles { tree: tree.clone(), session, pool: pool.clone() }))
    }

    /// The attributes of the session's root.
    pub fn root(&self) -> Result<Attr, Errno> {
        Err(Errno::ENOSYS)
    }

    /// Carries out a call, or says where it is to be carried out.
    pub fn serve(self: &Arc<Self>, id: RequestId, call: Call, payload: Payload) -> Served {
        let _ = (id, call, payload);
        Served::Answered(Response { answer: Err(Errno::ENOSYS), payload: Payload::empty() })
    }

    /// Gives up the wait of a call: it is answered `ECANCELED`. Whether it was waiting.
    pub fn cancel(&self, id: RequestId) -> bool {
        let _ = id;
        false
    }

    /// Gives everything back: locks, open files, nodes; waits are answered `ECANCELED`. What is called later
    /// finds nothing. Also done by dropping the last reference.
    pub fn end(&self) {}
}
