//! The lock table as threads use it, and what is to be told to those who wait.

use std::collections::HashMap;
use std::sync::Arc;

use nearfs_protocol::attr::{Lock, LockStyle};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{NodeId, SessionId};
use parking_lot::Mutex;

use super::{Decided, Denied, Fence, Journal, LockTable, Owner, WaitId};

/// The locks of an export, shared by all its sessions.
#[derive(Default)]
pub(crate) struct Locks(Mutex<State>);

#[derive(Default)]
struct State {
    table: LockTable,
    waiting: HashMap<WaitId, Pending>,
}

/// What is called when a wait is over.
pub(crate) type Told = Box<dyn FnOnce(Result<(), Errno>) + Send>;

/// A wait, as far as telling its outcome has come.
pub(crate) enum Pending {
    /// Nobody has said yet whom to tell.
    Untold,
    /// This is whom to tell.
    Tell(Told),
    /// It was over before somebody said whom to tell.
    Over(Result<(), Errno>),
}

/// Outcomes of waits that were noted, but not told yet.
#[must_use]
#[derive(Default)]
pub(crate) struct Untold(Vec<(Told, Result<(), Errno>)>);

/// What became of a lock that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is set.
    Set,
    /// It is waited for; [`Locks::tell`] says whom to tell.
    Waits,
}

impl Locks {
    /// Has somebody told of all that is set from here on, see [`Journal`].
    pub(crate) fn set_journal(&self, journal: Arc<dyn Journal>) {
        self.0.lock().table.set_journal(journal);
    }

    /// Takes up the locks that a session held before the server was started again; no two sessions held what conflicts.
    /// Whether all could be.
    pub(crate) fn restore(&self, session: SessionId, held: &[(NodeId, Lock)]) -> bool {
        let table = &mut self.0.lock().table;
        held.iter().all(|(node, lock)| table.set(*node, session, lock).is_ok())
    }

    /// Sets a lock, or gives it back; waits for it if `wait` is given.
    ///
    /// Errors: `EAGAIN` for a conflict, `EDEADLK`, `ENOLCK` for too many locks.
    pub(crate) fn set(
        &self,
        node: NodeId,
        session: SessionId,
        lock: &Lock,
        wait: Option<WaitId>,
    ) -> Result<Outcome, Errno> {
        let mut state = self.0.lock();
        match (state.table.set(node, session, lock), wait) {
            (Ok(decided), _) => {
                let untold = state.decide(decided);
                drop(state);
                untold.tell();
                Ok(Outcome::Set)
            }
            (Err(Denied::Full), _) => Err(Errno::ENOLCK),
            (Err(Denied::Conflict), None) => Err(Errno::EAGAIN),
            (Err(Denied::Conflict), Some(id)) => {
                state.table.wait(id, node, lock)?;
                state.waiting.insert(id, Pending::Untold);
                Ok(Outcome::Waits)
            }
        }
    }

    /// Says whom to tell of a wait's outcome, which is done at once if it is over.
    pub(crate) fn tell(&self, id: WaitId, told: Told) {
        let mut state = self.0.lock();
        match state.waiting.remove(&id) {
            Some(Pending::Over(outcome)) => {
                drop(state);
                told(outcome);
            }
            Some(Pending::Untold | Pending::Tell(_)) => {
                state.waiting.insert(id, Pending::Tell(told));
            }
            None => {
                drop(state);
                told(Err(Errno::ECANCELED));
            }
        }
    }

    /// Ends a wait with `ECANCELED`. Whether there was one.
    pub(crate) fn cancel(&self, id: WaitId) -> bool {
        let mut state = self.0.lock();
        let waited = state.table.cancel(id);
        let ended = waited.then_some((id, Err(Errno::ECANCELED)));
        let untold = state.decide(ended.into_iter().collect());
        drop(state);
        untold.tell();
        waited
    }

    /// Ends a wait that nobody wants to be told of; gives back the lock if it was set meanwhile.
    pub(crate) fn abandon(&self, id: WaitId, node: NodeId, lock: &Lock) {
        self.cancel(id);
        let over = self.0.lock().waiting.remove(&id);
        if let Some(Pending::Over(Ok(()))) = over {
            self.release(node, lock.style, Owner { session: id.0, owner: lock.owner });
        }
    }

    /// A lock that others hold and that is in the way of this one.
    pub(crate) fn conflict(&self, node: NodeId, session: SessionId, lock: &Lock) -> Option<Lock> {
        self.0.lock().table.conflict(node, session, lock)
    }

    /// Gives back all that an owner holds of a file.
    pub(crate) fn release(&self, node: NodeId, style: LockStyle, owner: Owner) {
        self.decide(|table| table.release(node, style, owner)).tell();
    }

    /// Gives back all that a session holds and ends its waits.
    pub(crate) fn release_session(&self, session: SessionId) {
        self.decide(|table| table.release_session(session)).tell();
    }

    /// A session's lease has run out: from now on its locks go to whoever asks for them.
    pub(crate) fn lapse(&self, session: SessionId, fence: Box<dyn Fence>) -> Untold {
        self.decide(|table| table.lapse(session, fence))
    }

    /// The client of a session is back: what nobody has taken is its own again.
    pub(crate) fn revive(&self, session: SessionId) -> Untold {
        self.decide(|table| table.revive(session))
    }

    /// Gives those who wait what the files of lapsed sessions, then in use, were in the way of.
    pub(crate) fn retry(&self) {
        self.decide(LockTable::retry).tell();
    }

    /// All ranges that a session holds.
    pub(crate) fn of_session(&self, session: SessionId) -> Vec<(NodeId, Lock)> {
        self.0.lock().table.of_session(session)
    }

    /// How many ranges a session holds.
    pub(crate) fn count(&self, session: SessionId) -> usize {
        self.0.lock().table.count(session)
    }

    fn decide(&self, change: impl FnOnce(&mut LockTable) -> Vec<Decided>) -> Untold {
        let mut state = self.0.lock();
        let decided = change(&mut state.table);
        state.decide(decided)
    }
}

impl Untold {
    /// Tells those who wait; to be called with nothing locked.
    pub(crate) fn tell(self) {
        for (tell, outcome) in self.0 {
            tell(outcome);
        }
    }
}

impl State {
    /// Notes outcomes; returns whom to tell, which is done without the lock.
    fn decide(&mut self, decided: Vec<Decided>) -> Untold {
        let mut told = Vec::new();
        for (id, outcome) in decided {
            match self.waiting.remove(&id) {
                Some(Pending::Tell(tell)) => told.push((tell, outcome)),
                Some(Pending::Untold) => {
                    self.waiting.insert(id, Pending::Over(outcome));
                }
                Some(Pending::Over(_)) | None => {}
            }
        }
        Untold(told)
    }
}
