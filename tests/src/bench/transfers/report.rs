//! The tables of transfers.

use std::fmt::Write;

use super::Skipped;
use super::job::Job;
use super::record::{Cell, Row, Stage, Until};
use super::tool::Tool;
use crate::bench::record::Machine;

/// The whole report.
pub(super) fn markdown(machine: &Machine, skipped: &Skipped, stages: &[Stage]) -> String {
    let mut text = format!("# Transfers\n\n{}.\n{}\n", machine.in_words(), legend(stages));
    for (name, reason) in skipped {
        text.push_str(&format!("\nLeft out: {name} ({reason}).\n"));
    }
    for stage in stages {
        text.push_str(&format!("\n## {}\n\n{}", stage.title(), table(stage)));
    }
    text
}

/// How to read the tables.
pub(super) fn legend(stages: &[Stage]) -> String {
    let Some(stage) = stages.first() else { return String::new() };
    format!(
        "Seconds from the start of the command to its end, and in brackets how many times as long as nearfs it took;\n\
         medians of {} run{}. What took longer than {} s was ended, which is marked by >. nearfs has compared hashes\n\
         and synced to the disk when it ends; the others do neither, so the line below has the seconds until what\n\
         arrived would survive a loss of power.",
        stage.repetitions,
        if stage.repetitions == 1 { "" } else { "s" },
        stage.limit_seconds
    )
}

/// The rows of a stage.
pub(super) fn table(stage: &Stage) -> String {
    let mut text = String::new();
    let names = stage.tools.iter().map(|tool| tool.name());
    let heads: Vec<&str> = std::iter::once("").chain(names).chain(["goal", ""]).collect();
    line(&mut text, &heads);
    let rule = "--:|".repeat(stage.tools.len());
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "|---|{rule}---|---|");
    let rows =
        stage.rows.iter().flat_map(|(job, row)| [Until::End, Until::Disk].map(|until| (job, row, until)));
    for (job, row, until) in rows {
        let title = match until {
            Until::End => job.title(&stage.amounts),
            Until::Disk => "until it is on the disk".to_owned(),
        };
        let mut cells = vec![title];
        cells.extend(stage.tools.iter().map(|tool| figure(row, *tool, until)));
        let verdict = stage.verdict(*job, until);
        let word = |is_reached| if is_reached { "reached" } else { "**missed**" };
        cells.push(verdict.as_ref().map_or(String::new(), |verdict| verdict.goal.clone()));
        cells.push(verdict.map_or("", |verdict| word(verdict.is_reached)).to_owned());
        line(&mut text, &cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    failures(&mut text, stage);
    text
}

fn figure(row: &Row, tool: Tool, until: Until) -> String {
    let Some(cell) = row.cells.get(&tool) else { return "-".to_owned() };
    let Some(median) = cell.median(until) else { return "-".to_owned() };
    let bound = if cell.is_stopped { "> " } else { "" };
    match row.ratio(tool, until) {
        Some(ratio) if tool != Tool::Nearfs => format!("{bound}{} ({}x)", digits(median), digits(ratio)),
        Some(_) | None => format!("{bound}{}", digits(median)),
    }
}

fn failures(text: &mut String, stage: &Stage) {
    let failed = |(tool, cell): (&Tool, &Cell)| Some((tool.name(), cell.failure.clone()?));
    let rows = |job: &Job| stage.rows.get(job).into_iter().flat_map(|row| &row.cells).filter_map(failed);
    for (job, (tool, failure)) in Job::ALL.iter().flat_map(|job| rows(job).map(move |failed| (job, failed))) {
        text.push_str(&format!("\nFailed: {tool} on {}: {failure}\n", job.id()));
    }
}

/// Three digits that matter.
pub(super) fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn line(text: &mut String, cells: &[&str]) {
    let _infallible = writeln!(text, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bench::placement::Placement;
    use crate::bench::transfers::job::Amounts;

    #[test]
    fn a_row_has_times_ratios_and_a_verdict() {
        let cell = |seconds, is_stopped| Cell {
            seconds: vec![seconds],
            synced_seconds: vec![seconds + 0.5],
            is_stopped,
            failure: None,
        };
        let failed = Cell { failure: Some("is not there".to_owned()), ..Cell::default() };
        let cells = BTreeMap::from([
            (Tool::Nearfs, cell(0.5, false)),
            (Tool::Scp, cell(60.0, true)),
            (Tool::Rsync, failed),
        ]);
        let stage = Stage {
            placement: Placement::Unpinned,
            rtt_ms: 20,
            repetitions: 1,
            limit_seconds: 60,
            amounts: Amounts::FULL,
            tools: vec![Tool::Nearfs, Tool::Scp, Tool::Rsync],
            rows: BTreeMap::from([(Job::PutLarge, Row { cells })]),
        };
        let text = table(&stage);
        assert!(
            text.contains("| put 1 GiB | 0.50 | > 60.0 (120x) | - | faster than each | reached |"),
            "{text}"
        );
        assert!(text.contains("| until it is on the disk | 1.00 | > 60.5 (60.5x) | - |"), "{text}");
        assert!(text.contains("Failed: rsync on put-large: is not there"), "{text}");
    }
}
