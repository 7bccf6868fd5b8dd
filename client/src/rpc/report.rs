//! How it goes with the server, for people who ask.

use std::time::{Duration, Instant};

use nearfs_protocol::codec::decode_control;
use nearfs_protocol::limits::HEADER_BYTES;
use nearfs_protocol::message::{Call, Request};
use nearfs_protocol::name::Name;
use nearfs_protocol::session::client::Phase;

use crate::rpc::{Rpc, Waiting};
use crate::status::{Connection, Pending, Status};

/// What a request is about: a node by its number, and a name in it if it is about that.
pub(crate) type Subject = (u64, Option<Name>);

impl Rpc {
    /// How it goes; `paths` says for people where each of some subjects is, and may take its time.
    pub(crate) fn status(&self, paths: impl FnOnce(&[Subject]) -> Vec<String>) -> Status {
        let now = Instant::now();
        let state = self.state.lock();
        let ago = |at: Instant| now.saturating_duration_since(at);
        let pending = state.session.pending().filter_map(|pending| {
            let call = pending.call?;
            let left = pending.deadline.map(|deadline| deadline.saturating_duration_since(now));
            Some((subject(call), call.operation, ago(pending.since), left, call.pid))
        });
        let (subjects, rest): (Vec<_>, Vec<_>) = pending
            .map(|(subject, operation, age, left, pid)| (subject, (operation, age, left, pid)))
            .unzip();
        let connection = match state.session.phase() {
            Phase::Live => Connection::Live,
            Phase::Greeting => Connection::Lost { ago: Duration::ZERO },
            Phase::Lost { since } => Connection::Lost { ago: ago(*since) },
            Phase::Over(ending) => Connection::Over { why: ending.to_string() },
        };
        let mut status = Status {
            server: self.address.to_string(),
            connected: connection == Connection::Live,
            connection,
            heard_ago: state.session.heard_at().map(ago),
            connected_since: state.connected_since,
            round_trip: state.session.round_trip(),
            pending_bytes: state.session.pending_bytes() as u64,
            requests_sent: state.sent.clone(),
            reconnects: state.reconnects,
            connections: state.lanes.len(),
            last_error: state.last_error.clone(),
            ..Status::default()
        };
        drop(state);
        let pending = paths(&subjects).into_iter().zip(rest);
        status.pending = pending
            .map(|(path, (operation, age, left, pid))| Pending { operation, path, age, left, pid })
            .collect();
        status
    }
}

/// Only the encoded request still has the name.
fn subject(call: &Waiting) -> Subject {
    let encoded = decode_control::<Call>(&call.encoded.head[HEADER_BYTES..]);
    (call.ino, encoded.ok().and_then(|call| name(&call.request).cloned()))
}

/// The name in a directory that a request is about, the one from before if it changes that.
fn name(request: &Request) -> Option<&Name> {
    match request {
        Request::Lookup { name, .. }
        | Request::Symlink { name, .. }
        | Request::Link { new_name: name, .. }
        | Request::MakeNode { name, .. }
        | Request::MakeDir { name, .. }
        | Request::Unlink { name, .. }
        | Request::RemoveDir { name, .. }
        | Request::Rename { name, .. }
        | Request::Create { name, .. }
        | Request::Fetch { name, .. }
        | Request::Store { name, .. }
        | Request::Announce { name, .. } => Some(name),
        Request::Forget { .. }
        | Request::GetAttr { .. }
        | Request::SetAttr { .. }
        | Request::Access { .. }
        | Request::ReadLink { .. }
        | Request::Open { .. }
        | Request::CreateUnnamed { .. }
        | Request::Read { .. }
        | Request::Write { .. }
        | Request::Flush { .. }
        | Request::Fsync { .. }
        | Request::Release { .. }
        | Request::ReadDir { .. }
        | Request::FsyncDir { .. }
        | Request::StatFs { .. }
        | Request::GetXattr { .. }
        | Request::SetXattr { .. }
        | Request::ListXattr { .. }
        | Request::RemoveXattr { .. }
        | Request::Allocate { .. }
        | Request::Seek { .. }
        | Request::CopyRange { .. }
        | Request::GetLock { .. }
        | Request::SetLock { .. }
        | Request::HashRange { .. }
        | Request::Publish { .. }
        | Request::ListSessions { .. }
        | Request::Kick { .. }
        | Request::CountFile { .. }
        | Request::EndTransfer { .. } => None,
    }
}
