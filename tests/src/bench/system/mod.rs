//! The systems that are compared, one file each: how its server starts and how it is mounted.

mod gluster;
mod local;
mod nearfs;
mod passthrough;
mod rclone;
pub(super) mod sshd;
mod sshfs;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::daemon::Daemon;
use super::placement::Placement;

pub(super) use nearfs::Nearfs;
pub(super) use sshfs::{no_sftp_server, sftp_server};

/// What a system is to the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// The directory itself.
    Local,
    /// FUSE with no network: what a mount here can reach at best.
    Ceiling,
    /// What is being built.
    Ours,
    /// Another network filesystem.
    Rival,
}

/// One way to reach a directory.
pub(super) trait System {
    /// The name in tables and in `--systems`.
    fn name(&self) -> &'static str;

    fn role(&self) -> Role;

    /// Why it cannot be measured on this machine, if so.
    fn absent(&self) -> Option<String>;

    /// Starts what serves `site.export`.
    fn serve(&self, site: &Site) -> anyhow::Result<Server>;

    /// The command that mounts what `server` serves and stays in front; none when there is nothing to mount.
    fn mount(&self, server: &Server, site: &Site, mountpoint: &Path) -> Option<Command>;

    /// Whether what lies in the export is what clients see. If not, files must be made through a mount.
    fn serves_files_as_they_are(&self) -> bool {
        true
    }
}

/// Where and how a server runs.
pub(super) struct Site {
    /// The directory to serve.
    pub(super) export: PathBuf,
    /// A directory for keys, state and logs of this server and its clients.
    pub(super) state: PathBuf,
    pub(super) placement: Placement,
}

impl Site {
    /// A file that takes the output of one kind of daemon.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.state.join(format!("{name}.log"))
    }
}

/// A running server, or the absence of one.
pub(super) struct Server {
    /// The process at the top of the server's tree.
    pub(super) daemon: Option<Daemon>,
    /// Where clients connect; 0 when there is no port.
    pub(super) port: u16,
}

impl Server {
    /// For systems that reach the directory without a server.
    fn none() -> Self {
        Self { daemon: None, port: 0 }
    }

    fn listening((daemon, port): (Daemon, u16)) -> Self {
        Self { daemon: Some(daemon), port }
    }
}

/// All systems, in the order of the tables.
pub(super) fn all() -> Vec<Box<dyn System>> {
    vec![
        Box::new(local::Local),
        Box::new(passthrough::Passthrough),
        Box::new(Nearfs),
        Box::new(sshfs::Sshfs),
        Box::new(sshfs::SshfsPlain),
        Box::new(gluster::Gluster),
        Box::new(rclone::Rclone),
    ]
}

/// A program of ours, built beside the one that runs.
pub(super) fn sibling(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.with_file_name(name)
}

/// The reason to skip a system whose program of ours is not there.
pub(super) fn not_built(name: &str) -> Option<String> {
    (!sibling(name).is_file()).then(|| format!("{name} is not built"))
}

/// The path of an installed program.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons live in directories that are not in everybody's path.
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// The reason to skip a system whose programs are not all there.
pub(super) fn missing(programs: &[&str]) -> Option<String> {
    let absent: Vec<&str> = programs.iter().copied().filter(|name| installed(name).is_none()).collect();
    (!absent.is_empty()).then(|| format!("{} not installed", absent.join(", ")))
}

/// A loopback port that was free a moment ago, for servers that cannot choose one themselves.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
