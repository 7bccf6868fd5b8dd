//! How much each workload does: the full sizes, a quick set for trying things out, a small one for delay.

use serde::Serialize;

/// Bytes in the block that sequential workloads read and write at a time.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// Bytes of a random access.
pub(super) const RANDOM_BYTES: usize = 4096;

/// Bytes of a small file.
pub(super) const SMALL_BYTES: usize = 1024;

/// Processes that work at once in the parallel workload.
pub(super) const PARALLEL_PROCESSES: usize = 8;

/// The counts and sizes of one run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sizes {
    /// Names the set; fixtures of different sets live side by side.
    pub(super) name: &'static str,
    /// Bytes of the large file that is written and read in sequence.
    pub(super) large_bytes: u64,
    /// Files created, renamed and unlinked.
    pub(super) created_count: usize,
    /// Files looked at by stat.
    pub(super) stat_count: usize,
    /// Small files opened and read.
    pub(super) opened_count: usize,
    /// Entries that `find -ls` lists.
    pub(super) listed_count: usize,
    /// Files in the source tree of tar, git and grep.
    pub(super) source_count: usize,
    /// SQLite transactions, each with one insert.
    pub(super) transaction_count: usize,
    /// Bytes of the file that is read at random.
    pub(super) random_read_bytes: u64,
    /// Random reads.
    pub(super) random_read_count: usize,
    /// Bytes of the file that is written at random.
    pub(super) random_write_bytes: u64,
    /// Random writes before the fsync.
    pub(super) random_write_count: usize,
}

impl Sizes {
    /// What the published figures are measured with.
    pub(super) const FULL: Self = Self {
        name: "full",
        large_bytes: 1 << 30,
        created_count: 2_000,
        stat_count: 5_000,
        opened_count: 4_000,
        listed_count: 20_000,
        source_count: 4_333,
        transaction_count: 300,
        random_read_bytes: 256 << 20,
        random_read_count: 8_000,
        random_write_bytes: 64 << 20,
        random_write_count: 4_000,
    };

    /// Seconds instead of minutes, with more noise.
    pub(super) const QUICK: Self = Self {
        name: "quick",
        large_bytes: 128 << 20,
        created_count: 400,
        stat_count: 1_000,
        opened_count: 800,
        listed_count: 2_000,
        source_count: 400,
        transaction_count: 60,
        random_read_bytes: 64 << 20,
        random_read_count: 1_500,
        random_write_bytes: 16 << 20,
        random_write_count: 800,
    };

    /// For runs in which an operation takes one or more round trips of milliseconds.
    pub(super) const DELAYED: Self = Self {
        name: "delayed",
        large_bytes: 256 << 20,
        created_count: 50,
        stat_count: 100,
        opened_count: 100,
        listed_count: 500,
        source_count: 60,
        transaction_count: 20,
        random_read_bytes: 16 << 20,
        random_read_count: 100,
        random_write_bytes: 16 << 20,
        random_write_count: 400,
    };
}
