//! `fuse-client`: what `nearfs mount` is, as a program of its own.

use std::process::ExitCode;

use clap::Parser;
use nearfs_fuse_client::options::MountOptions;
use nearfs_fuse_client::{mount, usage};

/// Mounts a directory of a nearfs server
#[derive(Parser)]
#[command(name = "fuse-client", version)]
struct Command {
    #[command(flatten)]
    options: MountOptions,
}

fn main() -> ExitCode {
    match Command::try_parse() {
        Ok(command) => mount::run(&command.options),
        Err(error) => usage::explain(&error),
    }
}
