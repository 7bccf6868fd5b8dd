//! Compares nearfs with other network filesystems on this machine.

use clap::Parser;
use nearfs_tests::bench;

fn main() -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    bench::run(&bench::Options::parse())
}
