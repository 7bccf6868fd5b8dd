//! Processes that are started, waited for with a bound, and ended.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Runs a command; one that takes longer is killed, which is `None`.
pub(super) fn ends_within(command: &mut Command, time: Duration) -> Result<Option<ExitStatus>> {
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?;
    let ended = wait_within(&mut child, time)?;
    if ended.is_none() {
        child.kill().ok();
        child.wait().ok();
    }
    Ok(ended)
}

/// Waits for the end of a process, with a bound.
pub(super) fn wait_within(child: &mut Child, time: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A process of ours, killed in the end.
pub(super) struct Own(pub(super) Child);

impl Own {
    /// Starts a command, in a process group of its own.
    pub(super) fn start(command: &mut Command) -> Result<Own> {
        Ok(Own(command.process_group(0).spawn().with_context(|| format!("{command:?}"))?))
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: i32) {
        send(self.0.id(), signal);
    }

    /// Kills it and waits until it is gone.
    pub(super) fn kill(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process that is known to be ours.
pub(super) fn send(pid: u32, signal: i32) {
    // SAFETY: kill(2) has no memory to get wrong.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// Descriptors that it has open and KiB of memory that it has; none of one that is gone.
pub(super) fn usage(pid: u32) -> Option<(u64, u64)> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some((descriptors, line.split_whitespace().next()?.parse().ok()?))
}
