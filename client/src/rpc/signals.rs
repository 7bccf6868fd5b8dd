//! Whether a thread that waits for us is to end, as the kernel tells in `/proc/TID/status` (proc_pid_status(5)).
//!
//! The kernel does not bring interrupts here, and keeps a program waiting for our answer whatever signal it gets.
//! Signals with which people end programs therefore have to be looked for. All others must not surface: a program
//! whose alarm rings during a read does not expect `EINTR` from a file.

use std::fs;
use std::io::ErrorKind;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Signals with which people ask a program to end.
const ENDING: u64 = bit(libc::SIGHUP) | bit(libc::SIGINT) | bit(libc::SIGQUIT) | bit(libc::SIGTERM);
/// Pending in every thread once a signal was fatal to the process.
const KILL: u64 = bit(libc::SIGKILL);

/// Whether a thread must not be kept waiting. One of which nothing can be learnt may be.
pub(super) fn is_ended(tid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{tid}/status")) {
        Ok(status) => Signals::parse(&status).is_some_and(|signals| signals.end_wait(leader)),
        Err(error) if error.kind() == ErrorKind::NotFound || is_gone(&error) => !exists(tid),
        Err(_) => false,
    }
}

/// What a thread's signals are up to; signal N is bit N-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signals {
    tid: u32,
    tgid: u32,
    /// Sent to the thread.
    pending: u64,
    /// Sent to its process.
    shared: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
    /// Its descriptors are being closed: it is past all signals.
    exiting: bool,
}

impl Signals {
    fn parse(status: &str) -> Option<Signals> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
        };
        let number = |name| field(name)?.parse::<u32>().ok();
        let set = |name| u64::from_str_radix(field(name)?, 16).ok();
        Some(Signals {
            tid: number("Pid")?,
            tgid: number("Tgid")?,
            pending: set("SigPnd")?,
            shared: set("ShdPnd")?,
            blocked: set("SigBlk")?,
            ignored: set("SigIgn")?,
            caught: set("SigCgt")?,
            exiting: number("FDSize")? == 0,
        })
    }

    /// Whether they end a wait. `leader` tells of the first thread of the process.
    fn end_wait(self, leader: impl FnOnce(u32) -> Option<Signals>) -> bool {
        if self.exiting || (self.pending | self.shared) & KILL != 0 {
            return true;
        }
        let taken = ENDING & !self.blocked & !self.ignored;
        // Without a function of the program's own such a signal ends the whole process, whichever thread takes it.
        // Mostly the kernel has made it a SIGKILL then, but not where it dumps core (SIGQUIT) or somebody traces.
        if self.pending & taken != 0 || self.shared & taken & !self.caught != 0 {
            return true;
        }
        // The kernel gives a process's signal to the first thread unless that blocks it. Another thread that we
        // ended for it would see an error and no signal.
        let shared = self.shared & taken;
        shared != 0
            && (self.tid == self.tgid
                || leader(self.tgid).is_none_or(|first| first.exiting || shared & first.blocked != 0))
    }
}

fn leader(tgid: u32) -> Option<Signals> {
    Signals::parse(&fs::read_to_string(format!("/proc/{tgid}/status")).ok()?)
}

/// The thread ended while it was looked at.
fn is_gone(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// Other users' processes may be hidden from `/proc` (`hidepid`), but not from kill(2).
fn exists(tid: u32) -> bool {
    let tid = i32::try_from(tid).ok().and_then(Pid::from_raw);
    tid.is_none_or(|tid| test_kill_process(tid) != Err(Errno::SRCH))
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cat` that waited for a silent server, after SIGINT (Linux 6.1, shortened).
    const KILLED: &str = "Name:\tcat\nUmask:\t0022\nState:\tD (disk sleep)\nTgid:\t4242\nNgid:\t0\nPid:\t4242\n\
        PPid:\t4200\nTracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t0 \n\
        VmPeak:\t    2860 kB\nThreads:\t1\nSigQ:\t1/15732\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000002\n\
        SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n";

    fn quiet() -> Signals {
        let status = KILLED.replace("0000000000000100", "0").replace("0000000000000002", "0");
        Signals::parse(&status).unwrap()
    }

    fn ends(signals: Signals) -> bool {
        signals.end_wait(|_| panic!("nobody asks for the first thread"))
    }

    #[test]
    fn what_is_pending_is_read() {
        let signals = Signals::parse(KILLED).unwrap();
        assert_eq!((signals.tid, signals.tgid), (4242, 4242));
        assert_eq!((signals.pending, signals.shared), (KILL, bit(libc::SIGINT)));
        assert!(ends(signals) && !ends(quiet()));
    }

    #[test]
    fn a_thread_that_closes_its_descriptors_for_good_is_ended() {
        let zombie = KILLED.replace("FDSize:\t64", "FDSize:\t0").replace("0000000000000100", "0");
        assert!(ends(Signals::parse(&zombie).unwrap()));
    }

    #[test]
    fn what_is_no_status_says_nothing() {
        for cut in [0, 10, 60, 200, KILLED.len() - 40] {
            assert_eq!(Signals::parse(&KILLED[..cut]), None, "{cut}");
        }
        assert_eq!(Signals::parse(&KILLED.replace("SigBlk:\t0000", "SigBlk:\tzzzz")), None);
    }

    #[test]
    fn only_signals_that_end_programs_surface() {
        for signal in 1..=64 {
            let signals = Signals { shared: bit(signal), caught: u64::MAX, ..quiet() };
            let expected =
                [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGKILL, libc::SIGTERM].contains(&signal);
            assert_eq!(ends(signals), expected, "{signal}");
            assert_eq!(ends(Signals { pending: bit(signal), shared: 0, ..signals }), expected, "{signal}");
            assert_eq!(ends(Signals { caught: 0, ..signals }), expected, "{signal}");
        }
    }

    #[test]
    fn what_a_thread_blocks_or_ignores_does_not_end_it() {
        let signals = Signals { pending: ENDING, shared: ENDING, caught: ENDING, ..quiet() };
        assert!(ends(signals));
        assert!(!ends(Signals { blocked: ENDING, ..signals }));
        assert!(!ends(Signals { ignored: ENDING, caught: 0, ..signals }));
        assert!(ends(Signals { blocked: bit(libc::SIGINT), ..signals }));
    }

    #[test]
    fn a_signal_to_the_process_is_the_first_threads_unless_that_blocks_it() {
        let first = quiet();
        let other = Signals { tid: 4243, shared: bit(libc::SIGTERM), caught: ENDING, ..first };
        assert!(!other.end_wait(|_| Some(first)));
        assert!(other.end_wait(|_| Some(Signals { blocked: bit(libc::SIGTERM), ..first })));
        assert!(other.end_wait(|_| Some(Signals { exiting: true, ..first })));
        assert!(other.end_wait(|_| None));
        assert!(ends(Signals { caught: 0, ..other }), "it ends all threads");
        assert!(ends(Signals { pending: other.shared, ..other }), "it was sent to this thread");
    }

    #[test]
    fn only_a_thread_that_is_gone_counts_as_gone() {
        assert!(!is_ended(std::process::id()));
        assert!(exists(1));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_ended(child.id()));
    }
}
