//! Where it happens: a served directory, its server, a fault proxy before it, and the mounts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::process::{Own, ends_within, send, usage, wait_within};
use super::report::Report;
use crate::harness::{is_mounted, own_address, program};
use crate::proxy::FaultProxy;

/// How long a mounting may take.
const MOUNT_TIME_MAX: Duration = Duration::from_secs(30);
/// How long an unmounting may take, whatever the server does. A busy machine gets some more.
pub(super) const UMOUNT_TIME_MAX: Duration = Duration::from_secs(12);
/// How long a server may take until it listens.
const LISTEN_TIME_MAX: Duration = Duration::from_secs(30);
/// Reads and metadata wait for the server so long: longer than any fault lasts, so that no operation may fail. Programs go on
/// while their writes are under way, as where the server is far.
const OPTIONS: &str = "timeout=40,write_behind=16M";

/// How long the server may take to let go of what was open when everybody is gone.
const LETTING_GO_TIME_MAX: Duration = Duration::from_secs(10);

/// How much of each log is shown when something was wrong.
const LOG_LINES_SHOWN: usize = 30;

/// Everything that is taken down in the end.
pub struct Place {
    directory: tempfile::TempDir,
    /// The mounts.
    pub mounts: Vec<Mount>,
    server: Option<Own>,
    /// Its descriptors before anybody came.
    descriptors_alone: u64,
    address: String,
    pub(super) proxy: FaultProxy,
}

/// A mount through the proxy.
pub struct Mount {
    /// Where it is.
    pub path: PathBuf,
    /// The process that serves it.
    pub pid: u32,
}

impl Place {
    /// Starts a server, the proxy before it, and two mounts through that.
    pub fn make(dir: Option<&Path>) -> Result<Place> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("nearfs-soak-");
        let directory = match dir {
            Some(dir) => builder.tempdir_in(dir)?,
            None => builder.tempdir()?,
        };
        for name in ["export", "state"] {
            fs::create_dir(directory.path().join(name))?;
        }
        let (server, address) = start_server(directory.path(), &own_address().to_string())?;
        let target: std::net::SocketAddr = address.parse()?;
        let proxy = FaultProxy::start(target)?;
        let descriptors_alone = usage(server.0.id()).context("the server is gone")?.0;
        let mut place =
            Place { directory, mounts: Vec::new(), server: Some(server), descriptors_alone, address, proxy };
        for name in ["one", "two"] {
            let mount = place.mount(name)?;
            place.mounts.push(mount);
        }
        Ok(place)
    }

    /// The served directory.
    pub fn export(&self) -> PathBuf {
        self.directory.path().join("export")
    }

    /// The server's state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// What the server has written to its log, over all its lives.
    pub fn server_log(&self) -> String {
        // Before the first line there is none.
        fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default()
    }

    /// The server's process; none while it is down.
    pub(super) fn server_pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.0.id())
    }

    /// Sends the server a signal.
    pub(super) fn signal_server(&self, signal: i32) {
        self.server.iter().for_each(|server| server.signal(signal));
    }

    /// Kills the server, so that it has no time for anything.
    pub fn kill_server(&mut self) {
        self.server.iter_mut().for_each(Own::kill);
        self.server = None;
    }

    /// Starts it again, on the same address.
    pub fn start_server(&mut self) -> Result<()> {
        let (server, address) = start_server(self.directory.path(), &self.address)?;
        ensure!(address == self.address, "it listens on {address}");
        self.server = Some(server);
        Ok(())
    }

    /// Stops the server as people do. What is wrong if it does not end.
    pub fn stop_server(&mut self) -> Result<Option<String>> {
        self.signal_server(libc::SIGTERM);
        let ended = match &mut self.server {
            Some(server) => wait_within(&mut server.0, UMOUNT_TIME_MAX)?,
            None => None,
        };
        self.kill_server();
        Ok(match ended {
            Some(status) if status.success() => None,
            ended => Some(format!("the server does not stop in good order: {ended:?}")),
        })
    }

    /// Mounts through the proxy, over what a killed client has left.
    pub fn mount(&self, name: &str) -> Result<Mount> {
        let path = self.directory.path().join(name);
        // It is there if a killed client has left it, and cannot be looked at.
        if !is_mounted(&path) {
            fs::create_dir_all(&path)?;
        }
        let mut command = Command::new(program());
        command.arg("mount").arg(format!("nearfs://{}/", self.proxy.endpoint())).arg(&path);
        command.args(["-o", OPTIONS, "--log-file"]).arg(self.directory.path().join(format!("{name}.log")));
        match ends_within(&mut command, MOUNT_TIME_MAX)? {
            Some(status) if status.success() => {}
            ended => bail!("mounting {name}: {ended:?}"),
        }
        let pid = pid_of(&path).context("the mount does not say its process")?;
        Ok(Mount { path, pid })
    }

    /// Unmounts; how long that took, `None` if it did not end.
    pub fn unmount(&self, mount: &Mount) -> Result<Option<Duration>> {
        let began = Instant::now();
        let mut command = Command::new(program());
        command.arg("umount").arg(&mount.path).stdout(Stdio::null()).stderr(Stdio::null());
        let ended = ends_within(&mut command, UMOUNT_TIME_MAX)?;
        Ok(ended.filter(|_| !is_mounted(&mount.path)).map(|_| began.elapsed()))
    }

    /// Descriptors and memory of the server and the clients together.
    pub(super) fn usage(&self) -> [Option<(u64, u64)>; 2] {
        let clients = self.mounts.iter().map(|mount| usage(mount.pid));
        let clients = clients.sum_usage();
        [self.server_pid().and_then(usage), clients]
    }

    /// Ends everything in good order; what does not end is reported and ended all the same.
    pub(super) fn take_down(mut self, report: &mut Report) {
        for mount in &self.mounts {
            match self.unmount(mount) {
                Ok(Some(_)) => {}
                Ok(None) => report.stuck.push(format!("{} cannot be unmounted", mount.path.display())),
                Err(error) => report.stuck.push(format!("{}: {error}", mount.path.display())),
            }
        }
        match self.descriptors_when_all_are_gone() {
            Ok(left) => report.server_alone = Some((self.descriptors_alone, left)),
            Err(error) => {
                report.stuck.push(format!("the sessions of killed clients cannot be ended: {error}"))
            }
        }
        if report.is_red() {
            self.print_logs();
        }
        match self.stop_server() {
            Ok(wrong) => report.stuck.extend(wrong),
            Err(error) => report.stuck.push(format!("the server does not stop: {error}")),
        }
    }
}

impl Place {
    /// Ends what the server keeps for killed clients, and says what it has open then, once it has let go of that or was given
    /// time enough.
    fn descriptors_when_all_are_gone(&self) -> Result<u64> {
        let mut command = Command::new(program());
        command.args(["shell", &self.address, "--command", "kick --all"]).stdout(Stdio::null());
        match ends_within(&mut command, MOUNT_TIME_MAX)? {
            Some(status) if status.success() => {}
            ended => bail!("kick: {ended:?}"),
        }
        let began = Instant::now();
        loop {
            let (descriptors, _) = self.server_pid().and_then(usage).context("the server is gone")?;
            if descriptors <= self.descriptors_alone || began.elapsed() > LETTING_GO_TIME_MAX {
                return Ok(descriptors);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What server and clients have said last, for whoever has to find out.
    fn print_logs(&self) {
        for name in ["server", "one", "two"] {
            let path = self.directory.path().join(format!("{name}.log"));
            let text = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            println!("the end of {name}.log:");
            lines
                .iter()
                .skip(lines.len().saturating_sub(LOG_LINES_SHOWN))
                .for_each(|line| println!("    {line}"));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.signal_server(libc::SIGCONT);
        for mount in &self.mounts {
            if is_mounted(&mount.path) {
                send(mount.pid, libc::SIGCONT);
                send(mount.pid, libc::SIGKILL);
                rustix::mount::unmount(&mount.path, rustix::mount::UnmountFlags::DETACH).ok();
            }
        }
    }
}

/// Adds up what processes use.
trait SumUsage {
    fn sum_usage(self) -> Option<(u64, u64)>;
}

impl<I: Iterator<Item = Option<(u64, u64)>>> SumUsage for I {
    fn sum_usage(mut self) -> Option<(u64, u64)> {
        self.try_fold((0, 0), |sum, one| one.map(|one| (sum.0 + one.0, sum.1 + one.1)))
    }
}

fn start_server(directory: &Path, listen: &str) -> Result<(Own, String)> {
    let mut command = Command::new(program());
    command.args(["serve", "--listen", listen]).args(STATE_DIR).arg(directory.join("state"));
    command.arg(directory.join("export")).stdin(Stdio::null()).stdout(Stdio::piped());
    let log = fs::File::options().append(true).create(true).open(directory.join("server.log"))?;
    let mut server = Own::start(command.stderr(log))?;
    let stdout = server.0.stdout.take().context("its output")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        // An error shows as a line that is not there.
        BufReader::new(stdout).read_line(&mut line).ok();
        sender.send(line).ok();
    });
    let line = receiver.recv_timeout(LISTEN_TIME_MAX).context("the server does not listen")?;
    let address = line.trim().strip_prefix("listening on ").context("it does not say where it listens")?;
    Ok((server, address.to_owned()))
}

/// Where the server keeps what it needs to go on after a kill.
const STATE_DIR: [&str; 1] = ["--state-dir"];

/// The process that serves a mount.
fn pid_of(path: &Path) -> Option<u32> {
    let mut command = Command::new(program());
    let output = command.args(["status", "--json"]).arg(path).output().ok()?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    u32::try_from(status["pid"].as_u64()?).ok()
}
