//! One stage: all wanted groups over all systems, with one placement and one delay.

use std::collections::BTreeMap;

use super::bed::Bed;
use super::contender::{Contender, Ground};
use super::goal;
use super::options::{Options, StagePlan};
use super::record::{DaemonRecord, StageRecord, SystemRecord};
use super::system::{Role, System};
use super::workload::{Figures, GROUPS, Group};
use super::workspace::Workspace;

/// Rivals that are measured with a delay unless systems are named; the others take too long.
const DELAYED_RIVALS: [&str; 1] = ["sshfs-plain"];

/// Runs one stage.
pub(super) fn run(
    options: &Options,
    plan: &StagePlan,
    systems: &[Box<dyn System>],
    workspace: &Workspace,
) -> anyhow::Result<StageRecord> {
    let systems: Vec<&dyn System> =
        systems.iter().map(AsRef::as_ref).filter(|system| takes_part(options, plan, *system)).collect();
    let mut stage = StageRecord {
        placement: plan.placement,
        rtt_ms: u64::try_from(plan.rtt.as_millis()).unwrap_or(u64::MAX),
        repetitions: plan.repetitions,
        sizes: plan.sizes.clone(),
        systems: systems.iter().map(|system| empty_record(*system)).collect(),
        goals: BTreeMap::new(),
    };
    for on_tmpfs in [false, true] {
        let groups: Vec<&Group> = GROUPS
            .iter()
            .filter(|group| group.tmpfs == on_tmpfs && (group.delayed || plan.rtt.is_zero()))
            .filter(|group| group.metrics.iter().any(|metric| options.wants(metric)))
            .collect();
        if groups.is_empty() {
            continue;
        }
        let export = if on_tmpfs { workspace.tmpfs_export() } else { Some(workspace.export()) };
        let Some(export) = export else {
            eprintln!("no tmpfs here; its metric is left out");
            continue;
        };
        let ground = Ground {
            work: workspace.work(),
            export: &export,
            placement: plan.placement,
            rtt: plan.rtt,
            fixtures: (!on_tmpfs).then_some(&plan.sizes),
        };
        measure(options, plan, &groups, start(&systems, &ground, &mut stage), &mut stage);
    }
    stage.goals = goal::goals(&stage);
    Ok(stage)
}

fn takes_part(options: &Options, plan: &StagePlan, system: &dyn System) -> bool {
    match system.role() {
        _ if plan.rtt.is_zero() => true,
        Role::Local | Role::Ceiling => false,
        Role::Ours => true,
        Role::Rival => !options.systems.is_empty() || DELAYED_RIVALS.contains(&system.name()),
    }
}

/// Starts all servers; one that does not start is recorded as having failed everything.
fn start<'s>(systems: &[&'s dyn System], ground: &Ground, stage: &mut StageRecord) -> Vec<Contender<'s>> {
    let mut contenders = Vec::new();
    for (&system, record) in systems.iter().zip(&mut stage.systems) {
        match Contender::start(system, ground) {
            Ok(contender) => contenders.push(contender),
            Err(error) => {
                eprintln!("{} does not start: {error:#}", system.name());
                record.failures.insert("start", format!("{error:#}"));
            }
        }
    }
    contenders
}

fn measure(
    options: &Options,
    plan: &StagePlan,
    groups: &[&Group],
    mut contenders: Vec<Contender>,
    stage: &mut StageRecord,
) {
    for group in groups {
        for repetition in 1..=plan.repetitions {
            for contender in &mut contenders {
                let name = contender.system.name();
                let figures = Bed::begin(contender, &plan.sizes).and_then(group.run);
                report_progress(stage, name, group, repetition, &figures);
                if let Some(record) = stage.systems.iter_mut().find(|record| record.name == name) {
                    keep(options, record, group, figures);
                }
            }
        }
    }
    for contender in &contenders {
        if let Some(record) = stage.systems.iter_mut().find(|record| record.name == contender.system.name()) {
            add_usage(
                &mut record.client,
                contender.client_usage.cpu_seconds(),
                contender.client_usage.peak_bytes(),
            );
            add_usage(
                &mut record.server,
                contender.server_usage.cpu_seconds(),
                contender.server_usage.peak_bytes(),
            );
        }
    }
}

fn keep(options: &Options, record: &mut SystemRecord, group: &Group, figures: anyhow::Result<Figures>) {
    match figures {
        Ok(figures) => {
            for (metric, figure) in figures.into_iter().filter(|(metric, _)| options.wants(metric)) {
                record.samples.entry(metric).or_default().push(figure);
            }
        }
        Err(error) => {
            for metric in group.metrics {
                record.failures.insert(metric, format!("{error:#}"));
            }
        }
    }
}

fn report_progress(
    stage: &StageRecord,
    name: &str,
    group: &Group,
    repetition: usize,
    figures: &anyhow::Result<Figures>,
) {
    let outcome = match figures {
        Ok(figures) => figures
            .iter()
            .map(|(metric, figure)| format!("{metric} {figure:.3}"))
            .collect::<Vec<_>>()
            .join(", "),
        Err(error) => format!("{} FAILED: {error:#}", group.metrics[0]),
    };
    eprintln!("[{}] {repetition}/{} {name}: {outcome}", stage.title(), stage.repetitions);
}

fn add_usage(record: &mut DaemonRecord, cpu_seconds: f64, peak_bytes: u64) {
    record.cpu_seconds += cpu_seconds;
    record.peak_bytes = record.peak_bytes.max(peak_bytes);
}

fn empty_record(system: &dyn System) -> SystemRecord {
    SystemRecord {
        name: system.name(),
        role: system.role(),
        samples: BTreeMap::new(),
        failures: BTreeMap::new(),
        client: DaemonRecord::default(),
        server: DaemonRecord::default(),
    }
}
