//! What the daemons of a system cost: CPU seconds and peak memory, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// Bytes in a kilobyte as `/proc/PID/status` counts them.
const KIB: u64 = 1024;

/// Processes seen in a tree of processes, over its whole life.
///
/// Servers start a process for each connection and clients are started anew for each workload, so the tree is
/// sampled while everything still runs and what was seen last of each process is kept.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// CPU ticks by process id and start time, which together are never reused.
    ticks: BTreeMap<(u32, u64), u64>,
    peak_bytes: u64,
}

impl Usage {
    /// Looks at `root` and everything it started.
    pub(super) fn sample(&mut self, root: u32) {
        let mut memory_bytes = 0;
        for process in tree(root) {
            memory_bytes += peak_memory_bytes(process.pid);
            self.ticks.insert((process.pid, process.started), process.ticks);
        }
        self.peak_bytes = self.peak_bytes.max(memory_bytes);
    }

    /// CPU time of all processes, user and system.
    pub(super) fn cpu_seconds(&self) -> f64 {
        let ticks: u64 = self.ticks.values().sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// The largest sum of the peaks (VmHWM) of processes that lived at the same time.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }
}

struct Process {
    pid: u32,
    parent: u32,
    ticks: u64,
    started: u64,
}

fn tree(root: u32) -> Vec<Process> {
    let mut all: Vec<Process> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(read_process)
        .collect();
    let mut wanted = vec![root];
    let mut found = Vec::new();
    while let Some(pid) = wanted.pop() {
        wanted.extend(all.iter().filter(|process| process.parent == pid).map(|process| process.pid));
        if let Some(index) = all.iter().position(|process| process.pid == pid) {
            found.push(all.swap_remove(index));
        }
    }
    found
}

/// Reads the fields of proc_pid_stat(5) that matter here; none when the process is gone.
fn read_process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may itself contain spaces and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Process {
        pid,
        parent: u32::try_from(field(4)?).ok()?,
        ticks: field(14)? + field(15)?,
        started: field(22)?,
    })
}

fn peak_memory_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * KIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_count_and_stay_counted_when_they_are_gone() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 30 & wait"]).spawn().unwrap();
        let mut usage = Usage::default();
        while usage.ticks.len() < 2 {
            usage.sample(child.id());
        }
        let peak_bytes = usage.peak_bytes();
        assert!(peak_bytes > 0);
        for process in tree(child.id()) {
            let pid = rustix::process::Pid::from_raw(process.pid as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        child.wait().unwrap();
        usage.sample(child.id());
        assert_eq!((usage.ticks.len(), usage.peak_bytes()), (2, peak_bytes));
    }
}
