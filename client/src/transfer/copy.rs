//! Copying from one place of the server to another. The content stays there.
//!
//! As with what is brought to it, a file is written under a name that nobody looks for, and has its own when all of it is
//! on the disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

use nearfs_protocol::attr::{Attr, FileKind, SetAttr, SetTime};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Change;
use nearfs_protocol::limits::PUBLISHED_MAX;
use nearfs_protocol::message::{Publication, Reply, Request};
use nearfs_protocol::name::Name;
use parking_lot::Mutex;

use crate::remote::{Follow, Held, Outcome, RemotePath};
use crate::transfer::asking::{answer, ask_for, begin};
use crate::transfer::failure::{Cause, Failure};
use crate::transfer::journal::{StagedNames, is_staged};
use crate::transfer::local::is_sparse;
use crate::transfer::opened::Opened;
use crate::transfer::remote_dir::{RemoteDir, explained, unexpected};
use crate::transfer::upload::{Afterwards, make_link, names_there, next};
use crate::transfer::walk::walk_named;
use crate::transfer::{TRIES, Transfer, walkers};

/// Files that are copied at once; most of the time each waits for an answer.
const COPIERS: usize = 128;
/// Bytes that are copied by one request: progress is seen, and one who gives up is heard soon.
const PIECE_BYTES: u64 = 16 * 1024 * 1024;
/// Pieces of a file that are asked for at once.
const PIECES_MAX: usize = 4;
/// Tasks that wait for a thread.
const QUEUE_MAX: usize = 64;
/// After so long without another file those that wait are published.
const PUBLISH_AFTER: Duration = Duration::from_millis(20);
/// Requests to publish that are under way at once.
const PUBLISHERS: usize = 4;

/// What is to be copied.
struct CopyTask {
    from: RemoteDir,
    from_name: Name,
    held: Arc<Held>,
    attr: Attr,
    to: RemoteDir,
    to_name: Name,
}

/// A directory that is to be copied.
struct DirTask {
    from: RemoteDir,
    attr: Attr,
    to: Place,
}

enum Place {
    There(RemoteDir),
    /// To be made, in this directory.
    Below(RemoteDir, Name),
}

/// A complete file under a name that nobody looks for.
struct Copied {
    task: CopyTask,
    staged: Name,
    bytes: u64,
}

/// Where those who look for files bring what they find.
struct Ways<'a> {
    files: SyncSender<CopyTask>,
    later: &'a Later,
}

#[derive(Default)]
struct Later {
    /// Directories that get modes and times when everything is in them.
    directories: Mutex<Vec<(RemoteDir, SetAttr)>>,
    looked: Afterwards,
}

impl CopyTask {
    fn name(&self) -> String {
        self.from.path.child(self.from_name.clone()).to_string()
    }

    fn target(&self) -> String {
        self.to.path.child(self.to_name.clone()).to_string()
    }

    /// What went wrong with the source.
    fn failed(&self, cause: impl Into<Cause>) -> Failure {
        Failure::new(self.name(), explained(&self.to.session, cause.into()))
    }

    /// What went wrong at the target.
    fn failed_there(&self, cause: impl Into<Cause>) -> Failure {
        Failure::new(self.target(), explained(&self.to.session, cause.into()))
    }
}

impl Transfer {
    /// Copies files and directories of the server, each to the path beside it. Links in a directory are copied as links;
    /// one that a person names stands for what it points to, unless the archive is kept. Directories only if `recursive`.
    pub fn copy(self: &Arc<Self>, jobs: &[(RemotePath, RemotePath)], recursive: bool) {
        self.watched(|| {
            let later = Later::default();
            self.copying(|files| {
                let ways = Ways { files, later: &later };
                let begin = |(from, to): &(RemotePath, RemotePath)| {
                    self.begun(self.begin_copy((from, to), recursive, &ways))
                };
                walk_named(walkers(jobs.len()), jobs, begin, |dir, found| {
                    if !self.is_stopped()
                        && let Err(failure) = self.copy_dir(dir, found, &ways)
                    {
                        self.fail(&failure);
                    }
                });
                self.meter.all_found();
            });
            if !self.is_stopped() {
                let Later { directories, looked } = later;
                drop(looked.sweep());
                self.finish_dirs(directories.into_inner());
            }
        });
    }

    /// Copies what `find` comes by, until that has ended and all has its name.
    fn copying(&self, find: impl FnOnce(SyncSender<CopyTask>)) {
        let (files, tasks) = mpsc::sync_channel(QUEUE_MAX);
        let (copied, to_publish) = mpsc::channel();
        let (tasks, to_publish) = (Mutex::new(tasks), Mutex::new(to_publish));
        std::thread::scope(|scope| {
            for _ in 0..PUBLISHERS {
                scope.spawn(|| {
                    while let Some(some) = some_of(&to_publish) {
                        self.publish_copied(some);
                    }
                });
            }
            for _ in 0..COPIERS {
                let (copied, tasks) = (copied.clone(), &tasks);
                scope.spawn(move || {
                    while let Some(task) = next(tasks) {
                        self.copy_file(task, &copied);
                    }
                });
            }
            drop(copied);
            find(files);
        });
    }

    fn begin_copy(
        &self,
        (from, to): (&RemotePath, &RemotePath),
        recursive: bool,
        ways: &Ways<'_>,
    ) -> Result<Option<DirTask>, Failure> {
        if self.is_stopped() {
            return Err(Failure::new(from.to_string(), Errno::EINTR));
        }
        let follow = if self.options.archive { Follow::No } else { Follow::Yes };
        let found = self.remote.find(from, follow)?;
        if found.attr.kind == FileKind::Directory {
            let refused = |text: String| Failure::new(from.to_string(), Cause::Refused(text));
            if !recursive {
                return Err(refused("is a directory; -r copies it with all that is in it".into()));
            }
            // Looked at before anything is made; links may lead into the source.
            if self.existing_part(to)?.is_within(&found.path) {
                return Err(Failure::new(from.to_string(), Cause::Itself));
            }
            if self
                .remote
                .stat_if_there(to, Follow::Yes)?
                .is_some_and(|there| there.kind != FileKind::Directory)
            {
                return Err(refused(format!("is a directory, and {to} is a file")));
            }
            let place = match (to.parent(), to.name()) {
                (Some(parent), Some(name)) => Place::Below(self.target_dir(&parent)?, name.clone()),
                (_, None) | (None, _) => Place::There(self.target_dir(to)?),
            };
            let attr = found.attr;
            return Ok(Some(DirTask { from: RemoteDir::of(found), attr, to: place }));
        }
        let (Some(parent), Some(to_name)) = (to.parent(), to.name()) else {
            return Err(Failure::new(to.to_string(), Errno::EISDIR));
        };
        let (real_parent, from_name) = self.remote.find_parent(&found.path)?;
        let from = RemoteDir { held: real_parent.node, path: real_parent.path, session: real_parent.session };
        let to = self.target_dir(&parent)?;
        let there = to.look_up(to_name)?.map(|(attr, _)| attr);
        let (held, attr, to_name) = (found.node, found.attr, to_name.clone());
        self.found_copy(CopyTask { from, from_name, held, attr, to, to_name }, there.as_ref(), ways);
        Ok(None)
    }

    /// Where the last directory or file on the way to a place really is that is there.
    fn existing_part(&self, path: &RemotePath) -> Result<RemotePath, Failure> {
        let mut at = path.clone();
        loop {
            match self.remote.find(&at, Follow::Yes) {
                Ok(found) => return Ok(found.path),
                Err(error) if error.errno() == Errno::ENOENT => {
                    at = at.parent().ok_or(error)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn copy_dir(&self, task: &DirTask, found: &dyn Fn(DirTask), ways: &Ways<'_>) -> Result<(), Failure> {
        let (to, is_new) = match &task.to {
            Place::There(to) => (to.clone(), false),
            // The final mode comes when everything is in it.
            Place::Below(parent, name) => parent.make_child(name, (task.attr.mode & 0o777) | 0o700)?,
        };
        // What was made just now is empty.
        let there = if is_new { Default::default() } else { names_there(&to, &ways.later.looked)? };
        let mode = task.attr.mode & 0o777 & !to.session.umask();
        let set = if self.options.archive {
            Some(self.kept_of(&task.attr))
        } else {
            (is_new && mode & 0o700 != 0o700).then(|| SetAttr { mode: Some(mode), ..SetAttr::default() })
        };
        ways.later.directories.lock().extend(set.map(|set| (to.clone(), set)));
        task.from.each(|name, attr, held| {
            if is_staged(name.as_bytes()) {
                return true;
            }
            if attr.kind == FileKind::Directory {
                let path = task.from.path.child(name.clone());
                let from = RemoteDir { held, path, session: task.from.session.clone() };
                found(DirTask { from, attr, to: Place::Below(to.clone(), name) });
            } else {
                let (from, to) = (task.from.clone(), to.clone());
                let there = there.get(&name);
                let task = CopyTask { from, from_name: name.clone(), held, attr, to, to_name: name };
                self.found_copy(task, there, ways);
            }
            !self.is_stopped()
        })
    }

    /// Mode and time that a copy gets of its source, where they are kept.
    fn kept_of(&self, attr: &Attr) -> SetAttr {
        if !self.options.archive {
            return SetAttr::default();
        }
        let mtime = Some(SetTime::At(attr.mtime));
        SetAttr { mode: Some(attr.mode & 0o7777), mtime, ..SetAttr::default() }
    }

    /// Hands what is no directory to those who copy, unless it would be refused in the end.
    fn found_copy(&self, task: CopyTask, there: Option<&Attr>, ways: &Ways<'_>) {
        let bytes = if task.attr.kind == FileKind::File { task.attr.size } else { 0 };
        self.meter.found(bytes);
        let refusal = match (task.attr.kind, there) {
            (_, Some(there)) if there.node == task.attr.node => Some(Cause::Itself),
            (_, Some(there)) if there.kind == FileKind::Directory => Some(Errno::EISDIR.into()),
            (_, Some(_)) if !self.options.overwrite => Some(Cause::Exists),
            (FileKind::File | FileKind::Symlink | FileKind::Directory, _) => None,
            (FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice, _) => {
                Some(Cause::Skipped("neither a file nor a directory"))
            }
        };
        if let Some(cause) = refusal {
            let place = if there.is_some() { task.target() } else { task.name() };
            return self.fail(&Failure::new(place, cause));
        }
        if task.attr.kind == FileKind::Symlink {
            return self.copy_link(&task);
        }
        if self.window.take_file().is_err() {
            return self.fail(&task.failed(Errno::EINTR));
        }
        // Whoever copies them goes on until the walkers are done.
        let _ = ways.files.send(task);
    }

    fn copy_link(&self, task: &CopyTask) {
        let session = &task.to.session;
        let target = match session.ask(Request::ReadLink { node: task.held.node() }, None) {
            Ok((_, target)) => target,
            Err(errno) => return self.fail(&task.failed(errno)),
        };
        let mut made = make_link(&task.to, &task.to_name, &target);
        if made == Err(Errno::EEXIST) && self.options.overwrite {
            made = self.replace_by_link((&task.to, &task.to_name), &target);
        }
        match made {
            Ok(()) => self.finished(&task.name(), &task.target(), 0),
            Err(Errno::EEXIST) => self.fail(&task.failed_there(Cause::Exists)),
            Err(errno) => self.fail(&task.failed_there(errno)),
        }
    }

    /// Copies a file under a name that nobody looks for.
    fn copy_file(&self, task: CopyTask, copied: &Sender<Copied>) {
        let mut outcome = Err(task.failed(Cause::Changed));
        for _ in 0..TRIES {
            let mut moved = 0;
            outcome = self.try_copy_file(&task, &mut moved);
            if !matches!(outcome, Err(Failure { cause: Cause::Changed, .. })) {
                break;
            }
            self.meter.taken_back(moved);
        }
        match outcome {
            Ok((staged, bytes)) => {
                // It is read until all who copy are gone.
                let _ = copied.send(Copied { task, staged, bytes });
            }
            Err(failure) => {
                self.window.give_file();
                self.fail(&failure);
            }
        }
    }

    fn try_copy_file(&self, task: &CopyTask, moved: &mut u64) -> Result<(Name, u64), Failure> {
        if self.is_stopped() {
            return Err(task.failed(Errno::EINTR));
        }
        let session = &task.to.session;
        let staged = StagedNames::fresh().map_err(|errno| task.failed_there(errno))?.part;
        let create = Request::Create {
            parent: task.to.node(),
            name: staged.clone(),
            mode: task.attr.mode & 0o777,
            umask: session.umask(),
            flags: (libc::O_WRONLY | libc::O_EXCL) as u32,
        };
        let (opening, creating) = (begin(session, Opened::asking(task.held.node())), begin(session, create));
        let source = Opened::answered(session, answer(&opening));
        let target = match answer(&creating).map_err(|errno| task.failed_there(errno))? {
            (Reply::Created { fh, attr, .. }, _) => {
                drop(session.hold(attr.node, &task.to.held));
                (Opened { session: session.clone(), fh }, attr)
            }
            (other, _) => return Err(task.failed_there(unexpected(&other))),
        };
        let copied = source.map_err(|errno| task.failed(errno)).and_then(|(source, before)| {
            self.copy_content((&source, &before), &target.0, moved)
                .and_then(|()| self.complete_copy((&source, &before), (&target.0, &target.1)))
                .map_err(|cause| task.failed(cause))?;
            Ok((staged.clone(), before.size))
        });
        copied.inspect_err(|_| self.discard(&task.to, &staged))
    }

    fn copy_content(&self, source: (&Opened, &Attr), target: &Opened, moved: &mut u64) -> Result<(), Cause> {
        let (source, attr) = source;
        let mut under_way = VecDeque::new();
        let mut at = 0;
        while let Some((begin_at, end)) = source.next_content(attr, at)? {
            for offset in (begin_at..end).step_by(PIECE_BYTES as usize) {
                let length = PIECE_BYTES.min(end - offset);
                self.window.wait_turn(length)?;
                if under_way.len() >= PIECES_MAX
                    && let Some(first) = under_way.pop_front()
                {
                    self.settle_copy(source, target, first, moved)?;
                }
                under_way.push_back((
                    offset,
                    length,
                    begin(&target.session, copy_range(source, target, offset, length)),
                ));
            }
            at = end;
        }
        while let Some(first) = under_way.pop_front() {
            self.settle_copy(source, target, first, moved)?;
        }
        Ok(())
    }

    /// A piece has been copied, or a part of it, which is gone on with.
    fn settle_copy(
        &self,
        source: &Opened,
        target: &Opened,
        (mut offset, mut length, first): (u64, u64, Receiver<Outcome>),
        moved: &mut u64,
    ) -> Result<(), Cause> {
        let mut outcome = answer(&first);
        loop {
            match outcome? {
                // Nothing behind the end of a file that has become shorter.
                (Reply::Written(written), _) if written.size == 0 => return Err(Cause::Changed),
                (Reply::Written(written), _) if written.size <= length => {
                    *moved += written.size;
                    self.meter.moved(written.size);
                    self.meter.far(written.size);
                    (offset, length) = (offset + written.size, length - written.size);
                }
                (other, _) => return Err(unexpected(&other).into()),
            }
            if length == 0 {
                return Ok(());
            }
            outcome = ask_for(&target.session, copy_range(source, target, offset, length));
        }
    }

    /// Gives the copy what it has of its source beside the content, and looks whether that was the same all the time.
    fn complete_copy(&self, source: (&Opened, &Attr), target: (&Opened, &Attr)) -> Result<(), Cause> {
        let ((source, before), (target, copy)) = (source, target);
        let session = &source.session;
        let looking = begin(session, Request::GetAttr { node: before.node, fh: Some(source.fh) });
        // A hole at the end is nothing that would have been copied.
        let size = is_sparse(before).then_some(before.size);
        let set = SetAttr { size, ..self.kept_of(before) };
        if set != SetAttr::default() {
            ask_for(session, Request::SetAttr { node: copy.node, fh: Some(target.fh), set })?;
        }
        match answer(&looking)? {
            (Reply::Attr(after), _) => {
                let is_same = after.change == before.change && after.change != Change::UNSURE;
                if is_same && after.size == before.size { Ok(()) } else { Err(Cause::Changed) }
            }
            (other, _) => Err(unexpected(&other).into()),
        }
    }

    /// Gives files their names.
    fn publish_copied(&self, copied: Vec<Copied>) {
        let Some(session) = copied.first().map(|first| first.task.to.session.clone()) else { return };
        let mode = self.rename_mode();
        let item = |copied: &Copied| Publication {
            parent: copied.task.to.node(),
            staged: copied.staged.clone(),
            name: copied.task.to_name.clone(),
            mode,
        };
        let refusals = match ask_for(&session, Request::Publish { items: copied.iter().map(item).collect() })
        {
            Ok((Reply::Published { refusals }, _)) if refusals.len() == copied.len() => refusals,
            Ok((other, _)) => vec![Some(unexpected(&other)); copied.len()],
            Err(errno) => vec![Some(errno); copied.len()],
        };
        for (Copied { task, staged, bytes }, refusal) in copied.into_iter().zip(refusals) {
            self.window.give_file();
            match refusal {
                None => self.finished(&task.name(), &task.target(), bytes),
                Some(errno) => {
                    self.discard(&task.to, &staged);
                    let cause = if errno == Errno::EEXIST { Cause::Exists } else { errno.into() };
                    self.fail(&task.failed_there(cause));
                }
            }
        }
    }
}

fn copy_range(source: &Opened, target: &Opened, offset: u64, length: u64) -> Request {
    let (from, to) = (source.fh, target.fh);
    Request::CopyRange { from, from_offset: offset, to, to_offset: offset, length }
}

/// Some that come soon one after the other; `None` when there will be no more.
fn some_of(copied: &Mutex<Receiver<Copied>>) -> Option<Vec<Copied>> {
    let copied = copied.lock();
    let mut some = vec![copied.recv().ok()?];
    while some.len() < PUBLISHED_MAX {
        match copied.recv_timeout(PUBLISH_AFTER) {
            Ok(next) => some.push(next),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Some(some)
}
