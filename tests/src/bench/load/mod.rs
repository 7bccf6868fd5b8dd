//! The loader: workloads made of single system calls, in a small program of their own, so that neither an
//! interpreter nor a program's start is measured. It prints operations, bytes and seconds on one line.

mod bulk;
mod files;
mod parallel;
mod random_access;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// What one workload did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Operations done.
    pub operations: u64,
    /// File bytes moved.
    pub bytes: u64,
    /// Time from the first operation to the end of the last.
    pub seconds: f64,
}

impl Load {
    fn since(started: Instant, operations: usize, bytes: u64) -> Self {
        Self { operations: operations as u64, bytes, seconds: started.elapsed().as_secs_f64() }
    }

    /// Reads the line that the loader prints.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(line: &str) -> anyhow::Result<Self> {
        let mut fields = line.split_whitespace();
        let mut next = || fields.next().context("the loader printed too little");
        Ok(Self { operations: next()?.parse()?, bytes: next()?.parse()?, seconds: next()?.parse()? })
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:.9}", self.operations, self.bytes, self.seconds)
    }
}

/// The command line of the `bench-load` binary.
#[derive(Debug, Parser)]
#[command(
    name = "bench-load",
    about = "Run one workload of the benchmark and print operations, bytes, seconds"
)]
pub struct Options {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// Write a file in sequence, then fsync.
    Write { file: PathBuf, bytes: u64 },
    /// Read a file in sequence.
    Read { file: PathBuf },
    /// Create files of 1 KiB in a new directory.
    Create { dir: PathBuf, count: usize },
    /// Rename what `create` made.
    Rename { dir: PathBuf, count: usize },
    /// Unlink what `rename` left.
    Unlink { dir: PathBuf, count: usize },
    /// stat the files of a small-file tree.
    Stat { tree: PathBuf, count: usize },
    /// Open, read and close the files of a small-file tree.
    OpenRead { tree: PathBuf, count: usize },
    /// Read blocks in random order, none twice, with so many threads.
    RandomRead { file: PathBuf, count: usize, threads: usize },
    /// Write blocks in random order, then fsync.
    RandomWrite { file: PathBuf, count: usize },
    /// stat and read the files of a small-file tree in several processes, each its own part.
    Parallel { tree: PathBuf, count: usize },
    /// One process of `parallel`: waits for a byte on standard input, then begins.
    ParallelPart { tree: PathBuf, first: usize, count: usize },
}

/// Runs the workload of the command line.
///
/// # Errors
/// The first failing system call, with the file it was about.
pub fn run(options: &Options) -> anyhow::Result<Load> {
    match &options.workload {
        Workload::Write { file, bytes } => bulk::write(file, *bytes),
        Workload::Read { file } => bulk::read(file),
        Workload::Create { dir, count } => files::create(dir, *count),
        Workload::Rename { dir, count } => files::rename(dir, *count),
        Workload::Unlink { dir, count } => files::unlink(dir, *count),
        Workload::Stat { tree, count } => files::stat(tree, *count),
        Workload::OpenRead { tree, count } => files::open_read(tree, *count),
        Workload::RandomRead { file, count, threads } => random_access::read(file, *count, *threads),
        Workload::RandomWrite { file, count } => random_access::write(file, *count),
        Workload::Parallel { tree, count } => parallel::run(tree, *count),
        Workload::ParallelPart { tree, first, count } => parallel::part(tree, *first, *count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_load_reads_back() {
        let load = Load { operations: 3, bytes: 1024, seconds: 0.25 };
        assert_eq!(Load::parse(&load.to_string()).unwrap(), load);
        assert!(Load::parse("3 1024").is_err());
    }

    #[test]
    fn every_workload_of_small_files_does_what_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("new");
        let created = files::create(&made, 5).unwrap();
        assert_eq!((created.operations, created.bytes), (5, 5 * 1024));
        assert_eq!(std::fs::read_dir(&made).unwrap().count(), 5);
        files::rename(&made, 5).unwrap();
        files::unlink(&made, 5).unwrap();
        assert_eq!(std::fs::read_dir(&made).unwrap().count(), 0);
    }

    #[test]
    fn random_accesses_touch_each_block_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        bulk::write(&file, 1 << 20).unwrap();
        let read = random_access::read(&file, 256, 4).unwrap();
        assert_eq!((read.operations, read.bytes), (256, 1 << 20));
        assert!(random_access::read(&file, 257, 1).is_err());
    }
}
