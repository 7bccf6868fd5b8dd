//! The mount that this process serves: how it is, and how it ends.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nearfs_client::vfs::Vfs;
use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use crate::attach;
use crate::bounded::within;
use crate::control::{Answer, Ask, HowToUnmount};
use crate::mountinfo::MountEntry;
use crate::roster::SERVER_TIME_MAX;
use crate::status::StatusReport;

/// Longest time for the kernel to let go of a mount: it may wait for changed pages of mapped files, which the
/// server does not take if it is frozen.
const DETACH_TIME_MAX: Duration = Duration::from_secs(3);
/// Longest time for saying good-bye to the server.
pub(crate) const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(4);
/// How long an answer may take to whoever asked for the end, before the process is gone.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// How far the end of a mount has come.
#[derive(Default)]
struct Ending {
    lost: Vec<String>,
    is_over: bool,
}

/// A mount from its attaching to its end.
pub(crate) struct LiveMount {
    entry: MountEntry,
    vfs: Arc<Vfs>,
    ending: Mutex<Ending>,
    changed: Condvar,
}

impl LiveMount {
    pub(crate) fn new(entry: MountEntry, vfs: Arc<Vfs>) -> LiveMount {
        LiveMount { entry, vfs, ending: Mutex::default(), changed: Condvar::new() }
    }

    /// Answers the control socket.
    pub(crate) fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Status => Answer::Status(Box::new(StatusReport::new(&self.entry, self.vfs.status()))),
            Ask::Sessions => self.sessions(),
            Ask::Unmount(HowToUnmount::UnlessBusy) => self.unmount(),
            Ask::Unmount(HowToUnmount::Lazily) => match attach::detach(&self.entry, true) {
                Ok(()) => Answer::Detached,
                Err(errno) => failed(errno),
            },
            Ask::Unmount(HowToUnmount::ByForce) => self.unmount_by_force(),
        }
    }

    /// What a signal asks for: an end, be it at the cost of programs that use the mount.
    pub(crate) fn end(&self) {
        match self.unmount() {
            Answer::Busy | Answer::Failed { .. } => {
                log::warn!("the mount is in use; programs that use it get errors");
                self.unmount_by_force();
            }
            Answer::Status(_) | Answer::Sessions(_) | Answer::Detached | Answer::Unmounted { .. } => {}
        }
    }

    /// The mount is gone and the good-byes are said, with which this was lost. Returns whether anything was.
    pub(crate) fn set_ended(&self, lost: Vec<String>) -> bool {
        self.add_lost(lost);
        let mut ending = self.ending.lock();
        ending.is_over = true;
        self.changed.notify_all();
        !ending.lost.is_empty()
    }

    /// What the server tells of its sessions, if it answers soon.
    fn sessions(&self) -> Answer {
        let vfs = Arc::clone(&self.vfs);
        match within(SERVER_TIME_MAX, move || vfs.sessions()) {
            Some(Ok(sessions)) => Answer::Sessions(sessions),
            Some(Err(errno)) => {
                let status = self.vfs.status();
                let reason = status.last_error.filter(|_| !status.connected);
                Answer::Failed { reason: reason.unwrap_or_else(|| errno.to_string()) }
            }
            None => Answer::Failed { reason: "the server does not answer".into() },
        }
    }

    fn unmount(&self) -> Answer {
        let entry = self.entry.clone();
        match within(DETACH_TIME_MAX, move || attach::detach(&entry, false)) {
            Some(Ok(())) => self.wait_for_end(),
            Some(Err(Errno::BUSY)) => Answer::Busy,
            Some(Err(errno)) => failed(errno),
            None => {
                self.add_lost(vec!["changes of mapped files that the server did not take in time".into()]);
                self.abort();
                self.wait_for_end()
            }
        }
    }

    fn unmount_by_force(&self) -> Answer {
        if let Err(errno) = attach::detach(&self.entry, true) {
            return failed(errno);
        }
        // Those who wait are told now, and are gone before the good-byes.
        self.add_lost(self.vfs.status().unfinished());
        self.abort();
        self.wait_for_end()
    }

    /// Ends every wait for this mount, and with it the threads that serve it.
    fn abort(&self) {
        if let Err(error) = attach::abort(&self.entry) {
            // The kernel does it when the last descriptor of the device closes.
            log::warn!("cannot abort the connection to the kernel ({error}); the process ends instead");
            self.set_ended(self.vfs.shutdown(SHUTDOWN_TIME_MAX));
            // Whoever asked is told first what was lost.
            thread::spawn(|| {
                thread::sleep(ANSWER_TIME);
                std::process::exit(1);
            });
        }
    }

    fn wait_for_end(&self) -> Answer {
        let mut ending = self.ending.lock();
        if !ending.is_over {
            self.changed.wait_for(&mut ending, SHUTDOWN_TIME_MAX + Duration::from_millis(500));
        }
        Answer::Unmounted { lost: ending.lost.clone() }
    }

    /// Notes what was lost, each but once.
    fn add_lost(&self, lost: Vec<String>) {
        let mut ending = self.ending.lock();
        for line in lost {
            if !ending.lost.contains(&line) {
                log::error!("lost: {line}");
                ending.lost.push(line);
            }
        }
    }
}

fn failed(errno: Errno) -> Answer {
    Answer::Failed { reason: std::io::Error::from(errno).to_string() }
}
