//! rclone's mount over rclone's own SFTP server.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use super::super::daemon::Daemon;
use super::{Role, Server, Site, System, free_port, missing};

/// Without a password the client would look for the user's own keys; both ends are ours and on loopback.
const USER: &str = "bench";
const PASSWORD: &str = "bench";

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
        command.args([
            "serve",
            "sftp",
            "--user",
            USER,
            "--pass",
            PASSWORD,
            "--addr",
            &format!("127.0.0.1:{port}"),
        ]);
        // Files that were made beneath it a moment ago must be seen.
        command.args(["--vfs-cache-mode", "off", "--dir-cache-time", "0s", "--config", ""]).arg(&site.export);
        command.env("XDG_CACHE_HOME", site.state.join("server-cache"));
        let mut daemon = Daemon::start(command, &site.log("server"))?;
        daemon.wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        Ok(Server::listening((daemon, port)))
    }

    /// Random writes and databases need its full cache mode, which keeps whole files on the client's disk; a
    /// fresh mount begins with none.
    fn mount(&self, server: &Server, site: &Site, mountpoint: &Path) -> Option<Command> {
        let cache = site.state.join("client-cache");
        if cache.exists()
            && let Err(error) = fs::remove_dir_all(&cache)
        {
            log::warn!("{} stays: {error}", cache.display());
        }
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
        command.arg("--cache-dir").arg(cache).env("RCLONE_SFTP_PASS", obscured(PASSWORD));
        command.arg(":sftp:/").arg(mountpoint);
        Some(command)
    }
}

/// The form in which rclone takes passwords; empty when it gives none, and then the mount says why it fails.
fn obscured(password: &str) -> String {
    let output = Command::new("rclone").args(["obscure", password]).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
