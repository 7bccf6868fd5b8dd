//! The command line of the `bench` binary.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;

use super::metric;
use super::placement::Placement;
use super::size::Sizes;
use super::transfers::Job;

/// Repetitions of a full run; a median of fewer hides no outlier.
const REPETITIONS: usize = 3;

/// Round trips that are measured unless others are asked for, on mounts and of transfers.
const RTTS_MS: [u16; 3] = [0, 2, 20];
const TRANSFER_RTTS_MS: [u16; 2] = [0, 20];

/// Which systems, metrics, delays and placements to compare.
#[derive(Debug, clap::Parser)]
#[command(
    name = "bench",
    about = "Compare nearfs with a local directory, a FUSE passthrough and other network filesystems"
)]
pub struct Options {
    /// Compare get and put of whole files with scp, sftp, rsync and lftp instead.
    #[arg(long)]
    pub(super) transfers: bool,
    /// Small sizes and one repetition: to see that it works, not for figures to quote.
    #[arg(long)]
    quick: bool,
    /// Only these metrics, by the names in the first column of the tables.
    #[arg(long, value_delimiter = ',', value_name = "METRIC", value_parser = known_metric)]
    only: Vec<String>,
    /// Only these systems: local, passthrough, nearfs, sshfs, sshfs-plain, gluster, rclone; of transfers nearfs, scp,
    /// sftp, rsync, lftp.
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
    /// Round trip times in milliseconds; 0 is a direct connection [default: 0,2,20, of transfers 0,20].
    #[arg(long, value_delimiter = ',', value_name = "MS")]
    rtt: Vec<u16>,
    /// End a transfer that takes longer than this: its time is then a lower bound.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", requires = "transfers",
          value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
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

/// What to measure of transfers.
#[derive(Debug, Clone)]
pub(super) struct TransferPlan {
    pub(super) placement: Placement,
    pub(super) rtts: Vec<Duration>,
    pub(super) is_quick: bool,
    pub(super) repetitions: usize,
    /// What takes longer is ended.
    pub(super) limit: Duration,
    /// Names of programs; all if there are none.
    pub(super) tools: Vec<String>,
    pub(super) jobs: Vec<Job>,
}

impl Options {
    /// What of transfers was asked for.
    pub(super) fn transfer_plan(&self) -> anyhow::Result<TransferPlan> {
        let jobs: Vec<Job> = Job::ALL.into_iter().filter(|job| self.wants(job.id())).collect();
        if jobs.is_empty() {
            bail!("nothing to measure: none of these metrics is one of transfers");
        }
        Ok(TransferPlan {
            placement: if self.pinned { Placement::Pinned } else { Placement::Unpinned },
            rtts: self.rtts(&TRANSFER_RTTS_MS).map(|ms| Duration::from_millis(ms.into())).collect(),
            is_quick: self.quick,
            repetitions: self.repetitions(),
            limit: Duration::from_secs(self.limit.into()),
            tools: self.systems.clone(),
            jobs,
        })
    }

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
        for rtt_ms in self.rtts(&RTTS_MS) {
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

    fn rtts<'a>(&'a self, defaults: &'a [u16]) -> impl Iterator<Item = u16> + 'a {
        let chosen = if self.rtt.is_empty() { defaults } else { &self.rtt };
        chosen.iter().copied()
    }

    fn repetitions(&self) -> usize {
        self.reps.map_or(if self.quick { 1 } else { REPETITIONS }, usize::from)
    }
}

fn known_metric(id: &str) -> Result<String, String> {
    match metric::find(id) {
        Some(_) => Ok(id.to_owned()),
        None if Job::ALL.iter().any(|job| job.id() == id) => Ok(id.to_owned()),
        None => {
            let all = metric::METRICS.iter().map(|metric| metric.id);
            let all: Vec<&str> = all.chain(Job::ALL.map(Job::id)).collect();
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

    #[test]
    fn transfers_have_rows_and_round_trips_of_their_own() {
        let plan = |arguments: &[&str]| {
            Options::parse_from([&["bench", "--transfers"], arguments].concat()).transfer_plan()
        };
        let all = plan(&[]).unwrap();
        assert_eq!((all.jobs.len(), all.rtts.len(), all.limit.as_secs()), (4, 2, 60));
        assert_eq!(plan(&["--only", "get-small"]).unwrap().jobs, [Job::GetSmall]);
        assert!(plan(&["--only", "tar-x"]).is_err());
    }
}
