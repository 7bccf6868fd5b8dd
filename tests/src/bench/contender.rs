//! One system in one stage of the run: its server, its directories and what its daemons have used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::daemon::Daemon;
use super::fixture::Fixtures;
use super::mounted::Mounted;
use super::placement::Placement;
use super::size::Sizes;
use super::system::{Server, Site, System, sibling};
use super::usage::Usage;

/// A system whose server runs.
pub(super) struct Contender<'a> {
    pub(super) system: &'a dyn System,
    pub(super) site: Site,
    server: Server,
    /// Stands between client and server when there is a delay; kept alive as long as the server.
    _proxy: Option<Daemon>,
    mountpoint: PathBuf,
    pub(super) client_usage: Usage,
    pub(super) server_usage: Usage,
}

/// What a stage gives all its contenders.
pub(super) struct Ground<'a> {
    /// Where state, logs and mount points go.
    pub(super) work: &'a Path,
    /// The export that all systems share which serve files as they are.
    pub(super) export: &'a Path,
    pub(super) placement: Placement,
    pub(super) rtt: Duration,
    /// The fixtures that workloads will want, if any.
    pub(super) fixtures: Option<&'a Sizes>,
}

impl<'a> Contender<'a> {
    /// Starts the server and, with a delay, the proxy before it; makes the fixtures that are missing.
    pub(super) fn start(system: &'a dyn System, ground: &Ground) -> anyhow::Result<Self> {
        let name = system.name();
        let shared = system.serves_files_as_they_are();
        let export = if shared { ground.export.to_owned() } else { ground.export.with_extension(name) };
        fs::create_dir_all(&export)?;
        let state = ground.work.join("state").join(format!(
            "{name}-{}-{}ms-{}",
            ground.placement.name(),
            ground.rtt.as_millis(),
            export.file_name().unwrap_or_default().to_string_lossy()
        ));
        fs::create_dir_all(&state)?;
        let site = Site { export, state, placement: ground.placement };
        let mut server = system.serve(&site).with_context(|| format!("no server for {name}"))?;
        let proxy = delay(&mut server, ground.rtt, &site)?;
        let contender = Self {
            system,
            site,
            server,
            _proxy: proxy,
            mountpoint: ground.work.join("mnt").join(name),
            client_usage: Usage::default(),
            server_usage: Usage::default(),
        };
        if let Some(sizes) = ground.fixtures {
            contender.prepare(sizes)?;
        }
        Ok(contender)
    }

    pub(super) fn mount(&self) -> anyhow::Result<Mounted> {
        Mounted::new(self.system, &self.server, &self.site, &self.mountpoint)
    }

    /// Adds what server and client have used so far.
    pub(super) fn sample(&mut self, mounted: &Mounted) {
        mounted.sample(&mut self.client_usage);
        if let Some(daemon) = &self.server.daemon {
            self.server_usage.sample(daemon.pid());
        }
    }

    fn prepare(&self, sizes: &Sizes) -> anyhow::Result<()> {
        if self.system.serves_files_as_they_are() {
            return Fixtures::at(&self.site.export, sizes).prepare(sizes);
        }
        let mounted = self.mount()?;
        Fixtures::at(mounted.root(), sizes).prepare(sizes)?;
        mounted.unmount()
    }
}

/// Puts the delay proxy before a server that has a port. Without a delay there is none.
pub(super) fn delay(server: &mut Server, rtt: Duration, site: &Site) -> anyhow::Result<Option<Daemon>> {
    if rtt.is_zero() || server.port == 0 {
        return Ok(None);
    }
    let mut command: Command = site.placement.command(sibling("faultproxy"));
    command.args(["--listen", "127.0.0.1:0", "--to", &format!("127.0.0.1:{}", server.port)]);
    command.arg("--rtt").arg(format!("{}us", rtt.as_micros()));
    let (proxy, port) = Daemon::start_listening(command, &site.log("proxy")).context("no delay proxy")?;
    server.port = port;
    Ok(Some(proxy))
}
