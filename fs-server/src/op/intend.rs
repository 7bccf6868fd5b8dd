//! What is noted before a mutation that must not be applied twice, and what is kept of a file whose last name goes.

use nearfs_protocol::attr::{Attr, FileKind, Time};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, Node, RequestId};
use nearfs_protocol::limits::PUBLISHED_MAX;
use nearfs_protocol::message::{Call, RenameMode, Request, XattrMode};
use nearfs_protocol::name::Name;

use crate::export::{Glance, c_name, kind_of_mode};
use crate::identity;
use crate::keep::Keeper;
use crate::session_files::SessionFiles;
use crate::store::{AfterTruncation, Intent, Publishing};

impl SessionFiles {
    /// Notes what it takes to see after the server was killed whether this call was carried out. At most one quick look
    /// at each name that is removed or replaced. Nothing for requests that may as well run again.
    ///
    /// Errors: `ECANCELED` if the session was left to the server's next life, to which nothing more can be said: then the
    /// call must have no effect, and is carried out there.
    pub(crate) fn intend(&self, id: RequestId, call: &Call) -> Result<(), Errno> {
        let Some(Keeper { record, .. }) = &self.keeper else { return Ok(()) };
        self.intent(call).map_or(Ok(()), |intent| record.intend(id, &intent))
    }

    /// The same for an append, while nobody else changes the file.
    pub(crate) fn intend_append(&self, id: RequestId, fh: Fh, size: u64, length: u64) -> Result<(), Errno> {
        let Some(Keeper { record, .. }) = &self.keeper else { return Ok(()) };
        record.intend(id, &Intent::Append { fh, size, length })
    }

    /// The same for a new size, while nobody else changes the file with these attributes.
    pub(crate) fn intend_truncation(
        &self,
        id: RequestId,
        attr: &Attr,
        size: u64,
        rest: AfterTruncation,
    ) -> Result<(), Errno> {
        let Some(Keeper { record, .. }) = &self.keeper else { return Ok(()) };
        record.intend(id, &Intent::Truncate { node: attr.node, size, before: attr.change, rest })
    }

    fn intent(&self, Call { caller, request }: &Call) -> Option<Intent> {
        let make = |parent: &Node, name: &Name, kind| Intent::Make {
            parent: *parent,
            name: name.clone(),
            kind,
            since: now(),
        };
        match request {
            Request::MakeDir { parent, name, .. } => Some(make(parent, name, FileKind::Directory)),
            Request::Symlink { parent, name, .. } => Some(make(parent, name, FileKind::Symlink)),
            Request::MakeNode { parent, name, mode, .. } => Some(make(parent, name, kind_of_mode(*mode))),
            Request::Create { parent, name, flags, .. } => {
                Some(Intent::Create { parent: *parent, name: name.clone(), flags: *flags, since: now() })
            }
            Request::Store { parent, name, .. } => {
                Some(Intent::Store { parent: *parent, name: name.clone(), since: now() })
            }
            Request::Publish { items } => {
                let publishing = items.iter().take(PUBLISHED_MAX).map(|item| {
                    if item.mode == RenameMode::Replace {
                        self.glance_and_keep(item.parent, &item.name);
                    }
                    let staged = self.glance(item.parent, &item.staged);
                    Publishing { item: item.clone(), leads_to: staged.ok().map(|glance| glance.inode) }
                });
                Some(Intent::Publish { caller: caller.clone(), items: publishing.collect() })
            }
            Request::Link { node, new_parent, new_name } => {
                let (parent, name) = (*new_parent, new_name.clone());
                Some(Intent::Link { node: *node, parent, name, since: now() })
            }
            Request::Unlink { parent, name } | Request::RemoveDir { parent, name } => {
                let glance = self.glance_and_keep(*parent, name)?;
                Some(Intent::Remove { parent: *parent, name: name.clone(), leads_to: glance.inode })
            }
            Request::Rename { parent, name, new_parent, new_name, mode } => {
                let leads_to = self.glance(*parent, name).ok()?.inode;
                let new = match mode {
                    RenameMode::Replace => self.glance_and_keep(*new_parent, new_name),
                    RenameMode::NoReplace | RenameMode::Exchange => self.glance(*new_parent, new_name).ok(),
                };
                Some(Intent::Rename {
                    parent: *parent,
                    name: name.clone(),
                    new_parent: *new_parent,
                    new_name: new_name.clone(),
                    mode: *mode,
                    leads_to,
                    new_leads_to: new.map(|glance| glance.inode),
                })
            }
            Request::SetXattr { node, name, mode: XattrMode::Create } => {
                let sets = !self.has_xattr(*node, name).ok()?;
                sets.then(|| Intent::Xattr { node: *node, name: name.clone(), sets })
            }
            Request::RemoveXattr { node, name } => {
                let removes = self.has_xattr(*node, name).ok()?;
                removes.then(|| Intent::Xattr { node: *node, name: name.clone(), sets: false })
            }
            Request::Allocate { fh, mode, length, .. } => {
                let size = self.tree.export.attr(&*self.files.get(*fh).ok()?).ok()?.size;
                let size_after = match *mode as i32 {
                    libc::FALLOC_FL_INSERT_RANGE => size.checked_add(*length)?,
                    libc::FALLOC_FL_COLLAPSE_RANGE => size.checked_sub(*length)?,
                    _ => return None,
                };
                Some(Intent::Resize { fh: *fh, size_after })
            }
            // A write itself notes where the end is, and what sets a size what is changed by that, once nobody else changes
            // the file.
            Request::Write { .. }
            | Request::Lookup { .. }
            | Request::Forget { .. }
            | Request::GetAttr { .. }
            | Request::SetAttr { .. }
            | Request::Access { .. }
            | Request::ReadLink { .. }
            | Request::Open { .. }
            | Request::CreateUnnamed { .. }
            | Request::Read { .. }
            | Request::Flush { .. }
            | Request::Fsync { .. }
            | Request::Release { .. }
            | Request::ReadDir { .. }
            | Request::FsyncDir { .. }
            | Request::StatFs { .. }
            | Request::GetXattr { .. }
            | Request::SetXattr { .. }
            | Request::ListXattr { .. }
            | Request::Seek { .. }
            | Request::CopyRange { .. }
            | Request::GetLock { .. }
            | Request::SetLock { .. }
            | Request::HashRange { .. }
            | Request::Fetch { .. }
            | Request::ListSessions { .. }
            | Request::Kick { .. }
            | Request::Announce { .. }
            | Request::CountFile { .. }
            | Request::EndTransfer { .. }
            | Request::Report { .. } => None,
        }
    }

    /// Where a name leads.
    pub(super) fn glance(&self, parent: Node, name: &Name) -> Result<Glance, Errno> {
        self.tree.export.glance(&self.reach(parent)?, &c_name(name)?)
    }

    /// The same for a name that goes: if that is the last one of an open file, the file gets one of ours.
    fn glance_and_keep(&self, parent: Node, name: &Name) -> Option<Glance> {
        let (directory, name) = (self.reach(parent).ok()?, c_name(name).ok()?);
        let glance = self.tree.export.glance(&directory, &name).ok()?;
        if self.tree.export.is_last_of_open(&glance) {
            identity::as_server(|| self.tree.export.keep_if_open(&directory, &name, &glance));
        }
        Some(glance)
    }

    pub(super) fn has_xattr(&self, node: Node, name: &[u8]) -> Result<bool, Errno> {
        self.tree.export.has_xattr(&self.reach(node)?, name)
    }
}

/// The time that the system would stamp a new file with, or a moment before.
fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Time { secs: now.tv_sec, nanos: now.tv_nsec as u32 }
}
