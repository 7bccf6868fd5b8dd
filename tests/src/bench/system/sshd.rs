//! An ssh server of our own on a loopback port, with keys that are made for it and thrown away.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::super::daemon::Daemon;
use super::{Server, Site, free_port, installed};

/// Starts the server and waits until it takes connections.
pub(in crate::bench) fn start(site: &Site, sftp_server: &Path) -> anyhow::Result<Server> {
    fs::create_dir_all(&site.state)?;
    // The server insists on an empty directory for the process that handles strangers.
    fs::create_dir_all("/run/sshd").context("cannot make /run/sshd; only root can start the ssh server")?;
    make_key(&host_key(site))?;
    make_key(&user_key(site))?;
    fs::copy(user_key(site).with_extension("pub"), site.state.join("authorized_keys"))?;
    let port = free_port()?;
    let config = site.state.join("sshd_config");
    fs::write(&config, server_config(site, port, sftp_server))?;
    // The server starts itself anew for each connection and wants its full path for that.
    let mut command = site.placement.command(installed("sshd").context("sshd is not installed")?);
    command.args(["-D", "-e", "-f"]).arg(&config);
    let mut daemon = Daemon::start(command, &site.log("server"))?;
    daemon.wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
    Ok(Server::listening((daemon, port)))
}

/// The options that make ssh, and what goes through it, use this server and no configuration of the user's.
pub(in crate::bench) fn client_options(site: &Site, port: u16) -> Vec<String> {
    let options = [
        format!("port={port}"),
        format!("IdentityFile={}", user_key(site).display()),
        "IdentitiesOnly=yes".to_owned(),
        "StrictHostKeyChecking=no".to_owned(),
        format!("UserKnownHostsFile={}", site.state.join("known_hosts").display()),
        "PasswordAuthentication=no".to_owned(),
    ];
    options
        .into_iter()
        .flat_map(|option| ["-o".to_owned(), option])
        .chain(["-F".into(), "/dev/null".into()])
        .collect()
}

fn server_config(site: &Site, port: u16, sftp_server: &Path) -> String {
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         UsePAM no\nSubsystem sftp {}\n",
        host_key(site).display(),
        site.state.join("authorized_keys").display(),
        sftp_server.display(),
    )
}

fn make_key(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .stdout(Stdio::null())
        .status()
        .context("cannot start ssh-keygen")?;
    ensure!(status.success(), "ssh-keygen failed: {status}");
    Ok(())
}

fn host_key(site: &Site) -> PathBuf {
    site.state.join("host_key")
}

fn user_key(site: &Site) -> PathBuf {
    site.state.join("user_key")
}
