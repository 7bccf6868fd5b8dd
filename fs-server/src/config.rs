//! What a server is told.

use std::sync::Arc;
use std::time::Duration;

use nearfs_protocol::limits::{GREETING_TIME_MAX, LEASE};

use crate::journal::Journal;
use crate::store::Store;
use crate::tree::Tree;

/// What a server serves, and whom.
pub struct Config {
    /// What it serves.
    pub tree: Arc<Tree>,
    /// Where its sessions are kept, if they are to outlive the process.
    pub store: Option<Arc<Store>>,
    /// Whether other machines may be clients, although nothing tells who they are.
    pub insecure: bool,
    /// Most sessions.
    pub sessions_max: usize,
    /// Most connections.
    pub connections_max: usize,
    /// How long it waits for what.
    pub timings: Timings,
    /// Who is told of what happens.
    pub journal: Arc<Journal>,
}

/// How long a server waits for what. Tests shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// From a connection's beginning to its complete greeting.
    pub greeting_max: Duration,
    /// For 64 KiB of a frame, or the rest of it.
    pub frame_max: Duration,
    /// For a peer to take anything of what waits for it.
    pub stall_max: Duration,
    /// For what is in flight when the server stops.
    pub stop_max: Duration,
    /// How long a session keeps everything without a connection.
    pub lease: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            greeting_max: GREETING_TIME_MAX,
            frame_max: Duration::from_secs(30),
            stall_max: Duration::from_secs(30),
            stop_max: Duration::from_secs(3),
            lease: LEASE,
        }
    }
}
