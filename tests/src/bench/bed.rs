//! Where a group of workloads runs: a fresh mount, an empty scratch directory, and the means to time programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{bail, ensure};

use super::contender::Contender;
use super::daemon::{run_timed, words};
use super::fixture::Fixtures;
use super::load::Load;
use super::mounted::Mounted;
use super::scratch::Scratch;
use super::size::Sizes;
use super::system::sibling;

/// The longest that one workload may take; a system that needs more is recorded as failed.
const WORKLOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// A mounted contender with a scratch directory.
pub(super) struct Bed<'c, 's> {
    contender: &'c mut Contender<'s>,
    mounted: Mounted,
    pub(super) sizes: &'c Sizes,
    scratch: Scratch,
}

impl<'c, 's> Bed<'c, 's> {
    /// Makes a scratch directory, waits for the disk to be quiet, and mounts.
    pub(super) fn begin(contender: &'c mut Contender<'s>, sizes: &'c Sizes) -> anyhow::Result<Self> {
        let direct = contender.system.serves_files_as_they_are();
        let local = direct.then(|| Scratch::make(&contender.site.export)).transpose()?;
        rustix::fs::syncfs(File::open(&contender.site.export)?)?;
        let mounted = contender.mount()?;
        let scratch = local.map_or_else(|| Scratch::make(mounted.root()), Ok)?;
        Ok(Self { contender, mounted, sizes, scratch })
    }

    /// Unmounts and mounts, so that the client knows nothing and the server's page cache is warm.
    pub(super) fn remount(self) -> anyhow::Result<Self> {
        let Self { contender, mounted, sizes, scratch } = self;
        contender.sample(&mounted);
        mounted.unmount()?;
        let mounted = contender.mount()?;
        Ok(Self { contender, mounted, sizes, scratch })
    }

    /// Takes stock of the daemons and unmounts.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.contender.sample(&self.mounted);
        self.mounted.unmount()
    }

    /// The fixtures as the client sees them.
    pub(super) fn fixtures(&self) -> Fixtures {
        Fixtures::at(self.mounted.root(), self.sizes)
    }

    /// The fixtures on the local disk, for what a workload reads from outside the mount.
    pub(super) fn local_fixtures(&self) -> Fixtures {
        Fixtures::at(&self.contender.site.export, self.sizes)
    }

    /// An empty directory on the mount.
    pub(super) fn scratch(&self) -> PathBuf {
        self.scratch.at(self.mounted.root())
    }

    /// The scratch directory where the server has it, to put files there that the client has not seen.
    pub(super) fn local_scratch(&self) -> PathBuf {
        match self.contender.system.serves_files_as_they_are() {
            true => self.scratch.at(&self.contender.site.export),
            false => self.scratch(),
        }
    }

    /// A file outside the mount for what a program reads.
    pub(super) fn write_local(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.contender.site.state.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Runs one workload of the loader.
    pub(super) fn load(&self, workload: &str, path: &Path, numbers: &[u64]) -> anyhow::Result<Load> {
        let mut command = self.contender.site.placement.command(sibling("bench-load"));
        command.arg(workload).arg(path).args(numbers.iter().map(u64::to_string));
        let (_, output) = self.time(command)?;
        Load::parse(&output)
    }

    /// A program in the placement of this stage.
    pub(super) fn program(&self, name: &str) -> Command {
        let mut command = self.contender.site.placement.command(name);
        // What it asks of the configuration of whoever runs the benchmark would be measured, too.
        command
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        command
    }

    /// Runs a program to its end; answers its seconds and what it printed.
    ///
    /// The output goes to a file and not to `/dev/null`, where some programs notice that nobody looks.
    pub(super) fn time(&self, mut command: Command) -> anyhow::Result<(f64, String)> {
        let output = self.contender.site.state.join("output");
        let errors = self.contender.site.log("workload");
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&errors)?);
        match run_timed(&mut command, WORKLOAD_TIMEOUT) {
            Ok(took) => Ok((took.as_secs_f64(), fs::read_to_string(&output)?)),
            Err(error) => {
                let said = fs::read_to_string(&errors).unwrap_or_default();
                bail!("{error:#}: {}", said.lines().next().unwrap_or("no message"))
            }
        }
    }

    /// Runs a program that must print `lines` lines, so that a system which loses files cannot win by it.
    pub(super) fn time_lines(&self, command: Command, lines: usize) -> anyhow::Result<f64> {
        let name = words(&command);
        let (seconds, output) = self.time(command)?;
        let printed = output.lines().count();
        ensure!(printed == lines, "{name} printed {printed} lines instead of {lines}");
        Ok(seconds)
    }
}
