//! Programs at work on two mounts of one server while connections, the server and the clients fail, and an oracle
//! beside the mounts that counts what was lost, doubled, or stuck.

mod fault;
mod load;
mod oracle;
mod place;
mod process;
mod report;
mod worker;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;

pub use load::{Load, Task};
pub use place::{Mount, Place};
pub use report::Verdict;

use fault::{Fault, Random};
use report::Report;
use worker::Worker;

/// No operation may take longer, whatever fails; the longest fault and the lease of a dead client are part of it.
pub const OPERATION_TIME_MAX: Duration = Duration::from_secs(45);
/// What each round lets the programs do in peace before and after its fault.
const PEACE: Duration = Duration::from_millis(1200);
/// How long the programs may take to finish what they do in the end.
const FINISH_TIME_MAX: Duration = Duration::from_secs(60);

/// How long, how often, from which seed.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Options {
    /// Ends after so many minutes.
    #[arg(long, default_value_t = 20)]
    pub minutes: u64,
    /// Ends after so many rounds, each with one fault.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    pub rounds: u64,
    /// Decides which faults come, and what the programs do; by the clock without it.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Faults to choose from, separated by commas; all without it.
    #[arg(long, value_delimiter = ',')]
    pub faults: Vec<Fault>,
    /// The directory for everything; the system's for temporary files without it.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// Runs until time or rounds are over or something is wrong, and says what was seen.
pub fn run(options: &Options) -> Result<Verdict> {
    let seed = options.seed.unwrap_or_else(by_the_clock);
    println!("seed {seed}; everything happens in rounds, of which each has a fault");
    let mut random = Random::new(seed);
    let mut place = Place::make(options.dir.as_deref())?;
    let mut workers = Worker::start_all(&place, &mut random)?;
    let mut report = Report::new(seed);
    let began = Instant::now();
    let faults = if options.faults.is_empty() { Fault::ALL.to_vec() } else { options.faults.clone() };
    while report.rounds < options.rounds
        && began.elapsed() < Duration::from_secs(options.minutes * 60)
        && !report.is_red()
    {
        // Each kind comes once before any comes again.
        let turn = report.rounds as usize % faults.len();
        if turn == 0 {
            random.shuffle(&mut report.order, faults.len());
        }
        let fault = faults[report.order[turn]];
        std::thread::sleep(PEACE);
        let told = fault.strike(&mut place, &mut workers, &mut random)?;
        report.count(fault, &told);
        watch_recovery(&mut workers, &mut report);
        std::thread::sleep(PEACE);
        oracle::check(&place, &workers, &mut report)?;
        report.sample(&place, began.elapsed());
        println!("{}", report.line(fault, &told, began.elapsed()));
    }
    for worker in &mut workers {
        worker.finish(FINISH_TIME_MAX, &mut report);
    }
    oracle::check(&place, &workers, &mut report)?;
    oracle::check_in_the_end(&place, &workers, &mut report)?;
    place.take_down(&mut report);
    Ok(report.verdict(began.elapsed()))
}

/// Each program completes an operation that it began after the fault.
fn watch_recovery(workers: &mut [Worker], report: &mut Report) {
    let began = Instant::now();
    let before: Vec<u64> = workers.iter().map(Worker::done).collect();
    loop {
        let waiting = workers
            .iter()
            .zip(&before)
            .find(|(worker, before)| worker.is_well() && worker.done() < **before + 2);
        let Some((worker, _)) = waiting else { break };
        if began.elapsed() > OPERATION_TIME_MAX {
            report.stuck.push(format!("{} does nothing any more: {}", worker.tag, worker.current()));
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    report.recovered(began.elapsed());
}

fn by_the_clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_secs())
}
