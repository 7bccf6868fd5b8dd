//! Serves SFTP without encryption for the benchmark: each connection gets an `sftp-server` on its socket.

use clap::Parser;
use nearfs_tests::bench::plain_sftp;

fn main() -> anyhow::Result<()> {
    plain_sftp::run(&plain_sftp::Options::parse())
}
