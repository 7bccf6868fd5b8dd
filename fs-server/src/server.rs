//! The server: accepts connections, keeps the time of its sessions, and stops in good order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use nearfs_protocol::id::SessionId;
use nearfs_protocol::message::Push;
use nearfs_protocol::roster::SessionReport;
use nearfs_transport::listen::Listener;
use nearfs_transport::stream::Stream;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::connection::Ended;
use crate::greeting::greet;
use crate::journal::Event;
use crate::lobby::Place;
use crate::pulse;
use crate::restore;
use crate::roster;
use crate::state::Shared;

/// How often sessions are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long to wait when a connection cannot be accepted for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server of one directory. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// A server that serves nobody yet; the sessions that are kept in its store are restored. Errors: the system gives no
    /// random numbers or no boot id.
    pub fn new(config: Config) -> io::Result<Server> {
        let shared = Arc::new(Shared::new(config)?);
        restore::restore(&shared, Instant::now());
        Ok(Server { shared })
    }

    /// Accepts connections until the server stops.
    pub async fn listen(&self, listener: Listener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shared.stopped() => return,
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
            Err(rejected) => {
                let event = || Event::new("refused").quoted("peer", peer.to_string().as_bytes());
                let why = rejected.to_string();
                return self.shared.journal.tell(|| event().quoted("reason", why.as_bytes()));
            }
        };
        let sessions = &self.shared.sessions;
        let session = connection.session.clone();
        let event = |what| {
            let event =
                Event::new(what).session(session.id).quoted("client", session.visitor.name.as_bytes());
            let event = event.quoted("peer", peer.to_string().as_bytes());
            session.visitor.uid.into_iter().fold(event, |event, uid| event.number("uid", uid.into()))
        };
        let active = || sessions.active() as u64;
        self.shared.journal.tell(|| event("connect").number("active", active()));
        let ended = connection.serve().await;
        session.detach(connection.id);
        if let Ended::Bye = ended {
            sessions.remove(session.id);
            let ending = session.clone();
            // That fails when the server is gone, which ends the session.
            let _ = tokio::task::spawn_blocking(move || ending.end()).await;
        }
        self.shared.journal.tell(|| {
            event("disconnect").quoted("reason", ended.to_string().as_bytes()).number("active", active())
        });
    }

    /// Keeps calls that sleep from holding up all others, from a thread of its own, until the server is gone.
    ///
    /// Errors: the system starts no thread.
    pub fn keep_pulse(&self, runtime: &Handle) -> io::Result<()> {
        self.shared.pulse.spare_worker(runtime);
        let (pulse, runtime) = (Arc::downgrade(&self.shared.pulse), runtime.clone());
        let thread = thread::Builder::new().name("nearfs-pulse".to_owned());
        thread.spawn(move || pulse::keep(&pulse, &runtime)).map(drop)
    }

    /// Ends leases and sessions when their time has come, until the server stops.
    pub async fn keep_time(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.tick(),
                () = self.shared.stopped() => return,
            }
        }
    }

    fn tick(&self) {
        let Shared { sessions, tree, .. } = &*self.shared;
        let over = sessions.keep_time(Instant::now());
        if !over.is_empty() {
            tokio::task::spawn_blocking(move || over.iter().for_each(|session| session.end()));
        }
        tree.locks.retry();
        self.make_room();
        self.tidy_records();
    }

    /// Ends sessions of those who have been away for long where they are in the way of others. Closing their files may
    /// sleep, which is not to stop the clock.
    fn make_room(&self) {
        let Shared { sessions, tree, is_making_room, .. } = &*self.shared;
        let is_needed = tree.descriptors_are_scarce() || sessions.courtesy_excess() > 0;
        if !is_needed || is_making_room.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || {
            shared.sessions.make_room(|| shared.tree.descriptors_are_scarce());
            shared.sessions.bound_courtesy();
            shared.is_making_room.store(false, Ordering::Release);
        });
    }

    /// Writes a log anew that has become too long, where that holds up nobody.
    fn tidy_records(&self) {
        if let Some(record) = self.shared.store.as_ref().and_then(|store| store.compactable()) {
            tokio::task::spawn_blocking(move || record.compact());
        }
    }

    /// Stops in good order: tells the clients, takes no further requests, finishes what is in flight as far
    /// as time allows, and frees everything, but for what the next server is to go on with.
    pub async fn stop(&self) {
        self.shared.begin_to_stop();
        for session in self.shared.sessions.all() {
            session.push(&Push::Stopping);
            session.wake();
        }
        let all = self.shared.connections_max as u32;
        let idle = self.shared.connections.acquire_many(all);
        if tokio::time::timeout(self.shared.timings.stop_max, idle).await.is_err() {
            log::warn!("stopped before everything in flight was finished");
        }
        if self.shared.store.is_some() {
            self.shared.tree.export.unnamed.stay();
        }
        // With those that had just begun when the stop did.
        let sessions = self.shared.sessions.all();
        // All of them first, each time: nobody is told what the next server cannot know, and the locks of one that ends
        // would go to those who wait for them in another.
        sessions.iter().for_each(|session| session.fall_silent());
        sessions.iter().for_each(|session| session.files.leave());
        let ending = tokio::task::spawn_blocking(move || sessions.iter().for_each(|session| session.end()));
        if tokio::time::timeout(self.shared.timings.stop_max, ending).await.is_err() {
            log::warn!("stopped before every file was closed");
        }
    }

    /// All sessions, as their clients would be told of each other.
    pub fn sessions(&self) -> Vec<SessionReport> {
        let nobody = SessionId(0);
        let mut all: Vec<SessionReport> = Vec::new();
        loop {
            let after = all.last().map_or(nobody, |last| last.id);
            let (page, end) = roster::page(&self.shared.sessions, after, nobody);
            all.extend(page);
            if end {
                return all;
            }
        }
    }

    /// How many sessions have a connection.
    pub fn active_sessions(&self) -> usize {
        self.shared.sessions.active()
    }
}
