//! What was measured of transfers, and whether that is good enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::{Amounts, Job};
use super::tool::Tool;
use crate::bench::placement::Placement;
use crate::bench::record::median;

/// How many times as fast as sftp small files have to be where the server is far away.
const FAR_FACTOR: f64 = 10.0;
const FAR_RTT_MS: u64 = 20;

/// Everything measured with the same placement and delay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) placement: Placement,
    pub(super) rtt_ms: u64,
    pub(super) repetitions: usize,
    pub(super) limit_seconds: u64,
    pub(super) amounts: Amounts,
    pub(super) tools: Vec<Tool>,
    pub(super) rows: BTreeMap<Job, Row>,
}

/// One job, done by each program.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) cells: BTreeMap<Tool, Cell>,
}

/// How long a program took for a job.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Cell {
    /// Of each repetition.
    pub(super) seconds: Vec<f64>,
    /// The same until what it brought was on the disk as well.
    pub(super) synced_seconds: Vec<f64>,
    /// Whether it was ended because it took too long: then the time is a lower bound.
    pub(super) is_stopped: bool,
    pub(super) failure: Option<String>,
}

/// When a transfer counts as over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// When the command has ended.
    End,
    /// When what arrived survives a loss of power.
    Disk,
}

/// Whether nearfs is fast enough in a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// The fastest of the others, and how many times as long it took.
    pub(super) best: (Tool, f64),
    /// What is to be reached.
    pub(super) goal: String,
    pub(super) is_reached: bool,
}

impl Cell {
    pub(super) fn median(&self, until: Until) -> Option<f64> {
        match until {
            Until::End => median(&self.seconds),
            Until::Disk => median(&self.synced_seconds),
        }
    }
}

impl Row {
    /// How many times as long as nearfs a program took.
    pub(super) fn ratio(&self, tool: Tool, until: Until) -> Option<f64> {
        Some(self.cells.get(&tool)?.median(until)? / self.cells.get(&Tool::Nearfs)?.median(until)?)
    }
}

impl Stage {
    pub(super) fn title(&self) -> String {
        match self.rtt_ms {
            0 => "Loopback".to_owned(),
            rtt => format!("Round trip {rtt} ms"),
        }
    }

    /// This stage with rows that were measured later.
    pub(super) fn with(mut self, later: Stage) -> Stage {
        self.rows.extend(later.rows);
        Stage { rows: self.rows, ..later }
    }

    /// `None` where nearfs or everybody else is missing.
    pub(super) fn verdict(&self, job: Job, until: Until) -> Option<Verdict> {
        let row = self.rows.get(&job)?;
        let rivals = self.tools.iter().copied().filter(|tool| *tool != Tool::Nearfs);
        let ratios: Vec<(Tool, f64)> =
            rivals.filter_map(|tool| Some((tool, row.ratio(tool, until)?))).collect();
        let best = ratios.iter().copied().min_by(|one, other| one.1.total_cmp(&other.1))?;
        // A program that was ended is slower than nearfs only if nearfs was not.
        let is_first = best.1 > 1.0 && !row.cells.get(&Tool::Nearfs)?.is_stopped;
        if !job.is_tree() || self.rtt_ms < FAR_RTT_MS {
            return Some(Verdict { best, goal: "faster than each".to_owned(), is_reached: is_first });
        }
        let is_far_ahead = row.ratio(Tool::Sftp, until).is_none_or(|ratio| ratio >= FAR_FACTOR);
        let goal = format!("faster than each, than sftp {FAR_FACTOR} times");
        Some(Verdict { best, goal, is_reached: is_first && is_far_ahead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(rtt_ms: u64, job: Job, seconds: &[(Tool, f64)]) -> Stage {
        let cell =
            |seconds| Cell { seconds: vec![seconds], synced_seconds: vec![seconds + 1.0], ..Cell::default() };
        let cells = seconds.iter().map(|(tool, seconds)| (*tool, cell(*seconds))).collect();
        Stage {
            placement: Placement::Unpinned,
            rtt_ms,
            repetitions: 1,
            limit_seconds: 60,
            amounts: Amounts::QUICK,
            tools: Tool::ALL.to_vec(),
            rows: BTreeMap::from([(job, Row { cells })]),
        }
    }

    fn is_reached(rtt_ms: u64, job: Job, seconds: &[(Tool, f64)]) -> Option<bool> {
        stage(rtt_ms, job, seconds).verdict(job, Until::End).map(|verdict| verdict.is_reached)
    }

    #[test]
    fn each_of_the_others_has_to_be_slower() {
        let (slow, fast) = ((Tool::Scp, 3.0), (Tool::Rsync, 1.0));
        assert_eq!(is_reached(0, Job::GetLarge, &[(Tool::Nearfs, 0.9), slow, fast]), Some(true));
        assert_eq!(is_reached(0, Job::GetLarge, &[(Tool::Nearfs, 1.1), slow, fast]), Some(false));
        assert_eq!(is_reached(0, Job::GetLarge, &[(Tool::Nearfs, 1.1)]), None);
    }

    #[test]
    fn rows_that_were_measured_later_replace_the_earlier_ones() {
        let earlier = stage(0, Job::PutLarge, &[(Tool::Nearfs, 1.0)]);
        let both = earlier.with(stage(0, Job::GetLarge, &[(Tool::Nearfs, 2.0)]));
        let all = both.with(stage(0, Job::PutLarge, &[(Tool::Nearfs, 3.0)]));
        let median = |job: Job| all.rows[&job].cells[&Tool::Nearfs].median(Until::End);
        assert_eq!((median(Job::PutLarge), median(Job::GetLarge)), (Some(3.0), Some(2.0)));
    }

    #[test]
    fn small_files_far_away_have_to_be_ten_times_as_fast_as_with_sftp() {
        let figures = |sftp| [(Tool::Nearfs, 1.0), (Tool::Sftp, sftp), (Tool::Rsync, 2.0)];
        assert_eq!(is_reached(20, Job::PutSmall, &figures(9.0)), Some(false));
        assert_eq!(is_reached(20, Job::PutSmall, &figures(11.0)), Some(true));
        assert_eq!(is_reached(0, Job::PutSmall, &figures(9.0)), Some(true));
        assert_eq!(is_reached(20, Job::PutLarge, &figures(9.0)), Some(true));
    }
}
