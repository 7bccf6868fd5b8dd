//! Errors and delays of system calls of a process, by strace(1).
#![allow(clippy::unwrap_used)] // It serves tests, which fail by panicking.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{PROMPT, holds_within};

/// strace on a process; it lets go of it when this is dropped.
pub struct Injection {
    strace: Child,
    log: PathBuf,
}

impl Injection {
    /// Traces a process from here on. `directory`: for its log; `rules`: as strace's `inject=` has them. None, and a line
    /// that says so, where that is not possible.
    pub fn start(pid: u32, directory: &Path, rules: &[&str]) -> Option<Injection> {
        let log = directory.join("log");
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-o"]).arg(&log).arg("-p").arg(pid.to_string());
        for rule in rules {
            command.arg("-e").arg(format!("inject={rule}"));
        }
        let calls: Vec<_> = rules.iter().map(|rule| rule.split(':').next().unwrap()).collect();
        command.arg("-e").arg(format!("trace={}", calls.join(",")));
        let Ok(mut strace) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            eprintln!("SKIPPED: there is no strace");
            return None;
        };
        let is_traced = || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
            tasks
                .map(|task| fs::read_to_string(task.path().join("status")).unwrap_or_default())
                .all(|status| !status.contains("TracerPid:\t0"))
        };
        if !holds_within(PROMPT, is_traced) {
            let _ = strace.kill();
            eprintln!("SKIPPED: strace may not trace here");
            return None;
        }
        Some(Injection { strace, log })
    }

    /// Ends in the middle of a delay, for which a process that was killed otherwise waits.
    pub fn break_off(mut self) {
        let _ = self.strace.kill();
    }

    /// How many calls have failed by it.
    pub fn count(&self) -> usize {
        fs::read_to_string(&self.log).unwrap_or_default().matches("(INJECTED)").count()
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // Politely, so that it lets go of the server.
        let _ = Command::new("kill").arg(self.strace.id().to_string()).status();
        let _ = self.strace.wait();
    }
}
