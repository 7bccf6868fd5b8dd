//! The command line of the `bench` binary.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;

use super::metric;
use super::placement::Placement;
use super::size::Sizes;

/// Repetitions of a full run; a median of fewer hides no outlier.
const REPETITIONS: usize = 3;

/// Which systems, metrics, delays and placements to compare.
#[derive(Debug, clap::Parser)]
#[command(
    name = "bench",
    about = "Compare nearfs with a local directory, a FUSE passthrough and other network filesystems"
)]
pub struct Options {
    /// Small sizes and one repetition: to see that it works, not for figures to quote.
    #[arg(long)]
    quick: bool,
    /// Only these metrics, by the names in the first column of the tables.
    #[arg(long, value_delimiter = ',', value_name = "METRIC", value_parser = known_metric)]
    only: Vec<String>,
    /// Only these systems: local, passthrough, nearfs, sshfs, sshfs-plain, gluster, rclone.
    #[arg(long, value_delimiter = ',', value_name = "SYSTEM")]
    pub(super) systems: Vec<String>,
    /// Repetitions of each workload, in turns over the systems [default: 3, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    reps: Option<u16>,
    /// Only with everything pinned to one core.
    #[arg(long, conflicts_with = "unpinned")]
    pinned: bool,
    /// Only with everything where the kernel puts it.
    #[arg(long)]
    unpinned: bool,
    /// Round trip times in milliseconds; 0 is a direct connection.
    #[arg(long, value_delimiter = ',', default_value = "0,2,20", value_name = "MS")]
    rtt: Vec<u16>,
    /// Where the tables, the picture and the working files go.
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Keep the working files, with the logs of all daemons.
    #[arg(long)]
    pub(super) keep: bool,
}

/// One stage of the run: everything measured with the same placement and delay.
#[derive(Debug, Clone)]
pub(super) struct StagePlan {
    pub(super) placement: Placement,
    pub(super) rtt: Duration,
    pub(super) sizes: Sizes,
    pub(super) repetitions: usize,
}

impl Options {
    /// The stages in the order in which they run.
    ///
    /// Delayed stages run in one placement only: the delay is a thousand times what placement changes.
    pub(super) fn stages(&self) -> anyhow::Result<Vec<StagePlan>> {
        let placements: &[Placement] = match (self.pinned, self.unpinned) {
            (true, _) => &[Placement::Pinned],
            (_, true) => &[Placement::Unpinned],
            _ => &[Placement::Pinned, Placement::Unpinned],
        };
        let direct = if self.quick { Sizes::QUICK } else { Sizes::FULL };
        let mut stages = Vec::new();
        for &rtt_ms in &self.rtt {
            let rtt = Duration::from_millis(rtt_ms.into());
            let (placements, sizes) = match rtt_ms {
                0 => (placements, &direct),
                _ => (&placements[placements.len() - 1..], &Sizes::DELAYED),
            };
            stages.extend(placements.iter().map(|&placement| StagePlan {
                placement,
                rtt,
                sizes: sizes.clone(),
                repetitions: self.repetitions(),
            }));
        }
        if stages.is_empty() {
            bail!("nothing to measure");
        }
        Ok(stages)
    }

    /// Whether a metric was asked for.
    pub(super) fn wants(&self, metric: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|id| id == metric)
    }

    fn repetitions(&self) -> usize {
        self.reps.map_or(if self.quick { 1 } else { REPETITIONS }, usize::from)
    }
}

fn known_metric(id: &str) -> Result<String, String> {
    match metric::find(id) {
        Some(_) => Ok(id.to_owned()),
        None => {
            let all: Vec<&str> = metric::METRICS.iter().map(|metric| metric.id).collect();
            Err(format!("known metrics are {}", all.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn stages(arguments: &[&str]) -> Vec<(Placement, u128, &'static str)> {
        let options = Options::parse_from([&["bench"], arguments].concat());
        let stages = options.stages().unwrap();
        stages.iter().map(|stage| (stage.placement, stage.rtt.as_millis(), stage.sizes.name)).collect()
    }

    #[test]
    fn both_placements_are_measured_directly_and_one_with_delay() {
        let expected = [
            (Placement::Pinned, 0, "full"),
            (Placement::Unpinned, 0, "full"),
            (Placement::Unpinned, 2, "delayed"),
            (Placement::Unpinned, 20, "delayed"),
        ];
        assert_eq!(stages(&[]), expected);
    }

    #[test]
    fn options_narrow_the_run() {
        assert_eq!(stages(&["--pinned", "--rtt", "0", "--quick"]), [(Placement::Pinned, 0, "quick")]);
        assert!(Options::try_parse_from(["bench", "--only", "no-such-metric"]).is_err());
    }
}
