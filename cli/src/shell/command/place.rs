//! Where one is, there and here.

use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nearfs_client::remote::RemotePath;
use nearfs_client::remote::path::printable;
use serde_json::{Value, json};

use crate::shell::command::connection::directory;
use crate::shell::command::list::SORTED_ENTRIES_MAX;
use crate::shell::failure::Failure;
use crate::shell::output::{Kind, count, joined, path_fields, shown, size, text_fields};
use crate::shell::state::Shell;

/// Goes to another directory; `-` goes back
#[derive(Args, Debug)]
pub(crate) struct CdOptions {
    /// Which directory of the server; its top if there is none
    #[arg(value_name = "DIRECTORY", allow_hyphen_values = true)]
    directory: Option<OsString>,
}

/// Goes to another directory; `-` goes back
#[derive(Args, Debug)]
pub(crate) struct LcdOptions {
    /// Which directory of this machine; the home directory if there is none
    #[arg(value_name = "DIRECTORY", allow_hyphen_values = true)]
    directory: Option<OsString>,
}

/// Lists directories
#[derive(Args, Debug)]
pub(crate) struct LlsOptions {
    /// Which directories or files; where one is if there is none
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
}

pub(crate) fn pwd(shell: &mut Shell) -> Result<(), Failure> {
    let place = shell.place()?;
    shell.out.object(&directory(&place))?;
    shell.out.line(&place.to_string())
}

pub(crate) fn cd(shell: &mut Shell, options: &CdOptions) -> Result<(), Failure> {
    let target = match options.directory.as_ref().map(|directory| directory.as_bytes()) {
        None => RemotePath::root(),
        Some(b"-") => {
            let previous = shell.connection.as_ref().ok_or(Failure::NotConnected)?.previous.clone();
            previous.ok_or_else(|| Failure::Refused("there is no directory to go back to".into()))?
        }
        Some(_) => {
            let arguments: Vec<&OsString> = options.directory.iter().collect();
            match &shell.remote_paths(&arguments)?[..] {
                [one] => one.clone(),
                several => {
                    let several = count(several.len() as u64, "directory", "directories");
                    return Err(Failure::Usage(format!("cd goes to one directory, not to {several}")));
                }
            }
        }
    };
    shell.go_to(&target)?;
    shell.out.object(&directory(&target))?;
    shell.out.say(Kind::Done, &format!("in {target}"))
}

pub(crate) fn lpwd(shell: &mut Shell) -> Result<(), Failure> {
    let place = std::env::current_dir().map_err(Failure::local(Path::new(".")))?;
    shell.out.object(&local_directory(&place))?;
    shell.out.line(&shown(&place))
}

pub(crate) fn lcd(shell: &mut Shell, options: &LcdOptions) -> Result<(), Failure> {
    let target = match options.directory.as_ref().map(|directory| directory.as_bytes()) {
        None => etcetera::home_dir().map_err(|error| Failure::Refused(error.to_string()))?,
        Some(b"-") => {
            let previous = shell.previous_local.clone();
            previous.ok_or_else(|| Failure::Refused("there is no directory to go back to".into()))?
        }
        Some(_) => {
            let arguments: Vec<&OsString> = options.directory.iter().collect();
            match &shell.local_paths(&arguments)?[..] {
                [one] => one.clone(),
                _ => return Err(Failure::Usage("lcd goes to one directory".into())),
            }
        }
    };
    go_to_local(shell, &target)?;
    let place = std::env::current_dir().map_err(Failure::local(Path::new(".")))?;
    shell.out.object(&local_directory(&place))?;
    shell.out.say(Kind::Done, &format!("here in {}", shown(&place)))
}

/// A directory of this machine, for scripts.
fn local_directory(place: &Path) -> Value {
    text_fields("directory", place.as_os_str().as_bytes())
}

/// Goes to a directory of this machine.
pub(crate) fn go_to_local(shell: &mut Shell, target: &Path) -> Result<(), Failure> {
    let before = std::env::current_dir().ok();
    if std::fs::metadata(target).is_ok_and(|found| !found.is_dir()) {
        return Err(Failure::Refused(format!(
            "{} is a file of this machine, not a directory",
            shown(target)
        )));
    }
    std::env::set_current_dir(target).map_err(Failure::local(target))?;
    shell.previous_local = before;
    Ok(())
}

pub(crate) fn lls(shell: &mut Shell, options: &LlsOptions) -> Result<(), Failure> {
    let paths: Vec<PathBuf> =
        if options.paths.is_empty() { vec![".".into()] } else { shell.local_paths(&options.paths)? };
    for path in &paths {
        let found = std::fs::metadata(path).map_err(Failure::local(path))?;
        if !found.is_dir() {
            shell.out.object(&local_object(path, &found))?;
            shell.out.line(&format!("{:>11}  {}", size(found.len()), shown(path)))?;
            continue;
        }
        let mut entries = std::fs::read_dir(path).map_err(Failure::local(path))?.flatten();
        let mut sorted: Vec<_> = entries.by_ref().take(SORTED_ENTRIES_MAX).collect();
        let mut entries = entries.peekable();
        if entries.peek().is_none() {
            sorted.sort_by_key(std::fs::DirEntry::file_name);
        } else {
            shell.out.say(Kind::Note, &format!("{}: too large to be sorted", shown(path)))?;
        }
        let (mut number, mut total) = (0, 0);
        for entry in sorted.into_iter().chain(entries) {
            number += 1;
            shell.go_on()?;
            let name = printable(entry.file_name().as_bytes());
            let Ok(found) = entry.metadata() else { continue };
            shell.out.object(&local_object(&entry.path(), &found))?;
            if found.is_dir() {
                let name = shell.out.paint(Kind::Directory, &format!("{name}/"));
                shell.out.line(&format!("{:>11}  {name}", "-"))?;
            } else {
                total += found.len();
                shell.out.line(&format!("{:>11}  {name}", size(found.len())))?;
            }
        }
        let entries = count(number, "entry", "entries");
        shell.out.line(&format!("{}: {entries}, {}", shown(path), size(total)))?;
    }
    Ok(())
}

/// One entry of this machine, for scripts.
fn local_object(path: &Path, found: &Metadata) -> Value {
    let kind = match (found.is_file(), found.is_dir(), found.is_symlink()) {
        (true, _, _) => "file",
        (_, true, _) => "directory",
        (_, _, true) => "symlink",
        (false, false, false) => "other",
    };
    joined(path_fields(path.as_os_str().as_bytes()), json!({ "kind": kind, "size": found.len() }))
}
