//! A transfer as it runs: told to others, shown, and summed up.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use nearfs_client::remote::{Announced, RemoteError, RemotePath};
use nearfs_client::transfer::{self as engine, Counts, Options, Step, Transfer};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::roster::{TransferKind, TransferOutcome};
use serde_json::{Value, json};

use crate::shell::failure::Failure;
use crate::shell::output::{Kind, count, size};
use crate::shell::state::Shell;
use crate::transfer::options::PaceOptions;
use crate::transfer::progress::Progress;
use crate::transfer::rates::Rates;

/// How often the display goes on.
const TICK: Duration = Duration::from_millis(100);
/// How often a point of the rate is taken, where somebody wants them.
const RATE_TICK: Duration = Duration::from_millis(20);

/// Events that wait to be told. Whoever does not read on what he asked for holds up the transfer in the end.
const EVENTS_MAX: usize = 65_536;

/// Names that are announced one by one.
const ANNOUNCED_MAX: usize = 64;

/// What others are told of a transfer before it begins.
#[derive(Clone)]
pub(crate) struct Announcement {
    pub(crate) kind: TransferKind,
    pub(crate) path: RemotePath,
    /// 0 if it is not known.
    pub(crate) bytes: u64,
}

/// What becomes of files, in the order in which it does.
enum Event {
    Done { name: String, target: String, bytes: u64 },
    Failed { text: String, code: u8 },
    Note(String),
    Step(Step),
    Over,
}

/// How steps and the whole are told.
pub(crate) trait Telling {
    /// What a mirror does beside bringing files: for scripts, and for people if they are told.
    fn step(&self, step: &Step) -> (Value, Option<String>);
    /// The last line: what was moved, as the server counted it; for scripts, and for people.
    fn sum(&self, counts: &Counts, seconds: f64) -> (Value, String);
}

/// Files that are brought, and nothing else.
pub(crate) struct Brought {
    /// Where to, for people.
    pub(crate) target: String,
}

struct Listener(SyncSender<Event>);

impl engine::Observer for Listener {
    fn done(&self, name: &str, target: &str, bytes: u64) {
        // It is read until the transfer is over, or nobody reads the output any more.
        let _ = self.0.send(Event::Done { name: name.to_owned(), target: target.to_owned(), bytes });
    }

    fn failed(&self, failure: &engine::Failure) {
        let _ = self.0.send(Event::Failed { text: failure.to_string(), code: code_of(&failure.cause) });
    }

    fn note(&self, text: &str) {
        let _ = self.0.send(Event::Note(text.to_owned()));
    }

    fn step(&self, step: &Step) {
        let _ = self.0.send(Event::Step(step.clone()));
    }
}

/// The exit code of one failure.
fn code_of(cause: &engine::Cause) -> u8 {
    match cause {
        engine::Cause::Differs => 5,
        engine::Cause::Remote(reason) if reason.errno() == Errno::EINTR => 130,
        cause if cause.is_disconnected() => 3,
        cause if cause.is_not_found() => 4,
        engine::Cause::Remote(_)
        | engine::Cause::Stalled(_)
        | engine::Cause::Local(_)
        | engine::Cause::Exists
        | engine::Cause::Itself
        | engine::Cause::Changed
        | engine::Cause::Skipped(_)
        | engine::Cause::Refused(_) => 1,
    }
}

/// Runs a transfer, shows how it goes, and says how it went.
pub(crate) fn run(
    shell: &mut Shell,
    choices: &PaceOptions,
    options: Options,
    announcements: &[Announcement],
    telling: &dyn Telling,
    work: impl FnOnce(&Arc<Transfer>) + Send,
) -> Result<(), Failure> {
    let remote = shell.remote()?;
    let mut announced = Vec::new();
    for announcement in gathered(announcements).iter() {
        announced.extend(announce(shell, announcement)?);
    }
    let (tell, events) = mpsc::sync_channel(EVENTS_MAX);
    let over = tell.clone();
    let wish = shell.cancel.clone();
    let transfer = Transfer::new(&remote, options, Arc::new(Listener(tell)), &wish);
    let transfer = transfer.map_err(|reason| RemoteError::about(b"the server", reason))?;
    let begun = Instant::now();
    let mut rates = Rates::begin(choices)?;
    let mut codes = Vec::new();
    let shown = std::thread::scope(|scope| {
        scope.spawn(|| {
            work(&transfer);
            // It is read until then.
            let _ = over.send(Event::Over);
        });
        let shown = show(shell, (choices, telling), &transfer, events, (&mut rates, &mut codes));
        if shown.is_err() {
            // Whoever reads the output has enough of it.
            wish.cancel();
        }
        shown
    });
    let elapsed = begun.elapsed();
    let counts = transfer.meter().counts();
    rates.end(elapsed, counts.moved_bytes())?;
    let tally = transfer.tally();
    if tally.is_interrupted || tally.is_disconnected {
        // Who drops it says so without waiting: nobody would answer, or nobody wants to wait.
        announced.clear();
    }
    let outcome = if tally.failed > 0 { TransferOutcome::Failed(Errno::EIO) } else { TransferOutcome::Done };
    let far = announced.into_iter().filter_map(|announced| announced.end(outcome).ok());
    let far_ms = far.map(|tally| tally.elapsed_ms).max();
    let seconds = far_ms.map_or(elapsed, Duration::from_millis).as_secs_f64();
    let (object, text) = telling.sum(&counts, seconds);
    shell.out.object(&object)?;
    shell.out.say(if counts.failures == 0 { Kind::Done } else { Kind::Failed }, &text)?;
    shown?;
    finish(&transfer, &codes, counts)
}

/// What is announced of many names: the directories that have them, which takes a request each.
fn gathered(announcements: &[Announcement]) -> Cow<'_, [Announcement]> {
    if announcements.len() <= ANNOUNCED_MAX {
        return announcements.into();
    }
    let mut directories = BTreeMap::new();
    for Announcement { kind, path, bytes } in announcements {
        let directory = directories.entry(path.parent().unwrap_or_default());
        directory.or_insert((*kind, 0)).1 += bytes;
    }
    let directories = directories.into_iter().take(ANNOUNCED_MAX);
    directories.map(|(path, (kind, bytes))| Announcement { kind, path, bytes }).collect()
}

/// Tells others. `None` for the root of the share, which has no name.
fn announce(
    shell: &Shell,
    announcement: &Announcement,
) -> Result<Option<nearfs_client::remote::Transfer>, Failure> {
    let Announcement { kind, path, bytes } = announcement;
    let remote = shell.remote()?;
    let Some(name) = path.name().cloned() else { return Ok(None) };
    // A directory that is still to be made is in nobody's way.
    let Ok((parent, _)) = remote.find_parent(path) else { return Ok(None) };
    match parent.session.announce(*kind, (parent.node.node(), name), *bytes, None) {
        Ok(Announced::Begun(transfer)) => Ok(Some(transfer)),
        Ok(Announced::Busy(busy)) => Err(Failure::Refused(format!("{path} is {busy}"))),
        Err(reason) => Err(RemoteError::new(path, reason).into()),
    }
}

/// Shows events and counts until the work is over, or nobody wants to see them: then they go nowhere.
fn show(
    shell: &mut Shell,
    (choices, telling): (&PaceOptions, &dyn Telling),
    transfer: &Arc<Transfer>,
    events: Receiver<Event>,
    (rates, codes): (&mut Rates, &mut Vec<u8>),
) -> Result<(), Failure> {
    let mut progress = Progress::begin(!choices.quiet && !shell.out.is_json);
    let begun = Instant::now();
    let (mut next_tick, mut next_point) = (begun, begun);
    let wait = if rates.are_wanted() { RATE_TICK } else { TICK };
    loop {
        match events.recv_timeout(wait) {
            Ok(Event::Over) | Err(RecvTimeoutError::Disconnected) => {
                progress.end();
                return Ok(());
            }
            Ok(event) => tell(shell, (&progress, telling), event, codes)?,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() >= next_tick {
            next_tick = Instant::now() + TICK;
            let counts = transfer.meter().counts();
            progress.show(&counts, &transfer.meter().running());
        }
        if Instant::now() >= next_point {
            next_point = Instant::now() + RATE_TICK;
            let counts = transfer.meter().counts();
            rates.point(begun.elapsed(), counts.moved_bytes())?;
        }
    }
}

fn tell(
    shell: &mut Shell,
    (progress, telling): (&Progress, &dyn Telling),
    event: Event,
    codes: &mut Vec<u8>,
) -> Result<(), Failure> {
    match event {
        Event::Done { name, target, bytes } => {
            shell.out.object(&json!({ "source": name, "target": target, "bytes": bytes }))
        }
        Event::Failed { text, code } => {
            if !codes.contains(&code) {
                codes.push(code);
            }
            shell.out.object(&json!({ "error": text, "code": code }))?;
            progress.aside(|| shell.out.failed(&Failure::Refused(text)));
            Ok(())
        }
        Event::Note(text) => progress.aside(|| shell.out.say(Kind::Note, &text)),
        Event::Step(step) => {
            let (object, text) = telling.step(&step);
            shell.out.object(&object)?;
            text.map_or(Ok(()), |text| progress.aside(|| shell.out.line(&text)))
        }
        Event::Over => Ok(()),
    }
}

impl Telling for Brought {
    fn step(&self, _: &Step) -> (Value, Option<String>) {
        // What only brings files takes no steps beside it.
        (Value::Null, None)
    }

    fn sum(&self, counts: &Counts, seconds: f64) -> (Value, String) {
        let rate = counts.far_bytes as f64 / seconds.max(0.001);
        let object = json!({
            "files": counts.files,
            "failed": counts.failures,
            "bytes": counts.far_bytes,
            "resumed_bytes": counts.resumed_bytes,
            "seconds": seconds,
            "bytes_per_second": rate as u64,
        });
        let text = format!(
            "to {}: {}, {} in {seconds:.2} s at the server ({}/s){}, {} failed",
            self.target,
            count(counts.files, "file", "files"),
            size(counts.far_bytes),
            size(rate as u64),
            resumed(counts),
            counts.failures
        );
        (object, text)
    }
}

/// What an earlier attempt had brought, for people.
pub(crate) fn resumed(counts: &Counts) -> String {
    match counts.resumed_bytes {
        0 => String::new(),
        bytes => format!(", {} were there already", size(bytes)),
    }
}

fn finish(transfer: &Transfer, codes: &[u8], counts: Counts) -> Result<(), Failure> {
    let tally = transfer.tally();
    match codes {
        _ if tally.is_interrupted => Err(Failure::Interrupted),
        [] if tally.failed == 0 => Ok(()),
        _ if tally.is_disconnected => Err(Failure::Told(3)),
        _ if tally.differs > 0 => Err(Failure::Told(5)),
        [code] if counts.files == 0 => Err(Failure::Told(*code)),
        _ => Err(Failure::Told(1)),
    }
}
