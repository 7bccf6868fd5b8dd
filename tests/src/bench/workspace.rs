//! The directories of a run: one at a time, cleaned of what an earlier run left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::FlockOperation;
use rustix::mount::UnmountFlags;

/// Working directories on the disk and on tmpfs.
pub(super) struct Workspace {
    work: PathBuf,
    tmpfs: Option<tempfile::TempDir>,
    /// Held as long as the run lasts.
    _lock: File,
}

impl Workspace {
    /// Takes the lock of `out` and makes its working directories, empty.
    pub(super) fn open(out: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let out = out.canonicalize()?;
        let lock = File::create(out.join("lock"))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another benchmark runs in {}", out.display());
        }
        let work = out.join("work");
        clear(&work)?;
        fs::create_dir_all(work.join("export"))?;
        Ok(Self { work, tmpfs: tmpfs_dir(), _lock: lock })
    }

    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// The export on the disk.
    pub(super) fn export(&self) -> PathBuf {
        self.work.join("export")
    }

    /// The export in memory, on machines that have a tmpfs.
    pub(super) fn tmpfs_export(&self) -> Option<PathBuf> {
        self.tmpfs.as_ref().map(|dir| dir.path().join("tmpfs"))
    }

    /// Removes the working files unless they are to be kept.
    pub(super) fn close(self, keep: bool) -> anyhow::Result<()> {
        if keep { Ok(()) } else { clear(&self.work) }
    }
}

/// Unmounts what is mounted beneath `work` and removes it.
fn clear(work: &Path) -> anyhow::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    for mountpoint in table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new) {
        if mountpoint.starts_with(work) {
            rustix::mount::unmount(mountpoint, UnmountFlags::DETACH)?;
        }
    }
    match fs::remove_dir_all(work) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot clear {}", work.display()))
        }
        _ => Ok(()),
    }
}

fn tmpfs_dir() -> Option<tempfile::TempDir> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let dir = tempfile::Builder::new().prefix("nearfs-bench-").tempdir_in("/dev/shm").ok()?;
    let kind = rustix::fs::statfs(dir.path()).ok()?.f_type;
    (kind as i64 == TMPFS_MAGIC).then_some(dir)
}
