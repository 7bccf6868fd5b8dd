//! The `nearfs` program: composes the sub-commands of the other crates.

mod completions;
mod man;
mod once;
mod shell;
mod top;
mod transfer;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nearfs_fs_server::options::ServeOptions;
use nearfs_fuse_client::options::{
    DoctorOptions, MountOptions, MountProgramOptions, StatusOptions, UmountOptions,
};
use nearfs_fuse_client::{doctor, mount, status_command, umount, usage};

/// A directory on another machine, as if it were here
///
/// On the machine that has the directory: `nearfs serve DIR`. On the one that wants it: `nearfs mount
/// nearfs://HOST/ MOUNTPOINT`.
#[derive(Parser)]
#[command(name = "nearfs", version, subcommand_required = true, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(ServeOptions),
    Mount(MountOptions),
    #[command(visible_alias = "unmount")]
    Umount(UmountOptions),
    Status(StatusOptions),
    Doctor(DoctorOptions),
    Top(top::TopOptions),
    Shell(shell::ShellOptions),
    #[command(flatten)]
    Once(once::OnceCommand),
    Completions(completions::CompletionsOptions),
    Man(man::ManOptions),
    /// Tells the version
    Version,
}

fn main() -> ExitCode {
    if is_mount_program() {
        return match MountProgramOptions::try_parse() {
            Ok(options) => mount::run_for_mount(options),
            Err(error) => usage::explain(&error),
        };
    }
    match Program::try_parse() {
        Ok(program) => run(program.command),
        Err(error) => usage::explain(&error),
    }
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(options) => nearfs_fs_server::run(&options),
        Command::Mount(options) => mount::run(&options),
        Command::Umount(options) => umount::run(&options),
        Command::Status(options) => status_command::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Top(options) => top::run(&options),
        Command::Shell(options) => shell::run(&options),
        Command::Once(command) => shell::run_once(command.into_one_shot()),
        Command::Completions(options) => finish(completions::run(&options)),
        Command::Man(options) => finish(man::run(&options)),
        Command::Version => finish(version()),
    }
}

/// mount(8) runs `mount.TYPE`, which is a link to this program: `mount.nearfs` or `mount.fuse.nearfs`.
fn is_mount_program() -> bool {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| name.starts_with("mount.") && name.ends_with("nearfs"))
}

fn version() -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "nearfs {}", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nearfs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Program::command().debug_assert();
    }
}
