//! `ls`: what is in directories.

use std::cmp::Ordering;
use std::ffi::OsString;

use clap::{Args, ValueEnum};
use nearfs_client::remote::path::printable;
use nearfs_client::remote::{Follow, Found, Reason, Remote, RemoteError, RemotePath};
use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::name::Name;
use serde_json::{Value, json};

use crate::shell::failure::{Failure, Tally};
use crate::shell::output::{Kind, count, joined, kind_word, mode_word, moment, path_fields, size, timestamp};
use crate::shell::state::Shell;
use crate::shell::tree::{self, Event, Go};

/// Larger directories are listed in their own order: to sort them would take their size in memory.
pub(crate) const SORTED_ENTRIES_MAX: usize = 200_000;

/// Lists directories: names, sizes, and what it comes to
#[derive(Args, Debug)]
pub(crate) struct LsOptions {
    /// What to list; where one is if there is nothing
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// With type, permissions, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// Also names that begin with a dot
    #[arg(short, long)]
    all: bool,
    /// And all directories below
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Directories themselves, not what is in them
    #[arg(short, long)]
    directory: bool,
    /// In which order
    #[arg(long, value_enum, value_name = "ORDER", default_value_t = Order::Name)]
    sort: Order,
    /// The largest first
    #[arg(short = 'S', conflicts_with = "sort")]
    by_size: bool,
    /// The newest first
    #[arg(short = 't', conflicts_with_all = ["sort", "by_size"])]
    by_time: bool,
    /// The other way round
    #[arg(short, long)]
    reverse: bool,
    /// Sizes in bytes
    #[arg(short, long)]
    bytes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Name,
    Size,
    Time,
    /// By what stands behind the last dot
    Extension,
    /// The directory's own
    None,
}

/// What was listed so far.
#[derive(Default)]
struct Total {
    directories: u64,
    others: u64,
    bytes: u64,
}

struct Entry {
    name: Name,
    attr: Attr,
    /// What a symbolic link says.
    target: Option<Vec<u8>>,
}

impl LsOptions {
    fn order(&self) -> Order {
        match (self.by_size, self.by_time) {
            (true, _) => Order::Size,
            (false, true) => Order::Time,
            (false, false) => self.sort,
        }
    }
}

pub(crate) fn ls(shell: &mut Shell, options: &LsOptions) -> Result<(), Failure> {
    let paths = shell.remote_paths_or_place(&options.paths)?;
    let mut tally = Tally::default();
    let mut named = (paths.len() > 1).then(Total::default);
    for path in &paths {
        match list_one(shell, options, path, named.as_mut(), &mut tally) {
            Ok(()) => tally.done(),
            Err(failure) => shell.told(&mut tally, path, failure)?,
        }
    }
    if let Some(total) = named.filter(|total| total.directories + total.others > 0) {
        let text = total.sum();
        shell.out.line(&text)?;
    }
    tally.finish()
}

/// `named`: what was named itself beside directories, where several things are listed.
fn list_one(
    shell: &mut Shell,
    options: &LsOptions,
    path: &RemotePath,
    named: Option<&mut Total>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let remote = shell.remote()?;
    let found = remote.find(path, if options.directory { Follow::No } else { Follow::Yes })?;
    if found.attr.kind != FileKind::Directory || options.directory {
        return show_itself(shell, options, path, &found, named);
    }
    if !options.recursive {
        if named.is_some() {
            heading(shell, path)?;
        }
        return list_directory(shell, options, &remote, found, path);
    }
    let mut unreadable = Vec::new();
    tree::walk(&remote, found, path, &mut |event| {
        let (path, found) = match event {
            Event::Entry { path, found, .. } => (path, found),
            Event::Left { .. } => return Ok(Go::In),
            Event::Unreadable { path, error } => {
                // All else was told when it was listed.
                if matches!(error.reason, Reason::TooDeep(_)) {
                    unreadable.push((path.clone(), error.into()));
                }
                return Ok(Go::In);
            }
        };
        let is_hidden = path.name().is_some_and(|name| name.as_bytes().starts_with(b"."));
        if found.attr.kind != FileKind::Directory || (is_hidden && !options.all) {
            return Ok(Go::Past);
        }
        shell.go_on()?;
        heading(shell, path)?;
        match list_directory(shell, options, &remote, found.clone(), path) {
            Ok(()) => Ok(Go::In),
            Err(failure) if failure.ends_all() => Err(failure),
            Err(failure) => {
                unreadable.push((path.clone(), failure));
                Ok(Go::Past)
            }
        }
    })?;
    unreadable.into_iter().try_for_each(|(path, failure)| shell.told(tally, &path, failure))
}

fn heading(shell: &mut Shell, path: &RemotePath) -> Result<(), Failure> {
    let text = shell.out.paint(Kind::Heading, &format!("{path}:"));
    shell.out.line(&text)
}

/// A file that was named itself.
fn show_itself(
    shell: &mut Shell,
    options: &LsOptions,
    path: &RemotePath,
    found: &Found,
    named: Option<&mut Total>,
) -> Result<(), Failure> {
    let remote = shell.remote()?;
    let target = (found.attr.kind == FileKind::Symlink).then(|| remote.read_link(path).ok()).flatten();
    let name = path.to_string();
    show(shell, options, &name, path, &found.attr, target.as_deref())?;
    if let Some(total) = named {
        total.add(&found.attr);
        return Ok(());
    }
    let is_file = found.attr.kind == FileKind::File;
    let more = if is_file { format!(" of {}", size(found.attr.size)) } else { String::new() };
    shell.out.line(&format!("{path} is a {}{more}", kind_word(found.attr.kind)))
}

fn list_directory(
    shell: &mut Shell,
    options: &LsOptions,
    remote: &Remote,
    found: Found,
    path: &RemotePath,
) -> Result<(), Failure> {
    let (mut entries, mut total) = (Vec::new(), Total::default());
    let mut is_sorted = options.order() != Order::None;
    let (mut hidden, mut names) = (0, Vec::new());
    for piece in remote.list_found(found, path) {
        shell.go_on()?;
        for listed in piece? {
            let Some(attr) = listed.attr else { continue };
            names.push((listed.name.as_bytes().to_vec(), attr.kind == FileKind::Directory));
            if listed.name.as_bytes().starts_with(b".") && !options.all {
                hidden += 1;
                continue;
            }
            total.add(&attr);
            entries.push(Entry { name: listed.name, attr, target: None });
        }
        if names.len() > SORTED_ENTRIES_MAX && is_sorted {
            is_sorted = false;
            shell.out.say(Kind::Note, &format!("{path}: too large to be sorted"))?;
        }
        if !is_sorted {
            names.clear();
            show_all(shell, options, remote, path, std::mem::take(&mut entries))?;
        }
    }
    if is_sorted {
        shell.listings.keep(path, names);
        entries.sort_by(|one, other| compare(options.order(), one, other));
        if options.reverse {
            entries.reverse();
        }
    }
    show_all(shell, options, remote, path, entries)?;
    let text = total.text(path, hidden);
    shell.out.line(&text)
}

fn show_all(
    shell: &mut Shell,
    options: &LsOptions,
    remote: &Remote,
    path: &RemotePath,
    entries: Vec<Entry>,
) -> Result<(), Failure> {
    for mut entry in entries {
        shell.go_on()?;
        let path = path.child(entry.name.clone());
        if entry.attr.kind == FileKind::Symlink && (options.long || shell.out.is_json) {
            entry.target = remote.read_link(&path).map(Some).or_else(only_interrupted)?;
        }
        let name = printable(entry.name.as_bytes());
        show(shell, options, &name, &path, &entry.attr, entry.target.as_deref())?;
    }
    Ok(())
}

/// A link that cannot be read is listed all the same.
fn only_interrupted(error: RemoteError) -> Result<Option<Vec<u8>>, RemoteError> {
    if error.is_interrupted() { Err(error) } else { Ok(None) }
}

/// Writes one entry.
fn show(
    shell: &mut Shell,
    options: &LsOptions,
    name: &str,
    path: &RemotePath,
    attr: &Attr,
    target: Option<&[u8]>,
) -> Result<(), Failure> {
    if shell.out.is_json {
        return shell.out.object(&object(path, attr, target));
    }
    let shown_size = match (attr.kind == FileKind::File, options.bytes) {
        (true, true) => attr.size.to_string(),
        (true, false) => size(attr.size),
        (false, _) => "-".to_owned(),
    };
    let painted = match attr.kind {
        FileKind::Directory => shell.out.paint(Kind::Directory, &format!("{name}/")),
        FileKind::Symlink => shell.out.paint(Kind::Link, &format!("{name}@")),
        FileKind::Fifo => format!("{name}|"),
        FileKind::Socket => format!("{name}="),
        FileKind::File if attr.mode & 0o111 != 0 => format!("{name}*"),
        FileKind::File | FileKind::CharDevice | FileKind::BlockDevice => name.to_owned(),
    };
    let arrow = target.map(|target| format!(" -> {}", printable(target))).unwrap_or_default();
    let width = if options.bytes { 15 } else { 11 };
    if !options.long {
        return shell.out.line(&format!("{shown_size:>width$}  {painted}{arrow}"));
    }
    let Attr { kind, mode, nlink, uid, gid, mtime, .. } = *attr;
    let (mode, time) = (mode_word(kind, mode), moment(mtime));
    shell
        .out
        .line(&format!("{mode} {nlink:>3} {uid:>5} {gid:>5} {shown_size:>width$}  {time}  {painted}{arrow}"))
}

/// One entry for scripts.
pub(crate) fn object(path: &RemotePath, attr: &Attr, target: Option<&[u8]>) -> Value {
    let fields = json!({
        "name": path.name().map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned()),
        "kind": kind_word(attr.kind),
        "size": attr.size,
        "mode": format!("{:04o}", attr.mode),
        "nlink": attr.nlink,
        "uid": attr.uid,
        "gid": attr.gid,
        "mtime": timestamp(attr.mtime),
    });
    let object = joined(path_fields(&path.to_bytes()), fields);
    match target {
        Some(target) => joined(object, json!({ "target": String::from_utf8_lossy(target) })),
        None => object,
    }
}

impl Total {
    fn add(&mut self, attr: &Attr) {
        if attr.kind == FileKind::Directory {
            self.directories += 1;
            return;
        }
        self.others += 1;
        if attr.kind == FileKind::File {
            self.bytes = self.bytes.saturating_add(attr.size);
        }
    }

    fn text(&self, path: &RemotePath, hidden: u64) -> String {
        let more = if hidden == 0 { String::new() } else { format!(" ({hidden} hidden; -a shows all)") };
        if self.directories + self.others == 0 {
            return format!("{path} is empty{more}");
        }
        format!("{path}: {}{more}", self.sum())
    }

    fn sum(&self) -> String {
        let directories = count(self.directories, "directory", "directories");
        let files = count(self.others, "file", "files");
        format!("{directories}, {files}, {}", size(self.bytes))
    }
}

fn compare(order: Order, one: &Entry, other: &Entry) -> Ordering {
    let extension = |entry: &Entry| {
        let name = entry.name.as_bytes();
        name.iter().rposition(|&byte| byte == b'.').map(|at| name[at..].to_vec()).unwrap_or_default()
    };
    let first = match order {
        Order::Name | Order::None => Ordering::Equal,
        Order::Size => other.attr.size.cmp(&one.attr.size),
        Order::Time => other.attr.mtime.cmp(&one.attr.mtime),
        Order::Extension => extension(one).cmp(&extension(other)),
    };
    first.then_with(|| one.name.cmp(&other.name))
}
