//! Asking for something that takes as long as it takes, and for other things meanwhile.

use std::sync::mpsc::{self, Receiver};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::Request;

use crate::remote::{Outcome, Patience, Session};

/// Asks, and waits for the answer.
pub(super) fn ask_for(session: &Session, request: Request) -> Outcome {
    answer(&begin(session, request))
}

/// The same without waiting for it.
pub(super) fn begin(session: &Session, request: Request) -> Receiver<Outcome> {
    let (tell, told) = mpsc::sync_channel(1);
    session.start(request, None, Patience::Endless, move |outcome| drop(tell.send(outcome)));
    told
}

/// What came of it.
pub(super) fn answer(told: &Receiver<Outcome>) -> Outcome {
    told.recv().unwrap_or(Err(Errno::EIO))
}
