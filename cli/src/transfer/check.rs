//! `cat` and `check`: contents shown, and compared where they are.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::mpsc;

use clap::Args;
use nearfs_client::remote::{Follow, Patience, RemoteError, RemotePath};
use nearfs_client::transfer::compare::{Comparison, Side, compare};
use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::Request;
use nearfs_transport::address::Source;
use serde_json::json;

use crate::shell::failure::{Failure, Tally};
use crate::shell::output::{Kind, count, size};
use crate::shell::state::Shell;

/// Bytes that are asked for at a time, and how many requests are under way.
const PIECE_BYTES: u32 = 256 * 1024;
const PIECES_MAX: usize = 16;

/// Writes the content of files to standard output
#[derive(Args, Debug)]
pub(crate) struct CatOptions {
    /// Which files
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<OsString>,
}

/// Compares files and trees by their content
#[derive(Args, Debug)]
pub(crate) struct CheckOptions {
    /// What is compared: a path on the server
    #[arg(value_name = "PATH", index = 1)]
    pub(crate) one: OsString,
    /// With what: a path of this machine; a source, or with --remote a path, is one on the server
    #[arg(value_name = "OTHER", index = 2)]
    pub(crate) other: OsString,
    /// The other path is on the server as well
    #[arg(long)]
    remote: bool,
}

pub(crate) fn cat(shell: &mut Shell, options: &CatOptions) -> Result<(), Failure> {
    let mut tally = Tally::default();
    for path in shell.remote_paths(&options.paths)? {
        match write_content(shell, &path) {
            Ok(()) => tally.done(),
            Err(failure) => shell.told(&mut tally, &path, failure)?,
        }
    }
    tally.finish()
}

fn write_content(shell: &mut Shell, path: &RemotePath) -> Result<(), Failure> {
    let remote = shell.remote()?;
    let attr = remote.stat(path, Follow::Yes)?;
    if attr.kind == FileKind::Directory {
        return Err(Failure::Refused(format!("{path} is a directory")));
    }
    let file = remote.open(path)?;
    let session = file.session().clone();
    let mut under_way = VecDeque::new();
    let mut offset = 0;
    loop {
        while under_way.len() < PIECES_MAX {
            let (tell, told) = mpsc::sync_channel(1);
            let request = Request::Read { fh: file.fh(), offset, size: PIECE_BYTES };
            session.start(request, None, Patience::Bounded, move |outcome| drop(tell.send(outcome)));
            under_way.push_back(told);
            offset += u64::from(PIECE_BYTES);
        }
        let Some(told) = under_way.pop_front() else { return Ok(()) };
        let piece = told.recv().unwrap_or(Err(Errno::EIO));
        let (_, bytes) = piece.map_err(|errno| RemoteError::new(path, errno))?;
        shell.out.write(&bytes)?;
        // A short piece is the end of the file. What was asked for behind it is empty, unless somebody has written on
        // since, and then there is a gap between.
        if bytes.len() < PIECE_BYTES as usize {
            return Ok(());
        }
    }
}

impl CheckOptions {
    /// Those of its arguments that name the server, where a program gets them.
    pub(crate) fn source_arguments(&mut self) -> &mut [OsString] {
        std::slice::from_mut(&mut self.one)
    }
}

pub(crate) fn check(shell: &mut Shell, options: &CheckOptions) -> Result<(), Failure> {
    let remote = shell.remote()?;
    let one = shell.remote_path(&options.one)?;
    let is_source = options.other.to_str().is_some_and(|text| text.parse::<Source>().is_ok());
    let other = match (options.remote, is_source && shell.is_one_shot) {
        (true, _) => Side::Remote(shell.remote_path(&options.other)?),
        (false, true) => Side::Remote(other_source(&options.other)?),
        (false, false) => {
            let local = shell.local_path(&options.other);
            Side::Local(std::path::absolute(&local).map_err(Failure::local(&local))?)
        }
    };
    let (mut equal, mut differing, mut bytes) = (0_u64, 0_u64, 0_u64);
    let mut unread = Ok(());
    let outcome = compare(&remote, &one, &other, &mut |comparison| {
        match comparison {
            Comparison::Equal { bytes: size, .. } => {
                equal += 1;
                bytes += size;
            }
            Comparison::Differs { path, why } => {
                differing += 1;
                let printed = shell.out.object(&json!({ "path": path, "differs": why }));
                unread = printed.and_then(|()| shell.out.line(&format!("{path}: {why}")));
            }
        }
        unread.is_ok()
    });
    unread?;
    outcome.map_err(|failure| match failure.cause {
        nearfs_client::transfer::Cause::Remote(reason) => {
            Failure::Remote(nearfs_client::remote::RemoteError { path: failure.name, reason })
        }
        nearfs_client::transfer::Cause::Local(error) => Failure::Local { path: failure.name, error },
        cause => Failure::Refused(format!("{}: {cause}", failure.name)),
    })?;
    shell.out.object(&json!({ "equal": equal, "differing": differing, "bytes": bytes }))?;
    if differing > 0 {
        return Err(Failure::Differs(format!(
            "{}, {equal} are equal",
            count(differing, "file differs", "files differ")
        )));
    }
    let files = count(equal, "file", "files");
    let text = format!("{one} and {other}: {files} equal, {} compared", size(bytes));
    shell.out.say(Kind::Done, &text)
}

fn other_source(argument: &std::ffi::OsStr) -> Result<RemotePath, Failure> {
    let source: Source = argument.to_string_lossy().parse()?;
    let export = nearfs_protocol::name::Name::new(&source.export).ok();
    Ok(export.into_iter().chain(source.path).collect())
}
