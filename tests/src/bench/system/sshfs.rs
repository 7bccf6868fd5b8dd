//! sshfs, through ssh as everybody uses it, and on a bare socket without encryption.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::super::daemon::Daemon;
use super::{Role, Server, Site, System, missing, sibling, sshd};

/// Where distributions put OpenSSH's SFTP server.
const SFTP_SERVERS: [&str; 3] =
    ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"];

pub(super) struct Sshfs;

pub(super) struct SshfsPlain;

impl System for Sshfs {
    fn name(&self) -> &'static str {
        "sshfs"
    }

    fn role(&self) -> Role {
        Role::Rival
    }

    fn absent(&self) -> Option<String> {
        missing(&["sshfs", "sshd", "ssh-keygen"]).or_else(no_sftp_server)
    }

    fn serve(&self, site: &Site) -> anyhow::Result<Server> {
        let sftp_server = sftp_server().context("no sftp-server")?;
        sshd::start(site, &sftp_server)
    }

    fn mount(&self, server: &Server, site: &Site, mountpoint: &Path) -> Option<Command> {
        let mut command = site.placement.command("sshfs");
        command.arg("-f").arg(source(site)).arg(mountpoint);
        command.args(sshd::client_options(site, server.port));
        Some(command)
    }
}

impl System for SshfsPlain {
    fn name(&self) -> &'static str {
        "sshfs-plain"
    }

    fn role(&self) -> Role {
        Role::Rival
    }

    fn absent(&self) -> Option<String> {
        missing(&["sshfs"]).or_else(no_sftp_server)
    }

    fn serve(&self, site: &Site) -> anyhow::Result<Server> {
        let mut command = site.placement.command(sibling("bench-sftp"));
        command.arg(sftp_server().context("no sftp-server")?);
        Ok(Server::listening(Daemon::start_listening(command, &site.log("server"))?))
    }

    fn mount(&self, server: &Server, site: &Site, mountpoint: &Path) -> Option<Command> {
        let mut command = site.placement.command("sshfs");
        command.arg("-f").arg(source(site)).arg(mountpoint);
        command.arg("-o").arg(format!("directport={}", server.port));
        Some(command)
    }
}

fn source(site: &Site) -> String {
    format!("127.0.0.1:{}", site.export.display())
}

pub(in crate::bench) fn sftp_server() -> Option<PathBuf> {
    SFTP_SERVERS.iter().map(PathBuf::from).find(|path| path.is_file())
}

pub(in crate::bench) fn no_sftp_server() -> Option<String> {
    sftp_server().is_none().then(|| "sftp-server not installed".to_owned())
}
