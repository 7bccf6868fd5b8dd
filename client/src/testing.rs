//! Values for tests.

use nearfs_protocol::attr::{Attr, FileKind, Time};
use nearfs_protocol::id::{Change, Node};

/// Attributes of a file that belongs to this user and group.
pub(crate) fn attr(uid: u32, gid: u32) -> Attr {
    Attr {
        node: Node::default(),
        change: Change(1),
        kind: FileKind::File,
        mode: 0o644,
        nlink: 1,
        uid,
        gid,
        rdev: 0,
        size: 0,
        blocks: 0,
        blksize: 4096,
        atime: Time::default(),
        mtime: Time::default(),
        ctime: Time::default(),
        btime: None,
    }
}
