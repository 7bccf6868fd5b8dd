//! What a server tells of its clients: who is connected, and what they transfer.

use serde::{Deserialize, Serialize};

use crate::errno::Errno;
use crate::id::{SessionId, TransferId};

/// One client's session. What the client says of itself is its own claim, in whatever characters: whoever shows it
/// to people escapes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Which.
    pub id: SessionId,
    /// Whether it is the one that asks.
    pub own: bool,
    /// What the client calls itself, cut to [`crate::limits::CLIENT_NAME_BYTES_MAX`].
    pub client: String,
    /// Where its latest connection comes from.
    pub address: String,
    /// The user who was admitted, where the server's kernel could tell.
    pub uid: Option<u32>,
    /// Whether a person's shell or script gives its commands, instead of a kernel.
    pub shell: bool,
    /// Whether it has a connection at the moment.
    pub connected: bool,
    /// For how long it has existed, in milliseconds.
    pub age_ms: u64,
    /// For how long it has asked for nothing, in milliseconds.
    pub idle_ms: u64,
    /// Open files.
    pub open_files: u64,
    /// Locked ranges.
    pub locks: u64,
    /// Bytes of payload that the server has sent it.
    pub read_bytes: u64,
    /// Bytes of payload that it has sent.
    pub written_bytes: u64,
    /// The kinds of its latest requests, newest first, each once; at most
    /// [`crate::limits::RECENT_REQUESTS_MAX`].
    pub recent: Vec<String>,
    /// Its transfers that run, oldest first; at most [`crate::limits::TRANSFERS_SHOWN_MAX`].
    pub transfers: Vec<TransferReport>,
    /// How many run in all.
    pub transfer_count: u64,
}

/// A transfer that was announced and runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferReport {
    /// Which.
    pub transfer: TransferId,
    /// What is done.
    pub kind: TransferKind,
    /// The target as far as the server knows its place, from the client's root on; the end of it if it is longer than
    /// [`crate::limits::SHOWN_PATH_BYTES_MAX`]. Bytes of names, with a slash between.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// Bytes in all as announced; 0 if that is not known.
    pub total_bytes: u64,
    /// How far it is.
    pub tally: Tally,
}

/// What is done with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TransferKind {
    /// It is written.
    Upload,
    /// It is read.
    Download,
    /// It is removed, with all below it.
    Delete,
    /// It gets another name.
    Rename,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferOutcome {
    /// As it should.
    Done,
    /// With this error.
    Failed(Errno),
    /// Whoever wanted it does not any more.
    GivenUp,
}

/// What the server counted of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Bytes that passed.
    pub bytes: u64,
    /// Files that were opened for it, removed, or published.
    pub files: u64,
    /// Since it was announced, in milliseconds.
    pub elapsed_ms: u64,
}

/// Why a transfer may not begin: somebody else is at that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// What the other client calls itself, and where it is.
    pub by: String,
    /// What it does.
    pub kind: TransferKind,
    /// Bytes in all, as it announced; 0 if that is not known.
    pub total_bytes: u64,
    /// How far it is.
    pub tally: Tally,
}

impl SessionReport {
    /// What it is doing, in a few words: its transfers, else the kinds of its latest requests.
    pub fn doing(&self) -> String {
        let Some(first) = self.transfers.first() else {
            let recent: Vec<_> = self.recent.iter().map(|kind| kind.escape_debug().to_string()).collect();
            return if recent.is_empty() { "nothing yet".into() } else { recent.join(", ") };
        };
        match self.transfer_count.saturating_sub(1) {
            0 => first.to_string(),
            others => format!("{first}, and {others} more"),
        }
    }
}

impl TransferReport {
    /// The place in characters that a terminal shows.
    pub fn shown_path(&self) -> String {
        let chunks = self.path.utf8_chunks();
        chunks
            .map(|chunk| format!("{}{}", chunk.valid().escape_debug(), chunk.invalid().escape_ascii()))
            .collect()
    }
}

impl std::fmt::Display for TransferReport {
    /// "upload docs/report, 40 %", in characters that a terminal shows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.verb(), self.shown_path())?;
        match self.tally.percent(self.total_bytes) {
            Some(percent) => write!(f, ", {percent} %"),
            None => Ok(()),
        }
    }
}

impl TransferKind {
    /// Whether no other shell shall begin anything with the name meanwhile.
    pub fn is_exclusive(self) -> bool {
        match self {
            TransferKind::Upload | TransferKind::Delete | TransferKind::Rename => true,
            TransferKind::Download => false,
        }
    }

    /// The word for it: "upload".
    pub fn verb(self) -> &'static str {
        match self {
            TransferKind::Upload => "upload",
            TransferKind::Download => "download",
            TransferKind::Delete => "delete",
            TransferKind::Rename => "rename",
        }
    }

    /// What is being done to the name: "uploaded".
    pub fn participle(self) -> &'static str {
        match self {
            TransferKind::Upload => "uploaded",
            TransferKind::Download => "downloaded",
            TransferKind::Delete => "deleted",
            TransferKind::Rename => "renamed",
        }
    }
}

impl Tally {
    /// How much of the total has passed, from 0 to 100; `None` if the total is not known.
    pub fn percent(&self, total_bytes: u64) -> Option<u8> {
        let part = u128::from(self.bytes.min(total_bytes)) * 100;
        part.checked_div(u128::from(total_bytes)).map(|percent| percent as u8)
    }
}

impl std::fmt::Display for Busy {
    /// "being uploaded by anna (127.0.0.1:53210), 40 %", in characters that a terminal shows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "being {} by {}", self.kind.participle(), self.by.escape_debug())?;
        match self.tally.percent(self.total_bytes) {
            Some(percent) => write!(f, ", {percent} %"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_stay_within_a_hundred() {
        let percent = |bytes, total| Tally { bytes, ..Tally::default() }.percent(total);
        assert_eq!(percent(0, 0), None);
        assert_eq!(percent(7, 0), None);
        assert_eq!(percent(2, 5), Some(40));
        assert_eq!(percent(u64::MAX, u64::MAX), Some(100));
        assert_eq!(percent(u64::MAX, 1), Some(100));
        assert_eq!(percent(u64::MAX - 1, u64::MAX), Some(99));
    }

    #[test]
    fn who_is_in_the_way_is_said_in_one_line() {
        let tally = Tally { bytes: 2, files: 1, elapsed_ms: 9 };
        let busy = |by: &str, kind, total_bytes| Busy { by: by.into(), kind, total_bytes, tally }.to_string();
        assert_eq!(busy("anna (::1)", TransferKind::Upload, 5), "being uploaded by anna (::1), 40 %");
        assert_eq!(busy("a\nb\x1b[2J", TransferKind::Delete, 0), "being deleted by a\\nb\\u{1b}[2J");
    }

    #[test]
    fn what_somebody_is_doing_is_said_in_characters_that_a_terminal_shows() {
        let mut session = SessionReport {
            id: SessionId(1),
            own: false,
            client: String::new(),
            address: String::new(),
            uid: None,
            shell: false,
            connected: true,
            age_ms: 0,
            idle_ms: 0,
            open_files: 0,
            locks: 0,
            read_bytes: 0,
            written_bytes: 0,
            recent: vec![],
            transfers: vec![],
            transfer_count: 0,
        };
        assert_eq!(session.doing(), "nothing yet");
        session.recent = vec!["write".into(), "a\x1bb".into()];
        assert_eq!(session.doing(), "write, a\\u{1b}b");
        session.transfers = vec![TransferReport {
            transfer: TransferId(1),
            kind: TransferKind::Upload,
            path: b"d\n\xff/f".to_vec(),
            total_bytes: 4,
            tally: Tally { bytes: 1, ..Tally::default() },
        }];
        session.transfer_count = 1;
        assert_eq!(session.doing(), "upload d\\n\\xff/f, 25 %");
        session.transfer_count = 3;
        assert_eq!(session.doing(), "upload d\\n\\xff/f, 25 %, and 2 more");
    }
}
