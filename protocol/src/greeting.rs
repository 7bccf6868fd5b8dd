//! The first words on a connection: who wants what, and what is granted.

use serde::{Deserialize, Serialize};

use crate::attr::Attr;
use crate::id::{BootEpoch, BootId, SessionId, SessionToken};
use crate::version::{Features, VersionRange};

/// The client's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions the client speaks.
    pub versions: VersionRange,
    /// Features the client knows.
    pub features: Features,
    /// Which session the connection shall carry.
    pub session: SessionWish,
    /// Who connects, for people to read in the server's log.
    pub client: String,
}

/// Which session a connection shall carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionWish {
    /// A new one on an export.
    New {
        /// The export's name; empty for the server's only or default one.
        #[serde(with = "serde_bytes")]
        export: Vec<u8>,
        /// A directory below the export's root, as components; the mount sees it as its root.
        path: Vec<crate::name::Name>,
    },
    /// One whose connections were lost, if only one of them. Its earlier connections are closed, and the
    /// client sends again what was not answered.
    Resume {
        /// Which.
        session: SessionId,
        /// Proves that it is ours.
        token: SessionToken,
    },
    /// One that has a connection already: adds another.
    Join {
        /// Which.
        session: SessionId,
        /// Proves that it is ours.
        token: SessionToken,
    },
}

/// The server's answer: the connection is admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both speak from here on.
    pub version: u16,
    /// The features that both know.
    pub features: Features,
    /// This life of the server process.
    pub epoch: BootEpoch,
    /// This start of the server's operating system.
    pub boot: BootId,
    /// The session that the connection carries.
    pub session: SessionId,
    /// What resuming or joining it takes.
    pub token: SessionToken,
    /// The root of the mount.
    pub root: Attr,
    /// Whether every change is refused with `EROFS`.
    pub read_only: bool,
    /// As whom the server acts.
    pub identity: Identity,
    /// What the client may have under way.
    pub limits: GrantedLimits,
}

/// As whom the server acts on its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// Always as one user, whoever asks.
    Squash {
        /// That user.
        uid: u32,
        /// His group.
        gid: u32,
    },
    /// As the caller that the client names.
    Passthrough,
}

/// What one session may have under way, at most the bounds of [`crate::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedLimits {
    /// Requests without an answer, which is the number of slots: see [`crate::id::RequestId`].
    pub requests_in_flight_max: u32,
    /// Payload bytes, asked for or sent.
    pub in_flight_bytes_max: u32,
    /// Payload bytes of one frame.
    pub payload_bytes_max: u32,
    /// Connections of the session.
    pub connections_max: u16,
    /// How long the session keeps everything without a connection, in milliseconds.
    pub lease_ms: u32,
}

/// The server's other answer: the connection is closed after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// No common version.
    #[error("the server speaks protocol versions {} to {}", .0.oldest, .0.newest)]
    Version(VersionRange),
    /// There is no such export, or no such directory in it.
    #[error("the server has no export or directory of that name")]
    NoExport,
    /// The client may not connect.
    #[error("the server does not admit this client: {}", .0.escape_debug())]
    NotAdmitted(String),
    /// The session to resume or join is unknown or over.
    #[error("the server does not know the session any more")]
    NoSession,
    /// The server has all the clients it can take.
    #[error("the server has too many clients; try again later")]
    Full,
    /// The server is about to stop.
    #[error("the server is stopping")]
    Stopping,
    /// The greeting made no sense.
    #[error("the server did not understand the greeting")]
    Malformed,
    /// The session to resume or join was ended by the server's owner.
    #[error("the session was ended by the server's owner")]
    EndedByOwner,
}
