//! What the server keeps of the latest request in each slot of a session.

use super::ConnectionId;
use crate::errno::Errno;
use crate::id::RequestId;
use crate::message::{Answer, Reply};

/// One slot. It never forgets the sequence number, so that nothing is carried out a second time.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) sequence: u64,
    /// The last connection that asked. Only where that stands may the answer go.
    pub(super) asked_on: ConnectionId,
    pub(super) request: Incoming,
    pub(super) state: State,
}

/// What the session needs to know of a request that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// For a mutation [`fingerprint`] of its control part; `None` for all others, which may run again.
    pub mutation: Option<u64>,
    /// Bytes of its payload, or that it asks for.
    pub payload_bytes: u32,
}

#[derive(Debug)]
pub(super) enum State {
    /// No request yet.
    Idle,
    /// Admitted. It can still be cancelled without a trace.
    Waiting,
    /// Being carried out.
    Running,
    /// Carried out; with the answer if it was a mutation.
    Done(Option<Answer>),
    /// Cancelled before it was carried out, which it never will be.
    Refused,
}

impl Slot {
    pub(super) fn idle() -> Slot {
        Slot { sequence: 0, asked_on: ConnectionId(0), request: Incoming::default(), state: State::Idle }
    }

    pub(super) fn is_busy(&self) -> bool {
        match self.state {
            State::Waiting | State::Running => true,
            State::Idle | State::Done(_) | State::Refused => false,
        }
    }

    /// Puts the next request into the slot, which drops the remembered answer of the last.
    pub(super) fn take(&mut self, id: RequestId, asked_on: ConnectionId, request: Incoming, state: State) {
        *self = Slot { sequence: id.sequence(), asked_on, request, state };
    }
}

/// What tells a request that was sent again from another that was given the same id. It covers the control
/// part alone: a client that changes the payload of a write harms nobody else.
pub fn fingerprint(control: &[u8]) -> u64 {
    // Words multiplied and rotated: a mix good enough to notice mistakes, at a nanosecond a word.
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(ODD);
    let (words, rest) = control.as_chunks::<8>();
    let hash =
        words.iter().fold(control.len() as u64 ^ ODD, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash, u64::from_le_bytes(last))
}

/// The answer of a mutation as it is remembered: small, without the file content that may have come with it.
/// The client reads what it misses.
pub fn remembered(answer: &Answer) -> Answer {
    match answer {
        Ok(Reply::Entry { attr, fh, .. }) => Ok(Reply::Entry { attr: *attr, fh: *fh, whole: false }),
        Ok(Reply::Opened { fh, attr, created, .. }) => {
            Ok(Reply::Opened { fh: *fh, attr: *attr, created: *created, whole: false })
        }
        Ok(
            Reply::Done
            | Reply::Attr(_)
            | Reply::Changed { .. }
            | Reply::Written(_)
            | Reply::StatFs(_)
            | Reply::Offset(_)
            | Reply::Lock(_)
            | Reply::Published { .. }
            | Reply::Made { .. }
            | Reply::Created { .. }
            | Reply::Removed { .. }
            | Reply::Renamed { .. }
            | Reply::Kicked(_)
            | Reply::Announced(_)
            | Reply::Busy(_)
            | Reply::Transferred(_),
        )
        | Err(_) => answer.clone(),
        // Mutations are not answered by these, which may be large.
        Ok(
            Reply::Read { .. }
            | Reply::Listing { .. }
            | Reply::Hashed { .. }
            | Reply::Fetched { .. }
            | Reply::Sessions { .. },
        ) => Err(Errno::EIO),
    }
}
