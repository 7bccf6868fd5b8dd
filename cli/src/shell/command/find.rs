//! `find`: names that fit.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use clap::Args;
use globset::GlobMatcher;
use nearfs_client::remote::path::printable;
use nearfs_client::remote::{Follow, RemotePath};
use nearfs_protocol::attr::{Attr, FileKind};

use crate::shell::command::list;
use crate::shell::failure::{Failure, Tally};
use crate::shell::glob;
use crate::shell::output::Kind;
use crate::shell::state::Shell;
use crate::shell::tree::{self, Event, Go};

const DAY_SECS: i64 = 24 * 60 * 60;

/// Finds names in trees
#[derive(Args, Debug)]
#[command(after_help = "Tests, all of which a name must pass:\n  \
    -name PATTERN   its name fits, as in '*.txt'; -iname in either case\n  \
    -type f|d|l     it is a file, a directory, a symbolic link\n  \
    -size +1M|-1M   it is a file of more, of less than this\n  \
    -mtime +7|-7    it was modified more, less than so many days ago\n  \
    -maxdepth N     no deeper than this; -mindepth N not above it\n  \
    -empty          it is an empty file")]
pub(crate) struct FindOptions {
    /// Where, and then tests; where one is if there is no directory
    #[arg(value_name = "PATH|TEST", allow_hyphen_values = true, trailing_var_arg = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// What a name must pass.
#[derive(Default)]
struct Tests {
    names: Vec<GlobMatcher>,
    kind: Option<FileKind>,
    bytes_above: Option<u64>,
    bytes_below: Option<u64>,
    /// Seconds since 1970 after, and before which it was modified.
    modified_after: Option<i64>,
    modified_before: Option<i64>,
    depth_min: usize,
    depth_max: Option<usize>,
    is_empty: bool,
}

impl FindOptions {
    /// Whether it was asked for JSON among the tests, where that does not stand for itself.
    pub(crate) fn take_json(&mut self) -> bool {
        let count = self.arguments.len();
        self.arguments.retain(|argument| argument != "--json");
        self.arguments.len() < count
    }

    /// What stands before the tests.
    pub(crate) fn path_count(&self) -> usize {
        let is_test = |argument: &OsString| argument.as_bytes().first() == Some(&b'-');
        self.arguments.iter().position(is_test).unwrap_or(self.arguments.len())
    }
}

pub(crate) fn find(shell: &mut Shell, options: &FindOptions) -> Result<(), Failure> {
    let (paths, tests) = options.arguments.split_at(options.path_count());
    // At the prompt a pattern is quoted to be a pattern of names, not one of paths.
    let values: Vec<Vec<u8>> = tests.iter().map(|test| shell.unquoted(test)).collect();
    let tests = Tests::parse(&values)?;
    let paths = shell.remote_paths_or_place(paths)?;
    let mut tally = Tally::default();
    for path in &paths {
        match find_below(shell, path, &tests, &mut tally) {
            Ok(()) => tally.done(),
            Err(failure) => shell.told(&mut tally, path, failure)?,
        }
    }
    tally.finish()
}

fn find_below(shell: &mut Shell, path: &RemotePath, tests: &Tests, tally: &mut Tally) -> Result<(), Failure> {
    let remote = shell.remote()?;
    let top = remote.find(path, Follow::No)?;
    tree::walk(&remote, top, path, &mut |event| {
        shell.go_on()?;
        match event {
            Event::Entry { path, found, depth } => {
                let attr = &found.attr;
                if tests.pass(path, attr, depth) {
                    let is_directory = attr.kind == FileKind::Directory;
                    let kind = if is_directory { Kind::Directory } else { Kind::Plain };
                    let text = shell.out.paint(kind, &path.to_string());
                    shell.out.object(&list::object(path, attr, None))?;
                    shell.out.line(&text)?;
                }
                Ok(if tests.depth_max.is_some_and(|most| depth >= most) { Go::Past } else { Go::In })
            }
            Event::Left { .. } => Ok(Go::In),
            Event::Unreadable { path, error } => {
                shell.told(tally, path, error.into())?;
                Ok(Go::Past)
            }
        }
    })
}

impl Tests {
    fn parse(arguments: &[Vec<u8>]) -> Result<Tests, Failure> {
        let mut tests = Tests::default();
        let mut rest = arguments.iter().map(Vec::as_slice);
        while let Some(name) = rest.next() {
            // Two dashes are as good as one.
            let name = name.strip_prefix(b"-").filter(|name| name.starts_with(b"-")).unwrap_or(name);
            if name == b"-empty" {
                tests.is_empty = true;
                continue;
            }
            let missing = || Failure::Usage(format!("find: something must follow {}", printable(name)));
            let value = rest.next().ok_or_else(missing)?;
            let text = String::from_utf8_lossy(value);
            let bad = || Failure::Usage(format!("find: {} cannot be {text:?}", printable(name)));
            match name {
                b"-name" | b"-iname" => tests.names.push(glob::matcher(value, name == b"-iname")?),
                b"-type" => tests.kind = Some(kind(value).ok_or_else(bad)?),
                b"-size" => {
                    let (is_above, bytes) = signed(&text).ok_or_else(bad)?;
                    let bytes = bytes.parse::<ByteSize>().map_err(|_| bad())?.as_u64();
                    *(if is_above { &mut tests.bytes_above } else { &mut tests.bytes_below }) = Some(bytes);
                }
                b"-mtime" => {
                    let (is_above, days) = signed(&text).ok_or_else(bad)?;
                    let days: i64 = days.parse::<u32>().map_err(|_| bad())?.into();
                    let moment = now() - days * DAY_SECS;
                    *(if is_above { &mut tests.modified_before } else { &mut tests.modified_after }) =
                        Some(moment);
                }
                b"-maxdepth" => tests.depth_max = Some(text.parse().map_err(|_| bad())?),
                b"-mindepth" => tests.depth_min = text.parse().map_err(|_| bad())?,
                _ => {
                    return Err(Failure::Usage(format!(
                        "find: there is no test {}; see `help find`",
                        printable(name)
                    )));
                }
            }
        }
        Ok(tests)
    }

    fn pass(&self, path: &RemotePath, attr: &Attr, depth: usize) -> bool {
        let name = path.name().map_or(&b"/"[..], |name| name.as_bytes());
        let is_file = attr.kind == FileKind::File;
        depth >= self.depth_min
            && self.names.iter().all(|matcher| glob::fits(matcher, name))
            && self.kind.is_none_or(|kind| attr.kind == kind)
            && self.bytes_above.is_none_or(|bytes| is_file && attr.size > bytes)
            && self.bytes_below.is_none_or(|bytes| is_file && attr.size < bytes)
            && self.modified_after.is_none_or(|moment| attr.mtime.secs > moment)
            && self.modified_before.is_none_or(|moment| attr.mtime.secs < moment)
            && (!self.is_empty || (is_file && attr.size == 0))
    }
}

fn kind(letter: &[u8]) -> Option<FileKind> {
    match letter {
        b"f" => Some(FileKind::File),
        b"d" => Some(FileKind::Directory),
        b"l" => Some(FileKind::Symlink),
        b"p" => Some(FileKind::Fifo),
        b"s" => Some(FileKind::Socket),
        _ => None,
    }
}

/// Whether more than the number is meant, or less.
fn signed(text: &str) -> Option<(bool, &str)> {
    text.strip_prefix('+').map(|rest| (true, rest)).or_else(|| Some((false, text.strip_prefix('-')?)))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}
