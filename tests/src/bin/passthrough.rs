//! The FUSE passthrough that the benchmark uses as its ceiling.

use clap::Parser;
use nearfs_tests::passthrough;

fn main() -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
    passthrough::run(&passthrough::Options::parse())
}
