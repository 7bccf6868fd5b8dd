//! The sessions of a server as `who` and `nearfs top` tell of them.

use std::time::{Duration, SystemTime};

use nearfs_protocol::attr::Time;
use nearfs_protocol::roster::SessionReport;
use serde_json::{Value, json};

use crate::shell::output::timestamp;

/// A session for scripts. The client's words are as the client says them.
pub(crate) fn object(session: &SessionReport, now: SystemTime) -> Value {
    let transfers = session.transfers.iter().map(|transfer| {
        json!({
            "kind": transfer.kind.verb(),
            "path": String::from_utf8_lossy(&transfer.path),
            "bytes": transfer.tally.bytes,
            "total_bytes": transfer.total_bytes,
            "files": transfer.tally.files,
            "elapsed_ms": transfer.tally.elapsed_ms,
        })
    });
    json!({
        "id": session.id.0,
        "own": session.own,
        "client": session.client,
        "address": session.address,
        "uid": session.uid,
        "shell": session.shell,
        "connected": session.connected,
        "since": timestamp(since(session, now)),
        "age_ms": session.age_ms,
        "idle_ms": session.idle_ms,
        "open_files": session.open_files,
        "locks": session.locks,
        "read_bytes": session.read_bytes,
        "written_bytes": session.written_bytes,
        "recent": session.recent,
        "transfers": transfers.collect::<Vec<_>>(),
        "transfer_count": session.transfer_count,
    })
}

/// When a session began, by our own clock.
pub(crate) fn since(session: &SessionReport, now: SystemTime) -> Time {
    let began = now.checked_sub(Duration::from_millis(session.age_ms)).unwrap_or(SystemTime::UNIX_EPOCH);
    let secs = began.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Time { secs: secs.cast_signed(), nanos: 0 }
}
