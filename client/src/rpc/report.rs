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
    let names = request.map(Request::names).unwrap_or_default();
    (call.ino, names.first().map(|(_, name)| (*name).clone()))
}

/// Whether something of a file or directory is lost, or not safe, if a request is not carried out.
fn changes_files(request: &Request) -> bool {
    let makes_safe = matches!(request, Request::Fsync { .. } | Request::FsyncDir { .. });
    makes_safe || request.changes()
}
