//! Requests to the server and their answers: the driver of the session machine.
//!
//! Threads, and who does what:
//!
//! - whoever calls [`Rpc::call`] writes its request to the socket itself ([`lane`]);
//! - whoever *attends*, or else one *reader* a connection, reads what arrives ([`inbox`]) and runs the completions of
//!   answers ([`reader`]); they must never wait, so that one that wants to ask for more goes through [`Rpc::defer`];
//! - the *watch* lets go of callers that a signal is to end ([`interrupt`]);
//! - the *clock* pings, gives up on what is overdue, connects again ([`clock`]);
//! - the *chores* thread runs what was deferred and sends what was collected ([`chores`]).

pub(crate) mod abandon;
mod chores;
mod clock;
mod greet;
mod inbox;
mod interrupt;
mod lane;
mod reader;
pub(crate) mod report;
mod signals;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use nearfs_protocol::codec::{FrameKind, encode_frame};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Welcome;
use nearfs_protocol::id::{BootId, Node, RequestId};
use nearfs_protocol::message::{Call, Caller, ReleasedFile, Reply, Request};
use nearfs_protocol::session::ConnectionId;
use nearfs_protocol::session::client::{ClientSession, Destination, Ending, Full, Phase, Terms};
use nearfs_protocol::version::Features;
use nearfs_transport::address::{Address, Source};
use nearfs_transport::pool::{Payload, Pool};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::cancel::Cancel;
use crate::config::VfsConfig;
use crate::error::ConnectError;
use crate::rpc::abandon::{DoubtListener, Doubts};
use crate::rpc::chores::Chores;
use crate::rpc::greet::Greeted;
use crate::rpc::inbox::{ATTEND_TIME_MAX, Inbox};
use crate::rpc::interrupt::{Bystanders, LOOK_INTERVAL};
use crate::rpc::lane::{Encoded, Lane, Outgoing};
use crate::rpc::report::Unfinished;

/// What comes of a request: the reply and the bytes beside it, or why there is none.
pub type Outcome = Result<(Reply, Payload), Errno>;

/// Idle payload buffers that are kept for the next ones.
const POOL_IDLE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// From this size on a transfer goes over a connection for bulk data, so that it does not delay small requests.
const BULK_BYTES_MIN: u32 = 32 * 1024;

/// A request, and what goes with it.
pub(crate) struct Ask {
    /// On whose behalf.
    pub(crate) caller: Caller,
    /// The thread that waits for it, 0 if none or unknown.
    pub(crate) pid: u32,
    /// Whether it goes on when that thread is to end.
    pub(crate) survives_caller: bool,
    /// The node it is about, for people who ask what is pending.
    pub(crate) ino: u64,
    pub(crate) request: Request,
    pub(crate) patience: Patience,
    /// Whose wish ends it, if somebody may wish that.
    pub(crate) cancel: Option<Cancel>,
}

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until the mount's time-out; then the caller is told `ETIMEDOUT`.
    Bounded,
    /// As long as it takes.
    Endless,
}

/// The driver.
pub(crate) struct Rpc {
    address: Address,
    timeout: Duration,
    connections: usize,
    pool: Pool,
    state: Mutex<State>,
    /// Somebody waits for room in the session.
    room: Condvar,
    /// The clock has something earlier to do than it thought.
    tick: Condvar,
    /// Somebody waits again.
    watch: Condvar,
    bystanders: Mutex<Bystanders>,
    doubt_listener: OnceLock<DoubtListener>,
    resume_listener: OnceLock<Listener>,
    boot_listener: OnceLock<Listener>,
    chores: Chores,
    far_round_trip: Duration,
    /// Whether a round trip takes longer than that.
    far: AtomicBool,
}

/// Called from threads that must not be held up.
type Listener = Box<dyn Fn() + Send + Sync>;

struct State {
    session: ClientSession<Waiting>,
    /// The server's system as it was started last.
    boot: BootId,
    /// The first carries what is small, the others bulk data. None while the session is lost.
    lanes: Vec<Arc<Lane>>,
    next_bulk: usize,
    joining: bool,
    waiting_for_room: usize,
    /// When the clock looks next, unless it is told of something earlier.
    clock_wakes_at: Option<Instant>,
    /// Whether callers are looked after, or have to call for that.
    watched: bool,
    doubts: Doubts,
    sent: Vec<(&'static str, u64)>,
    connected_since: Option<SystemTime>,
    reconnects: u64,
    last_error: Option<String>,
    closed: bool,
}

/// What is kept of a request until it is answered.
struct Waiting {
    encoded: Arc<Encoded>,
    lane: Option<Arc<Lane>>,
    done: Box<dyn FnOnce(Outcome) + Send>,
    operation: &'static str,
    ino: u64,
    pid: u32,
    survives_caller: bool,
    cancel: Option<Cancel>,
}

impl Rpc {
    /// Connects, greets and begins a session.
    pub(crate) fn connect(source: &Source, config: &VfsConfig) -> Result<(Arc<Rpc>, Welcome), ConnectError> {
        let destination = Destination {
            export: source.export.clone(),
            path: source.path.clone(),
            client: config.client_name.clone(),
            features: if config.shell { Features::all() } else { Features::all() - Features::SHELL },
        };
        let mut session = ClientSession::new(destination, u64::from(std::process::id()));
        let pool = Pool::new(POOL_IDLE_BYTES_MAX);
        let hello = session.hello();
        let greeted = greet::greet(&source.address, &hello, &pool)?;
        let welcome = greeted.welcome.clone();
        let connection = match session.welcomed(&hello, &welcome, Instant::now()) {
            Ok(welcomed) => welcomed.connection,
            Err(unwelcome) => {
                let (server, reason) = (source.address.to_string(), unwelcome.to_string());
                return Err(ConnectError::Ended { server, reason });
            }
        };
        let rpc = Arc::new(Rpc {
            address: source.address.clone(),
            timeout: config.timeout,
            connections: usize::from(config.connections.max(1)),
            pool,
            state: Mutex::new(State {
                session,
                boot: welcome.boot,
                lanes: Vec::new(),
                next_bulk: 0,
                joining: false,
                waiting_for_room: 0,
                clock_wakes_at: None,
                watched: false,
                doubts: Doubts::default(),
                sent: Vec::new(),
                connected_since: Some(SystemTime::now()),
                reconnects: 0,
                last_error: None,
                closed: false,
            }),
            room: Condvar::new(),
            tick: Condvar::new(),
            watch: Condvar::new(),
            bystanders: Mutex::default(),
            doubt_listener: OnceLock::new(),
            resume_listener: OnceLock::new(),
            boot_listener: OnceLock::new(),
            chores: Chores::default(),
            far_round_trip: config.far_round_trip,
            far: AtomicBool::new(greeted.round_trip > config.far_round_trip),
        });
        rpc.add_lane(&mut rpc.state.lock(), connection, greeted)?;
        rpc.spawn("nearfs-clock", Rpc::run_clock)?;
        rpc.spawn("nearfs-chores", Rpc::run_chores)?;
        rpc.spawn("nearfs-watch", Rpc::run_interrupts)?;
        Ok((rpc, welcome))
    }

    /// Who is told that the session goes on over another connection, before anything asked for later is answered.
    pub(crate) fn set_resume_listener(&self, listener: Listener) {
        if self.resume_listener.set(listener).is_err() {
            log::warn!("a second listener was set and is not used");
        }
    }

    /// Who is told that the system on which the server runs was started again, before anything is sent to it. Called with
    /// the session locked.
    pub(crate) fn set_boot_listener(&self, listener: Listener) {
        if self.boot_listener.set(listener).is_err() {
            log::warn!("a second listener was set and is not used");
        }
    }

    /// Asks the server. Waits only while as much is in flight as the server admits; `done` runs once, with
    /// the answer, or with `ETIMEDOUT`, with `EINTR` if the thread that waits is to end, with `EIO` if the session ends.
    pub(crate) fn call(
        &self,
        ask: Ask,
        payload: Option<Arc<Payload>>,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) {
        let operation = ask.request.name();
        let payload_bytes = payload.as_ref().map_or(0, |payload| payload.len());
        let bytes = ask.request.answer_bytes_max().max(payload_bytes as u32);
        let patience = ask.patience;
        let Ask { ino, pid, survives_caller, cancel, .. } = ask;
        let call = Call { caller: ask.caller, request: ask.request };
        let mut head = Vec::with_capacity(192);
        if encode_frame(&mut head, FrameKind::Call, RequestId(0), &call, payload_bytes).is_err() {
            return done(Err(Errno::EINVAL));
        }
        let encoded = Arc::new(Encoded { head, payload });
        let waiting = Waiting {
            encoded: Arc::clone(&encoded),
            lane: None,
            done: Box::new(done),
            operation,
            ino,
            pid,
            survives_caller,
            cancel,
        };
        self.submit(waiting, patience, bytes, encoded);
    }

    /// Whether the server is so far away that guesses are worth their price.
    pub(crate) fn is_far(&self) -> bool {
        self.far.load(Ordering::Relaxed)
    }

    /// A round trip was measured.
    pub(crate) fn measured(&self, round_trip: Duration) {
        self.far.store(round_trip > self.far_round_trip, Ordering::Relaxed);
    }

    /// Runs something on a thread that may wait.
    pub(crate) fn defer(&self, job: Box<dyn FnOnce() + Send>) {
        self.chores.defer(job);
    }

    /// The same after a while.
    pub(crate) fn later(&self, after: Duration, job: Box<dyn FnOnce() + Send>) {
        self.chores.later(Instant::now() + after, job);
    }

    /// Gives lookup counts back to the server, some time soon.
    pub(crate) fn batch_forget(&self, node: Node, count: u64) {
        self.chores.forget(node, count);
    }

    /// Closes a file at the server: at once, or some time soon.
    pub(crate) fn batch_release(&self, file: ReleasedFile, at_once: bool) {
        if self.chores.release(file) || at_once {
            self.send_batches();
        }
    }

    /// Copies bytes to where they can stay until the server has them.
    pub(crate) fn keep(&self, bytes: &[u8]) -> Arc<Payload> {
        let mut kept = self.pool.take(bytes.len());
        kept.copy_from_slice(bytes);
        Arc::new(kept)
    }

    /// Ends the waits of all requests that were asked with this wish, and of those who wait for room.
    pub(crate) fn cancelled(&self, cancel: &Cancel) {
        let mut state = self.state.lock();
        let is_meant = |call: &Waiting| call.cancel.as_ref().is_some_and(|own| own.is(cancel));
        let meant: Vec<RequestId> = state
            .session
            .pending()
            .filter(|pending| pending.call.is_some_and(is_meant))
            .map(|pending| pending.id)
            .collect();
        let mut given_up = Vec::with_capacity(meant.len());
        for id in meant {
            if let Some(cancelled) = state.session.cancel(id) {
                state.note_doubt(id, &cancelled);
                given_up.push((id, cancelled));
            }
        }
        self.room.notify_all();
        drop(state);
        for (id, cancelled) in given_up {
            self.abandon(id, cancelled, Errno::EINTR);
        }
    }

    /// Why the session is over, once it is.
    pub(crate) fn ending(&self) -> Option<Ending> {
        match self.state.lock().session.phase() {
            Phase::Over(ending) => Some(ending.clone()),
            Phase::Greeting | Phase::Live | Phase::Lost { .. } => None,
        }
    }

    /// Sends what is collected, waits for what is pending, says good-bye. All of it within a bound; returns
    /// what is lost.
    pub(crate) fn shutdown(&self, within: Duration) -> Vec<Unfinished> {
        let deadline = Instant::now() + within;
        self.send_batches();
        let mut state = self.state.lock();
        while state.session.pending_count() > 0 && *state.session.phase() == Phase::Live {
            state.waiting_for_room += 1;
            let timed_out = self.room.wait_until(&mut state, deadline).timed_out();
            state.waiting_for_room -= 1;
            if timed_out {
                break;
            }
        }
        if let Some(lane) = state.lanes.first() {
            lane.send(Outgoing::Bare(FrameKind::Bye, RequestId(0)));
        }
        state.session.bye();
        state.closed = true;
        let lost = self.end(state);
        self.chores.close();
        self.tick.notify_all();
        self.watch.notify_all();
        lost
    }

    fn submit(&self, mut waiting: Waiting, patience: Patience, payload_bytes: u32, encoded: Arc<Encoded>) {
        let operation = waiting.operation;
        let mut now = Instant::now();
        let mut next_look = now;
        let deadline = (patience == Patience::Bounded).then(|| now + self.timeout);
        let mut state = self.state.lock();
        loop {
            // Under the lock, so that whoever cancels finds the request or is seen here.
            if waiting.cancel.as_ref().is_some_and(Cancel::is_cancelled) {
                drop(state);
                return (waiting.done)(Err(Errno::EINTR));
            }
            let lane = state.lane(payload_bytes >= BULK_BYTES_MIN, self.connections > 1);
            waiting.lane = lane.clone();
            match state.session.submit(now, Terms { deadline, payload_bytes }, waiting) {
                Ok(id) => {
                    state.count(operation);
                    self.wake_clock_for(deadline, &mut state);
                    self.call_watch(&mut state);
                    if payload_bytes >= BULK_BYTES_MIN {
                        self.want_bulk_lanes(&mut state);
                    }
                    drop(state);
                    if let Some(lane) = lane {
                        lane.send(Outgoing::Call(id, encoded));
                        Rpc::see_to_answer(lane);
                    }
                    return;
                }
                Err((Full::NoSession, refused)) => {
                    drop(state);
                    return (refused.done)(Err(Errno::EIO));
                }
                Err((Full::Slots | Full::Bytes, refused)) => {
                    waiting = refused;
                    if let Err(errno) =
                        self.wait_for_room(&mut state, deadline, waiting.sole_caller(), &mut next_look)
                    {
                        drop(state);
                        return (waiting.done)(Err(errno));
                    }
                    now = Instant::now();
                }
            }
        }
    }

    /// A deadline that comes before everything the clock waits for would else be noticed with the next ping.
    fn wake_clock_for(&self, deadline: Option<Instant>, state: &mut State) {
        if let Some(deadline) = deadline
            && state.clock_wakes_at.is_some_and(|at| deadline < at)
        {
            state.clock_wakes_at = Some(deadline);
            self.tick.notify_one();
        }
    }

    /// Waits a while for room. The watch does not see who has no request yet, so that each looks after himself: at
    /// once, as he may have waited in the kernel for long, and then again and again.
    fn wait_for_room(
        &self,
        state: &mut MutexGuard<'_, State>,
        deadline: Option<Instant>,
        caller: Option<u32>,
        next_look: &mut Instant,
    ) -> Result<(), Errno> {
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Errno::ETIMEDOUT);
        }
        if *next_look <= now {
            *next_look = now + LOOK_INTERVAL;
            let is_ended = || caller.is_some_and(signals::is_ended);
            // There may be room by the time that this is known.
            return if MutexGuard::unlocked(state, is_ended) { Err(Errno::EINTR) } else { Ok(()) };
        }
        state.waiting_for_room += 1;
        self.room.wait_until(state, deadline.map_or(*next_look, |deadline| deadline.min(*next_look)));
        state.waiting_for_room -= 1;
        Ok(())
    }

    /// A connection of the session stands: makes a lane of it and starts its threads.
    fn add_lane(
        self: &Arc<Self>,
        state: &mut State,
        connection: ConnectionId,
        greeted: Greeted,
    ) -> Result<Arc<Lane>, ConnectError> {
        let Greeted { link, reader, .. } = greeted;
        let is_first = state.lanes.is_empty();
        link.set_read_timeout(is_first.then_some(ATTEND_TIME_MAX))?;
        let inbox = Inbox::new(reader, is_first);
        let lane = Arc::new(Lane::new(connection, inbox, link.writer(), link.closer()));
        state.lanes.push(Arc::clone(&lane));
        let sender = Arc::clone(&lane);
        spawn("nearfs-sender", move || sender.run())?;
        let (rpc, own) = (Arc::clone(self), Arc::clone(&lane));
        spawn("nearfs-reader", move || rpc.read(&own))?;
        self.tick.notify_one();
        Ok(lane)
    }

    /// The session is over: tells everybody who waits. Returns what is lost.
    fn end(&self, mut state: MutexGuard<'_, State>) -> Vec<Unfinished> {
        for lane in state.lanes.drain(..) {
            lane.close();
        }
        let waiting = state.session.end();
        state.doubts.clear();
        self.room.notify_all();
        drop(state);
        let lost = waiting.iter().filter_map(Unfinished::new).collect();
        for call in waiting {
            (call.done)(Err(Errno::EIO));
        }
        lost
    }

    fn spawn(self: &Arc<Self>, name: &str, run: fn(&Arc<Rpc>)) -> std::io::Result<()> {
        let rpc = Arc::clone(self);
        spawn(name, move || run(&rpc))
    }
}

impl Waiting {
    /// The thread with which it is given up, if there is one.
    fn sole_caller(&self) -> Option<u32> {
        (!self.survives_caller && self.pid != 0).then_some(self.pid)
    }
}

impl State {
    /// The connection that a request goes out on, if there is one.
    fn lane(&mut self, bulk: bool, bulk_apart: bool) -> Option<Arc<Lane>> {
        let bulk_lanes = self.lanes.len().saturating_sub(1);
        if !bulk || !bulk_apart || bulk_lanes == 0 {
            return self.lanes.first().cloned();
        }
        self.next_bulk = (self.next_bulk + 1) % bulk_lanes;
        self.lanes.get(1 + self.next_bulk).cloned()
    }

    fn count(&mut self, operation: &'static str) {
        match self.sent.iter_mut().find(|(name, _)| *name == operation) {
            Some((_, count)) => *count += 1,
            None => self.sent.push((operation, 1)),
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.into()).stack_size(512 * 1024).spawn(run)?;
    Ok(())
}
