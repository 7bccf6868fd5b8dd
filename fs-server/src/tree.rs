//! What all sessions of an export share: its directory, its nodes, its locks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearfs_protocol::attr::Attr;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Identity;
use nearfs_protocol::id::Node;
use nearfs_protocol::name::Name;
use parking_lot::{Mutex, MutexGuard};

use crate::descriptor::{Descriptors, Share, Slot};
use crate::export::{Export, FileHandle, OpenError, c_name};
use crate::group_sync::GroupSync;
use crate::identity;
use crate::lock::Locks;
use crate::node::{Held, LetGo, Nodes, Place, Way};
use crate::store::Found;
use crate::transfers::Transfers;

/// Most directories on the way to a node that has to be found by names.
const DEPTH_MAX: usize = 2048;
/// Locks by which changes of one node follow one another; several nodes share one.
const STRIPES: usize = 256;
/// A write that took longer than this waited for the disk, and not only for a processor ...
const WRITE_TIME_MAX: Duration = Duration::from_millis(8);
/// ... and for this long after it, writes are taken to wait as well.
const DISK_BUSY_TIME: Duration = Duration::from_millis(100);

/// An export that is served: its directory on disk, the nodes that sessions know of it, and its locks.
pub struct Tree {
    pub(crate) export: Export,
    pub(crate) nodes: Nodes,
    pub(crate) locks: Arc<Locks>,
    pub(crate) group_sync: GroupSync,
    pub(crate) transfers: Transfers,
    identity: Identity,
    read_only: bool,
    descriptors: Descriptors,
    changing: [Mutex<()>; STRIPES],
    disk: Disk,
}

impl Tree {
    /// Opens the directory to serve. `identity`: as whom requests are carried out; `read_only`: whether every
    /// change is refused with `EROFS`; `descriptors`: shared with all other exports of the process.
    pub fn open(
        directory: &Path,
        identity: Identity,
        read_only: bool,
        descriptors: &Descriptors,
    ) -> Result<Tree, OpenError> {
        Ok(Tree {
            export: Export::open(directory)?,
            nodes: Nodes::new(descriptors.clone()),
            locks: Arc::default(),
            group_sync: GroupSync::default(),
            transfers: Transfers::default(),
            identity,
            read_only,
            descriptors: descriptors.clone(),
            changing: std::array::from_fn(|_| Mutex::default()),
            disk: Disk::new(),
        })
    }

    /// As whom requests are carried out.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether every change is refused.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// How many nodes the sessions know in all.
    pub fn node_count(&self) -> usize {
        self.nodes.count()
    }

    /// Gets at a node that some session knows: a descriptor for looking, of that very node.
    ///
    /// Errors: `ESTALE` if it is gone or cannot be found any more.
    pub(crate) fn reach(&self, node: Node) -> Result<Arc<Held>, Errno> {
        match self.nodes.way(node)? {
            Way::Held(held) => Ok(held),
            Way::Find(place, handle) => self.find(node, place, handle),
        }
    }

    /// Finds a node whose descriptor was let go, with the server's own rights: it was permitted when it was found first.
    ///
    /// Errors: `ESTALE` if it is not where it was.
    pub(crate) fn find(
        &self,
        node: Node,
        place: Place,
        handle: Option<Box<FileHandle>>,
    ) -> Result<Arc<Held>, Errno> {
        identity::as_server(|| {
            self.find_by_handle(node, handle).map_or_else(|| self.find_by_names(node, place), Ok)
        })
    }

    fn find_by_handle(&self, node: Node, handle: Option<Box<FileHandle>>) -> Option<Arc<Held>> {
        let fd = self.export.open_handle(&*handle?).ok()?;
        self.check(node, fd.as_fd()).ok()?;
        Some(self.hold(node, fd))
    }

    /// Where a node was found last before the server was started again.
    pub(crate) fn restore_place(&self, node: Node, found: Found) {
        if let Some((parent, name)) = found.place {
            self.nodes.moved(node, &Place::Named(parent, name));
        }
    }

    /// Keeps a node's descriptor for its next use.
    pub(crate) fn hold(&self, node: Node, fd: OwnedFd) -> Arc<Held> {
        let (held, let_go) = self.nodes.hold(node, fd);
        self.remember_handles(let_go);
        held
    }

    /// A slot for an open file of a session that has so many.
    ///
    /// Errors: `ENFILE` if the process holds all the descriptors it may, or the session more than its part of scarce
    /// ones.
    pub(crate) fn slot_for_file(&self, open_files: impl Fn() -> usize) -> Result<Slot, Errno> {
        if let Some(slot) = self.descriptors.for_file(&open_files) {
            return Ok(slot);
        }
        self.remember_handles(self.nodes.shed());
        self.descriptors.for_file(open_files).ok_or(Errno::ENFILE)
    }

    /// Whether so many descriptors are held that sessions have to be content with their parts.
    pub(crate) fn descriptors_are_scarce(&self) -> bool {
        self.descriptors.are_scarce()
    }

    /// A new session's part in the descriptors, if there is room for it. Nodes that are held only to be quick make room.
    pub(crate) fn join_descriptors(&self) -> Option<Share> {
        loop {
            if let Some(share) = self.descriptors.join() {
                return Some(share);
            }
            let let_go = self.nodes.shed();
            if let_go.is_empty() {
                return None;
            }
            self.remember_handles(let_go);
        }
    }

    /// The part of a session of before the server was started again.
    pub(crate) fn join_again(&self) -> Share {
        self.descriptors.join_again()
    }

    /// Keeps others from changing the node until the guard is dropped, as far as they are clients of this server.
    pub(crate) fn change(&self, node: Node) -> MutexGuard<'_, ()> {
        self.stripe(node).lock()
    }

    /// The same without waiting.
    pub(crate) fn try_change(&self, node: Node) -> Option<MutexGuard<'_, ()>> {
        self.stripe(node).try_lock()
    }

    /// Whether and how long writes have been waiting for the disk.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Whether a descriptor is of that node.
    pub(crate) fn check(&self, node: Node, fd: BorrowedFd<'_>) -> Result<Attr, Errno> {
        let attr = self.export.attr(fd)?;
        if attr.node == node { Ok(attr) } else { Err(Errno::ESTALE) }
    }

    fn stripe(&self, node: Node) -> &Mutex<()> {
        &self.changing[(node.id.0 as usize) % STRIPES]
    }

    fn remember_handles(&self, let_go: impl IntoIterator<Item = LetGo>) {
        for (node, held) in let_go {
            if let Some(handle) = self.export.handle_of(held.as_fd()) {
                self.nodes.remember(node, handle);
            }
        }
    }

    /// Goes up by the names remembered until a directory is at hand, and down again, checking each step.
    fn find_by_names(&self, node: Node, place: Place) -> Result<Arc<Held>, Errno> {
        let mut way_down: Vec<(Node, Name)> = Vec::new();
        let (mut below, mut place) = (node, place);
        let mut at = loop {
            let Place::Named(parent, name) = place else { return Err(Errno::ESTALE) };
            way_down.push((below, name));
            if way_down.len() > DEPTH_MAX {
                return Err(Errno::ESTALE);
            }
            below = parent;
            match self.nodes.way(below)? {
                Way::Held(held) => break held,
                Way::Find(further, handle) => match self.find_by_handle(below, handle) {
                    Some(held) => break held,
                    None => place = further,
                },
            }
        };
        while let Some((next, name)) = way_down.pop() {
            let fd = self.export.open_path(&at, &c_name(&name)?).map_err(gone)?;
            self.check(next, fd.as_fd())?;
            at = self.hold(next, fd);
        }
        Ok(at)
    }
}

/// A node that is not where it was is stale, whatever the reason.
fn gone(error: Errno) -> Errno {
    match error {
        Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES => Errno::ESTALE,
        other => other,
    }
}

/// Whether writes wait for the disk at the moment: then they are better made where waiting hurts nobody.
pub(crate) struct Disk {
    started: Instant,
    busy_until_ms: AtomicU64,
}

impl Disk {
    fn new() -> Disk {
        Disk { started: Instant::now(), busy_until_ms: AtomicU64::new(0) }
    }

    /// Whether a write must be expected to wait.
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        self.ms(now) < self.busy_until_ms.load(Ordering::Relaxed)
    }

    /// Notes how long a write took.
    pub(crate) fn wrote(&self, began: Instant) {
        let now = Instant::now();
        if now.duration_since(began) > WRITE_TIME_MAX {
            self.busy_until_ms.store(self.ms(now + DISK_BUSY_TIME), Ordering::Relaxed);
        }
    }

    fn ms(&self, now: Instant) -> u64 {
        now.duration_since(self.started).as_millis() as u64
    }
}

/// The place that a name in a directory is.
pub(crate) fn named(parent: Node, name: &Name) -> Place {
    Place::Named(parent, name.clone())
}
