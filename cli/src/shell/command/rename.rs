//! `mv`: another name, or another directory.

use std::ffi::OsString;

use clap::Args;
use nearfs_client::remote::{Follow, Found, Remote, RemoteError, RemotePath};
use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::RenameMode;
use nearfs_protocol::roster::TransferKind;
use serde_json::json;

use crate::shell::command::announce;
use crate::shell::failure::{Failure, Tally};
use crate::shell::output::{Kind, Output, joined, size, text_fields};
use crate::shell::state::Shell;
use crate::shell::together::{NAMES_AT_ONCE, Together, Touched, at_once};

/// Renames, or moves into a directory
#[derive(Args, Debug)]
pub(crate) struct MvOptions {
    /// What to move, and last where to: a new name, or a directory
    #[arg(value_name = "PATH", num_args = 2.., required = true)]
    pub(crate) paths: Vec<OsString>,
    /// Replace what has the new name
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn mv(shell: &mut Shell, options: &MvOptions) -> Result<(), Failure> {
    let Some((target, sources)) = options.paths.split_last() else {
        return Err(Failure::Usage("mv what, and where to?".into()));
    };
    let sources = shell.remote_paths(sources)?;
    let remote = shell.remote()?;
    let target = match &shell.remote_paths(std::slice::from_ref(target))?[..] {
        [one] => one.clone(),
        _ => return Err(Failure::Usage("mv goes to one place".into())),
    };
    let there = remote.find_if_there(&target, Follow::Yes)?;
    let directory = there.as_ref().filter(|found| found.attr.kind == FileKind::Directory);
    if sources.len() > 1 && directory.is_none() {
        let why = if there.is_some() { "is no directory" } else { "does not exist" };
        return Err(Failure::Refused(format!("several things go only into a directory, and {target} {why}")));
    }
    // Where a source goes, as it was written and where that really is.
    let places = |source: &RemotePath| match (source.name(), directory) {
        (Some(name), Some(found)) if *source != target => {
            (target.child(name.clone()), found.path.child(name.clone()))
        }
        (Some(_) | None, _) => (target.clone(), target.clone()),
    };
    let touched = |source: &RemotePath, found: &Result<Found, Failure>| {
        let ((to, place), found) = (places(source), found.as_ref().ok());
        let is_followed = |found: &Found| found.path != *source || place != to;
        Touched {
            // What is replaced may be a link.
            changes_ways: options.force || found.is_some_and(may_be_passed),
            follows_links: found.is_none_or(is_followed),
            paths: found
                .map(|found| found.path.clone())
                .into_iter()
                .chain([source.clone(), to, place])
                .collect(),
        }
    };
    let mut tally = Tally::default();
    let mut names = Together::new(&sources);
    loop {
        let some = names.next(NAMES_AT_ONCE, |source| look(&remote, source), touched);
        if some.is_empty() {
            return tally.finish();
        }
        let outcomes = at_once(some, |(source, found)| {
            let (to, _) = places(source);
            let moved = found.and_then(|found| announced(&remote, found.attr, source, &to, options.force));
            (source, moved.map(|attr| (to, attr)).map_err(|failure| announce::explained(&remote, failure)))
        });
        shell
            .tell_all(&mut tally, outcomes, |out, source, (to, attr)| tell_moved(out, source, &to, &attr))?;
    }
}

/// Whether it may be on the way to something else.
fn may_be_passed(found: &Found) -> bool {
    matches!(found.attr.kind, FileKind::Directory | FileKind::Symlink)
}

fn tell_moved(out: &mut Output, source: &RemotePath, to: &RemotePath, attr: &Attr) -> Result<(), Failure> {
    let places = joined(text_fields("from", &source.to_bytes()), text_fields("to", &to.to_bytes()));
    out.object(&joined(places, json!({ "size": attr.size })))?;
    let what = match attr.kind {
        FileKind::File => format!(" ({})", size(attr.size)),
        FileKind::Directory => "/".to_owned(),
        FileKind::Symlink
        | FileKind::Fifo
        | FileKind::Socket
        | FileKind::CharDevice
        | FileKind::BlockDevice => String::new(),
    };
    out.say(Kind::Done, &format!("moved {source} to {to}{what}"))
}

/// Asked first, because the server's own word for a missing source and a missing directory is the same.
fn look(remote: &Remote, source: &RemotePath) -> Result<Found, Failure> {
    remote.find(source, Follow::No).map_err(|error| match error.errno() {
        Errno::ENOENT => match announce::on_its_way(remote, &error.path) {
            Some(busy) => Failure::Refused(format!("{source} is {busy}")),
            None => Failure::Missing(format!("{source} does not exist")),
        },
        _ => error.into(),
    })
}

/// Moves unless another shell is at the name.
fn announced(
    remote: &Remote,
    attr: Attr,
    source: &RemotePath,
    to: &RemotePath,
    force: bool,
) -> Result<Attr, Failure> {
    if source == to {
        return Err(Failure::Refused(format!("{source} is there already")));
    }
    if to.is_within(source) {
        return Err(Failure::Refused(format!("{source} cannot be moved into itself")));
    }
    let announced = announce::announce(remote, TransferKind::Rename, source)?;
    announce::end(announced, move_one(remote, source, to, force))?;
    Ok(attr)
}

fn move_one(remote: &Remote, source: &RemotePath, to: &RemotePath, force: bool) -> Result<(), Failure> {
    let mode = if force { RenameMode::Replace } else { RenameMode::NoReplace };
    match remote.rename(source, to, mode) {
        Ok(()) => Ok(()),
        // Not every file system can refuse to replace: then it is looked at before.
        Err(error) if !force && matches!(error.errno(), Errno::EINVAL | Errno::EOPNOTSUPP) => {
            if remote.stat_if_there(to, Follow::No)?.is_some() {
                return Err(exists(to));
            }
            Ok(remote.rename(source, to, RenameMode::Replace)?)
        }
        Err(error) => Err(explain(error, source, to)),
    }
}

fn exists(to: &RemotePath) -> Failure {
    Failure::Refused(format!("{to} exists already; mv -f replaces it"))
}

fn explain(error: RemoteError, source: &RemotePath, to: &RemotePath) -> Failure {
    match error.errno() {
        Errno::EEXIST => exists(to),
        Errno::ENOTEMPTY => Failure::Refused(format!("{to} is a directory that is not empty")),
        Errno::EISDIR => Failure::Refused(format!("{to} is a directory and {source} is none")),
        // The source was there a moment ago.
        Errno::ENOENT => Failure::Missing(format!("the directory of {to} does not exist")),
        Errno::ENOTDIR => Failure::Refused(format!("{to} is no directory, or is not in one")),
        Errno::EBUSY => Failure::Refused("/ is the share itself, which cannot be moved".into()),
        _ => error.into(),
    }
}
