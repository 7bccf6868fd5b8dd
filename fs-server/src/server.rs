//! The server: accepts connections, keeps the time of its sessions, and stops in good order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nearfs_protocol::id::{BootEpoch, BootId};
use nearfs_protocol::limits::{GREETING_TIME_MAX, LEASE};
use nearfs_protocol::message::Push;
use nearfs_transport::listen::Listener;
use nearfs_transport::pool::Pool;
use nearfs_transport::stream::Stream;
use tokio::sync::{Notify, Semaphore};

use crate::admission::Admission;
use crate::connection::Ended;
use crate::greeting::greet;
use crate::lobby::{Lobby, Place};
use crate::sessions::{Sessions, random};
use crate::tree::Tree;
use crate::wire::Budget;

/// Idle room for payloads that is kept.
const POOL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often sessions are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long to wait when a connection cannot be accepted for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a server is told.
pub struct Config {
    /// What it serves.
    pub tree: Arc<Tree>,
    /// Whether other machines may be clients, although nothing tells who they are.
    pub insecure: bool,
    /// Most sessions.
    pub sessions_max: usize,
    /// Most connections.
    pub connections_max: usize,
    /// How long it waits for what.
    pub timings: Timings,
}

/// How long a server waits for what. Tests shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// From a connection's beginning to its complete greeting.
    pub greeting_max: Duration,
    /// For 64 KiB of a frame, or the rest of it.
    pub frame_max: Duration,
    /// For a peer to take anything of what waits for it.
    pub stall_max: Duration,
    /// For what is in flight when the server stops.
    pub stop_max: Duration,
    /// How long a session keeps everything without a connection.
    pub lease: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            greeting_max: GREETING_TIME_MAX,
            frame_max: Duration::from_secs(30),
            stall_max: Duration::from_secs(30),
            stop_max: Duration::from_secs(3),
            lease: LEASE,
        }
    }
}

/// A server of one directory. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What all connections of a server share.
pub(crate) struct Shared {
    pub(crate) tree: Arc<Tree>,
    pub(crate) admission: Admission,
    pub(crate) timings: Timings,
    pub(crate) lobby: Lobby,
    pub(crate) sessions: Sessions,
    pub(crate) pool: Pool,
    pub(crate) budget: Budget,
    pub(crate) epoch: BootEpoch,
    pub(crate) boot: BootId,
    connections: Arc<Semaphore>,
    connections_max: usize,
    stopping: AtomicBool,
    stop: Notify,
}

impl Server {
    /// A server that serves nobody yet. Errors: the system gives no random numbers or no boot id.
    pub fn new(config: Config) -> io::Result<Server> {
        let Config { tree, insecure, sessions_max, connections_max, timings } = config;
        let own_uid = rustix::process::geteuid().as_raw();
        let admission = Admission { own_uid, insecure, identity: tree.identity() };
        let shared = Shared {
            tree,
            admission,
            timings,
            lobby: Lobby::default(),
            sessions: Sessions::new(sessions_max),
            pool: Pool::new(POOL_BYTES_MAX),
            budget: Budget::default(),
            epoch: BootEpoch(u64::from_le_bytes(random()?)),
            boot: boot_id()?,
            connections: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
        };
        Ok(Server { shared: Arc::new(shared) })
    }

    /// Accepts connections until the server stops.
    pub async fn listen(&self, listener: Listener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stopped() => return,
            };
            match accepted {
                Ok(stream) => drop(tokio::spawn(self.connect(stream))),
                Err(error) => {
                    log::warn!("{}: cannot accept a connection: {error}", listener.local());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes in a connection. The returned future serves it to its end.
    pub fn connect(&self, stream: Stream) -> impl Future<Output = ()> + Send + 'static {
        // Who came first is settled here, before tasks run in any order.
        let place = self.shared.lobby.enter(stream.peer());
        self.clone().serve(stream, place)
    }

    async fn serve(self, stream: Stream, place: Place) {
        let peer = stream.peer();
        let Ok(_permit) = self.shared.connections.clone().try_acquire_owned() else {
            return log::warn!("{peer}: turned away, there are {} connections", self.shared.connections_max);
        };
        let mut connection = match greet(&self.shared, stream, place).await {
            Ok(connection) => connection,
            Err(rejected) => return log::info!("{peer}: {rejected}"),
        };
        let sessions = &self.shared.sessions;
        let session = connection.session.clone();
        log::info!("{peer}: connected, session {}, {} active", session.id.0, sessions.active());
        let ended = connection.serve().await;
        session.detach(connection.id);
        if let Ended::Bye = ended {
            sessions.remove(session.id);
            session.end();
        }
        log::info!("{peer}: disconnected, session {}: {ended}, {} active", session.id.0, sessions.active());
    }

    /// Ends leases and sessions when their time has come, until the server stops.
    pub async fn keep_time(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.shared.sessions.keep_time(Instant::now()),
                () = self.stopped() => return,
            }
        }
    }

    /// Stops in good order: tells the clients, takes no further requests, finishes what is in flight as far
    /// as time allows, and frees everything.
    pub async fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.stop.notify_waiters();
        let sessions = self.shared.sessions.all();
        for session in &sessions {
            session.push(&Push::Stopping);
            session.wake();
        }
        let all = self.shared.connections_max as u32;
        let idle = self.shared.connections.acquire_many(all);
        if tokio::time::timeout(self.shared.timings.stop_max, idle).await.is_err() {
            log::warn!("stopped before everything in flight was finished");
        }
        for session in sessions {
            session.end();
        }
    }

    /// How many sessions have a connection.
    pub fn active_sessions(&self) -> usize {
        self.shared.sessions.active()
    }

    async fn stopped(&self) {
        // Waiting begins before the flag is read, so that no stop comes between.
        let stop = self.shared.stop.notified();
        if !self.shared.is_stopping() {
            stop.await;
        }
    }
}

impl Shared {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// This start of the operating system (random(4)).
fn boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok(BootId(number.to_be_bytes()))
}
