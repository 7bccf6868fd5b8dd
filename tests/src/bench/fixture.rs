//! The files that workloads read: made once in the export, the same for every system.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::size::{SMALL_BYTES, Sizes};
use crate::random::{Random, write_noise};

/// Files in one directory of the small-file trees.
const FILES_PER_DIR: usize = 100;

/// Files in one directory of the source tree, which is deeper and thinner.
const SOURCES_PER_DIR: usize = 15;

/// The largest source file; most are far smaller.
const SOURCE_BYTES_MAX: u64 = 32 * 1024;

/// The word that grep looks for, and how many files share one occurrence.
pub(super) const NEEDLE: &str = "quicksilver";
const FILES_PER_NEEDLE: usize = 50;

/// Where the fixtures of one set of sizes are, relative to the root of an export.
#[derive(Debug, Clone)]
pub(super) struct Fixtures {
    dir: PathBuf,
}

impl Fixtures {
    /// The fixtures of `sizes` beneath an export or a mount of it.
    pub(super) fn at(root: &Path, sizes: &Sizes) -> Self {
        Self { dir: root.join("fixtures").join(sizes.name) }
    }

    /// The large file of the sequential workloads.
    pub(super) fn large(&self) -> PathBuf {
        self.dir.join("large")
    }

    /// The file that is read at random.
    pub(super) fn random(&self) -> PathBuf {
        self.dir.join("random")
    }

    /// Small files, named by [`small_name`].
    pub(super) fn small(&self) -> PathBuf {
        self.dir.join("small")
    }

    /// Empty files to be listed, named by [`small_name`].
    pub(super) fn listed(&self) -> PathBuf {
        self.dir.join("listed")
    }

    /// A source tree.
    pub(super) fn source(&self) -> PathBuf {
        self.dir.join("source")
    }

    /// The source tree as an archive; workloads read it outside the mount.
    pub(super) fn archive(&self) -> PathBuf {
        self.dir.join("source.tar")
    }

    /// A bare repository with the source tree and its history; workloads clone it from outside the mount.
    pub(super) fn repository(&self) -> PathBuf {
        self.dir.join("source.git")
    }

    /// Makes what is not there yet, and reads all of it, so that the server's page cache is warm.
    pub(super) fn prepare(&self, sizes: &Sizes) -> anyhow::Result<()> {
        let complete = self.dir.join("complete");
        if !complete.exists() {
            self.build(sizes).with_context(|| format!("cannot make the files in {}", self.dir.display()))?;
            File::create(&complete)?;
        }
        run(Command::new("grep").args(["-r", "-c", "never there"]).arg(&self.dir), &[0, 1])
    }

    fn build(&self, sizes: &Sizes) -> anyhow::Result<()> {
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir)?;
        }
        fs::create_dir_all(&self.dir)?;
        write_noise(&self.large(), sizes.large_bytes, 0)?;
        write_noise(&self.random(), sizes.random_read_bytes, 0)?;
        write_small(&self.small(), sizes.opened_count, SMALL_BYTES)?;
        write_small(&self.listed(), sizes.listed_count.max(sizes.stat_count), 0)?;
        self.write_source(sizes.source_count)?;
        run(Command::new("tar").arg("-cf").arg(self.archive()).arg("-C").arg(&self.dir).arg("source"), &[0])?;
        self.write_repository()
    }

    fn write_source(&self, count: usize) -> anyhow::Result<()> {
        let mut random = Random::new(7);
        for index in 0..count {
            let path = self.source().join(source_name(index));
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
            }
            let needle = index % FILES_PER_NEEDLE == 0;
            fs::write(&path, source_text(&mut random, needle))?;
        }
        Ok(())
    }

    /// Commits the tree in two steps, then packs a bare copy.
    fn write_repository(&self) -> anyhow::Result<()> {
        let tree = self.dir.join("work");
        run(Command::new("cp").arg("-a").arg(self.source()).arg(&tree), &[0])?;
        run(git(&tree).args(["init", "-q", "-b", "main"]), &[0])?;
        run(git(&tree).args(["add", "d000/e00"]), &[0])?;
        run(git(&tree).args(["commit", "-qm", "First part"]), &[0])?;
        run(git(&tree).args(["add", "."]), &[0])?;
        run(git(&tree).args(["commit", "-qm", "Second part"]), &[0])?;
        run(Command::new("git").args(["clone", "-q", "--bare"]).arg(&tree).arg(self.repository()), &[0])?;
        run(git(&self.repository()).args(["repack", "-adq"]), &[0])?;
        Ok(fs::remove_dir_all(&tree)?)
    }
}

/// The name of small file `index`, relative to its tree.
pub(super) fn small_name(index: usize) -> String {
    format!("d{:03}/f{:02}", index / FILES_PER_DIR, index % FILES_PER_DIR)
}

/// Lines of `find` over a small-file tree of `count` files: the files, their directories and the top.
pub(super) fn listed_lines(count: usize) -> usize {
    count + count.div_ceil(FILES_PER_DIR) + 1
}

/// Files of a source tree of `count` files in which grep finds its word.
pub(super) fn needle_count(count: usize) -> usize {
    count.div_ceil(FILES_PER_NEEDLE)
}

fn source_name(index: usize) -> String {
    let dir = index / SOURCES_PER_DIR;
    format!("d{:03}/e{:02}/f{:02}.txt", dir / 10, dir % 10, index % SOURCES_PER_DIR)
}

/// Lines of words, a few hundred bytes for most files and some kilobytes for a few, as sources are.
fn source_text(random: &mut Random, needle: bool) -> String {
    const WORDS: [&str; 16] = [
        "let", "value", "return", "match", "struct", "node", "reply", "offset", "length", "self", "error",
        "attr", "index", "cache", "lease", "frame",
    ];
    let longest = SOURCE_BYTES_MAX >> random.below(8);
    let wanted = usize::try_from(random.below(longest) + 200).unwrap_or(usize::MAX);
    let mut text = String::with_capacity(wanted + 64);
    while text.len() < wanted {
        for _ in 0..8 {
            text.push_str(WORDS[random.below(WORDS.len() as u64) as usize]);
            text.push(' ');
        }
        text.push_str(&format!("{}\n", random.below(1 << 30)));
    }
    if needle {
        text.push_str(NEEDLE);
        text.push('\n');
    }
    text
}

fn write_small(tree: &Path, count: usize, bytes: usize) -> anyhow::Result<()> {
    for index in 0..count {
        let path = tree.join(small_name(index));
        if index % FILES_PER_DIR == 0
            && let Some(dir) = path.parent()
        {
            fs::create_dir_all(dir)?;
        }
        fs::write(path, vec![b'x'; bytes])?;
    }
    Ok(())
}

fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"]);
    command
}

fn run(command: &mut Command, accepted: &[i32]) -> anyhow::Result<()> {
    let output =
        command.stdout(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    match output.status.code() {
        Some(code) if accepted.contains(&code) => Ok(()),
        _ => bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}
