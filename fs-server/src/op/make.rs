//! Names that are made and removed: directories, symlinks, special files, links.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::limits::SYMLINK_BYTES_MAX;
use nearfs_protocol::message::Reply;
use nearfs_protocol::name::Name;
use nearfs_transport::pool::Payload;

use super::Outcome;
use crate::export::c_name;
use crate::identity;
use crate::op::Response;
use crate::session_files::{At, SessionFiles};
use crate::tree::named;

impl SessionFiles {
    pub(crate) fn make_dir(&self, parent: Node, name: &Name, (mode, umask): (u32, u32)) -> Outcome {
        identity::set_umask(umask)?;
        self.make(parent, name, |directory, name| self.tree.export.make_dir(directory, name, mode))
    }

    pub(crate) fn make_node(
        &self,
        parent: Node,
        name: &Name,
        (mode, umask): (u32, u32),
        rdev: u64,
    ) -> Outcome {
        identity::set_umask(umask)?;
        self.make(parent, name, |directory, name| self.tree.export.make_node(directory, name, mode, rdev))
    }

    pub(crate) fn symlink(&self, parent: Node, name: &Name, target: &[u8]) -> Outcome {
        if target.len() > SYMLINK_BYTES_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        let target = CString::new(target).map_err(|_| Errno::EINVAL)?;
        self.make(parent, name, |directory, name| self.tree.export.make_symlink(directory, name, &target))
    }

    pub(crate) fn read_link(&self, node: Node) -> Outcome {
        let target = self.tree.export.read_link(&self.reach(node)?)?;
        Ok(Response { answer: Ok(Reply::Done), payload: Payload::from(target) })
    }

    pub(crate) fn link(&self, node: Node, new_parent: Node, new_name: &Name) -> Outcome {
        let (at, directory) = (self.reach(node)?, self.reach(new_parent)?);
        let changing = self.changing_name((new_parent, new_name), &directory)?;
        self.tree.export.link(at.as_fd(), &directory, &c_name(new_name)?)?;
        let attr = self.tree.export.attr(&at)?;
        self.count(&attr, &named(new_parent, new_name));
        Ok(Reply::Made { attr, empty: false, parent: changing.done(1)? }.into())
    }

    pub(crate) fn unlink(&self, parent: Node, name: &Name) -> Outcome {
        self.remove(parent, name, |directory, name| self.tree.export.unlink(directory, name))
    }

    pub(crate) fn remove_dir(&self, parent: Node, name: &Name) -> Outcome {
        self.remove(parent, name, |directory, name| self.tree.export.remove_dir(directory, name))
    }

    fn remove(
        &self,
        parent: Node,
        name: &Name,
        remove: impl FnOnce(&At, &CStr) -> Result<(), Errno>,
    ) -> Outcome {
        let directory = self.reach(parent)?;
        let changing = self.changing_name((parent, name), &directory)?;
        remove(&directory, &c_name(name)?)?;
        Ok(Reply::Removed { parent: changing.done(1)? }.into())
    }

    /// Makes a name and answers with what it leads to.
    fn make(&self, parent: Node, name: &Name, make: impl FnOnce(&At, &CStr) -> Result<(), Errno>) -> Outcome {
        let directory = self.reach(parent)?;
        let changing = self.changing_name((parent, name), &directory)?;
        make(&directory, &c_name(name)?)?;
        let attr = self.meet(&directory, parent, name)?;
        let empty = attr.kind == FileKind::Directory && self.is_empty(attr.node);
        Ok(Reply::Made { attr, empty, parent: changing.done(1)? }.into())
    }
}
