//! Who is connected, what of their commands failed, and the end of sessions that the server's owner does not want.

use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::SessionId;
use nearfs_protocol::limits::{REPORT_BYTES_MAX, SESSIONS_PAGE_MAX, cut};
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::roster::SessionReport;

use crate::dispatch::{Response, Served, SlowCall};
use crate::journal::Event;
use crate::session::Session;
use crate::sessions::Sessions;
use crate::state::Shared;

/// Carries out what is asked of the server and not of files; `None` for everything else. `is_owner`: whether the connection
/// that asks comes from the server's own user or root.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    asking: &Arc<Session>,
    is_owner: bool,
    request: &Request,
) -> Option<Served> {
    if let Request::ListSessions { after } = request {
        let (sessions, end) = page(&shared.sessions, *after, asking.id);
        return Some(Served::Answered(Reply::Sessions { sessions, end }.into()));
    }
    if let Request::Report { verb, failure } = request {
        // What programs do on mounts is not told.
        if asking.visitor.is_shell {
            report(asking, verb, failure);
        }
        return Some(Served::Answered(Reply::Done.into()));
    }
    let Request::Kick { session } = *request else { return None };
    let (shared, asking) = (shared.clone(), asking.clone());
    // It closes files, which may sleep.
    Some(Served::Slow(SlowCall::new(move || match kick(&shared.sessions, &asking, is_owner, session) {
        Ok(count) => Reply::Kicked(count).into(),
        Err(errno) => Response::refused(errno),
    })))
}

/// Writes down what a person was told of a command that has failed, or that one was carried out.
fn report(asking: &Session, verb: &str, failure: &str) {
    asking.journal.tell(|| {
        let event = Event::new("report").session(asking.id).quoted("client", asking.visitor.name.as_bytes());
        let [verb, failure] = [verb, failure].map(|text| cut(text, REPORT_BYTES_MAX).as_bytes());
        let event = event.quoted("verb", verb);
        if failure.is_empty() { event.outcome(Ok(())) } else { event.quoted("failure", failure) }
    });
}

/// Some sessions after an id, as `asking` is told of them; whether there are no more.
pub(crate) fn page(sessions: &Sessions, after: SessionId, asking: SessionId) -> (Vec<SessionReport>, bool) {
    let now = Instant::now();
    let (page, end) = sessions.page(after, SESSIONS_PAGE_MAX);
    (page.iter().map(|session| session.report(asking, now)).collect(), end)
}

/// Ends one session, or all but the one that asks. How many were ended.
///
/// Errors: `EPERM` for whoever is not the owner, `EINVAL` for one's own session, `ENOENT` for one that is not there.
fn kick(
    sessions: &Sessions,
    asking: &Session,
    is_owner: bool,
    session: Option<SessionId>,
) -> Result<u64, Errno> {
    if !is_owner {
        return Err(Errno::EPERM);
    }
    match session {
        Some(id) if id == asking.id => Err(Errno::EINVAL),
        Some(id) if sessions.dismiss(id) => Ok(1),
        Some(_) => Err(Errno::ENOENT),
        None => {
            let others = sessions.all().into_iter().map(|session| session.id).filter(|id| *id != asking.id);
            Ok(others.filter(|id| sessions.dismiss(*id)).count() as u64)
        }
    }
}
