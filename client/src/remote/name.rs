//! What is done with names: looking, making, removing, renaming.

use nearfs_protocol::attr::{Attr, FileKind, SetAttr, StatFs};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::{RenameMode, Reply, Request};

use crate::remote::error::{Reason, RemoteError};
use crate::remote::path::RemotePath;
use crate::remote::walk::{read_link, unexpected};
use crate::remote::{Follow, Found, Parent, Remote, Session};

impl Remote {
    /// The attributes of what a path leads to (stat(2), lstat(2)).
    pub fn stat(&self, path: &RemotePath, follow: Follow) -> Result<Attr, RemoteError> {
        Ok(self.find(path, follow)?.attr)
    }

    /// The same; `None` if there is no such name.
    pub fn stat_if_there(&self, path: &RemotePath, follow: Follow) -> Result<Option<Attr>, RemoteError> {
        Ok(self.find_if_there(path, follow)?.map(|found| found.attr))
    }

    /// What a path leads to; `None` if there is no such name.
    pub fn find_if_there(&self, path: &RemotePath, follow: Follow) -> Result<Option<Found>, RemoteError> {
        match self.find(path, follow) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.errno() == Errno::ENOENT => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a symbolic link says (readlink(2)).
    pub fn read_link(&self, path: &RemotePath) -> Result<Vec<u8>, RemoteError> {
        let link = self.find(path, Follow::No)?;
        if link.attr.kind != FileKind::Symlink {
            return Err(RemoteError::new(path, Errno::EINVAL));
        }
        read_link(&link.session, &link.node).map_err(|reason| self.explained(&link.session, path, reason))
    }

    /// Makes a symbolic link with this text (symlink(2)).
    pub fn symlink(&self, target: &[u8], path: &RemotePath) -> Result<Found, RemoteError> {
        let (parent, name) = self.find_parent(path)?;
        let request = Request::Symlink { parent: parent.node.node(), name, target: target.to_vec() };
        self.made(&parent, path, request)
    }

    /// Makes a directory (mkdir(2)).
    pub fn make_dir(&self, path: &RemotePath, mode: u32) -> Result<Found, RemoteError> {
        let (parent, name) = self.find_parent(path)?;
        let umask = parent.session.umask();
        self.made(&parent, path, Request::MakeDir { parent: parent.node.node(), name, mode, umask })
    }

    /// Makes a directory and those on the way to it that are missing. One that is there already is fine. Returns those
    /// that were made, from the top on.
    pub fn make_dirs(&self, path: &RemotePath, mode: u32) -> Result<Vec<RemotePath>, RemoteError> {
        let mut missing = Vec::new();
        let mut at = path.clone();
        loop {
            match self.stat_if_there(&at, Follow::Yes)? {
                Some(attr) if attr.kind == FileKind::Directory => break,
                Some(_) => return Err(RemoteError::new(&at, Errno::ENOTDIR)),
                None => {}
            }
            let Some(parent) = at.parent() else { break };
            missing.push(std::mem::replace(&mut at, parent));
        }
        let mut made = Vec::new();
        for directory in missing.into_iter().rev() {
            match self.make_dir(&directory, mode) {
                Ok(_) => made.push(directory),
                // Somebody else was faster; if it is no directory, the next step says so.
                Err(error) if error.errno() == Errno::EEXIST => {}
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    /// Removes a name that is no directory (unlink(2)).
    pub fn remove_file(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let (parent, name) = self.find_parent(path)?;
        self.done(&parent.session, path, Request::Unlink { parent: parent.node.node(), name })
    }

    /// Removes an empty directory (rmdir(2)).
    pub fn remove_dir(&self, path: &RemotePath) -> Result<(), RemoteError> {
        let (parent, name) = self.find_parent(path)?;
        let place = parent.path.child(name.clone());
        self.done(&parent.session, path, Request::RemoveDir { parent: parent.node.node(), name })?;
        self.forget_within(&place);
        Ok(())
    }

    /// Renames (renameat2(2)).
    pub fn rename(&self, from: &RemotePath, to: &RemotePath, mode: RenameMode) -> Result<(), RemoteError> {
        let (parent, name) = self.find_parent(from)?;
        let (new_parent, new_name) = self.find_parent(to)?;
        let places = [parent.path.child(name.clone()), new_parent.path.child(new_name.clone())];
        let request = Request::Rename {
            parent: parent.node.node(),
            name,
            new_parent: new_parent.node.node(),
            new_name,
            mode,
        };
        self.done(&parent.session, from, request)?;
        places.iter().for_each(|place| self.forget_within(place));
        Ok(())
    }

    /// Changes attributes (chmod(2), chown(2), truncate(2), utimensat(2)). Returns them as they are then.
    pub fn set_attr(&self, path: &RemotePath, set: SetAttr, follow: Follow) -> Result<Attr, RemoteError> {
        let found = self.find(path, follow)?;
        let set = found.session.outgoing(set);
        let request = Request::SetAttr { node: found.node.node(), fh: None, set };
        let reply = found.session.ask(request, None).map_err(Reason::from);
        match reply.map_err(|reason| self.explained(&found.session, path, reason))?.0 {
            Reply::Changed { attr, .. } => Ok(found.session.shown(attr)),
            other => Err(RemoteError::new(path, unexpected(&other))),
        }
    }

    /// The figures of the file system behind a path (statvfs(3)).
    pub fn stat_fs(&self, path: &RemotePath) -> Result<StatFs, RemoteError> {
        let found = self.find(path, Follow::Yes)?;
        let reply = found.session.ask(Request::StatFs { node: found.node.node() }, None);
        match reply.map_err(|errno| self.explained(&found.session, path, errno.into()))?.0 {
            Reply::StatFs(figures) => Ok(figures),
            other => Err(RemoteError::new(path, unexpected(&other))),
        }
    }

    /// Carries out what makes a name, and finds what was made.
    fn made(&self, parent: &Parent, path: &RemotePath, request: Request) -> Result<Found, RemoteError> {
        let session = &parent.session;
        let reply = session.ask(request, None);
        match reply.map_err(|errno| self.explained(session, path, errno.into()))?.0 {
            Reply::Made { attr, .. } => Ok(Found {
                node: session.hold(attr.node, &parent.node).into(),
                attr: session.shown(attr),
                path: path.clone(),
                session: session.clone(),
            }),
            other => Err(RemoteError::new(path, unexpected(&other))),
        }
    }

    fn done(&self, session: &Session, path: &RemotePath, request: Request) -> Result<(), RemoteError> {
        match session.ask(request, None).map_err(|errno| self.explained(session, path, errno.into()))?.0 {
            Reply::Removed { .. } | Reply::Renamed { .. } => Ok(()),
            other => Err(RemoteError::new(path, unexpected(&other))),
        }
    }

    /// An error of a request in a session, which may have ended.
    pub(super) fn explained(&self, session: &Session, path: &RemotePath, reason: Reason) -> RemoteError {
        if matches!(reason, Reason::Errno(Errno::ESTALE)) {
            self.forget_walked();
        }
        match reason {
            Reason::Errno(errno) => RemoteError::new(path, session.reason(errno)),
            reason => RemoteError::new(path, reason),
        }
    }
}
