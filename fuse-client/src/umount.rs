//! `nearfs umount`: ends within ten seconds, whatever has become of the server or of the mount's process.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::attach;
use crate::bounded::within;
use crate::control::{self, Answer, Ask, HowToUnmount};
use crate::holders::holders;
use crate::mountinfo::{self, MountEntry};
use crate::options::UmountOptions;

/// Longest wait for the process of a mount. It needs at most `DETACH_TIME_MAX` and `SHUTDOWN_TIME_MAX`.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(8);
/// Longest wait for the kernel when there is nobody to ask.
pub(crate) const KERNEL_TIME_MAX: Duration = Duration::from_secs(1);

/// Runs `nearfs umount`.
pub fn run(options: &UmountOptions) -> ExitCode {
    match umount(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(lines) => {
            for line in lines {
                eprintln!("nearfs: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn umount(options: &UmountOptions) -> Result<(), Vec<String>> {
    let path = &options.mount_point;
    let entry = find(path).map_err(|line| vec![line])?;
    let how = match (options.force, options.lazy) {
        (true, _) => HowToUnmount::ByForce,
        (false, true) => HowToUnmount::Lazily,
        (false, false) => HowToUnmount::UnlessBusy,
    };
    match control::ask(&entry, Ask::Unmount(how), ANSWER_TIME_MAX) {
        Ok(Answer::Unmounted { lost }) if lost.is_empty() => Ok(()),
        Ok(Answer::Unmounted { lost }) => Err(lost.iter().map(|line| format!("lost: {line}")).collect()),
        Ok(Answer::Detached) => Ok(()),
        Ok(Answer::Busy) => Err(busy(&entry)),
        Ok(Answer::Failed { reason }) => Err(vec![format!("cannot unmount {}: {reason}", path.display())]),
        Ok(Answer::Status(_) | Answer::Sessions(_)) => {
            Err(vec![format!("{}: the mount's process is of another version", path.display())])
        }
        Err(error) => {
            log::debug!("the mount's process does not answer: {error}");
            remove_dead(&entry, how)
        }
    }
}

/// The mount at a path, found without touching it.
pub(crate) fn find(path: &Path) -> Result<MountEntry, String> {
    let shown = path.display();
    let place = match within(KERNEL_TIME_MAX, {
        let path = path.to_owned();
        move || mountinfo::resolve(&path)
    }) {
        Some(Ok(place)) => place,
        Some(Err(error)) => return Err(format!("{shown}: {error}")),
        None => return Err(format!("{shown}: does not answer, and is no mount point of nearfs")),
    };
    let entries = mountinfo::read().map_err(|error| format!("cannot read the table of mounts: {error}"))?;
    match mountinfo::topmost_at(&entries, &place) {
        Some(entry) if entry.is_nearfs() => Ok(entry.clone()),
        Some(entry) => Err(format!("{shown} is a mount of type {}, not of nearfs", entry.fs_type)),
        None => Err(format!("{shown} is not a mount point")),
    }
}

/// Nobody serves the mount any more, or its process is stopped: then nothing can be flushed.
fn remove_dead(entry: &MountEntry, how: HowToUnmount) -> Result<(), Vec<String>> {
    let frozen = control::serving_process(entry);
    if frozen.is_some() && how == HowToUnmount::UnlessBusy {
        let users = holders(entry, &mountinfo::read().unwrap_or_default());
        if !users.is_empty() {
            return Err(busy(entry));
        }
    }
    let target = entry.clone();
    match within(KERNEL_TIME_MAX, move || attach::detach(&target, true)) {
        Some(Ok(())) => {}
        Some(Err(Errno::PERM)) => {
            return Err(vec![format!("no permission to unmount {}", entry.mount_point.display())]);
        }
        Some(Err(errno)) => return Err(vec![format!("cannot unmount: {errno}")]),
        None => return Err(vec!["cannot unmount: the kernel does not answer".into()]),
    }
    if let Err(error) = attach::abort(entry) {
        log::debug!("nothing to abort: {error}");
    }
    let Some(process) = frozen else { return Ok(()) };
    if let Err(errno) = rustix::process::kill_process(process, Signal::KILL) {
        log::debug!("cannot end process {process:?}: {errno}");
    }
    Err(vec![format!(
        "lost: whatever process {} had not sent yet; it did not answer and was ended",
        process.as_raw_nonzero()
    )])
}

fn busy(entry: &MountEntry) -> Vec<String> {
    let place = entry.mount_point.display();
    let users = holders(entry, &mountinfo::read().unwrap_or_default());
    let users = if users.is_empty() { "processes of other users".into() } else { users.join(", ") };
    vec![format!("{place} is in use by {users}; `nearfs umount --force {place}` unmounts it all the same")]
}
