//! Compares nearfs with other network filesystems on this machine.

use std::process::ExitCode;

use clap::Parser;
use nearfs_tests::bench;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match bench::run(&bench::Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nearfs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
