//! Removing whole trees of either side.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::Request;

use crate::remote::Patience;
use crate::transfer::failure::Failure;
use crate::transfer::side::Entry;
use crate::transfer::walk::walk;

/// Directories that are looked at or emptied at once.
const THREADS: usize = 16;
/// Names of a directory that are removed before more of them are listed.
const LISTED_MAX: usize = 10_000;

/// How many names these are, with all below them. `look` is asked about each directory, and ends all with an error.
pub(super) fn count(
    entries: Vec<Entry>,
    look: &(dyn Fn(&Entry) -> Result<(), Failure> + Sync),
) -> Result<u64, Failure> {
    let (total, failures) = (AtomicU64::new(0), parking_lot::Mutex::new(None));
    walk(THREADS, entries, |entry, found| {
        total.fetch_add(1, Ordering::Relaxed);
        if entry.kind() != FileKind::Directory || failures.lock().is_some() {
            return;
        }
        let counted = look(&entry).and_then(|()| entry.open_dir()).and_then(|dir| {
            dir.all(|entry| {
                // Only directories wait: a large one would have many names wait.
                if entry.kind() == FileKind::Directory {
                    found(entry);
                } else {
                    total.fetch_add(1, Ordering::Relaxed);
                }
                true
            })
        });
        if let Err(failure) = counted {
            failures.lock().get_or_insert(failure);
        }
    });
    failures.into_inner().map_or(Ok(total.into_inner()), Err)
}

/// Removes these with all below them, and tells of each that it is gone, or why not. `removed` hears of all names.
pub(super) fn remove(
    entries: Vec<Entry>,
    is_stopped: &(dyn Fn() -> bool + Sync),
    removed: &(dyn Fn(u64) + Sync),
    told: &(dyn Fn(&Entry, Result<(), Failure>) + Sync),
) {
    let (dirs, files): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| entry.kind() == FileKind::Directory);
    remove_files(&files, &|entry, outcome| {
        if outcome.is_ok() {
            removed(1);
        }
        told(entry, outcome);
    });
    walk(THREADS, dirs, |entry, _| {
        if !is_stopped() {
            told(&entry, remove_tree(&entry, is_stopped, removed));
        }
    });
}

fn remove_tree(entry: &Entry, is_stopped: &dyn Fn() -> bool, removed: &dyn Fn(u64)) -> Result<(), Failure> {
    while !remove_some(entry, is_stopped, removed)? {}
    entry.remove()?;
    removed(1);
    Ok(())
}

/// Removes the first names of a directory with all below them. Whether those were all.
fn remove_some(entry: &Entry, is_stopped: &dyn Fn() -> bool, removed: &dyn Fn(u64)) -> Result<bool, Failure> {
    let (mut dirs, mut files) = (Vec::new(), Vec::new());
    let mut are_all = true;
    entry.open_dir()?.all(|entry| {
        let some = if entry.kind() == FileKind::Directory { &mut dirs } else { &mut files };
        some.push(entry);
        are_all = dirs.len() + files.len() < LISTED_MAX;
        are_all && !is_stopped()
    })?;
    let first = RefCell::new(Ok(()));
    remove_files(&files, &|_, outcome| match outcome {
        Ok(()) => removed(1),
        Err(failure) => {
            let first = &mut *first.borrow_mut();
            if first.is_ok() {
                *first = Err(failure);
            }
        }
    });
    first.into_inner()?;
    for dir in &dirs {
        if is_stopped() {
            return Err(entry.failed(Errno::EINTR));
        }
        // As deep as the way to it, which is bounded.
        remove_tree(dir, is_stopped, removed)?;
    }
    Ok(are_all)
}

/// Removes many names, those of the server without a round trip for each.
fn remove_files(files: &[Entry], told: &dyn Fn(&Entry, Result<(), Failure>)) {
    let (tell, answers) = mpsc::channel();
    for (at, file) in files.iter().enumerate() {
        let (Entry::There { dir, name, .. }, tell) = (file, tell.clone()) else {
            told(file, file.remove());
            continue;
        };
        let request = Request::Unlink { parent: dir.node(), name: name.clone() };
        dir.session.start(request, None, Patience::Bounded, move |outcome| {
            // It is read until all are done.
            let _ = tell.send((at, outcome.map(drop)));
        });
    }
    drop(tell);
    for (at, outcome) in answers {
        let Some(file) = files.get(at) else { continue };
        match outcome {
            // Somebody else was faster.
            Ok(()) | Err(Errno::ENOENT) => told(file, Ok(())),
            Err(errno) => told(file, Err(file.failed(errno))),
        }
    }
}
