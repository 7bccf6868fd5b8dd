//! Which requests the journal tells of: what shells change, one by one, and what fails.
//!
//! A mount's programs fail all day, by looking for what is not there and making what is: of a mount only those failures
//! are told that speak of the server's own trouble. Changes that a shell makes while an announced transfer runs are that
//! transfer, which the journal tells of as a whole.

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::message::Request;
use nearfs_protocol::name::Name;

use crate::dispatch::Response;
use crate::journal::Event;
use crate::session::Session;

/// What may be told of a request once it is answered. Costs nothing for a mount, or where nobody reads it.
pub(crate) struct Telling {
    operation: &'static str,
    /// Where it is about, and where to.
    places: Option<Places>,
    is_verb: bool,
}

struct Places {
    path: Option<Box<[u8]>>,
    to: Option<Box<[u8]>>,
}

impl Telling {
    /// Before the request is carried out: afterwards the places may be others.
    pub(crate) fn new(session: &Session, request: &Request) -> Telling {
        let operation = request.name();
        if !session.visitor.is_shell || !session.journal.is_on() {
            return Telling { operation, places: None, is_verb: false };
        }
        let shown = |(parent, name): (Node, &Name)| session.files.shown_path(parent, name);
        let mut names = request.names().into_iter().map(shown);
        let places = Places { path: names.next(), to: names.next() };
        let is_verb = is_verb(request) && !session.files.transfers.is_any();
        Telling { operation, places: Some(places), is_verb }
    }

    /// It has been answered.
    pub(crate) fn tell(&self, session: &Session, response: &Response) {
        let outcome = response.answer.as_ref().map(drop).map_err(|errno| *errno);
        if let Err(errno) = outcome {
            log::debug!("session {}: {}: {errno}", session.id.0, self.operation);
        }
        let is_told = match (outcome, &self.places) {
            (Ok(()), _) => self.is_verb,
            (Err(errno), Some(_)) => !is_absence(self.operation, errno),
            (Err(errno), None) => is_trouble(errno),
        };
        if is_told {
            session.journal.tell(|| self.event(session).outcome(outcome));
        }
    }

    fn event(&self, session: &Session) -> Event {
        let event = Event::new(self.operation).session(session.id);
        let event = event.quoted("client", session.visitor.name.as_bytes());
        let Some(Places { path, to }) = &self.places else { return event };
        let event = path.iter().fold(event, |event, path| event.quoted("path", path));
        to.iter().fold(event, |event, to| event.quoted("to", to))
    }
}

/// Whether somebody only looked for what is not there.
fn is_absence(operation: &str, errno: Errno) -> bool {
    let looks = ["lookup", "getxattr", "fetch"].contains(&operation);
    looks && matches!(errno, Errno::ENOENT | Errno::ENODATA | Errno::EOPNOTSUPP)
}

/// Whether a failure speaks of the server rather than of the request.
fn is_trouble(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EIO | Errno::ENOSPC | Errno::EDQUOT | Errno::ENOMEM | Errno::ENFILE | Errno::EMFILE
    )
}

/// Whether a request is what a shell's verb comes to.
fn is_verb(request: &Request) -> bool {
    matches!(
        request,
        Request::Symlink { .. }
            | Request::Link { .. }
            | Request::MakeNode { .. }
            | Request::MakeDir { .. }
            | Request::Unlink { .. }
            | Request::RemoveDir { .. }
            | Request::Rename { .. }
            | Request::Store { .. }
            | Request::Kick { .. }
    )
}
