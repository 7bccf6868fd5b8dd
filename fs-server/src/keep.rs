//! What a session notes of itself as it goes, if it is to outlive the server's process.

use std::os::fd::AsFd;
use std::sync::Arc;

use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, Node, RequestId, SessionId};
use nearfs_protocol::message::{Answer, Reply, Request};
use nearfs_protocol::session::server::remembered;

use crate::export::{Opening, StoredHandle, c_name};
use crate::handle::OpenFile;
use crate::identity;
use crate::node::Place;
use crate::session_files::SessionFiles;
use crate::store::{Image, Kept, Opened, Outcome, SessionRecord, Store};

/// The record of one session, and the store that it is in.
pub(crate) struct Keeper {
    pub(crate) record: Arc<SessionRecord>,
    store: Arc<Store>,
    session: SessionId,
}

impl Keeper {
    pub(crate) fn new(store: &Arc<Store>, session: SessionId, record: Arc<SessionRecord>) -> Keeper {
        Keeper { record, store: store.clone(), session }
    }

    /// The session is over.
    pub(crate) fn end(&self) {
        self.store.end(self.session);
    }
}

/// Whether the answer of a request is kept. What gives something back may run again: that finds it given back. Transfers
/// end with the process, so that one is announced anew.
pub(crate) fn is_kept(request: &Request) -> bool {
    let may_run_again = matches!(
        request,
        Request::Forget { .. }
            | Request::Release { .. }
            | Request::Flush { .. }
            | Request::Announce { .. }
            | Request::EndTransfer { .. }
            | Request::Kick { .. }
    );
    request.is_mutation() && !may_run_again
}

/// Whether the client has or will get the answer to a request that was carried out.
fn is_answered(request: RequestId, kept: &[Kept]) -> bool {
    let of_slot = kept.iter().find(|kept| kept.id.slot() == request.slot());
    of_slot.is_some_and(|kept| match kept.outcome {
        Outcome::Done(_) => kept.id.sequence() >= request.sequence(),
        Outcome::Begun | Outcome::Intended(_) => kept.id.sequence() > request.sequence(),
    })
}

impl SessionFiles {
    /// A mutation is about to be carried out.
    pub(crate) fn note_begun(&self, id: RequestId, fingerprint: u64) {
        if let Some(Keeper { record, .. }) = &self.keeper {
            record.begin(id, fingerprint);
        }
    }

    /// A request was carried out and is about to be answered.
    pub(crate) fn note_answer(&self, id: RequestId, answer: &Answer) {
        let Some(Keeper { record, .. }) = &self.keeper else { return };
        if !record.is_underway(id) {
            return;
        }
        if let Ok(Reply::Opened { fh, .. } | Reply::Created { fh, .. } | Reply::Entry { fh: Some(fh), .. }) =
            answer
            && let Ok(file) = self.files.get(*fh)
        {
            record.opened(*fh, self.how_to_reopen(id, &file));
        }
        record.finish(id, &remembered(answer));
    }

    /// A node is new to the session, or is somewhere else.
    pub(crate) fn note_known(
        &self,
        node: Node,
        kind: FileKind,
        place: &Place,
        handle: Option<&StoredHandle>,
    ) {
        let Some(Keeper { record, .. }) = &self.keeper else { return };
        match place {
            Place::Named(parent, name) => {
                record.known(node, kind, Some((*parent, name.clone())), handle.cloned());
            }
            Place::Nameless => record.known(node, kind, None, None),
            // The root is found by its path.
            Place::Root(_) => {}
        }
    }

    /// A node that perhaps others know has been moved.
    pub(crate) fn note_moved(&self, node: Node, kind: FileKind, place: &Place) {
        if let (Some(Keeper { record, .. }), Place::Named(parent, name)) = (&self.keeper, place) {
            record.moved(node, kind, (*parent, name.clone()));
        }
    }

    /// What finds a node that is new to the session wherever others move it past us. Only of directories: programs stand
    /// in those, while other nodes that are not open are looked for by name.
    pub(crate) fn handle_to_note(&self, attr: &Attr, place: &Place) -> Option<StoredHandle> {
        let Place::Named(parent, name) = place else { return None };
        if attr.kind != FileKind::Directory || self.keeper.is_none() || self.known.check(attr.node).is_ok() {
            return None;
        }
        let parent = self.tree.reach(*parent).ok()?;
        let handle = self.tree.export.handle_of_name(parent.as_fd(), &c_name(name).ok()?);
        handle.as_ref().map(StoredHandle::from)
    }

    /// A node that the session knows was looked up again.
    pub(crate) fn note_counted(&self, node: Node) {
        if let Some(Keeper { record, .. }) = &self.keeper {
            record.counted(node);
        }
    }

    /// Some lookups of a node were given back, and not all.
    pub(crate) fn note_given_back(&self, node: Node, lookups: u64) {
        if let Some(Keeper { record, .. }) = &self.keeper {
            record.given_back(node, lookups);
        }
    }

    /// The session knows a node no more.
    pub(crate) fn note_forgotten(&self, node: Node) {
        if let Some(Keeper { record, .. }) = &self.keeper {
            record.forgotten(node);
        }
    }

    /// A file is closed.
    pub(crate) fn note_closed(&self, fh: Fh) {
        if let Some(Keeper { record, .. }) = &self.keeper {
            record.closed(fh);
        }
    }

    /// What an operation came to. If something that was written through the file may never reach the disk from here on, that
    /// is so in the server's next life as well: the system tells of it once.
    pub(crate) fn noting_failure<T>(
        &self,
        fh: Fh,
        file: &OpenFile,
        outcome: Result<T, Errno>,
    ) -> Result<T, Errno> {
        outcome.inspect_err(|_| {
            if let (Some(errno), Some(Keeper { record, .. })) = (file.unsafe_since(), &self.keeper) {
                record.failed(fh, errno);
            }
        })
    }

    /// Opens anew what was open before the server was started again; `kept` tells which of it the client knows of.
    pub(crate) fn restore_open_files(&self, image: &Image, kept: Option<&[Kept]>) {
        for (&fh, opened) in &image.files {
            if kept.is_some_and(|kept| !is_answered(opened.request, kept)) {
                self.note_closed(fh);
                continue;
            }
            let file = identity::as_server(|| self.reopen(opened));
            if let Err(errno) = &file {
                log::warn!("session {}: open file {} is lost: {errno}", self.session.0, fh.0);
            }
            self.files.restore(fh, file.ok());
        }
    }

    fn reopen(&self, opened: &Opened) -> Result<Arc<OpenFile>, Errno> {
        let slot = self.slot()?;
        let handle = opened.handle.as_ref().and_then(StoredHandle::handle);
        let by_handle = handle.and_then(|handle| self.tree.export.open_handle(&handle).ok());
        let by_handle = by_handle.or_else(|| self.tree.export.open_unnamed(opened.node.id).ok());
        let at = match by_handle.filter(|fd| self.tree.check(opened.node, fd.as_fd()).is_ok()) {
            Some(fd) => self.tree.hold(opened.node, fd),
            None => self.tree.reach(opened.node)?,
        };
        let opening = Opening::again(opened.readable, opened.writable, opened.sync);
        let fd = self.tree.export.open_again(at.as_fd(), opening)?;
        self.tree.check(opened.node, fd.as_fd())?;
        let file = OpenFile::new(fd, opened.node, opening, slot, &self.tree.export.unnamed);
        if opened.is_shut {
            file.shut();
        }
        if let Some(errno) = opened.unsafe_since {
            file.distrust(errno);
        }
        Ok(Arc::new(file))
    }

    pub(crate) fn how_to_reopen(&self, request: RequestId, file: &OpenFile) -> Opened {
        let handle = self.tree.export.handle_of(file.as_fd());
        Opened {
            node: file.node,
            request,
            readable: file.readable,
            writable: file.writable,
            sync: file.sync,
            handle: handle.as_ref().map(StoredHandle::from),
            is_shut: false,
            unsafe_since: file.unsafe_since(),
        }
    }
}
