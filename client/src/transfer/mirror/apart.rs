//! Whether one of two trees lies within the other: a server may be on this machine.

use std::path::Path;

use crate::remote::{Follow, Remote, RemotePath};
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::local::LocalDir;
use crate::transfer::remote_dir::RemoteDir;
use crate::transfer::side::{Dir, Entry};
use crate::transfer::upload::path_text;
use crate::transfer::upload_large::is_same_file;

/// How often two directories that have the same number are looked at: they may change between the two looks.
const LOOKS: usize = 5;

/// The tops of two trees.
pub(super) struct Tops {
    pub(super) source: Dir,
    /// `None` if it is still to be made.
    pub(super) target: Option<Dir>,
}

/// Refuses two trees of which one is on the way to the other, before anything is made. `here` and `there` are their tops
/// as far as they exist. Others are found when one comes by ([`Tops::refuse_target`], [`Tops::refuse_source`]).
pub(super) fn check(
    remote: &Remote,
    (local, here): (&Path, Option<&LocalDir>),
    (path, there): (&RemotePath, Option<&RemoteDir>),
) -> Result<(), Failure> {
    let refused = || Failure::new(path.to_string(), Cause::Itself);
    if let Some(there) = there {
        let local = std::path::absolute(local).map_err(|error| Failure::new(path_text(local), error))?;
        // What does not exist yet is made below the last that does.
        let real = local.ancestors().find_map(|above| std::fs::canonicalize(above).ok());
        for above in real.as_deref().unwrap_or(&local).ancestors() {
            let Ok(above) = LocalDir::open(above) else { break };
            if is_same_dir(&above, there)? {
                return Err(refused());
            }
        }
    }
    let mut way = here.and(Some(path.clone()));
    while let (Some(above), Some(here)) = (way, here) {
        let is_there = remote.stat_if_there(&above, Follow::Yes)?.is_some();
        if is_there && is_same_dir(here, &RemoteDir::of(remote.find(&above, Follow::Yes)?))? {
            return Err(refused());
        }
        way = above.parent();
    }
    Ok(())
}

impl Tops {
    /// Refuses to go into the target on the way through the source.
    pub(super) fn refuse_target(&self, dir: &Entry) -> Result<(), Failure> {
        self.target.as_ref().map_or(Ok(()), |target| refuse(dir, target))
    }

    /// Refuses to delete the source.
    pub(super) fn refuse_source(&self, dir: &Entry) -> Result<(), Failure> {
        refuse(dir, &self.source)
    }
}

fn refuse(entry: &Entry, top: &Dir) -> Result<(), Failure> {
    if entry.ino() != top.ino().map_err(|cause| entry.failed(cause))? {
        return Ok(());
    }
    let is_same = match (entry.open_dir()?, top) {
        (Dir::Here(here), Dir::There(there)) => is_same_dir(&here, there)?,
        (Dir::There(there), Dir::Here(here)) => is_same_dir(here, &there)?,
        (Dir::Here(_), Dir::Here(_)) | (Dir::There(_), Dir::There(_)) => false,
    };
    if is_same { Err(entry.failed(Cause::Itself)) } else { Ok(()) }
}

/// Whether both are one directory, looked at afresh: the times of one into which something is put do not stay.
fn is_same_dir(here: &LocalDir, there: &RemoteDir) -> Result<bool, Failure> {
    for _ in 0..LOOKS {
        let failed = |cause: Cause| Failure::new(there.path.to_string(), cause);
        let attr = there.attr().map_err(failed)?;
        let stat = here.stat_self().map_err(|error| failed(error.into()))?;
        if attr.node.id.0 != stat.st_ino {
            return Ok(false);
        }
        if is_same_file(&attr, &stat) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is no directory has no tree.
pub(super) fn not_a_directory(place: &str) -> Failure {
    Failure::new(place, Cause::Refused("is a file, not a directory".into()))
}
