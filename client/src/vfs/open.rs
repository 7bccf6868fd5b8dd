//! Opening, closing and syncing files.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Fh, Node};
use nearfs_protocol::limits::INLINE_BYTES_MAX;
use nearfs_protocol::message::{AlsoOpen, ReleasedFile, Reply, Request};
use nearfs_protocol::name::Name;
use nearfs_protocol::version::Features;
use nearfs_transport::pool::Payload;
use parking_lot::Mutex;

use crate::cache::FillToken;
use crate::cache::dentry::Dentry;
use crate::cache::readahead::Readahead;
use crate::cache::xattr::CAPABILITY;
use crate::files::{OpenFile, Unsynced};
use crate::foresight::{OPENED_AHEAD_TIME_MAX, open_flags};
use crate::identity::Caller;
use crate::rpc::{Outcome, Patience};
use crate::vfs::attr::attr_reply;
use crate::vfs::types::{Entry, Opened};
use crate::vfs::{Vfs, tri, unexpected};

/// The content of a small file comes along though it has grown since it was last seen, up to a multiple of this.
const GROWTH_BYTES: u32 = 4096;

impl Vfs {
    /// Opens a file. The server is always asked, so that whoever closed it before is seen (close-to-open);
    /// the content of a small file that is not cached comes along.
    pub fn open(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        flags: i32,
        done: impl FnOnce(Result<Opened, Errno>) + Send + 'static,
    ) {
        let node = tri!(self.nodes.node(ino), done);
        if self.behind.is_pending(node) {
            let again = move |vfs: &Arc<Vfs>, done| vfs.open(caller, ino, flags, done);
            return self.after_writes(caller, node, Patience::Bounded, done, again);
        }
        self.foresight.opened(node);
        if is_plain_read(flags)
            && let Some(ahead) = self.foresight.take(caller, node, Instant::now())
        {
            if self.cache.attr_stands(ahead.token, node) {
                return done(Ok(self.opened(ahead.token, ahead.fh, flags, &ahead.attr, None)));
            }
            return self.open_changed(caller, node, ahead.fh, flags, done);
        }
        let content_bytes_max = self.wanted_content_bytes(node, flags);
        let token = self.cache.begin_fill();
        let vfs = Arc::clone(self);
        let request = Request::Open { node, flags: flags as u32, content_bytes_max };
        self.call(caller, node, request, move |outcome| {
            done(match outcome {
                Ok((Reply::Opened { fh, attr, whole, .. }, content)) => {
                    if flags & libc::O_TRUNC != 0 {
                        vfs.cache.own_change(token, Change::UNSURE, &attr, Instant::now());
                    }
                    Ok(vfs.opened(token, fh, flags, &attr, whole.then_some(content)))
                }
                Ok((other, _)) => Err(unexpected(&other)),
                Err(errno) => {
                    if errno == Errno::ESTALE {
                        vfs.foresight.replaced(Instant::now());
                    }
                    Err(errno)
                }
            });
        });
    }

    /// Opens a file that was opened ahead, and that we ourselves changed since. It may have lost its name, so that only who
    /// has it open finds it.
    fn open_changed(
        self: &Arc<Self>,
        caller: Caller,
        node: Node,
        fh: Fh,
        flags: i32,
        done: impl FnOnce(Result<Opened, Errno>) + Send + 'static,
    ) {
        let token = self.cache.begin_fill();
        let vfs = Arc::clone(self);
        self.call(caller, node, Request::GetAttr { node, fh: Some(fh) }, move |outcome| {
            let attr = attr_reply(outcome);
            if attr.is_err() {
                vfs.released(ReleasedFile { fh, flock_owner: None }, false);
            }
            done(attr.map(|attr| vfs.opened(token, fh, flags, &attr, None)));
        });
    }

    /// Creates a file if it is missing, and opens it.
    #[expect(clippy::too_many_arguments, reason = "the operation has them")]
    pub fn create(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
        done: impl FnOnce(Result<(Entry, Opened), Errno>) + Send + 'static,
    ) {
        let (parent, name) = tri!(self.place(parent, name), done);
        let token = self.cache.begin_fill();
        let vfs = Arc::clone(self);
        let request = Request::Create { parent, name: name.clone(), mode, umask, flags: flags as u32 };
        self.call(caller, parent, request, move |outcome| {
            let created = match outcome {
                Ok((Reply::Created { fh, attr, created, parent: change }, _)) => {
                    let entry = vfs.made(token, (parent, &name), attr, &change);
                    vfs.absence_unknown(caller, parent);
                    if created {
                        // The kernel is about to ask, before the first write.
                        vfs.cache.fill_xattr(token, attr.node, attr.change, CAPABILITY, None, Instant::now());
                    }
                    Ok((entry, vfs.opened(token, fh, flags, &attr, None)))
                }
                Ok((other, _)) => Err(unexpected(&other)),
                Err(errno) => {
                    vfs.cache.name_changed(parent, &name);
                    Err(errno)
                }
            };
            vfs.synced_directories(caller, &[parent], created, done);
        });
    }

    /// A descriptor was closed: its process gives up its POSIX locks, and hears of what was written without its waiting.
    pub fn flush(
        self: &Arc<Self>,
        caller: Caller,
        _ino: u64,
        fh: u64,
        owner: u64,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let file = tri!(self.files.get(fh), done);
        let vfs = Arc::clone(self);
        self.once_written(caller, file.node, self.writers_patience(), move |waited| match waited {
            Ok(()) => vfs.flush_written(caller, &file, owner, done),
            // The descriptor is closed in any case, and what is under way will be written.
            Err(Errno::EINTR) => done(Ok(())),
            Err(errno) => done(Err(errno)),
        });
    }

    fn flush_written(
        self: &Arc<Self>,
        caller: Caller,
        file: &OpenFile,
        owner: u64,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let is_kept = file.check();
        if !self.locked.take(file.node, owner) {
            return done(is_kept);
        }
        let request = Request::Flush { fh: file.fh, owner };
        let done = self.rpc.wait_apart(caller.pid, |outcome| match outcome {
            // The descriptor is closed in any case, and its locks go as soon as the server hears of it.
            Ok(()) | Err(Errno::EINTR) => done(Ok(())),
            Err(errno) => done(Err(errno)),
        });
        // Given up, it would leave locks that nobody holds any more.
        let patience = self.writers_patience();
        self.call_surviving(caller, file.node, request, patience, move |outcome| {
            done(outcome.and(is_kept));
        });
    }

    /// Brings a file's content to the server's disk (fsync(2), fdatasync(2)).
    pub fn fsync(
        self: &Arc<Self>,
        caller: Caller,
        _ino: u64,
        fh: u64,
        data_only: bool,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let file = tri!(self.files.get(fh), done);
        if let Some(errno) = file.lost.get() {
            return done(Err(*errno));
        }
        tri!(file.check(), done);
        if self.behind.is_pending(file.node) {
            let again = move |vfs: &Arc<Vfs>, done| vfs.fsync(caller, _ino, fh, data_only, done);
            return self.after_writes(caller, file.node, self.writers_patience(), done, again);
        }
        let request = Request::Fsync { fh: file.fh, data_only };
        let syncing = self.files.syncing(file.node);
        self.call_writing(caller, file.node, request, None, move |outcome| {
            // The server that answers may be another than the one that had the bytes.
            done(outcome.and_then(|_| file.unsynced.check()).inspect(|()| syncing.done()));
        });
    }

    /// The last descriptor of a file was closed. Nobody waits for it, so that it is closed at the server together with
    /// others, but for locks that somebody may be waiting for.
    pub fn release(self: &Arc<Self>, _ino: u64, fh: u64, flock_owner: Option<u64>) {
        let Some(file) = self.files.remove(fh) else { return };
        let vfs = Arc::clone(self);
        let nobody = Caller { uid: 0, gid: 0, pid: 0 };
        self.once_written(nobody, file.node, Patience::Endless, move |_| {
            vfs.nodes.closed(file.node);
            let closed =
                |flock_owner, at_once| vfs.released(ReleasedFile { fh: file.fh, flock_owner }, at_once);
            match flock_owner {
                Some(owner) => vfs.locked.closed(file.node, owner, fh, |owner| closed(owner, true)),
                None => closed(None, false),
            }
        });
    }

    fn opened(&self, token: FillToken, fh: Fh, flags: i32, attr: &Attr, content: Option<Payload>) -> Opened {
        let keep_cache = self.nodes.opened(attr.node, attr.change);
        self.cache.fill_attr(token, attr, Instant::now());
        if let Some(content) = content
            && content.len() as u64 == attr.size
        {
            self.cache.blocks.fill_whole(token, attr.node, attr.change, &content);
        }
        let readahead = Mutex::new(Readahead::new());
        let (lost, failed, unsynced) = (OnceLock::new(), OnceLock::new(), Unsynced::default());
        let file = OpenFile { node: attr.node, fh: Fh(fh.0), flags, readahead, lost, failed, unsynced };
        // The kernel computes where an append goes from a size that it remembers, so that its pages would be
        // wrong after every append of somebody else.
        let direct_io = self.config.cache_bytes == 0 || file.appends() || file.is_direct();
        Opened { fh: self.files.add(file), keep_cache, direct_io, cache_dir: false }
    }

    /// What a lookup shall bring beyond the name, where it is likely to be followed by an open.
    pub(crate) fn wanted_with_lookup(&self, caller: Caller, parent: Node, name: &Name) -> Option<AlsoOpen> {
        let wanted = self.config.cache_bytes > 0
            && self.welcome.features.contains(Features::LOOKUP_OPEN)
            && (self.rpc.is_far() || self.foresight.expects_open(parent, Instant::now()))
            && open_flags(caller.pid).is_some_and(is_plain_read);
        let content_bytes_max = match self.cache.name_last_seen(parent, name) {
            Some(Dentry::Node(node)) if wanted => self.wanted_content_bytes(node, libc::O_RDONLY),
            Some(Dentry::Node(_) | Dentry::Absent) | None => INLINE_BYTES_MAX as u32,
        };
        wanted.then_some(AlsoOpen { content_bytes_max })
    }

    /// Keeps the file that a lookup opened for the program that is about to open it.
    pub(crate) fn keep_opened(
        self: &Arc<Self>,
        token: FillToken,
        caller: Caller,
        parent: Node,
        outcome: Outcome,
    ) -> Outcome {
        let Ok((Reply::Entry { attr, fh, whole }, content)) = &outcome else { return outcome };
        if attr.kind == FileKind::File {
            self.foresight.found(parent, attr.node);
        }
        let Some(fh) = *fh else { return outcome };
        if *whole && content.len() as u64 == attr.size {
            self.cache.blocks.fill_whole(token, attr.node, attr.change, content);
        }
        if let Some(gone) = self.foresight.keep(token, caller, fh, *attr, Instant::now()) {
            self.released(ReleasedFile { fh: gone, flock_owner: None }, false);
        }
        if self.foresight.begin_sweeping() {
            self.close_unused_later();
        }
        outcome
    }

    fn close_unused_later(self: &Arc<Self>) {
        let vfs = Arc::clone(self);
        let job = move || {
            for fh in vfs.foresight.unused(Instant::now()) {
                vfs.released(ReleasedFile { fh, flock_owner: None }, false);
            }
            if vfs.foresight.goes_on_sweeping() {
                vfs.close_unused_later();
            }
        };
        self.rpc.later(OPENED_AHEAD_TIME_MAX, Box::new(job));
    }

    /// How much content shall come along with an open: that of a small file which is not here already.
    fn wanted_content_bytes(&self, node: Node, flags: i32) -> u32 {
        let reads = flags & libc::O_ACCMODE != libc::O_WRONLY;
        if !reads || flags & (libc::O_TRUNC | libc::O_DIRECT) != 0 || self.config.cache_bytes == 0 {
            return 0;
        }
        let Some(attr) = self.cache.attrs.last_seen(node) else { return INLINE_BYTES_MAX as u32 };
        let large = attr.size > INLINE_BYTES_MAX as u64;
        let here = self.nodes.pages_change(node).same_as(attr.change);
        if attr.size == 0 || large || here {
            return 0;
        }
        // No more than there was, so that the small answer takes the way of small ones.
        (attr.size as u32).next_multiple_of(GROWTH_BYTES)
    }
}

/// Whether these flags ask for nothing but to read.
fn is_plain_read(flags: i32) -> bool {
    const HARMLESS: i32 = libc::O_CLOEXEC
        | libc::O_LARGEFILE
        | libc::O_NOFOLLOW
        | libc::O_NOCTTY
        | libc::O_NONBLOCK
        | KERNELS_LARGEFILE;
    flags & !HARMLESS == libc::O_RDONLY
}

/// The kernel's `O_LARGEFILE`, which the C library defines as 0 on 64-bit machines.
const KERNELS_LARGEFILE: i32 = 0o100000;
