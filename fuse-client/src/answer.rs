//! How the kernel is told what came of an operation: one function a form of reply, with what the library or the
//! kernel's side of FUSE needs of it: sizes of extended attributes, names that do not exist.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{
    FileHandle, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLock, ReplyOpen, ReplyStatfs, ReplyXattr,
};
use nearfs_client::vfs::types::{DirItem, Entry, Lookup, NodeAttr, Opened};
use nearfs_protocol::attr::{FileKind, Lock, LockKind, StatFs};
use nearfs_protocol::errno::Errno;

use crate::convert;

pub(crate) fn lookup(reply: ReplyEntry, found: Result<Lookup, Errno>) {
    match found {
        Ok(Lookup::Found(found)) => entry(reply, Ok(found)),
        Ok(Lookup::Absent { ttl }) if ttl.is_zero() => reply.error(fuser::Errno::ENOENT),
        // Node 0 is the name's absence, for the kernel to remember.
        Ok(Lookup::Absent { ttl }) => {
            let nothing = convert::no_attr(FileKind::File);
            reply.entry_with_ttls(&Duration::ZERO, &ttl, &nothing, Generation(0));
        }
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

pub(crate) fn entry(reply: ReplyEntry, entry: Result<Entry, Errno>) {
    match entry {
        Ok(entry) => {
            let attr = convert::file_attr(entry.ino, &entry.attr);
            let generation = Generation(entry.generation);
            reply.entry_with_ttls(&entry.attr_ttl, &entry.entry_ttl, &attr, generation);
        }
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

/// The root is node 1 to the kernel, but programs see the number it has on the server.
pub(crate) fn attr(reply: ReplyAttr, attr: Result<NodeAttr, Errno>) {
    match attr {
        Ok(node) => reply.attr(&node.ttl, &convert::file_attr(node.attr.node.id.0, &node.attr)),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

pub(crate) fn empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

pub(crate) fn opened(reply: ReplyOpen, opened: Result<Opened, Errno>) {
    match opened {
        Ok(opened) => reply.opened(FileHandle(opened.fh), convert::fopen_flags(opened)),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

/// The library has one time for name and attributes here: the shorter one is right for both.
pub(crate) fn created(reply: ReplyCreate, created: Result<(Entry, Opened), Errno>) {
    match created {
        Ok((entry, opened)) => reply.created(
            &entry.entry_ttl.min(entry.attr_ttl),
            &convert::file_attr(entry.ino, &entry.attr),
            Generation(entry.generation),
            FileHandle(opened.fh),
            convert::fopen_flags(opened),
        ),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

/// A caller with room for nothing asks for the size (getxattr(2), listxattr(2)).
pub(crate) fn xattr(reply: ReplyXattr, room: u32, bytes: Result<Vec<u8>, Errno>) {
    match bytes {
        Ok(bytes) => match u32::try_from(bytes.len()) {
            Ok(size) if room == 0 => reply.size(size),
            Ok(size) if size <= room => reply.data(&bytes),
            Ok(_) | Err(_) => reply.error(fuser::Errno::ERANGE),
        },
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

pub(crate) fn statfs(reply: ReplyStatfs, figures: Result<StatFs, Errno>) {
    match figures {
        Ok(f) => reply.statfs(
            f.blocks,
            f.blocks_free,
            f.blocks_available,
            f.files,
            f.files_free,
            f.io_bytes,
            f.name_bytes_max,
            f.block_bytes,
        ),
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

/// No lock in the way is the asked one with type "unlocked" (fcntl(2), `F_GETLK`).
pub(crate) fn lock(reply: ReplyLock, asked: Lock, found: Result<Option<Lock>, Errno>) {
    match found {
        Ok(found) => {
            let lock = found.unwrap_or(Lock { kind: LockKind::Unlock, pid: 0, ..asked });
            let (start, end, kind) = convert::lock_range(&lock);
            reply.locked(start, end, kind, lock.pid);
        }
        Err(errno) => reply.error(convert::errno(errno)),
    }
}

/// Fills a listing. Returns how many of the items found room.
pub(crate) fn listing(mut reply: ReplyDirectory, items: Result<&[DirItem], Errno>) -> usize {
    match items {
        Ok(items) => {
            let taken = items.iter().take_while(|item| add_item(&mut reply, item)).count();
            reply.ok();
            taken
        }
        Err(errno) => {
            reply.error(convert::errno(errno));
            0
        }
    }
}

/// The same with attributes.
pub(crate) fn listing_plus(mut reply: ReplyDirectoryPlus, items: Result<&[DirItem], Errno>) -> usize {
    match items {
        Ok(items) => {
            let taken = items.iter().take_while(|item| add_item_plus(&mut reply, item)).count();
            reply.ok();
            taken
        }
        Err(errno) => {
            reply.error(convert::errno(errno));
            0
        }
    }
}

/// Adds a name to a listing; false if there is no room for it.
fn add_item(reply: &mut ReplyDirectory, item: &DirItem) -> bool {
    let kind = convert::file_type(known_kind(item));
    !reply.add(INodeNo(item.ino), item.offset, kind, OsStr::from_bytes(&item.name))
}

/// The library has no word for "unknown"; what the server could not tell is most likely a file.
fn known_kind(item: &DirItem) -> FileKind {
    item.kind.or(item.entry.as_ref().map(|entry| entry.attr.kind)).unwrap_or(FileKind::File)
}

/// Numbers from here on belong to no node of a server.
const NO_NODES_BASE: u64 = 0xffff_fffe << 32;

/// Adds a name with its attributes, as far as they are known.
fn add_item_plus(reply: &mut ReplyDirectoryPlus, item: &DirItem) -> bool {
    let name = OsStr::from_bytes(&item.name);
    let full = match &item.entry {
        Some(entry) => {
            let attr = convert::file_attr(entry.ino, &entry.attr);
            let ttl = entry.entry_ttl.min(entry.attr_ttl);
            reply.add(attr.ino, item.offset, name, &ttl, &attr, Generation(entry.generation))
        }
        None => {
            // The kernel never links `.` and `..`, whatever their number. The library has one number for both the
            // node and what programs see, and a name with number 0 is no name to them: any other name without
            // attributes gets the number of a node that there is not, to be looked up when it is used.
            let dot = item.name == b"." || item.name == b"..";
            let ino = INodeNo(if dot { item.ino } else { NO_NODES_BASE | item.ino & u64::from(u32::MAX) });
            let attr = fuser::FileAttr { ino, ..convert::no_attr(known_kind(item)) };
            reply.add(ino, item.offset, name, &Duration::ZERO, &attr, Generation(0))
        }
    };
    !full
}
