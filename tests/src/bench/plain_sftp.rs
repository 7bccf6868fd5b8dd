//! A listener that hands each connection to a program as its standard input and output.
//!
//! sshfs with `-o directport` speaks SFTP on a bare socket. Giving `sftp-server` that socket leaves no process
//! in between, which makes it the fastest rival that its own programs allow.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::Context;

/// The command line of the `bench-sftp` binary.
#[derive(Debug, clap::Parser)]
#[command(name = "bench-sftp", about = "Serve SFTP without encryption on a loopback port")]
pub struct Options {
    /// The program that each connection gets.
    sftp_server: PathBuf,
}

/// Listens on a free loopback port, prints it, and serves until it is ended.
///
/// # Errors
/// When no port can be had or a connection cannot be taken.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("listening on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    for connection in listener.incoming() {
        serve(options, connection?)?;
    }
    Ok(())
}

fn serve(options: &Options, connection: TcpStream) -> anyhow::Result<()> {
    // Small answers must not wait for the acknowledgement of the ones before.
    connection.set_nodelay(true)?;
    let input = OwnedFd::from(connection.try_clone()?);
    let output = OwnedFd::from(connection);
    let mut child = Command::new(&options.sftp_server)
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .spawn()
        .with_context(|| format!("cannot start {}", options.sftp_server.display()))?;
    thread::spawn(move || child.wait());
    Ok(())
}
