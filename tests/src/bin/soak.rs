//! `soak`: programs at work on two mounts while everything around them fails, and what came of it.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use nearfs_tests::soak::{Options, Task, run};

fn main() -> Result<ExitCode> {
    env_logger::init();
    // It starts itself as the programs.
    if std::env::args().nth(1).as_deref() == Some("--task") {
        Task::parse_from(std::env::args().skip(1)).run()?;
        return Ok(ExitCode::SUCCESS);
    }
    let verdict = run(&Options::parse())?;
    println!("{verdict}");
    Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
