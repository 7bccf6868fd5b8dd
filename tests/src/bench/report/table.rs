//! Markdown tables.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::bench::goal::Goal;
use crate::bench::metric::{METRICS, Metric, Unit};
use crate::bench::record::{Record, StageRecord, SystemRecord};
use crate::bench::system::Role;

/// The whole report.
pub(in crate::bench) fn markdown(record: &Record) -> String {
    let mut text = format!(
        "# Benchmark\n\n{}. Medians; \"fresh\" means a client that has just mounted, while the server's page \
         cache is warm.\n",
        record.machine.in_words()
    );
    for (name, reason) in &record.skipped {
        line(&mut text, &format!("\nLeft out: {name} ({reason})."));
    }
    for stage in &record.stages {
        stage_report(&mut text, stage);
    }
    text
}

fn stage_report(text: &mut String, stage: &StageRecord) {
    let (sizes, repetitions) = (stage.sizes.name, stage.repetitions);
    line(text, &format!("\n## {}\n\nSizes: {sizes}; repetitions: {repetitions}.\n", stage.title()));
    figures(text, stage);
    if stage.rtt_ms > 0 {
        round_trips(text, stage);
    }
    daemons(text, stage);
    failures(text, stage);
}

fn figures(text: &mut String, stage: &StageRecord) {
    let names: Vec<&str> = stage.systems.iter().map(|system| system.name).collect();
    row(
        text,
        ["metric", "unit"].into_iter().chain(names.iter().copied()).chain([
            "goal",
            "",
            "of ceiling",
            "of best rival",
        ]),
    );
    rule(text, 2, names.len() + 4);
    for metric in METRICS {
        let medians: Vec<Option<f64>> = stage.systems.iter().map(|system| system.median(metric.id)).collect();
        if medians.iter().all(Option::is_none) {
            continue;
        }
        let goal = stage.goals.get(metric.id);
        let mut cells = vec![metric.title.to_owned(), metric.unit.symbol().to_owned()];
        cells.extend(
            medians.iter().map(|median| median.map_or("-".to_owned(), |value| figure(metric.unit, value))),
        );
        cells.push(goal.map_or(String::new(), |goal| {
            format!("{} ({})", figure(metric.unit, goal.target), goal.because)
        }));
        cells.push(goal.map_or("", verdict).to_owned());
        cells.push(ratio(stage, metric, Role::Ceiling));
        cells.push(ratio(stage, metric, Role::Rival));
        row(text, cells.iter().map(String::as_str));
    }
    summary(text, stage);
}

fn summary(text: &mut String, stage: &StageRecord) {
    let judged: Vec<bool> = stage.goals.values().filter_map(|goal| goal.reached).collect();
    if !judged.is_empty() {
        let reached = judged.iter().filter(|reached| **reached).count();
        line(text, &format!("\nGoals reached: {reached} of {}.", judged.len()));
    }
}

fn round_trips(text: &mut String, stage: &StageRecord) {
    line(text, "\nRound trips each operation took:\n");
    let names: Vec<&str> = stage.systems.iter().map(|system| system.name).collect();
    row(text, ["metric"].into_iter().chain(names.iter().copied()));
    rule(text, 1, names.len());
    for metric in METRICS.iter().filter(|metric| metric.unit == Unit::PerSecond) {
        let trips = |system: &SystemRecord| stage.round_trips(metric, system.median(metric.id)?);
        let cells: Vec<Option<f64>> = stage.systems.iter().map(trips).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.iter().map(|cell| cell.map_or("-".to_owned(), |trips| format!("{trips:.2}")));
            let cells: Vec<String> = std::iter::once(metric.title.to_owned()).chain(cells).collect();
            row(text, cells.iter().map(String::as_str));
        }
    }
}

fn daemons(text: &mut String, stage: &StageRecord) {
    line(text, "\nDaemons over the stage (peak memory is VmHWM, summed over the processes of a side):\n");
    row(text, ["system", "client MB", "client CPU s", "server MB", "server CPU s"]);
    rule(text, 1, 4);
    for system in stage.systems.iter().filter(|system| system.client.peak_bytes > 0) {
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let seconds = |seconds: f64| format!("{seconds:.1}");
        let (client, server) = (&system.client, &system.server);
        let cells = [megabytes(client.peak_bytes), seconds(client.cpu_seconds)];
        let more = [megabytes(server.peak_bytes), seconds(server.cpu_seconds)];
        row(text, [system.name].into_iter().chain(cells.iter().chain(&more).map(String::as_str)));
    }
}

fn failures(text: &mut String, stage: &StageRecord) {
    for system in &stage.systems {
        let mut metrics_by_error: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (metric, error) in &system.failures {
            metrics_by_error.entry(error).or_default().push(metric);
        }
        for (error, metrics) in metrics_by_error {
            line(text, &format!("\nFailed: {} on {}: {error}", system.name, metrics.join(", ")));
        }
    }
}

/// nearfs against the best of a role: above 1 nearfs is the faster one, whatever the unit.
fn ratio(stage: &StageRecord, metric: &Metric, role: Role) -> String {
    let speed = |system: &SystemRecord| Some(metric.unit.speed(system.median(metric.id)?));
    let best = |role| stage.of_role(role).filter_map(speed).reduce(f64::max);
    match (best(Role::Ours), best(role)) {
        (Some(ours), Some(theirs)) => format!("{:.2}", ours / theirs),
        _ => String::new(),
    }
}

fn verdict(goal: &Goal) -> &'static str {
    match goal.reached {
        Some(true) => "reached",
        Some(false) => "**missed**",
        None => "",
    }
}

/// Three digits that matter, and k or M for large rates.
fn figure(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Seconds => digits(value),
        Unit::MegabytesPerSecond => format!("{value:.0}"),
        Unit::PerSecond if value >= 1e6 => format!("{}M", digits(value / 1e6)),
        Unit::PerSecond if value >= 1e3 => format!("{}k", digits(value / 1e3)),
        Unit::PerSecond => digits(value),
    }
}

fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn row<'a>(text: &mut String, cells: impl IntoIterator<Item = &'a str>) {
    let cells: Vec<&str> = cells.into_iter().collect();
    line(text, &format!("| {} |", cells.join(" | ")));
}

/// The line under a heading: `left` columns of words, `right` of figures.
fn rule(text: &mut String, left: usize, right: usize) {
    line(text, &format!("|{}{}", "---|".repeat(left), "--:|".repeat(right)));
}

fn line(text: &mut String, content: &str) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(figure(Unit::PerSecond, 1_234_567.0), "1.23M");
        assert_eq!(figure(Unit::PerSecond, 45_678.0), "45.7k");
        assert_eq!(figure(Unit::PerSecond, 8.19), "8.19");
        assert_eq!(figure(Unit::Seconds, 0.0131), "0.013");
        assert_eq!(figure(Unit::MegabytesPerSecond, 1953.4), "1953");
    }
}
