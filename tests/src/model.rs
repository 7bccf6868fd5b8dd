//! The same operations on several file systems, so that they can be compared: in memory ([`memory::Memory`]), in a
//! directory ([`directory::Directory`], local or mounted), and through the client library ([`client::Client`]).
//!
//! Paths have few names, so that operations meet. Symbolic links lead nowhere; what they stand for is never used.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // It serves tests, which fail by panicking.

pub mod client;
pub mod directory;
pub mod memory;

use std::collections::BTreeMap;
use std::fmt;

/// A path below the root of the comparison, as components.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub Vec<&'static str>);

/// Where symbolic links lead.
pub const NOWHERE: &str = "nowhere";
/// Files that can be held open at a time.
pub const HANDS: usize = 2;

/// What is done.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields are named like the arguments of the system calls")]
pub enum Op {
    /// Opens with `O_CREAT`, and `O_EXCL` if it must be new.
    Create {
        place: Place,
        exclusive: bool,
    },
    /// Writes bytes that are made from a seed.
    Write {
        place: Place,
        offset: u64,
        size: usize,
        seed: u8,
    },
    /// Writes with `O_APPEND`.
    Append {
        place: Place,
        size: usize,
        seed: u8,
    },
    Read {
        place: Place,
        offset: u64,
        size: usize,
    },
    Truncate {
        place: Place,
        size: u64,
    },
    /// Allocates, or punches a hole.
    Allocate {
        place: Place,
        offset: u64,
        size: u64,
        hole: bool,
    },
    CopyRange {
        from: Place,
        from_offset: u64,
        to: Place,
        to_offset: u64,
        size: u64,
    },
    MakeDir {
        place: Place,
    },
    RemoveDir {
        place: Place,
    },
    Unlink {
        place: Place,
    },
    /// With the flags of renameat2(2).
    Rename {
        from: Place,
        to: Place,
        flags: u32,
    },
    Link {
        from: Place,
        to: Place,
    },
    Symlink {
        place: Place,
    },
    ReadLink {
        place: Place,
    },
    Chmod {
        place: Place,
        mode: u32,
    },
    SetModified {
        place: Place,
        secs: i64,
        nanos: u32,
    },
    List {
        place: Place,
    },
    Stat {
        place: Place,
    },
    /// With the flags of setxattr(2).
    SetXattr {
        place: Place,
        name: &'static str,
        value: Vec<u8>,
        flags: i32,
    },
    GetXattr {
        place: Place,
        name: &'static str,
    },
    ListXattr {
        place: Place,
    },
    RemoveXattr {
        place: Place,
        name: &'static str,
    },
    /// Opens for reading and writing, and keeps it; what was held before is closed.
    Hold {
        place: Place,
        hand: usize,
    },
    WriteHeld {
        hand: usize,
        offset: u64,
        size: usize,
        seed: u8,
    },
    ReadHeld {
        hand: usize,
        offset: u64,
        size: usize,
    },
    TruncateHeld {
        hand: usize,
        size: u64,
    },
    StatHeld {
        hand: usize,
    },
    LetGo {
        hand: usize,
    },
}

/// What came of an operation: a value, or an errno.
pub type Outcome = Result<Value, i32>;

/// What an operation returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// That it is done.
    Done,
    /// So many bytes.
    Size(u64),
    /// These bytes.
    Bytes(Excerpt),
    /// These names, in order.
    Names(Vec<String>),
    /// What a node is like.
    Node(Node),
    /// The hand was empty.
    Nothing,
}

/// Bytes, told in short.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(pub Vec<u8>);

/// What stat(2) tells that can be compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Names of a file; 0 for a directory, for which file systems differ.
    pub nlink: u64,
    /// Bytes of a file; 0 for others.
    pub size: u64,
}

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "they say it")]
pub enum Kind {
    File,
    Directory,
    Symlink,
}

/// Everything below the root by its path.
pub type Tree = BTreeMap<String, Leaf>;

/// A node of a tree with all that belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Its attributes.
    pub node: Node,
    /// A file's bytes, or a link's target.
    pub content: Excerpt,
    /// Its extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// When it was last modified, where that was set and not changed since.
    pub modified: Option<(i64, u32)>,
}

/// A file system that operations are done on.
pub trait Subject {
    /// How it is called in a report.
    fn name(&self) -> &'static str;
    /// Does it.
    fn apply(&mut self, op: &Op) -> Outcome;
    /// All of it. Times are told of the places for which `timed` says so.
    fn tree(&mut self, timed: &dyn Fn(&str) -> bool) -> Tree;
}

/// The bytes of a write.
pub fn pattern(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| seed.wrapping_add((at % 251) as u8)).collect()
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.0.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
        write!(f, "{} bytes (sum {sum:08x}, {})", self.0.len(), self.0[..self.0.len().min(8)].escape_ascii())
    }
}
