//! Who else is connected to the server of a mount: its own process asks, in its own session.

use std::path::Path;
use std::time::Duration;

use nearfs_protocol::roster::SessionReport;

use crate::control::{self, Answer, Ask};
use crate::umount::find;

/// Longest wait of a mount's process for its server.
pub(crate) const SERVER_TIME_MAX: Duration = Duration::from_secs(4);
/// Longest wait for the process of a mount, which may be frozen itself.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

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
