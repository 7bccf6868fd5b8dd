//! Mutations that were noted and not answered when the server was killed: whether they were carried out is decided from
//! the disk, once, before anybody can change it.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nearfs_protocol::attr::{Attr, FileKind, SetAttr, Time};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Fh, Node, RequestId};
use nearfs_protocol::message::{Answer, Caller, DirChange, Publication, RenameMode, Reply, Written};
use nearfs_protocol::name::Name;
use nearfs_protocol::session::server::Remembered;

use crate::export::{Inode, Opening, Reached, c_name};
use crate::identity;
use crate::session_files::SessionFiles;
use crate::store::{AfterTruncation, Intent, Kept, Outcome, Publishing};
use crate::tree::named;

/// Nodes of which it is known who made them.
pub(crate) type Claimed = HashSet<Node>;

/// What the answers that were given say of who made what.
pub(crate) fn claims(kept: &[Kept]) -> impl Iterator<Item = Node> {
    kept.iter().filter_map(|kept| match &kept.outcome {
        Outcome::Done(Ok(Reply::Made { attr, .. } | Reply::Created { attr, created: true, .. })) => {
            Some(attr.node)
        }
        Outcome::Done(_) | Outcome::Begun | Outcome::Intended(_) => None,
    })
}

impl SessionFiles {
    /// Decides what was in limbo; `claimed` grows by what was made. Returns all that the session is to remember.
    pub(crate) fn settle(self: &Arc<Self>, kept: Vec<Kept>, claimed: &mut Claimed) -> Vec<Remembered> {
        let settled = kept.into_iter().filter_map(|Kept { id, fingerprint, outcome }| {
            let answer = match outcome {
                Outcome::Done(answer) => answer,
                Outcome::Begun => return None,
                Outcome::Intended(intent) => self.settle_one((id, fingerprint), &intent, claimed)?,
            };
            Some(Remembered { id, fingerprint, answer })
        });
        settled.collect()
    }

    fn settle_one(
        self: &Arc<Self>,
        (id, fingerprint): (RequestId, u64),
        intent: &Intent,
        claimed: &mut Claimed,
    ) -> Option<Answer> {
        let done = identity::as_server(|| self.was_carried_out(intent, claimed));
        let answer = done.unwrap_or_else(|errno| {
            log::warn!("session {}: cannot tell whether a request was carried out: {errno}", self.session.0);
            None
        });
        log::info!(
            "session {}: a request in flight {} carried out",
            self.session.0,
            if answer.is_some() { "had been" } else { "had not been" }
        );
        match &answer {
            Some(answer) => self.note_answer(id, answer),
            // What others do from here on must not be taken for it later.
            None => self.note_begun(id, fingerprint),
        }
        answer
    }

    /// The answer of a mutation that had been carried out.
    ///
    /// Errors: the system does not tell; then it is taken for one that had not been.
    fn was_carried_out(
        self: &Arc<Self>,
        intent: &Intent,
        claimed: &mut Claimed,
    ) -> Result<Option<Answer>, Errno> {
        match intent {
            Intent::Make { parent, name, kind, since } => {
                let Some(attr) = self.born(*parent, name, *kind, *since, claimed)? else { return Ok(None) };
                self.count(&attr, &named(*parent, name));
                Ok(Some(Ok(Reply::Made { attr, empty: false, parent: self.dir_change(*parent)? })))
            }
            Intent::Create { parent, name, flags, since } => {
                let Some(attr) = self.born(*parent, name, FileKind::File, *since, claimed)? else {
                    return Ok(None);
                };
                self.reopen_created(*parent, name, *flags, &attr).map(Some)
            }
            Intent::Store { parent, name, since } => {
                if self.born(*parent, name, FileKind::File, *since, claimed)?.is_some() {
                    self.tree.export.unlink(&self.reach(*parent)?, &c_name(name)?)?;
                }
                Ok(None)
            }
            Intent::Publish { caller, items } => self.were_published(caller, items),
            Intent::Link { node, parent, name, since } => {
                let present = self.attr_of(*parent, name)?;
                let Some(attr) = present.filter(|attr| attr.node == *node && attr.ctime >= *since) else {
                    return Ok(None);
                };
                self.count(&attr, &named(*parent, name));
                Ok(Some(Ok(Reply::Made { attr, empty: false, parent: self.dir_change(*parent)? })))
            }
            Intent::Remove { parent, name, leads_to } => {
                let is_gone = self.inode(*parent, name)? != Some(*leads_to);
                let parent = self.dir_change(*parent)?;
                Ok(is_gone.then_some(Ok(Reply::Removed { parent })))
            }
            Intent::Rename { parent, name, new_parent, new_name, mode, leads_to, new_leads_to } => {
                let (from, to) = ((*parent, name), (*new_parent, new_name));
                self.was_renamed(from, to, *mode, (*leads_to, *new_leads_to))
            }
            Intent::Append { fh, size, length } => self.was_appended(*fh, *size, *length),
            Intent::Resize { fh, size_after } => {
                let attr = self.tree.export.attr(&*self.files.get(*fh)?)?;
                Ok((attr.size == *size_after).then_some(Ok(Reply::Changed { before: Change::UNSURE, attr })))
            }
            Intent::Truncate { node, size, before, rest } => {
                let attr = self.tree.export.attr(&self.reach(*node)?)?;
                if attr.size != *size && attr.change == *before {
                    return Ok(None);
                }
                self.after_truncation(*node, rest).map(Some)
            }
            Intent::Xattr { node, name, sets } => {
                Ok((self.has_xattr(*node, name)? == *sets).then_some(Ok(Reply::Done)))
            }
        }
    }

    /// What a name leads to if it was born since, and nobody else made it.
    fn born(
        &self,
        parent: Node,
        name: &Name,
        kind: FileKind,
        since: Time,
        claimed: &mut Claimed,
    ) -> Result<Option<Attr>, Errno> {
        let Some(attr) = self.attr_of(parent, name)? else { return Ok(None) };
        // Where the file system does not know births, a change since is the nearest to one.
        let born = attr.btime.unwrap_or(attr.ctime);
        Ok((attr.kind == kind && born >= since && claimed.insert(attr.node)).then_some(attr))
    }

    fn reopen_created(
        self: &Arc<Self>,
        parent: Node,
        name: &Name,
        flags: u32,
        attr: &Attr,
    ) -> Result<Answer, Errno> {
        let at = self.tree.export.open_path(&self.reach(parent)?, &c_name(name)?)?;
        let (fh, attr) = self.reopen_by(at.as_fd(), attr.node, flags)?;
        self.count(&attr, &named(parent, name));
        Ok(Ok(Reply::Created { fh, attr, created: true, parent: self.dir_change(parent)? }))
    }

    /// Opens a node, which was permitted when it was opened first, as the flags say; it is as it should be already.
    fn reopen_by(&self, at: BorrowedFd<'_>, node: Node, flags: u32) -> Result<(Fh, Attr), Errno> {
        let asked = Opening::from_flags(flags)?;
        let opening = Opening::again(asked.readable, asked.writable, asked.sync);
        let slot = self.slot()?;
        let fd = self.tree.export.open_again(at, opening)?;
        let attr = self.tree.check(node, fd.as_fd())?;
        Ok((self.number(self.opened(fd, attr, opening, slot)), attr))
    }

    /// Others may have written to the file since it was cut off, and perhaps the rest was done as well.
    fn after_truncation(&self, node: Node, rest: &AfterTruncation) -> Result<Answer, Errno> {
        let at = self.reach(node)?;
        match rest {
            AfterTruncation::Set { caller, set } => {
                let set_rest = || self.tree.export.set_attr(Reached::Path(at.as_fd()), set);
                let acting = identity::act_as(self.tree.identity(), caller);
                let outcome = acting.and_then(|()| set_rest());
                identity::become_server()?;
                let attr = self.tree.export.attr(&at)?;
                Ok(outcome.map(|()| Reply::Changed { before: Change::UNSURE, attr }))
            }
            AfterTruncation::Open { flags } => {
                let (fh, attr) = self.reopen_by(at.as_fd(), node, *flags)?;
                Ok(Ok(Reply::Opened { fh, attr, created: false, whole: false }))
            }
            AfterTruncation::Create { parent, name, flags } => {
                let (fh, attr) = self.reopen_by(at.as_fd(), node, *flags)?;
                self.count(&attr, &named(*parent, name));
                Ok(Ok(Reply::Created { fh, attr, created: false, parent: self.dir_change(*parent)? }))
            }
        }
    }

    fn was_renamed(
        &self,
        (parent, name): (Node, &Name),
        (new_parent, new_name): (Node, &Name),
        mode: RenameMode,
        (leads_to, new_leads_to): (Inode, Option<Inode>),
    ) -> Result<Option<Answer>, Errno> {
        let (from, to) = (self.inode(parent, name)?, self.inode(new_parent, new_name)?);
        let is_moved = to == Some(leads_to)
            && match mode {
                RenameMode::Replace | RenameMode::NoReplace => from != Some(leads_to),
                RenameMode::Exchange => from == new_leads_to,
            };
        if !is_moved {
            return Ok(None);
        }
        let moved = self.note_place(&self.reach(new_parent)?, new_parent, new_name);
        if mode == RenameMode::Exchange {
            self.note_place(&self.reach(parent)?, parent, name);
        }
        let to = if new_parent == parent { None } else { Some(self.dir_change(new_parent)?) };
        Ok(Some(Ok(Reply::Renamed { moved, from: self.dir_change(parent)?, to })))
    }

    /// If some have their names, the others get theirs now: nobody could be told otherwise what is true.
    fn were_published(&self, caller: &Caller, items: &[Publishing]) -> Result<Option<Answer>, Errno> {
        let has_name = |Publishing { item, leads_to }: &Publishing| {
            Ok(leads_to.is_some() && self.inode(item.parent, &item.name)? == *leads_to)
        };
        let mut done = HashSet::new();
        for (number, publishing) in items.iter().enumerate() {
            if has_name(publishing)? {
                done.insert(number);
            }
        }
        if done.is_empty() {
            return Ok(None);
        }
        let items: Vec<Publication> = items.iter().map(|publishing| publishing.item.clone()).collect();
        let acting = identity::act_as(self.tree.identity(), caller);
        let refusals = acting.and_then(|()| self.publish_rest(&items, &done));
        identity::become_server()?;
        Ok(Some(refusals.map(|refusals| Reply::Published { refusals })))
    }

    /// What is known of a directory whose names were changed: not whether others changed it, too.
    fn dir_change(&self, directory: Node) -> Result<Box<DirChange>, Errno> {
        let attr = self.tree.export.attr(&self.reach(directory)?)?;
        Ok(Box::new(DirChange { before: Change::UNSURE, attr }))
    }

    /// A part that was written before the process died is taken back. Nobody else could write meanwhile.
    fn was_appended(&self, fh: Fh, size: u64, length: u64) -> Result<Option<Answer>, Errno> {
        let file = self.files.get(fh)?;
        let attr = self.tree.export.attr(&*file)?;
        let end = size.saturating_add(length);
        if attr.size >= end {
            let written = Written { size: length, offset: size, before: Change::UNSURE, attr };
            return Ok(Some(Ok(Reply::Written(written))));
        }
        if attr.size > size {
            log::warn!("session {}: {} bytes of an append are taken back", self.session.0, attr.size - size);
            let set = SetAttr { size: Some(size), ..SetAttr::default() };
            self.tree.export.set_attr(Reached::Open(file.as_fd()), &set)?;
        }
        Ok(None)
    }

    fn attr_of(&self, parent: Node, name: &Name) -> Result<Option<Attr>, Errno> {
        absent(self.tree.export.attr_of(&self.reach(parent)?, &c_name(name)?))
    }

    fn inode(&self, parent: Node, name: &Name) -> Result<Option<Inode>, Errno> {
        absent(self.glance(parent, name).map(|glance| glance.inode))
    }
}

fn absent<T>(found: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
