//! Runs one workload of the benchmark.

use std::process::ExitCode;

use clap::Parser;
use nearfs_tests::bench::load;

fn main() -> ExitCode {
    match load::run(&load::Options::parse()) {
        Ok(load) => {
            println!("{load}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
