//! How a client is doing, for people and scripts.

use std::time::{Duration, SystemTime};

/// A moment's picture.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The server's address.
    pub server: String,
    /// Whether a connection stands.
    pub connected: bool,
    /// Since when it does.
    pub connected_since: Option<SystemTime>,
    /// How it stands with the server otherwise.
    pub connection: Connection,
    /// How long ago anything was heard of the server.
    pub heard_ago: Option<Duration>,
    /// How long the last sign of life took there and back.
    pub round_trip: Option<Duration>,
    /// Requests without an answer.
    pub pending: Vec<Pending>,
    /// Their payload bytes.
    pub pending_bytes: u64,
    /// Requests sent since the mount, by operation.
    pub requests_sent: Vec<(&'static str, u64)>,
    /// Hits and misses of each cache.
    pub cache: Vec<(&'static str, u64, u64)>,
    /// Bytes that the caches hold.
    pub cache_bytes: u64,
    /// Nodes that the kernel knows.
    pub nodes: usize,
    /// Open files and directories.
    pub open_files: usize,
    /// Connections that stand.
    pub connections: usize,
    /// How often the session was resumed.
    pub reconnects: u64,
    /// What last went wrong with the connection.
    pub last_error: Option<String>,
}

/// How it stands with the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// A connection stands.
    #[default]
    Live,
    /// None does, and the client tries again and again.
    Lost {
        /// For how long.
        ago: Duration,
    },
    /// The server does not know the session any more, or never will: everything fails.
    Over {
        /// Why.
        why: String,
    },
}

/// A request without an answer.
#[derive(Clone, Debug)]
pub struct Pending {
    /// What is asked.
    pub operation: &'static str,
    /// About what: a path below the mount's root as far as it is known, with `#` and a number for what is not.
    pub path: String,
    /// For how long it has been waiting.
    pub age: Duration,
    /// After how long it will fail; `None` if it waits as long as it takes.
    pub left: Option<Duration>,
    /// Who waits: a thread id, 0 if nobody or unknown.
    pub pid: u32,
    /// Whether something of a file is lost if it is never carried out.
    pub is_change: bool,
}

impl Status {
    /// What is lost if the client ends now, a line each.
    pub fn unfinished(&self) -> Vec<String> {
        let changes = self.pending.iter().filter(|pending| pending.is_change);
        changes.map(|pending| unfinished(pending.operation, &pending.path, pending.pid)).collect()
    }
}

/// A change of which nobody knows whether it was carried out, in words.
pub(crate) fn unfinished(operation: &str, path: &str, pid: u32) -> String {
    let what = if operation == "write" { "write to".to_owned() } else { format!("{operation} of") };
    format!("a {what} {path} by process {pid}")
}
