//! Sessions as a table, and as JSON.

use std::fmt::Write;
use std::time::SystemTime;

use nearfs_protocol::roster::{SessionReport, TransferReport};
use serde_json::Value;

use crate::shell::output::size;
use crate::shell::roster::object;

const HEADING: &str = "    ID  USER      FROM                   SINCE    IDLE  FILES  LOCKS       READ    WRITTEN  CLIENT: DOING";

/// A heading, a line for each session, a line for each transfer behind it, and how many there are.
pub(crate) fn text(sessions: &[SessionReport]) -> String {
    let mut text = format!("{HEADING}\n");
    for line in lines(sessions) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The lines below the heading.
pub(crate) fn lines(sessions: &[SessionReport]) -> Vec<String> {
    let mut lines = Vec::new();
    for session in sessions {
        lines.push(line(session));
        lines.extend(session.transfers.iter().map(transfer_line));
        let more = session.transfer_count.saturating_sub(session.transfers.len() as u64);
        if more > 0 && !session.transfers.is_empty() {
            lines.push(format!("        and {more} more transfers"));
        }
    }
    let transfers: u64 = sessions.iter().fold(0, |sum, session| sum.saturating_add(session.transfer_count));
    lines.push(format!("clients: {}; transfers: {transfers}", sessions.len()));
    lines
}

/// The heading that stands above [`lines`].
pub(crate) fn heading() -> &'static str {
    HEADING
}

fn line(session: &SessionReport) -> String {
    let SessionReport { id, open_files, locks, .. } = session;
    let user = session.uid.map_or_else(|| "-".to_owned(), |uid| format!("uid {uid}"));
    let mut line = format!(
        "{:>6}  {user:<8}  {:<21}  {:>5}  {:>6}  {open_files:>5}  {locks:>5}  {:>9}  {:>9}  {}",
        id.0,
        session.address.escape_debug().to_string(),
        short(session.age_ms),
        short(session.idle_ms),
        size(session.read_bytes),
        size(session.written_bytes),
        session.client.escape_debug(),
    );
    let doing = match (session.own, session.connected, session.transfers.is_empty()) {
        (true, ..) => ": this one".to_owned(),
        (false, false, _) => ": away".to_owned(),
        (false, true, true) => format!(": {}", session.doing()),
        (false, true, false) => String::new(),
    };
    line.push_str(&doing);
    line
}

fn transfer_line(transfer: &TransferReport) -> String {
    let TransferReport { total_bytes, tally, .. } = transfer;
    let mut line =
        format!("        {} {}: {}", transfer.kind.verb(), transfer.shown_path(), size(tally.bytes));
    // Writing to a string cannot fail.
    if let Some(percent) = tally.percent(*total_bytes) {
        let _ = write!(line, " of {}, {percent} %", size(*total_bytes));
    }
    if let Some(rate) = tally.bytes.saturating_mul(1000).checked_div(tally.elapsed_ms) {
        let _ = write!(line, ", {}/s", size(rate));
    }
    let _ = write!(line, ", for {}", short(tally.elapsed_ms));
    line
}

/// A time in its largest unit: 7s, 12m, 3h, 9d.
fn short(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// An array with an object for each session.
pub(crate) fn json(sessions: &[SessionReport]) -> String {
    let now = SystemTime::now();
    let sessions: Vec<Value> = sessions.iter().map(|session| object(session, now)).collect();
    format!("{:#}\n", Value::Array(sessions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfs_protocol::id::{SessionId, TransferId};
    use nearfs_protocol::roster::{Tally, TransferKind};

    fn session(transfers: u64) -> SessionReport {
        let transfer = TransferReport {
            transfer: TransferId(1),
            kind: TransferKind::Download,
            path: b"a\x1bb/\xff".to_vec(),
            total_bytes: u64::MAX,
            tally: Tally { bytes: u64::MAX, files: 1, elapsed_ms: 0 },
        };
        SessionReport {
            id: SessionId(7),
            own: false,
            client: "ben\n\x1b[2J".into(),
            address: "::1".into(),
            uid: Some(1000),
            shell: true,
            connected: true,
            age_ms: 7_200_000,
            idle_ms: 65_000,
            open_files: 3,
            locks: 2,
            read_bytes: 2048,
            written_bytes: 0,
            recent: vec!["read".into()],
            transfers: vec![transfer; transfers.min(1) as usize],
            transfer_count: transfers,
        }
    }

    #[test]
    fn hostile_words_stay_in_their_line() {
        let text = text(&[session(3), session(0)]);
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
        assert!(
            text.contains("download a\\u{1b}b/\\xff: ") && text.contains("and 2 more transfers"),
            "{text}"
        );
        assert!(text.ends_with("clients: 2; transfers: 3\n"), "{text}");
        let json: Value = serde_json::from_str(&json(&[session(1)])).unwrap();
        assert_eq!(json[0]["client"], "ben\n\x1b[2J");
        assert_eq!(json[0]["transfers"][0]["bytes"], u64::MAX);
    }

    #[test]
    fn times_are_told_in_their_largest_unit() {
        let told = [0, 59_999, 60_000, 3_600_000, 86_400_000, u64::MAX].map(short);
        assert_eq!(told, ["0s", "59s", "1m", "1h", "1d", "213503982334d"]);
    }
}
