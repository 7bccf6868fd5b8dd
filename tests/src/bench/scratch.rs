//! Scratch directories: an empty one for each group of workloads.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use rustix::fs::IFlags;

/// The directories of scratch directories, relative to an export: of those that are spread over the disk, and of others.
const PARENT: &str = "scratch";
const PARENT_IN_PLACE: &str = "scratch-in-place";

/// Numbers scratch directories; none is used twice, nor by two runs, because ext4 goes by the name when it places one.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A directory on an export, as seen from anywhere.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Removes earlier ones and makes a new one; `root` is an export or a mount of it.
    pub(super) fn make(root: &Path) -> anyhow::Result<Self> {
        spread(made(&root.join(PARENT))?);
        Self::make_below(root, PARENT)
    }

    /// The same for few files, which may take the blocks that earlier ones had: a virtual disk has those at hand.
    pub(super) fn make_in_place(root: &Path) -> anyhow::Result<Self> {
        made(&root.join(PARENT_IN_PLACE))?;
        Self::make_below(root, PARENT_IN_PLACE)
    }

    fn make_below(root: &Path, parent: &str) -> anyhow::Result<Self> {
        for earlier in fs::read_dir(root.join(parent))? {
            let earlier = earlier?.path();
            fs::remove_dir_all(&earlier).with_context(|| format!("cannot clear {}", earlier.display()))?;
        }
        let relative =
            Path::new(parent).join(format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(root.join(&relative))?;
        Ok(Self(relative))
    }

    /// The directory beneath an export or a mount of it.
    pub(super) fn at(&self, root: &Path) -> PathBuf {
        root.join(&self.0)
    }
}

fn made(dir: &Path) -> anyhow::Result<&Path> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Asks ext4 to put each directory in here into a part of the disk of its own (`chattr +T`).
///
/// ext4 does not reuse an inode within minutes of its deletion and looks at every such inode in turn, so that
/// creating files where others were just deleted takes ten times as long and gets slower by the minute. Other
/// filesystems have neither the flag nor the trouble.
fn spread(dir: &Path) {
    let flagged = File::open(dir).map_err(|_| rustix::io::Errno::NOENT).and_then(|dir| {
        let flags = rustix::fs::ioctl_getflags(&dir)?;
        rustix::fs::ioctl_setflags(&dir, flags | IFlags::TOPDIR)
    });
    if let Err(error) = flagged {
        log::debug!("{} is not spread over the disk: {error}", dir.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_is_new_and_the_only_one() {
        let root = tempfile::tempdir().unwrap();
        let first = Scratch::make(root.path()).unwrap().at(root.path());
        fs::write(first.join("file"), "").unwrap();
        let second = Scratch::make(root.path()).unwrap().at(root.path());
        assert!(!first.exists() && second.is_dir() && first != second);
    }
}
