//! A program at work, as the oracle sees it.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;

use super::fault::Random;
use super::load::{BEGUN, COUNTER, DONE, GONE, LOG, Load, WRONG};
use super::place::Place;
use super::process::{Own, wait_within};
use super::report::Report;

/// One program, and those that had its place before their mount was killed.
pub(super) struct Worker {
    pub(super) load: Load,
    pub(super) mount: usize,
    pub(super) tag: String,
    life: Life,
    lives: u64,
    /// What the earlier ones have said.
    pub(super) earlier: Vec<Said>,
}

struct Life {
    process: Own,
    stdin: Option<ChildStdin>,
    said: Arc<Mutex<Said>>,
}

/// What a program has said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) tag: String,
    /// Operations that it was told are done.
    pub(super) done: u64,
    /// Of these, records appended or numbers counted.
    pub(super) counted: u64,
    /// What it is waiting for.
    pub(super) begun: Option<(String, Instant)>,
    pub(super) longest: Duration,
    pub(super) wrong: Option<String>,
    pub(super) gone: bool,
}

impl Said {
    fn hears(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let counts = rest.ends_with("append") || rest.ends_with("count");
        match word {
            BEGUN => self.begun = Some((rest.to_owned(), Instant::now())),
            DONE => {
                if let Some((_, since)) = self.begun.take() {
                    self.longest = self.longest.max(since.elapsed());
                }
                self.done += 1;
                self.counted += u64::from(counts);
            }
            WRONG => self.wrong = Some(rest.to_owned()),
            GONE => self.gone = true,
            _ => self.wrong = Some(format!("says {line:?}")),
        }
    }

    /// Whether it was about to append or count when it ended.
    pub(super) fn may_have_counted(&self) -> bool {
        self.begun.as_ref().is_some_and(|(what, _)| what.ends_with("append") || what.ends_with("count"))
    }
}

impl Worker {
    /// One of each kind on each mount.
    pub(super) fn start_all(place: &Place, random: &mut Random) -> Result<Vec<Worker>> {
        std::fs::write(place.export().join(LOG), "")?;
        std::fs::write(place.export().join(COUNTER), "00000000\n")?;
        let mut workers = Vec::new();
        for mount in 0..place.mounts.len() {
            for load in Load::ALL {
                let tag = format!("{}-{mount}-0", load.word());
                let life = Life::begin(place, load, mount, &tag, random)?;
                workers.push(Worker { load, mount, tag, life, lives: 0, earlier: Vec::new() });
            }
        }
        Ok(workers)
    }

    /// Operations done, by this one and those before.
    pub(super) fn done(&self) -> u64 {
        self.earlier.iter().map(|said| said.done).sum::<u64>() + self.life.said.lock().done
    }

    /// What it has said.
    pub(super) fn said(&self) -> Said {
        self.life.said.lock().clone()
    }

    /// Whether nothing was wrong with it.
    pub(super) fn is_well(&self) -> bool {
        self.life.said.lock().wrong.is_none()
    }

    /// What it waits for, for people.
    pub(super) fn current(&self) -> String {
        match &self.life.said.lock().begun {
            Some((what, since)) => format!("{what} for {:.1} s", since.elapsed().as_secs_f64()),
            None => "nothing was begun".to_owned(),
        }
    }

    /// Its mount was killed: it ends, and another takes its place.
    pub(super) fn replace(&mut self, place: &Place, random: &mut Random) -> Result<()> {
        if wait_within(&mut self.life.process.0, super::OPERATION_TIME_MAX)?.is_none() {
            let what = self.current();
            self.life.said.lock().wrong = Some(format!("does not end with its mount: {what}"));
            return Ok(());
        }
        // Whatever it said has been heard when its output has ended; it is read by a thread that may be late.
        std::thread::sleep(Duration::from_millis(100));
        self.earlier.push(self.said());
        self.lives += 1;
        self.tag = format!("{}-{}-{}", self.load.word(), self.mount, self.lives);
        self.life = Life::begin(place, self.load, self.mount, &self.tag, random)?;
        Ok(())
    }

    /// Lets it come to its end.
    pub(super) fn finish(&mut self, time: Duration, report: &mut Report) {
        drop(self.life.stdin.take());
        match wait_within(&mut self.life.process.0, time) {
            Ok(Some(status)) if status.success() => {}
            Ok(Some(status)) => report.lost.push(format!("{} ended with {status}", self.tag)),
            Ok(None) => report.stuck.push(format!("{} does not end: {}", self.tag, self.current())),
            Err(error) => report.lost.push(format!("{}: {error}", self.tag)),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Life {
    fn begin(place: &Place, load: Load, mount: usize, tag: &str, random: &mut Random) -> Result<Life> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--task", load.word(), tag]).arg(&place.mounts[mount].path).arg(place.export());
        command.arg(random.below(1 << 40).to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Own::start(&mut command)?;
        let stdout = process.0.stdout.take().context("its output")?;
        let said = Arc::new(Mutex::new(Said { tag: tag.to_owned(), ..Said::default() }));
        let hears = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                hears.lock().hears(&line);
            }
        });
        Ok(Life { stdin: process.0.stdin.take(), process, said })
    }
}
