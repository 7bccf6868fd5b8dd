//! Operations on names: lookup and everything that makes, moves or removes one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_protocol::attr::Attr;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::limits::SYMLINK_BYTES_MAX;
use nearfs_protocol::message::{RenameMode, Reply, Request};
use nearfs_protocol::name::{Name, NameError};

use crate::cache::FillToken;
use crate::cache::dentry::Dentry;
use crate::identity::Caller;
use crate::rpc::Outcome;
use crate::vfs::types::{Entry, Lookup};
use crate::vfs::{Vfs, tri};

impl Vfs {
    /// Finds a name in a directory. A found node counts one lookup.
    pub fn lookup(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        done: impl FnOnce(Result<Lookup, Errno>) + Send + 'static,
    ) {
        let (parent, name) = tri!(self.place(parent, name), done);
        if let Some(known) = self.known_name(parent, &name) {
            return done(Ok(known));
        }
        let token = self.cache.begin_fill();
        let parent_change = self.cache.attrs.last_change(parent);
        let vfs = Arc::clone(self);
        let also_open = self.wanted_with_lookup(caller, parent, &name);
        let request = Request::Lookup { parent, name: name.clone(), also_open };
        self.call(caller, parent, request, move |outcome| {
            let now = Instant::now();
            let place = (parent, &name);
            let outcome = vfs.keep_opened(token, caller, parent, outcome);
            done(match outcome {
                Err(Errno::ENOENT) => Ok(Lookup::Absent {
                    ttl: vfs.cache.fill_name(token, place, parent_change, Dentry::Absent, now),
                }),
                outcome => entry_reply(outcome).map(|attr| {
                    let dentry = Dentry::Node(attr.node);
                    let ttl = vfs.cache.fill_name(token, place, parent_change, dentry, now);
                    Lookup::Found(vfs.granted(token, attr, ttl))
                }),
            });
        });
    }

    /// Makes a symlink (symlink(2)).
    pub fn symlink(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        target: &[u8],
        done: impl FnOnce(Result<Entry, Errno>) + Send + 'static,
    ) {
        let (parent, name) = tri!(self.place(parent, name), done);
        if target.len() > SYMLINK_BYTES_MAX {
            return done(Err(Errno::ENAMETOOLONG));
        }
        let request = Request::Symlink { parent, name: name.clone(), target: target.to_vec() };
        self.make(caller, parent, name, request, done);
    }

    /// Makes a file, fifo, socket or device (mknod(2)). `rdev` is packed as the kernel packs it for FUSE.
    #[expect(clippy::too_many_arguments, reason = "the operation has them")]
    pub fn mknod(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u32,
        done: impl FnOnce(Result<Entry, Errno>) + Send + 'static,
    ) {
        let (parent, name) = tri!(self.place(parent, name), done);
        let rdev = unpack_device(rdev);
        let request = Request::MakeNode { parent, name: name.clone(), mode, umask, rdev };
        self.make(caller, parent, name, request, done);
    }

    /// Makes a directory (mkdir(2)).
    pub fn mkdir(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        done: impl FnOnce(Result<Entry, Errno>) + Send + 'static,
    ) {
        let (parent, name) = tri!(self.place(parent, name), done);
        let request = Request::MakeDir { parent, name: name.clone(), mode, umask };
        self.make(caller, parent, name, request, done);
    }

    /// Gives a node another name (link(2)).
    pub fn link(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        new_parent: u64,
        new_name: &[u8],
        done: impl FnOnce(Result<Entry, Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        let (new_parent, new_name) = tri!(self.place(new_parent, new_name), done);
        let request = Request::Link { node, new_parent, new_name: new_name.clone() };
        self.make(caller, new_parent, new_name, request, done);
    }

    /// Removes a name that is no directory (unlink(2)).
    pub fn unlink(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let (parent, name) = tri!(self.place(parent, name), done);
        let request = Request::Unlink { parent, name: name.clone() };
        self.remove(caller, parent, name, request, done);
    }

    /// Removes an empty directory (rmdir(2)).
    pub fn rmdir(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let (parent, name) = tri!(self.place(parent, name), done);
        let request = Request::RemoveDir { parent, name: name.clone() };
        self.remove(caller, parent, name, request, done);
    }

    /// Renames; `flags` are those of renameat2(2).
    #[expect(clippy::too_many_arguments, reason = "the operation has them")]
    pub fn rename(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        flags: u32,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let (parent, name) = tri!(self.place(parent, name), done);
        let (new_parent, new_name) = tri!(self.place(new_parent, new_name), done);
        let mode = match flags {
            0 => RenameMode::Replace,
            libc::RENAME_NOREPLACE => RenameMode::NoReplace,
            libc::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return done(Err(Errno::EINVAL)),
        };
        let vfs = Arc::clone(self);
        let request =
            Request::Rename { parent, name: name.clone(), new_parent, new_name: new_name.clone(), mode };
        let token = self.cache.begin_fill();
        self.call(caller, parent, request, move |outcome| {
            // The name and its target change places, or one replaces the other: whatever they stood for has
            // other attributes from here on. Also after an error, which may come from what happened in between.
            let (from, to) = ((parent, &name), (new_parent, &new_name));
            if outcome.is_ok() && mode != RenameMode::Exchange && vfs.cache.lead_apart(from, to) {
                vfs.cache.own_removal(token, from, Instant::now());
                vfs.cache.unlinked(new_parent, &new_name);
            } else {
                vfs.cache.moved(from, to);
            }
            let result = outcome.map(|_| ());
            vfs.synced_directories(caller, &[parent, new_parent], result, done);
        });
    }

    /// The common way of everything that makes a name.
    fn make(
        self: &Arc<Self>,
        caller: Caller,
        parent: Node,
        name: Name,
        request: Request,
        done: impl FnOnce(Result<Entry, Errno>) + Send + 'static,
    ) {
        let vfs = Arc::clone(self);
        let token = self.cache.begin_fill();
        self.call(caller, parent, request, move |outcome| {
            let made = made_reply(outcome).map(|attr| vfs.made(token, (parent, &name), attr));
            if made.is_err() {
                vfs.cache.name_changed(parent, &name);
            }
            vfs.synced_directories(caller, &[parent], made, done);
        });
    }

    fn remove(
        self: &Arc<Self>,
        caller: Caller,
        parent: Node,
        name: Name,
        request: Request,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let vfs = Arc::clone(self);
        let token = self.cache.begin_fill();
        self.call(caller, parent, request, move |outcome| {
            match &outcome {
                Ok(_) => vfs.cache.own_removal(token, (parent, &name), Instant::now()),
                Err(_) => vfs.cache.unlinked(parent, &name),
            }
            let result = outcome.map(|_| ());
            vfs.synced_directories(caller, &[parent], result, done);
        });
    }

    /// What is known of a name without asking.
    fn known_name(&self, parent: Node, name: &Name) -> Option<Lookup> {
        let now = Instant::now();
        let (dentry, entry_ttl) = self.cache.name(parent, name, now)?;
        let Dentry::Node(node) = dentry else {
            return Some(Lookup::Absent { ttl: entry_ttl });
        };
        let (attr, attr_ttl) = self.cache.attr(node, now)?;
        self.nodes
            .reference_again(node)
            .then(|| Lookup::Found(Entry { entry_ttl, attr_ttl, ..self.entry(attr) }))
    }

    /// A name was made, and its node comes with a lookup count.
    pub(crate) fn made(&self, token: FillToken, place: (Node, &Name), attr: Attr) -> Entry {
        let ttl = self.cache.own_name(token, place, Dentry::Node(attr.node), Instant::now());
        self.granted(token, attr, ttl)
    }

    /// A node was found, and comes with a lookup count.
    pub(crate) fn granted(&self, token: FillToken, attr: Attr, entry_ttl: Duration) -> Entry {
        self.nodes.grant(attr.node);
        self.nodes.reference(attr.node);
        let attr_ttl = self.seen(token, &attr);
        Entry { entry_ttl, attr_ttl, ..self.entry(attr) }
    }

    /// A directory's node and a checked name in it.
    pub(crate) fn place(&self, parent: u64, name: &[u8]) -> Result<(Node, Name), Errno> {
        let name = Name::new(name).map_err(|error| match error {
            NameError::Invalid => Errno::EINVAL,
            NameError::TooLong => Errno::ENAMETOOLONG,
        })?;
        Ok((self.nodes.node(parent)?, name))
    }
}

/// The attributes in an answer that must be an entry.
fn entry_reply(outcome: Outcome) -> Result<Attr, Errno> {
    match outcome?.0 {
        Reply::Entry { attr, .. } => Ok(attr),
        other => Err(super::unexpected(&other)),
    }
}

/// The attributes of what was made.
fn made_reply(outcome: Outcome) -> Result<Attr, Errno> {
    match outcome?.0 {
        Reply::Made { attr, .. } => Ok(attr),
        other => Err(super::unexpected(&other)),
    }
}

/// From the kernel's packing (12 bits of major, 20 of minor) to the C library's (makedev(3)).
fn unpack_device(rdev: u32) -> u64 {
    let major = (rdev & 0xfff00) >> 8;
    let minor = (rdev & 0xff) | ((rdev >> 12) & 0xfff00);
    libc::makedev(major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_repacked() {
        assert_eq!(unpack_device(0x0103), libc::makedev(1, 3));
        assert_eq!(unpack_device((0x123 << 20) | (8 << 8) | 0x45), libc::makedev(8, 0x12345));
    }
}
