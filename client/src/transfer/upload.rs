//! Bringing files to the server: trees, small files many at a time.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nearfs_protocol::attr::{Attr, FileKind, SetAttr, SetTime};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::hash;
use nearfs_protocol::limits::PUBLISHED_MAX;
use nearfs_protocol::message::{Publication, RenameMode, Reply, Request};
use nearfs_protocol::name::Name;
use parking_lot::Mutex;
use rustix::fs::{OFlags, Stat};

use crate::remote::path::printable;
use crate::remote::{Follow, Outcome, Patience, RemotePath};
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::journal::{StagedNames, is_staged};
use crate::transfer::local::{LocalDir, kind_of, mtime_of, stamp_of};
use crate::transfer::remote_dir::{Leftover, RemoteDir, explained, unexpected};
use crate::transfer::upload_large::is_same_file;
use crate::transfer::walk::walk_named;
use crate::transfer::{LARGE_THREADS, SMALL_BYTES_MAX, SMALL_THREADS, TRIES, Transfer, walkers};

/// After so long without another file those that wait are published.
const PUBLISH_AFTER: Duration = Duration::from_millis(20);
/// Requests to publish that are under way at once.
const PUBLISHING_MAX: usize = 4;
/// Tasks that wait for a thread.
const QUEUE_MAX: usize = 64;
/// Names of a directory that are looked at before anything is brought into it.
const NAMES_THERE_MAX: usize = 20_000;

/// A file that is to be brought to the server.
pub(super) struct UploadTask {
    pub(super) from: Arc<LocalDir>,
    pub(super) from_name: Name,
    pub(super) stat: Stat,
    pub(super) to: RemoteDir,
    pub(super) to_name: Name,
}

/// A directory that is to be brought to the server.
struct DirTask {
    from: Origin,
    to: Place,
}

/// A directory of this machine that a person named, or that is below one.
enum Origin {
    Named(PathBuf),
    Below(Arc<LocalDir>, Name),
}

/// A directory of the server that is there, or is to be made in one.
enum Place {
    There(RemoteDir),
    Below(RemoteDir, Name, u32),
}

/// A small file that the server has, or not, under a name that nobody looks for.
struct Stored {
    task: UploadTask,
    staged: Name,
    bytes: u64,
    outcome: Outcome,
}

type Published = (Vec<Stored>, Outcome);

/// Where those who look for files bring what they find.
pub(super) struct Ways {
    small: SyncSender<UploadTask>,
    large: SyncSender<UploadTask>,
}

/// What is done when everything is at the server.
#[derive(Default)]
pub(super) struct Afterwards {
    /// Directories whose modes and times are set when everything is in them.
    directories: Mutex<Vec<(RemoteDir, Stat)>>,
    /// Directories into which single files go, by what they were called.
    targets: Mutex<BTreeMap<RemotePath, RemoteDir>>,
    /// What earlier transfers may have left in directories that were there before.
    leftovers: Mutex<Vec<Leftover>>,
    /// A directory into which something is put.
    touched: OnceLock<RemoteDir>,
}

impl Afterwards {
    /// Removes what was left incomplete and nobody has gone on with. Returns the directories that wait for modes and times.
    pub(super) fn sweep(self) -> Vec<(RemoteDir, Stat)> {
        let Afterwards { directories, targets, leftovers, touched } = self;
        let targets: Vec<_> = targets.into_inner().into_values().collect();
        sweep(&targets, leftovers.into_inner(), touched.get());
        directories.into_inner()
    }
}

impl UploadTask {
    pub(super) fn name(&self) -> String {
        path_text(&self.from.path_of(&self.from_name))
    }

    pub(super) fn target(&self) -> String {
        self.to.path.child(self.to_name.clone()).to_string()
    }

    /// What went wrong, with whichever of the two ends it is about.
    pub(super) fn failed(&self, cause: impl Into<Cause>) -> Failure {
        let cause = explained(&self.to.session, cause.into());
        Failure::new(if cause.is_about_target() { self.target() } else { self.name() }, cause)
    }
}

impl Transfer {
    /// Brings files and directories to the server, each to the path beside it.
    pub fn upload(self: &Arc<Self>, jobs: &[(PathBuf, RemotePath)]) {
        self.watched(|| {
            let later = Afterwards::default();
            self.uploading(|ways| {
                let begin = |(from, to): &(PathBuf, RemotePath)| {
                    self.begun(self.begin_upload(from, to, ways, &later))
                };
                walk_named(walkers(jobs.len()), jobs, begin, |task, found| {
                    self.upload_dir(task, found, ways, &later);
                });
            });
            if !self.is_stopped() {
                let directories = later.sweep();
                let kept = |(dir, stat): (RemoteDir, Stat)| (dir, self.kept_attr(&stat));
                self.finish_dirs(directories.into_iter().map(kept).collect());
            }
        });
    }

    /// Brings to the server what `find` comes by, until that has ended and all is there.
    pub(super) fn uploading(&self, find: impl FnOnce(&Ways)) {
        let (small, small_tasks) = mpsc::sync_channel(QUEUE_MAX);
        let (large, large_tasks) = mpsc::sync_channel(QUEUE_MAX);
        let (small_tasks, large_tasks) = (Mutex::new(small_tasks), Mutex::new(large_tasks));
        let (stored, to_publish) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || self.publish_stored(&to_publish));
            for _ in 0..SMALL_THREADS {
                let stored = stored.clone();
                let small_tasks = &small_tasks;
                scope.spawn(move || {
                    while let Some(task) = next(small_tasks) {
                        self.store(task, &stored);
                    }
                });
            }
            drop(stored);
            for _ in 0..LARGE_THREADS {
                scope.spawn(|| {
                    while let Some(task) = next(&large_tasks) {
                        self.upload_large(&task);
                    }
                });
            }
            let ways = Ways { small, large };
            find(&ways);
            self.meter.all_found();
        });
    }

    /// Looks at what a person named. A directory is returned to be walked.
    fn begin_upload(
        &self,
        from: &Path,
        to: &RemotePath,
        ways: &Ways,
        later: &Afterwards,
    ) -> Result<Option<DirTask>, Failure> {
        let here = |error: std::io::Error| Failure::new(path_text(from), error);
        if self.is_stopped() {
            return Err(Failure::new(path_text(from), Errno::EINTR));
        }
        let is_directory = std::fs::metadata(from).map_err(here)?.is_dir();
        if is_directory {
            let to = Place::There(self.target_dir(to)?);
            return Ok(Some(DirTask { from: Origin::Named(from.to_owned()), to }));
        }
        let (Some(parent), Some(name)) = (to.parent(), to.name()) else {
            return Err(Failure::new(to.to_string(), Errno::EISDIR));
        };
        // A link that a person names stands for what it points to.
        let from = std::fs::canonicalize(from).map_err(here)?;
        let (Some(directory), Some(file_name)) = (from.parent(), from.file_name()) else {
            return Err(here(std::io::ErrorKind::InvalidInput.into()));
        };
        let directory = Arc::new(LocalDir::open(directory).map_err(here)?);
        let file_name = Name::new(std::os::unix::ffi::OsStrExt::as_bytes(file_name));
        let file_name = file_name.map_err(|_| here(std::io::ErrorKind::InvalidInput.into()))?;
        let stat = directory.stat(&file_name).map_err(here)?;
        let stat = stat.ok_or_else(|| here(std::io::ErrorKind::NotFound.into()))?;
        let mut targets = later.targets.lock();
        let to = match targets.get(&parent) {
            Some(to) => to.clone(),
            None => self.target_dir(&parent)?,
        };
        targets.insert(parent, to.clone());
        drop(targets);
        let task = UploadTask { from: directory, from_name: file_name, stat, to, to_name: name.clone() };
        // What is not to be replaced is refused in the end; what is might be the source.
        if self.options.overwrite
            && let Some((attr, _)) = task.to.look_up(&task.to_name)?
            && let Some(cause) = self.refusal(&task, &attr)
        {
            return Err(task.failed(cause));
        }
        self.found_upload(task, ways);
        Ok(None)
    }

    /// The directory of a path, made if it is missing and that is wanted.
    pub(super) fn target_dir(&self, path: &RemotePath) -> Result<RemoteDir, Failure> {
        if self.options.make_parents {
            self.remote.make_dirs(path, 0o777)?;
        }
        let found = self.remote.find(path, Follow::Yes)?;
        if found.attr.kind != FileKind::Directory {
            return Err(Failure::new(path.to_string(), Errno::ENOTDIR));
        }
        Ok(RemoteDir::of(found))
    }

    fn upload_dir(&self, task: &DirTask, found: &dyn Fn(DirTask), ways: &Ways, later: &Afterwards) {
        if self.is_stopped() {
            return;
        }
        self.meter.looked();
        let opened = match &task.from {
            Origin::Named(path) => LocalDir::open(path).map_err(|error| (path.clone(), error)),
            // Whoever puts a link in its place meanwhile leads nowhere.
            Origin::Below(above, name) => above.child(name).map_err(|error| (above.path_of(name), error)),
        };
        let from = match opened {
            Ok(from) => Arc::new(from),
            Err((path, error)) => return self.fail_with(path_text(&path), error),
        };
        let opened = match &task.to {
            Place::There(to) => Ok((to.clone(), false)),
            Place::Below(parent, name, mode) => parent.make_child(name, *mode),
        };
        let looked = opened.and_then(|(to, is_new)| {
            // What was made just now is empty.
            let there = if is_new { HashMap::new() } else { names_there(&to, later)? };
            Ok((to, there))
        });
        let (to, there) = match looked {
            Ok(looked) => looked,
            Err(failure) => return self.fail(&failure),
        };
        if self.options.archive
            && let Ok(stat) = from.stat_self()
        {
            later.directories.lock().push((to.clone(), stat));
        }
        let listed = from.each(|entry| {
            if is_staged(entry.name.as_bytes()) {
                return true;
            }
            if kind_of(&entry.stat) == FileKind::Directory {
                // The final mode comes when everything is in it.
                let mode = (entry.stat.st_mode & 0o777) | 0o700;
                let place = Place::Below(to.clone(), entry.name.clone(), mode);
                found(DirTask { from: Origin::Below(Arc::clone(&from), entry.name), to: place });
            } else {
                let task = UploadTask {
                    from: Arc::clone(&from),
                    from_name: entry.name.clone(),
                    stat: entry.stat,
                    to: to.clone(),
                    to_name: entry.name,
                };
                match there.get(&task.to_name).and_then(|attr| self.refusal(&task, attr)) {
                    Some(cause) => {
                        self.meter.found(task.stat.st_size.cast_unsigned());
                        self.fail(&task.failed(cause));
                    }
                    None => self.found_upload(task, ways),
                }
            }
            !self.is_stopped()
        });
        if let Err(error) = listed {
            self.fail_with(path_text(&from.path), error);
        }
    }

    /// Why what has the name at the target is not replaced, where that is known before anything is sent.
    fn refusal(&self, task: &UploadTask, there: &Attr) -> Option<Cause> {
        match there.kind {
            _ if is_same_file(there, &task.stat) => Some(Cause::Itself),
            FileKind::Directory => Some(Errno::EISDIR.into()),
            _ => (!self.options.overwrite).then_some(Cause::Exists),
        }
    }

    /// Gives directories the modes and times of their sources, now that nothing more is put into them.
    pub(super) fn finish_dirs(&self, directories: Vec<(RemoteDir, SetAttr)>) {
        let (tell, told) = mpsc::channel();
        for (at, (directory, set)) in directories.iter().enumerate() {
            let tell = tell.clone();
            let request = Request::SetAttr { node: directory.node(), fh: None, set: *set };
            directory.session.start(request, None, Patience::Bounded, move |outcome| {
                // It is read until all are done.
                let _ = tell.send((at, outcome.map(drop)));
            });
        }
        drop(tell);
        for (at, outcome) in told {
            if let (Err(errno), Some((directory, _))) = (outcome, directories.get(at)) {
                self.fail_with(directory.path.to_string(), explained(&directory.session, errno.into()));
            }
        }
    }

    /// Hands what is no directory to whoever brings it.
    pub(super) fn found_upload(&self, mut task: UploadTask, ways: &Ways) {
        let mut kind = kind_of(&task.stat);
        if kind == FileKind::Symlink && !self.options.archive {
            // A link in a tree stands for the file it points to.
            match std::fs::canonicalize(task.from.path_of(&task.from_name)).and_then(|path| real_place(&path))
            {
                Ok((from, from_name, stat)) => {
                    kind = kind_of(&stat);
                    task = UploadTask { from: Arc::new(from), from_name, stat, ..task };
                }
                Err(error) => return self.fail(&task.failed(error)),
            }
        }
        match kind {
            FileKind::File => {}
            FileKind::Symlink => return self.upload_link(&task),
            FileKind::Directory => {
                return self
                    .fail(&task.failed(Cause::Skipped("a link to a directory, which -a copies as a link")));
            }
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                return self.fail(&task.failed(Cause::Skipped("neither a file nor a directory")));
            }
        }
        let bytes = task.stat.st_size.cast_unsigned();
        self.meter.found(bytes);
        let way = if bytes <= SMALL_BYTES_MAX { &ways.small } else { &ways.large };
        if self.window.take_file().is_err() {
            return self.fail(&task.failed(Errno::EINTR));
        }
        // Whoever brings them goes on until the walkers are done.
        let _ = way.send(task);
    }

    fn upload_link(&self, task: &UploadTask) {
        self.meter.found(0);
        let target = match task.from.read_link(&task.from_name) {
            Ok(target) => target,
            Err(error) => return self.fail(&task.failed(error)),
        };
        let mut made = make_link(&task.to, &task.to_name, &target);
        if made == Err(Errno::EEXIST) && self.options.overwrite {
            made = self.replace_by_link((&task.to, &task.to_name), &target);
        }
        match made {
            Ok(()) => self.finished(&task.name(), &task.target(), 0),
            Err(Errno::EEXIST) => self.fail(&task.failed(Cause::Exists)),
            Err(errno) => self.fail(&task.failed(errno)),
        }
    }

    /// Makes a link beside what is to be replaced, and gives it that name in one step.
    pub(super) fn replace_by_link(
        &self,
        (to, name): (&RemoteDir, &Name),
        target: &[u8],
    ) -> Result<(), Errno> {
        let staged = StagedNames::fresh()?.part;
        make_link(to, &staged, target)?;
        let rename = Request::Rename {
            parent: to.node(),
            name: staged.clone(),
            new_parent: to.node(),
            new_name: name.clone(),
            mode: RenameMode::Replace,
        };
        let renamed = to.session.ask(rename, None).map(drop);
        renamed.inspect_err(|_| self.discard(to, &staged))
    }

    /// Reads a small file and sends it.
    fn store(&self, task: UploadTask, stored: &Sender<Stored>) {
        if self.is_stopped() {
            self.window.give_file();
            return self.fail(&task.failed(Errno::EINTR));
        }
        let (content, stat, staged) = match read_small(&task)
            .and_then(|(content, stat)| Ok((content, stat, StagedNames::fresh()?.part)))
        {
            Ok(read) => read,
            Err(cause) => {
                self.window.give_file();
                return self.fail(&task.failed(cause));
            }
        };
        let bytes = content.len() as u64;
        if let Err(errno) = self.window.take_bytes(bytes) {
            self.window.give_file();
            return self.fail(&task.failed(errno));
        }
        let session = task.to.session.clone();
        let request = Request::Store {
            parent: task.to.node(),
            name: staged.clone(),
            mode: stat.st_mode & 0o777,
            umask: session.umask(),
            set: self.kept_attr(&stat),
            hash: hash(&content),
        };
        let stored = stored.clone();
        session.start(request, Some(session.keep(&content)), Patience::Endless, move |outcome| {
            // It is read until all who send are gone.
            let _ = stored.send(Stored { task, staged, bytes, outcome });
        });
    }

    /// What a complete file at the server gets of its source.
    pub(super) fn kept_attr(&self, stat: &Stat) -> SetAttr {
        if !self.options.archive {
            return SetAttr::default();
        }
        let mtime = Some(SetTime::At(mtime_of(stat)));
        SetAttr { mode: Some(stat.st_mode & 0o7777), mtime, ..SetAttr::default() }
    }

    pub(super) fn rename_mode(&self) -> RenameMode {
        if self.options.overwrite { RenameMode::Replace } else { RenameMode::NoReplace }
    }

    /// Publishes small files many at a time, until nobody stores any more.
    fn publish_stored(&self, stored: &Receiver<Stored>) {
        let (tell, told) = mpsc::channel();
        let (mut waiting, mut publishing) = (Vec::new(), 0);
        loop {
            let next = stored.recv_timeout(PUBLISH_AFTER);
            let is_over = matches!(next, Err(RecvTimeoutError::Disconnected));
            let is_idle = next.is_err();
            if let Ok(next) = next {
                self.window.give_bytes(next.bytes);
                waiting.extend(self.is_stored(next));
            }
            while let Ok(published) = told.try_recv() {
                publishing -= 1;
                self.published(published);
            }
            while waiting.len() >= PUBLISHED_MAX || (is_idle && !waiting.is_empty()) {
                if publishing == PUBLISHING_MAX
                    && let Ok(published) = told.recv()
                {
                    publishing -= 1;
                    self.published(published);
                }
                let rest = waiting.split_off(waiting.len().min(PUBLISHED_MAX));
                self.publish(std::mem::replace(&mut waiting, rest), &tell);
                publishing += 1;
            }
            if is_over {
                break;
            }
        }
        drop(tell);
        told.iter().for_each(|published| self.published(published));
    }

    /// Whether the server has all of a small file.
    fn is_stored(&self, stored: Stored) -> Option<Stored> {
        let cause = match &stored.outcome {
            Ok((Reply::Attr(attr), _)) if attr.size == stored.bytes => {
                self.meter.far(attr.size);
                self.meter.moved(attr.size);
                return Some(stored);
            }
            Ok((Reply::Attr(_), _)) => Cause::Differs,
            Ok((other, _)) => unexpected(other).into(),
            // What it says of a payload that does not have the hash it came with.
            Err(Errno::EIO) if stored.task.to.session.ending().is_none() => Cause::Differs,
            Err(errno) => (*errno).into(),
        };
        self.window.give_file();
        self.fail(&stored.task.failed(cause));
        None
    }

    fn publish(&self, stored: Vec<Stored>, tell: &Sender<Published>) {
        let Some(session) = stored.first().map(|first| first.task.to.session.clone()) else { return };
        let mode = self.rename_mode();
        let items = stored
            .iter()
            .map(|stored| Publication {
                parent: stored.task.to.node(),
                staged: stored.staged.clone(),
                name: stored.task.to_name.clone(),
                mode,
            })
            .collect();
        let tell = tell.clone();
        session.start(Request::Publish { items }, None, Patience::Endless, move |outcome| {
            let _ = tell.send((stored, outcome));
        });
    }

    fn published(&self, (stored, outcome): Published) {
        let refusals = match outcome {
            Ok((Reply::Published { refusals }, _)) if refusals.len() == stored.len() => refusals,
            Ok((other, _)) => vec![Some(unexpected(&other)); stored.len()],
            Err(errno) => vec![Some(errno); stored.len()],
        };
        for (stored, refusal) in stored.into_iter().zip(refusals) {
            self.window.give_file();
            let Some(errno) = refusal else {
                self.finished(&stored.task.name(), &stored.task.target(), stored.bytes);
                continue;
            };
            self.discard(&stored.task.to, &stored.staged);
            let cause = match errno {
                Errno::EEXIST => Cause::Exists,
                errno => errno.into(),
            };
            self.fail(&stored.task.failed(cause));
        }
    }

    /// Removes what will not get its name, without waiting for it, also when the transfer is to end.
    pub(super) fn discard(&self, directory: &RemoteDir, staged: &Name) {
        let session = directory.session.with_cancel(&crate::cancel::Cancel::new());
        let request = Request::Unlink { parent: directory.node(), name: staged.clone() };
        session.start(request, None, Patience::Bounded, |_| {});
    }
}

/// The content of a small file, and its attributes before it was read; they were the same afterwards.
fn read_small(task: &UploadTask) -> Result<(Vec<u8>, Stat), Cause> {
    for _ in 0..TRIES {
        let mut file = task.from.open_file(&task.from_name, OFlags::RDONLY)?;
        let before = rustix::fs::fstat(&file).map_err(std::io::Error::from)?;
        let mut content =
            Vec::with_capacity(before.st_size.cast_unsigned().min(SMALL_BYTES_MAX) as usize + 1);
        (&mut file).take(SMALL_BYTES_MAX + 1).read_to_end(&mut content)?;
        let after = rustix::fs::fstat(&file).map_err(std::io::Error::from)?;
        let is_whole = content.len() as u64 == after.st_size.cast_unsigned();
        if is_whole && stamp_of(&before) == stamp_of(&after) {
            return Ok((content, before));
        }
    }
    Err(Cause::Changed)
}

/// Makes a symbolic link of the server's, of a name that is not there.
pub(super) fn make_link(directory: &RemoteDir, name: &Name, target: &[u8]) -> Result<(), Errno> {
    let request = Request::Symlink { parent: directory.node(), name: name.clone(), target: target.to_vec() };
    match directory.session.ask(request, None)?.0 {
        Reply::Made { attr, .. } => {
            drop(directory.session.hold(attr.node, &directory.held));
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// What is in a directory that was there before, as far as it is seen among so many names. What is not seen is refused
/// when it is to get its name.
pub(super) fn names_there(directory: &RemoteDir, later: &Afterwards) -> Result<HashMap<Name, Attr>, Failure> {
    let mut there = HashMap::new();
    directory.each(|name, attr, _held| {
        later.leftovers.lock().extend(Leftover::of(directory, &name, &attr));
        there.insert(name, attr);
        there.len() < NAMES_THERE_MAX
    })?;
    later.touched.get_or_init(|| directory.clone());
    Ok(there)
}

/// Removes what earlier transfers left incomplete and nobody has gone on with. What was just put into a directory tells
/// the server's own time.
pub(super) fn sweep(targets: &[RemoteDir], leftovers: Vec<Leftover>, touched: Option<&RemoteDir>) {
    let later = targets.iter().flat_map(RemoteDir::leftovers);
    let mut all = leftovers.into_iter().chain(later).peekable();
    if all.peek().is_none() {
        return;
    }
    if let Some(now_secs) = targets.first().or(touched).and_then(RemoteDir::touched_secs) {
        all.for_each(|leftover| leftover.sweep(now_secs));
    }
}

/// Where a file that links lead to really is.
pub(super) fn real_place(path: &Path) -> std::io::Result<(LocalDir, Name, Stat)> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let (directory, name) = (path.parent().ok_or_else(missing)?, path.file_name().ok_or_else(missing)?);
    let name = Name::new(std::os::unix::ffi::OsStrExt::as_bytes(name)).map_err(|_| missing())?;
    let directory = LocalDir::open(directory)?;
    let stat = directory.stat(&name)?.ok_or_else(missing)?;
    Ok((directory, name, stat))
}

/// The next task; `None` when there will be none.
pub(super) fn next<T>(tasks: &Mutex<Receiver<T>>) -> Option<T> {
    tasks.lock().recv().ok()
}

/// A path of this machine for people.
pub(super) fn path_text(path: &Path) -> String {
    printable(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
}
