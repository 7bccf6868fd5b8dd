//! Names of directory entries: bytes, checked where they enter.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::NAME_BYTES_MAX;

/// How the name of a file begins that is not complete, or is a journal of one.
pub const STAGED_BEGINNING: &[u8] = b".nearfs-";
/// How the name of a file ends that is not complete.
pub const STAGED_ENDING: &[u8] = b".part";
/// How the name of a journal ends.
pub const JOURNAL_ENDING: &[u8] = b".journal";

/// One component of a path: 1 to 255 bytes without `/` and NUL, and neither `.` nor `..`.
/// Nothing else is asked of it: names are bytes, in no particular encoding.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
pub struct Name(Box<[u8]>);

/// Why bytes are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, `.`, `..`, or a byte that no name may have.
    #[error("not a name of a directory entry")]
    Invalid,
    /// More than [`NAME_BYTES_MAX`] bytes.
    #[error("name longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
}

impl Name {
    /// Checks and copies.
    pub fn new(bytes: &[u8]) -> Result<Name, NameError> {
        if bytes.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.iter().any(|b| matches!(b, b'/' | 0))
        {
            return Err(NameError::Invalid);
        }
        Ok(Name(bytes.into()))
    }

    /// The bytes as they are on disk.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the name of a file that will get another when it is complete.
    pub fn is_staged(&self) -> bool {
        self.0.starts_with(STAGED_BEGINNING) && self.0.ends_with(STAGED_ENDING)
    }

    /// Whether it is the name of a journal, by which a transfer is gone on with.
    pub fn is_journal(&self) -> bool {
        self.0.starts_with(STAGED_BEGINNING) && self.0.ends_with(JOURNAL_ENDING)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl TryFrom<serde_bytes::ByteBuf> for Name {
    type Error = NameError;
    fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Name, NameError> {
        Name::new(&bytes)
    }
}

impl From<Name> for serde_bytes::ByteBuf {
    fn from(name: Name) -> Self {
        serde_bytes::ByteBuf::from(name.0.into_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bytes_but_not_paths() {
        for good in [&b"a"[..], b"\xe9", b"a\nb", b"-rf", b"...", &[b'x'; 255]] {
            assert_eq!(Name::new(good).map(|n| n.as_bytes().to_vec()), Ok(good.to_vec()));
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(Name::new(bad), Err(NameError::Invalid));
        }
        assert_eq!(Name::new(&[b'x'; 256]), Err(NameError::TooLong));
    }
}
