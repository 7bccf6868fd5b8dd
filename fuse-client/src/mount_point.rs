//! Whether a directory can be mounted on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::attach;
use crate::bounded::within;
use crate::control;
use crate::mountinfo::{self, MountEntry};

/// Longest wait for a file system that may be dead.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Most dead mounts of ours on top of each other that are cleared away.
const DEAD_MOUNTS_MAX: usize = 16;

/// Why a directory cannot be mounted on.
#[derive(Debug, thiserror::Error)]
pub enum MountPointError {
    /// Nothing there.
    #[error("mount point {path} does not exist: make it with `mkdir -p {path}`", path = .0.display())]
    Missing(PathBuf),
    /// Something else there.
    #[error("mount point {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Files would be hidden.
    #[error("mount point {} is not empty: mount elsewhere, or over it with `-o nonempty`", .0.display())]
    NotEmpty(PathBuf),
    /// A mount of ours, and alive.
    #[error("mount point {} is in use already: {what} is mounted there", .path.display())]
    InUse { path: PathBuf, what: String },
    /// A mount of another file system whose process has ended.
    #[error("mount point {} has a dead mount of type {fs_type} on it: unmount that first", .path.display())]
    Dead { path: PathBuf, fs_type: String },
    /// The operating system's words.
    #[error("mount point {}: {error}", .path.display())]
    Unusable { path: PathBuf, error: io::Error },
}

/// Checks a directory and gives its absolute path. A dead mount of ours that lies on it is cleared away.
pub(crate) fn check(path: &Path, nonempty: bool) -> Result<PathBuf, MountPointError> {
    let place = mountinfo::resolve(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => MountPointError::Missing(path.into()),
        _ => MountPointError::Unusable { path: path.into(), error },
    })?;
    clear_dead_mounts(&place)?;
    let unusable = |error| MountPointError::Unusable { path: place.clone(), error };
    if !place.metadata().map_err(unusable)?.is_dir() {
        return Err(MountPointError::NotADirectory(place));
    }
    if !nonempty && place.read_dir().map_err(unusable)?.next().is_some() {
        return Err(MountPointError::NotEmpty(place));
    }
    Ok(place)
}

fn clear_dead_mounts(place: &Path) -> Result<(), MountPointError> {
    for _ in 0..DEAD_MOUNTS_MAX {
        let unusable = |error| MountPointError::Unusable { path: place.into(), error };
        let entries = mountinfo::read().map_err(unusable)?;
        let Some(entry) = mountinfo::topmost_at(&entries, place) else { return Ok(()) };
        match (entry.is_nearfs(), is_dead(entry)) {
            (true, true) => {
                attach::detach(entry, true).map_err(|errno| unusable(errno.into()))?;
                log::info!("cleared a dead mount of {} away", entry.source);
            }
            (true, false) => {
                return Err(MountPointError::InUse { path: place.into(), what: entry.source.clone() });
            }
            (false, true) => {
                return Err(MountPointError::Dead { path: place.into(), fs_type: entry.fs_type.clone() });
            }
            (false, false) => return Ok(()),
        }
    }
    Ok(())
}

/// Whether nobody serves a mount any more. One whose server does not answer is not dead.
fn is_dead(entry: &MountEntry) -> bool {
    if entry.is_nearfs() && control::is_served(entry) {
        return false;
    }
    let place = entry.mount_point.clone();
    let answer = within(ANSWER_TIME_MAX, move || rustix::fs::stat(&place).err());
    matches!(answer, Some(Some(Errno::NOTCONN | Errno::CONNABORTED)))
}
