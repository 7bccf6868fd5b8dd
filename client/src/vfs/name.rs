//! Operations on names: lookup and everything that makes, moves or removes one.

use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::limits::SYMLINK_BYTES_MAX;
use nearfs_protocol::message::{DirChange, RenameMode, Reply, Request};
use nearfs_protocol::name::{Name, NameError};

use crate::cache::FillToken;
use crate::cache::dentry::Dentry;
use crate::identity::Caller;
use crate::rpc::Outcome;
use crate::vfs::types::{Entry, Invalidation, Lookup};
use crate::vfs::{Vfs, tri, unexpected};

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
                Err(Errno::ENOENT) => {
                    vfs.absence_unknown(caller, parent);
                    let ttl = vfs.cache.fill_name(token, place, parent_change, Dentry::Absent, now);
                    Ok(Lookup::Absent { ttl })
                }
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
            let result = vfs.renamed(token, ((parent, &name), (new_parent, &new_name)), mode, outcome);
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
            let made = match outcome {
                Ok((Reply::Made { attr, empty, parent: change }, _)) => {
                    if empty && attr.kind == FileKind::Directory {
                        vfs.cache.fill_names(token, attr.node, attr.change, iter::empty(), Instant::now());
                    }
                    let made = vfs.made(token, (parent, &name), attr, &change);
                    vfs.absence_unknown(caller, parent);
                    Ok(made)
                }
                Ok((other, _)) => Err(unexpected(&other)),
                Err(errno) => Err(errno),
            };
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
            let result = match outcome {
                Ok((Reply::Removed { parent: change }, _)) => {
                    vfs.cache.forget_attrs_behind(parent, &name);
                    vfs.names_changed(token, parent, &change, &[(&name, Dentry::Absent)]);
                    Ok(())
                }
                Ok((other, _)) => Err(unexpected(&other)),
                Err(errno) => Err(errno),
            };
            if result.is_err() {
                vfs.cache.unlinked(parent, &name);
            }
            vfs.synced_directories(caller, &[parent], result, done);
        });
    }

    /// Takes the outcome of a rename into the caches. The name and its target change places, or one replaces the other:
    /// whatever they stood for has other attributes from here on. Also after an error, which may come from what happened
    /// in between.
    fn renamed(
        &self,
        token: FillToken,
        (from, to): ((Node, &Name), (Node, &Name)),
        mode: RenameMode,
        outcome: Outcome,
    ) -> Result<(), Errno> {
        let (moved, changes) = match outcome {
            Ok((Reply::Renamed { moved, from, to }, _)) => (moved, (from, to)),
            other => {
                self.cache.moved(from, to);
                return Err(other.map_or_else(|errno| errno, |(reply, _)| unexpected(&reply)));
            }
        };
        let Some(moved) = moved.filter(|_| mode != RenameMode::Exchange && self.cache.lead_apart(from, to))
        else {
            self.cache.moved(from, to);
            return Ok(());
        };
        if self.cache.name_last_seen(from.0, from.1) != Some(Dentry::Node(moved.node)) {
            self.cache.forget_attrs_behind(from.0, from.1);
        }
        self.cache.forget_attrs_behind(to.0, to.1);
        let (gone, there) = ((from.1, Dentry::Absent), (to.1, Dentry::Node(moved.node)));
        match changes {
            (change, None) => {
                self.names_changed(token, from.0, &change, &[gone, there]);
            }
            (change, Some(other)) => {
                self.names_changed(token, from.0, &change, &[gone]);
                self.names_changed(token, to.0, &other, &[there]);
            }
        }
        self.changed_node(token, &moved);
        Ok(())
    }

    /// What a change of our own made of names in a directory. Returns how long they may be passed on.
    fn names_changed(
        &self,
        token: FillToken,
        directory: Node,
        change: &DirChange,
        names: &[(&Name, Dentry)],
    ) -> Duration {
        if change.attr.node != directory {
            // The server is broken. It is not believed, and nothing else suffers.
            names.iter().for_each(|(name, _)| self.cache.name_changed(directory, name));
            return Duration::ZERO;
        }
        // The kernel lists it anew by itself.
        self.nodes.pages_rebased(directory, Change::UNSURE, Change::UNSURE);
        self.cache.own_names(token, change, names, Instant::now())
    }

    /// The attributes of a node after a change of our own, where nobody says whether others changed its content meanwhile.
    /// Returns how long they are right. The kernel knows of the change, and who opens a file whose pages are not certain gets
    /// new ones: only those who have it open need them to be dropped.
    pub(crate) fn changed_node(&self, token: FillToken, attr: &Attr) -> Duration {
        let outdated = self.nodes.pages_outdated(attr.node, attr.change);
        if outdated && (attr.kind != FileKind::File || self.nodes.is_open(attr.node)) {
            self.notify(Invalidation::Node { ino: self.nodes.ino(attr.node.id) });
        }
        self.cache.own_change(token, Change::UNSURE, attr, Instant::now())
    }

    /// What is known of a name without asking.
    fn known_name(&self, parent: Node, name: &Name) -> Option<Lookup> {
        let now = Instant::now();
        // Where files are replaced at this moment, what we know of a name may be the one before, and its file gone: the
        // kernel looks once more after that, and only what the server opens together with the lookup is not lost again.
        if self.foresight.is_replaced_lately(now) {
            return None;
        }
        let (dentry, entry_ttl) = self.cache.name(parent, name, now)?;
        let Dentry::Node(node) = dentry else {
            return Some(Lookup::Absent { ttl: entry_ttl });
        };
        let (attr, attr_ttl) = self.cache.attr(node, now).or_else(|| self.attr_for_name(node))?;
        self.nodes
            .reference_again(node)
            .then(|| Lookup::Found(Entry { entry_ttl, attr_ttl, ..self.entry(attr) }))
    }

    /// The attributes that come with a name which is known while they are not: the latest that there were, not to be
    /// believed. Whoever wants more than the name asks for them, in one round trip as if he had asked for both; whoever
    /// moves or removes the name has no need to. The kernel has no newer ones: all that it has came from here.
    fn attr_for_name(&self, node: Node) -> Option<(Attr, Duration)> {
        let attr = self.rpc.is_far().then(|| self.cache.attrs.last_seen(node))??;
        Some((attr, Duration::ZERO))
    }

    /// A name was made, and its node comes with a lookup count. It may have had other names, and other attributes with them.
    pub(crate) fn made(
        &self,
        token: FillToken,
        (parent, name): (Node, &Name),
        attr: Attr,
        change: &DirChange,
    ) -> Entry {
        let entry_ttl = self.names_changed(token, parent, change, &[(name, Dentry::Node(attr.node))]);
        self.nodes.grant(attr.node);
        self.nodes.reference(attr.node);
        let attr_ttl = self.changed_node(token, &attr);
        Entry { entry_ttl, attr_ttl, ..self.entry(attr) }
    }

    /// A node was found, and comes with a lookup count.
    pub(crate) fn granted(&self, token: FillToken, attr: Attr, entry_ttl: Duration) -> Entry {
        self.nodes.grant(attr.node);
        self.nodes.reference(attr.node);
        let attr_ttl = self.seen(token, &attr);
        let attr = self.latest(token, attr);
        Entry { entry_ttl, attr_ttl, ..self.entry(attr) }
    }

    /// Attributes that arrived, or later ones that are here: the kernel, which believes that a write was made as soon as its
    /// program goes on, would take those from before it for those after it.
    fn latest(&self, token: FillToken, attr: Attr) -> Attr {
        if !self.behind.is_used() || self.cache.attr_stands(token, attr.node) {
            return attr;
        }
        self.cache.attrs.last_seen(attr.node).unwrap_or(attr)
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
        other => Err(unexpected(&other)),
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
