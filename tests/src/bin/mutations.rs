//! `mutations`: breaks the product in one way after the other, in a copy, and expects of each that its test notices.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use nearfs_tests::mutations::{Mutation, all};
use rustix::mount::UnmountFlags;

/// Longest time for a build, and for a test: one that hangs has noticed as well.
const BUILD_TIME_MAX: Duration = Duration::from_secs(1800);
const TEST_TIME_MAX: Duration = Duration::from_secs(400);
/// What of a test's output is shown when it did not fail.
const SHOWN_LINES_MAX: usize = 12;

/// Applies each mutation of tests/mutations to a copy of the project, builds it, and runs its tests, which must fail.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Mutations to try; all without one.
    names: Vec<String>,
    /// Only list them.
    #[arg(long)]
    list: bool,
    /// Run the tests without any mutation as well, to see that they pass.
    #[arg(long)]
    control: bool,
    /// The project.
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let root = options.root.canonicalize().context("the project")?;
    let mut mutations = all(&root)?;
    for name in &options.names {
        ensure!(mutations.iter().any(|mutation| mutation.name == *name), "there is no mutation {name}");
    }
    mutations.retain(|mutation| options.names.is_empty() || options.names.contains(&mutation.name));
    if options.list {
        for Mutation { name, breaks, .. } in &mutations {
            println!("{name:32} breaks: {breaks}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let copy = Copy::make(&root)?;
    let mut unnoticed = Vec::new();
    for mutation in &mutations {
        if !copy.try_out(mutation, options.control)? {
            unnoticed.push(mutation.name.as_str());
        }
    }
    println!("{} of {} mutations were noticed", mutations.len() - unnoticed.len(), mutations.len());
    if unnoticed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("unnoticed: {}", unnoticed.join(" "));
    Ok(ExitCode::FAILURE)
}

/// A copy of the project that may be broken, with a target directory of its own.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
    /// Where its tests put what they need for a while.
    scratch: PathBuf,
}

impl Copy {
    fn make(root: &Path) -> Result<Copy> {
        let place = root.join("target/mutations");
        let copy =
            Copy { tree: place.join("tree"), target: place.join("target"), scratch: place.join("scratch") };
        fs::create_dir_all(&copy.tree)?;
        // What git knows, changed or not, and what is new. What is the same keeps its time, so that little is built
        // again; the times of the project would make cargo take what was broken last for up to date.
        let mut list = Command::new("git");
        list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
        let files = list.output().context("git")?;
        ensure!(files.status.success(), "git ls-files: {}", String::from_utf8_lossy(&files.stderr));
        let names = tempfile::NamedTempFile::new()?;
        fs::write(names.path(), &files.stdout)?;
        let mut rsync = Command::new("rsync");
        rsync
            .args([
                "--archive",
                "--no-times",
                "--checksum",
                "--delete-missing-args",
                "--from0",
                "--files-from",
            ])
            .arg(names.path());
        let status = rsync.arg(root).arg(&copy.tree).status().context("rsync")?;
        ensure!(status.success(), "rsync: {status}");
        let names: HashSet<&OsStr> = files.stdout.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
        copy.remove_others(&copy.tree, &names)?;
        Ok(copy)
    }

    /// What an earlier project had and this one has not would be built as well.
    fn remove_others(&self, directory: &Path, names: &HashSet<&OsStr>) -> Result<()> {
        for entry in fs::read_dir(directory)? {
            let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
            if entry?.is_dir() {
                self.remove_others(&path, names)?;
            } else if !path.strip_prefix(&self.tree).is_ok_and(|name| names.contains(name.as_os_str())) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Whether every test of the mutation fails with it.
    fn try_out(&self, mutation: &Mutation, control: bool) -> Result<bool> {
        let path = self.tree.join(&mutation.file);
        let (source, mutated) = mutation.apply(&self.tree)?;
        let mut noticed = true;
        for test in &mutation.tests {
            if control && !self.passes(mutation, test)? {
                bail!("{}: {} fails without it", mutation.name, test.join(" "));
            }
            fs::write(&path, &mutated)?;
            let passes = self.passes(mutation, test);
            fs::write(&path, &source)?;
            let verdict = if passes? { "UNNOTICED" } else { "noticed  " };
            noticed &= verdict != "UNNOTICED";
            println!("{verdict} {:32} by {}", mutation.name, test.join(" "));
        }
        Ok(noticed)
    }

    /// Builds the test and the program, which must succeed, and runs the test.
    fn passes(&self, mutation: &Mutation, test: &[String]) -> Result<bool> {
        let named = |what: &str| format!("{} does not {what}", mutation.name);
        if test.first().is_some_and(|package| package == "nearfs-tests") {
            // These tests start the program, and what does not build is no failure of theirs.
            self.build(&["build", "-p", "nearfs", "--bin", "nearfs"]).with_context(|| named("build"))?;
        }
        let split = test.iter().position(|word| word == "--").unwrap_or(test.len());
        let mut build = vec!["test", "--no-run", "-p"];
        build.extend(test[..split].iter().map(String::as_str));
        self.build(&build).with_context(|| named("build with its test"))?;
        let log = tempfile::NamedTempFile::new()?;
        let mut command = self.cargo(&["test", "-p"]);
        command.args(test).stdout(log.reopen()?).stderr(log.reopen()?);
        fs::create_dir_all(&self.scratch)?;
        let passed = ends_within(command.env("TMPDIR", &self.scratch), TEST_TIME_MAX);
        self.clean_up()?;
        let passed = passed?;
        if passed {
            let text = fs::read_to_string(log.path()).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            lines
                .iter()
                .skip(lines.len().saturating_sub(SHOWN_LINES_MAX))
                .for_each(|line| println!("    {line}"));
        }
        Ok(passed)
    }

    /// A test that was ended leaves servers and mounts behind.
    fn clean_up(&self) -> Result<()> {
        for process in fs::read_dir("/proc")?.map_while(Result::ok) {
            let is_ours =
                || fs::read_link(process.path().join("exe")).ok()?.starts_with(&self.target).then_some(());
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.filter(|_| is_ours().is_some()) {
                // SAFETY: kill(2) has no memory to get wrong; the program is one that was built here.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
        for place in places.filter(|place| place.starts_with(&self.scratch)) {
            rustix::mount::unmount(place, UnmountFlags::DETACH)
                .with_context(|| format!("unmounting {}", place.display()))?;
        }
        fs::remove_dir_all(&self.scratch).with_context(|| format!("removing {}", self.scratch.display()))
    }

    fn build(&self, words: &[&str]) -> Result<()> {
        let log = tempfile::NamedTempFile::new()?;
        let mut command = self.cargo(words);
        command.stdout(Stdio::null()).stderr(log.reopen()?);
        let built = ends_within(&mut command, BUILD_TIME_MAX)?;
        ensure!(built, "cargo {}:\n{}", words.join(" "), fs::read_to_string(log.path())?);
        Ok(())
    }

    fn cargo(&self, words: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command.args(&words[..1]).arg("--quiet").args(&words[1..]);
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target).stdin(Stdio::null());
        command.env_remove("NEARFS_PROGRAM");
        command
    }
}

/// Whether a command succeeds in this time. Whatever it started ends with it.
fn ends_within(command: &mut Command, time: Duration) -> Result<bool> {
    let mut child = command.process_group(0).spawn().with_context(|| format!("{command:?}"))?;
    let deadline = Instant::now() + time;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    end_group(&mut child);
    Ok(status.is_some_and(|status| status.success()))
}

fn end_group(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: kill(2) has no memory to get wrong; the group is the child's own.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    // It has ended, or ends by the signal.
    child.wait().ok();
}
