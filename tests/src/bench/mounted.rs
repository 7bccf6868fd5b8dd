//! A mount of one system: there when it can be used, gone when its client has ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::mount::UnmountFlags;

use super::daemon::Daemon;
use super::system::{Server, Site, System};
use super::usage::Usage;

/// How long an unmount may be refused because something still uses the mount.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A mounted system; `root` is the export as its client shows it.
pub(super) struct Mounted {
    root: PathBuf,
    client: Option<Daemon>,
}

impl Mounted {
    pub(super) fn new(
        system: &dyn System,
        server: &Server,
        site: &Site,
        mountpoint: &Path,
    ) -> anyhow::Result<Self> {
        let Some(command) = system.mount(server, site, mountpoint) else {
            return Ok(Self { root: site.export.clone(), client: None });
        };
        fs::create_dir_all(mountpoint)?;
        let mountpoint = mountpoint.canonicalize()?;
        let client = Daemon::start(command, &site.log("client"))?;
        let mut mounted = Self { root: mountpoint.clone(), client: Some(client) };
        if let Some(client) = &mut mounted.client {
            client
                .wait_until(|| is_mounted(&mountpoint) && fs::symlink_metadata(&mountpoint).is_ok())
                .with_context(|| {
                    format!("no mount of {}; see {}", system.name(), site.log("client").display())
                })?;
        }
        Ok(mounted)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Adds what the client has used so far.
    pub(super) fn sample(&self, usage: &mut Usage) {
        if let Some(client) = &self.client {
            usage.sample(client.pid());
        }
    }

    /// Unmounts and waits for the client to end, so that nothing of it disturbs the next one.
    pub(super) fn unmount(mut self) -> anyhow::Result<()> {
        self.detach()?;
        self.client.as_mut().map_or(Ok(()), Daemon::wait_ended)
    }

    fn detach(&self) -> anyhow::Result<()> {
        if self.client.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + BUSY_TIMEOUT;
        while is_mounted(&self.root) {
            match rustix::mount::unmount(&self.root, UnmountFlags::empty()) {
                Ok(()) => break,
                Err(rustix::io::Errno::BUSY) if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
                Err(error) => {
                    log::warn!("{} does not unmount ({error}); detached", self.root.display());
                    rustix::mount::unmount(&self.root, UnmountFlags::DETACH | UnmountFlags::FORCE)?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            log::warn!("{} stays mounted: {error:#}", self.root.display());
        }
    }
}

/// Whether a filesystem is mounted on exactly this path (proc_pid_mountinfo(5), field 5).
fn is_mounted(mountpoint: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let wanted = mountpoint.to_string_lossy().replace(' ', "\\040");
    table.lines().any(|line| line.split(' ').nth(4) == Some(&*wanted))
}
