//! `nearfs doctor`: what is wrong, who waits for what, and what will become of it.
//!
//! The mount's process tells what waits for the server ([`crate::status`]); `/proc` tells who waits in the kernel
//! behind that ([`kernel`]). [`diagnosis`] puts both into words. Nothing here touches the mount itself.

mod diagnosis;
mod kernel;
mod set_up;
mod system_call;

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::bounded::within;
use crate::control::{self, Answer, Ask};
use crate::mountinfo::{self, MountEntry};
use crate::options::DoctorOptions;
use crate::umount::find;
use diagnosis::{Diagnosis, Trouble};
use set_up::Check;

/// Longest wait for the process of a mount, and for the kernel to tell of those who wait in it.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(400);

/// This machine, when no mount was named.
#[derive(Serialize)]
struct CheckUp {
    well: bool,
    set_up: Vec<Check>,
    mounts: Vec<Diagnosis>,
}

/// Runs `nearfs doctor`.
pub fn run(options: &DoctorOptions) -> ExitCode {
    let result = match &options.mount_point {
        Some(path) => find(path).and_then(|entry| {
            let diagnosis = diagnose(&entry);
            tell(&diagnosis, diagnosis.well, options.json)
        }),
        None => check_up().and_then(|check_up| tell(&check_up, check_up.well, options.json)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(line) => {
            eprintln!("nearfs: {line}");
            ExitCode::FAILURE
        }
    }
}

fn check_up() -> Result<CheckUp, String> {
    let entries = mountinfo::read().map_err(|error| format!("cannot read the table of mounts: {error}"))?;
    let set_up = set_up::checks();
    let mounts: Vec<_> = entries.iter().filter(|entry| entry.is_nearfs()).map(diagnose).collect();
    let well = set_up.iter().all(|check| check.ok) && mounts.iter().all(|mount| mount.well);
    Ok(CheckUp { well, set_up, mounts })
}

fn diagnose(entry: &MountEntry) -> Diagnosis {
    let report = match control::ask(entry, Ask::Status, ANSWER_TIME_MAX) {
        Ok(Answer::Status(report)) => *report,
        Ok(Answer::Failed { reason }) => return Diagnosis::of_trouble(entry, Trouble::Failed(reason)),
        Ok(Answer::Sessions(_) | Answer::Busy | Answer::Detached | Answer::Unmounted { .. }) => {
            let reason = "the mount's process is of another version".into();
            return Diagnosis::of_trouble(entry, Trouble::Failed(reason));
        }
        Err(_) => {
            let process = control::serving_process(entry);
            let process = process.map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
            return Diagnosis::of_trouble(entry, process.map_or(Trouble::Dead, Trouble::Silent));
        }
    };
    let target = entry.clone();
    let waiters = within(ANSWER_TIME_MAX, move || kernel::waiters(&target));
    Diagnosis::new(&report, waiters.unwrap_or_default(), kernel::program)
}

/// Whether all is well.
fn tell<T: Serialize + std::fmt::Display>(findings: &T, well: bool, json: bool) -> Result<bool, String> {
    use std::io::Write;
    let text = if json {
        serde_json::to_string_pretty(findings).map_err(|error| error.to_string())?
    } else {
        findings.to_string()
    };
    // A reader that closes the pipe early has seen enough.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(well)
}

impl std::fmt::Display for CheckUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for check in &self.set_up {
            writeln!(f, "{check}")?;
        }
        for mount in &self.mounts {
            writeln!(f, "{mount}")?;
        }
        let verdict = match (self.well, self.mounts.is_empty()) {
            (true, true) => "all is well: this machine can mount",
            (true, false) => "all is well",
            (false, _) => "not all is well: see above",
        };
        f.write_str(verdict)
    }
}
