//! Locks on files.

use std::sync::Arc;

use nearfs_protocol::attr::{Lock, LockKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, RequestId};
use nearfs_protocol::message::Reply;

use super::{Outcome, Pace, Response, Stop};
use crate::lock;
use crate::session_files::SessionFiles;

impl SessionFiles {
    pub(crate) fn get_lock(&self, fh: Fh, lock: &Lock) -> Outcome {
        let file = self.files.get(fh)?;
        check(lock)?;
        Ok(Reply::Lock(self.tree.locks.conflict(file.node.id, self.session, lock)).into())
    }

    pub(crate) fn set_lock(
        self: &Arc<Self>,
        id: RequestId,
        fh: Fh,
        (lock, wait): (&Lock, bool),
        pace: Pace,
    ) -> Outcome {
        let file = self.files.get(fh)?;
        check(lock)?;
        let waits = wait && lock.kind != LockKind::Unlock;
        let wait = waits.then_some((self.session, id));
        match self.tree.locks.set(file.node.id, self.session, lock, wait)? {
            lock::Outcome::Set if lock.kind == LockKind::Unlock => Ok(Reply::Done.into()),
            lock::Outcome::Set if pace == Pace::Quick => {
                Ok(Reply::Attr(self.tree.export.attr(&file)?).into())
            }
            lock::Outcome::Set => {
                let files = self.clone();
                Err(Stop::Later(Box::new(move || {
                    files
                        .tree
                        .export
                        .attr(&file)
                        .map_or_else(Response::refused, |attr| Reply::Attr(attr).into())
                })))
            }
            lock::Outcome::Waits => Err(Stop::Waits(file.node.id, *lock)),
        }
    }
}

fn check(lock: &Lock) -> Result<(), Errno> {
    if lock.start <= lock.end { Ok(()) } else { Err(Errno::EINVAL) }
}
