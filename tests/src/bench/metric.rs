//! What is measured: one entry for each figure of the tables.

use serde::Serialize;

/// The unit of a figure, which also says which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    /// Operations each second; more is better.
    PerSecond,
    /// 10^6 bytes each second; more is better.
    MegabytesPerSecond,
    /// Seconds for the whole job; less is better.
    Seconds,
}

impl Unit {
    /// As a table heading shows it.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::MegabytesPerSecond => "MB/s",
            Self::Seconds => "s",
        }
    }

    /// A figure as a speed, so that more is better in every unit.
    pub(super) fn speed(self, figure: f64) -> f64 {
        if self.more_is_better() { figure } else { 1.0 / figure }
    }

    /// Whether a larger figure is the better one.
    pub(super) fn more_is_better(self) -> bool {
        match self {
            Self::PerSecond | Self::MegabytesPerSecond => true,
            Self::Seconds => false,
        }
    }
}

/// One figure of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Metric {
    /// Short name, as `--only` takes it.
    pub(super) id: &'static str,
    /// As the tables name it.
    pub(super) title: &'static str,
    /// What the figure counts.
    pub(super) unit: Unit,
    /// Whether the mount has seen the same files before, so that caches may answer.
    pub(super) repeated: bool,
}

const fn fresh(id: &'static str, title: &'static str, unit: Unit) -> Metric {
    Metric { id, title, unit, repeated: false }
}

const fn again(id: &'static str, title: &'static str, unit: Unit) -> Metric {
    Metric { id, title, unit, repeated: true }
}

/// All metrics, in the order of the tables.
pub(super) const METRICS: &[Metric] = &[
    fresh("seq-write", "sequential write, fsync", Unit::MegabytesPerSecond),
    fresh("seq-write-tmpfs", "sequential write on tmpfs", Unit::MegabytesPerSecond),
    fresh("seq-read-fresh", "sequential read, fresh", Unit::MegabytesPerSecond),
    again("seq-read-again", "sequential read, again", Unit::MegabytesPerSecond),
    fresh("create", "create + write 1 KiB + close", Unit::PerSecond),
    fresh("stat-fresh", "stat, fresh", Unit::PerSecond),
    fresh("open-read-fresh", "open + read 1 KiB, fresh", Unit::PerSecond),
    again("open-read-again", "open + read 1 KiB, again", Unit::PerSecond),
    fresh("rename", "rename", Unit::PerSecond),
    fresh("unlink", "unlink", Unit::PerSecond),
    fresh("find-fresh", "find -ls, fresh", Unit::PerSecond),
    again("find-again", "find -ls, again", Unit::PerSecond),
    fresh("tar-x", "tar x of a source tree", Unit::Seconds),
    fresh("rm-rf", "rm -rf of a source tree", Unit::Seconds),
    fresh("git-clone", "git clone", Unit::Seconds),
    fresh("git-status-fresh", "git status, fresh", Unit::Seconds),
    again("git-status-again", "git status, again", Unit::Seconds),
    fresh("grep-fresh", "grep -r, fresh", Unit::Seconds),
    again("grep-again", "grep -r, again", Unit::Seconds),
    fresh("sqlite", "sqlite transactions", Unit::PerSecond),
    fresh("random-read-1", "random read 4 KiB, 1 in flight, fresh", Unit::PerSecond),
    fresh("random-read-4", "random read 4 KiB, 4 in flight, fresh", Unit::PerSecond),
    fresh("random-write", "random write 4 KiB, then fsync", Unit::PerSecond),
    fresh("parallel-fresh", "8 processes stat + read small files, fresh", Unit::PerSecond),
    again("parallel-again", "8 processes stat + read small files, again", Unit::PerSecond),
];

/// The metric of that name.
pub(super) fn find(id: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.id == id)
}
