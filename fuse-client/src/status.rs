//! How a mount is: for people and, with `--json`, for scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nearfs_client::status::{Connection, Status};
use serde::{Deserialize, Serialize};

use crate::mountinfo::MountEntry;

/// How a mount is. The field names are those of `nearfs status --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusReport {
    /// Where it is.
    pub(crate) mount_point: String,
    /// What is mounted.
    pub(crate) source: String,
    /// The process that serves it.
    pub(crate) pid: u32,
    /// The server's address.
    pub(crate) server: String,
    /// Whether there is a connection at the moment.
    pub(crate) connected: bool,
    /// How long ago anything was heard of the server, in milliseconds.
    pub(crate) heard_ago_ms: Option<u64>,
    /// For how long there has been no connection, in milliseconds.
    pub(crate) lost_for_ms: Option<u64>,
    /// Why the session is over, if it is: then everything fails until the directory is mounted again.
    pub(crate) over: Option<String>,
    /// When the present connection came about, in seconds since 1970.
    pub(crate) connected_since: Option<u64>,
    /// Connections that stand.
    pub(crate) connections: usize,
    /// Time to the server and back, in microseconds, as last measured.
    pub(crate) round_trip_us: Option<u64>,
    /// What waits for the server.
    pub(crate) pending: Vec<PendingOperation>,
    /// Bytes written by programs that the server has not confirmed.
    pub(crate) pending_bytes: u64,
    /// Requests sent so far.
    pub(crate) requests_sent: RequestCount,
    /// Leases that the server has granted and not called back.
    pub(crate) leases_held: u64,
    /// How the caches did, by cache.
    pub(crate) cache: BTreeMap<String, CacheCount>,
    /// Bytes in all of them.
    pub(crate) cache_bytes: u64,
    /// Files and directories that the kernel knows.
    pub(crate) nodes: usize,
    /// Open files and directories.
    pub(crate) open_files: usize,
    /// How often a lost connection was made again.
    pub(crate) reconnects: u64,
    /// What went wrong last.
    pub(crate) last_error: Option<String>,
}

/// An operation that waits for the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PendingOperation {
    /// What.
    pub(crate) op: String,
    /// On which file, as far as it is known.
    pub(crate) path: String,
    /// For how long, in milliseconds.
    pub(crate) age_ms: u64,
    /// After how many milliseconds it will fail; `None` if it waits as long as it takes.
    pub(crate) left_ms: Option<u64>,
    /// For which process or thread; 0 if that is not known.
    pub(crate) pid: u32,
}

/// Requests, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RequestCount {
    /// All.
    pub(crate) total: u64,
    /// By operation.
    pub(crate) by_kind: BTreeMap<String, u64>,
}

/// A cache's success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheCount {
    /// Questions that it answered.
    pub(crate) hits: u64,
    /// Questions for the server.
    pub(crate) misses: u64,
}

impl StatusReport {
    pub(crate) fn new(entry: &MountEntry, status: Status) -> StatusReport {
        let since = status.connected_since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        let by_kind: BTreeMap<String, u64> =
            status.requests_sent.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect();
        let pending = status.pending.into_iter().map(|pending| PendingOperation {
            op: pending.operation.to_owned(),
            path: pending.path,
            age_ms: millis(pending.age),
            left_ms: pending.left.map(millis),
            pid: pending.pid,
        });
        let cache = status.cache.into_iter();
        let (lost_for, over) = match status.connection {
            Connection::Live => (None, None),
            Connection::Lost { ago } => (Some(ago), None),
            Connection::Over { why } => (None, Some(why)),
        };
        StatusReport {
            mount_point: entry.mount_point.display().to_string(),
            source: entry.source.clone(),
            pid: std::process::id(),
            server: status.server,
            connected: status.connected,
            heard_ago_ms: status.heard_ago.map(millis),
            lost_for_ms: lost_for.map(millis),
            over,
            connected_since: since.map(|since| since.as_secs()),
            connections: status.connections,
            round_trip_us: status.round_trip.map(micros),
            pending: pending.collect(),
            pending_bytes: status.pending_bytes,
            requests_sent: RequestCount { total: by_kind.values().sum(), by_kind },
            leases_held: 0,
            cache: cache.map(|(name, hits, misses)| (name.to_owned(), CacheCount { hits, misses })).collect(),
            cache_bytes: status.cache_bytes,
            nodes: status.nodes,
            open_files: status.open_files,
            reconnects: status.reconnects,
            last_error: status.last_error,
        }
    }
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {} (pid {})", self.source, self.mount_point, self.pid)?;
        let state = match self.connected_since.filter(|_| self.connected) {
            Some(since) => format!("connected for {}", duration(elapsed(since))),
            None => match (&self.over, self.lost_for_ms) {
                (Some(why), _) => format!("the session is over: {why}"),
                (None, Some(ms)) => {
                    format!("no connection for {}", duration(Duration::from_millis(ms)))
                }
                (None, None) => "no connection".to_owned(),
            },
        };
        writeln!(f, "  server      {}, {state}", self.server)?;
        if let Some(round_trip_us) = self.round_trip_us {
            writeln!(f, "  round trip  {:.2} ms", round_trip_us as f64 / 1000.0)?;
        }
        let oldest = self.pending.iter().map(|pending| pending.age_ms).max();
        match oldest {
            None => writeln!(f, "  pending     nothing")?,
            Some(age_ms) => writeln!(
                f,
                "  pending     {} operations, {} bytes, the oldest for {}",
                self.pending.len(),
                self.pending_bytes,
                duration(Duration::from_millis(age_ms))
            )?,
        }
        for pending in self.pending.iter().take(10) {
            let age = duration(Duration::from_millis(pending.age_ms));
            writeln!(f, "    {} {} for {age} (pid {})", pending.op, pending.path, pending.pid)?;
        }
        writeln!(f, "  requests    {} sent", self.requests_sent.total)?;
        for (name, count) in &self.cache {
            writeln!(f, "  {name:<11} {} hits, {} misses", count.hits, count.misses)?;
        }
        writeln!(f, "  cached      {} bytes, {} nodes", self.cache_bytes, self.nodes)?;
        writeln!(f, "  open files  {}", self.open_files)?;
        write!(f, "  reconnects  {}", self.reconnects)?;
        match &self.last_error {
            Some(error) => write!(f, "\n  last error  {error}"),
            None => Ok(()),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn elapsed(since_1970: u64) -> Duration {
    let then = UNIX_EPOCH + Duration::from_secs(since_1970.min(i64::MAX.unsigned_abs() / 2));
    SystemTime::now().duration_since(then).unwrap_or_default()
}

/// Two units are enough for people.
pub(crate) fn duration(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        3600..86400 => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} d {} h", secs / 86400, secs % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        for (secs, text) in
            [(0, "0.0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90000, "1 d 1 h")]
        {
            assert_eq!(duration(Duration::from_secs(secs)), text);
        }
    }
}
