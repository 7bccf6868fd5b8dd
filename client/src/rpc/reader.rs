//! What arrives on a connection: answers to their callers, and what the server says unasked.

use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::codec::{DecodeError, FrameKind, decode_control};
use nearfs_protocol::greeting::Refusal;
use nearfs_protocol::id::Fh;
use nearfs_protocol::message::{Answer, Push, ReleasedFile, Reply, Request};
use nearfs_protocol::roster::TransferOutcome;
use nearfs_protocol::session::client::Answered;
use nearfs_transport::assembler::Frame;
use nearfs_transport::frame::ReceiveError;

use crate::rpc::Rpc;
use crate::rpc::abandon::DoubtStage;
use crate::rpc::lane::{Lane, Outgoing};

impl Rpc {
    pub(super) fn received(self: &Arc<Self>, lane: &Arc<Lane>, frame: Frame<'_>) -> Result<(), DecodeError> {
        let id = frame.header.id;
        match frame.header.kind {
            FrameKind::Answer => {
                let answer: Answer = decode_control(frame.control)?;
                let mut state = self.state.lock();
                let answered = state
                    .session
                    .answered(lane.connection, id, Instant::now())
                    .map_err(|unasked| DecodeError::Control(unasked.to_string()))?;
                let doubt = match answered {
                    Answered::Cancelled => state.doubts.remove(&id),
                    Answered::Call(_) | Answered::Late => None,
                };
                lane.inbox.answered();
                if state.waiting_for_room > 0 {
                    self.room.notify_all();
                }
                drop(state);
                match answered {
                    Answered::Call(call) => (call.done)(answer.map(|reply| (reply, frame.payload))),
                    Answered::Cancelled => {
                        if let Some(doubt) = &doubt {
                            self.tell_doubt(doubt, DoubtStage::Settled);
                        }
                        let asked = doubt.as_ref().map(|doubt| &doubt.request);
                        self.unwanted(asked, answer);
                    }
                    Answered::Late => {}
                }
            }
            FrameKind::Pong => {
                let mut state = self.state.lock();
                state.session.ponged(lane.connection, id, Instant::now());
                let round_trip = state.session.round_trip();
                drop(state);
                round_trip.into_iter().for_each(|round_trip| self.measured(round_trip));
            }
            FrameKind::Push => match decode_control(frame.control)? {
                Push::Stopping => {
                    log::info!("{}: the server is stopping", self.address);
                    lane.send(Outgoing::Bare(FrameKind::Ack, id));
                }
                Push::EndedByOwner => self.dismissed(),
            },
            FrameKind::Ping => lane.send(Outgoing::Bare(FrameKind::Pong, id)),
            FrameKind::Hello
            | FrameKind::Welcome
            | FrameKind::Refused
            | FrameKind::Call
            | FrameKind::Ack
            | FrameKind::Cancel
            | FrameKind::Bye => {
                return Err(DecodeError::Control(format!("{:?} out of place", frame.header.kind)));
            }
        }
        Ok(())
    }

    /// The answer to a request that was given up: what it brings is given back, or the server would keep it until
    /// the session ends. A file that was opened by its node comes without a lookup count.
    fn unwanted(self: &Arc<Self>, asked: Option<&Request>, answer: Answer) {
        match answer {
            Ok(Reply::Opened { fh, attr, .. }) => {
                if matches!(asked, Some(Request::CreateUnnamed { .. })) {
                    self.batch_forget(attr.node, 1);
                }
                self.give_back(fh);
            }
            Ok(Reply::Created { fh, attr, .. }) => {
                self.batch_forget(attr.node, 1);
                self.give_back(fh);
            }
            Ok(Reply::Made { attr, .. }) => self.batch_forget(attr.node, 1),
            Ok(Reply::Entry { attr, fh, .. }) => {
                self.batch_forget(attr.node, 1);
                fh.into_iter().for_each(|fh| self.give_back(fh));
            }
            Ok(Reply::Listing { entries, .. }) => {
                entries
                    .iter()
                    .filter_map(|entry| entry.attr)
                    .for_each(|attr| self.batch_forget(attr.node, 1));
            }
            Ok(Reply::Announced(transfer)) => {
                let rpc = Arc::clone(self);
                let outcome = TransferOutcome::GivenUp;
                self.defer(Box::new(move || rpc.tell(Request::EndTransfer { transfer, outcome })));
            }
            Ok(
                Reply::Done
                | Reply::Attr(_)
                | Reply::Changed { .. }
                | Reply::Read { .. }
                | Reply::Written(_)
                | Reply::StatFs(_)
                | Reply::Offset(_)
                | Reply::Lock(_)
                | Reply::Hashed { .. }
                | Reply::Fetched { .. }
                | Reply::Published { .. }
                | Reply::Removed { .. }
                | Reply::Renamed { .. }
                | Reply::Sessions { .. }
                | Reply::Kicked(_)
                | Reply::Busy(_)
                | Reply::Transferred(_),
            )
            | Err(_) => {}
        }
    }

    /// The server's owner ended the session: it does not come back.
    fn dismissed(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.session.dismissed();
        state.last_error = Some(Refusal::EndedByOwner.to_string());
        state.connected_since = None;
        self.end_if_over(state);
    }

    fn give_back(self: &Arc<Self>, fh: Fh) {
        let rpc = Arc::clone(self);
        self.defer(Box::new(move || rpc.batch_release(ReleasedFile { fh, flock_owner: None }, false)));
    }

    /// A connection ended: the session gives up the others too, and resumes as a whole.
    pub(super) fn lost(self: &Arc<Self>, lane: &Lane, error: &ReceiveError) {
        let mut state = self.state.lock();
        if !state.session.lost(lane.connection, Instant::now()) {
            return;
        }
        log::warn!("{}: connection lost: {error}", self.address);
        state.last_error = Some(error.to_string());
        state.connected_since = None;
        for lane in state.lanes.drain(..) {
            lane.close();
        }
        self.tick.notify_one();
    }
}
