//! Several processes at once over a small-file tree.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use super::Load;
use super::files::{read_small, small_paths};
use crate::bench::size::{PARALLEL_PROCESSES, SMALL_BYTES};

/// Starts the processes, lets them begin together and waits for the last.
pub(super) fn run(tree: &Path, count: usize) -> anyhow::Result<Load> {
    let part_count = count / PARALLEL_PROCESSES;
    let mut parts = (0..PARALLEL_PROCESSES)
        .map(|index| start_part(tree, index * part_count, part_count))
        .collect::<anyhow::Result<Vec<Child>>>()?;
    for part in &mut parts {
        let mut ready = [0];
        part.stdout.as_mut().context("no standard output")?.read_exact(&mut ready)?;
    }
    let started = Instant::now();
    for part in &mut parts {
        part.stdin.as_mut().context("no standard input")?.write_all(b"!")?;
    }
    for part in &mut parts {
        ensure!(part.wait()?.success(), "one of the processes failed");
    }
    let done_count = part_count * PARALLEL_PROCESSES;
    Ok(Load::since(started, done_count, (done_count * SMALL_BYTES) as u64))
}

/// One process: says that it is ready, waits for a byte, then looks at and reads each of its files.
pub(super) fn part(tree: &Path, first: usize, count: usize) -> anyhow::Result<Load> {
    let paths = small_paths(tree, first, count);
    std::io::stdout().write_all(b"!")?;
    std::io::stdout().flush()?;
    std::io::stdin().read_exact(&mut [0])?;
    let started = Instant::now();
    for path in &paths {
        fs::symlink_metadata(path).with_context(|| format!("cannot stat {}", path.display()))?;
        read_small(path)?;
    }
    Ok(Load::since(started, count, (count * SMALL_BYTES) as u64))
}

fn start_part(tree: &Path, first: usize, count: usize) -> anyhow::Result<Child> {
    let program = std::env::current_exe()?;
    let child = Command::new(program)
        .arg("parallel-part")
        .arg(tree)
        .args([first.to_string(), count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(child)
}
