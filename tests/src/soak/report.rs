//! What was seen, as a table in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::fault::{Fault, Struck};
use super::place::Place;

/// Of which process descriptors and memory are followed.
const PROCESSES: [&str; 2] = ["server", "clients"];
/// More growth over a whole run is a leak of descriptors. The server is judged when everybody is gone: until then it keeps, for
/// a day, what killed clients had open.
const DESCRIPTORS_GROWTH_MAX: f64 = 24.0;
/// The same of MiB; the caches of the clients may fill.
const MIB_GROWTH_MAX: f64 = 128.0;
/// What is shown of each kind of trouble.
const SHOWN_MAX: usize = 8;

/// What was seen so far.
pub(super) struct Report {
    seed: u64,
    pub(super) rounds: u64,
    faults: BTreeMap<String, u64>,
    pub(super) acknowledged: u64,
    pub(super) longest: Duration,
    slowest_recovery: Duration,
    pub(super) lost: Vec<String>,
    pub(super) doubled: Vec<String>,
    pub(super) stuck: Vec<String>,
    samples: [Vec<Sample>; 2],
    /// Descriptors of the server before anybody came and when everybody was gone.
    pub(super) server_alone: Option<(u64, u64)>,
    /// In which order the kinds of faults come at present.
    pub(super) order: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Sample {
    minutes: f64,
    descriptors: f64,
    kib: f64,
}

/// The end of a run.
pub struct Verdict {
    report: Report,
    took: Duration,
}

impl Report {
    pub(super) fn new(seed: u64) -> Report {
        Report {
            seed,
            rounds: 0,
            faults: BTreeMap::new(),
            acknowledged: 0,
            longest: Duration::ZERO,
            slowest_recovery: Duration::ZERO,
            lost: Vec::new(),
            doubled: Vec::new(),
            stuck: Vec::new(),
            samples: [Vec::new(), Vec::new()],
            server_alone: None,
            order: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, fault: Fault, struck: &Struck) {
        self.rounds += 1;
        *self.faults.entry(fault.name()).or_default() += struck.times;
        self.stuck.extend(struck.stuck.iter().map(|what| format!("{}: {what}", fault.name())));
    }

    pub(super) fn recovered(&mut self, took: Duration) {
        self.slowest_recovery = self.slowest_recovery.max(took);
    }

    /// Whether there is something that must not be.
    pub(super) fn is_red(&self) -> bool {
        !(self.lost.is_empty() && self.doubled.is_empty() && self.stuck.is_empty())
    }

    pub(super) fn sample(&mut self, place: &Place, since: Duration) {
        for (samples, usage) in self.samples.iter_mut().zip(place.usage()) {
            if let Some((descriptors, kib)) = usage {
                let minutes = since.as_secs_f64() / 60.0;
                samples.push(Sample { minutes, descriptors: descriptors as f64, kib: kib as f64 });
            }
        }
    }

    /// A round, in a line.
    pub(super) fn line(&self, fault: Fault, struck: &Struck, since: Duration) -> String {
        format!(
            "{:6.1} s  round {:4}  {:20} x{:<3} {:9} acknowledged",
            since.as_secs_f64(),
            self.rounds,
            fault.name(),
            struck.times,
            self.acknowledged
        )
    }

    pub(super) fn verdict(self, took: Duration) -> Verdict {
        Verdict { report: self, took }
    }
}

impl Verdict {
    /// Whether all is as it must be.
    pub fn is_good(&self) -> bool {
        !self.report.is_red() && self.leaks().is_empty()
    }

    /// Processes whose descriptors or memory become more and more.
    fn leaks(&self) -> Vec<&'static str> {
        let minutes = self.took.as_secs_f64() / 60.0;
        let [server, clients] = &self.report.samples;
        let descriptors = [
            self.report.server_alone.map_or(0.0, |(before, after)| after as f64 - before as f64),
            slope(clients, |at| at.descriptors) * minutes,
        ];
        let mib = [server, clients].map(|samples| slope(samples, |at| at.kib / 1024.0) * minutes);
        let grows = descriptors.map(|growth| growth > DESCRIPTORS_GROWTH_MAX);
        let swells = mib.map(|growth| growth > MIB_GROWTH_MAX);
        (0..PROCESSES.len()).filter(|&at| grows[at] || swells[at]).map(|at| PROCESSES[at]).collect()
    }
}

/// Growth a minute, by least squares.
fn slope(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len().max(1) as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, level) = (mean(&|at| at.minutes), mean(&value));
    let spread: f64 = samples.iter().map(|at| (at.minutes - time).powi(2)).sum();
    let rise: f64 = samples.iter().map(|at| (at.minutes - time) * (value(at) - level)).sum();
    if spread > 0.0 { rise / spread } else { 0.0 }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        writeln!(f, "\n| seed {} | |\n|---|---:|", report.seed)?;
        writeln!(f, "| minutes | {:.1} |", self.took.as_secs_f64() / 60.0)?;
        writeln!(f, "| rounds | {} |", report.rounds)?;
        for (fault, times) in &report.faults {
            writeln!(f, "| {fault} | {times} |")?;
        }
        writeln!(f, "| acknowledged operations | {} |", report.acknowledged)?;
        writeln!(f, "| longest operation | {:.1} s |", report.longest.as_secs_f64())?;
        writeln!(f, "| slowest recovery | {:.1} s |", report.slowest_recovery.as_secs_f64())?;
        for (what, cases) in [("lost", &report.lost), ("doubled", &report.doubled), ("stuck", &report.stuck)]
        {
            // One case is seen again by each check that follows.
            let cases: BTreeSet<&String> = cases.iter().collect();
            writeln!(f, "| {what} | {} |", cases.len())?;
        }
        for (process, samples) in PROCESSES.iter().zip(&report.samples) {
            let (first, last) = (samples.first(), samples.last());
            let of = |value: fn(&Sample) -> f64| {
                format!(
                    "{:.0} to {:.0}, {:+.2} a minute",
                    first.map_or(0.0, value),
                    last.map_or(0.0, value),
                    slope(samples, value)
                )
            };
            writeln!(f, "| descriptors, {process} | {} |", of(|at| at.descriptors))?;
            writeln!(f, "| memory, {process} | {} MiB |", of(|at| at.kib / 1024.0))?;
        }
        if let Some((before, after)) = report.server_alone {
            writeln!(
                f,
                "| descriptors, server, before anybody came and when all were gone | {before} and {after} |"
            )?;
        }
        for (what, cases) in [("lost", &report.lost), ("doubled", &report.doubled), ("stuck", &report.stuck)]
        {
            let cases: BTreeSet<&String> = cases.iter().collect();
            for case in cases.into_iter().take(SHOWN_MAX) {
                writeln!(f, "{what}: {case}")?;
            }
        }
        for process in self.leaks() {
            writeln!(f, "leak: descriptors or memory of the {process} become more and more")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_a_growth_a_minute() {
        let samples: Vec<_> = (0..10)
            .map(|number| Sample {
                minutes: f64::from(number) / 2.0,
                descriptors: f64::from(7 + number),
                kib: 1000.0,
            })
            .collect();
        assert!((slope(&samples, |at| at.descriptors) - 2.0).abs() < 1e-9);
        assert!(slope(&samples, |at| at.kib).abs() < 1e-9);
        assert!(slope(&samples[..1], |at| at.kib).abs() < 1e-9);
    }
}
