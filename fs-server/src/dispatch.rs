//! One session's requests, carried out: the only place that tells requests apart.
//!
//! [`SessionFiles::serve`] is called from many threads at once and waits for no disk longer than it must: what may
//! sleep comes back as [`Served::Slow`], to be run where sleeping hurts nobody, and a lock that others hold as
//! [`Served::Waits`].

use std::sync::Arc;

use nearfs_protocol::attr::{Attr, Lock};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Node, NodeId, RequestId, SessionId};
use nearfs_protocol::message::{Answer, Call, Reply, Request};
use nearfs_protocol::name::Name;
use nearfs_transport::pool::{Payload, Pool};

use crate::descriptor::Share;
use crate::export::Spread;
use crate::handle::OpenFiles;
use crate::identity;
use crate::known::KnownNodes;
use crate::listings::Listings;
use crate::lock::WaitId;
use crate::node::{Held, Place};
use crate::op::{Outcome, Stop};
use crate::tree::Tree;

/// What one session knows and holds of an export: nodes, open files, listings, locks. Dropping it, or
/// [`SessionFiles::end`], gives everything back.
pub struct SessionFiles {
    pub(crate) tree: Arc<Tree>,
    pub(crate) session: SessionId,
    pub(crate) pool: Pool,
    pub(crate) root: Node,
    pub(crate) known: KnownNodes,
    pub(crate) files: OpenFiles,
    pub(crate) listings: Listings,
    _share: Share,
}

/// What became of a call.
pub enum Served {
    /// It is done.
    Answered(Response),
    /// It would wait for a disk: run it on a thread that may sleep.
    Slow(SlowCall),
    /// Somebody else holds the lock it asks for: answered when it is granted or given up.
    Waits(LockWait),
}

/// What is sent back for a call.
#[derive(Debug)]
pub struct Response {
    /// The control part.
    pub answer: Answer,
    /// The bytes beside it.
    pub payload: Payload,
}

/// The rest of a call that may sleep.
pub struct SlowCall(Box<dyn FnOnce() -> Response + Send>);

/// A call that waits for a lock. Dropping it gives the wait up, and the lock if it was granted meanwhile.
pub struct LockWait {
    tree: Arc<Tree>,
    id: WaitId,
    node: NodeId,
    lock: Lock,
    is_told: bool,
}

impl SessionFiles {
    /// Starts a session on the directory of the tree that is reached by `path`, its root.
    /// `pool` gives the room for what is read.
    ///
    /// Errors: `ENOENT`; `ENOTDIR` or `ELOOP` for a symlink on the way, which is never followed.
    pub fn begin(
        tree: &Arc<Tree>,
        session: SessionId,
        path: &[Name],
        pool: &Pool,
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
            files: OpenFiles::default(),
            listings: Listings::default(),
            _share: tree.join_descriptors(),
        };
        let held = Arc::new(Held::uncounted(root_fd));
        files.count(&root, Place::Root(held));
        Ok(Arc::new(files))
    }

    /// The attributes of the session's root.
    pub fn root(&self) -> Result<Attr, Errno> {
        self.tree.export.attr(&self.reach(self.root)?)
    }

    /// Carries out a call, or says where it is to be carried out. `id` names it for [`SessionFiles::cancel`].
    pub fn serve(self: &Arc<Self>, id: RequestId, call: Call, payload: Payload) -> Served {
        match self.try_call(id, &call, &payload, Pace::Quick) {
            Ok(response) => Served::Answered(response),
            Err(Stop::Refused(errno)) => Served::Answered(Response::refused(errno)),
            Err(Stop::MaySleep) => {
                let files = self.clone();
                Served::Slow(SlowCall(Box::new(move || files.call_slowly(id, &call, &payload))))
            }
            Err(Stop::Later(rest)) => Served::Slow(SlowCall(rest)),
            Err(Stop::Waits(node, lock)) => Served::Waits(LockWait {
                tree: self.tree.clone(),
                id: (self.session, id),
                node,
                lock,
                is_told: false,
            }),
        }
    }

    /// Gives up the wait of a call: it is answered `ECANCELED`. Whether it was waiting.
    pub fn cancel(&self, id: RequestId) -> bool {
        self.tree.locks.cancel((self.session, id))
    }

    /// Gives everything back: locks, open files, nodes; waits are answered `ECANCELED`. Calls that come later find
    /// nothing. Also done by dropping the last reference.
    pub fn end(&self) {
        self.tree.locks.release_session(self.session);
        self.listings.clear();
        self.files.clear();
        self.known.clear(|node| self.tree.nodes.forget(node));
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

    fn call_slowly(self: &Arc<Self>, id: RequestId, call: &Call, payload: &Payload) -> Response {
        match self.try_call(id, call, payload, Pace::Slow) {
            Ok(response) => response,
            Err(Stop::Refused(errno)) => Response::refused(errno),
            Err(Stop::Later(rest)) => rest(),
            // Nothing asks for a slower pace than this, and no operation both sleeps and waits for a lock.
            Err(Stop::MaySleep | Stop::Waits(..)) => Response::refused(Errno::EIO),
        }
    }

    fn try_call(self: &Arc<Self>, id: RequestId, call: &Call, payload: &Payload, pace: Pace) -> Outcome {
        if self.tree.is_read_only() && changes(&call.request) {
            return Err(Errno::EROFS.into());
        }
        if pace == Pace::Quick && always_sleeps(&call.request) {
            return Err(Stop::MaySleep);
        }
        identity::act_as(self.tree.identity(), &call.caller)?;
        self.carry_out(id, call, payload, pace)
    }

    fn carry_out(self: &Arc<Self>, id: RequestId, call: &Call, payload: &Payload, pace: Pace) -> Outcome {
        match &call.request {
            Request::Lookup { parent, name, also_open } => self.lookup(*parent, name, *also_open),
            Request::Forget { nodes } => self.forget(nodes),
            Request::GetAttr { node, fh } => self.get_attr(*node, *fh),
            Request::SetAttr { node, fh, set } => self.set_attr(*node, *fh, set, pace),
            Request::Access { node, mask } => self.access(*node, *mask),
            Request::ReadLink { node } => self.read_link(*node),
            Request::Symlink { parent, name, target } => self.symlink(*parent, name, target),
            Request::Link { node, new_parent, new_name } => self.link(*node, *new_parent, new_name),
            Request::MakeNode { parent, name, mode, umask, rdev } => {
                self.make_node(*parent, name, (*mode, *umask), *rdev)
            }
            Request::MakeDir { parent, name, mode, umask } => self.make_dir(*parent, name, (*mode, *umask)),
            Request::Unlink { parent, name } => self.unlink(*parent, name),
            Request::RemoveDir { parent, name } => self.remove_dir(*parent, name),
            Request::Rename { parent, name, new_parent, new_name, mode } => {
                self.rename((*parent, name), (*new_parent, new_name), *mode)
            }
            Request::Open { node, flags, content_bytes_max } => {
                self.open(*node, *flags, *content_bytes_max, pace)
            }
            Request::Create { parent, name, mode, umask, flags } => {
                self.create(*parent, name, (*mode, *umask), *flags, pace)
            }
            Request::CreateUnnamed { parent, mode, umask, flags } => {
                self.create_unnamed(*parent, (*mode, *umask), *flags)
            }
            Request::Read { fh, offset, size } => self.read(*fh, *offset, *size, pace),
            Request::Write { fh, at, sync } => self.write(*fh, *at, *sync, payload, pace),
            Request::Flush { fh, owner } => self.flush(*fh, *owner),
            Request::Fsync { fh, data_only } => self.fsync(*fh, *data_only),
            Request::Release { files } => self.release(files),
            Request::ReadDir { node, cookie, entry_bytes_max, with_attrs } => {
                self.read_dir(*node, *cookie, *entry_bytes_max, *with_attrs)
            }
            Request::FsyncDir { node, data_only } => self.fsync_dir(*node, *data_only),
            Request::StatFs { node } => self.stat_fs(*node),
            Request::GetXattr { node, name } => self.get_xattr(*node, name, &call.caller),
            Request::SetXattr { node, name, mode } => {
                self.set_xattr(*node, name, (payload, *mode), &call.caller)
            }
            Request::ListXattr { node } => self.list_xattr(*node, &call.caller),
            Request::RemoveXattr { node, name } => self.remove_xattr(*node, name, &call.caller),
            Request::Allocate { fh, mode, offset, length } => {
                self.allocate(*fh, *mode, Spread { offset: *offset, length: *length }, pace)
            }
            Request::Seek { fh, offset, target } => self.seek(*fh, *offset, *target),
            Request::CopyRange { from, from_offset, to, to_offset, length } => {
                self.copy_range((*from, *from_offset), (*to, *to_offset), *length, pace)
            }
            Request::GetLock { fh, lock } => self.get_lock(*fh, lock),
            Request::SetLock { fh, lock, wait } => self.set_lock(id, *fh, lock, *wait),
        }
    }
}

impl Drop for SessionFiles {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where a call is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// On a thread that has others to serve.
    Quick,
    /// On one that may sleep.
    Slow,
}

impl Response {
    fn refused(errno: Errno) -> Response {
        Response { answer: Err(errno), payload: Payload::empty() }
    }
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Response {
        Response { answer: Ok(reply), payload: Payload::empty() }
    }
}

impl SlowCall {
    /// Carries it out.
    pub fn run(self) -> Response {
        (self.0)()
    }
}

impl LockWait {
    /// Has `reply` called with the answer, once: at once if the wait is over; with `ECANCELED` after
    /// [`SessionFiles::cancel`] or the session's end; else by whichever thread gives the lock back. `reply` must not
    /// sleep.
    pub fn then(mut self, reply: impl FnOnce(Response) + Send + 'static) {
        self.is_told = true;
        let told = |outcome: Result<(), Errno>| {
            reply(match outcome {
                Ok(()) => Reply::Done.into(),
                Err(errno) => Response::refused(errno),
            });
        };
        self.tree.locks.tell(self.id, Box::new(told));
    }
}

impl Drop for LockWait {
    fn drop(&mut self) {
        if !self.is_told {
            self.tree.locks.abandon(self.id, self.node, &self.lock);
        }
    }
}

/// Whether a request changes anything on disk: the one place at which a read-only export refuses.
fn changes(request: &Request) -> bool {
    match request {
        Request::Open { flags, .. } => {
            (flags & libc::O_ACCMODE as u32) != libc::O_RDONLY as u32 || flags & libc::O_TRUNC as u32 != 0
        }
        Request::SetAttr { .. }
        | Request::Symlink { .. }
        | Request::Link { .. }
        | Request::MakeNode { .. }
        | Request::MakeDir { .. }
        | Request::Unlink { .. }
        | Request::RemoveDir { .. }
        | Request::Rename { .. }
        | Request::Create { .. }
        | Request::CreateUnnamed { .. }
        | Request::Write { .. }
        | Request::SetXattr { .. }
        | Request::RemoveXattr { .. }
        | Request::Allocate { .. }
        | Request::CopyRange { .. } => true,
        Request::Access { mask, .. } => mask & libc::W_OK as u8 != 0,
        Request::Lookup { .. }
        | Request::Forget { .. }
        | Request::GetAttr { .. }
        | Request::ReadLink { .. }
        | Request::Read { .. }
        | Request::Flush { .. }
        | Request::Fsync { .. }
        | Request::Release { .. }
        | Request::ReadDir { .. }
        | Request::FsyncDir { .. }
        | Request::StatFs { .. }
        | Request::GetXattr { .. }
        | Request::ListXattr { .. }
        | Request::Seek { .. }
        | Request::GetLock { .. }
        | Request::SetLock { .. } => false,
    }
}

/// Whether a request waits for the disk as a rule. Reads and writes decide for themselves.
fn always_sleeps(request: &Request) -> bool {
    match request {
        Request::Fsync { .. }
        | Request::FsyncDir { .. }
        | Request::Allocate { .. }
        | Request::CopyRange { .. } => true,
        Request::Lookup { .. }
        | Request::Forget { .. }
        | Request::GetAttr { .. }
        | Request::SetAttr { .. }
        | Request::Access { .. }
        | Request::ReadLink { .. }
        | Request::Symlink { .. }
        | Request::Link { .. }
        | Request::MakeNode { .. }
        | Request::MakeDir { .. }
        | Request::Unlink { .. }
        | Request::RemoveDir { .. }
        | Request::Rename { .. }
        | Request::Open { .. }
        | Request::Create { .. }
        | Request::CreateUnnamed { .. }
        | Request::Read { .. }
        | Request::Write { .. }
        | Request::Flush { .. }
        | Request::Release { .. }
        | Request::ReadDir { .. }
        | Request::StatFs { .. }
        | Request::GetXattr { .. }
        | Request::SetXattr { .. }
        | Request::ListXattr { .. }
        | Request::RemoveXattr { .. }
        | Request::Seek { .. }
        | Request::GetLock { .. }
        | Request::SetLock { .. } => false,
    }
}
