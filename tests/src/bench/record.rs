//! What a run measured, as the reports use it and as `bench.json` keeps it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::goal::Goal;
use super::metric::{Metric, Unit};
use super::placement::Placement;
use super::size::Sizes;
use super::system::Role;

/// A whole run.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    pub(super) machine: Machine,
    /// Systems that were left out, with the reason.
    pub(super) skipped: BTreeMap<String, String>,
    pub(super) stages: Vec<StageRecord>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory_bytes: u64,
}

/// Everything measured with the same placement and delay.
#[derive(Debug, Serialize)]
pub(super) struct StageRecord {
    pub(super) placement: Placement,
    pub(super) rtt_ms: u64,
    pub(super) repetitions: usize,
    pub(super) sizes: Sizes,
    pub(super) systems: Vec<SystemRecord>,
    /// By metric; filled when all systems are measured.
    pub(super) goals: BTreeMap<&'static str, Goal>,
}

/// One system in one stage.
#[derive(Debug, Serialize)]
pub(super) struct SystemRecord {
    pub(super) name: &'static str,
    pub(super) role: Role,
    /// All figures by metric, in the order measured.
    pub(super) samples: BTreeMap<&'static str, Vec<f64>>,
    /// The last failure by metric.
    pub(super) failures: BTreeMap<&'static str, String>,
    pub(super) client: DaemonRecord,
    pub(super) server: DaemonRecord,
}

/// What the daemons of one side used over the stage.
#[derive(Debug, Default, Serialize)]
pub(super) struct DaemonRecord {
    pub(super) cpu_seconds: f64,
    pub(super) peak_bytes: u64,
}

impl StageRecord {
    pub(super) fn title(&self) -> String {
        match self.rtt_ms {
            0 => format!("RTT 0, {}", self.placement.name()),
            rtt => format!("RTT {rtt} ms, {}", self.placement.name()),
        }
    }

    pub(super) fn system(&self, name: &str) -> Option<&SystemRecord> {
        self.systems.iter().find(|system| system.name == name)
    }

    pub(super) fn of_role(&self, role: Role) -> impl Iterator<Item = &SystemRecord> {
        self.systems.iter().filter(move |system| system.role == role)
    }

    /// Round trips that one operation of `metric` took at `figure`; none where that says nothing.
    pub(super) fn round_trips(&self, metric: &Metric, figure: f64) -> Option<f64> {
        match metric.unit {
            Unit::PerSecond if self.rtt_ms > 0 => Some(1000.0 / figure / self.rtt_ms as f64),
            Unit::PerSecond | Unit::Seconds | Unit::MegabytesPerSecond => None,
        }
    }
}

impl SystemRecord {
    /// The median of the figures of one metric.
    pub(super) fn median(&self, metric: &str) -> Option<f64> {
        median(self.samples.get(metric)?)
    }
}

/// The one in the middle, or the mean of the two there; none of no samples.
pub(super) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

impl Machine {
    /// For people, as a part of a sentence. Of the kernel's version only what others can compare theirs with.
    pub(super) fn in_words(&self) -> String {
        let version: Vec<&str> = self.kernel.split('.').take(2).collect();
        format!(
            "Linux {}, {} cores ({}), {:.0} GiB of memory",
            version.join("."),
            self.cores,
            self.processor,
            self.memory_bytes as f64 / (1u64 << 30) as f64
        )
    }

    /// Reads what `/proc` says of this machine.
    pub(super) fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: value(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
