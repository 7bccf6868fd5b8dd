//! What all connections of a server share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nearfs_protocol::id::{BootEpoch, BootId};
use nearfs_transport::pool::Pool;
use tokio::sync::{Notify, Semaphore};

use crate::admission::Admission;
use crate::config::{Config, Timings};
use crate::journal::Journal;
use crate::lobby::Lobby;
use crate::pulse::Pulse;
use crate::sessions::{Sessions, random};
use crate::store::Store;
use crate::tree::Tree;
use crate::wire::Budget;

/// Idle room for payloads that is kept.
const POOL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A server's tree, sessions and rules.
pub(crate) struct Shared {
    pub(crate) tree: Arc<Tree>,
    /// Where sessions are kept beyond the process' life.
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) admission: Admission,
    pub(crate) timings: Timings,
    pub(crate) journal: Arc<Journal>,
    pub(crate) lobby: Lobby,
    pub(crate) sessions: Sessions,
    pub(crate) pool: Pool,
    pub(crate) budget: Budget,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) epoch: BootEpoch,
    pub(crate) boot: BootId,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) connections_max: usize,
    /// Whether sessions of lost clients are being ended at the moment.
    pub(crate) is_making_room: AtomicBool,
    stopping: AtomicBool,
    stop: Notify,
}

impl Shared {
    /// Errors: the system gives no random numbers or no boot id.
    pub(crate) fn new(config: Config) -> io::Result<Shared> {
        let Config { tree, store, insecure, sessions_max, connections_max, timings, journal } = config;
        tree.transfers.set_journal(journal.clone());
        let own_uid = rustix::process::geteuid().as_raw();
        let admission = Admission { own_uid, insecure, identity: tree.identity() };
        let boot = boot_id()?;
        Ok(Shared {
            tree,
            store,
            admission,
            timings,
            journal,
            lobby: Lobby::default(),
            sessions: Sessions::new(sessions_max),
            pool: Pool::new(POOL_BYTES_MAX),
            budget: Budget::default(),
            pulse: Arc::default(),
            epoch: BootEpoch(u64::from_le_bytes(random()?)),
            boot,
            connections: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            is_making_room: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
        })
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// From here on the server is stopping.
    pub(crate) fn begin_to_stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stop.notify_waiters();
    }

    /// Waits until the server is stopping.
    pub(crate) async fn stopped(&self) {
        // Waiting begins before the flag is read, so that no stop comes between.
        let stop = self.stop.notified();
        if !self.is_stopping() {
            stop.await;
        }
    }
}

/// This start of the operating system (random(4)).
pub(crate) fn boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok(BootId(number.to_be_bytes()))
}
