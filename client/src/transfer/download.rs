//! Bringing files from the server: trees, small files many at a time.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::hash;
use nearfs_protocol::limits::PUBLISHED_MAX;
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::name::Name;
use parking_lot::Mutex;

use crate::remote::{Follow, Held, Outcome, Patience, Reason, RemoteError, RemotePath};
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::journal::{StagedNames, is_staged};
use crate::transfer::local::{LocalDir, set_file_attr};
use crate::transfer::remote_dir::{RemoteDir, explained, unexpected};
use crate::transfer::upload::{next, path_text};
use crate::transfer::upload_large::is_same_file;
use crate::transfer::walk::walk_named;
use crate::transfer::{LARGE_THREADS, SMALL_BYTES_MAX, SMALL_THREADS, TRIES, Transfer, walkers};

/// After so long without another file those that wait are published.
const PUBLISH_AFTER: Duration = Duration::from_millis(20);
/// So few files are synced one by one.
const FEW: usize = 4;
/// Tasks that wait for a thread.
const QUEUE_MAX: usize = 64;
/// Mode bits that a file of the server brings along: not those by which a program acts as its owner or group.
pub(super) const KEPT_MODE: u32 = 0o1777;

/// A file that is to be brought from the server.
#[derive(Clone)]
pub(super) struct DownloadTask {
    pub(super) from: RemoteDir,
    pub(super) from_name: Name,
    pub(super) attr: Attr,
    pub(super) to: Arc<LocalDir>,
    pub(super) to_name: Name,
}

/// A directory that is to be brought from the server.
struct DirTask {
    from: RemoteDir,
    attr: Attr,
    to: Place,
}

/// A directory of this machine that is there, or is to be made in one.
enum Place {
    There(PathBuf),
    Below(Arc<LocalDir>, Name),
}

/// The answer to the request for a small file.
struct Fetched {
    task: DownloadTask,
    tries: usize,
    outcome: Outcome,
}

/// A complete small file under a name that nobody looks for.
struct Written {
    task: DownloadTask,
    staged: Name,
    bytes: u64,
}

/// Where those who look for files bring what they find.
pub(super) struct Ways {
    fetched: Sender<Fetched>,
    large: SyncSender<DownloadTask>,
}

/// Directories whose modes and times are set when everything is in them.
type Directories = Mutex<Vec<(PathBuf, Attr)>>;

impl DownloadTask {
    pub(super) fn name(&self) -> String {
        self.from.path.child(self.from_name.clone()).to_string()
    }

    pub(super) fn target(&self) -> String {
        path_text(&self.to.path_of(&self.to_name))
    }

    pub(super) fn failed(&self, cause: impl Into<Cause>) -> Failure {
        Failure::new(self.name(), explained(&self.from.session, cause.into()))
    }

    /// What went wrong on this machine.
    fn failed_here(&self, error: std::io::Error) -> Failure {
        Failure::new(self.target(), error)
    }
}

impl Transfer {
    /// Brings files and directories from the server, each to the path beside it.
    pub fn download(self: &Arc<Self>, jobs: &[(RemotePath, PathBuf)]) {
        self.watched(|| {
            let directories = Directories::default();
            self.downloading(|ways| {
                let last = Mutex::default();
                let begin = |(from, to): &(RemotePath, PathBuf)| {
                    self.begun(self.begin_download(from, to, ways, &last))
                };
                walk_named(walkers(jobs.len()), jobs, begin, |task, found| {
                    self.download_dir(task, found, ways, &directories);
                });
            });
            for (path, attr) in directories.into_inner().into_iter().rev() {
                let set = LocalDir::open(&path).and_then(|dir| dir.set_attr(attr.mode, attr.mtime));
                if let Err(error) = set {
                    self.fail_with(path_text(&path), error);
                }
            }
        });
    }

    /// Brings from the server what `find` comes by, until that has ended and all is here.
    pub(super) fn downloading(&self, find: impl FnOnce(&Ways)) {
        let (fetched, answers) = mpsc::channel();
        let (large, large_tasks) = mpsc::sync_channel(QUEUE_MAX);
        let (answers, large_tasks) = (Mutex::new(answers), Mutex::new(large_tasks));
        let (written, to_publish) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || self.publish_written(&to_publish));
            for _ in 0..SMALL_THREADS {
                let (written, answers) = (written.clone(), &answers);
                scope.spawn(move || {
                    while let Some(answer) = next(answers) {
                        self.write_small(answer, &written);
                    }
                });
            }
            drop(written);
            for _ in 0..LARGE_THREADS {
                scope.spawn(|| {
                    while let Some(task) = next(&large_tasks) {
                        self.download_large(&task);
                    }
                });
            }
            let ways = Ways { fetched, large };
            find(&ways);
            self.meter.all_found();
        });
    }

    /// Looks at what a person named. A directory is returned to be walked. `last`: where the file before it went.
    fn begin_download(
        &self,
        from: &RemotePath,
        to: &Path,
        ways: &Ways,
        last: &Mutex<Option<Arc<LocalDir>>>,
    ) -> Result<Option<DirTask>, Failure> {
        if self.is_stopped() {
            return Err(Failure::new(from.to_string(), Errno::EINTR));
        }
        let found = self.remote.find(from, Follow::Yes)?;
        if found.attr.kind == FileKind::Directory {
            self.make_local_dirs(to)?;
            let attr = found.attr;
            return Ok(Some(DirTask { from: RemoteDir::of(found), attr, to: Place::There(to.to_owned()) }));
        }
        let here = |error: std::io::Error| Failure::new(path_text(to), error);
        let parent = to.parent().unwrap_or(Path::new(""));
        let name = to.file_name().map(std::os::unix::ffi::OsStrExt::as_bytes).map(Name::new);
        let Some(Ok(to_name)) = name else {
            return Err(here(std::io::ErrorKind::IsADirectory.into()));
        };
        // Many files of a pattern go to one place, which is prepared once.
        let mut last = last.lock();
        let directory = match last.take().filter(|last| last.path == parent) {
            Some(directory) => directory,
            None => {
                self.make_local_dirs(parent)?;
                let opened =
                    LocalDir::open(parent).map_err(|error| Failure::new(path_text(parent), error))?;
                Arc::new(opened)
            }
        };
        *last = Some(Arc::clone(&directory));
        drop(last);
        let (real_parent, from_name) = self.remote.find_parent(&found.path)?;
        let from = RemoteDir { held: real_parent.node, path: real_parent.path, session: real_parent.session };
        let task = DownloadTask { from, from_name, attr: found.attr, to: directory, to_name };
        self.found_download(task, ways);
        Ok(None)
    }

    fn make_local_dirs(&self, path: &Path) -> Result<(), Failure> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let here = |error: std::io::Error| Failure::new(path_text(path), error);
        if self.options.make_parents {
            std::fs::create_dir_all(path).map_err(here)?;
        }
        let directory = LocalDir::open(path).map_err(here)?;
        directory.sweep().map_err(here)
    }

    fn download_dir(&self, task: &DirTask, found: &dyn Fn(DirTask), ways: &Ways, directories: &Directories) {
        if self.is_stopped() {
            return;
        }
        self.meter.looked();
        let opened = match &task.to {
            Place::There(path) => LocalDir::open(path),
            Place::Below(parent, name) => {
                let mode = (task.attr.mode & 0o777 & !self.options.umask) | 0o700;
                parent.make_child(name, mode).map(|(to, is_new)| {
                    if !is_new {
                        // What is not swept now is swept another time.
                        let _ = to.sweep();
                    }
                    to
                })
            }
        };
        let to = match opened {
            Ok(to) => Arc::new(to),
            Err(error) => return self.fail_with(task.from.path.to_string(), error),
        };
        if self.options.archive {
            directories.lock().push((to.path.clone(), task.attr));
        }
        let listed = task.from.each(|name, attr, held| {
            self.found_entry(task, (name, attr, held), &to, found, ways);
            !self.is_stopped()
        });
        if let Err(failure) = listed {
            self.fail(&failure);
        }
    }

    fn found_entry(
        &self,
        task: &DirTask,
        (name, attr, held): (Name, Attr, Arc<Held>),
        to: &Arc<LocalDir>,
        found: &dyn Fn(DirTask),
        ways: &Ways,
    ) {
        if is_staged(name.as_bytes()) {
            return;
        }
        let path = task.from.path.child(name.clone());
        if attr.kind == FileKind::Directory {
            let from = RemoteDir { held, path, session: task.from.session.clone() };
            return found(DirTask { from, attr, to: Place::Below(Arc::clone(to), name) });
        }
        let mut task = DownloadTask {
            from: task.from.clone(),
            from_name: name.clone(),
            attr,
            to: Arc::clone(to),
            to_name: name,
        };
        if attr.kind == FileKind::Symlink && !self.options.archive {
            // A link in a tree stands for the file it points to.
            match self.follow(&path) {
                Ok((from, from_name, attr)) => task = DownloadTask { from, from_name, attr, ..task },
                Err(error) => return self.fail(&error.into()),
            }
        }
        self.found_download(task, ways);
    }

    /// Where a link of the server leads.
    fn follow(&self, path: &RemotePath) -> Result<(RemoteDir, Name, Attr), RemoteError> {
        let found = self.remote.find(path, Follow::Yes)?;
        let (parent, name) = self.remote.find_parent(&found.path)?;
        Ok((RemoteDir { held: parent.node, path: parent.path, session: parent.session }, name, found.attr))
    }

    pub(super) fn found_download(&self, task: DownloadTask, ways: &Ways) {
        match task.attr.kind {
            FileKind::File => {}
            FileKind::Symlink => return self.download_link(&task),
            FileKind::Directory => {
                return self
                    .fail(&task.failed(Cause::Skipped("a link to a directory, which -a copies as a link")));
            }
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                return self.fail(&task.failed(Cause::Skipped("neither a file nor a directory")));
            }
        }
        self.meter.found(task.attr.size);
        if let Err(cause) = self.check_local(&task) {
            return self.fail(&Failure::new(task.target(), cause));
        }
        if self.window.take_file().is_err() {
            return self.fail(&task.failed(Errno::EINTR));
        }
        if task.attr.size <= SMALL_BYTES_MAX {
            self.fetch(task, 1, &ways.fetched);
        } else {
            // Whoever brings them goes on until the walkers are done.
            let _ = ways.large.send(task);
        }
    }

    /// Refuses what would be refused in the end anyway, and a file that is the target itself.
    fn check_local(&self, task: &DownloadTask) -> Result<(), Cause> {
        let Some(stat) = task.to.stat(&task.to_name)? else { return Ok(()) };
        if is_same_file(&task.attr, &stat) {
            return Err(Cause::Itself);
        }
        if super::local::kind_of(&stat) == FileKind::Directory {
            return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory).into());
        }
        if self.options.overwrite { Ok(()) } else { Err(Cause::Exists) }
    }

    fn download_link(&self, task: &DownloadTask) {
        self.meter.found(0);
        let outcome = task.from.look_up(&task.from_name).and_then(|found| {
            let (_, held) = found.ok_or_else(|| task.failed(Errno::ENOENT))?;
            let target = task.from.session.ask(Request::ReadLink { node: held.node() }, None);
            target.map(|(_, target)| target.to_vec()).map_err(|errno| task.failed(errno))
        });
        let target = match outcome {
            Ok(target) => target,
            Err(failure) => return self.fail(&failure),
        };
        let mut made = task.to.symlink(&target, &task.to_name);
        if self.options.overwrite
            && made.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists)
        {
            made = replace_by_link(task, &target);
        }
        match made {
            Ok(()) => self.finished(&task.name(), &task.target(), 0),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.fail(&Failure::new(task.target(), Cause::Exists));
            }
            Err(error) => self.fail(&task.failed_here(error)),
        }
    }

    /// Asks for a small file.
    fn fetch(&self, task: DownloadTask, tries: usize, fetched: &Sender<Fetched>) {
        if let Err(errno) = self.window.take_bytes(task.attr.size) {
            self.window.give_file();
            return self.fail(&task.failed(errno));
        }
        let session = task.from.session.clone();
        let request = Request::Fetch {
            parent: task.from.node(),
            name: task.from_name.clone(),
            content_bytes_max: task.attr.size as u32,
        };
        let fetched = fetched.clone();
        session.start(request, None, Patience::Endless, move |outcome| {
            // It is read until all who ask are gone.
            let _ = fetched.send(Fetched { task, tries, outcome });
        });
    }

    /// Writes down a small file that has arrived.
    fn write_small(&self, fetched: Fetched, written: &Sender<Written>) {
        let Fetched { task, tries, outcome } = fetched;
        let result = self.try_write_small(&task, outcome);
        self.window.give_bytes(task.attr.size);
        match result {
            Ok(Some((staged, bytes))) => {
                self.meter.far(bytes);
                self.meter.moved(bytes);
                let _ = written.send(Written { task, staged, bytes });
            }
            Ok(None) if tries < TRIES => self.fetch_again(task),
            Ok(None) => {
                self.window.give_file();
                self.fail(&task.failed(Cause::Changed));
            }
            Err(failure) => {
                self.window.give_file();
                self.fail(&failure);
            }
        }
    }

    /// A file that has grown, or changed while it was read, is brought as one that may go on doing so.
    fn fetch_again(&self, task: DownloadTask) {
        match task.from.look_up(&task.from_name) {
            Ok(Some((attr, _))) => {
                self.download_large(&DownloadTask { attr: task.from.session.shown(attr), ..task })
            }
            Ok(None) => {
                self.window.give_file();
                self.fail(&task.failed(Errno::ENOENT));
            }
            Err(failure) => {
                self.window.give_file();
                self.fail(&failure);
            }
        }
    }

    /// `None` if the file has changed.
    fn try_write_small(&self, task: &DownloadTask, outcome: Outcome) -> Result<Option<(Name, u64)>, Failure> {
        let (attr, told, content) = match outcome {
            Ok((Reply::Fetched { attr, whole: true, hash }, content)) => (attr, hash, content),
            Ok((Reply::Fetched { .. }, _)) => return Ok(None),
            Ok((other, _)) => return Err(task.failed(unexpected(&other))),
            Err(errno) => return Err(task.failed(errno)),
        };
        if hash(&content) != told || content.len() as u64 != attr.size {
            return Err(task.failed(Cause::Differs));
        }
        let staged = StagedNames::fresh().map_err(|errno| task.failed(errno))?.part;
        let mode = if self.options.archive { 0o600 } else { attr.mode & 0o777 };
        let mut file = task.to.create(&staged, mode).map_err(|error| task.failed_here(error))?;
        let (mode, mtime) = self.kept_local(&attr);
        let written = file.write_all(&content).and_then(|()| set_file_attr(&file, mode, mtime));
        if let Err(error) = written {
            // It was made by this call, and nobody knows of it.
            let _ = task.to.remove(&staged);
            return Err(task.failed_here(error));
        }
        Ok(Some((staged, attr.size)))
    }

    /// Mode and time that a complete file here gets of its source. It becomes ours, and so must not act for whoever runs it.
    pub(super) fn kept_local(&self, attr: &Attr) -> (Option<u32>, Option<nearfs_protocol::attr::Time>) {
        if self.options.archive { (Some(attr.mode & KEPT_MODE), Some(attr.mtime)) } else { (None, None) }
    }

    /// Gives small files their names, many at a time, until nobody writes any more.
    fn publish_written(&self, written: &Receiver<Written>) {
        let mut waiting = Vec::new();
        let mut touched: HashMap<PathBuf, Arc<LocalDir>> = HashMap::new();
        loop {
            let next = written.recv_timeout(PUBLISH_AFTER);
            let (is_over, is_idle) = (matches!(next, Err(RecvTimeoutError::Disconnected)), next.is_err());
            // All that came while the last ones were synced is synced together.
            waiting.extend(next.into_iter().chain(written.try_iter()));
            if waiting.len() >= PUBLISHED_MAX || (is_idle && !waiting.is_empty()) {
                self.publish_local(std::mem::take(&mut waiting), &mut touched);
            }
            if is_over {
                break;
            }
        }
        // The names, too, are to be there after a loss of power.
        let failed = |directory: &Arc<LocalDir>, error| self.fail_with(path_text(&directory.path), error);
        if touched.len() > FEW {
            let _ = sync_devices(touched.values()).map_err(|(directory, error)| failed(directory, error));
            return;
        }
        for directory in touched.values() {
            let _ = directory.sync().map_err(|error| failed(directory, error));
        }
    }

    fn publish_local(&self, written: Vec<Written>, touched: &mut HashMap<PathBuf, Arc<LocalDir>>) {
        let few = written.len() <= FEW;
        let all_synced = if few || self.is_stopped() {
            Ok(())
        } else {
            sync_devices(written.iter().map(|written| &written.task.to)).map_err(|(_, error)| error)
        };
        for Written { task, staged, bytes } in written {
            self.window.give_file();
            let synced = match &all_synced {
                _ if self.is_stopped() => Err(std::io::ErrorKind::Interrupted.into()),
                Ok(()) if few => task.to.sync_file(&staged),
                Ok(()) => Ok(()),
                Err(error) => Err(error.kind().into()),
            };
            let published =
                synced.and_then(|()| task.to.publish(&staged, &task.to_name, self.options.overwrite));
            match published {
                Ok(()) => {
                    self.finished(&task.name(), &task.target(), bytes);
                    touched.entry(task.to.path.clone()).or_insert_with(|| Arc::clone(&task.to));
                }
                Err(error) => {
                    // What has no name yet is of no use to anybody.
                    let _ = task.to.remove(&staged);
                    self.fail(&self.local_failure(&task, error));
                }
            }
        }
    }

    /// What an error of this machine means for a file that was to get its name.
    pub(super) fn local_failure(&self, task: &DownloadTask, error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::new(task.target(), Cause::Exists),
            std::io::ErrorKind::Interrupted => task.failed(Reason::Interrupted),
            _ => task.failed_here(error),
        }
    }
}

/// Brings the file systems that directories are on to stable storage, each once: a tree may span several. With an error
/// comes a directory that it is about.
fn sync_devices<'a>(
    directories: impl Iterator<Item = &'a Arc<LocalDir>>,
) -> Result<(), (&'a Arc<LocalDir>, std::io::Error)> {
    let (mut synced, mut last) = (Vec::new(), None);
    for directory in directories {
        // Files of a directory come one after the other.
        if last.replace(directory).is_some_and(|last| Arc::ptr_eq(last, directory)) {
            continue;
        }
        let device = directory.stat_self().map_err(|error| (directory, error))?.st_dev;
        if !synced.contains(&device) {
            directory.sync_device().map_err(|error| (directory, error))?;
            synced.push(device);
        }
    }
    Ok(())
}

/// Makes a link beside what is to be replaced, and gives it that name in one step.
fn replace_by_link(task: &DownloadTask, target: &[u8]) -> std::io::Result<()> {
    let staged = StagedNames::fresh().map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    task.to.symlink(target, &staged.part)?;
    task.to.publish(&staged.part, &task.to_name, true).inspect_err(|_| {
        // It was made by this call, and nobody knows of it.
        let _ = task.to.remove(&staged.part);
    })
}
