//! One session's requests, carried out: the only place that tells requests apart.
//!
//! [`SessionFiles::serve`] is called from many threads at once and waits for no disk longer than it must: what may
//! sleep comes back as [`Served::Slow`], to be run where sleeping hurts nobody, and a lock that others hold as
//! [`Served::Waits`].

use std::sync::Arc;

use nearfs_protocol::attr::Lock;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{NodeId, RequestId};
use nearfs_protocol::message::{Call, Reply, Request};
use nearfs_transport::pool::Payload;

use crate::export::Spread;
use crate::identity;
use crate::lock::WaitId;
use crate::op::{Content, Outcome, Pace, Stop};
use crate::session_files::SessionFiles;
use crate::tree::Tree;

pub use crate::op::Response;

/// What became of a call.
pub enum Served {
    /// It is done.
    Answered(Response),
    /// It would wait for a disk: run it on a thread that may sleep.
    Slow(SlowCall),
    /// Somebody else holds the lock it asks for: answered when it is granted or given up.
    Waits(LockWait),
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
    /// Carries out a call, or says where it is to be carried out. `id` names it for [`SessionFiles::cancel`].
    pub fn serve(self: &Arc<Self>, id: RequestId, call: Call, payload: Payload) -> Served {
        self.serve_at(Pace::Quick, id, call, payload)
    }

    /// The same without anything that may ever sleep.
    pub(crate) fn serve_elsewhere(self: &Arc<Self>, id: RequestId, call: Call, payload: Payload) -> Served {
        if let Request::SetLock { .. } = call.request {
            // It may wait for others, and a cancel has to find it waiting. What it asks of the disk comes back as the rest.
            return self.serve_at(Pace::Slow, id, call, payload);
        }
        self.slowly(id, call, payload)
    }

    fn serve_at(self: &Arc<Self>, pace: Pace, id: RequestId, call: Call, payload: Payload) -> Served {
        match self.try_call(id, &call, &payload, pace) {
            Ok(response) => Served::Answered(response),
            Err(Stop::Refused(errno)) => Served::Answered(Response::refused(errno)),
            Err(Stop::MaySleep) => self.slowly(id, call, payload),
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

    fn slowly(self: &Arc<Self>, id: RequestId, call: Call, payload: Payload) -> Served {
        let files = self.clone();
        Served::Slow(SlowCall::new(move || files.call_slowly(id, &call, &payload)))
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
        if self.tree.is_read_only() && needs_writing(&call.request) {
            return Err(Errno::EROFS.into());
        }
        if pace == Pace::Quick && always_sleeps(&call.request) {
            return Err(Stop::MaySleep);
        }
        identity::act_as(self.tree.identity(), &call.caller)?;
        self.intend(id, call)?;
        let outcome = self.carry_out(id, call, payload, pace);
        match outcome {
            Ok(response) => {
                self.count_passed(&call.request, payload.len(), &response);
                Ok(response)
            }
            Err(Stop::Later(rest)) if self.transfers.is_any() => {
                let (files, request, sent_bytes) = (self.clone(), call.request.clone(), payload.len());
                Err(Stop::Later(Box::new(move || {
                    let response = rest();
                    files.count_passed(&request, sent_bytes, &response);
                    response
                })))
            }
            outcome => outcome,
        }
    }

    fn carry_out(self: &Arc<Self>, id: RequestId, call: &Call, payload: &Payload, pace: Pace) -> Outcome {
        match &call.request {
            Request::Lookup { parent, name, also_open } => self.lookup(*parent, name, *also_open),
            Request::Forget { nodes } => self.forget(nodes),
            Request::GetAttr { node, fh } => self.get_attr(*node, *fh),
            Request::SetAttr { node, fh, set } => self.set_attr((id, &call.caller), (*node, *fh), set, pace),
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
                self.open(id, *node, *flags, *content_bytes_max, pace)
            }
            Request::Create { parent, name, mode, umask, flags } => {
                self.create(id, (*parent, name), (*mode, *umask), *flags, pace)
            }
            Request::CreateUnnamed { parent, mode, umask, flags } => {
                self.create_unnamed(*parent, (*mode, *umask), *flags)
            }
            Request::Read { fh, offset, size } => self.read(*fh, *offset, *size, pace),
            Request::Write { fh, at, sync } => self.write(id, *fh, (*at, *sync), payload, pace),
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
            Request::SetLock { fh, lock, wait } => self.set_lock(id, *fh, (lock, *wait), pace),
            Request::HashRange { fh, offset, length, chunk_bytes } => {
                self.hash_range(*fh, Spread { offset: *offset, length: *length }, *chunk_bytes)
            }
            Request::Fetch { parent, name, content_bytes_max } => {
                self.fetch(*parent, name, *content_bytes_max, pace)
            }
            Request::Store { parent, name, mode, umask, set, hash } => {
                let content = Content { bytes: payload, hash: *hash };
                self.store((*parent, name), (*mode, *umask), set, content, pace)
            }
            Request::Publish { items } => self.publish(items),
            Request::Announce { kind, parent, name, total_bytes, fh } => {
                self.announce(*kind, (*parent, name), *total_bytes, *fh)
            }
            Request::CountFile { transfer, fh } => self.count_file(*transfer, *fh),
            Request::EndTransfer { transfer, outcome } => self.end_transfer(*transfer, *outcome),
            // Asked of the server and not of files: whoever knows all sessions has answered it.
            Request::ListSessions { .. } | Request::Kick { .. } | Request::Report { .. } => {
                Err(Errno::EOPNOTSUPP.into())
            }
        }
    }
}

impl SlowCall {
    pub(crate) fn new(rest: impl FnOnce() -> Response + Send + 'static) -> SlowCall {
        SlowCall(Box::new(rest))
    }

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

/// Whether a request is one that a read-only export refuses.
fn needs_writing(request: &Request) -> bool {
    if let Request::Open { flags, .. } = request {
        (flags & libc::O_ACCMODE as u32) != libc::O_RDONLY as u32 || flags & libc::O_TRUNC as u32 != 0
    } else if let Request::Access { mask, .. } = request {
        mask & libc::W_OK as u8 != 0
    } else {
        request.changes()
    }
}

/// Whether a request waits for the disk, or computes for long, as a rule. Reads and writes decide for themselves.
fn always_sleeps(request: &Request) -> bool {
    match request {
        Request::Fsync { .. }
        | Request::FsyncDir { .. }
        | Request::Allocate { .. }
        | Request::CopyRange { .. }
        | Request::HashRange { .. }
        | Request::Publish { .. } => true,
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
        | Request::SetLock { .. }
        | Request::Fetch { .. }
        | Request::Store { .. }
        | Request::ListSessions { .. }
        | Request::Kick { .. }
        | Request::Announce { .. }
        | Request::CountFile { .. }
        | Request::EndTransfer { .. }
        | Request::Report { .. } => false,
    }
}
