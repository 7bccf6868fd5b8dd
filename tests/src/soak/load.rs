//! The programs: each a process of its own that works on a mount and says on its standard output what it is about to
//! do and what has been done, until its input ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use rustix::fs::FlockOperation;

use super::fault::Random;

/// Largest file of the random load.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Longest read and write of it.
const ACCESS_BYTES_MAX: u64 = 16 << 10;
/// Rest after an operation, so that many programs fit on a small machine.
const REST: Duration = Duration::from_millis(3);
/// The file that all append to, and the one in which all count.
pub(super) const LOG: &str = "log";
pub(super) const COUNTER: &str = "counter";

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// Writes, reads, cuts and syncs a file of its own; each read is compared.
    Files,
    /// Makes, renames, links and removes names of its own, none of which may be there twice or be gone.
    Names,
    /// Appends numbered records to a file of all.
    Appends,
    /// Adds 1 to a number of all under a lock.
    Counter,
}

impl Load {
    /// All of them.
    pub const ALL: [Load; 4] = [Load::Files, Load::Names, Load::Appends, Load::Counter];

    /// Its name on the command line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Load::Files => "files",
            Load::Names => "names",
            Load::Appends => "appends",
            Load::Counter => "counter",
        }
    }
}

/// One program.
#[derive(Clone, Debug, Parser)]
pub struct Task {
    /// What it does.
    pub load: Load,
    /// Its name, which none had before.
    pub tag: String,
    /// Where it works.
    pub place: PathBuf,
    /// The same directory as the server has it, to look what a dead mount has left.
    pub export: PathBuf,
    /// Decides what it does.
    pub seed: u64,
}

/// What a program says, one line each.
pub(super) const BEGUN: &str = "begun";
pub(super) const DONE: &str = "done";
pub(super) const WRONG: &str = "wrong";
pub(super) const GONE: &str = "gone";

impl Task {
    /// Works until the standard input ends. What is wrong is said, and ends it.
    pub fn run(&self) -> io::Result<()> {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        std::thread::spawn(move || {
            // Whatever comes, and an error as well, means the end.
            io::stdin().read_exact(&mut [0]).ok();
            told.store(true, Relaxed);
        });
        let mut teller = Teller { number: 0, what: "" };
        let ended = match self.load {
            Load::Files => self.files(&mut teller, &ends),
            Load::Names => self.names(&mut teller, &ends),
            Load::Appends => self.appends(&mut teller, &ends),
            Load::Counter => self.counter(&mut teller, &ends),
        };
        match ended {
            Ok(()) => Ok(()),
            Err(Trouble::Wrong(what)) => say(WRONG, &what),
            // The client was killed under it.
            Err(Trouble::Io(what, error))
                if matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED)) =>
            {
                say(GONE, &format!("{what}: {error}"))
            }
            Err(Trouble::Io(what, error)) => say(WRONG, &format!("{what}: {error}")),
        }
    }

    fn names(&self, teller: &mut Teller, ends: &AtomicBool) -> Result<(), Trouble> {
        for number in 0.. {
            if ends.load(Relaxed) {
                break;
            }
            let directory = self.place.join(format!("{}-{number}", self.tag));
            let path = |name: &str| directory.join(name);
            teller.does("mkdir", || fs::create_dir(&directory))?;
            teller.does("create", || {
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(path("a"))?
                    .write_all(self.tag.as_bytes())
            })?;
            teller.does("rename", || fs::rename(path("a"), path("b")))?;
            teller.does("link", || fs::hard_link(path("b"), path("c")))?;
            let links = teller.does("stat", || Ok(fs::metadata(path("b"))?.nlink()))?;
            same("links of a file", links, 2)?;
            teller.does("unlink", || fs::remove_file(path("b")))?;
            let text = teller.does("read", || fs::read_to_string(path("c")))?;
            same("text", text, self.tag.clone())?;
            let listed = teller.does("list", || {
                fs::read_dir(&directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
            })?;
            same("names", listed, vec!["c".into()])?;
            teller.does("unlink", || fs::remove_file(path("c")))?;
            teller.does("rmdir", || fs::remove_dir(&directory))?;
        }
        Ok(())
    }

    fn appends(&self, teller: &mut Teller, ends: &AtomicBool) -> Result<(), Trouble> {
        let mut log = teller.looks("open", || OpenOptions::new().append(true).open(self.place.join(LOG)))?;
        for number in 0.. {
            if ends.load(Relaxed) {
                break;
            }
            let record = format!("{} {number}\n", self.tag);
            teller.does("append", || log.write_all(record.as_bytes()))?;
            if number % 50 == 49 {
                teller.looks("fsync", || log.sync_data())?;
            }
        }
        Ok(())
    }

    fn counter(&self, teller: &mut Teller, ends: &AtomicBool) -> Result<(), Trouble> {
        let path = self.place.join(COUNTER);
        let file = teller.looks("open", || OpenOptions::new().read(true).write(true).open(path))?;
        let mut last = 0;
        while !ends.load(Relaxed) {
            let before = teller.does("count", || {
                rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
                let mut text = [0; 9];
                file.read_exact_at(&mut text, 0)?;
                let text = String::from_utf8_lossy(&text);
                let before: u64 = text.trim().parse().map_err(io::Error::other)?;
                file.write_all_at(format!("{:08}\n", before + 1).as_bytes(), 0)?;
                rustix::fs::flock(&file, FlockOperation::Unlock)?;
                Ok(before)
            })?;
            if before < last {
                return Err(Trouble::Wrong(format!("LOST: the counter went back from {last} to {before}")));
            }
            last = before + 1;
            // Whoever waits for the lock shall get it.
            std::thread::sleep(REST);
        }
        Ok(())
    }

    fn files(&self, teller: &mut Teller, ends: &AtomicBool) -> Result<(), Trouble> {
        let mut checked = Checked::create(self, teller)?;
        let mut random = Random::new(self.seed);
        while !ends.load(Relaxed) {
            match checked.act(teller, &mut random) {
                Err(Trouble::Io(what, error)) if error.raw_os_error() == Some(libc::ENOTCONN) => {
                    checked.compare_what_is_left(&self.export.join(&self.tag))?;
                    return Err(Trouble::Io(what, error));
                }
                outcome => outcome?,
            }
        }
        let (path, length) = (self.place.join(&self.tag), checked.model.len());
        let content = teller.looks("read", || fs::read(path))?;
        same("content of the file in the end", content == checked.model, true)?;
        same("its length", content.len(), length)
    }
}

/// A file, and what must be in it.
struct Checked {
    path: PathBuf,
    file: File,
    model: Vec<u8>,
    /// The part of which nobody knows what is in it, since its change was not answered.
    unknown: std::ops::Range<usize>,
}

impl Checked {
    fn create(task: &Task, teller: &mut Teller) -> Result<Checked, Trouble> {
        let path = task.place.join(&task.tag);
        let file = teller
            .does("create", || OpenOptions::new().read(true).write(true).create_new(true).open(&path))?;
        Ok(Checked { path, file, model: Vec::new(), unknown: 0..0 })
    }

    fn act(&mut self, teller: &mut Teller, random: &mut Random) -> Result<(), Trouble> {
        let at = random.below(FILE_BYTES_MAX - ACCESS_BYTES_MAX);
        let size = 1 + random.below(ACCESS_BYTES_MAX) as usize;
        match random.below(100) {
            0..45 => {
                let seed = random.below(251) as usize;
                let bytes: Vec<u8> = (0..size).map(|number| ((number * 7 + seed) % 256) as u8).collect();
                self.unknown = (at as usize).min(self.model.len())..at as usize + size;
                teller.does("write", || self.file.write_all_at(&bytes, at))?;
                let end = self.model.len().max(at as usize + size);
                self.model.resize(end, 0);
                self.model[at as usize..at as usize + size].copy_from_slice(&bytes);
            }
            45..90 => {
                let mut bytes = vec![0; size];
                let count = teller.looks("read", || self.file.read_at(&mut bytes, at))?;
                let expected = self.model.get(at as usize..).unwrap_or_default();
                let expected = &expected[..size.min(expected.len())];
                if bytes[..count] != *expected {
                    return Err(Trouble::Wrong(format!(
                        "LOST: {size} bytes at {at} are not those that were written ({count} were read)"
                    )));
                }
            }
            90..93 => {
                let length = random.below(FILE_BYTES_MAX);
                self.unknown = (length as usize).min(self.model.len())..FILE_BYTES_MAX as usize;
                teller.does("truncate", || self.file.set_len(length))?;
                self.model.resize(length as usize, 0);
            }
            93..97 => {
                teller.looks("fsync", || self.file.sync_all())?;
            }
            _ => {
                let open = || OpenOptions::new().read(true).write(true).open(&self.path);
                self.file = teller.looks("open", open)?;
                let length = teller.looks("stat", || Ok(self.file.metadata()?.len()))?;
                same("length of the file", length, self.model.len() as u64)?;
            }
        }
        self.unknown = 0..0;
        Ok(())
    }

    /// The mount is dead: what was acknowledged is on the server all the same.
    fn compare_what_is_left(&self, path: &Path) -> Result<(), Trouble> {
        let content = fs::read(path).map_err(|error| Trouble::Io("reading what is left", error))?;
        let length = self.model.len().max(content.len());
        for at in (0..length).filter(|at| !self.unknown.contains(at)) {
            if self.model.get(at) != content.get(at) {
                return Err(Trouble::Wrong(format!("LOST: byte {at}, though it was acknowledged")));
            }
        }
        Ok(())
    }
}

/// Why a program ends.
enum Trouble {
    Wrong(String),
    Io(&'static str, io::Error),
}

/// Says what is done.
struct Teller {
    number: u64,
    what: &'static str,
}

impl Teller {
    /// Something that has an effect, which counts once it is done.
    fn does<T>(&mut self, what: &'static str, act: impl FnOnce() -> io::Result<T>) -> Result<T, Trouble> {
        let outcome = self.looks(what, act)?;
        std::thread::sleep(REST);
        Ok(outcome)
    }

    fn looks<T>(&mut self, what: &'static str, act: impl FnOnce() -> io::Result<T>) -> Result<T, Trouble> {
        self.what = what;
        tell(BEGUN, &format!("{} {what}", self.number))?;
        let outcome = act().map_err(|error| Trouble::Io(self.what, error))?;
        tell(DONE, &format!("{} {what}", self.number))?;
        self.number += 1;
        Ok(outcome)
    }
}

fn tell(word: &str, rest: &str) -> Result<(), Trouble> {
    say(word, rest).map_err(|error| Trouble::Io("telling", error))
}

fn say(word: &str, rest: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{word} {rest}")?;
    out.flush()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), Trouble> {
    if found == expected {
        return Ok(());
    }
    Err(Trouble::Wrong(format!("LOST: {what} is {found:?} instead of {expected:?}")))
}
