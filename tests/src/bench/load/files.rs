//! Many small files, one operation each.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};

use super::Load;
use crate::bench::fixture::small_name;
use crate::bench::size::SMALL_BYTES;

pub(super) fn create(dir: &Path, count: usize) -> anyhow::Result<Load> {
    let paths = numbered(dir, "new", count);
    let content = [b'x'; SMALL_BYTES];
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let started = Instant::now();
    for path in &paths {
        File::create_new(path)
            .and_then(|mut file| file.write_all(&content))
            .with_context(|| format!("cannot create {}", path.display()))?;
    }
    Ok(Load::since(started, count, (count * SMALL_BYTES) as u64))
}

pub(super) fn rename(dir: &Path, count: usize) -> anyhow::Result<Load> {
    let (from, to) = (numbered(dir, "new", count), numbered(dir, "renamed", count));
    let started = Instant::now();
    for (from, to) in from.iter().zip(&to) {
        fs::rename(from, to).with_context(|| format!("cannot rename {}", from.display()))?;
    }
    Ok(Load::since(started, count, 0))
}

pub(super) fn unlink(dir: &Path, count: usize) -> anyhow::Result<Load> {
    let paths = numbered(dir, "renamed", count);
    let started = Instant::now();
    for path in &paths {
        fs::remove_file(path).with_context(|| format!("cannot unlink {}", path.display()))?;
    }
    Ok(Load::since(started, count, 0))
}

pub(super) fn stat(tree: &Path, count: usize) -> anyhow::Result<Load> {
    let paths = small_paths(tree, 0, count);
    let started = Instant::now();
    for path in &paths {
        fs::symlink_metadata(path).with_context(|| format!("cannot stat {}", path.display()))?;
    }
    Ok(Load::since(started, count, 0))
}

pub(super) fn open_read(tree: &Path, count: usize) -> anyhow::Result<Load> {
    let paths = small_paths(tree, 0, count);
    let started = Instant::now();
    for path in &paths {
        read_small(path)?;
    }
    Ok(Load::since(started, count, (count * SMALL_BYTES) as u64))
}

/// Reads one small file whole, with a single read, and checks that it is all there.
pub(super) fn read_small(path: &Path) -> anyhow::Result<()> {
    let mut content = [0; SMALL_BYTES];
    let count = File::open(path)
        .and_then(|mut file| file.read(&mut content))
        .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(count == SMALL_BYTES, "{} has {count} bytes", path.display());
    Ok(())
}

/// The paths of a part of a small-file tree.
pub(super) fn small_paths(tree: &Path, first: usize, count: usize) -> Vec<PathBuf> {
    (first..first + count).map(|index| tree.join(small_name(index))).collect()
}

fn numbered(dir: &Path, prefix: &str, count: usize) -> Vec<PathBuf> {
    (0..count).map(|index| dir.join(format!("{prefix}{index:05}"))).collect()
}
