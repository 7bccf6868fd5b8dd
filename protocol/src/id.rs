//! The numbers by which both sides name things.

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);
    };
}

number! {
    /// A file or directory as the server names it, and the `st_ino` that programs see: stable over
    /// remounts and restarts. Zero names nothing.
    NodeId
}
number! {
    /// Tells two files apart that had the same [`NodeId`] one after the other.
    Generation
}
number! {
    /// Differs after any change to a node's content or attributes (RFC 8881, section 5.8.1.4).
    /// Zero is never equal to anything, itself included: see [`Change::same_as`].
    Change
}
number! {
    /// An open file. Dies with its session.
    Fh
}
number! {
    /// A request of one session: a slot, and the sequence number of the request among all that the slot
    /// has carried. Never used again within the session, so that it is also the operation id by which a
    /// mutation that is sent twice is applied once (RFC 8881, section 2.10.6).
    ///
    /// A slot carries one request at a time: the next one in it says that the answer to the last has arrived,
    /// so that the server remembers one answer a slot, and a request that takes long holds up no other.
    RequestId
}
number! {
    /// What outlives a connection: nodes, open files, locks and the answers not yet confirmed.
    SessionId
}
number! {
    /// A transfer that was announced. Never used again in one life of the server.
    TransferId
}
number! {
    /// One life of a server process. A new one means that its memory is gone.
    BootEpoch
}

impl RequestId {
    /// The `sequence`-th request of a slot, counted from 1.
    pub const fn new(slot: u16, sequence: u64) -> RequestId {
        RequestId(sequence << 16 | slot as u64)
    }

    /// Which slot carries it: below [`crate::greeting::GrantedLimits::requests_in_flight_max`].
    pub const fn slot(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// Which of the slot's requests it is. Zero is none.
    pub const fn sequence(self) -> u64 {
        self.0 >> 16
    }
}

impl Change {
    /// The server could not vouch that a later change would show.
    pub const UNSURE: Change = Change(0);

    /// Whether nothing changed between the two readings.
    pub fn same_as(self, other: Change) -> bool {
        self == other && self != Change::UNSURE
    }
}

/// A node without doubt: (id, generation) is never used again for another file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Node {
    /// Which node.
    pub id: NodeId,
    /// Which of the files that had this id.
    pub generation: Generation,
}

/// Proves that a connection that wants to resume or join a session belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionToken(pub [u8; 16]);

impl std::fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

/// The hash of some content: BLAKE3, 32 bytes. [`crate::hash`] computes it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContentHash(pub [u8; 32]);

impl std::fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

impl std::fmt::Display for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One start of the server's operating system: a new one means that what was not synced may be gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);
