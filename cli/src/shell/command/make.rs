//! `mkdir`.

use std::ffi::OsString;

use clap::Args;
use nearfs_client::remote::{Follow, RemotePath};
use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use serde_json::json;

use crate::shell::failure::{Failure, Tally};
use crate::shell::output::{Kind, joined, path_fields};
use crate::shell::state::Shell;

/// What a new directory may be used for, before the umask.
const DIRECTORY_MODE: u32 = 0o777;

/// Makes directories
#[derive(Args, Debug)]
pub(crate) struct MkdirOptions {
    /// Which
    #[arg(value_name = "DIRECTORY", required = true)]
    pub(crate) paths: Vec<OsString>,
    /// Also those on the way; one that is there already is fine
    #[arg(short, long)]
    parents: bool,
    /// Permissions, as in 750
    #[arg(short, long, value_name = "MODE", value_parser = octal)]
    mode: Option<u32>,
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("permissions are octal digits, as in 750".into()),
    }
}

pub(crate) fn mkdir(shell: &mut Shell, options: &MkdirOptions) -> Result<(), Failure> {
    let mut tally = Tally::default();
    for argument in &options.paths {
        let path = shell.remote_path(argument)?;
        match make(shell, options, &path) {
            Ok(()) => tally.done(),
            Err(failure) => shell.told(&mut tally, &path, failure)?,
        }
    }
    tally.finish()
}

fn make(shell: &mut Shell, options: &MkdirOptions, path: &RemotePath) -> Result<(), Failure> {
    let remote = shell.remote()?;
    let mode = options.mode.unwrap_or(DIRECTORY_MODE);
    let made = if options.parents {
        remote.make_dirs(path, mode)?
    } else {
        match remote.make_dir(path, mode) {
            Ok(_) => vec![path.clone()],
            Err(error) if matches!(error.errno(), Errno::EEXIST | Errno::EBUSY) => {
                let kind = remote.stat(path, Follow::No)?.kind;
                let kind = if kind == FileKind::Directory { "directory" } else { "file" };
                return Err(Failure::Refused(format!("{path} exists already, it is a {kind}")));
            }
            Err(error) if error.errno() == Errno::ENOENT => {
                let parent = path.parent().unwrap_or_default();
                return Err(Failure::Missing(format!("{parent} does not exist; mkdir -p makes it too")));
            }
            Err(error) => return Err(error.into()),
        }
    };
    for path in &made {
        shell.out.object(&joined(path_fields(&path.to_bytes()), json!({ "made": true })))?;
        shell.out.say(Kind::Done, &format!("made the directory {path}"))?;
    }
    if made.is_empty() {
        shell.out.say(Kind::Note, &format!("{path} is there already"))?;
    }
    Ok(())
}
