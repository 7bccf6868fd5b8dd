//! A directory of the server into which or from which files are brought.

use std::sync::Arc;

use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::name::Name;

use crate::remote::{Found, Held, Reason, RemotePath, Session};
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::journal::is_staged;

/// Names of a directory that are looked at for abandoned files.
const SWEPT_PIECES_MAX: usize = 8;
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

    fn child_of(&self, name: &Name, attr: &Attr) -> RemoteDir {
        RemoteDir {
            held: Arc::new(self.session.hold(attr.node)),
            path: self.path.child(name.clone()),
            session: self.session.clone(),
        }
    }

    /// What went wrong with a name in it.
    pub(super) fn failed(&self, name: &Name, cause: impl Into<Cause>) -> Failure {
        Failure::new(self.path.child(name.clone()).to_string(), explained(&self.session, cause.into()))
    }

    /// Removes what earlier transfers left incomplete and nobody has gone on with, as far as it is seen in a few looks.
    /// Something must have been put into it just now: that is how one knows the server's own time.
    pub(super) fn sweep(&self) {
        let Ok((Reply::Attr(attr), _)) =
            self.session.ask(Request::GetAttr { node: self.node(), fh: None }, None)
        else {
            return;
        };
        let now_secs = attr.mtime.secs;
        let mut cookie = 0;
        for _ in 0..SWEPT_PIECES_MAX {
            let request = Request::ReadDir {
                node: self.node(),
                cookie,
                entry_bytes_max: 128 * 1024,
                with_attrs: false,
            };
            let Ok((Reply::Listing { entries, end, .. }, _)) = self.session.ask(request, None) else {
                return;
            };
            for entry in &entries {
                if is_staged(entry.name.as_bytes()) {
                    self.sweep_name(&entry.name, now_secs);
                }
            }
            match entries.last() {
                Some(last) if !end => cookie = last.cookie,
                Some(_) | None => return,
            }
        }
    }

    fn sweep_name(&self, name: &Name, now_secs: i64) {
        if let Ok(Some((attr, _held))) = self.look_up(name)
            && attr.kind == FileKind::File
            && attr.ctime.secs.saturating_add(ABANDONED_AFTER_SECS) < now_secs
        {
            // Somebody else may have been faster.
            let _ = self.session.ask(Request::Unlink { parent: self.node(), name: name.clone() }, None);
        }
    }
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
