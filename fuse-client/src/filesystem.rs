//! The kernel's requests: each is unpacked, handed to the [`Vfs`] and answered when that is done.
//!
//! Beside it [`crate::answer`] has the forms of replies, and [`crate::convert`] turns our words into the FUSE
//! library's. There is no state and no decision here, except what the library or the kernel's side of FUSE
//! needs: a size that does not fit, operations that make no sense for files.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use nearfs_client::identity::Caller;
use nearfs_client::vfs::Vfs;
use nearfs_protocol::attr::SetAttr;

use crate::answer;
use crate::capabilities::{Wanted, negotiate};
use crate::convert;

/// Answers the kernel's requests from a [`Vfs`].
pub(crate) struct NearFs {
    vfs: Arc<Vfs>,
    wanted: Wanted,
}

impl NearFs {
    pub(crate) fn new(vfs: Arc<Vfs>, wanted: Wanted) -> NearFs {
        NearFs { vfs, wanted }
    }

    /// Runs a callback, and sees to the answer to what it asks before the thread goes back to the kernel. A panic in
    /// either ends with `EIO` for its caller (the reply is dropped, which sends it) instead of with the end of the
    /// thread that serves the mount.
    fn guarded(&self, operation: &str, callback: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(|| self.vfs.attend(callback))).is_err() {
            log::error!("{operation} failed by a bug; its caller got EIO");
        }
    }
}

impl Filesystem for NearFs {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate(config, &self.wanted);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.guarded("lookup", || {
            self.vfs.lookup(caller(req), parent.0, name.as_bytes(), move |found| {
                answer::lookup(reply, found);
            });
        });
    }

    /// Batches arrive here one by one: the library keeps its type for them to itself.
    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.guarded("forget", || self.vfs.forget(ino.0, nlookup));
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        self.guarded("getattr", || {
            self.vfs.getattr(caller(req), ino.0, fh.map(|fh| fh.0), move |attr| answer::attr(reply, attr));
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.guarded("setattr", || {
            let set = SetAttr {
                mode: mode.map(|mode| mode & 0o7777),
                uid,
                gid,
                size,
                atime: atime.map(convert::set_time),
                mtime: mtime.map(convert::set_time),
            };
            let fh = fh.map(|fh| fh.0);
            self.vfs.setattr(caller(req), ino.0, fh, set, move |attr| answer::attr(reply, attr));
        });
    }

    fn access(&self, req: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        self.guarded("access", || {
            let mask = (mask.bits() & 7) as u8;
            self.vfs.access(caller(req), ino.0, mask, move |result| answer::empty(reply, result));
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        self.guarded("readlink", || {
            self.vfs.readlink(caller(req), ino.0, move |target| match target {
                Ok(target) => reply.data(&target),
                Err(errno) => reply.error(convert::errno(errno)),
            });
        });
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.guarded("symlink", || {
            let target = target.as_os_str().as_bytes();
            self.vfs.symlink(caller(req), parent.0, name.as_bytes(), target, move |entry| {
                answer::entry(reply, entry);
            });
        });
    }

    fn link(&self, req: &Request, ino: INodeNo, new_parent: INodeNo, new_name: &OsStr, reply: ReplyEntry) {
        self.guarded("link", || {
            self.vfs.link(caller(req), ino.0, new_parent.0, new_name.as_bytes(), move |entry| {
                answer::entry(reply, entry);
            });
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.guarded("mknod", || {
            let name = name.as_bytes();
            self.vfs.mknod(caller(req), parent.0, name, mode, umask, rdev, move |entry| {
                answer::entry(reply, entry);
            });
        });
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.guarded("mkdir", || {
            self.vfs.mkdir(caller(req), parent.0, name.as_bytes(), mode, umask, move |entry| {
                answer::entry(reply, entry);
            });
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guarded("unlink", || {
            self.vfs.unlink(caller(req), parent.0, name.as_bytes(), move |result| {
                answer::empty(reply, result);
            });
        });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guarded("rmdir", || {
            self.vfs.rmdir(caller(req), parent.0, name.as_bytes(), move |result| {
                answer::empty(reply, result);
            });
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.guarded("rename", || {
            let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
            let flags = flags.bits();
            self.vfs.rename(caller(req), parent.0, name, new_parent.0, new_name, flags, move |result| {
                answer::empty(reply, result);
            });
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.guarded("open", || {
            self.vfs.open(caller(req), ino.0, flags.0, move |opened| answer::opened(reply, opened));
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.guarded("create", || {
            let name = name.as_bytes();
            self.vfs.create(caller(req), parent.0, name, mode, umask, flags, move |created| {
                answer::created(reply, created);
            });
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.guarded("read", || {
            self.vfs.read(caller(req), ino.0, fh.0, offset, size, move |bytes| match bytes {
                Ok(bytes) => reply.data(bytes),
                Err(errno) => reply.error(convert::errno(errno)),
            });
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        bytes: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let is_page = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        self.guarded("write", || {
            self.vfs.write(caller(req), ino.0, fh.0, offset, bytes, is_page, move |size| match size {
                Ok(size) => reply.written(size),
                Err(errno) => reply.error(convert::errno(errno)),
            });
        });
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, owner: LockOwner, reply: ReplyEmpty) {
        self.guarded("flush", || {
            self.vfs.flush(caller(req), ino.0, fh.0, owner.0, move |result| answer::empty(reply, result));
        });
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, data_only: bool, reply: ReplyEmpty) {
        self.guarded("fsync", || {
            self.vfs.fsync(caller(req), ino.0, fh.0, data_only, move |result| answer::empty(reply, result));
        });
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        flock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.guarded("release", || {
            self.vfs.release(ino.0, fh.0, flock_owner.map(|owner| owner.0));
            reply.ok();
        });
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.guarded("opendir", || {
            self.vfs.opendir(caller(req), ino.0, move |opened| answer::opened(reply, opened));
        });
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        self.guarded("readdir", || {
            self.vfs
                .readdir(caller(req), ino.0, fh.0, offset, false, move |items| answer::listing(reply, items));
        });
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.guarded("readdirplus", || {
            self.vfs.readdir(caller(req), ino.0, fh.0, offset, true, move |items| {
                answer::listing_plus(reply, items)
            });
        });
    }

    fn releasedir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.guarded("releasedir", || {
            self.vfs.releasedir(ino.0, fh.0);
            reply.ok();
        });
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, data_only: bool, reply: ReplyEmpty) {
        self.guarded("fsyncdir", || {
            self.vfs
                .fsyncdir(caller(req), ino.0, fh.0, data_only, move |result| answer::empty(reply, result));
        });
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.guarded("statfs", || {
            self.vfs.statfs(caller(req), ino.0, move |figures| answer::statfs(reply, figures));
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.guarded("getxattr", || {
            self.vfs.getxattr(caller(req), ino.0, name.as_bytes(), move |value| {
                answer::xattr(reply, size, value);
            });
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.guarded("setxattr", || {
            self.vfs.setxattr(caller(req), ino.0, name.as_bytes(), value, flags, move |result| {
                answer::empty(reply, result);
            });
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.guarded("listxattr", || {
            self.vfs.listxattr(caller(req), ino.0, move |names| answer::xattr(reply, size, names));
        });
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guarded("removexattr", || {
            self.vfs.removexattr(caller(req), ino.0, name.as_bytes(), move |result| {
                answer::empty(reply, result);
            });
        });
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.guarded("fallocate", || {
            self.vfs.fallocate(caller(req), ino.0, fh.0, offset, length, mode, move |result| {
                answer::empty(reply, result);
            });
        });
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.guarded("lseek", || {
            self.vfs.lseek(caller(req), ino.0, fh.0, offset, whence, move |place| match place {
                Ok(place) => reply.offset(place),
                Err(errno) => reply.error(convert::errno(errno)),
            });
        });
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.guarded("copy_file_range", || {
            // The answer has 32 bits for the size, so that a longer copy is asked for in parts.
            let length = length.min(u64::from(u32::MAX));
            let (from, from_fh, to, to_fh) = (ino_in.0, fh_in.0, ino_out.0, fh_out.0);
            let done = move |copied| match copied {
                Ok(size) => reply.written(u32::try_from(size).unwrap_or(u32::MAX)),
                Err(errno) => reply.error(convert::errno(errno)),
            };
            self.vfs.copy_file_range(
                caller(req),
                from,
                from_fh,
                offset_in,
                to,
                to_fh,
                offset_out,
                length,
                done,
            );
        });
    }

    fn getlk(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        self.guarded("getlk", || {
            let Some(lock) = convert::lock(owner.0, start, end, kind, pid) else {
                return reply.error(fuser::Errno::EINVAL);
            };
            self.vfs.getlk(caller(req), ino.0, fh.0, lock, move |found| answer::lock(reply, lock, found));
        });
    }

    fn setlk(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        self.guarded("setlk", || {
            let Some(lock) = convert::lock(owner.0, start, end, kind, pid) else {
                return reply.error(fuser::Errno::EINVAL);
            };
            self.vfs.setlk(caller(req), ino.0, fh.0, lock, sleep, move |result| answer::empty(reply, result));
        });
    }

    fn bmap(&self, _req: &Request, _ino: INodeNo, _block_bytes: u32, _index: u64, reply: ReplyBmap) {
        reply.error(fuser::Errno::EOPNOTSUPP);
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }

    /// Files are always ready (poll(2)), and only files come here: the kernel serves fifos and sockets
    /// itself. This answer tells it so once and for all.
    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }
}

fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), pid: req.pid() }
}
