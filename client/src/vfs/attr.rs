//! Operations on attributes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_protocol::attr::{Attr, SetAttr, StatFs};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Change;
use nearfs_protocol::limits::SYMLINK_BYTES_MAX;
use nearfs_protocol::message::{Reply, Request};

use crate::cache::FillToken;
use crate::identity::Caller;
use crate::rpc::{Outcome, Patience};
use crate::vfs::types::{Invalidation, NodeAttr};
use crate::vfs::{Vfs, tri, unexpected};

impl Vfs {
    /// Reads attributes (stat(2)).
    pub fn getattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        fh: Option<u64>,
        done: impl FnOnce(Result<NodeAttr, Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        if self.behind.is_pending(node) {
            let again = move |vfs: &Arc<Vfs>, done| vfs.getattr(caller, ino, fh, done);
            return self.after_writes(caller, node, Patience::Bounded, done, again);
        }
        if let Some((attr, ttl)) = self.cache.attr(node, Instant::now()) {
            return done(Ok(self.shown(attr, ttl)));
        }
        let fh = fh.and_then(|fh| self.files.get(fh).ok()).map(|file| file.fh);
        let token = self.cache.begin_fill();
        let vfs = Arc::clone(self);
        self.call(caller, node, Request::GetAttr { node, fh }, move |outcome| {
            done(attr_reply(outcome).map(|attr| {
                let ttl = vfs.seen(token, &attr);
                vfs.shown(attr, ttl)
            }));
        });
    }

    /// Changes attributes (chmod(2), chown(2), truncate(2), utimensat(2)).
    pub fn setattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        fh: Option<u64>,
        set: SetAttr,
        done: impl FnOnce(Result<NodeAttr, Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        if self.behind.is_pending(node) {
            let again = move |vfs: &Arc<Vfs>, done| vfs.setattr(caller, ino, fh, set, done);
            return self.after_writes(caller, node, Patience::Bounded, done, again);
        }
        let fh = fh.and_then(|fh| self.files.get(fh).ok()).map(|file| file.fh);
        let set = self.ids.sent(set);
        let token = self.cache.begin_fill();
        let vfs = Arc::clone(self);
        self.call(caller, node, Request::SetAttr { node, fh, set }, move |outcome| {
            if let Some(size) = set.size {
                vfs.cache.blocks.truncate(node, size);
            }
            done(match outcome {
                Ok((Reply::Changed { before, attr }, _)) => {
                    if set.mode.is_some() || set.uid.is_some() || set.gid.is_some() {
                        vfs.cache.xattrs.mode_or_owner_changed(node);
                    }
                    let ttl = vfs.changed(token, before, &attr);
                    Ok(vfs.shown(attr, ttl))
                }
                Ok((other, _)) => Err(unexpected(&other)),
                Err(errno) => {
                    vfs.cache.attrs.invalidate(node);
                    Err(errno)
                }
            });
        });
    }

    /// Asks whether the caller may read (4), write (2) or execute (1) (access(2)).
    pub fn access(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        mask: u8,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        self.call(caller, node, Request::Access { node, mask }, |outcome| done(outcome.map(|_| ())));
    }

    /// Reads a symlink's target (readlink(2)).
    pub fn readlink(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        done: impl FnOnce(Result<Vec<u8>, Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        if let Some(target) = self.cache.targets.get(node) {
            return done(Ok(target.to_vec()));
        }
        let token = self.cache.begin_fill();
        let vfs = Arc::clone(self);
        self.call(caller, node, Request::ReadLink { node }, move |outcome| {
            // The kernel would cut the target short at a NUL, and take none that is empty or too long.
            let fits =
                |target: &[u8]| (1..=SYMLINK_BYTES_MAX).contains(&target.len()) && !target.contains(&0);
            done(outcome.and_then(|(_, target)| match fits(&target) {
                true => {
                    vfs.cache.targets.fill(token, node, &target);
                    Ok(target.to_vec())
                }
                false => Err(Errno::EIO), // The server is broken.
            }));
        });
    }

    /// Reads the figures of the file system behind the export (statvfs(3)).
    pub fn statfs(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        done: impl FnOnce(Result<StatFs, Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        self.call(caller, node, Request::StatFs { node }, |outcome| {
            done(outcome.and_then(|(reply, _)| match reply {
                Reply::StatFs(figures) => Ok(figures),
                other => Err(unexpected(&other)),
            }));
        });
    }

    /// Attributes as the kernel shall get them.
    pub(crate) fn shown(&self, attr: Attr, ttl: Duration) -> NodeAttr {
        let ino = self.nodes.ino(attr.node.id);
        NodeAttr { ino, attr: self.ids.shown(self.behind.foreseen(attr)), ttl }
    }

    /// The attributes of a node after we ourselves changed it; the token is from before we asked for it.
    /// Returns how long they are right.
    pub(crate) fn changed(&self, token: FillToken, before: Change, attr: &Attr) -> Duration {
        if !self.nodes.pages_rebased(attr.node, before, attr.change) {
            self.notify(Invalidation::Node { ino: self.nodes.ino(attr.node.id) });
        }
        self.cache.own_change(token, before, attr, Instant::now())
    }
}

/// The attributes in an answer that must be nothing else.
pub(crate) fn attr_reply(outcome: Outcome) -> Result<Attr, Errno> {
    match outcome?.0 {
        Reply::Attr(attr) => Ok(attr),
        other => Err(unexpected(&other)),
    }
}
