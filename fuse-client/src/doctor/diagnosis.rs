//! What is wrong with a mount, in words, and what will become of those who wait.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::kernel::KernelWaiter;
use crate::mountinfo::MountEntry;
use crate::status::{PendingOperation, StatusReport, duration};

/// What waits for longer is named: nearly all answers are faster.
const WAIT_MIN_MS: u64 = 1000;
/// A server that answers is heard of more often than this.
const SILENCE_MIN_MS: u64 = 3000;

/// What was found out about a mount.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Diagnosis {
    pub(super) mount_point: String,
    pub(super) source: String,
    pub(super) well: bool,
    /// How the server or the mount's own process is.
    pub(super) state: String,
    /// How long ago anything was heard of the server.
    pub(super) heard_ago_ms: Option<u64>,
    pub(super) last_error: Option<String>,
    /// What has waited for the server for a while.
    pub(super) waiting: Vec<Waiting>,
    /// Who waits in the kernel behind that.
    pub(super) behind: Vec<Behind>,
}

/// An operation that waits.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Waiting {
    op: String,
    path: String,
    age_ms: u64,
    /// After how many milliseconds it fails with `ETIMEDOUT`; `None` if never.
    ends_in_ms: Option<u64>,
    program: Option<Program>,
    /// What will become of it.
    outlook: String,
}

/// Somebody for whom no operation is under way, but who cannot go on either.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Behind {
    program: Program,
    path: String,
    /// The place in the kernel (`/proc/PID/wchan`).
    wchan: String,
    /// Whom it waits for, as far as that can be told.
    holder: Option<Program>,
    outlook: String,
}

/// A process, and the thread of it that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Program {
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) name: String,
}

/// Why a mount could not be asked.
pub(super) enum Trouble {
    /// Its process has ended.
    Dead,
    /// Its process does not answer.
    Silent(u32),
    /// Its process cannot tell.
    Failed(String),
}

impl Diagnosis {
    /// `program` finds the process of a thread.
    pub(super) fn new(
        report: &StatusReport,
        waiters: Vec<KernelWaiter>,
        program: impl Fn(u32) -> Option<Program>,
    ) -> Diagnosis {
        let (state, server_is_well) = server_state(report);
        let of_age = report.pending.iter().filter(|pending| pending.age_ms >= WAIT_MIN_MS);
        let waiting: Vec<_> =
            of_age.map(|pending| Waiting::new(pending, server_is_well, program(pending.pid))).collect();
        let is_stuck = |waiting: &Waiting| !(server_is_well && waiting.op == LOCKING);
        let well = server_is_well && !waiting.iter().any(is_stuck);
        let asked: HashSet<u32> = report.pending.iter().map(|pending| pending.pid).collect();
        let waiters = waiters.into_iter().filter(|waiter| !well && !asked.contains(&waiter.program.tid));
        Diagnosis {
            mount_point: report.mount_point.clone(),
            source: report.source.clone(),
            well,
            state,
            heard_ago_ms: report.heard_ago_ms,
            last_error: report.last_error.clone(),
            behind: waiters.map(|waiter| Behind::new(waiter, &waiting)).collect(),
            waiting,
        }
    }

    /// A mount whose process says nothing.
    pub(super) fn of_trouble(entry: &MountEntry, trouble: Trouble) -> Diagnosis {
        let place = entry.mount_point.display();
        let state = match trouble {
            Trouble::Dead => format!(
                "it is dead: its process has ended, and everything answers ENOTCONN; mounting again or \
                 `nearfs umount {place}` removes it"
            ),
            Trouble::Silent(pid) => format!(
                "its process {pid} does not answer{}; `kill -CONT {pid}` has it go on if it was stopped, \
                 `nearfs umount {place}` ends it",
                if is_stopped(pid) { ": it is stopped" } else { "" }
            ),
            Trouble::Failed(reason) => reason,
        };
        Diagnosis {
            mount_point: place.to_string(),
            source: entry.source.clone(),
            well: false,
            state,
            heard_ago_ms: None,
            last_error: None,
            waiting: Vec::new(),
            behind: Vec::new(),
        }
    }
}

/// In words, and whether it is as it should be.
fn server_state(report: &StatusReport) -> (String, bool) {
    let server = &report.server;
    let heard = || report.heard_ago_ms.map_or_else(|| "ever".into(), |ms| format!("for {}", time(ms)));
    let error = report.last_error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
    if let Some(why) = &report.over {
        let end = "everything answers EIO until the directory is unmounted and mounted again";
        return (format!("the session with {server} is over ({why}): {end}"), false);
    }
    if let Some(ms) = report.lost_for_ms {
        let lost = time(ms);
        return (
            format!(
                "{server} has been unreachable for {lost}{error}; nothing was heard of it {}; the mount tries \
                 to connect again, and goes on by itself as soon as the server answers",
                heard()
            ),
            false,
        );
    }
    if report.heard_ago_ms.is_some_and(|ms| ms >= SILENCE_MIN_MS) {
        return (format!("{server} is silent: nothing was heard of it {}", heard()), false);
    }
    let heard =
        report.heard_ago_ms.map_or_else(|| "is there".into(), |ms| format!("answered {} ago", time(ms)));
    let round_trip =
        report.round_trip_us.map(|us| format!("; a round trip takes {:.2} ms", us as f64 / 1000.0));
    (format!("{server} {heard}{}", round_trip.unwrap_or_default()), true)
}

/// What programs wait for as long as it takes, be the server as well as it may.
const LOCKING: &str = "setlk";

impl Waiting {
    fn new(pending: &PendingOperation, server_is_well: bool, program: Option<Program>) -> Waiting {
        let PendingOperation { op, path, age_ms, left_ms, .. } = pending.clone();
        let ctrl_c = if program.is_some() { "; Ctrl-C ends the program" } else { "" };
        let outlook = match left_ms {
            Some(ms) => format!("ends with ETIMEDOUT in {}", time(ms)),
            None if op == LOCKING && server_is_well => {
                format!("waits until whoever has the lock gives it back{ctrl_c}")
            }
            None if pending.pid == 0 => "goes on when the server is back; nobody waits for it".into(),
            None => format!("kept until the server is back{ctrl_c}"),
        };
        Waiting { op, path, age_ms, ends_in_ms: left_ms, program, outlook }
    }

    /// How likely it is what keeps somebody waiting at a path, 0 if it is not: the kernel lets one at a time change a
    /// directory or look a name of it up.
    fn nearness(&self, path: &str) -> u8 {
        let (own, other) = (Path::new(&self.path), Path::new(path));
        if own == other {
            3
        } else if own.parent() == Some(other) || other.parent() == Some(own) {
            2
        } else if own.parent() == other.parent() {
            1
        } else {
            0
        }
    }
}

impl Behind {
    fn new(waiter: KernelWaiter, waiting: &[Waiting]) -> Behind {
        let KernelWaiter { program, path, wchan } = waiter;
        let near = waiting.iter().filter(|one| one.program.is_some() && one.nearness(&path) > 0);
        let holder = near.max_by_key(|one| (one.nearness(&path), one.age_ms));
        let holder = holder.and_then(|one| one.program.clone());
        let outlook = match &holder {
            Some(holder) => format!("goes on when {holder} does, and ends with it"),
            None => "goes on with what waits for the server".into(),
        };
        Behind { program, path, wchan, holder, outlook }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnosis { mount_point, source, state, .. } = self;
        write!(f, "{source} on {mount_point}: {state}")?;
        if self.well && self.waiting.is_empty() {
            return write!(f, "\n  all is well: nothing waits");
        }
        for Waiting { op, path, age_ms, program, outlook, .. } in &self.waiting {
            let who = program.as_ref().map_or_else(String::new, |program| format!(", for {program}"));
            write!(f, "\n  {op} of {path} has waited for {}{who}: {outlook}", time(*age_ms))?;
        }
        for Behind { program, path, wchan, outlook, .. } in &self.behind {
            write!(f, "\n  {program} waits in the kernel ({wchan}) at {path}: {outlook}")?;
        }
        if !self.well && self.waiting.is_empty() && self.behind.is_empty() {
            write!(f, "\n  nobody waits")?;
        }
        Ok(())
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

fn time(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

fn is_stopped(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:\tT") || line.starts_with("State:\tt"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo;

    fn report(pending: Vec<PendingOperation>, heard_ago_ms: u64) -> StatusReport {
        let entry = mountinfo::read().unwrap().remove(0);
        let status = nearfs_client::status::Status { connected: true, ..Default::default() };
        let report = StatusReport::new(&entry, status);
        StatusReport { server: "far:1".into(), pending, heard_ago_ms: Some(heard_ago_ms), ..report }
    }

    fn pending(op: &str, path: &str, age_ms: u64, left_ms: Option<u64>, pid: u32) -> PendingOperation {
        PendingOperation { op: op.into(), path: path.into(), age_ms, left_ms, pid }
    }

    fn program(tid: u32) -> Option<Program> {
        (tid != 0).then(|| Program { pid: tid, tid, name: format!("program-{tid}") })
    }

    fn waiter(tid: u32, path: &str) -> KernelWaiter {
        KernelWaiter { program: program(tid).unwrap(), path: path.into(), wchan: "rwsem_down_read".into() }
    }

    #[test]
    fn a_server_that_answers_is_well_whoever_waits_for_a_lock() {
        let waiting = vec![pending("setlk", "f", 90_000, None, 5), pending("read", "g", 20, Some(29_980), 6)];
        let found = Diagnosis::new(&report(waiting, 100), vec![waiter(7, "f")], program);
        assert!(found.well && found.behind.is_empty() && found.waiting.len() == 1);
        assert!(found.waiting[0].outlook.contains("gives it back"), "{found}");
        let found = Diagnosis::new(&report(vec![], 100), vec![], program);
        assert!(found.to_string().ends_with("all is well: nothing waits"), "{found}");
    }

    #[test]
    fn what_waits_is_told_with_its_end() {
        let waiting = vec![
            pending("lookup", "d/new", 8000, Some(2000), 5),
            pending("write", "log", 8000, None, 6),
            pending("forget", ".", 8000, None, 0),
        ];
        let found = Diagnosis::new(&report(waiting, 8200), vec![], program);
        assert!(!found.well);
        let text = found.to_string();
        for part in [
            "far:1 is silent: nothing was heard of it for 8.2 s",
            "lookup of d/new has waited for 8.0 s, for program-5 (pid 5): ends with ETIMEDOUT in 2.0 s",
            "write of log has waited for 8.0 s, for program-6 (pid 6): kept until the server is back; Ctrl-C",
            "forget of . has waited for 8.0 s: goes on when the server is back; nobody waits for it",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }

    #[test]
    fn who_waits_in_the_kernel_is_told_behind_whom() {
        let waiting =
            vec![pending("mkdir", "d/new", 8000, Some(2000), 5), pending("write", "log", 9000, None, 6)];
        let waiters = vec![waiter(5, "d/new"), waiter(8, "d/other"), waiter(9, "d"), waiter(10, "e/f/g")];
        let found = Diagnosis::new(&report(waiting, 8200), waiters, program);
        let holders: Vec<_> = found
            .behind
            .iter()
            .map(|one| (one.program.tid, one.holder.as_ref().map(|who| who.tid)))
            .collect();
        assert_eq!(holders, [(8, Some(5)), (9, Some(5)), (10, None)], "who has asked is not behind himself");
        assert!(
            found.to_string().contains("goes on when program-5 (pid 5) does, and ends with it"),
            "{found}"
        );
    }

    #[test]
    fn a_session_that_is_over_or_lost_says_so() {
        let over = StatusReport { over: Some("it was restarted".into()), ..report(vec![], 0) };
        let lost = StatusReport {
            lost_for_ms: Some(61_000),
            last_error: Some("connection refused".into()),
            ..report(vec![], 67_000)
        };
        let over = Diagnosis::new(&over, vec![], program).to_string();
        assert!(over.contains("is over (it was restarted): everything answers EIO"), "{over}");
        let lost = Diagnosis::new(&lost, vec![], program).to_string();
        assert!(lost.contains("unreachable for 1 min 1 s (connection refused)"), "{lost}");
        assert!(lost.contains("nobody waits"), "{lost}");
    }
}
