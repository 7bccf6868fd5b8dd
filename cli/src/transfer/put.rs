//! `put`: files to the server.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use clap::Args;
use nearfs_client::remote::{Follow, Remote, RemotePath};
use nearfs_protocol::attr::FileKind;
use nearfs_protocol::name::Name;
use nearfs_protocol::roster::TransferKind;

use crate::shell::failure::Failure;
use crate::shell::output::shown;
use crate::shell::state::{Answer, Shell};
use crate::transfer::options::{FEW, TransferOptions, only_into_directory};
use crate::transfer::run::{Announcement, Brought, run};

/// Names of a directory that are looked at before many are put into it.
const NAMES_THERE_MAX: usize = 20_000;

/// Uploads files and directories
#[derive(Args, Debug)]
pub(crate) struct PutOptions {
    /// What to upload; with more than one argument, last where to: a new name, or a directory
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) transfer: TransferOptions,
}

impl PutOptions {
    /// The argument that names the server, where a program gets it.
    pub(crate) fn source_arguments(&mut self) -> &mut [OsString] {
        let last = self.paths.len().saturating_sub(1);
        &mut self.paths[last..]
    }
}

pub(crate) fn put(shell: &mut Shell, options: &PutOptions, resume: bool) -> Result<(), Failure> {
    let (sources, target) = match options.paths.split_last() {
        Some((target, sources)) if !sources.is_empty() => (sources, Some(target)),
        Some(_) | None => (&options.paths[..], None),
    };
    if shell.is_one_shot && target.is_none() {
        return Err(Failure::Usage("put what, and where to?".into()));
    }
    let sources = shell.local_paths(sources)?;
    let remote = shell.remote()?;
    let base = match target {
        Some(target) => shell.remote_path(target)?,
        None => shell.place()?,
    };
    let there = remote.stat_if_there(&base, Follow::Yes)?;
    let is_directory = there.as_ref().is_some_and(|attr| attr.kind == FileKind::Directory)
        || target.is_some_and(|target| target.as_bytes().ends_with(b"/"));
    only_into_directory(&base.to_string(), sources.len(), there.is_some() && !is_directory)?;
    let into = is_directory || sources.len() > 1 || options.transfer.parents;
    let taken = if sources.len() > FEW && there.is_some() { names_there(&remote, &base)? } else { None };
    let mut jobs = Vec::new();
    for source in sources {
        let to = if into { inside(&base, &source, options.transfer.parents)? } else { base.clone() };
        let is_free = taken.as_ref().zip(to.name()).is_some_and(|(taken, name)| !taken.contains(name));
        let is_free = is_free && to.parent().as_ref() == Some(&base);
        let to = if is_free { to } else { free_name(shell, &source, to, &options.transfer)? };
        jobs.push((source, to));
    }
    let announcements: Vec<_> = jobs
        .iter()
        .map(|(source, to)| {
            let bytes =
                source.metadata().ok().filter(std::fs::Metadata::is_file).map_or(0, |file| file.len());
            Announcement { kind: TransferKind::Upload, path: to.clone(), bytes }
        })
        .collect();
    let transfer_options = options.transfer.options(remote.current().umask(), resume);
    let target = match &jobs[..] {
        [(_, to)] => to,
        _ => &base,
    };
    let telling = Brought { target: target.to_string() };
    run(shell, &options.transfer.pace, transfer_options, &announcements, &telling, |transfer| {
        transfer.upload(&jobs);
    })
}

/// What is in a directory into which many are put, asked for at once; `None` if there is more than they are worth.
fn names_there(remote: &Remote, directory: &RemotePath) -> Result<Option<HashSet<Name>>, Failure> {
    let mut names = HashSet::new();
    for piece in remote.list(directory)? {
        names.extend(piece?.into_iter().map(|listed| listed.name));
        if names.len() > NAMES_THERE_MAX {
            return Ok(None);
        }
    }
    Ok(Some(names))
}

/// Where something goes in a directory.
fn inside(directory: &RemotePath, source: &Path, keep_path: bool) -> Result<RemotePath, Failure> {
    let named = |name: &OsStr| {
        Name::new(name.as_bytes()).map_err(|error| Failure::Usage(format!("{}: {error}", shown(source))))
    };
    if keep_path {
        let names = source.components().filter_map(|component| match component {
            Component::Normal(name) => Some(named(name)),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
        });
        let mut to = directory.clone();
        for name in names {
            to = to.child(name?);
        }
        return Ok(to);
    }
    // "." and ".." have a name as well.
    let real = source.canonicalize().map_err(Failure::local(source))?;
    match source.file_name().or(real.file_name()) {
        Some(name) => Ok(directory.child(named(name)?)),
        None => Ok(directory.clone()),
    }
}

/// The target, or another name if that one is taken and the person agrees.
fn free_name(
    shell: &mut Shell,
    source: &Path,
    to: RemotePath,
    options: &TransferOptions,
) -> Result<RemotePath, Failure> {
    let remote = shell.remote()?;
    if options.force && !source.is_dir() {
        return Ok(to);
    }
    let Some(there) = remote.stat_if_there(&to, Follow::Yes)? else { return Ok(to) };
    if there.kind == FileKind::Directory {
        return Ok(to);
    }
    if source.is_dir() {
        return Err(Failure::Refused(format!("{to} is a file, and {} is a directory", shown(source))));
    }
    let (Some(parent), Some(name)) = (to.parent(), to.name()) else { return Ok(to) };
    let mut free = None;
    for number in 1..100 {
        let numbered = [name.as_bytes(), format!(".{number}").as_bytes()].concat();
        let Ok(numbered) = Name::new(&numbered) else { break };
        let path = parent.child(numbered);
        if remote.stat_if_there(&path, Follow::No)?.is_none() {
            free = Some(path);
            break;
        }
    }
    let Some(free) = free else { return Ok(to) };
    let question = format!("{to} already exists; save as {free}?");
    if shell.is_interactive && !shell.out.is_json && shell.confirm(&question)? != Answer::No {
        return Ok(free);
    }
    Err(Failure::Refused(format!("{to} already exists; -f replaces it, and {free} is free")))
}
