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
use crate::status::StatusReport;

/// Longest time for the kernel to let go of a mount: it may wait for changed pages of mapped files, which the
/// server does not take if it is frozen.
const DETACH_TIME_MAX: Duration = Duration::from_secs(3);
/// Longest time for saying good-bye to the server.
pub(crate) const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(4);
/// How long an answer may take to whoever asked for the end, before the process is gone.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// A mount from its attaching to its end.
pub(crate) struct LiveMount {
    entry: MountEntry,
    vfs: Arc<Vfs>,
    /// What was lost, once it has ended.
    ended: Mutex<Option<Vec<String>>>,
    changed: Condvar,
}

impl LiveMount {
    pub(crate) fn new(entry: MountEntry, vfs: Arc<Vfs>) -> LiveMount {
        LiveMount { entry, vfs, ended: Mutex::new(None), changed: Condvar::new() }
    }

    /// Answers the control socket.
    pub(crate) fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Status => Answer::Status(Box::new(StatusReport::new(&self.entry, self.vfs.status()))),
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
            Answer::Status(_) | Answer::Detached | Answer::Unmounted { .. } => {}
        }
    }

    /// The mount is gone and the good-byes are said.
    pub(crate) fn set_ended(&self, lost: Vec<String>) {
        *self.ended.lock() = Some(lost);
        self.changed.notify_all();
    }

    fn unmount(&self) -> Answer {
        let entry = self.entry.clone();
        match within(DETACH_TIME_MAX, move || attach::detach(&entry, false)) {
            Some(Ok(())) => self.wait_for_end(Vec::new()),
            Some(Err(Errno::BUSY)) => Answer::Busy,
            Some(Err(errno)) => failed(errno),
            None => {
                self.abort();
                self.wait_for_end(vec!["changes of mapped files that the server did not take in time".into()])
            }
        }
    }

    fn unmount_by_force(&self) -> Answer {
        if let Err(errno) = attach::detach(&self.entry, true) {
            return failed(errno);
        }
        let lost = self.vfs.status().pending.into_iter().filter(|pending| pending.operation == "write");
        let lost = lost.map(|pending| format!("a write to {} by process {}", pending.path, pending.pid));
        let lost = lost.collect();
        self.abort();
        self.wait_for_end(lost)
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

    fn wait_for_end(&self, mut lost: Vec<String>) -> Answer {
        let mut ended = self.ended.lock();
        if ended.is_none() {
            self.changed.wait_for(&mut ended, SHUTDOWN_TIME_MAX + Duration::from_millis(500));
        }
        lost.extend(ended.iter().flatten().cloned());
        Answer::Unmounted { lost }
    }
}

fn failed(errno: Errno) -> Answer {
    Answer::Failed { reason: std::io::Error::from(errno).to_string() }
}
