//! Measures transfers and writes EVALUATION.md.

use std::process::ExitCode;

use clap::Parser;
use nearfs_tests::bench::{EvaluationOptions, evaluate};

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match evaluate(&EvaluationOptions::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nearfs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
