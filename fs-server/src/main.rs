//! `fs-server`: what `nearfs serve` is, as a program of its own.

use clap::Parser;
use nearfs_fs_server::options::ServeOptions;

/// Serves a directory to nearfs clients
#[derive(Parser)]
#[command(name = "fs-server", version)]
struct Command {
    #[command(flatten)]
    options: ServeOptions,
}

fn main() -> std::process::ExitCode {
    nearfs_fs_server::run(&Command::parse().options)
}
