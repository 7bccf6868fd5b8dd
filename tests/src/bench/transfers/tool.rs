//! The programs that are compared, and how each is told what to bring.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::job::Job;
use crate::bench::placement::Placement;
use crate::bench::system;

/// Connections that lftp opens, and pieces in which it gets a large file: what its users ask it for.
const LFTP_PARALLEL: usize = 8;

/// A program that brings files to a server and from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tool {
    Nearfs,
    Scp,
    Sftp,
    Rsync,
    Lftp,
}

/// How the servers of a stage are reached.
pub(super) struct Way {
    pub(super) placement: Placement,
    pub(super) nearfs_port: u16,
    pub(super) ssh_port: u16,
    /// What makes ssh use the server's keys and nobody's configuration.
    pub(super) ssh_options: Vec<String>,
    /// Where programs that read commands from a file have it.
    pub(super) state: PathBuf,
}

/// From where to where, each without the server's name.
pub(super) struct Move<'p> {
    pub(super) job: Job,
    pub(super) here: &'p Path,
    /// Below the export.
    pub(super) there: &'p Path,
    pub(super) export: &'p Path,
}

impl Way {
    /// What stands before a path in the share of nearfs.
    pub(super) fn nearfs_address(&self) -> String {
        format!("nearfs://127.0.0.1:{}/", self.nearfs_port)
    }
}

impl Tool {
    /// In the order of the tables.
    pub(super) const ALL: [Self; 5] = [Self::Nearfs, Self::Scp, Self::Sftp, Self::Rsync, Self::Lftp];

    /// As tables and `--systems` name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nearfs => "nearfs",
            Self::Scp => "scp",
            Self::Sftp => "sftp",
            Self::Rsync => "rsync",
            Self::Lftp => "lftp",
        }
    }

    /// Why it cannot be measured on this machine, if so.
    pub(super) fn absent(self) -> Option<String> {
        match self {
            Self::Nearfs => system::not_built("nearfs"),
            Self::Scp | Self::Sftp | Self::Rsync | Self::Lftp => {
                system::missing(&[self.name(), "ssh", "sshd", "ssh-keygen"]).or_else(system::no_sftp_server)
            }
        }
    }

    /// The command that moves something.
    ///
    /// # Errors
    /// When what the program is to read cannot be written down.
    pub(super) fn command(self, way: &Way, moved: &Move) -> anyhow::Result<Command> {
        let far = moved.export.join(moved.there);
        Ok(match self {
            Self::Nearfs => nearfs(way, moved),
            Self::Scp => {
                let mut command = way.placement.command("scp");
                command.args(["-q", "-r"]).args(&way.ssh_options);
                between(command, moved, remote(&far))
            }
            Self::Sftp => sftp(way, moved, &far)?,
            Self::Rsync => {
                let mut command = way.placement.command("rsync");
                let ssh: Vec<&str> =
                    std::iter::once("ssh").chain(way.ssh_options.iter().map(String::as_str)).collect();
                command.args(["-r", "-e", &ssh.join(" ")]);
                rsync(command, moved, &far)
            }
            Self::Lftp => lftp(way, moved, &far),
        })
    }
}

fn nearfs(way: &Way, moved: &Move) -> Command {
    let mut command = way.placement.command(system::sibling("nearfs"));
    command.arg(if moved.job.is_put() { "put" } else { "get" }).arg("--quiet");
    let mut there = OsString::from(way.nearfs_address());
    there.push(moved.there);
    between(command, moved, there)
}

/// A command whose last two words are the source and the target.
fn between(mut command: Command, moved: &Move, there: OsString) -> Command {
    if moved.job.is_put() {
        command.arg(moved.here).arg(there);
    } else {
        command.arg(there).arg(moved.here);
    }
    command
}

/// rsync copies a directory itself unless its name ends with a slash, which stands for what is in it.
fn rsync(mut command: Command, moved: &Move, far: &Path) -> Command {
    let slash = if moved.job.is_tree() { "/" } else { "" };
    let ended = |mut path: OsString| {
        path.push(slash);
        path
    };
    let (here, there) = (ended(moved.here.as_os_str().to_owned()), ended(remote(far)));
    if moved.job.is_put() {
        command.arg(here).arg(there)
    } else {
        command.arg(there).arg(here)
    };
    command
}

fn sftp(way: &Way, moved: &Move, far: &Path) -> anyhow::Result<Command> {
    let (here, far) = (moved.here.display(), far.display());
    let tree = if moved.job.is_tree() { " -r" } else { "" };
    let line = match moved.job.is_put() {
        true => format!("put{tree} {here} {far}\n"),
        false => format!("get{tree} {far} {here}\n"),
    };
    let batch = way.state.join("sftp-batch");
    fs::write(&batch, line)?;
    let mut command = way.placement.command("sftp");
    command.arg("-q").arg("-b").arg(batch).args(&way.ssh_options).arg("127.0.0.1");
    Ok(command)
}

fn lftp(way: &Way, moved: &Move, far: &Path) -> Command {
    let (here, far) = (moved.here.display(), far.display());
    let line = match moved.job {
        Job::PutLarge => format!("put {here} -o {far}"),
        Job::GetLarge => format!("pget -n {LFTP_PARALLEL} {far} -o {here}"),
        Job::PutSmall => format!("mirror -R --parallel={LFTP_PARALLEL} {here} {far}"),
        Job::GetSmall => format!("mirror --parallel={LFTP_PARALLEL} {far} {here}"),
    };
    let ssh: Vec<&str> =
        ["ssh", "-a", "-x"].into_iter().chain(way.ssh_options.iter().map(String::as_str)).collect();
    let mut command = way.placement.command("lftp");
    // Without a name lftp asks for a password, which the key makes needless.
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    command.arg("-c").arg(format!(
        "set cmd:fail-exit yes; set sftp:connect-program \"{}\"; open -u {user}, sftp://127.0.0.1:{}; {line}",
        ssh.join(" "),
        way.ssh_port
    ));
    // A configuration of the user's would be measured, too.
    command.env("LFTP_HOME", &way.state);
    command
}

fn remote(far: &Path) -> OsString {
    let mut text = OsString::from("127.0.0.1:");
    text.push(far);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::daemon::words;

    fn line(tool: Tool, job: Job) -> String {
        let state = tempfile::tempdir().unwrap();
        let way = Way {
            placement: Placement::Unpinned,
            nearfs_port: 1,
            ssh_port: 2,
            ssh_options: vec!["-o".to_owned(), "port=2".to_owned()],
            state: state.path().to_owned(),
        };
        let moved =
            Move { job, here: Path::new("/here/a"), there: Path::new("b"), export: Path::new("/export") };
        words(&tool.command(&way, &moved).unwrap())
    }

    #[test]
    fn the_source_comes_before_the_target() {
        assert!(line(Tool::Nearfs, Job::PutSmall).ends_with("put --quiet /here/a nearfs://127.0.0.1:1/b"));
        assert!(line(Tool::Nearfs, Job::GetLarge).ends_with("get --quiet nearfs://127.0.0.1:1/b /here/a"));
        assert_eq!(line(Tool::Scp, Job::GetSmall), "scp -q -r -o port=2 127.0.0.1:/export/b /here/a");
        assert_eq!(
            line(Tool::Rsync, Job::PutSmall),
            "rsync -r -e ssh -o port=2 /here/a/ 127.0.0.1:/export/b/"
        );
        assert_eq!(line(Tool::Rsync, Job::GetLarge), "rsync -r -e ssh -o port=2 127.0.0.1:/export/b /here/a");
        assert!(line(Tool::Lftp, Job::GetLarge).ends_with("; pget -n 8 /export/b -o /here/a"));
    }
}
