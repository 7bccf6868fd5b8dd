//! Files that lose their last name while a session has them open get another one, in a directory that nobody sees, so
//! that they are still there when the server is started again.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::NodeId;
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};

use super::{Export, Glance, LOOK, proc_path};
use crate::errno::from_os;

/// Parts with a lock each, so that threads seldom meet.
const SHARDS: usize = 32;

/// The files that sessions have open, and which of them have a name of ours. Does nothing until it has a directory.
#[derive(Default)]
pub(crate) struct Unnamed {
    directory: OnceLock<OwnedFd>,
    shards: [Mutex<Shard>; SHARDS],
    linked: AtomicUsize,
    /// Whether names stay although files are closed, since the process ends and the next one opens them again.
    stay: AtomicBool,
    told: AtomicBool,
}

#[derive(Default)]
struct Shard {
    open: HashMap<NodeId, u32>,
    linked: HashSet<NodeId>,
}

impl Unnamed {
    /// A file was opened. To be told when it is closed.
    pub(crate) fn opened(&self, id: NodeId) {
        if self.directory.get().is_some() {
            *self.shard(id).open.entry(id).or_default() += 1;
        }
    }

    /// A file was closed. Whether [`Self::remove`] is to be called, with the server's own rights.
    pub(crate) fn closed(&self, id: NodeId) -> bool {
        if self.directory.get().is_none() {
            return false;
        }
        let mut shard = self.shard(id);
        let Some(count) = shard.open.get_mut(&id) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        shard.open.remove(&id);
        shard.linked.contains(&id) && !self.stay.load(Ordering::Acquire)
    }

    /// Removes the name of a file that nobody has open.
    pub(crate) fn remove(&self, id: NodeId) {
        let mut shard = self.shard(id);
        if !shard.open.contains_key(&id) && shard.linked.remove(&id) {
            self.linked.fetch_sub(1, Ordering::Relaxed);
            self.unlink(id);
        }
    }

    /// From here on the names stay.
    pub(crate) fn stay(&self) {
        self.stay.store(true, Ordering::Release);
    }

    /// How many names of a node are ours, and not to be seen.
    pub(super) fn names_of(&self, id: NodeId) -> u32 {
        if self.linked.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        u32::from(self.shard(id).linked.contains(&id))
    }

    fn unlink(&self, id: NodeId) {
        let Some(directory) = self.directory.get() else { return };
        match rustix::fs::unlinkat(directory, name_of(id), AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => log::warn!("cannot remove a file that nobody has open any more: {error}"),
        }
    }

    fn shard(&self, id: NodeId) -> MutexGuard<'_, Shard> {
        let spread = id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.shards[spread as usize % SHARDS].lock()
    }
}

impl Export {
    /// Keeps open files that lose their names in this directory, and takes up those that are there.
    pub(crate) fn keep_unnamed(&self, directory: &Path) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty()).map_err(from_os)?;
        let entries = Dir::read_from(&directory).map_err(from_os)?;
        let unnamed = &self.unnamed;
        for entry in entries.filter_map(Result::ok) {
            if let Some(id) = id_of(entry.file_name())
                && unnamed.shard(id).linked.insert(id)
            {
                unnamed.linked.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Nobody sets it twice.
        let _ = unnamed.directory.set(directory);
        Ok(())
    }

    /// Removes what no session has open.
    pub(crate) fn sweep_unnamed(&self) {
        for shard in &self.unnamed.shards {
            let closed: Vec<_> = {
                let shard = shard.lock();
                shard.linked.iter().filter(|id| !shard.open.contains_key(id)).copied().collect()
            };
            closed.into_iter().for_each(|id| self.unnamed.remove(id));
        }
    }

    /// Opens a file that has only a name of ours, for looking.
    pub(crate) fn open_unnamed(&self, id: NodeId) -> Result<OwnedFd, Errno> {
        let directory = self.unnamed.directory.get().ok_or(Errno::ENOENT)?;
        rustix::fs::openat(directory, name_of(id), LOOK, Mode::empty()).map_err(from_os)
    }

    /// Whether [`Self::keep_if_open`] has something to do for what a name leads to.
    pub(crate) fn is_last_of_open(&self, glance: &Glance) -> bool {
        let is_last = glance.kind == FileKind::File && glance.links == 1;
        is_last
            && self.unnamed.directory.get().is_some()
            && self.unnamed.shard(glance.id).open.contains_key(&glance.id)
    }

    /// A name is about to be removed or replaced: if it is the last one of a file that a session has open, the file gets
    /// one of ours before. To be called with the server's own rights. A name that is not removed after all does no harm.
    pub(crate) fn keep_if_open(&self, directory: impl AsFd, name: &CStr, glance: &Glance) {
        self.unnamed.keep(glance.id, || rustix::fs::openat(directory, name, LOOK, Mode::empty()));
    }

    /// The same for an open file that never had a name.
    pub(crate) fn keep_nameless(&self, fd: BorrowedFd<'_>, id: NodeId) {
        self.unnamed.keep(id, || Ok(fd));
    }
}

impl Unnamed {
    /// Gives an open file a name of ours, unless it has one.
    fn keep<F: AsFd>(&self, id: NodeId, open: impl FnOnce() -> rustix::io::Result<F>) {
        let Some(ours) = self.directory.get() else { return };
        let mut shard = self.shard(id);
        if shard.linked.contains(&id) || !shard.open.contains_key(&id) {
            return;
        }
        let linked = open().and_then(|fd| {
            let path = proc_path(fd.as_fd());
            rustix::fs::linkat(rustix::fs::CWD, path, ours, name_of(id), AtFlags::SYMLINK_FOLLOW)
        });
        match linked {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {
                shard.linked.insert(id);
                self.linked.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if !self.told.swap(true, Ordering::Relaxed) => log::warn!(
                "files that are removed while they are open will not survive a restart of the server: {error}; \
                 --state-dir names a directory on the file system of the served one"
            ),
            Err(_) => {}
        }
    }
}

fn name_of(id: NodeId) -> CString {
    // Digits have no NUL.
    CString::new(format!("{:016x}", id.0)).unwrap_or_default()
}

fn id_of(name: &CStr) -> Option<NodeId> {
    let name = name.to_str().ok().filter(|name| name.len() == 16)?;
    u64::from_str_radix(name, 16).ok().map(NodeId)
}
