//! One tree made like another: only what differs is brought, and what is too much may be deleted.
//!
//! Both trees are walked at once, a pair of directories at a time, and what differs ([`judge`]) is handed to those who
//! bring files while the walk goes on. Whatever is to be deleted waits until the walk has ended, so that all of it is
//! counted first: what stands in the way of something else goes then, and what is too much when everything is there.

mod apart;
mod judge;
mod removal;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nearfs_protocol::attr::{FileKind, SetAttr, SetTime};
use nearfs_protocol::name::Name;
use parking_lot::Mutex;

use crate::remote::Remote;
use crate::remote::path::printable;
use crate::transfer::Transfer;
use crate::transfer::download::DownloadTask;
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::journal::is_staged;
use crate::transfer::mirror::apart::{Tops, not_a_directory};
use crate::transfer::mirror::judge::{Rules, Verdict, equal, judge};
use crate::transfer::names::{Names, Turn};
use crate::transfer::remote_dir::{Leftover, RemoteDir};
use crate::transfer::side::{Dir, Entry, Parked, ParkedDir, Seen, Side, Spot, Top};
use crate::transfer::upload::{UploadTask, sweep};
use crate::transfer::walk::walk;

/// Directories and contents that are compared at once; most of the time each waits for an answer.
const COMPARERS: usize = 64;
/// Names that are kept until the walk has ended, because they are too much or in the way: some 300 MB.
const KEPT_MAX: usize = 1_000_000;
/// Names whose directories are opened again at once.
const REOPENED_MAX: usize = 256;

/// How a tree is mirrored.
#[derive(Clone, Copy, Debug, Default)]
pub struct MirrorOptions {
    /// Only tells what would be done.
    pub dry_run: bool,
    /// Deletes at the target what the source does not have.
    pub delete: bool,
    /// At most so many names are deleted: if it were more, none is.
    pub delete_max: Option<u64>,
    /// An empty source may empty the target.
    pub may_empty: bool,
    /// Files are told apart by their content, not by size and time.
    pub by_content: bool,
    /// Times that differ by no more than so many seconds are the same.
    pub window_secs: u64,
}

/// What is done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A file, or a link, would be brought. Of those that are, one hears when they are there.
    Send {
        /// Where it is.
        path: String,
        /// Where it goes.
        target: String,
        /// How much that is.
        bytes: u64,
    },
    /// A directory is made.
    MakeDir {
        /// Where.
        path: String,
    },
    /// Mode and time are set.
    Adjust {
        /// Of what.
        path: String,
    },
    /// A name is deleted, with all below it.
    Delete {
        /// Where it was.
        path: String,
    },
}

/// What is compared.
enum Item {
    Dirs(Pair),
    /// A file or a link on both sides, whose content has to be looked at.
    Doubt(Entry, Entry),
}

struct Pair {
    source: Spot,
    target: Target,
}

enum Target {
    There(Spot),
    /// To be made, in this directory.
    Missing(Goal, Name),
    /// The top, which would be made in a dry run.
    New(Goal),
}

/// A directory of the target.
#[derive(Clone)]
struct Goal {
    /// None if it would be made in a dry run.
    dir: Option<Dir>,
    /// Where it is, for people.
    path: String,
}

/// What waits until the walk has ended.
#[derive(Default)]
struct Later {
    /// What only the target has.
    extras: Vec<Parked>,
    /// What cannot be brought before what is in its place is gone.
    conflicts: Vec<(Parked, Parked)>,
    /// There were more of both than are kept.
    is_too_much: bool,
    /// Directories that get the mode and time of their sources.
    directories: Vec<(ParkedDir, Seen)>,
    leftovers: Vec<Leftover>,
}

/// Hands something to those who bring files, for this directory of the target.
type Send<'a> = &'a (dyn Fn(Entry, &Dir) + Sync);

struct Mirror<'a> {
    transfer: &'a Transfer,
    options: &'a MirrorOptions,
    rules: Rules,
    tops: Tops,
    /// Where the target is, for people.
    place: String,
    later: Mutex<Later>,
    turn: Turn,
    /// A part of the source could not be seen: what is not there may be there.
    is_unsure: AtomicBool,
}

impl Transfer {
    /// Makes the target like the source, one of which is on the server and one here. Wants the options `overwrite` and
    /// `archive`: by modes and times one sees next time what is the same.
    pub fn mirror(self: &Arc<Self>, source: &Side, target: &Side, options: &MirrorOptions) {
        self.watched(|| {
            if let Err(failure) = self.try_mirror(source, target, options) {
                self.fail(&failure);
            }
        });
    }

    fn try_mirror(&self, source: &Side, target: &Side, options: &MirrorOptions) -> Result<(), Failure> {
        let Top::Dir(top) = source.look(&self.remote)? else {
            return Err(not_a_directory(&source.to_string()));
        };
        let goal = look_there(&self.remote, target)?;
        let (local, path) = match (source, target) {
            (Side::Local(local), Side::Remote(path)) | (Side::Remote(path), Side::Local(local)) => {
                (local, path)
            }
            (Side::Local(_), Side::Local(_)) | (Side::Remote(_), Side::Remote(_)) => {
                let cause = Cause::Refused("one of the two is on the server, and one is here".into());
                return Err(Failure::new(target.to_string(), cause));
            }
        };
        let dirs = || std::iter::once(&top).chain(&goal);
        let here = dirs().find_map(|dir| if let Dir::Here(here) = dir { Some(&**here) } else { None });
        let there = dirs().find_map(|dir| if let Dir::There(there) = dir { Some(&**there) } else { None });
        apart::check(&self.remote, (local, here), (path, there))?;
        let goal = if goal.is_none() { self.make_top(target, options)? } else { goal };
        let mirror = Mirror::new(self, options, Tops { source: top, target: goal }, target.to_string());
        match target {
            _ if options.dry_run => mirror.run(&|_, _| {}),
            Side::Remote(_) => self.uploading(|ways| {
                mirror.run(&|source, to| match (source, to) {
                    (Entry::Here { dir, name, stat }, Dir::There(to)) => {
                        let to = RemoteDir::clone(to);
                        let task = UploadTask { from: dir, from_name: name.clone(), stat, to, to_name: name };
                        self.found_upload(task, ways);
                    }
                    (Entry::There { .. }, _) | (Entry::Here { .. }, Dir::Here(_)) => {}
                });
            }),
            Side::Local(_) => self.downloading(|ways| {
                mirror.run(&|source, to| match (source, to) {
                    (Entry::There { dir, name, attr, .. }, Dir::Here(to)) => {
                        let (from, to) = (RemoteDir::clone(&dir), Arc::clone(to));
                        let task = DownloadTask { from, from_name: name.clone(), attr, to, to_name: name };
                        self.found_download(task, ways);
                    }
                    (Entry::Here { .. }, _) | (Entry::There { .. }, Dir::There(_)) => {}
                });
            }),
        }
        mirror.finish();
        Ok(())
    }

    /// Makes the top of the target, unless only to tell of it.
    fn make_top(&self, target: &Side, options: &MirrorOptions) -> Result<Option<Dir>, Failure> {
        self.observer.step(&Step::MakeDir { path: target.to_string() });
        if options.dry_run {
            return Ok(None);
        }
        match target {
            Side::Remote(path) => drop(self.remote.make_dirs(path, 0o777)?),
            Side::Local(path) => {
                std::fs::create_dir_all(path).map_err(|error| Failure::new(target.to_string(), error))?;
            }
        }
        look_there(&self.remote, target)
    }
}

/// The top of the target; none if it is missing.
fn look_there(remote: &Remote, target: &Side) -> Result<Option<Dir>, Failure> {
    match target.look(remote) {
        Ok(Top::Dir(dir)) => Ok(Some(dir)),
        Ok(Top::Entry(_)) => Err(not_a_directory(&target.to_string())),
        Err(failure) if failure.cause.is_not_found() => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl<'a> Mirror<'a> {
    fn new(transfer: &'a Transfer, options: &'a MirrorOptions, tops: Tops, place: String) -> Mirror<'a> {
        Mirror {
            transfer,
            options,
            place,
            rules: Rules { by_content: options.by_content, window_secs: options.window_secs },
            tops,
            later: Mutex::default(),
            turn: Turn::default(),
            is_unsure: AtomicBool::new(false),
        }
    }

    /// Walks both trees, and clears the way for what could not be brought before.
    fn run(&self, send: Send<'_>) {
        let source = Spot::Open(self.tops.source.clone());
        let target = match &self.tops.target {
            Some(target) => Target::There(Spot::Open(target.clone())),
            None => Target::New(Goal { dir: None, path: self.place.clone() }),
        };
        self.walk(vec![Item::Dirs(Pair { source, target })], send);
        let conflicts = std::mem::take(&mut self.later.lock().conflicts);
        if !self.may_delete(conflicts.iter().map(|(_, there)| there.clone()).collect()) {
            return;
        }
        let mut conflicts = conflicts.into_iter().peekable();
        while conflicts.peek().is_some() && !self.transfer.is_stopped() {
            let piece = conflicts.by_ref().take(REOPENED_MAX);
            let (sources, there): (Vec<_>, Vec<_>) = piece.unzip();
            let targets = self.reopened(there, self.tops.target.as_ref());
            let sources = self.reopened(sources, Some(&self.tops.source));
            let goals: Vec<Option<Dir>> = targets.iter().map(|there| Some(there.as_ref()?.dir())).collect();
            self.delete(targets.into_iter().flatten().collect());
            let mut items = Vec::new();
            for (source, goal) in sources.into_iter().zip(goals) {
                let (Some(source), Some(dir)) = (source, goal) else { continue };
                let path = dir.to_string();
                let goal = Goal { dir: Some(dir), path };
                if source.kind() == FileKind::Directory {
                    let name = source.name().clone();
                    items.push(Item::Dirs(Pair {
                        source: Spot::Below(source),
                        target: Target::Missing(goal, name),
                    }));
                } else {
                    self.send(source, &goal, send);
                }
            }
            self.walk(items, send);
        }
    }

    fn walk(&self, items: Vec<Item>, send: Send<'_>) {
        walk(COMPARERS, items, |item, found| {
            if self.transfer.is_stopped() {
                return;
            }
            let outcome = match item {
                Item::Dirs(pair) => self.dirs(pair, found, send),
                Item::Doubt(source, there) => self.doubt(source, &there, send),
            };
            if let Err(failure) = outcome {
                self.transfer.fail(&failure);
            }
        });
    }

    fn dirs(&self, pair: Pair, found: &dyn Fn(Item), send: Send<'_>) -> Result<(), Failure> {
        if let Spot::Below(entry) = &pair.source
            && let Err(failure) = self.tops.refuse_target(entry)
        {
            self.transfer.end_with(&failure);
            return Ok(());
        }
        self.transfer.meter.looked();
        let source_seen = pair.source.seen();
        let source = pair.source.open();
        let (source_seen, source) = match (source_seen, source) {
            (Ok(seen), Ok(source)) => (seen, source),
            (Err(failure), _) | (_, Err(failure)) => {
                self.is_unsure.store(true, Ordering::Relaxed);
                return Err(failure);
            }
        };
        let (goal, target_seen, mut there) = self.target(pair.target, &source_seen)?;
        let (mut is_touched, mut is_empty) = (target_seen.is_none(), true);
        let listed = source.each(|entry| {
            is_empty = false;
            let other = there.remove(entry.name());
            is_touched |= self.entry(entry, other, &goal, found, send);
            !self.transfer.is_stopped()
        });
        if let Err(failure) = listed {
            self.is_unsure.store(true, Ordering::Relaxed);
            return Err(failure);
        }
        let would_empty = is_empty && !there.is_empty() && source.is_same(&self.tops.source);
        if self.options.delete && would_empty && !self.options.may_empty {
            let text = "is empty: --force lets it empty the target as well".to_owned();
            return Err(Failure::new(source.to_string(), Cause::Refused(text)));
        }
        let mut later = self.later.lock();
        if self.options.delete && !self.transfer.is_stopped() {
            is_touched |= !there.is_empty();
            later.keep_extras(KEPT_MAX, there.rest().map(Entry::parked));
        }
        let is_other = target_seen
            .is_none_or(|target| (target.mode, target.mtime) != (source_seen.mode, source_seen.mtime));
        if let Some(target) = goal.dir
            && (is_touched || is_other)
        {
            later.directories.push((target.parked(), source_seen));
        }
        Ok(())
    }

    /// Opens a directory of the target and lists it, or makes it: then nothing was seen of it before.
    fn target(&self, target: Target, source: &Seen) -> Result<(Goal, Option<Seen>, Names<'_>), Failure> {
        let spot = match target {
            Target::There(spot) => spot,
            Target::New(goal) => return Ok((goal, None, Names::default())),
            Target::Missing(parent, name) => {
                let path = parent.place_of(&name);
                self.transfer.observer.step(&Step::MakeDir { path: path.clone() });
                let parent = parent.dir.filter(|_| !self.options.dry_run);
                // The final mode comes when everything is in it.
                let mode = (source.mode & 0o777) | 0o700;
                let made = parent.map(|parent| parent.make_child(&name, mode)).transpose()?;
                return Ok((Goal { dir: made.map(|(dir, _)| dir), path }, None, Names::default()));
            }
        };
        let seen = spot.seen()?;
        let dir = spot.open()?;
        if let Dir::Here(here) = &dir
            && !self.options.dry_run
        {
            // What is not swept now is swept another time.
            let _ = here.sweep();
        }
        let is_whole = |entry: &Entry| {
            let is_whole = !is_staged(entry.name().as_bytes());
            if let (Entry::There { dir, name, attr, .. }, false) = (entry, is_whole) {
                self.later.lock().leftovers.extend(Leftover::of(dir, name, attr));
            }
            is_whole
        };
        let there = Names::of(&dir, &self.turn, is_whole, || self.transfer.is_stopped())?;
        let path = dir.to_string();
        Ok((Goal { dir: Some(dir), path }, Some(seen), there))
    }

    /// Whether the directory of the target changes by what becomes of this name.
    fn entry(
        &self,
        source: Entry,
        there: Option<Entry>,
        goal: &Goal,
        found: &dyn Fn(Item),
        send: Send<'_>,
    ) -> bool {
        let verdict = judge(&source.seen(), there.as_ref().map(Entry::seen).as_ref(), &self.rules);
        match (verdict, there) {
            (Verdict::New, _) if source.kind() == FileKind::Directory => {
                let target = Target::Missing(goal.clone(), source.name().clone());
                found(Item::Dirs(Pair { source: Spot::Below(source), target }));
                true
            }
            (Verdict::New | Verdict::Differs, _) => {
                self.send(source, goal, send);
                true
            }
            (Verdict::Enter, Some(there)) => {
                let (source, target) = (Spot::Below(source), Target::There(Spot::Below(there)));
                found(Item::Dirs(Pair { source, target }));
                false
            }
            (Verdict::Doubt, Some(there)) => {
                found(Item::Doubt(source, there));
                true
            }
            (Verdict::InTheWay, Some(there)) => self.in_the_way(source, there),
            (Verdict::Adjust, Some(there)) => {
                self.adjust(&source, &there);
                false
            }
            (Verdict::Special, _) => {
                let cause = Cause::Skipped("neither a file nor a directory");
                self.transfer.fail(&source.failed(cause));
                false
            }
            (Verdict::Same | Verdict::Enter | Verdict::Doubt | Verdict::InTheWay | Verdict::Adjust, _) => {
                self.transfer.meter.unchanged();
                false
            }
        }
    }

    /// What is there is a directory and the source none, or the other way round.
    fn in_the_way(&self, source: Entry, there: Entry) -> bool {
        if there.kind() == FileKind::Directory && !self.options.delete {
            let cause =
                Cause::Refused("is a directory, and a file at the source; --delete replaces it".into());
            self.transfer.fail(&there.failed(cause));
            return false;
        }
        self.later.lock().keep_conflict(KEPT_MAX, (source.parked(), there.parked()));
        true
    }

    fn doubt(&self, source: Entry, there: &Entry, send: Send<'_>) -> Result<(), Failure> {
        let meter = &self.transfer.meter;
        let is_equal = if source.kind() == FileKind::Symlink {
            source.read_link()? == there.read_link()?
        } else {
            let hash = |entry: &Entry| entry.hash(&self.transfer.cancel, &|bytes| meter.compared(bytes));
            hash(&source)? == hash(there)?
        };
        if !is_equal {
            let dir = there.dir();
            let path = dir.to_string();
            self.send(source, &Goal { dir: Some(dir), path }, send);
        } else if equal(&source.seen(), &there.seen(), &self.rules) == Verdict::Adjust {
            self.adjust(&source, there);
        } else {
            meter.unchanged();
        }
        Ok(())
    }

    fn send(&self, source: Entry, goal: &Goal, send: Send<'_>) {
        if self.options.dry_run {
            let bytes = if source.kind() == FileKind::File { source.size() } else { 0 };
            self.transfer.meter.found(bytes);
            let (path, target) = (source.to_string(), goal.place_of(source.name()));
            self.transfer.observer.step(&Step::Send { path, target, bytes });
            self.transfer.meter.done();
        } else if let Some(dir) = &goal.dir {
            send(source, dir);
        }
    }

    fn adjust(&self, source: &Entry, there: &Entry) {
        let (mode, mtime) = (source.kept_mode(), source.seen().mtime);
        self.transfer.observer.step(&Step::Adjust { path: there.to_string() });
        let set = if self.options.dry_run { Ok(()) } else { there.set_attr(mode, mtime) };
        match set {
            Ok(()) => {
                self.transfer.meter.adjusted();
                self.transfer.meter.unchanged();
            }
            Err(failure) => self.transfer.fail(&failure),
        }
    }

    /// Whether what is in the way may be deleted; and lets what is too much stay if that must. The source must be none of
    /// it, and it must not be more than is allowed.
    fn may_delete(&self, in_the_way: Vec<Parked>) -> bool {
        if self.transfer.is_stopped() {
            return false;
        }
        let mut later = self.later.lock();
        if self.is_unsure.load(Ordering::Relaxed) && !later.extras.is_empty() {
            later.extras.clear();
            self.transfer.observer.note("nothing is deleted, because not all of the source could be seen");
        }
        let all = [&later.extras[..], &in_the_way].concat();
        let is_too_much = std::mem::take(&mut later.is_too_much);
        drop(later);
        let conflicts = in_the_way.len() as u64;
        let refused = |failure: &Failure| {
            self.later.lock().extras.clear();
            self.transfer.fail(failure);
            // What they were in the way of is not brought.
            (0..conflicts).for_each(|_| self.transfer.meter.failed());
            false
        };
        if is_too_much {
            let text = format!(
                "more than {KEPT_MAX} names would be deleted: none is; remove some with rm -r before"
            );
            return refused(&Failure::new(&self.place, Cause::Refused(text)));
        }
        let mut total = 0;
        for piece in pieces(all) {
            let entries = self.reopened(piece, self.tops.target.as_ref()).into_iter().flatten().collect();
            let look = |dir: &Entry| {
                self.transfer.meter.looked();
                self.tops.refuse_source(dir)
            };
            match removal::count(entries, &look) {
                Ok(count) => total += count,
                Err(failure) => return refused(&failure),
            }
        }
        match self.options.delete_max {
            Some(max) if total > max => {
                let text = format!("{total} names would be deleted, and --max-delete is {max}: none is");
                refused(&Failure::new(&self.place, Cause::Refused(text)))
            }
            Some(_) | None => true,
        }
    }

    /// Each of them, or none where that failed.
    fn reopened(&self, parked: Vec<Parked>, top: Option<&Dir>) -> Vec<Option<Entry>> {
        let open = |parked: Parked| match parked.open(top?) {
            Ok(entry) => Some(entry),
            Err(failure) => {
                self.transfer.fail(&failure);
                None
            }
        };
        parked.into_iter().map(open).collect()
    }

    fn delete(&self, entries: Vec<Entry>) {
        let (transfer, is_stopped) = (self.transfer, || self.transfer.is_stopped());
        if self.options.dry_run {
            for entry in entries {
                transfer.observer.step(&Step::Delete { path: entry.to_string() });
                let is_tree = entry.kind() == FileKind::Directory;
                match if is_tree { removal::count(vec![entry], &|_| Ok(())) } else { Ok(1) } {
                    Ok(count) => transfer.meter.removed(count),
                    Err(failure) => transfer.fail(&failure),
                }
            }
            return;
        }
        let removed = |names| transfer.meter.removed(names);
        removal::remove(entries, &is_stopped, &removed, &|entry, outcome| match outcome {
            Ok(()) => transfer.observer.step(&Step::Delete { path: entry.to_string() }),
            Err(failure) => transfer.fail(&failure),
        });
    }

    /// Deletes what is too much, now that everything else is there, and gives directories their times.
    fn finish(self) {
        if self.transfer.is_stopped() {
            return;
        }
        let Later { extras, directories, leftovers, .. } = std::mem::take(&mut *self.later.lock());
        for piece in pieces(extras) {
            self.delete(self.reopened(piece, self.tops.target.as_ref()).into_iter().flatten().collect());
        }
        let Some(top) = self.tops.target.as_ref().filter(|_| !self.options.dry_run) else { return };
        if let Dir::There(top) = top {
            sweep(&[], leftovers, Some(top));
        }
        let mut there = Vec::new();
        for (dir, seen) in directories.into_iter().rev() {
            match dir.open(top) {
                Ok(Dir::Here(dir)) => {
                    if let Err(error) = dir.set_attr(seen.mode, seen.mtime) {
                        self.transfer.fail_with(Dir::Here(dir).to_string(), error);
                    }
                }
                Ok(Dir::There(dir)) => {
                    let mtime = Some(SetTime::At(seen.mtime));
                    let set = SetAttr { mode: Some(seen.mode), mtime, ..SetAttr::default() };
                    there.push((RemoteDir::clone(&dir), set));
                }
                Err(failure) => self.transfer.fail(&failure),
            }
        }
        self.transfer.finish_dirs(there);
    }
}

impl Later {
    /// Keeps what only the target has, all of it or none.
    fn keep_extras(&mut self, max: usize, extras: impl ExactSizeIterator<Item = Parked>) {
        self.is_too_much |= self.extras.len() + self.conflicts.len() + extras.len() > max;
        if self.is_too_much {
            self.extras = Vec::new();
        } else {
            self.extras.extend(extras);
        }
    }

    /// Keeps what cannot be brought yet, and what is in its way.
    fn keep_conflict(&mut self, max: usize, conflict: (Parked, Parked)) {
        self.is_too_much |= self.extras.len() + self.conflicts.len() >= max;
        if !self.is_too_much {
            self.conflicts.push(conflict);
        }
    }
}

impl Goal {
    fn place_of(&self, name: &Name) -> String {
        match &self.dir {
            Some(dir) => dir.place_of(name),
            None => format!("{}/{}", self.path.trim_end_matches('/'), printable(name.as_bytes())),
        }
    }
}

/// As many as are reached at once.
fn pieces(parked: Vec<Parked>) -> impl Iterator<Item = Vec<Parked>> {
    let mut left = parked.into_iter();
    std::iter::from_fn(move || {
        let piece: Vec<Parked> = left.by_ref().take(REOPENED_MAX).collect();
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::transfer::local::LocalDir;

    #[test]
    fn what_waits_to_be_deleted_is_kept_as_a_whole_or_not_at_all() {
        let dir = LocalDir::open(Path::new("/")).unwrap();
        let name = Name::new(b"dev").unwrap();
        let stat = dir.stat(&name).unwrap().unwrap();
        let parked = || Parked::Here { dir: "/".into(), name: name.clone(), stat };
        let mut later = Later::default();
        later.keep_conflict(4, (parked(), parked()));
        later.keep_extras(4, [parked(), parked(), parked()].into_iter());
        assert_eq!((later.conflicts.len(), later.extras.len(), later.is_too_much), (1, 3, false));
        later.keep_conflict(4, (parked(), parked()));
        assert_eq!((later.conflicts.len(), later.is_too_much), (1, true));
        later.keep_extras(4, [].into_iter());
        assert_eq!((later.extras.len(), later.is_too_much), (0, true));
    }
}
