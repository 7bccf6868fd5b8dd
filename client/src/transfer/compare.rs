//! Comparing files and trees by content, each hashed where it is.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::{CHUNK_BYTES, file_hash, hash};
use nearfs_protocol::id::ContentHash;
use nearfs_protocol::limits::HASHED_BYTES_MAX;
use nearfs_protocol::message::Request;
use nearfs_protocol::name::Name;
use std::collections::BTreeMap;

use crate::remote::{Follow, Remote, RemotePath};
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::journal::is_staged;
use crate::transfer::local::{LocalDir, kind_of};
use crate::transfer::upload::path_text;
use crate::transfer::upload_large::{ask_for, hashes_of};

/// Where one of the two is.
#[derive(Clone, Debug)]
pub enum Side {
    /// On the server.
    Remote(RemotePath),
    /// Here.
    Local(PathBuf),
}

/// What comes of two files.
#[derive(Debug)]
pub enum Comparison {
    /// They have the same content.
    Equal {
        /// Where the first of them is.
        path: String,
        /// How much that is.
        bytes: u64,
    },
    /// They differ, or only one is there.
    Differs {
        /// Where the first of them is, or would be.
        path: String,
        /// In what.
        why: &'static str,
    },
}

/// What a side has of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    kind: FileKind,
    size: u64,
}

/// Compares what is at one place of the server with what is at another place, and tells what comes of each file.
/// Directories are compared with all below them. Ends early when `tell` returns false.
pub fn compare(
    remote: &Remote,
    one: &RemotePath,
    other: &Side,
    tell: &mut dyn FnMut(Comparison) -> bool,
) -> Result<(), Failure> {
    let mut waiting = vec![(Side::Remote(one.clone()), other.clone())];
    while let Some((one, other)) = waiting.pop() {
        let (here, there) = (one.look(remote)?, other.look(remote)?);
        let path = one.to_string();
        let comparison = match (here.kind, there.kind) {
            (FileKind::Directory, FileKind::Directory) => {
                let (ours, mut theirs) = (one.names(remote)?, other.names(remote)?);
                for (name, _) in ours {
                    let child = one.child(&name);
                    if theirs.remove(&name).is_some() {
                        waiting.push((child, other.child(&name)));
                    } else if !tell(Comparison::Differs { path: child.to_string(), why: "only here" }) {
                        return Ok(());
                    }
                }
                for name in theirs.into_keys() {
                    let path = one.child(&name).to_string();
                    if !tell(Comparison::Differs { path, why: "only in the other" }) {
                        return Ok(());
                    }
                }
                continue;
            }
            (FileKind::File, FileKind::File) if here.size != there.size => {
                Comparison::Differs { path, why: "another size" }
            }
            (FileKind::File, FileKind::File) if one.hash(remote)? == other.hash(remote)? => {
                Comparison::Equal { path, bytes: here.size }
            }
            (FileKind::File, FileKind::File) => Comparison::Differs { path, why: "another content" },
            (FileKind::Symlink, FileKind::Symlink) if one.target(remote)? == other.target(remote)? => {
                Comparison::Equal { path, bytes: 0 }
            }
            (FileKind::Symlink, FileKind::Symlink) => Comparison::Differs { path, why: "another target" },
            (one, other) if one == other => Comparison::Equal { path, bytes: 0 },
            (_, _) => Comparison::Differs { path, why: "another kind of file" },
        };
        if !tell(comparison) {
            return Ok(());
        }
    }
    Ok(())
}

impl Side {
    fn child(&self, name: &Name) -> Side {
        match self {
            Side::Remote(path) => Side::Remote(path.child(name.clone())),
            Side::Local(path) => Side::Local(
                path.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name.as_bytes())),
            ),
        }
    }

    fn failed(&self, cause: impl Into<Cause>) -> Failure {
        Failure::new(self.to_string(), cause)
    }

    fn look(&self, remote: &Remote) -> Result<Seen, Failure> {
        match self {
            Side::Remote(path) => {
                let attr = remote.stat(path, Follow::No)?;
                Ok(Seen { kind: attr.kind, size: attr.size })
            }
            Side::Local(path) => {
                let stat =
                    rustix::fs::lstat(path).map_err(|error| self.failed(std::io::Error::from(error)))?;
                Ok(Seen { kind: kind_of(&stat), size: stat.st_size.cast_unsigned() })
            }
        }
    }

    /// All names of a directory, but for those of incomplete files.
    fn names(&self, remote: &Remote) -> Result<BTreeMap<Name, ()>, Failure> {
        let mut names = BTreeMap::new();
        match self {
            Side::Remote(path) => {
                for piece in remote.list(path)? {
                    names.extend(piece?.into_iter().map(|listed| (listed.name, ())));
                }
            }
            Side::Local(path) => {
                let listed = LocalDir::open(path).and_then(|directory| {
                    directory.each(|entry| {
                        names.insert(entry.name, ());
                        true
                    })
                });
                listed.map_err(|error| self.failed(error))?;
            }
        }
        names.retain(|name, ()| !is_staged(name.as_bytes()));
        Ok(names)
    }

    fn target(&self, remote: &Remote) -> Result<Vec<u8>, Failure> {
        match self {
            Side::Remote(path) => Ok(remote.read_link(path)?),
            Side::Local(path) => {
                let target = rustix::fs::readlink(path, Vec::new());
                Ok(target.map_err(|error| self.failed(std::io::Error::from(error)))?.into_bytes())
            }
        }
    }

    fn hash(&self, remote: &Remote) -> Result<ContentHash, Failure> {
        match self {
            Side::Remote(path) => {
                let file = remote.open(path)?;
                let mut chunks = Vec::new();
                for offset in (0..file.attr().size).step_by(HASHED_BYTES_MAX) {
                    let length = HASHED_BYTES_MAX as u64;
                    let request =
                        Request::HashRange { fh: file.fh(), offset, length, chunk_bytes: CHUNK_BYTES as u32 };
                    let answer = ask_for(file.session(), request).map_err(|errno| self.failed(errno))?;
                    chunks.extend(hashes_of(answer).map_err(|cause| self.failed(cause))?);
                }
                Ok(file_hash(file.attr().size, chunks))
            }
            Side::Local(path) => hash_local(path, remote).map_err(|cause| self.failed(cause)),
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Side::Remote(path) => path.fmt(f),
            Side::Local(path) => f.write_str(&path_text(path)),
        }
    }
}

fn hash_local(path: &Path, remote: &Remote) -> Result<ContentHash, Cause> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut chunks = Vec::new();
    let mut content = vec![0; CHUNK_BYTES as usize];
    for offset in (0..size).step_by(CHUNK_BYTES as usize) {
        if remote.current().cancel().is_cancelled() {
            return Err(Errno::EINTR.into());
        }
        let content = &mut content[..CHUNK_BYTES.min(size - offset) as usize];
        file.read_exact_at(content, offset)?;
        chunks.push(hash(content));
    }
    Ok(file_hash(size, chunks))
}
