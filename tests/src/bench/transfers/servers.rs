//! The servers of a stage: nearfs and ssh, each behind a delay if there is one.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};

use super::job::Ends;
use super::tool::{Move, Tool, Way};
use crate::bench::contender::delay;
use crate::bench::daemon::{Daemon, run_limited};
use crate::bench::placement::Placement;
use crate::bench::system::{Nearfs, Server, Site, System, sftp_server, sshd};

/// Servers that run as long as this is kept.
pub(super) struct Servers {
    way: Way,
    _servers: Vec<Server>,
    _proxies: Vec<Daemon>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Attempt {
    /// After so many seconds.
    Done(f64),
    /// It was ended after so many seconds.
    Stopped(f64),
}

impl Servers {
    /// Starts what these programs need.
    pub(super) fn start(
        tools: &[Tool],
        ends: &Ends,
        work: &Path,
        placement: Placement,
        rtt: Duration,
    ) -> anyhow::Result<Self> {
        let site = |name: &str| -> anyhow::Result<Site> {
            let state = work.join("state").join(format!("{name}-{}ms", rtt.as_millis()));
            fs::create_dir_all(&state)?;
            Ok(Site { export: ends.export.clone(), state, placement })
        };
        let (nearfs_site, ssh_site) = (site("nearfs")?, site("ssh")?);
        let mut way = Way {
            placement,
            nearfs_port: 0,
            ssh_port: 0,
            ssh_options: Vec::new(),
            state: ssh_site.state.clone(),
        };
        let (mut servers, mut proxies) = (Vec::new(), Vec::new());
        if tools.contains(&Tool::Nearfs) {
            let mut server = Nearfs.serve(&nearfs_site)?;
            proxies.extend(delay(&mut server, rtt, &nearfs_site)?);
            way.nearfs_port = server.port;
            servers.push(server);
        }
        if tools.iter().any(|tool| *tool != Tool::Nearfs) {
            let mut server = sshd::start(&ssh_site, &sftp_server().context("no sftp-server")?)?;
            proxies.extend(delay(&mut server, rtt, &ssh_site)?);
            way.ssh_port = server.port;
            way.ssh_options = sshd::client_options(&ssh_site, server.port);
            servers.push(server);
        }
        Ok(Self { way, _servers: servers, _proxies: proxies })
    }

    /// What stands before a path in the share.
    pub(super) fn nearfs_address(&self) -> String {
        self.way.nearfs_address()
    }

    /// Has a program move something.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub(super) fn attempt(&self, tool: Tool, moved: &Move, limit: Duration) -> anyhow::Result<Attempt> {
        let mut command = tool.command(&self.way, moved)?;
        let log = self.way.state.join("client.log");
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        match run_limited(&mut command, limit) {
            Ok(Some(took)) => Ok(Attempt::Done(took.as_secs_f64())),
            Ok(None) => Ok(Attempt::Stopped(limit.as_secs_f64())),
            Err(error) => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("{error:#}: {}", said.lines().next().unwrap_or("no message"))
            }
        }
    }
}
