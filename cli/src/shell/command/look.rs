//! What is known of files and of the space they take: `size`, `stat`, `du`, `df`.

use std::ffi::OsString;

use clap::Args;
use nearfs_client::remote::path::printable;
use nearfs_client::remote::{Follow, RemotePath};
use nearfs_protocol::attr::{Attr, FileKind};
use serde_json::json;

use crate::shell::command::list;
use crate::shell::failure::{Failure, Tally};
use crate::shell::output::{count, joined, kind_word, mode_word, moment, path_fields, size, timestamp};
use crate::shell::state::Shell;
use crate::shell::tree::{self, Event, Go};

/// Bytes of a unit of `blocks`.
const BLOCK_BYTES: u64 = 512;

/// Tells how large files are
#[derive(Args, Debug)]
pub(crate) struct SizeOptions {
    /// Which
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,
}

/// Tells all attributes
#[derive(Args, Debug)]
pub(crate) struct StatOptions {
    /// Of what
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,
    /// Of what a symbolic link points to
    #[arg(short = 'L', long)]
    dereference: bool,
}

/// Tells how much space trees take
#[derive(Args, Debug)]
pub(crate) struct DuOptions {
    /// Which; where one is if there is none
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Also each directory down to this depth
    #[arg(short = 'd', long, value_name = "N", default_value_t = 0)]
    depth: usize,
}

/// Tells how much space is left
#[derive(Args, Debug)]
pub(crate) struct DfOptions {
    /// Where; where one is if there is nothing
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
}

/// Does something for each path, and tells of those that fail.
fn each(
    shell: &mut Shell,
    paths: &[RemotePath],
    mut what: impl FnMut(&mut Shell, &RemotePath, &mut Tally) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut tally = Tally::default();
    for path in paths {
        match what(shell, path, &mut tally) {
            Ok(()) => tally.done(),
            Err(failure) => shell.told(&mut tally, path, failure)?,
        }
    }
    tally.finish()
}

pub(crate) fn file_size(shell: &mut Shell, options: &SizeOptions) -> Result<(), Failure> {
    let paths = shell.remote_paths(&options.paths)?;
    each(shell, &paths, |shell, path, _| {
        let attr = shell.remote()?.stat(path, Follow::Yes)?;
        if attr.kind == FileKind::Directory {
            return Err(Failure::Refused(format!("{path} is a directory; du tells what is in it")));
        }
        shell.out.object(&joined(path_fields(&path.to_bytes()), json!({ "size": attr.size })))?;
        shell.out.line(&format!("{path}: {} ({} bytes)", size(attr.size), attr.size))
    })
}

pub(crate) fn stat(shell: &mut Shell, options: &StatOptions) -> Result<(), Failure> {
    let paths = shell.remote_paths(&options.paths)?;
    let follow = if options.dereference { Follow::Yes } else { Follow::No };
    each(shell, &paths, |shell, path, _| {
        let remote = shell.remote()?;
        let attr = remote.stat(path, follow)?;
        let is_link = attr.kind == FileKind::Symlink;
        let target = if is_link { Some(remote.read_link(path)?) } else { None };
        let more = json!({
            "ino": attr.node.id.0,
            "rdev": attr.rdev,
            "blocks": attr.blocks,
            "atime": timestamp(attr.atime),
            "ctime": timestamp(attr.ctime),
            "btime": attr.btime.map(timestamp),
        });
        shell.out.object(&joined(list::object(path, &attr, target.as_deref()), more))?;
        let arrow = target.map(|target| format!(" -> {}", printable(&target))).unwrap_or_default();
        let kind = kind_word(attr.kind);
        let mut lines = vec![
            format!("{path}{arrow}"),
            format!(
                "  kind      {kind}, node {}, {}",
                attr.node.id.0,
                count(attr.nlink.into(), "name", "names")
            ),
            format!("  size      {} ({} bytes)", size(attr.size), attr.size),
            format!("  on disk   {}", size(attr.blocks.saturating_mul(BLOCK_BYTES))),
            format!(
                "  rights    {} ({:04o}), uid {}, gid {}",
                mode_word(attr.kind, attr.mode),
                attr.mode,
                attr.uid,
                attr.gid
            ),
            format!("  modified  {}", moment(attr.mtime)),
            format!("  changed   {}", moment(attr.ctime)),
            format!("  read      {}", moment(attr.atime)),
        ];
        if let Some(born) = attr.btime {
            lines.push(format!("  made      {}", moment(born)));
        }
        lines.iter().try_for_each(|line| shell.out.line(line))
    })
}

/// What a tree comes to.
#[derive(Clone, Copy, Default)]
struct Usage {
    disk_bytes: u64,
    bytes: u64,
    files: u64,
    directories: u64,
}

impl Usage {
    fn add(&mut self, attr: &Attr) {
        self.disk_bytes = self.disk_bytes.saturating_add(attr.blocks.saturating_mul(BLOCK_BYTES));
        if attr.kind == FileKind::Directory {
            self.directories += 1;
        } else {
            self.files += 1;
            self.bytes = self.bytes.saturating_add(attr.size);
        }
    }

    fn take_in(&mut self, other: Usage) {
        self.disk_bytes = self.disk_bytes.saturating_add(other.disk_bytes);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.files += other.files;
        self.directories += other.directories;
    }
}

pub(crate) fn du(shell: &mut Shell, options: &DuOptions) -> Result<(), Failure> {
    let paths = shell.remote_paths_or_place(&options.paths)?;
    each(shell, &paths, |shell, path, tally| {
        let remote = shell.remote()?;
        let top = remote.find(path, Follow::No)?;
        let is_file = top.attr.kind != FileKind::Directory;
        let mut levels = vec![Usage::default()];
        tree::walk(&remote, top, path, &mut |event| {
            shell.go_on()?;
            match event {
                Event::Entry { found, .. } if found.attr.kind == FileKind::Directory => {
                    let mut usage = Usage::default();
                    usage.add(&found.attr);
                    levels.push(usage);
                }
                Event::Entry { found, .. } => {
                    levels.iter_mut().rev().take(1).for_each(|usage| usage.add(&found.attr))
                }
                Event::Left { path, depth, .. } => {
                    let usage = levels.pop().unwrap_or_default();
                    levels.iter_mut().rev().take(1).for_each(|above| above.take_in(usage));
                    if depth <= options.depth {
                        tell_usage(shell, path, usage)?;
                    }
                }
                Event::Unreadable { path, error } => shell.told(tally, path, error.into())?,
            }
            Ok(Go::In)
        })?;
        match levels.first() {
            Some(usage) if is_file => tell_usage(shell, path, *usage),
            Some(_) | None => Ok(()),
        }
    })
}

fn tell_usage(shell: &mut Shell, path: &RemotePath, usage: Usage) -> Result<(), Failure> {
    let Usage { disk_bytes, bytes, files, directories } = usage;
    let object =
        json!({ "disk_bytes": disk_bytes, "bytes": bytes, "files": files, "directories": directories });
    shell.out.object(&joined(path_fields(&path.to_bytes()), object))?;
    let (files, directories) =
        (count(files, "file", "files"), count(directories, "directory", "directories"));
    let sum = format!("{files} of {} in {directories}", size(bytes));
    shell.out.line(&format!("{:>11}  {path}  ({sum})", size(disk_bytes)))
}

pub(crate) fn df(shell: &mut Shell, options: &DfOptions) -> Result<(), Failure> {
    let paths = shell.remote_paths_or_place(&options.paths)?;
    shell.out.line("      total        used        free    used  of")?;
    each(shell, &paths, |shell, path, _| {
        let figures = shell.remote()?.stat_fs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(figures.block_bytes.into());
        let used = figures.blocks.saturating_sub(figures.blocks_free);
        let usable = used.saturating_add(figures.blocks_available);
        let percent = used.saturating_mul(100).checked_div(usable).unwrap_or(0);
        let (total, used, free) = (bytes(figures.blocks), bytes(used), bytes(figures.blocks_available));
        let object = json!({
            "total": total,
            "used": used,
            "free": free,
            "files": figures.files,
            "files_free": figures.files_free,
        });
        shell.out.object(&joined(path_fields(&path.to_bytes()), object))?;
        shell.out.line(&format!(
            "{:>11} {:>11} {:>11} {percent:>6}%  {path}",
            size(total),
            size(used),
            size(free)
        ))
    })
}
