//! Requests for which nobody waits any more.
//!
//! The session stays with each until the server has told its outcome. Before that nobody knows whether a change was
//! carried out; whoever remembers what it concerns hears of it twice, when it is given up and when it is settled.

use std::collections::HashMap;
use std::sync::Arc;

use nearfs_protocol::codec::{FrameKind, decode_control};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::RequestId;
use nearfs_protocol::limits::HEADER_BYTES;
use nearfs_protocol::message::{Call, Request};
use nearfs_protocol::session::client::{Cancelled, Follow};

use crate::rpc::lane::Outgoing;
use crate::rpc::{Rpc, State, Waiting};

/// A change of which nobody knows whether it was carried out.
#[derive(Debug)]
pub(crate) struct Doubt {
    pub(crate) request: Request,
    /// The node that it is about.
    pub(crate) ino: u64,
}

/// How far the server is with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoubtStage {
    /// It may still be carried out.
    Open,
    /// It was, or never will be.
    Settled,
}

/// Doubts by their request; at most one for each slot of the session.
pub(super) type Doubts = HashMap<RequestId, Arc<Doubt>>;

/// Called from threads that must not be held up.
pub(crate) type DoubtListener = Box<dyn Fn(&Doubt, DoubtStage) + Send + Sync>;

impl Rpc {
    /// Who is told of changes of which nobody knows whether they were carried out.
    pub(crate) fn set_doubt_listener(&self, listener: DoubtListener) {
        if self.doubt_listener.set(listener).is_err() {
            log::warn!("a second listener was set and is not used");
        }
    }

    /// Tells the caller of a cancelled request why, and the server that nobody waits.
    pub(super) fn abandon(&self, id: RequestId, cancelled: Cancelled<Waiting>, errno: Errno) {
        let Cancelled { call, follow } = cancelled;
        let state = self.state.lock();
        // A request that was sent again left on another connection than it first did.
        let stands = |lane: &&Arc<_>| call.lane.as_ref().is_some_and(|own| Arc::ptr_eq(own, lane));
        let lane = state.lanes.iter().find(stands).or(state.lanes.first()).cloned();
        let doubt = state.doubts.get(&id).cloned();
        drop(state);
        if let Some(doubt) = doubt {
            self.tell_doubt(&doubt, DoubtStage::Open);
        }
        match (follow, lane) {
            (Follow::SendCancel, Some(lane)) => lane.send(Outgoing::Bare(FrameKind::Cancel, id)),
            (Follow::SendCancel, None) | (Follow::Nothing | Follow::Resume, _) => {}
        }
        (call.done)(Err(errno));
    }

    pub(super) fn tell_doubt(&self, doubt: &Doubt, stage: DoubtStage) {
        if let Some(listener) = self.doubt_listener.get() {
            listener(doubt, stage);
        }
    }
}

impl State {
    /// To be called before the lock is let go under which a request was cancelled, or its answer might come first.
    pub(super) fn note_doubt(&mut self, id: RequestId, cancelled: &Cancelled<Waiting>) {
        if cancelled.follow == Follow::Nothing {
            return;
        }
        match decode_control::<Call>(&cancelled.call.encoded.head[HEADER_BYTES..]) {
            Ok(Call { request, .. }) if request.is_mutation() => {
                self.doubts.insert(id, Arc::new(Doubt { request, ino: cancelled.call.ino }));
            }
            Ok(_) => {}
            Err(error) => log::error!("cannot read an own request again: {error}"),
        }
    }
}
