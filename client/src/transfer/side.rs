//! A directory on either side, and what is in it: for whoever looks at two trees at once.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nearfs_protocol::attr::{Attr, FileKind, SetAttr, SetTime, Time};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::{CHUNK_BYTES, file_hash, hash};
use nearfs_protocol::id::ContentHash;
use nearfs_protocol::limits::{HASHED_BYTES_MAX, SYMLINK_BYTES_MAX};
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::name::Name;
use rustix::fs::{OFlags, Stat};

use crate::cancel::Cancel;
use crate::remote::{Follow, Held, Remote, RemotePath};
use crate::transfer::asking::ask_for;
use crate::transfer::download::KEPT_MODE;
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::journal::is_staged;
use crate::transfer::local::{LocalDir, kind_of, mtime_of, set_file_attr};
use crate::transfer::opened::Opened;
use crate::transfer::remote_dir::{RemoteDir, unexpected};
use crate::transfer::upload::{path_text, real_place};
use crate::transfer::upload_large::hashes_of;

/// Deepest tree that is looked into. Deeper ones come from broken servers.
const DEPTH_MAX: usize = 512;

/// Where a file or a tree is.
#[derive(Clone, Debug)]
pub enum Side {
    /// On the server.
    Remote(RemotePath),
    /// Here.
    Local(PathBuf),
}

/// What a side has of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: FileKind,
    /// Bytes of content, or of a link's text.
    pub(super) size: u64,
    pub(super) mtime: Time,
    /// Permission bits; of a file without those by which a program acts as its owner, which a download does not bring.
    pub(super) mode: u32,
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

/// A directory that comes up again later, without being open until then.
pub(super) enum ParkedDir {
    Here(PathBuf),
    There(Arc<RemoteDir>),
}

/// A name that comes up again later, without its directory being open until then.
#[derive(Clone)]
pub(super) enum Parked {
    Here { dir: PathBuf, name: Name, stat: Stat },
    There(Entry),
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
        self.all(|listed| is_staged(listed.name().as_bytes()) || entry(listed))
    }

    /// The same with those of incomplete files.
    pub(super) fn all(&self, mut entry: impl FnMut(Entry) -> bool) -> Result<(), Failure> {
        match self {
            Dir::Here(dir) => dir
                .each(|listed| {
                    entry(Entry::Here { dir: Arc::clone(dir), name: listed.name, stat: listed.stat })
                })
                .map_err(|error| Failure::new(self.to_string(), error)),
            Dir::There(dir) => {
                dir.each(|name, attr, held| entry(Entry::There { dir: Arc::clone(dir), name, attr, held }))
            }
        }
    }

    /// What it is itself, now.
    pub(super) fn seen(&self) -> Result<Seen, Failure> {
        let seen = match self {
            Dir::Here(dir) => dir.stat_self().map(|stat| seen_here(&stat)).map_err(Cause::from),
            Dir::There(dir) => dir.attr().map(|attr| seen_there(&attr)),
        };
        seen.map_err(|cause| Failure::new(self.to_string(), cause))
    }

    /// Whether the other is this very directory, on the same side.
    pub(super) fn is_same(&self, other: &Dir) -> bool {
        match (self, other) {
            (Dir::Here(one), Dir::Here(other)) => Arc::ptr_eq(one, other),
            (Dir::There(one), Dir::There(other)) => Arc::ptr_eq(one, other),
            (Dir::Here(_), Dir::There(_)) | (Dir::There(_), Dir::Here(_)) => false,
        }
    }

    /// Its number in its file system.
    pub(super) fn ino(&self) -> Result<u64, Cause> {
        match self {
            Dir::Here(dir) => Ok(dir.stat_self()?.st_ino),
            Dir::There(dir) => Ok(dir.node().id.0),
        }
    }

    /// Makes a directory in it unless it is there. Whether it was made.
    pub(super) fn make_child(&self, name: &Name, mode: u32) -> Result<(Dir, bool), Failure> {
        match self {
            Dir::Here(dir) => match dir.make_child(name, mode) {
                Ok((made, is_new)) => Ok((Dir::Here(Arc::new(made)), is_new)),
                Err(error) => Err(Failure::new(self.place_of(name), error)),
            },
            Dir::There(dir) => {
                let (made, is_new) = dir.make_child(name, mode)?;
                Ok((Dir::There(Arc::new(made)), is_new))
            }
        }
    }

    /// What is kept of it until it is opened again.
    pub(super) fn parked(&self) -> ParkedDir {
        match self {
            Dir::Here(dir) => ParkedDir::Here(dir.path.clone()),
            Dir::There(dir) => ParkedDir::There(Arc::clone(dir)),
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

impl ParkedDir {
    /// Opens it again, below the top of its tree.
    pub(super) fn open(self, top: &Dir) -> Result<Dir, Failure> {
        match (self, top) {
            (ParkedDir::Here(path), Dir::Here(top)) => match top.descend(&path) {
                Ok(dir) => Ok(Dir::Here(dir)),
                Err(error) => Err(Failure::new(path_text(&path), error)),
            },
            (ParkedDir::There(dir), _) => Ok(Dir::There(dir)),
            (ParkedDir::Here(path), Dir::There(_)) => Err(Failure::new(path_text(&path), Errno::EXDEV)),
        }
    }
}

impl Parked {
    /// Reaches it again, below the top of its tree.
    pub(super) fn open(self, top: &Dir) -> Result<Entry, Failure> {
        match (self, top) {
            (Parked::Here { dir, name, stat }, Dir::Here(top)) => match top.descend(&dir) {
                Ok(dir) => Ok(Entry::Here { dir, name, stat }),
                Err(error) => Err(Failure::new(path_text(&dir), error)),
            },
            (Parked::There(entry), _) => Ok(entry),
            (Parked::Here { dir, .. }, Dir::There(_)) => Err(Failure::new(path_text(&dir), Errno::EXDEV)),
        }
    }
}

impl Spot {
    /// What it is.
    pub(super) fn seen(&self) -> Result<Seen, Failure> {
        match self {
            Spot::Open(dir) => dir.seen(),
            Spot::Below(entry) => Ok(entry.seen()),
        }
    }

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

    /// What it was when it was listed.
    pub(super) fn seen(&self) -> Seen {
        match self {
            Entry::Here { stat, .. } => seen_here(stat),
            Entry::There { attr, .. } => seen_there(attr),
        }
    }

    /// The mode that the other side gets of it.
    pub(super) fn kept_mode(&self) -> u32 {
        match self {
            Entry::Here { stat, .. } => stat.st_mode & 0o7777,
            Entry::There { .. } => self.seen().mode,
        }
    }

    /// Its number in its file system.
    pub(super) fn ino(&self) -> u64 {
        match self {
            Entry::Here { stat, .. } => stat.st_ino,
            Entry::There { attr, .. } => attr.node.id.0,
        }
    }

    /// The directory that has it.
    pub(super) fn dir(&self) -> Dir {
        match self {
            Entry::Here { dir, .. } => Dir::Here(Arc::clone(dir)),
            Entry::There { dir, .. } => Dir::There(Arc::clone(dir)),
        }
    }

    /// What is kept of it until it comes up again.
    pub(super) fn parked(self) -> Parked {
        match self {
            Entry::Here { dir, name, stat } => Parked::Here { dir: dir.path.clone(), name, stat },
            entry @ Entry::There { .. } => Parked::There(entry),
        }
    }

    /// Removes the name; of a directory, if it is empty. What is gone already is fine.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        let is_dir = self.kind() == FileKind::Directory;
        let removed = match self {
            Entry::Here { dir, name, .. } if is_dir => dir.remove_dir(name).map_err(Cause::from),
            Entry::Here { dir, name, .. } => dir.remove(name).map_err(Cause::from),
            Entry::There { dir, name, .. } => {
                let (parent, name) = (dir.node(), name.clone());
                let request = if is_dir {
                    Request::RemoveDir { parent, name }
                } else {
                    Request::Unlink { parent, name }
                };
                dir.session.ask(request, None).map(drop).map_err(Cause::from)
            }
        };
        match removed {
            Err(cause) if !cause.is_not_found() => Err(self.failed(cause)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Gives a file a mode and a time of its last change.
    pub(super) fn set_attr(&self, mode: u32, mtime: Time) -> Result<(), Failure> {
        match self {
            Entry::Here { dir, name, .. } => dir
                .open_file(name, OFlags::RDONLY)
                .and_then(|file| set_file_attr(&file, Some(mode), Some(mtime)))
                .map_err(|error| self.failed(error)),
            Entry::There { dir, held, .. } => {
                let mtime = Some(SetTime::At(mtime));
                let set = SetAttr { mode: Some(mode), mtime, ..SetAttr::default() };
                let request = Request::SetAttr { node: held.node(), fh: None, set };
                dir.session.ask(request, None).map(drop).map_err(|errno| self.failed(errno))
            }
        }
    }

    /// Opens the directory that it is.
    pub(super) fn open_dir(&self) -> Result<Dir, Failure> {
        match self {
            Entry::There { dir, .. } if dir.path.names().len() >= DEPTH_MAX => {
                let text =
                    format!("more than {DEPTH_MAX} directories below the top, too deep to be compared");
                Err(self.failed(Cause::Refused(text)))
            }
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

fn seen_here(stat: &Stat) -> Seen {
    Seen {
        kind: kind_of(stat),
        size: stat.st_size.cast_unsigned(),
        mtime: mtime_of(stat),
        mode: stat.st_mode & compared_mode(kind_of(stat)),
    }
}

fn seen_there(attr: &Attr) -> Seen {
    Seen { kind: attr.kind, size: attr.size, mtime: attr.mtime, mode: attr.mode & compared_mode(attr.kind) }
}

fn compared_mode(kind: FileKind) -> u32 {
    if kind == FileKind::File { KEPT_MODE } else { 0o7777 }
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
    let (file, Attr { size, .. }) = Opened::for_reading(session, held.node())?;
    let mut chunks = Vec::new();
    for offset in (0..size).step_by(HASHED_BYTES_MAX) {
        let length = HASHED_BYTES_MAX as u64;
        let request = Request::HashRange { fh: file.fh, offset, length, chunk_bytes: CHUNK_BYTES as u32 };
        chunks.extend(hashes_of(ask_for(session, request)?)?);
        hashed(length.min(size - offset));
    }
    Ok(file_hash(size, chunks))
}
