//! Who else is connected, and transfers that others shall know of.
//!
//! A transfer is announced before its first byte, by the target's directory and name, so that another shell that wants
//! something with that name hears who is at it and how far he is. Announcing changes nothing about files, and the server
//! counts by itself what passes:
//!
//! - *one file*: give its open file to [`Session::announce`], or to [`Transfer::count`] once it is open. Only what passes
//!   through such files counts then, also if they have another name until they are complete. With the release of the last
//!   of them the transfer ends, so that the target is to be renamed before.
//! - *many files, or a tree*: give none. Everything counts that the session moves in that direction and that counts for no
//!   other transfer: one announcement for a whole directory costs one round trip.

use nearfs_protocol::id::{Fh, Node, SessionId, TransferId};
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::name::Name;
use nearfs_protocol::roster::{Busy, SessionReport, Tally, TransferKind, TransferOutcome};

use crate::remote::error::Reason;
use crate::remote::session::Session;
use crate::remote::walk::unexpected;
use crate::roster;

/// What comes of an announcement.
pub enum Announced {
    /// It may begin.
    Begun(Transfer),
    /// Another shell is at that name; [`Busy`] reads "being uploaded by anna (127.0.0.1:53210), 40 %".
    Busy(Busy),
}

/// A transfer that others see. Dropping it tells the server that it was given up, without waiting.
pub struct Transfer {
    session: Session,
    id: TransferId,
    is_ended: bool,
}

impl Session {
    /// The sessions of the server, this one among them, by rising ids.
    pub fn sessions(&self) -> Result<Vec<SessionReport>, Reason> {
        roster::list(|request| self.ask(request, None).map(|(reply, _)| reply))
            .map_err(|errno| self.reason(errno))
    }

    /// Ends a session of another client, or with `None` those of all others. How many were ended.
    ///
    /// Errors: `EPERM` unless the server knows us as its own user or root, `ENOENT` if there is no such session, `EINVAL`
    /// for our own.
    pub fn kick(&self, session: Option<SessionId>) -> Result<u64, Reason> {
        match self.ask(Request::Kick { session }, None).map_err(|errno| self.reason(errno))?.0 {
            Reply::Kicked(count) => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// Says what is about to be done with a name, and asks whether somebody else is at it. `total_bytes`: 0 if it is not
    /// known. `fh`: the open file that its bytes pass through, if there is one by now.
    ///
    /// Errors: `EMFILE` and `ENFILE` for too many at once; those of a lost session.
    pub fn announce(
        &self,
        kind: TransferKind,
        (parent, name): (Node, Name),
        total_bytes: u64,
        fh: Option<Fh>,
    ) -> Result<Announced, Reason> {
        let request = Request::Announce { kind, parent, name, total_bytes, fh };
        match self.ask(request, None).map_err(|errno| self.reason(errno))?.0 {
            Reply::Announced(id) => {
                Ok(Announced::Begun(Transfer { session: self.clone(), id, is_ended: false }))
            }
            Reply::Busy(busy) => Ok(Announced::Busy(busy)),
            other => Err(unexpected(&other)),
        }
    }
}

impl Transfer {
    /// Its number at the server.
    pub fn id(&self) -> TransferId {
        self.id
    }

    /// From here on what passes through this open file counts for the transfer. Waits for the answer, so that nothing is
    /// missed.
    pub fn count(&self, fh: Fh) -> Result<(), Reason> {
        let request = Request::CountFile { transfer: self.id, fh };
        match self.session.ask(request, None).map_err(|errno| self.session.reason(errno))?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// It is over: tells the server how it ended, and returns what the server counted.
    ///
    /// Errors: `ENOENT` if the server has ended it before, with its last open file or while we were away.
    pub fn end(mut self, outcome: TransferOutcome) -> Result<Tally, Reason> {
        self.is_ended = true;
        let request = Request::EndTransfer { transfer: self.id, outcome };
        match self.session.ask(request, None).map_err(|errno| self.session.reason(errno))?.0 {
            Reply::Transferred(tally) => Ok(tally),
            other => Err(unexpected(&other)),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if !self.is_ended {
            self.session.tell(Request::EndTransfer { transfer: self.id, outcome: TransferOutcome::GivenUp });
        }
    }
}
