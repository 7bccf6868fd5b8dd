//! What happens when time passes: pings, deadlines, connecting again.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::{Hello, SessionWish};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::session::client::{Event, Phase, Unwelcome};
use parking_lot::MutexGuard;

use crate::error::ConnectError;
use crate::rpc::greet::{self, Greeted};
use crate::rpc::lane::Outgoing;
use crate::rpc::{Rpc, State, Waiting, spawn};

impl Rpc {
    /// The clock's thread: until the session is closed.
    pub(super) fn run_clock(self: &Arc<Self>) {
        let mut state = self.state.lock();
        while !state.closed {
            let events = state.session.handle_timeout(Instant::now());
            if !events.is_empty() {
                for event in &events {
                    if let Event::Expired(id, cancelled) = event {
                        state.note_doubt(*id, cancelled);
                    }
                }
                MutexGuard::unlocked(&mut state, || {
                    for event in events {
                        self.happened(event);
                    }
                });
                continue;
            }
            state.clock_wakes_at = state.session.poll_timeout();
            match state.clock_wakes_at {
                Some(due) => drop(self.tick.wait_until(&mut state, due)),
                None => self.tick.wait(&mut state),
            }
        }
    }

    /// Asks for connections that carry bulk data, the first time that there is some.
    pub(super) fn want_bulk_lanes(&self, state: &mut State) {
        if state.lanes.len() < self.connections && !state.joining && state.session.may_join() {
            state.joining = true;
            self.chores.join();
        }
    }

    /// Adds connections for bulk data until there are as many as wanted, or the server refuses one.
    pub(super) fn join(self: &Arc<Self>) {
        while self.joins_another() {
            let hello = self.state.lock().session.hello();
            if !matches!(hello.session, SessionWish::Join { .. }) || !self.greet(&hello) {
                return; // `joining` stays set: one attempt a connected session is enough.
            }
        }
        self.state.lock().joining = false;
    }

    fn joins_another(&self) -> bool {
        let state = self.state.lock();
        !state.lanes.is_empty() && state.lanes.len() < self.connections && state.session.may_join()
    }

    fn happened(self: &Arc<Self>, event: Event<Waiting>) {
        match event {
            Event::Ping(connection, id) => {
                let state = self.state.lock();
                let lane = state.lanes.iter().find(|lane| lane.connection == connection).cloned();
                drop(state);
                if let Some(lane) = lane {
                    lane.send(Outgoing::Bare(FrameKind::Ping, id));
                }
            }
            Event::Silent => self.fell_silent(),
            Event::Reconnect => {
                let rpc = Arc::clone(self);
                if let Err(error) = spawn("nearfs-connect", move || rpc.reconnect()) {
                    log::error!("cannot start a thread to connect again: {error}");
                    self.state.lock().session.connect_failed(Instant::now());
                }
            }
            Event::Expired(id, cancelled) => self.abandon(id, cancelled, Errno::ETIMEDOUT),
        }
    }

    fn fell_silent(&self) {
        let mut state = self.state.lock();
        log::warn!("{}: the server has fallen silent", self.address);
        state.last_error = Some("the server has fallen silent".into());
        state.connected_since = None;
        for lane in state.lanes.drain(..) {
            lane.close();
        }
    }

    fn reconnect(self: &Arc<Self>) {
        let hello = self.state.lock().session.hello();
        self.greet(&hello);
    }

    /// Greets on a new connection and takes it into the session. Whether that succeeded.
    fn greet(self: &Arc<Self>, hello: &Hello) -> bool {
        match greet::greet(&self.address, hello, &self.pool) {
            Ok(greeted) => self.greeted(hello, greeted),
            Err(ConnectError::Refused { refusal, .. }) => {
                let mut state = self.state.lock();
                state.last_error = Some(refusal.to_string());
                state.session.refused(hello, refusal, Instant::now());
                self.end_if_over(state);
                false
            }
            Err(error) => {
                let mut state = self.state.lock();
                log::debug!("cannot connect: {error}");
                state.last_error = Some(error.to_string());
                state.session.connect_failed(Instant::now());
                self.tick.notify_one();
                false
            }
        }
    }

    fn greeted(self: &Arc<Self>, hello: &Hello, greeted: Greeted) -> bool {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = Instant::now();
        let (connection, send_again) = match state.session.welcomed(hello, &greeted.welcome, now) {
            Ok(welcomed) => (welcomed.connection, again(welcomed.send_again)),
            Err(unwelcome) => {
                greeted.link.closer().close();
                state.last_error = Some(unwelcome.to_string());
                if unwelcome != Unwelcome::TooLate {
                    state.session.connect_failed(now);
                }
                self.end_if_over(guard);
                return false;
            }
        };
        let restarted_system =
            std::mem::replace(&mut state.boot, greeted.welcome.boot) != greeted.welcome.boot;
        if restarted_system && let Some(listener) = self.boot_listener.get() {
            log::warn!("{}: the server's system was started again", self.address);
            // Before anything is sent again: no answer of the new system must be taken for one of the old.
            listener();
        }
        let lane = match self.add_lane(state, connection, greeted) {
            Ok(lane) => lane,
            Err(error) => {
                log::error!("cannot use a connection: {error}");
                state.session.lost(connection, now);
                return false;
            }
        };
        if matches!(hello.session, SessionWish::Resume { .. }) {
            log::info!("{}: connected again", self.address);
            state.reconnects += 1;
            state.connected_since = Some(SystemTime::now());
            state.joining = false;
            // Nothing new overtakes these: a new request needs the lock.
            send_again.into_iter().for_each(|outgoing| lane.send(outgoing));
            drop(guard);
            if let Some(resumed) = self.resume_listener.get() {
                resumed();
            }
        }
        true
    }

    pub(super) fn end_if_over(&self, state: MutexGuard<'_, State>) {
        if let Phase::Over(ending) = state.session.phase() {
            log::error!("{}: the session is over: {ending}", self.address);
            for lost in self.end(state) {
                log::error!("lost: {lost}");
            }
        } else {
            self.tick.notify_one();
        }
    }
}

/// What was not answered before the loss, as frames.
fn again(requests: Vec<(RequestId, Option<&Waiting>)>) -> Vec<Outgoing> {
    let frame = |(id, call): (RequestId, Option<&Waiting>)| match call {
        Some(call) => Outgoing::Call(id, Arc::clone(&call.encoded)),
        None => Outgoing::Bare(FrameKind::Cancel, id),
    };
    requests.into_iter().map(frame).collect()
}
