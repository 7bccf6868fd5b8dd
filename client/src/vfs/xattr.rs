//! Extended attributes (xattr(7)). Values are whole; size probes are answered by whoever asks for us.

use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::limits::{XATTR_NAME_BYTES_MAX, XATTR_NAMES_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use nearfs_protocol::message::{Request, XattrMode};

use crate::identity::Caller;
use crate::rpc::{Outcome, Patience};
use crate::vfs::{Vfs, tri, unexpected};

impl Vfs {
    /// Reads a value (getxattr(2)).
    pub fn getxattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        name: &[u8],
        done: impl FnOnce(Result<Vec<u8>, Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        let name = tri!(checked_name(name), done);
        if let Some(known) = self.cache.xattr(node, &name, Instant::now()) {
            return done(known.map(|value| value.to_vec()).ok_or(Errno::ENODATA));
        }
        let token = self.cache.begin_fill();
        let change = self.cache.attrs.last_change(node);
        let vfs = Arc::clone(self);
        self.call(caller, node, Request::GetXattr { node, name: name.clone() }, move |outcome| {
            let value = bounded(outcome, XATTR_VALUE_BYTES_MAX);
            match &value {
                Ok(value) => vfs.cache.fill_xattr(token, node, change, &name, Some(value), Instant::now()),
                Err(Errno::ENODATA) => vfs.cache.fill_xattr(token, node, change, &name, None, Instant::now()),
                Err(_) => {}
            }
            done(value);
        });
    }

    /// Sets a value; `flags` are those of setxattr(2).
    pub fn setxattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        name: &[u8],
        value: &[u8],
        flags: i32,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        let name = tri!(checked_name(name), done);
        let mode = match flags {
            0 => XattrMode::Set,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return done(Err(Errno::EINVAL)),
        };
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return done(Err(Errno::E2BIG));
        }
        let vfs = Arc::clone(self);
        let request = Request::SetXattr { node, name, mode };
        let value = Some(self.rpc.keep(value));
        self.call_patient(caller, node, request, value, Patience::Bounded, move |outcome| {
            vfs.xattrs_changed(node);
            done(outcome.map(|_| ()));
        });
    }

    /// Lists names, a NUL after each (listxattr(2)).
    pub fn listxattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        done: impl FnOnce(Result<Vec<u8>, Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        self.call(caller, node, Request::ListXattr { node }, |outcome| {
            done(bounded(outcome, XATTR_NAMES_BYTES_MAX));
        });
    }

    /// Removes an attribute (removexattr(2)).
    pub fn removexattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        name: &[u8],
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        let name = tri!(checked_name(name), done);
        let vfs = Arc::clone(self);
        self.call(caller, node, Request::RemoveXattr { node, name }, move |outcome| {
            vfs.xattrs_changed(node);
            done(outcome.map(|_| ()));
        });
    }
}

impl Vfs {
    /// A change of our own moved the node's counter by we do not know how much, without touching its content. Pages
    /// must not be told from their counter to be old: to let them go would make the kernel pass over the attributes
    /// that it is asking for, and an access control list show in them.
    fn xattrs_changed(&self, node: Node) {
        self.cache.xattrs.invalidate(node);
        self.cache.attrs.invalidate(node);
        self.nodes.pages_rebased(node, Change::UNSURE, Change::UNSURE);
    }
}

/// The bytes in an answer, unless the server is broken and sent more than there can be.
fn bounded(outcome: Outcome, bytes_max: usize) -> Result<Vec<u8>, Errno> {
    match outcome? {
        (_, bytes) if bytes.len() <= bytes_max => Ok(bytes.to_vec()),
        (reply, _) => Err(unexpected(&reply)),
    }
}

fn checked_name(name: &[u8]) -> Result<Vec<u8>, Errno> {
    match name.len() {
        0 => Err(Errno::EINVAL),
        1..=XATTR_NAME_BYTES_MAX => Ok(name.to_vec()),
        _ => Err(Errno::ERANGE),
    }
}
