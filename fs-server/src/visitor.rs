//! Who a session's client is, and what he has been doing: what others are told of him.

use std::time::Instant;

use nearfs_protocol::limits::{CLIENT_NAME_BYTES_MAX, RECENT_REQUESTS_MAX, cut};
use nearfs_transport::stream::Peer;

/// Who began a session.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// What he calls himself, cut to [`CLIENT_NAME_BYTES_MAX`]; in whatever characters.
    pub(crate) name: String,
    /// The user who was admitted, where the kernel could tell.
    pub(crate) uid: Option<u32>,
    /// Whether people or scripts give his commands.
    pub(crate) is_shell: bool,
}

impl Visitor {
    pub(crate) fn new(name: &str, uid: Option<u32>, is_shell: bool) -> Visitor {
        Visitor { name: cut(name, CLIENT_NAME_BYTES_MAX).to_owned(), uid, is_shell }
    }

    /// As others read it who are told that he is in their way.
    pub(crate) fn shown(&self, peer: Peer) -> String {
        format!("{} ({peer})", self.name)
    }
}

/// What a session has moved, and what it asked for last.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) begun: Instant,
    pub(crate) asked_at: Instant,
    /// Payload bytes that it was sent.
    pub(crate) read_bytes: u64,
    /// Payload bytes that it sent.
    pub(crate) written_bytes: u64,
    /// Newest first, each once.
    recent: [Option<&'static str>; RECENT_REQUESTS_MAX],
}

impl Traffic {
    pub(crate) fn new(now: Instant) -> Traffic {
        Traffic { begun: now, asked_at: now, read_bytes: 0, written_bytes: 0, recent: Default::default() }
    }

    /// A request arrived.
    pub(crate) fn asked(&mut self, operation: &'static str, payload_bytes: usize, now: Instant) {
        self.asked_at = now;
        self.written_bytes += payload_bytes as u64;
        if self.recent[0] != Some(operation) {
            let last = self.recent.iter().position(|kind| *kind == Some(operation));
            self.recent[..=last.unwrap_or(RECENT_REQUESTS_MAX - 1)].rotate_right(1);
            self.recent[0] = Some(operation);
        }
    }

    /// An answer leaves.
    pub(crate) fn answered(&mut self, payload_bytes: usize) {
        self.read_bytes += payload_bytes as u64;
    }

    /// The kinds of the latest requests, newest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &'static str> {
        self.recent.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_kinds_come_first_and_once() {
        let now = Instant::now();
        let mut traffic = Traffic::new(now);
        for kind in ["open", "read", "read", "release", "open", "getattr", "write", "write"] {
            traffic.asked(kind, 5, now);
        }
        assert_eq!(traffic.recent().collect::<Vec<_>>(), ["write", "getattr", "open", "release"]);
        assert_eq!(traffic.written_bytes, 40);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = "\u{e9}".repeat(200);
        let visitor = Visitor::new(&name, None, false);
        assert_eq!(visitor.name.len(), CLIENT_NAME_BYTES_MAX - 1);
        assert!(name.starts_with(&visitor.name));
        assert_eq!(Visitor::new("short", None, true).name, "short");
    }
}
