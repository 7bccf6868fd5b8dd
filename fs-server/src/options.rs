//! What `nearfs serve` can be told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nearfs_transport::listen::ListenAddress;

/// Clients that may have sessions unless the command line says another number.
const CLIENTS_MAX_DEFAULT: u32 = 4096;

/// Serves a directory to nearfs clients.
#[derive(Args, Clone, Debug)]
pub struct ServeOptions {
    /// The directory to serve
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Where to listen.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:6327",
        conflicts_with = "stdio",
        help = "Where to listen: ADDRESS[:PORT] or unix:PATH; may be given several times; port 0 picks a free one"
    )]
    pub listen: Vec<ListenAddress>,

    /// Serve one client over standard input and output, as ssh starts it, until it leaves
    #[arg(long)]
    pub stdio: bool,

    /// As whom to act on the files
    #[arg(long, value_enum, default_value_t = IdentityOption::Squash)]
    pub identity: IdentityOption,

    /// Refuse every change
    #[arg(long)]
    pub read_only: bool,

    /// Keep sessions here, so that mounts go on when the server is started again: a directory that only the server
    /// uses, on the file system of the served one [default: below /var/lib/nearfs or ~/.local/state/nearfs]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Make the directory if it does not exist
    #[arg(long)]
    pub create: bool,

    /// Listen on the network without keys: whoever reaches the port is a client
    #[arg(long)]
    pub insecure: bool,

    /// Most clients at a time
    #[arg(long, value_name = "N", default_value_t = CLIENTS_MAX_DEFAULT, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_clients: u32,

    /// Tell more: connections, what shells do, failures; with -vv every failed operation; RUST_LOG overrides it
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// On a terminal, show a line for each client and a bar for each transfer
    #[arg(long)]
    pub progress: bool,

    /// Write a line to this file for each connection, each change and transfer of a shell, and each failure; SIGHUP opens
    /// it again
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,

    /// Write the log to this file instead of standard error
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

/// As whom the server acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdentityOption {
    /// Always as the user who runs the server
    Squash,
    /// As the user whom the client names; needs root on both sides
    Passthrough,
}
