//! The remote file system as a kernel wants it: nodes by number, operations with a completion.
//!
//! Every operation returns at once; its `done` is called exactly once, perhaps on another thread,
//! perhaps before the call returns. None waits without a bound: see `crate::rpc::Patience`.
//! One file a family of operations: `name`, `attr`, `open`, `read`,
//! `write`, `directory`, `xattr`, `lock`.

mod attr;
pub mod behind;
mod directory;
mod doubt;
mod learn;
mod lock;
mod name;
mod open;
mod path;
mod read;
mod roster;
pub mod types;
mod write;
mod xattr;

use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use nearfs_protocol::attr::Attr;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Welcome;
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::message::{ReleasedFile, Reply, Request};
use nearfs_transport::address::Source;
use nearfs_transport::pool::Payload;

use crate::cache::limits::CacheLimits;
use crate::cache::readahead::link::LinkEstimate;
use crate::cache::{Cache, FillToken, TrustTimes};
use crate::config::{TRUST_MAX, VfsConfig};
use crate::error::ConnectError;
use crate::files::Files;
use crate::foresight::Foresight;
use crate::identity::{Caller, Ids};
use crate::nodes::{Nodes, ROOT_INO};
use crate::rpc::{Ask, Outcome, Patience, Rpc};
use crate::vfs::behind::Behind;
use crate::vfs::learn::Learning;
use crate::vfs::lock::Locked;
use crate::vfs::types::{Entry, Invalidation};

/// A mounted export. Cheap to share; dropping the last reference leaves the server to notice by itself,
/// [`Vfs::shutdown`] says good-bye.
pub struct Vfs {
    pub(crate) rpc: Arc<Rpc>,
    pub(crate) config: VfsConfig,
    pub(crate) ids: Ids,
    pub(crate) nodes: Nodes,
    pub(crate) files: Files,
    pub(crate) cache: Cache,
    pub(crate) locked: Locked,
    pub(crate) foresight: Foresight,
    pub(crate) learning: Learning,
    pub(crate) behind: Behind,
    /// How much reading ahead the link is worth.
    pub(crate) link: LinkEstimate,
    welcome: Welcome,
    notifier: OnceLock<Notifier>,
}

/// How often a server that seems far is asked again.
const MEASURES_MAX: usize = 2;
/// Longest wait for an answer of which only the time counts.
const MEASURE_TIME_MAX: Duration = Duration::from_secs(1);

/// Called once the kernel has let go of what it was told to.
pub type Told = Box<dyn FnOnce() + Send>;

type Notifier = Box<dyn Fn(Invalidation, Option<Told>) + Send + Sync>;

/// Unpacks a result, or hands its error to `done` and returns.
macro_rules! tri {
    ($result:expr, $done:expr) => {
        match $result {
            Ok(value) => value,
            Err(errno) => return $done(Err(errno)),
        }
    };
}
pub(crate) use tri;

impl Vfs {
    /// Connects and begins a session, or says in one line why not.
    pub fn connect(source: &Source, config: VfsConfig) -> Result<Arc<Vfs>, ConnectError> {
        let (rpc, welcome) = Rpc::connect(source, &config)?;
        let root = welcome.root.node;
        let times = trust_times(&config);
        let TrustTimes { attr, entry, negative } = times;
        let config =
            VfsConfig { attr_timeout: attr, entry_timeout: entry, negative_timeout: negative, ..config };
        let vfs = Arc::new(Vfs {
            rpc,
            ids: Ids::new(welcome.identity, config.identity),
            nodes: Nodes::new(root),
            files: Files::default(),
            cache: Cache::new(CacheLimits::from_cache_bytes(config.cache_bytes), times),
            locked: Locked::default(),
            foresight: Foresight::default(),
            learning: Learning::default(),
            behind: Behind::default(),
            link: LinkEstimate::new(),
            welcome,
            config,
            notifier: OnceLock::new(),
        });
        let own = Arc::downgrade(&vfs);
        vfs.rpc.set_doubt_listener(Box::new(move |doubt, stage| {
            if let Some(vfs) = own.upgrade() {
                vfs.doubt(doubt, stage);
            }
        }));
        let own = Arc::downgrade(&vfs);
        vfs.rpc.set_boot_listener(Box::new(move || {
            if let Some(vfs) = own.upgrade() {
                vfs.files.note_restarted_system();
            }
        }));
        let own = Arc::downgrade(&vfs);
        vfs.rpc.set_resume_listener(Box::new(move || {
            if let Some(vfs) = own.upgrade() {
                vfs.distrust_locked();
            }
        }));
        Ok(vfs)
    }

    /// What the server granted when the session began.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Whether the server is so far away that round trips decide how long things take. A greeting takes longer than other
    /// questions, and any question takes long on a machine that is busy at that moment: where it seems far, it is asked
    /// again, within a bound.
    pub fn is_measured_far(self: &Arc<Self>) -> bool {
        for _ in 0..MEASURES_MAX {
            if !self.rpc.is_far() {
                return false;
            }
            let (told, answered) = mpsc::sync_channel(1);
            let begun = Instant::now();
            let nobody = Caller { uid: 0, gid: 0, pid: 0 };
            self.statfs(nobody, ROOT_INO, move |figures| {
                // Whoever asked may have given up waiting.
                let _ = told.send(figures.map(|_| begun.elapsed()));
            });
            match answered.recv_timeout(MEASURE_TIME_MAX) {
                Ok(Ok(round_trip)) => self.rpc.measured(round_trip),
                Ok(Err(_)) | Err(_) => return true,
            }
        }
        self.rpc.is_far()
    }

    /// Who is told when the kernel's caches shall let something go, and, where somebody waits for that, calls
    /// [`Told`] afterwards in any case. Called from threads that must not be held up: it may only queue.
    pub fn set_notifier(&self, notifier: Notifier) {
        if self.notifier.set(notifier).is_err() {
            log::warn!("a second notifier was set and is not used");
        }
    }

    /// Runs `ask`, which asks for something, and stays for the answers if nobody else receives them: the shortest way for
    /// a thread that has nothing to do until somebody asks again. It comes back soon, whatever the server does.
    pub fn attend(&self, ask: impl FnOnce()) {
        self.rpc.attend(ask);
    }

    /// Says good-bye within a bound. Returns what was lost, a line each.
    pub fn shutdown(&self, within: Duration) -> Vec<String> {
        let lost = self.rpc.shutdown(within);
        let subjects: Vec<_> = lost.iter().map(|change| change.subject.clone()).collect();
        lost.iter().zip(self.paths(&subjects)).map(|(change, path)| change.told(&path)).collect()
    }

    /// The kernel gives lookup counts back.
    pub fn forget(&self, ino: u64, count: u64) {
        if let Some((node, granted)) = self.nodes.forget(ino, count) {
            self.forgotten(node, granted);
        }
    }

    pub(crate) fn forgotten(&self, node: Node, count: u64) {
        self.rpc.batch_forget(node, count);
    }

    pub(crate) fn released(&self, file: ReleasedFile, at_once: bool) {
        self.rpc.batch_release(file, at_once);
    }

    pub(crate) fn notify(&self, invalidation: Invalidation) {
        if let Some(notifier) = self.notifier.get() {
            notifier(invalidation, None);
        }
    }

    /// Asks the server for something that may fail after the time-out.
    pub(crate) fn call(
        self: &Arc<Self>,
        caller: Caller,
        node: Node,
        request: Request,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) {
        self.call_patient(caller, node, request, None, Patience::Bounded, done);
    }

    /// Asks the server to keep data: on a `hard` mount as long as it takes.
    pub(crate) fn call_writing(
        self: &Arc<Self>,
        caller: Caller,
        node: Node,
        request: Request,
        payload: Option<Arc<Payload>>,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) {
        self.call_patient(caller, node, request, payload, self.writers_patience(), done);
    }

    /// How long whoever changes something on the server waits for it.
    pub(crate) fn writers_patience(&self) -> Patience {
        if self.config.hard { Patience::Endless } else { Patience::Bounded }
    }

    pub(crate) fn call_patient(
        self: &Arc<Self>,
        caller: Caller,
        node: Node,
        request: Request,
        payload: Option<Arc<Payload>>,
        patience: Patience,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) {
        self.rpc.call(self.ask(caller, node, request, patience), payload, self.noting_gone(node, done));
    }

    /// Asks the server for something that goes on when the caller is to end, because others wait for it as well.
    pub(crate) fn call_surviving(
        self: &Arc<Self>,
        caller: Caller,
        node: Node,
        request: Request,
        patience: Patience,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) {
        let ask = self.ask(caller, node, request, patience);
        self.rpc.call(Ask { survives_caller: true, ..ask }, None, self.noting_gone(node, done));
    }

    /// A node that is gone was led to by a name that stands for another by now, if for any. The kernel looks that up anew
    /// at once, and must not get the old answer again: no name is answered for without the attributes of its node.
    pub(crate) fn noting_gone(
        self: &Arc<Self>,
        node: Node,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> impl FnOnce(Outcome) + Send + 'static {
        let vfs = Arc::clone(self);
        move |outcome| {
            if matches!(outcome, Err(Errno::ESTALE)) {
                vfs.cache.attrs.invalidate(node);
            }
            done(outcome);
        }
    }

    pub(crate) fn ask(&self, caller: Caller, node: Node, request: Request, patience: Patience) -> Ask {
        Ask {
            caller: self.ids.outgoing(caller),
            pid: caller.pid,
            survives_caller: false,
            ino: self.nodes.ino(node.id),
            request,
            patience,
            cancel: None,
        }
    }

    /// Attributes as part of an entry.
    pub(crate) fn entry(&self, attr: Attr) -> Entry {
        Entry {
            ino: self.nodes.ino(attr.node.id),
            generation: attr.node.generation.0,
            attr: self.ids.shown(self.behind.foreseen(attr)),
            entry_ttl: self.config.entry_timeout,
            attr_ttl: self.config.attr_timeout,
        }
    }

    /// Attributes arrived: remembers them, and lets the kernel's pages go if they prove them old. Returns how
    /// long they are right.
    pub(crate) fn seen(&self, token: FillToken, attr: &Attr) -> Duration {
        // While writes are under way it is their answers that tell whether others wrote too.
        if !self.behind.is_pending(attr.node) && self.nodes.pages_outdated(attr.node, attr.change) {
            self.notify(Invalidation::Node { ino: self.nodes.ino(attr.node.id) });
        }
        self.cache.fill_attr(token, attr, Instant::now())
    }

    /// Somebody else may have changed the node without our having been told: lets go of all that is cached of it,
    /// here and in the kernel, and then goes on with `told`.
    pub(crate) fn distrust(&self, node: Node, told: Told) {
        self.cache.invalidate(node);
        self.nodes.pages_rebased(node, Change::UNSURE, Change::UNSURE);
        match self.notifier.get() {
            Some(notifier) => notifier(Invalidation::Node { ino: self.nodes.ino(node.id) }, Some(told)),
            None => told(),
        }
    }

    /// Completes a change of directories, with `dirsync` after it is on the server's disk.
    pub(crate) fn synced_directories<T: Send + 'static>(
        self: &Arc<Self>,
        caller: Caller,
        directories: &[Node],
        result: Result<T, Errno>,
        done: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let Some((&node, rest)) = directories.split_first().filter(|_| self.config.dirsync && result.is_ok())
        else {
            return done(result);
        };
        let (vfs, rest) = (Arc::clone(self), rest.to_vec());
        self.rpc.defer(Box::new(move || {
            let next = Arc::clone(&vfs);
            let request = Request::FsyncDir { node, data_only: false };
            vfs.call_writing(caller, node, request, None, move |outcome| match outcome {
                Ok(_) => next.synced_directories(caller, &rest, result, done),
                Err(errno) => done(Err(errno)),
            });
        }));
    }
}

fn trust_times(config: &VfsConfig) -> TrustTimes {
    TrustTimes {
        attr: config.attr_timeout.min(TRUST_MAX),
        entry: config.entry_timeout.min(TRUST_MAX),
        negative: config.negative_timeout.min(TRUST_MAX),
    }
}

/// The server answered something that does not belong to the request: it is broken, but only this
/// operation suffers.
pub(crate) fn unexpected(reply: &Reply) -> Errno {
    log::error!("the server's answer does not fit the request: {reply:?}");
    Errno::EIO
}
