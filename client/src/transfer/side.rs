//! A directory on either side, and what is in it: for whoever looks at two trees at once.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::{CHUNK_BYTES, file_hash, hash};
use nearfs_protocol::id::ContentHash;
use nearfs_protocol::limits::{HASHED_BYTES_MAX, SYMLINK_BYTES_MAX};
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::name::Name;
use rustix::fs::{OFlags, Stat};

use crate::cancel::Cancel;
use crate::remote::{Follow, Held, Remote, RemotePath};
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::journal::is_staged;
use crate::transfer::local::{LocalDir, kind_of};
use crate::transfer::remote_dir::{RemoteDir, unexpected};
use crate::transfer::upload::{path_text, real_place};
use crate::transfer::upload_large::{ask_for, hashes_of};

/// Where a file or a tree is.
#[derive(Clone, Debug)]
pub enum Side {
    /// On the server.
    Remote(RemotePath),
    /// Here.
    Local(PathBuf),
}

/// A directory of either side.
#[derive(Clone)]
pub(super) enum Dir {
    Here(Arc<LocalDir>),
    There(Arc<RemoteDir>),
}

/// A name in a directory, and what it was when that was listed.
#[derive(Clone)]
pub(super) enum Entry {
    Here { dir: Arc<LocalDir>, name: Name, stat: Stat },
    There { dir: Arc<RemoteDir>, name: Name, attr: Attr, held: Arc<Held> },
}

/// What a person named.
pub(super) enum Top {
    Dir(Dir),
    Entry(Entry),
}

/// A directory whose turn comes later: many of them may wait, and few be open.
pub(super) enum Spot {
    Open(Dir),
    /// One that its directory leads to.
    Below(Entry),
}

impl Side {
    /// Looks at it. A link that a person names stands for what it points to.
    pub(super) fn look(&self, remote: &Remote) -> Result<Top, Failure> {
        match self {
            Side::Remote(path) => {
                let found = remote.find(path, Follow::Yes)?;
                if found.attr.kind == FileKind::Directory {
                    return Ok(Top::Dir(Dir::There(Arc::new(RemoteDir::of(found)))));
                }
                let (parent, name) = remote.find_parent(&found.path)?;
                let dir = RemoteDir { held: parent.node, path: parent.path, session: parent.session };
                Ok(Top::Entry(Entry::There { dir: Arc::new(dir), name, attr: found.attr, held: found.node }))
            }
            Side::Local(path) => look_here(path).map_err(|error| Failure::new(self.to_string(), error)),
        }
    }
}

fn look_here(path: &Path) -> std::io::Result<Top> {
    if std::fs::metadata(path)?.is_dir() {
        return Ok(Top::Dir(Dir::Here(Arc::new(LocalDir::open(path)?))));
    }
    let (dir, name, stat) = real_place(&std::fs::canonicalize(path)?)?;
    Ok(Top::Entry(Entry::Here { dir: Arc::new(dir), name, stat }))
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Side::Remote(path) => path.fmt(f),
            Side::Local(path) => f.write_str(&path_text(path)),
        }
    }
}

impl Dir {
    /// Calls `entry` for each name, in the directory's order, but for those of incomplete files.
    pub(super) fn each(&self, mut entry: impl FnMut(Entry) -> bool) -> Result<(), Failure> {
        match self {
            Dir::Here(dir) => dir
                .each(|listed| {
                    entry(Entry::Here { dir: Arc::clone(dir), name: listed.name, stat: listed.stat })
                })
                .map_err(|error| Failure::new(self.to_string(), error)),
            Dir::There(dir) => dir.each(|name, attr, held| {
                is_staged(name.as_bytes()) || entry(Entry::There { dir: Arc::clone(dir), name, attr, held })
            }),
        }
    }

    /// Where a name in it is, for people.
    pub(super) fn place_of(&self, name: &Name) -> String {
        match self {
            Dir::Here(dir) => path_text(&dir.path_of(name)),
            Dir::There(dir) => dir.path.child(name.clone()).to_string(),
        }
    }
}

impl Spot {
    pub(super) fn open(self) -> Result<Dir, Failure> {
        match self {
            Spot::Open(dir) => Ok(dir),
            Spot::Below(entry) => entry.open_dir(),
        }
    }
}

impl std::fmt::Display for Dir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dir::Here(dir) => f.write_str(&path_text(&dir.path)),
            Dir::There(dir) => dir.path.fmt(f),
        }
    }
}

impl Entry {
    pub(super) fn name(&self) -> &Name {
        match self {
            Entry::Here { name, .. } | Entry::There { name, .. } => name,
        }
    }

    pub(super) fn kind(&self) -> FileKind {
        match self {
            Entry::Here { stat, .. } => kind_of(stat),
            Entry::There { attr, .. } => attr.kind,
        }
    }

    /// Bytes of content, or of a link's text.
    pub(super) fn size(&self) -> u64 {
        match self {
            Entry::Here { stat, .. } => stat.st_size.cast_unsigned(),
            Entry::There { attr, .. } => attr.size,
        }
    }

    /// Opens the directory that it is.
    pub(super) fn open_dir(&self) -> Result<Dir, Failure> {
        match self {
            Entry::Here { dir, name, .. } => {
                let opened = dir.child(name).map_err(|error| self.failed(error))?;
                Ok(Dir::Here(Arc::new(opened)))
            }
            Entry::There { dir, name, held, .. } => Ok(Dir::There(Arc::new(RemoteDir {
                held: Arc::clone(held),
                path: dir.path.child(name.clone()),
                session: dir.session.clone(),
            }))),
        }
    }

    /// What the link says that it is.
    pub(super) fn read_link(&self) -> Result<Vec<u8>, Failure> {
        match self {
            Entry::Here { dir, name, .. } => dir.read_link(name).map_err(|error| self.failed(error)),
            Entry::There { dir, held, .. } => {
                match dir.session.ask(Request::ReadLink { node: held.node() }, None) {
                    Ok((Reply::Done, target)) if (1..=SYMLINK_BYTES_MAX).contains(&target.len()) => {
                        Ok(target.to_vec())
                    }
                    Ok((other, _)) => Err(self.failed(unexpected(&other))),
                    Err(errno) => Err(self.failed(errno)),
                }
            }
        }
    }

    /// The hash of its content, computed where it is. `hashed` is told of bytes as they are done.
    pub(super) fn hash(&self, cancel: &Cancel, hashed: &dyn Fn(u64)) -> Result<ContentHash, Failure> {
        let hash = match self {
            Entry::Here { dir, name, .. } => hash_here(dir, name, cancel, hashed),
            Entry::There { dir, held, .. } => hash_there(dir, held, hashed),
        };
        hash.map_err(|cause| self.failed(cause))
    }

    /// What went wrong with it.
    pub(super) fn failed(&self, cause: impl Into<Cause>) -> Failure {
        match self {
            Entry::Here { .. } => Failure::new(self.to_string(), cause),
            Entry::There { dir, name, .. } => dir.failed(name, cause),
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Entry::Here { dir, name, .. } => f.write_str(&path_text(&dir.path_of(name))),
            Entry::There { dir, name, .. } => dir.path.child(name.clone()).fmt(f),
        }
    }
}

fn hash_here(
    dir: &LocalDir,
    name: &Name,
    cancel: &Cancel,
    hashed: &dyn Fn(u64),
) -> Result<ContentHash, Cause> {
    let file = dir.open_file(name, OFlags::RDONLY)?;
    let size = file.metadata()?.len();
    let mut chunks = Vec::new();
    let mut content = vec![0; CHUNK_BYTES.min(size) as usize];
    for offset in (0..size).step_by(CHUNK_BYTES as usize) {
        if cancel.is_cancelled() {
            return Err(Errno::EINTR.into());
        }
        let content = &mut content[..CHUNK_BYTES.min(size - offset) as usize];
        file.read_exact_at(content, offset)?;
        chunks.push(hash(content));
        hashed(content.len() as u64);
    }
    Ok(file_hash(size, chunks))
}

fn hash_there(dir: &RemoteDir, held: &Held, hashed: &dyn Fn(u64)) -> Result<ContentHash, Cause> {
    let session = &dir.session;
    let open = Request::Open { node: held.node(), flags: libc::O_RDONLY as u32, content_bytes_max: 0 };
    let (fh, size) = match session.ask(open, None)? {
        (Reply::Opened { fh, attr, .. }, _) => (fh, attr.size),
        (other, _) => return Err(unexpected(&other).into()),
    };
    let mut chunks = Vec::new();
    let mut hash_all = || {
        for offset in (0..size).step_by(HASHED_BYTES_MAX) {
            let length = HASHED_BYTES_MAX as u64;
            let request = Request::HashRange { fh, offset, length, chunk_bytes: CHUNK_BYTES as u32 };
            chunks.extend(hashes_of(ask_for(session, request)?)?);
            hashed(length.min(size - offset));
        }
        Ok(())
    };
    let outcome = hash_all();
    session.release(fh);
    outcome.map(|()| file_hash(size, chunks))
}
