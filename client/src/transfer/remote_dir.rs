//! A directory of the server into which or from which files are brought.

use std::sync::Arc;

use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::name::Name;

use crate::remote::{Found, Held, Patience, Reason, RemotePath, Session};
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::journal::is_staged;

/// Bytes of a piece of a listing.
const LISTING_BYTES: u32 = 128 * 1024;
/// Names of a directory that are looked at for abandoned files.
const SWEPT_NAMES_MAX: usize = 20_000;
/// What nobody has touched for so long is not being brought any more.
const ABANDONED_AFTER_SECS: i64 = 24 * 60 * 60;

/// A directory, by its node.
#[derive(Clone)]
pub(super) struct RemoteDir {
    pub(super) held: Arc<Held>,
    pub(super) path: RemotePath,
    pub(super) session: Session,
}

impl RemoteDir {
    pub(super) fn of(found: Found) -> RemoteDir {
        RemoteDir { held: found.node, path: found.path, session: found.session }
    }

    pub(super) fn node(&self) -> Node {
        self.held.node()
    }

    /// Makes a directory in it, unless it is there. Whether it was made.
    pub(super) fn make_child(&self, name: &Name, mode: u32) -> Result<(RemoteDir, bool), Failure> {
        let umask = self.session.umask();
        let request = Request::MakeDir { parent: self.node(), name: name.clone(), mode, umask };
        match self.session.ask(request, None) {
            Ok((Reply::Made { attr, .. }, _)) => Ok((self.child_of(name, &attr), true)),
            Ok((other, _)) => Err(self.failed(name, unexpected(&other))),
            Err(Errno::EEXIST) => match self.look_up(name)? {
                Some((attr, dir)) if attr.kind == FileKind::Directory => Ok((dir, false)),
                Some(_) => Err(self.failed(name, Errno::ENOTDIR)),
                None => Err(self.failed(name, Errno::ENOENT)),
            },
            Err(errno) => Err(self.failed(name, errno)),
        }
    }

    /// What a name in it leads to; `None` if there is no such name.
    pub(super) fn look_up(&self, name: &Name) -> Result<Option<(Attr, RemoteDir)>, Failure> {
        let request = Request::Lookup { parent: self.node(), name: name.clone(), also_open: None };
        match self.session.ask(request, None) {
            Ok((Reply::Entry { attr, .. }, _)) => Ok(Some((attr, self.child_of(name, &attr)))),
            Ok((other, _)) => Err(self.failed(name, unexpected(&other))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed(name, errno)),
        }
    }

    /// Calls `entry` for each name, in the directory's order, with those of incomplete files. What vanished while it was
    /// listed is not there.
    pub(super) fn each(&self, mut entry: impl FnMut(Name, Attr, Arc<Held>) -> bool) -> Result<(), Failure> {
        let failed = |cause: Cause| Failure::new(self.path.to_string(), explained(&self.session, cause));
        let mut cookie = 0;
        loop {
            let request = Request::ReadDir {
                node: self.node(),
                cookie,
                entry_bytes_max: LISTING_BYTES,
                with_attrs: true,
            };
            let (entries, end) = match self.session.ask(request, None) {
                Ok((Reply::Listing { entries, end, .. }, _)) => (entries, end),
                Ok((other, _)) => return Err(failed(unexpected(&other).into())),
                Err(errno) => return Err(failed(errno.into())),
            };
            let last = entries.last().map(|entry| entry.cookie);
            // All of a piece are held before any is looked at: who ends early gives the others back.
            let listed: Vec<_> = entries
                .into_iter()
                .filter_map(|listed| {
                    let attr = listed.attr?;
                    Some((
                        listed.name,
                        self.session.shown(attr),
                        Arc::new(self.session.hold(attr.node, &self.held)),
                    ))
                })
                .collect();
            for (name, attr, held) in listed {
                if !entry(name, attr, held) {
                    return Ok(());
                }
            }
            match last {
                _ if end => return Ok(()),
                // A listing that does not get on would never end.
                Some(last) if last != cookie => cookie = last,
                Some(_) | None => return Err(failed(Errno::EPROTO.into())),
            }
        }
    }

    fn child_of(&self, name: &Name, attr: &Attr) -> RemoteDir {
        RemoteDir {
            held: Arc::new(self.session.hold(attr.node, &self.held)),
            path: self.path.child(name.clone()),
            session: self.session.clone(),
        }
    }

    /// What went wrong with a name in it.
    pub(super) fn failed(&self, name: &Name, cause: impl Into<Cause>) -> Failure {
        Failure::new(self.path.child(name.clone()).to_string(), explained(&self.session, cause.into()))
    }

    /// Its attributes as they are now.
    pub(super) fn attr(&self) -> Result<Attr, Cause> {
        match self.session.ask(Request::GetAttr { node: self.node(), fh: None }, None) {
            Ok((Reply::Attr(attr), _)) => Ok(self.session.shown(attr)),
            Ok((other, _)) => Err(explained(&self.session, unexpected(&other).into())),
            Err(errno) => Err(explained(&self.session, errno.into())),
        }
    }

    /// The server's own time, seconds since 1970, if something was put into the directory just now; else an earlier one.
    pub(super) fn touched_secs(&self) -> Option<i64> {
        self.attr().ok().map(|attr| attr.mtime.secs)
    }

    /// What transfers left incomplete in it, or are still at, as far as it is seen among so many names.
    pub(super) fn leftovers(&self) -> Vec<Leftover> {
        let (mut found, mut names) = (Vec::new(), 0);
        // What is not found now is found another time.
        let _ = self.each(|name, attr, _held| {
            found.extend(Leftover::of(self, &name, &attr));
            names += 1;
            names < SWEPT_NAMES_MAX
        });
        found
    }
}

/// A name that a transfer gave to what was not complete, and when it was touched last.
pub(super) struct Leftover {
    dir: RemoteDir,
    name: Name,
    touched_secs: i64,
}

impl Leftover {
    /// `None` if the name is nothing of the kind.
    pub(super) fn of(dir: &RemoteDir, name: &Name, attr: &Attr) -> Option<Leftover> {
        let is_one = is_staged(name.as_bytes()) && matches!(attr.kind, FileKind::File | FileKind::Symlink);
        is_one.then(|| Leftover { dir: dir.clone(), name: name.clone(), touched_secs: attr.ctime.secs })
    }

    /// Removes it if nobody goes on with it any more, some time soon. `now_secs` is the server's.
    pub(super) fn sweep(self, now_secs: i64) {
        if is_abandoned(self.touched_secs, now_secs) {
            let request = Request::Unlink { parent: self.dir.node(), name: self.name };
            // Somebody else may have been faster.
            self.dir.session.start(request, None, Patience::Bounded, |_| {});
        }
    }
}

fn is_abandoned(touched_secs: i64, now_secs: i64) -> bool {
    touched_secs.saturating_add(ABANDONED_AFTER_SECS) < now_secs
}

/// What an error of a session means: when that is over, that.
pub(super) fn explained(session: &Session, cause: Cause) -> Cause {
    match (cause, session.ending()) {
        (Cause::Remote(Reason::Errno(Errno::EIO | Errno::ESTALE)), Some(ending)) => {
            Cause::Remote(Reason::SessionOver(ending))
        }
        (cause, _) => cause,
    }
}

/// The server answered something that does not belong to the request.
pub(super) fn unexpected(reply: &Reply) -> Errno {
    log::error!("the server's answer does not fit the request: {reply:?}");
    Errno::EPROTO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_within_a_day_is_not_abandoned() {
        let now = 1_700_000_000;
        assert!(is_abandoned(now - ABANDONED_AFTER_SECS - 1, now));
        for touched in [now - ABANDONED_AFTER_SECS, now, now + 1, i64::MAX] {
            assert!(!is_abandoned(touched, now), "{touched}");
        }
    }
}
