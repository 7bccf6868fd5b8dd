//! `nearfs shell`: files of a server from a prompt, a script, or one command.
//!
//! A line is taken apart by `parser`, its words become a verb of `verb` in `run`, and `command` has what the verbs do, on a
//! `state::Shell`. `terminal` is the prompt with `complete`; `source` makes one command of a program's arguments.

pub(crate) mod command;
mod complete;
mod config;
pub(crate) mod failure;
mod glob;
mod interrupt;
pub(crate) mod output;
mod parser;
pub(crate) mod roster;
mod run;
mod source;
pub(crate) mod state;
mod terminal;
mod together;
mod tree;
pub(crate) mod verb;

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::shell::command::{connection, place};
use crate::shell::config::Config;
use crate::shell::failure::Failure;
use crate::shell::interrupt::Interrupt;
use crate::shell::run::run_line;
use crate::shell::state::{Shell, source_of};

pub(crate) use crate::shell::failure::EXIT_CODES;
pub(crate) use crate::shell::source::OneShot;

/// A larger script is none.
const SCRIPT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Files of a server from a prompt: list, copy, rename, remove and more, without a mount.
#[derive(Args, Debug)]
pub(crate) struct ShellOptions {
    /// The server
    #[arg(
        value_name = "SOURCE",
        help = "The server: a host, nearfs://host[:port][/dir], host:/dir, unix:/socket or exec:command"
    )]
    source: Option<String>,

    /// Run these commands instead of reading them
    #[arg(
        short,
        long = "command",
        value_name = "COMMANDS",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    commands: Option<OsString>,

    /// Run the commands in this file, - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Read this instead of ~/.config/nearfs/config.toml
    #[arg(long, value_name = "FILE", env = "NEARFS_CONFIG")]
    config: Option<PathBuf>,

    /// Talk to another machine although everybody on the way may read along
    #[arg(long)]
    insecure: bool,
}

/// Runs `nearfs shell`.
pub(crate) fn run(options: &ShellOptions) -> ExitCode {
    let script = match script(options) {
        Ok(script) => script,
        Err(failure) => return refuse(&failure),
    };
    match start(options, script.is_none()).and_then(|shell| serve(shell, options, script)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => refuse(&failure),
    }
}

/// Runs one verb of a program: `nearfs ls SOURCE`.
pub(crate) fn run_once(options: OneShot) -> ExitCode {
    match source::run(options) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => refuse(&failure),
    }
}

/// Says in one line why nothing was begun.
fn refuse(failure: &Failure) -> ExitCode {
    if !matches!(failure, Failure::Told(_) | Failure::Unread) {
        eprintln!("nearfs: {failure}");
    }
    ExitCode::from(failure.code())
}

/// What is to be run; `None` if a person types it.
fn script(options: &ShellOptions) -> Result<Option<Vec<u8>>, Failure> {
    if let Some(commands) = &options.commands {
        return Ok(Some(commands.as_bytes().to_vec()));
    }
    let is_standard = options.file.as_deref().is_some_and(|path| path == Path::new("-"));
    let mut script = Vec::new();
    let read = match &options.file {
        Some(path) if !is_standard => {
            let file = std::fs::File::open(path).map_err(Failure::local(path))?;
            (file.take(SCRIPT_BYTES_MAX + 1).read_to_end(&mut script), path.clone())
        }
        None if std::io::stdin().is_terminal() => return Ok(None),
        Some(_) | None => {
            (std::io::stdin().take(SCRIPT_BYTES_MAX + 1).read_to_end(&mut script), "standard input".into())
        }
    };
    let (result, path) = read;
    result.map_err(Failure::local(&path))?;
    if script.len() as u64 > SCRIPT_BYTES_MAX {
        return Err(Failure::Usage(format!("{}: too large to be a script", path.display())));
    }
    Ok(Some(script))
}

fn start(options: &ShellOptions, is_interactive: bool) -> Result<Shell, Failure> {
    let config = Config::load(options.config.as_deref())?;
    let interrupt = Interrupt::watch(!is_interactive).map_err(Failure::local(Path::new("signals")))?;
    let mut shell = Shell::new(config, interrupt, is_interactive);
    shell.is_insecure = options.insecure;
    if let Some(directory) = shell.config.local_directory.clone() {
        place::go_to_local(&mut shell, &directory)?;
        shell.previous_local = None;
    }
    Ok(shell)
}

fn serve(mut shell: Shell, options: &ShellOptions, script: Option<Vec<u8>>) -> Result<u8, Failure> {
    if shell.is_interactive {
        terminal::greet(&mut shell.out)?;
    }
    let wanted = options.source.clone().or_else(|| shell.config.server.clone());
    if let Some(wanted) = wanted {
        let connected = source_of(&wanted, shell.config.port).and_then(|source| shell.connect(&source));
        match connected {
            Ok(()) if shell.is_interactive => connection::tell_connected(&mut shell)?,
            Ok(()) => {}
            // At a prompt one can try again.
            Err(failure) if shell.is_interactive => shell.out.failed(&failure),
            Err(failure) => return Err(failure),
        }
    }
    let code = match script {
        Some(script) => run_line(&mut shell, &script),
        None => terminal::run(&mut shell)?,
    };
    if let Some(label) = shell.disconnect()
        && shell.is_interactive
    {
        shell.out.say(output::Kind::Done, &format!("disconnected from {label}"))?;
    }
    shell.out.flush()?;
    Ok(code)
}
