//! Extended attributes.

use std::os::fd::AsFd;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Identity;
use nearfs_protocol::id::Node;
use nearfs_protocol::limits::XATTR_VALUE_BYTES_MAX;
use nearfs_protocol::message::{Caller, Reply, XattrMode};
use nearfs_transport::pool::Payload;

use super::Outcome;
use crate::export::{XattrName, XattrRights};
use crate::op::Response;
use crate::session_files::SessionFiles;

impl SessionFiles {
    pub(crate) fn get_xattr(&self, node: Node, name: &[u8], caller: &Caller) -> Outcome {
        let name = XattrName::check(name, self.xattr_rights(caller), false)?;
        let value = self.tree.export.xattr(self.reach(node)?.as_fd(), &name)?;
        Ok(Response { answer: Ok(Reply::Done), payload: Payload::from(value) })
    }

    pub(crate) fn set_xattr(
        &self,
        node: Node,
        name: &[u8],
        (value, mode): (&[u8], XattrMode),
        caller: &Caller,
    ) -> Outcome {
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(Errno::E2BIG.into());
        }
        let name = XattrName::check(name, self.xattr_rights(caller), true)?;
        self.tree.export.set_xattr(self.reach(node)?.as_fd(), &name, value, mode)?;
        Ok(Reply::Done.into())
    }

    pub(crate) fn list_xattr(&self, node: Node, caller: &Caller) -> Outcome {
        let names = self.tree.export.xattr_names(self.reach(node)?.as_fd(), self.xattr_rights(caller))?;
        Ok(Response { answer: Ok(Reply::Done), payload: Payload::from(names) })
    }

    pub(crate) fn remove_xattr(&self, node: Node, name: &[u8], caller: &Caller) -> Outcome {
        let name = XattrName::check(name, self.xattr_rights(caller), false)?;
        self.tree.export.remove_xattr(self.reach(node)?.as_fd(), &name)?;
        Ok(Reply::Done.into())
    }

    fn xattr_rights(&self, caller: &Caller) -> XattrRights {
        match self.tree.identity() {
            Identity::Passthrough if caller.uid == 0 => XattrRights::Root,
            Identity::Passthrough | Identity::Squash { .. } => XattrRights::Ordinary,
        }
    }
}
