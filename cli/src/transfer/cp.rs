//! `cp`: copies on the server, from one place of it to another.

use std::ffi::OsString;

use clap::Args;
use nearfs_client::remote::Follow;
use nearfs_client::transfer::Options;
use nearfs_protocol::attr::FileKind;
use nearfs_protocol::roster::TransferKind;

use crate::shell::failure::Failure;
use crate::shell::state::Shell;
use crate::transfer::options::PaceOptions;
use crate::transfer::run::{Announcement, Brought, run};

/// Copies within the server: the content does not pass through this machine
#[derive(Args, Debug)]
pub(crate) struct CpOptions {
    /// What to copy, and last where to: a new name, or a directory
    #[arg(value_name = "PATH", num_args = 2.., required = true)]
    pub(crate) paths: Vec<OsString>,
    /// Copy directories with all that is in them
    #[arg(short, long, visible_short_alias = 'R')]
    recursive: bool,
    /// Keep modes, times and symbolic links, and copy directories
    #[arg(short, long)]
    archive: bool,
    /// Replace what has the target's name
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    pub(crate) pace: PaceOptions,
}

pub(crate) fn cp(shell: &mut Shell, options: &CpOptions) -> Result<(), Failure> {
    let Some((target, sources)) = options.paths.split_last() else {
        return Err(Failure::Usage("cp what, and where to?".into()));
    };
    let sources = shell.remote_paths(sources)?;
    let remote = shell.remote()?;
    let target = match &shell.remote_paths(std::slice::from_ref(target))?[..] {
        [one] => one.clone(),
        _ => return Err(Failure::Usage("cp goes to one place".into())),
    };
    let there = remote.stat_if_there(&target, Follow::Yes)?;
    let is_directory = there.as_ref().is_some_and(|attr| attr.kind == FileKind::Directory);
    if sources.len() > 1 && !is_directory {
        let why = if there.is_some() { "is no directory" } else { "does not exist" };
        return Err(Failure::Refused(format!("several things go only into a directory, and {target} {why}")));
    }
    // What is told of many is not worth a round trip for each.
    let bytes = match &sources[..] {
        [one] => Some(remote.stat(one, if options.archive { Follow::No } else { Follow::Yes })?),
        _ => None,
    };
    let bytes = bytes.filter(|attr| attr.kind == FileKind::File).map_or(0, |attr| attr.size);
    let (mut jobs, mut announcements) = (Vec::new(), Vec::new());
    for source in sources {
        let to = match source.name() {
            Some(name) if is_directory => target.child(name.clone()),
            Some(_) | None => target.clone(),
        };
        announcements.push(Announcement { kind: TransferKind::Upload, path: to.clone(), bytes });
        jobs.push((source, to));
    }
    let is_recursive = options.recursive || options.archive;
    let how = Options {
        overwrite: options.force,
        archive: options.archive,
        make_parents: false,
        rate_limit: options.pace.limit_rate,
        umask: remote.current().umask(),
        ..Options::default()
    };
    let to = match &jobs[..] {
        [(_, to)] => to,
        _ => &target,
    };
    let telling = Brought { target: to.to_string() };
    run(shell, &options.pace, how, &announcements, &telling, |transfer| {
        transfer.copy(&jobs, is_recursive);
    })
}
