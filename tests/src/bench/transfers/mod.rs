//! Transfers: whole files and trees, brought by nearfs and by the programs that people use for it today.
//!
//! All of them bring the same files between the same directories of one disk, one program after the other, as often as
//! there are repetitions. What arrived is compared with what was sent, removed, and the disk is quiet before the next one
//! begins. nearfs has what it brought on the disk when it ends; the others leave that to the kernel, and are not told to
//! do more than their users tell them.

mod curve;
mod evaluation;
mod job;
mod picture;
mod record;
mod report;
mod servers;
mod tool;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;

use super::options::{Options, TransferPlan};
use super::record::Machine;
use super::workspace::Workspace;
use job::{Amounts, Ends};
use record::{Cell, Row, Stage};
use servers::{Attempt, Servers};
use tool::{Move, Tool};

pub use evaluation::{EvaluationOptions, evaluate};
pub(super) use job::Job;

/// Runs the comparison and writes `transfers.md`, `transfers.json` and `transfers.svg`.
///
/// # Errors
/// When nothing can be measured at all, or a program failed.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let plan = options.transfer_plan()?;
    let workspace = Workspace::open(&options.out)?;
    let (tools, skipped) = choose(&plan)?;
    for (name, reason) in &skipped {
        eprintln!("skipped {name}: {reason}");
    }
    let stages = compare(&plan, &tools, &workspace)?;
    let machine = Machine::here();
    let text = report::markdown(&machine, &skipped, &stages);
    fs::write(options.out.join("transfers.md"), &text).context("cannot write transfers.md")?;
    fs::write(options.out.join("transfers.json"), serde_json::to_string_pretty(&stages)?)
        .context("cannot write transfers.json")?;
    picture::draw(&stages, &options.out.join("transfers.svg"))?;
    println!("{text}");
    workspace.close(options.keep)?;
    let cells = || stages.iter().flat_map(|stage| stage.rows.values()).flat_map(|row| row.cells.values());
    let failed = cells().filter(|cell| cell.failure.is_some()).count();
    anyhow::ensure!(failed == 0, "{failed} figures are missing because a program failed");
    Ok(())
}

/// Programs that cannot be measured here, with the reason.
type Skipped = BTreeMap<String, String>;

fn choose(plan: &TransferPlan) -> anyhow::Result<(Vec<Tool>, Skipped)> {
    if let Some(unknown) = plan.tools.iter().find(|name| Tool::ALL.iter().all(|tool| tool.name() != **name)) {
        anyhow::bail!("no such program: {unknown}");
    }
    let mut skipped = Skipped::new();
    let mut chosen = Vec::new();
    for tool in Tool::ALL {
        let is_wanted = plan.tools.is_empty() || plan.tools.iter().any(|name| name == tool.name());
        match tool.absent() {
            _ if !is_wanted => {}
            Some(reason) => drop(skipped.insert(tool.name().to_owned(), reason)),
            None => chosen.push(tool),
        }
    }
    Ok((chosen, skipped))
}

fn compare(plan: &TransferPlan, tools: &[Tool], workspace: &Workspace) -> anyhow::Result<Vec<Stage>> {
    let ends = Ends { here: workspace.work().join("here"), export: workspace.export() };
    let amounts = if plan.is_quick { Amounts::QUICK } else { Amounts::FULL };
    ends.prepare(&amounts, &plan.jobs)?;
    let mut stages = Vec::new();
    for rtt in &plan.rtts {
        let mut stage = Stage {
            placement: plan.placement,
            rtt_ms: u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX),
            repetitions: plan.repetitions,
            limit_seconds: plan.limit.as_secs(),
            amounts,
            tools: tools.to_vec(),
            rows: BTreeMap::new(),
        };
        let servers = Servers::start(tools, &ends, workspace.work(), plan.placement, *rtt)?;
        for job in &plan.jobs {
            let row = measure(&servers, &ends, &stage, *job, plan.limit)?;
            stage.rows.insert(*job, row);
        }
        stages.push(stage);
    }
    Ok(stages)
}

/// Has each program do a job, as often as there are repetitions, in turns.
fn measure(servers: &Servers, ends: &Ends, stage: &Stage, job: Job, limit: Duration) -> anyhow::Result<Row> {
    let mut row = Row::default();
    for repetition in 1..=stage.repetitions {
        for tool in &stage.tools {
            let cell = row.cells.entry(*tool).or_default();
            // What was too slow once, or does not work, is not waited for again.
            if cell.is_stopped || cell.failure.is_some() {
                continue;
            }
            let places = ends.clear(job)?;
            let (here, there) = ends.paths(job, &places);
            let moved = Move { job, here: &here, there: &there, export: &ends.export };
            let attempt = servers.attempt(*tool, &moved, limit);
            let synced = ends.sync()?;
            let progress = format!("[{}] {repetition}/{}", stage.title(), stage.repetitions);
            eprintln!("{progress} {}: {} {attempt:?}, synced after {synced:?}", tool.name(), job.id());
            keep(cell, attempt, synced, || ends.check(job, &places));
        }
    }
    ends.clear(job)?;
    Ok(row)
}

/// Writes down what came of an attempt. `synced`: how long the disk was still at it.
fn keep(
    cell: &mut Cell,
    attempt: anyhow::Result<Attempt>,
    synced: Duration,
    check: impl FnOnce() -> anyhow::Result<()>,
) {
    let checked = attempt.and_then(|attempt| {
        if matches!(attempt, Attempt::Done(_)) {
            check()?;
        }
        Ok(attempt)
    });
    match checked {
        Ok(Attempt::Done(seconds)) => {
            cell.seconds.push(seconds);
            cell.synced_seconds.push(seconds + synced.as_secs_f64());
        }
        Ok(Attempt::Stopped(seconds)) => {
            cell.seconds = vec![seconds];
            cell.synced_seconds = vec![seconds];
            cell.is_stopped = true;
        }
        Err(error) => cell.failure = Some(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::record::Until;
    use super::*;

    #[test]
    fn what_was_stopped_is_a_bound_and_what_lost_something_has_no_figure() {
        let mut cell = Cell::default();
        keep(&mut cell, Ok(Attempt::Done(1.0)), Duration::from_secs(2), || Ok(()));
        assert_eq!((cell.median(Until::End), cell.median(Until::Disk)), (Some(1.0), Some(3.0)));
        keep(&mut cell, Ok(Attempt::Stopped(9.0)), Duration::ZERO, || anyhow::bail!("is not asked"));
        assert_eq!((cell.median(Until::End), cell.is_stopped, cell.failure), (Some(9.0), true, None));
        let mut lossy = Cell::default();
        keep(&mut lossy, Ok(Attempt::Done(0.1)), Duration::ZERO, || {
            anyhow::bail!("what arrived is not what was sent")
        });
        assert_eq!(lossy.median(Until::End), None);
        assert!(lossy.failure.unwrap().contains("not what was sent"));
    }
}
