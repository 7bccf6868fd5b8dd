//! `rm` and `rmdir`.

use std::ffi::OsString;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use clap::Args;
use nearfs_client::cancel::Cancel;
use nearfs_client::remote::{Follow, Found, Listed, Patience, Reason, Remote, RemoteError, RemotePath};
use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::Request;
use nearfs_protocol::name::Name;
use nearfs_protocol::roster::TransferKind;
use parking_lot::Mutex;
use serde_json::json;

use crate::shell::command::announce;
use crate::shell::failure::{Failure, Tally, go_on};
use crate::shell::output::{Kind, Output, count, joined, kind_word, path_fields, size};
use crate::shell::state::{Answer, Shell};
use crate::shell::together::{NAMES_AT_ONCE, Together, Touched, at_once};

/// How often a directory is looked through for what was made in it meanwhile.
const ROUNDS_MAX: usize = 4;
/// Directories of a tree that are emptied at once.
const EMPTIED_AT_ONCE: usize = 16;
/// Deepest tree that is removed: each level is one that is being listed.
const DEPTH_MAX: usize = 512;

/// Removes files, and whole trees with -r; asks before on a terminal
#[derive(Args, Debug)]
pub(crate) struct RmOptions {
    /// What to remove
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,
    /// Do not ask, and let what is missing be
    #[arg(short, long)]
    force: bool,
    /// Remove directories and all that is in them
    #[arg(short, long, visible_short_alias = 'R')]
    recursive: bool,
    /// Only tell what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Removes empty directories
#[derive(Args, Debug)]
pub(crate) struct RmdirOptions {
    /// Which
    #[arg(value_name = "DIRECTORY", required = true)]
    pub(crate) paths: Vec<OsString>,
}

/// What was removed.
#[derive(Default)]
struct Removed {
    files: u64,
    directories: u64,
    bytes: u64,
}

/// A tree that is being removed.
struct Removal<'a> {
    remote: &'a Remote,
    cancel: &'a Cancel,
    /// Threads that may still be taken.
    free_threads: AtomicUsize,
    removed: Mutex<Removed>,
}

pub(crate) fn rm(shell: &mut Shell, options: &RmOptions) -> Result<(), Failure> {
    let mut tally = Tally::default();
    let mut asks = shell.is_interactive && !shell.out.is_json && !options.force && !options.dry_run;
    let paths = match shell.remote_paths(&options.paths) {
        Err(Failure::Missing(_)) if options.force => return Ok(()),
        paths => paths?,
    };
    let remote = shell.remote()?;
    let mut names = Together::new(&paths);
    loop {
        // Whoever is asked about a name sees it as it is then.
        let most = if asks { 1 } else { NAMES_AT_ONCE };
        let look = |path: &RemotePath| look(&remote, options, path);
        let some = names.next(most, look, |path, found| touched(options, path, found));
        match &some[..] {
            [] => return tally.finish(),
            [(path, Ok(found))] if asks && !confirmed(shell, path, found, &mut asks)? => tally.done(),
            [(path, Ok(found))] if is_tree(found) && !options.dry_run => {
                match remove_dir(shell, &remote, found.clone(), path) {
                    Ok(()) => tally.done(),
                    Err(failure) => shell.told(&mut tally, path, failure)?,
                }
            }
            _ => {
                let outcomes = at_once(some, |(path, found)| (path, remove(&remote, options, path, found)));
                shell.tell_all(&mut tally, outcomes, |out, path, attr| match attr {
                    Some(attr) => tell_removed(out, options, path, &attr),
                    None => Ok(()),
                })?;
            }
        }
    }
}

/// Looks at what is to be removed; a failure says why it is not.
fn look(remote: &Remote, options: &RmOptions, path: &RemotePath) -> Result<Found, Failure> {
    let found = remote.find(path, Follow::No)?;
    if path.name().is_none() {
        return Err(Failure::Refused("/ is the share itself, which cannot be removed".into()));
    }
    if is_tree(&found) && !options.recursive {
        return Err(Failure::Refused(format!("{path} is a directory; use rm -r, or rmdir if it is empty")));
    }
    Ok(found)
}

fn is_tree(found: &Found) -> bool {
    found.attr.kind == FileKind::Directory
}

fn touched(options: &RmOptions, path: &RemotePath, found: &Result<Found, Failure>) -> Touched {
    match found {
        _ if options.dry_run => Touched::default(),
        // Its own names go together, and the server counts them for it.
        Ok(found) if is_tree(found) => Touched::everything(),
        Ok(found) => Touched {
            paths: vec![path.clone(), found.path.clone()],
            changes_ways: found.attr.kind == FileKind::Symlink,
            follows_links: found.path != *path,
        },
        Err(_) => Touched { paths: vec![path.clone()], follows_links: true, ..Touched::default() },
    }
}

/// Asks the person whether it shall go.
fn confirmed(shell: &mut Shell, path: &RemotePath, found: &Found, asks: &mut bool) -> Result<bool, Failure> {
    match shell.confirm(&format!("remove {}?", description(path, &found.attr)))? {
        Answer::Yes => {}
        Answer::All => *asks = false,
        Answer::No => {
            shell.out.say(Kind::Note, &format!("kept {path}"))?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes what is no directory, unless that is only to be told. `None` if it is missing, and that is fine.
fn remove(
    remote: &Remote,
    options: &RmOptions,
    path: &RemotePath,
    found: Result<Found, Failure>,
) -> Result<Option<Attr>, Failure> {
    let removed = found.and_then(|found| {
        if !options.dry_run {
            let announced = announce::announce(remote, TransferKind::Delete, path)?;
            announce::end(announced, remote.remove_file(path).map_err(Failure::from))?;
        }
        Ok(Some(found.attr))
    });
    match removed {
        Err(Failure::Remote(error)) if options.force && error.errno() == Errno::ENOENT => Ok(None),
        removed => removed.map_err(|failure| announce::explained(remote, failure)),
    }
}

fn tell_removed(
    out: &mut Output,
    options: &RmOptions,
    path: &RemotePath,
    attr: &Attr,
) -> Result<(), Failure> {
    let (what, bytes) = (description(path, attr), attr.size);
    let (object, kind, text) = if options.dry_run {
        let object = json!({ "would_remove": true, "kind": kind_word(attr.kind), "bytes": bytes });
        (object, Kind::Plain, format!("would remove {what}"))
    } else {
        (json!({ "removed": 1, "bytes": bytes }), Kind::Done, format!("removed {what}"))
    };
    out.object(&joined(path_fields(&path.to_bytes()), object))?;
    out.say(kind, &text)
}

/// Removes a directory with all that is in it, and tells of it.
fn remove_dir(shell: &mut Shell, remote: &Remote, found: Found, path: &RemotePath) -> Result<(), Failure> {
    let announced = announce::announce(remote, TransferKind::Delete, path)?;
    let removal = Removal {
        remote,
        cancel: &shell.cancel,
        free_threads: AtomicUsize::new(EMPTIED_AT_ONCE),
        removed: Mutex::default(),
    };
    let result = announce::end(announced, removal.tree(found, path, 0));
    let Removed { files, directories, bytes } = removal.removed.into_inner();
    let object = json!({ "removed": files + directories, "bytes": bytes, "complete": result.is_ok() });
    shell.out.object(&joined(path_fields(&path.to_bytes()), object))?;
    let files = count(files, "file", "files");
    let directories = count(directories, "directory", "directories");
    let sum = format!("{directories} and {files}, {}", size(bytes));
    if result.is_err() {
        shell.out.say(Kind::Note, &format!("removed only a part of {path}: {sum}"))?;
    } else {
        shell.out.say(Kind::Done, &format!("removed {path}: {sum}"))?;
    }
    result
}

/// A target with its size, or what it is instead of a file.
fn description(path: &RemotePath, attr: &Attr) -> String {
    match attr.kind {
        FileKind::File => format!("{path} ({})", size(attr.size)),
        FileKind::Directory => format!("the directory {path} and all that is in it"),
        FileKind::Symlink => format!("the symbolic link {path}"),
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
            format!("{path} ({})", kind_word(attr.kind))
        }
    }
}

impl Removal<'_> {
    /// Removes what is in a directory, all names of a piece at once, and then the directory. The first error is
    /// returned after everything else was tried.
    fn tree(&self, directory: Found, path: &RemotePath, depth: usize) -> Result<(), Failure> {
        if depth > DEPTH_MAX {
            return Err(RemoteError::new(path, Reason::TooDeep(DEPTH_MAX)).into());
        }
        let mut failure = None;
        for round in 0..ROUNDS_MAX {
            for piece in self.remote.list_found(directory.clone(), path) {
                go_on(self.cancel)?;
                let (directories, files): (Vec<_>, Vec<_>) =
                    piece?.into_iter().partition(|listed| listed.kind == Some(FileKind::Directory));
                let files = files.into_iter().map(|listed| (listed.name, listed.attr)).collect();
                if let Err(error) = self.files(&directory, path, files) {
                    failure.get_or_insert(Failure::from(error));
                }
                let found = |listed: Listed| {
                    let path = path.child(listed.name.clone());
                    Some((listed.into_found(&directory)?, path))
                };
                match self.trees(directories.into_iter().filter_map(found).collect(), depth + 1) {
                    Err(error) if error.ends_all() => return Err(error),
                    Err(error) => drop(failure.get_or_insert(error)),
                    Ok(()) => {}
                }
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
            match self.remote.remove_dir(path) {
                Ok(()) => break,
                // Somebody is at work in it, or the file system did not list all while it was changed.
                Err(error) if error.errno() == Errno::ENOTEMPTY && round + 1 < ROUNDS_MAX => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.removed.lock().directories += 1;
        Ok(())
    }

    /// Removes several trees, as many at once as there are threads for.
    fn trees(&self, trees: Vec<(Found, RemotePath)>, depth: usize) -> Result<(), Failure> {
        let mut first = Ok(());
        let mut trees = trees.into_iter();
        while trees.len() > 0 {
            go_on(self.cancel)?;
            let threads = self.take_threads(trees.len());
            let some = trees.by_ref().take(threads.max(1)).collect();
            let outcomes = at_once(some, |(found, path)| self.tree(found, &path, depth));
            self.free_threads.fetch_add(threads, Ordering::Relaxed);
            for outcome in outcomes {
                match outcome {
                    Err(error) if error.ends_all() => return Err(error),
                    outcome => first = first.and(outcome),
                }
            }
        }
        first
    }

    /// As many threads as are wanted, or as there are. Who wants one thread has his own.
    fn take_threads(&self, wanted: usize) -> usize {
        let mut taken = 0;
        let take = |free: usize| {
            taken = if wanted > 1 { wanted.min(free) } else { 0 };
            Some(free - taken)
        };
        // It always takes, if only none.
        let _ = self.free_threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken
    }

    /// Removes many names of one directory without a round trip for each.
    fn files(
        &self,
        directory: &Found,
        path: &RemotePath,
        files: Vec<(Name, Option<Attr>)>,
    ) -> Result<(), RemoteError> {
        let (tell, told) = mpsc::channel();
        let (session, parent) = (&directory.session, directory.node.node());
        for (at, (name, _)) in files.iter().enumerate() {
            let tell = tell.clone();
            let request = Request::Unlink { parent, name: name.clone() };
            session.start(request, None, Patience::Bounded, move |outcome| {
                // Nobody listens any more when the command was ended.
                let _ = tell.send((at, outcome.map(drop)));
            });
        }
        drop(tell);
        let mut first = Ok(());
        for (at, outcome) in told {
            let (name, attr) = &files[at];
            match outcome {
                // Somebody else was faster.
                Ok(()) | Err(Errno::ENOENT) => {
                    let bytes = attr.filter(|attr| attr.kind == FileKind::File).map_or(0, |attr| attr.size);
                    let mut removed = self.removed.lock();
                    removed.files += 1;
                    removed.bytes += bytes;
                }
                Err(errno) if first.is_ok() => {
                    first = Err(RemoteError::new(&path.child(name.clone()), errno));
                }
                Err(_) => {}
            }
        }
        first
    }
}

pub(crate) fn rmdir(shell: &mut Shell, options: &RmdirOptions) -> Result<(), Failure> {
    let mut tally = Tally::default();
    for path in &shell.remote_paths(&options.paths)? {
        match shell.remote()?.remove_dir(path) {
            Ok(()) => {
                tally.done();
                shell.out.object(&joined(path_fields(&path.to_bytes()), json!({ "removed": 1 })))?;
                shell.out.say(Kind::Done, &format!("removed the empty directory {path}"))?;
            }
            Err(error) => {
                let failure = match error.errno() {
                    Errno::ENOTEMPTY => {
                        Failure::Refused(format!("{path} is not empty; use rm -r to remove all in it"))
                    }
                    Errno::ENOTDIR => not_a_directory(shell, path, error),
                    Errno::EBUSY if path.name().is_none() => {
                        Failure::Refused("/ is the share itself, which cannot be removed".into())
                    }
                    _ => error.into(),
                };
                shell.told(&mut tally, path, failure)?;
            }
        }
    }
    tally.finish()
}

/// A file in its place, and a file on the way to it, are told apart.
fn not_a_directory(shell: &Shell, path: &RemotePath, error: RemoteError) -> Failure {
    match shell.remote().map(|remote| remote.stat(path, Follow::No)) {
        Ok(Ok(_)) => Failure::Refused(format!("{path} is a file, not a directory; use rm")),
        Ok(Err(_)) | Err(_) => error.into(),
    }
}
