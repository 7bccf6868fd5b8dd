//! All sessions of a server.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::greeting::Refusal;
use nearfs_protocol::id::{SessionId, SessionToken};
use nearfs_protocol::session::server::Phase;
use parking_lot::Mutex;

use crate::session::Session;

/// Most sessions that are kept by courtesy: each costs some descriptors, and memory for what it knows.
const COURTESY_SESSIONS_MAX: usize = 1024;
/// Most of them that are ended before others get their turn.
const EVICTED_AT_ONCE: usize = 64;
/// Most sessions ended by the owner of which that is remembered.
const DISMISSED_MAX: usize = 4096;

/// The sessions by their ids, at most so many as the server takes clients.
pub(crate) struct Sessions {
    table: Mutex<Table>,
    sessions_max: usize,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<SessionId, Arc<Session>>,
    last_id: u64,
    /// Ended by the server's owner, latest last.
    dismissed: VecDeque<SessionId>,
}

impl Sessions {
    pub(crate) fn new(sessions_max: usize) -> Sessions {
        Sessions { table: Mutex::default(), sessions_max }
    }

    /// An id that no session of this process had. Where sessions outlive it their store gives the ids.
    pub(crate) fn next_id(&self) -> SessionId {
        let mut table = self.table.lock();
        table.last_id += 1;
        SessionId(table.last_id)
    }

    /// Keeps a session. When there is no room, one whose client has not been heard of for longer than its
    /// lease has to go; if there is none the newcomer is refused.
    pub(crate) fn insert(&self, session: Arc<Session>) -> Result<(), Refusal> {
        let evicted = {
            let mut table = self.table.lock();
            let full = table.sessions.len() >= self.sessions_max;
            let evicted = if full { Some(table.take_longest_gone().ok_or(Refusal::Full)?) } else { None };
            table.sessions.insert(session.id, session);
            evicted
        };
        evicted.iter().for_each(evict);
        Ok(())
    }

    /// Ends sessions whose clients have not been heard of for longer than their leases, the longest gone first, while
    /// what they hold is needed.
    pub(crate) fn make_room(&self, is_needed: impl Fn() -> bool) {
        while is_needed() {
            let Some(session) = self.table.lock().take_longest_gone() else { return };
            evict(&session);
        }
    }

    /// What `take` comes to when sessions whose clients have not been heard of for longer than their leases have made
    /// room for it, the longest gone first and no more than have to.
    pub(crate) fn make_room_for<T>(&self, take: impl Fn() -> Option<T>) -> Option<T> {
        let mut is_on_time = false;
        loop {
            if let Some(taken) = take() {
                return Some(taken);
            }
            let gone = self.table.lock().take_longest_gone();
            match gone {
                Some(gone) => evict(&gone),
                None if is_on_time => return None,
                None => {
                    // Some leases may have run out just now.
                    self.keep_time(Instant::now()).iter().for_each(|over| over.end());
                    is_on_time = true;
                }
            }
        }
    }

    /// Ends sessions of those who have been gone for longest when there are too many of them.
    pub(crate) fn bound_courtesy(&self) {
        for _ in 0..self.courtesy_excess().min(EVICTED_AT_ONCE) {
            let Some(session) = self.table.lock().take_longest_gone() else { return };
            evict(&session);
        }
    }

    /// How many too many are kept by courtesy.
    pub(crate) fn courtesy_excess(&self) -> usize {
        let sessions = self.all();
        let is_gone = |session: &&Arc<Session>| matches!(session.phase(), Phase::Courtesy { .. });
        sessions.iter().filter(is_gone).count().saturating_sub(COURTESY_SESSIONS_MAX)
    }

    /// Takes up a session of before the server was started again, which there is room for whatever the limit.
    pub(crate) fn restore(&self, session: Arc<Session>) {
        self.table.lock().sessions.insert(session.id, session);
    }

    /// The session with this id.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        self.table.lock().sessions.get(&id).cloned()
    }

    /// Forgets a session, which the caller ends.
    pub(crate) fn remove(&self, id: SessionId) {
        self.table.lock().sessions.remove(&id);
    }

    /// Ends a session because the server's owner wants it. Whether there was one.
    pub(crate) fn dismiss(&self, id: SessionId) -> bool {
        let session = {
            let mut table = self.table.lock();
            let Some(session) = table.sessions.remove(&id) else { return false };
            if table.dismissed.len() >= DISMISSED_MAX {
                table.dismissed.pop_front();
            }
            table.dismissed.push_back(id);
            session
        };
        session.dismiss();
        true
    }

    /// What to tell a client whose session is not there any more.
    pub(crate) fn why_gone(&self, id: SessionId) -> Refusal {
        if self.table.lock().dismissed.contains(&id) { Refusal::EndedByOwner } else { Refusal::NoSession }
    }

    /// Those after an id, by rising ids, at most so many; whether there are no more.
    pub(crate) fn page(&self, after: SessionId, count_max: usize) -> (Vec<Arc<Session>>, bool) {
        let table = self.table.lock();
        let mut ids: Vec<_> = table.sessions.keys().copied().filter(|id| *id > after).collect();
        ids.sort_unstable();
        let page = ids.iter().take(count_max).filter_map(|id| table.sessions.get(id).cloned());
        (page.collect(), ids.len() <= count_max)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.table.lock().sessions.values().cloned().collect()
    }

    /// How many have a connection.
    pub(crate) fn active(&self) -> usize {
        self.all().iter().filter(|session| session.phase() == Phase::Live).count()
    }

    /// Does what is due on all of them. Those that are over are forgotten, and to be ended by the caller.
    #[must_use]
    pub(crate) fn keep_time(&self, now: Instant) -> Vec<Arc<Session>> {
        let mut over = self.all();
        over.retain(|session| session.keep_time(now));
        over.iter().for_each(|session| self.remove(session.id));
        over
    }
}

impl Table {
    fn take_longest_gone(&mut self) -> Option<Arc<Session>> {
        let gone = self.sessions.values().filter_map(|session| match session.phase() {
            Phase::Courtesy { since } => Some((since, session.id)),
            Phase::Live | Phase::Lease { .. } | Phase::Over => None,
        });
        let (_, id) = gone.min()?;
        self.sessions.remove(&id)
    }
}

fn evict(session: &Arc<Session>) {
    log::info!("session {}: ended, to make room for another", session.id.0);
    session.end();
}

/// A token that nobody can guess.
pub(crate) fn new_token() -> io::Result<SessionToken> {
    Ok(SessionToken(random()?))
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
