//! Versions of the protocol, newest first, and the features a peer may lack.
//!
//! | version | since | what changed |
//! |---|---|---|
//! | 1 | 0.1.0 | the first |

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

/// The versions that this build speaks, oldest and newest.
pub const SPOKEN: VersionRange = VersionRange { oldest: 1, newest: 1 };

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// Lowest version spoken.
    pub oldest: u16,
    /// Highest version spoken.
    pub newest: u16,
}

impl VersionRange {
    /// The newest version that both speak.
    pub fn newest_shared(self, other: VersionRange) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

bitflags! {
    /// What a peer can do beyond its version. Unknown bits of the other side are dropped, so that only
    /// what both know is used.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Features: u64 {
        /// The session outlives its connections: `SessionWish::Resume` is answered.
        const RESUME = 1 << 0;
        /// `Lookup` may open and read in the same step.
        const LOOKUP_OPEN = 1 << 1;
        /// Whole files and their hashes: `HashRange`, `Fetch`, `Store`, `Publish`.
        const TRANSFER = 1 << 2;
        /// The client is a shell: people or scripts give its commands, each of which the server's log tells.
        const SHELL = 1 << 3;
        /// What fails at the client, and what was only looked at, is told for the server's log: `Report`.
        const REPORT = 1 << 4;
    }
}

impl Serialize for Features {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bits().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Features::from_bits_truncate(u64::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_spoken() {
        let range = |oldest, newest| VersionRange { oldest, newest };
        assert_eq!(range(1, 3).newest_shared(range(2, 5)), Some(3));
        assert_eq!(range(2, 5).newest_shared(range(1, 3)), Some(3));
        assert_eq!(range(1, 1).newest_shared(range(2, 2)), None);
    }
}
