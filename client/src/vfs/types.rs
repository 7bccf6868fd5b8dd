//! What operations return.

use std::time::Duration;

use nearfs_protocol::attr::{Attr, FileKind};

/// A name's node, with one more lookup count for whoever asked.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The number by which the node is asked for from here on.
    pub ino: u64,
    /// Tells it apart from an earlier node of that number.
    pub generation: u64,
    /// Its attributes, as programs shall see them.
    pub attr: Attr,
    /// How long the name leads to this node without asking again.
    pub entry_ttl: Duration,
    /// How long the attributes are right without asking again.
    pub attr_ttl: Duration,
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// A node.
    Found(Entry),
    /// Nothing.
    Absent {
        /// How long that is so without asking again.
        ttl: Duration,
    },
}

/// Attributes of a node.
#[derive(Clone, Debug)]
pub struct NodeAttr {
    /// The number by which the node is asked for.
    pub ino: u64,
    /// The attributes, as programs shall see them.
    pub attr: Attr,
    /// How long they are right without asking again.
    pub ttl: Duration,
}

/// An open file or directory.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The number by which it is asked for.
    pub fh: u64,
    /// What the kernel has of its content is still right.
    pub keep_cache: bool,
    /// The kernel shall keep nothing of its content.
    pub direct_io: bool,
    /// The kernel may keep the listing.
    pub cache_dir: bool,
}

/// One name of a listing.
#[derive(Clone, Debug)]
pub struct DirItem {
    /// Its node's number for `d_ino`.
    pub ino: u64,
    /// Where the listing goes on after it.
    pub offset: u64,
    /// What it is, if that is known.
    pub kind: Option<FileKind>,
    /// The name.
    pub name: Vec<u8>,
    /// Its node with attributes and a lookup count that begins when the item is taken; none for `.` and `..`.
    pub entry: Option<Entry>,
}

/// Something that the kernel's caches shall let go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Invalidation {
    /// Attributes and content of a node.
    Node {
        /// Which.
        ino: u64,
    },
    /// A part of a node's content.
    Range {
        /// Which node.
        ino: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        size: u64,
    },
    /// A name.
    Entry {
        /// The directory.
        parent: u64,
        /// The name in it.
        name: Vec<u8>,
    },
}
