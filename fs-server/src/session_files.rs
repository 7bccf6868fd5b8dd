//! What one session knows and holds of an export.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

use nearfs_protocol::attr::{Attr, Lock};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, Node, NodeId, SessionId};
use nearfs_protocol::name::Name;
use nearfs_transport::pool::Pool;

use crate::descriptor::{Share, Slot};
use crate::export::StoredHandle;
use crate::handle::{OpenFile, OpenFiles};
use crate::identity;
use crate::keep::Keeper;
use crate::known::KnownNodes;
use crate::listings::Listings;
use crate::lock::Untold;
use crate::node::{Held, Place, Way};
use crate::store::{Begun, Image, SessionRecord, Store};
use crate::transfers::OwnTransfers;
use crate::tree::Tree;

/// What one session knows and holds of an export: nodes, open files, listings, locks. Dropping it, or
/// [`SessionFiles::end`], gives everything back.
pub struct SessionFiles {
    pub(crate) tree: Arc<Tree>,
    pub(crate) session: SessionId,
    pub(crate) pool: Pool,
    pub(crate) root: Node,
    pub(crate) known: KnownNodes,
    pub(crate) files: Arc<OpenFiles>,
    pub(crate) listings: Listings,
    pub(crate) transfers: OwnTransfers,
    client: OnceLock<Arc<str>>,
    pub(crate) keeper: Option<Keeper>,
    _share: Share,
}

/// Why a session of before the server was started again cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRestored {
    #[error("its root cannot be reached: {0}")]
    Root(Errno),
    #[error("its root is another directory by now")]
    OtherRoot,
    #[error("its locks conflict with those of others")]
    Locks,
}

/// A node that is at hand.
pub(crate) enum At {
    /// For looking.
    Held(Arc<Held>),
    /// Through an open file.
    Open(Arc<OpenFile>),
}

impl SessionFiles {
    /// Starts a session on the directory of the tree that is reached by `path`, its root.
    /// `pool` gives the room for what is read.
    ///
    /// Errors: `ENOENT`; `ENOTDIR` or `ELOOP` for a symlink on the way, which is never followed; `ENFILE`.
    pub fn begin(
        tree: &Arc<Tree>,
        session: SessionId,
        path: &[Name],
        pool: &Pool,
    ) -> Result<Arc<SessionFiles>, Errno> {
        let share = tree.join_descriptors().ok_or(Errno::ENFILE)?;
        SessionFiles::begin_kept((tree, share), session, path, pool, |_| None)
    }

    /// The same for a session that is to outlive the server's process: `keep` is told its root.
    pub(crate) fn begin_kept(
        (tree, share): (&Arc<Tree>, Share),
        session: SessionId,
        path: &[Name],
        pool: &Pool,
        keep: impl FnOnce(Node) -> Option<Keeper>,
    ) -> Result<Arc<SessionFiles>, Errno> {
        identity::become_server()?;
        let root_fd = tree.export.descend(path)?;
        let root = tree.export.attr(&root_fd)?;
        let files = SessionFiles {
            tree: tree.clone(),
            session,
            pool: pool.clone(),
            root: root.node,
            known: KnownNodes::default(),
            files: Arc::default(),
            listings: Listings::default(),
            transfers: OwnTransfers::default(),
            client: OnceLock::new(),
            keeper: keep(root.node),
            _share: share,
        };
        let held = Arc::new(Held::uncounted(root_fd));
        files.count(&root, &Place::Root(held));
        Ok(Arc::new(files))
    }

    /// Takes up a session of before the server was started again, with its nodes and locks; open files come later, when
    /// all places are known.
    pub(crate) fn restore(
        tree: &Arc<Tree>,
        pool: &Pool,
        (store, record): (&Arc<Store>, &Arc<SessionRecord>),
        begun: &Begun,
        image: &Image,
    ) -> Result<Arc<SessionFiles>, NotRestored> {
        let keeper = Keeper::new(store, begun.session, record.clone());
        let share = tree.join_again();
        let files =
            SessionFiles::begin_kept((tree, share), begun.session, &begun.path, pool, |_| Some(keeper))
                .map_err(NotRestored::Root)?;
        if files.root != begun.root {
            return Err(NotRestored::OtherRoot);
        }
        for (&node, (found, lookups)) in image.nodes.iter().filter(|(node, _)| **node != files.root) {
            tree.nodes.found(node, found.kind, &Place::Nameless, true);
            if let Some(handle) = found.handle.as_ref().and_then(StoredHandle::handle) {
                tree.nodes.remember(node, handle);
            }
            files.known.restore(node, *lookups);
        }
        files.files.numbers_used(image.last_fh);
        if tree.locks.restore(begun.session, &image.locks()) { Ok(files) } else { Err(NotRestored::Locks) }
    }

    /// The attributes of the session's root.
    pub fn root(&self) -> Result<Attr, Errno> {
        self.tree.export.attr(&self.reach(self.root)?)
    }

    /// Gives everything back: locks, open files, nodes; waits are answered `ECANCELED`. Calls that come later find
    /// nothing. Also done by dropping the last reference.
    pub fn end(&self) {
        self.tree.locks.release_session(self.session);
        self.transfers.end_all(&self.tree.transfers, true);
        self.listings.clear();
        self.files.clear();
        self.known.clear(|node| self.tree.nodes.forget(node));
        if let Some(keeper) = &self.keeper {
            keeper.end();
        }
    }

    /// The process is about to end and the session is to go on in the next one: what is kept of it stays.
    pub(crate) fn leave(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.record.leave();
        }
    }

    /// Who others shall read is at a name for which this session announced something. Said once.
    pub fn set_client(&self, client: &str) {
        // A second name would be of the same client.
        let _ = self.client.set(client.into());
    }

    pub(crate) fn client(&self) -> Arc<str> {
        self.client.get().cloned().unwrap_or_else(|| format!("session {}", self.session.0).into())
    }

    /// Ends the session's transfers: nobody has to keep away from what its client does not come back for.
    pub(crate) fn end_transfers(&self) {
        self.transfers.end_all(&self.tree.transfers, false);
    }

    /// How many files the session has open.
    pub fn open_file_count(&self) -> usize {
        self.files.count()
    }

    /// How many nodes the session knows.
    pub fn node_count(&self) -> usize {
        self.known.len()
    }

    /// How many ranges the session has locked.
    pub fn lock_count(&self) -> usize {
        self.tree.locks.count(self.session)
    }

    /// All ranges that the session has locked.
    pub fn locks(&self) -> Vec<(NodeId, Lock)> {
        self.tree.locks.of_session(self.session)
    }

    /// The files that were shut because others have got a lock that the session held through them.
    pub fn fenced(&self) -> Vec<Fh> {
        self.files.fenced()
    }

    /// The session's lease has run out: its locks go to whoever asks for them.
    pub(crate) fn lapse(&self) -> Untold {
        self.tree.locks.lapse(self.session, Box::new(self.files.clone()))
    }

    /// The client is back: what nobody has taken is its own again.
    pub(crate) fn revive(&self) -> Untold {
        self.tree.locks.revive(self.session)
    }

    /// Gets at a node that the session knows; one without a name through a file that has it open.
    ///
    /// Errors: `ESTALE` if the session does not know it or it is gone.
    pub(crate) fn reach(&self, node: Node) -> Result<At, Errno> {
        self.known.check(node)?;
        match self.tree.nodes.way(node)? {
            Way::Held(held) => Ok(At::Held(held)),
            Way::Find(place, handle) => match self.files.of_node(node) {
                Some(file) => Ok(At::Open(file)),
                None => self.tree.find(node, place, handle).map(At::Held),
            },
        }
    }

    /// A slot for a file or directory that the session opens.
    ///
    /// Errors: `ENFILE`.
    pub(crate) fn slot(&self) -> Result<Slot, Errno> {
        self.tree.slot_for_file(|| self.files.count())
    }

    /// Counts the lookup that an answer with these attributes carries.
    pub(crate) fn count(&self, attr: &Attr, place: &Place) {
        let handle = self.handle_to_note(attr, place);
        let found = |is_new| {
            let moves = self.tree.nodes.found(attr.node, attr.kind, place, is_new);
            if is_new || moves {
                self.note_known(attr.node, attr.kind, place, handle.as_ref());
            }
            if !is_new && attr.node != self.root {
                self.note_counted(attr.node);
            }
        };
        self.known.count(attr.node, found);
    }
}

impl Drop for SessionFiles {
    fn drop(&mut self) {
        self.end();
    }
}

impl AsFd for At {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            At::Held(held) => held.as_fd(),
            At::Open(file) => file.as_fd(),
        }
    }
}
