//! The benchmark: nearfs beside a local directory, FUSE alone and other network filesystems, in one run.
//!
//! All systems serve the same files on the same disk. Each group of workloads begins with a fresh mount and
//! runs on one system after the other, as often as there are repetitions, so that a slow minute of the machine
//! hits all of them. Figures are medians. Goals are computed from the same run ([`goal`](self)).

mod bed;
mod contender;
mod daemon;
mod fixture;
mod goal;
pub mod load;
mod metric;
mod mounted;
mod options;
mod placement;
pub mod plain_sftp;
mod record;
mod report;
mod scratch;
mod size;
mod stage;
mod system;
mod transfers;
mod usage;
mod workload;
mod workspace;

pub use options::Options;
pub use transfers::{EvaluationOptions, evaluate};

use std::collections::BTreeMap;

use record::{Machine, Record};
use system::System;
use workspace::Workspace;

/// Runs the comparison and writes `bench.md`, `bench.json` and `bench.svg`; that of transfers `transfers.md` and so on.
///
/// # Errors
/// When nothing can be measured at all; a single workload that fails is part of the report.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if options.transfers {
        return transfers::run(options);
    }
    let plans = options.stages()?;
    let workspace = Workspace::open(&options.out)?;
    let (systems, skipped) = choose(options)?;
    for (name, reason) in &skipped {
        eprintln!("skipped {name}: {reason}");
    }
    let mut record = Record { machine: Machine::here(), skipped, stages: Vec::new() };
    for plan in &plans {
        record.stages.push(stage::run(options, plan, &systems, &workspace)?);
        // After each stage, so that a run which is stopped leaves what it has.
        report::write(&record, &options.out)?;
    }
    println!("{}", report::markdown(&record));
    workspace.close(options.keep)?;
    let failed: usize =
        record.stages.iter().flat_map(|stage| &stage.systems).map(|system| system.failures.len()).sum();
    anyhow::ensure!(failed == 0, "{failed} figures are missing because a workload failed");
    Ok(())
}

/// Systems that cannot be measured here, with the reason.
type Skipped = BTreeMap<String, String>;

/// The systems that were asked for and are there, and why others are not.
fn choose(options: &Options) -> anyhow::Result<(Vec<Box<dyn System>>, Skipped)> {
    let all = system::all();
    if let Some(unknown) =
        options.systems.iter().find(|name| all.iter().all(|system| system.name() != **name))
    {
        anyhow::bail!("no such system: {unknown}");
    }
    let mut skipped = Skipped::new();
    let mut chosen = Vec::new();
    for system in all {
        let wanted = options.systems.is_empty() || options.systems.iter().any(|name| name == system.name());
        match system.absent() {
            _ if !wanted => {}
            Some(reason) => drop(skipped.insert(system.name().to_owned(), reason)),
            None => chosen.push(system),
        }
    }
    Ok((chosen, skipped))
}
