//! Telling others what is about to happen to a name, and hearing whether somebody is at it.

use nearfs_client::remote::path::printable;
use nearfs_client::remote::{Announced, Remote, RemoteError, RemotePath, Transfer};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::roster::{Busy, TransferKind, TransferOutcome, TransferReport};

use crate::shell::failure::Failure;

/// Says that this name is about to be removed or renamed; a failure says who is at it.
pub(crate) fn announce(remote: &Remote, kind: TransferKind, path: &RemotePath) -> Result<Transfer, Failure> {
    let (parent, name) = remote.find_parent(path)?;
    let place = (parent.node.node(), name);
    match parent.session.announce(kind, place, 0, None) {
        Ok(Announced::Begun(transfer)) => Ok(transfer),
        Ok(Announced::Busy(busy)) => Err(Failure::Refused(format!("{path} is {busy}"))),
        Err(reason) => Err(RemoteError::new(path, reason).into()),
    }
}

/// Says how it ended.
pub(crate) fn end(transfer: Transfer, result: Result<(), Failure>) -> Result<(), Failure> {
    let outcome = match &result {
        Ok(()) => TransferOutcome::Done,
        Err(Failure::Remote(error)) if error.is_interrupted() => TransferOutcome::GivenUp,
        Err(Failure::Remote(error)) => TransferOutcome::Failed(error.errno()),
        Err(_) => TransferOutcome::GivenUp,
    };
    // What was done is done, whether the server still knows of the announcement or not.
    if let Err(reason) = transfer.end(outcome) {
        log::debug!("the server knows nothing of it any more: {reason}");
    }
    result
}

/// Who brings what has this name, which is not there yet; `None` if nobody does. `path` is as people read it.
pub(crate) fn on_its_way(remote: &Remote, path: &str) -> Option<Busy> {
    let is_of = |transfer: &TransferReport| {
        let rest = path.strip_prefix('/').and_then(|path| path.strip_prefix(&printable(&transfer.path)));
        transfer.kind == TransferKind::Upload
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let sessions = remote.session().ok()?.sessions().ok()?;
    sessions.into_iter().filter(|session| !session.own).find_map(|session| {
        let TransferReport { kind, total_bytes, tally, .. } = session.transfers.into_iter().find(is_of)?;
        let by = format!("{} ({})", session.client, session.address);
        Some(Busy { by, kind, total_bytes, tally })
    })
}

/// What is not there may be on its way: then a person has to know who brings it, and how far he is.
pub(crate) fn explained(remote: &Remote, failure: Failure) -> Failure {
    match &failure {
        Failure::Remote(error) if error.errno() == Errno::ENOENT => match on_its_way(remote, &error.path) {
            Some(busy) => Failure::Refused(format!("{} is {busy}", error.path)),
            None => failure,
        },
        _ => failure,
    }
}
