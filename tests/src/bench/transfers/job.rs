//! What is brought where: a large file or many small ones, to the server or from it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::bench::scratch::Scratch;
use crate::random::{noise, write_noise};

/// Files in one directory of the small ones.
const FILES_PER_DIR: usize = 100;

/// The name of what has arrived.
const ARRIVED: &str = "arrived";

/// How long a server may still be at what a killed program began.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// One row of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::bench) enum Job {
    PutLarge,
    GetLarge,
    PutSmall,
    GetSmall,
}

/// How much there is to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Amounts {
    pub(super) large_bytes: u64,
    pub(super) small_count: usize,
    pub(super) small_bytes: usize,
}

/// The directories of both ends, which have what is brought.
pub(super) struct Ends {
    /// This end.
    pub(super) here: PathBuf,
    /// What the server serves.
    pub(super) export: PathBuf,
}

/// A new, empty directory at each end, for what is brought next.
pub(super) struct Places {
    here: Scratch,
    export: Scratch,
}

impl Job {
    /// In the order of the tables.
    pub(in crate::bench) const ALL: [Self; 4] =
        [Self::PutLarge, Self::GetLarge, Self::PutSmall, Self::GetSmall];

    /// As `--only` takes it.
    pub(in crate::bench) fn id(self) -> &'static str {
        match self {
            Self::PutLarge => "put-large",
            Self::GetLarge => "get-large",
            Self::PutSmall => "put-small",
            Self::GetSmall => "get-small",
        }
    }

    /// As tables name it.
    pub(super) fn title(self, amounts: &Amounts) -> String {
        let verb = if self.is_put() { "put" } else { "get" };
        let (count, bytes) = (amounts.small_count, amounts.small_bytes as u64);
        match self.is_tree() {
            true => format!("{verb} {} files of {}", thousands(count), binary_size(bytes)),
            false => format!("{verb} {}", binary_size(amounts.large_bytes)),
        }
    }

    pub(super) fn is_put(self) -> bool {
        matches!(self, Self::PutLarge | Self::PutSmall)
    }

    pub(super) fn is_tree(self) -> bool {
        matches!(self, Self::PutSmall | Self::GetSmall)
    }

    /// The name of what is brought, at the end where it is.
    fn source(self) -> &'static str {
        if self.is_tree() { "small" } else { "large" }
    }
}

impl Amounts {
    /// What is published.
    pub(super) const FULL: Self = Self { large_bytes: 1 << 30, small_count: 10_000, small_bytes: 4096 };

    /// Seconds instead of minutes, with more noise.
    pub(super) const QUICK: Self = Self { large_bytes: 32 << 20, small_count: 200, small_bytes: 4096 };
}

impl Ends {
    /// Makes what is brought, the same at both ends.
    pub(super) fn prepare(&self, amounts: &Amounts, jobs: &[Job]) -> anyhow::Result<()> {
        for job in jobs {
            let root = if job.is_put() { &self.here } else { &self.export };
            fs::create_dir_all(root)?;
            let source = root.join(job.source());
            match job.is_tree() {
                true => write_tree(&source, amounts),
                false => write_noise(&source, amounts.large_bytes, 1),
            }
            .with_context(|| format!("cannot make {}", source.display()))?;
        }
        fs::create_dir_all(&self.here)?;
        Ok(fs::create_dir_all(&self.export)?)
    }

    /// The path here, and the one below the export, between which a job moves something.
    pub(super) fn paths(&self, job: Job, places: &Places) -> (PathBuf, PathBuf) {
        self.paths_of(job.source(), job.is_put(), places)
    }

    /// The same for a source of this name.
    pub(super) fn paths_of(&self, source: &str, is_put: bool, places: &Places) -> (PathBuf, PathBuf) {
        match is_put {
            true => (self.here.join(source), places.export.at("".as_ref()).join(ARRIVED)),
            false => (places.here.at(&self.here).join(ARRIVED), PathBuf::from(source)),
        }
    }

    /// Compares what has arrived with what was sent, so that a program that loses something cannot win by it.
    ///
    /// # Errors
    /// When they differ.
    pub(super) fn check(&self, job: Job, places: &Places) -> anyhow::Result<()> {
        let (here, there) = self.paths(job, places);
        let mut compare = Command::new("diff");
        compare.arg("-rq").arg(here).arg(self.export.join(there));
        compare.stdout(Stdio::null()).stderr(Stdio::null());
        let status = compare.status().context("cannot start diff")?;
        ensure!(status.success(), "what arrived is not what was sent");
        Ok(())
    }

    /// Removes what has arrived, makes room for what will, and waits until the disk is quiet.
    pub(super) fn clear(&self, job: Job) -> anyhow::Result<Places> {
        let places = Places { here: emptied(&self.here, job)?, export: emptied(&self.export, job)? };
        self.sync()?;
        Ok(places)
    }

    /// Waits until all is on the disk, which both ends share. How long that took.
    pub(super) fn sync(&self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        rustix::fs::syncfs(File::open(&self.here)?)?;
        Ok(begun.elapsed())
    }
}

fn write_tree(root: &Path, amounts: &Amounts) -> std::io::Result<()> {
    for index in 0..amounts.small_count {
        let dir = root.join(format!("d{:03}", index / FILES_PER_DIR));
        if index % FILES_PER_DIR == 0 {
            fs::create_dir_all(&dir)?;
        }
        let content = noise(amounts.small_bytes, index as u64);
        fs::write(dir.join(format!("f{:02}", index % FILES_PER_DIR)), content)?;
    }
    Ok(())
}

fn emptied(root: &Path, job: Job) -> anyhow::Result<Scratch> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let made = if job.is_tree() { Scratch::make(root) } else { Scratch::make_in_place(root) };
        match made {
            // The server of a program that was killed may go on for a moment.
            Err(_) if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
            made => return made,
        }
    }
}

/// A size as people say it: `4 KiB`, `1 GiB`.
pub(super) fn binary_size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let found = units.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    found.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{} {name}", bytes / unit))
}

fn thousands(count: usize) -> String {
    match (count / 1000, count % 1000) {
        (0, rest) => rest.to_string(),
        (thousands, rest) => format!("{thousands},{rest:03}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_is_brought() {
        assert_eq!(Job::PutSmall.title(&Amounts::FULL), "put 10,000 files of 4 KiB");
        assert_eq!(Job::GetLarge.title(&Amounts::FULL), "get 1 GiB");
        assert_eq!(Job::GetSmall.title(&Amounts::QUICK), "get 200 files of 4 KiB");
    }

    #[test]
    fn what_arrives_wrong_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let ends = Ends { here: directory.path().join("here"), export: directory.path().join("export") };
        let amounts = Amounts { large_bytes: 3_000_001, small_count: 101, small_bytes: 13 };
        ends.prepare(&amounts, &Job::ALL).unwrap();
        let places = ends.clear(Job::PutLarge).unwrap();
        let (here, there) = ends.paths(Job::PutLarge, &places);
        let arrived = ends.export.join(there);
        fs::copy(here, &arrived).unwrap();
        ends.check(Job::PutLarge, &places).unwrap();
        fs::write(&arrived, "something else").unwrap();
        assert!(ends.check(Job::PutLarge, &places).is_err());
        let places = ends.clear(Job::PutLarge).unwrap();
        assert!(ends.check(Job::PutLarge, &places).is_err() && !arrived.exists());
        assert_eq!(fs::read_dir(ends.here.join("small")).unwrap().count(), 2);
    }
}
