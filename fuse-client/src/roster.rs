//! Who else is connected to the server of a mount: its own process asks, in its own session.

use std::path::Path;
use std::time::Duration;

use nearfs_protocol::roster::SessionReport;

use crate::bounded::within;
use crate::control::{self, Answer, Ask};
use crate::mountinfo;
use crate::umount::{KERNEL_TIME_MAX, find};

/// Longest wait of a mount's process for its server.
pub(crate) const SERVER_TIME_MAX: Duration = Duration::from_secs(4);
/// Longest wait for the process of a mount, which may be frozen itself.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Whether there is something at a path, found without touching the mount that may be there: its server may be frozen.
pub fn may_be_mount_point(path: &Path) -> bool {
    let path = path.to_owned();
    // Who does not answer is there.
    within(KERNEL_TIME_MAX, move || mountinfo::resolve(&path)).is_none_or(|place| place.is_ok())
}

/// The sessions of the server behind a mount point. An error is one line.
pub fn of_mount(mount_point: &Path) -> Result<Vec<SessionReport>, String> {
    let entry = find(mount_point)?;
    let place = mount_point.display();
    match control::ask(&entry, Ask::Sessions, ANSWER_TIME_MAX) {
        Ok(Answer::Sessions(sessions)) => Ok(sessions),
        Ok(Answer::Failed { reason }) => Err(format!("{place}: {reason}")),
        Ok(Answer::Status(_) | Answer::Busy | Answer::Detached | Answer::Unmounted { .. }) => {
            Err(format!("{place}: the mount's process is of another version"))
        }
        Err(error) => Err(format!("{place}: the mount's process does not answer ({error})")),
    }
}
