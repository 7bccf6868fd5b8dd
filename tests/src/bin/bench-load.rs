//! Runs one workload of the benchmark.

use clap::Parser;
use nearfs_tests::bench::load;

fn main() -> anyhow::Result<()> {
    println!("{}", load::run(&load::Options::parse())?);
    Ok(())
}
