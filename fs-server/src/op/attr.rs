//! Attributes: read, changed, and the rights that come of them.

use std::os::fd::AsFd;

use nearfs_protocol::attr::{Attr, SetAttr};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, Node, RequestId};
use nearfs_protocol::message::{Caller, Reply};

use super::Outcome;
use crate::export::Reached;
use crate::identity;
use crate::op::Pace;
use crate::session_files::{At, SessionFiles};
use crate::store::AfterTruncation;

/// Set-user-id and set-group-id.
const SET_ID_BITS: u32 = libc::S_ISUID | libc::S_ISGID;
/// Bits of access(2).
const ACCESS_BITS: u8 = (libc::R_OK | libc::W_OK | libc::X_OK) as u8;

impl SessionFiles {
    pub(crate) fn get_attr(&self, node: Node, fh: Option<Fh>) -> Outcome {
        let at = self.reach_through(node, fh)?;
        Ok(Reply::Attr(self.tree.export.attr(&at)?).into())
    }

    pub(crate) fn set_attr(
        &self,
        (id, caller): (RequestId, &Caller),
        (node, fh): (Node, Option<Fh>),
        set: &SetAttr,
        pace: Pace,
    ) -> Outcome {
        if let Some(Err(Errno::EIO)) = fh.map(|fh| self.files.get(fh)) {
            // A late writer may not cut the file off either.
            return Err(Errno::EIO.into());
        }
        let at = self.reach_through(node, fh)?;
        let _changing = self.changing(node, pace)?;
        let export = &self.tree.export;
        let before = export.attr(&at)?;
        let reached = match &at {
            At::Open(file) if file.writable && fh.is_some() => Reached::Open(file.as_fd()),
            At::Open(_) | At::Held(_) => Reached::Path(at.as_fd()),
        };
        if let Some(size) = set.size {
            let rest = AfterTruncation::Set { caller: caller.clone(), set: SetAttr { size: None, ..*set } };
            self.intend_truncation(id, &before, size, rest)?;
        }
        match export.set_attr(reached, set) {
            Err(Errno::EPERM) if self.only_drops_set_id(&at, &before, set) => {
                identity::as_server(|| export.set_attr(reached, set))?;
            }
            outcome => outcome?,
        }
        Ok(Reply::Changed { before: before.change, attr: export.attr(&at)? }.into())
    }

    pub(crate) fn access(&self, node: Node, mask: u8) -> Outcome {
        if mask & !ACCESS_BITS != 0 {
            return Err(Errno::EINVAL.into());
        }
        self.tree.export.access(&self.reach(node)?, mask)?;
        Ok(Reply::Done.into())
    }

    pub(crate) fn stat_fs(&self, node: Node) -> Outcome {
        Ok(Reply::StatFs(self.tree.export.stat_fs(&self.reach(node)?)?).into())
    }

    /// Gets at a node through an open file of it, where the client says which.
    fn reach_through(&self, node: Node, fh: Option<Fh>) -> Result<At, Errno> {
        match fh.map(|fh| self.files.get(fh)) {
            Some(Ok(file)) if file.node == node => Ok(At::Open(file)),
            Some(_) | None => self.reach(node),
        }
    }

    /// Whether a change does no more than what any write does to the set-id bits of somebody else's file: the client's
    /// kernel asks for it in the writer's name.
    fn only_drops_set_id(&self, at: &At, before: &Attr, set: &SetAttr) -> bool {
        let SetAttr { mode: Some(mode), uid: None, gid: None, size: None, atime: None, mtime: None } = *set
        else {
            return false;
        };
        let drops = mode != before.mode
            && mode | SET_ID_BITS == before.mode | SET_ID_BITS
            && mode & !before.mode == 0;
        drops && self.tree.export.access(at, libc::W_OK as u8).is_ok()
    }
}
