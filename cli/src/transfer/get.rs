//! `get`: files from the server.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nearfs_client::remote::{Follow, RemotePath};
use nearfs_protocol::attr::FileKind;
use nearfs_protocol::roster::TransferKind;
use nearfs_transport::address::Source;

use crate::shell::failure::Failure;
use crate::shell::output::shown;
use crate::shell::state::{Answer, Shell};
use crate::transfer::options::{FEW, TransferOptions, only_into_directory};
use crate::transfer::run::{Announcement, Brought, run};

/// Downloads files and directories
#[derive(Args, Debug)]
pub(crate) struct GetOptions {
    /// What to download; with more than one argument, last where to: a new name, or a directory
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) transfer: TransferOptions,
}

impl GetOptions {
    /// Those of its arguments that name files of the server, where a program gets them: a last one that is no source is
    /// where to.
    pub(crate) fn source_arguments(&mut self) -> &mut [OsString] {
        let count = self.paths.len();
        let is_target = |last: &OsStr| last.to_str().is_none_or(|text| text.parse::<Source>().is_err());
        let sources = if count > 1 && self.paths.last().is_some_and(|last| is_target(last)) {
            count - 1
        } else {
            count
        };
        &mut self.paths[..sources]
    }
}

pub(crate) fn get(shell: &mut Shell, options: &GetOptions, resume: bool) -> Result<(), Failure> {
    let (sources, target) = match options.paths.split_last() {
        Some((target, sources)) if !sources.is_empty() => (sources, Some(shell.local_path(target))),
        Some(_) | None => (&options.paths[..], None),
    };
    let sources = shell.remote_paths(sources)?;
    let base = target.unwrap_or_else(|| PathBuf::from("."));
    let is_directory = base.is_dir() || base.as_os_str().as_bytes().ends_with(b"/");
    only_into_directory(&shown(&base), sources.len(), base.exists() && !is_directory)?;
    let into = is_directory || sources.len() > 1 || options.transfer.parents;
    let mut jobs = Vec::new();
    for source in sources {
        let to = if into { inside(&base, &source, options.transfer.parents) } else { base.clone() };
        let to = free_name(shell, &source, to, &options.transfer)?;
        jobs.push((source, to));
    }
    let remote = shell.remote()?;
    let mut announcements = Vec::new();
    for (source, _) in &jobs {
        // What is told of many is not worth a round trip for each.
        let attr = if jobs.len() > FEW { None } else { Some(remote.stat(source, Follow::Yes)?) };
        let bytes = attr.filter(|attr| attr.kind == FileKind::File).map_or(0, |attr| attr.size);
        announcements.push(Announcement { kind: TransferKind::Download, path: source.clone(), bytes });
    }
    let transfer_options = options.transfer.options(remote.current().umask(), resume);
    let target = match &jobs[..] {
        [(_, to)] => to,
        _ => &base,
    };
    // The whole path, which needs no directory that is still there.
    let target = std::path::absolute(target).map_or_else(|_| shown(target), |whole| shown(&whole));
    let telling = Brought { target };
    run(shell, &options.transfer.pace, transfer_options, &announcements, &telling, |transfer| {
        transfer.download(&jobs);
    })
}

/// Where something goes in a directory.
fn inside(directory: &Path, source: &RemotePath, keep_path: bool) -> PathBuf {
    let mut to = directory.to_owned();
    let names = source.names();
    let kept = if keep_path { names } else { &names[names.len().saturating_sub(1)..] };
    for name in kept {
        to.push(OsStr::from_bytes(name.as_bytes()));
    }
    to
}

/// The target, or another name if that one is taken and the person agrees.
fn free_name(
    shell: &mut Shell,
    source: &RemotePath,
    to: PathBuf,
    options: &TransferOptions,
) -> Result<PathBuf, Failure> {
    if !to.exists() || to.is_dir() {
        return Ok(to);
    }
    let attr = shell.remote()?.stat(source, Follow::Yes)?;
    if attr.kind == FileKind::Directory {
        return Err(Failure::Refused(format!("{} is a file, and {source} is a directory", shown(&to))));
    }
    if options.force {
        return Ok(to);
    }
    let numbered = (1..1000).map(|number| {
        let mut name = to.clone().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    });
    let Some(free) = numbered.into_iter().find(|path| path.symlink_metadata().is_err()) else {
        return Ok(to);
    };
    let question = format!("{} already exists; save as {}?", shown(&to), shown(&free));
    if shell.is_interactive && !shell.out.is_json && shell.confirm(&question)? != Answer::No {
        return Ok(free);
    }
    Err(Failure::Refused(format!(
        "{} already exists; -f replaces it, and {} is free",
        shown(&to),
        shown(&free)
    )))
}
