//! Listing directories piece by piece, so that a large one needs no memory.

use std::sync::Arc;

use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::name::Name;

use crate::remote::error::{Reason, RemoteError};
use crate::remote::path::RemotePath;
use crate::remote::walk::unexpected;
use crate::remote::{Follow, Found, Held, Remote};

/// Bytes of entries in the first piece; a reader that goes on gets more at a time.
const FIRST_PIECE_BYTES: u32 = 32 * 1024;
/// Most bytes of entries in a piece: some 1,500 entries.
const PIECE_BYTES_MAX: u32 = 192 * 1024;

/// One name of a directory.
pub struct Listed {
    /// The name; never `.` or `..`.
    pub name: Name,
    /// Its attributes; none if it vanished while the directory was read.
    pub attr: Option<Attr>,
    /// What it is, where that is known.
    pub kind: Option<FileKind>,
    /// Its node, if there are attributes.
    pub node: Option<Held>,
}

/// A directory that is being listed: an iterator over pieces, in the directory's own order. The first error ends it.
pub struct Listing {
    remote: Remote,
    directory: Found,
    path: RemotePath,
    cookie: u64,
    piece_bytes: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    GoesOn,
    Ended,
}

impl Remote {
    /// Lists a directory. Symbolic links are followed.
    pub fn list(&self, path: &RemotePath) -> Result<Listing, RemoteError> {
        let directory = self.find(path, Follow::Yes)?;
        if directory.attr.kind != FileKind::Directory {
            return Err(RemoteError::new(path, Errno::ENOTDIR));
        }
        Ok(self.list_found(directory, path))
    }

    /// Lists a directory that was found before. `path` is for people.
    pub fn list_found(&self, directory: Found, path: &RemotePath) -> Listing {
        Listing {
            remote: self.clone(),
            directory,
            path: path.clone(),
            cookie: 0,
            piece_bytes: FIRST_PIECE_BYTES,
            state: State::Fresh,
        }
    }
}

impl Listing {
    /// The directory.
    pub fn directory(&self) -> &Found {
        &self.directory
    }

    fn next_piece(&mut self) -> Result<Vec<Listed>, RemoteError> {
        match self.ask() {
            // The session ended between finding the directory and listing it.
            Err(Reason::Errno(Errno::EIO | Errno::ESTALE)) if self.state == State::Fresh => {
                self.remote.forget_walked();
                self.directory = self.remote.find(&self.path, Follow::Yes)?;
                self.ask()
            }
            result => result,
        }
        .map_err(|reason| match reason {
            Reason::Errno(errno) => RemoteError::new(&self.path, self.directory.session.reason(errno)),
            reason => RemoteError::new(&self.path, reason),
        })
    }

    fn ask(&mut self) -> Result<Vec<Listed>, Reason> {
        let session = &self.directory.session;
        let request = Request::ReadDir {
            node: self.directory.node.node(),
            cookie: self.cookie,
            entry_bytes_max: self.piece_bytes,
            with_attrs: true,
        };
        let (entries, end) = match session.ask(request, None)?.0 {
            Reply::Listing { entries, end, .. } => (entries, end),
            other => return Err(unexpected(&other)),
        };
        let last = entries.last().map(|entry| entry.cookie);
        let listed = entries
            .into_iter()
            .map(|entry| Listed {
                name: entry.name,
                kind: entry.attr.map(|attr| attr.kind).or(entry.kind),
                node: entry.attr.map(|attr| session.hold(attr.node, &self.directory.node)),
                attr: entry.attr.map(|attr| session.shown(attr)),
            })
            .collect();
        self.state = match last {
            _ if end => State::Ended,
            // A listing that does not get on would never end.
            None => return Err(Errno::EPROTO.into()),
            Some(cookie) if cookie == self.cookie => return Err(Errno::EPROTO.into()),
            Some(cookie) => {
                self.cookie = cookie;
                State::GoesOn
            }
        };
        self.piece_bytes = (self.piece_bytes * 2).min(PIECE_BYTES_MAX);
        Ok(listed)
    }
}

impl Iterator for Listing {
    type Item = Result<Vec<Listed>, RemoteError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let piece = self.next_piece();
        if piece.is_err() {
            self.state = State::Ended;
        }
        Some(piece)
    }
}

impl Listed {
    /// What was listed, as if it had been looked up. `None` if it vanished.
    pub fn into_found(self, directory: &Found) -> Option<Found> {
        let (attr, node) = (self.attr?, self.node?);
        let path = directory.path.child(self.name);
        Some(Found { node: Arc::new(node), attr, path, session: directory.session.clone() })
    }
}
