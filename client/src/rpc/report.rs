//! How it goes with the server, for people who ask.

use std::fmt;
use std::time::{Duration, Instant};

use nearfs_protocol::codec::decode_control;
use nearfs_protocol::limits::HEADER_BYTES;
use nearfs_protocol::message::{Call, Request};
use nearfs_protocol::name::Name;
use nearfs_protocol::session::client::Phase;

use crate::rpc::{Rpc, Waiting};
use crate::status::{Connection, Pending, Status, unfinished};

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
            let request = request(call);
            let is_change = request.as_ref().is_some_and(changes_files);
            let rest = (call.operation, ago(pending.since), left, call.pid, is_change);
            Some((subject(call, request.as_ref()), rest))
        });
        let (subjects, rest): (Vec<_>, Vec<_>) = pending.unzip();
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
        let pending = pending.map(|(path, (operation, age, left, pid, is_change))| Pending {
            operation,
            path,
            age,
            left,
            pid,
            is_change,
        });
        status.pending = pending.collect();
        status
    }
}

/// A change that was asked for, and nobody knows whether it was carried out.
pub(crate) struct Unfinished {
    pub(crate) subject: Subject,
    operation: &'static str,
    pid: u32,
}

impl Unfinished {
    /// `None` for what changes no file.
    pub(super) fn new(call: &Waiting) -> Option<Unfinished> {
        let request = request(call).filter(changes_files)?;
        let subject = subject(call, Some(&request));
        Some(Unfinished { subject, operation: call.operation, pid: call.pid })
    }

    /// What to tell people, with the path of its subject.
    pub(crate) fn told(&self, path: &str) -> String {
        unfinished(self.operation, path, self.pid)
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(&format!("#{}", self.subject.0)))
    }
}

/// Only the encoded request has all of it.
fn request(call: &Waiting) -> Option<Request> {
    let encoded = decode_control::<Call>(&call.encoded.head[HEADER_BYTES..]);
    encoded.ok().map(|call| call.request)
}

fn subject(call: &Waiting, request: Option<&Request>) -> Subject {
    (call.ino, request.and_then(name).cloned())
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

/// Whether something of a file or directory is lost, or not safe, if a request is not carried out.
fn changes_files(request: &Request) -> bool {
    match request {
        Request::Write { .. }
        | Request::Fsync { .. }
        | Request::FsyncDir { .. }
        | Request::SetAttr { .. }
        | Request::Symlink { .. }
        | Request::Link { .. }
        | Request::MakeNode { .. }
        | Request::MakeDir { .. }
        | Request::Unlink { .. }
        | Request::RemoveDir { .. }
        | Request::Rename { .. }
        | Request::Create { .. }
        | Request::CreateUnnamed { .. }
        | Request::SetXattr { .. }
        | Request::RemoveXattr { .. }
        | Request::Allocate { .. }
        | Request::CopyRange { .. }
        | Request::Store { .. }
        | Request::Publish { .. } => true,
        Request::Lookup { .. }
        | Request::Forget { .. }
        | Request::GetAttr { .. }
        | Request::Access { .. }
        | Request::ReadLink { .. }
        | Request::Open { .. }
        | Request::Read { .. }
        | Request::Flush { .. }
        | Request::Release { .. }
        | Request::ReadDir { .. }
        | Request::StatFs { .. }
        | Request::GetXattr { .. }
        | Request::ListXattr { .. }
        | Request::Seek { .. }
        | Request::GetLock { .. }
        | Request::SetLock { .. }
        | Request::HashRange { .. }
        | Request::Fetch { .. }
        | Request::ListSessions { .. }
        | Request::Kick { .. }
        | Request::Announce { .. }
        | Request::CountFile { .. }
        | Request::EndTransfer { .. } => false,
    }
}
