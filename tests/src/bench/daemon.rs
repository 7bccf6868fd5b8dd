//! Processes that the benchmark starts and ends: servers, clients and proxies.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{PidfdFlags, Signal};

/// How long a daemon may take to say that it listens or to mount.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a daemon may take to end after its mount is gone or it was asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A child process that is ended when it goes out of scope.
pub(super) struct Daemon {
    child: Child,
    name: String,
}

impl Daemon {
    /// Starts a daemon whose output goes to `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let log_file = open_log(log)?;
        command.stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file);
        let name = words(&command);
        let child = end_with_us(&mut command).spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name })
    }

    /// Starts a server and waits until it prints `listening on ADDRESS`; answers the port of that address.
    pub(super) fn start_listening(mut command: Command, log: &Path) -> anyhow::Result<(Self, u16)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(open_log(log)?);
        let name = words(&command);
        let mut child = end_with_us(&mut command).spawn().with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().context("the server has no standard output")?;
        let daemon = Self { child, name };
        let (sender, receiver) = mpsc::sync_channel(1);
        // The thread reads on after the address, so that the server never blocks on a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(port) = listening_port(&line) {
                    // A second address is of no interest, and nobody waits for it.
                    let _unread = sender.try_send(port);
                }
            }
        });
        match receiver.recv_timeout(START_TIMEOUT) {
            Ok(port) => Ok((daemon, port)),
            Err(_) => bail!("{} did not say that it listens; see {}", daemon.name, log.display()),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for `ready`, and not longer than the daemon lives.
    pub(super) fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended early: {status}", self.name);
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {} s", self.name, START_TIMEOUT.as_secs());
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Waits until the daemon has ended by itself.
    pub(super) fn wait_ended(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} still runs {} s after its mount is gone", self.name, STOP_TIMEOUT.as_secs());
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn terminate(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_none() {
            let pid = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(pid, Signal::TERM)?;
        }
        self.wait_ended()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.terminate().is_err() && self.child.kill().is_ok() && self.child.wait().is_err() {
            log::warn!("{} could not be ended", self.name);
        }
    }
}

/// Runs `command` to its end and answers how long it took; past `limit` it is killed.
///
/// # Errors
/// When it cannot be started, fails, or takes too long.
pub(super) fn run_timed(command: &mut Command, limit: Duration) -> anyhow::Result<Duration> {
    let took = run_limited(command, limit)?;
    took.with_context(|| format!("{} was killed after {} s", words(command), limit.as_secs()))
}

/// Runs `command` to its end and answers how long it took; none if it was killed because `limit` was over.
///
/// # Errors
/// When it cannot be started or fails.
pub(super) fn run_limited(command: &mut Command, limit: Duration) -> anyhow::Result<Option<Duration>> {
    let name = words(command);
    let started = Instant::now();
    let mut child = end_with_us(command).spawn().with_context(|| format!("cannot start {name}"))?;
    // A descriptor, unlike a number, never comes to mean another process.
    let pidfd = rustix::process::pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty())?;
    let (ended, watched) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = watched.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        late && rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
    });
    let status = child.wait();
    let took = started.elapsed();
    drop(ended);
    if watchdog.join().unwrap_or(false) {
        return Ok(None);
    }
    let status = status?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(Some(took))
}

/// Lets the kernel end a daemon when the benchmark itself is killed.
fn end_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec the closure makes one system call and touches no memory of the parent.
    unsafe { command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?)) }
}

/// A command as a person would type it, without its environment.
pub(super) fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn listening_port(line: &str) -> Option<u16> {
    line.split("listening on ").nth(1)?.trim().rsplit(':').next()?.parse().ok()
}

fn open_log(log: &Path) -> anyhow::Result<File> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir)?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_line_that_servers_print() {
        assert_eq!(listening_port("listening on 127.0.0.1:6327"), Some(6327));
        assert_eq!(listening_port("listening on [::1]:80\n"), Some(80));
        assert_eq!(listening_port("127.0.0.1:6327"), None);
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed() {
        let error = run_timed(Command::new("sleep").arg("30"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("was killed"), "{error}");
    }
}
