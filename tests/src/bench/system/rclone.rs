//! rclone's mount over rclone's own SFTP server.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use super::super::daemon::Daemon;
use super::{Role, Server, Site, System, free_port, missing};

/// rclone asks for some user and password; both ends are ours and on loopback.
const USER: &str = "bench";

pub(super) struct Rclone;

impl System for Rclone {
    fn name(&self) -> &'static str {
        "rclone"
    }

    fn role(&self) -> Role {
        Role::Rival
    }

    fn absent(&self) -> Option<String> {
        missing(&["rclone"])
    }

    fn serve(&self, site: &Site) -> anyhow::Result<Server> {
        let port = free_port()?;
        let mut command = site.placement.command("rclone");
        command.args(["serve", "sftp", "--no-auth", "--addr", &format!("127.0.0.1:{port}")]);
        command.args(["--vfs-cache-mode", "off", "--config", ""]).arg(&site.export);
        command.env("XDG_CACHE_HOME", site.state.join("server-cache"));
        let mut daemon = Daemon::start(command, &site.log("server"))?;
        daemon.wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        Ok(Server::listening((daemon, port)))
    }

    /// Random writes and databases need its full cache mode, which keeps whole files on the client's disk.
    fn mount(&self, server: &Server, site: &Site, mountpoint: &Path) -> Option<Command> {
        let mut command = site.placement.command("rclone");
        command.args(["mount", "--vfs-cache-mode", "full", "--vfs-write-back", "0", "--config", ""]);
        command.args([
            "--sftp-host",
            "127.0.0.1",
            "--sftp-user",
            USER,
            "--sftp-port",
            &server.port.to_string(),
        ]);
        command.arg("--cache-dir").arg(site.state.join("client-cache"));
        command.arg(":sftp:/").arg(mountpoint);
        Some(command)
    }
}
