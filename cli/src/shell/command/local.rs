//! Commands of this machine.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::shell::failure::Failure;
use crate::shell::output::Kind;
use crate::shell::state::Shell;

/// Runs a line in the local shell; without one, the user's own shell until it ends.
pub(crate) fn run(shell: &mut Shell, line: &[u8]) -> Result<(), Failure> {
    shell.out.flush()?;
    let own = std::env::var_os("SHELL").unwrap_or_else(|| "sh".into());
    let mut command = Command::new(&own);
    if !line.is_empty() {
        command.arg("-c").arg(OsStr::from_bytes(line));
    }
    let status = command.status().map_err(Failure::local(Path::new(&own)))?;
    if status.success() {
        return Ok(());
    }
    shell.out.say(Kind::Note, &format!("the command ended with {status}"))?;
    Err(Failure::Told(1))
}
