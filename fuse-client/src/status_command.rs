//! `nearfs status`: asks mounts how they are.

use std::process::ExitCode;
use std::time::Duration;

use crate::control::{self, Answer, Ask};
use crate::mountinfo::{self, MountEntry};
use crate::options::StatusOptions;
use crate::status::StatusReport;
use crate::umount::find;

/// Longest wait for the process of a mount; it answers at once unless it is frozen itself.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// Runs `nearfs status`.
pub fn run(options: &StatusOptions) -> ExitCode {
    let result = match &options.mount_point {
        Some(path) => {
            find(path).and_then(|entry| report(&entry)).and_then(|report| one(&report, options.json))
        }
        None => all(options.json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("nearfs: {line}");
            ExitCode::FAILURE
        }
    }
}

fn one(report: &StatusReport, json: bool) -> Result<(), String> {
    print(&if json { to_json(report)? } else { report.to_string() });
    Ok(())
}

/// All mounts that this process sees; those that do not answer are named after the others.
fn all(json: bool) -> Result<(), String> {
    let entries = mountinfo::read().map_err(|error| format!("cannot read the table of mounts: {error}"))?;
    let answers: Vec<_> = entries.iter().filter(|entry| entry.is_nearfs()).map(report).collect();
    let reports: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    if json {
        print(&to_json(&reports)?);
    } else if answers.is_empty() {
        print("nothing of nearfs is mounted");
    }
    for report in reports.iter().filter(|_| !json) {
        print(&report.to_string());
    }
    let silent: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    if silent.is_empty() { Ok(()) } else { Err(silent.join("; ")) }
}

fn report(entry: &MountEntry) -> Result<StatusReport, String> {
    let place = entry.mount_point.display();
    match control::ask(entry, Ask::Status, ANSWER_TIME_MAX) {
        Ok(Answer::Status(report)) => Ok(*report),
        Ok(Answer::Failed { reason }) => Err(format!("{place}: {reason}")),
        Ok(Answer::Sessions(_) | Answer::Busy | Answer::Detached | Answer::Unmounted { .. }) => {
            Err(format!("{place}: the mount's process is of another version"))
        }
        Err(_) if control::is_served(entry) => {
            Err(format!("{place}: the mount's process is there, but does not answer"))
        }
        Err(_) => Err(format!(
            "{place} is a dead mount: its process has ended; `nearfs umount {place}` or mounting again removes it"
        )),
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, String> {
    serde_json::to_string_pretty(value).map_err(|error| error.to_string())
}

/// A reader that closes the pipe early has seen enough.
fn print(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
