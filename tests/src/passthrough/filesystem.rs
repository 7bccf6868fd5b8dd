//! The FUSE operations: each is the system call of the same name on the directory beneath.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, SeekFrom, XattrFlags};

use super::attr::{AttrChange, errno, file_attr, file_type};
use super::dir::OpenDir;
use super::node::{NodeTable, proc_path};
use super::open_file::OpenTable;
use super::{BACKGROUND_REQUESTS_MAX, TTL, WRITE_BYTES_MAX};

const GENERATION: Generation = Generation(0);

/// The largest extended attribute that Linux allows (xattr(7)).
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// The filesystem: nodes the kernel knows, files and directories it has open.
pub(super) struct Passthrough {
    nodes: NodeTable,
    files: OpenTable<OwnedFd>,
    dirs: OpenTable<OpenDir>,
}

thread_local! {
    /// One buffer for each thread of the session, so that a read neither allocates nor clears memory.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Answers a request whose body returns `Result<_, Errno>`.
macro_rules! answer {
    ($reply:ident, $result:expr, $answered:pat => $answer:expr) => {
        match $result {
            Ok($answered) => $answer,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Passthrough {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_ATOMIC_O_TRUNC
            | InitFlags::FUSE_CACHE_SYMLINKS;
        for flag in wanted.iter() {
            if config.add_capabilities(flag).is_err() {
                log::warn!("the kernel does not offer {flag:?}");
            }
        }
        if config.set_max_write(WRITE_BYTES_MAX).is_err()
            || config.set_max_background(BACKGROUND_REQUESTS_MAX).is_err()
        {
            log::warn!("the FUSE library keeps its own request limits");
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.find(parent, name), attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.nodes.forget(ino, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.attr_of(ino), attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _req: &Request,
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
        let change = AttrChange { mode, uid, gid, size, atime, mtime };
        answer!(reply, self.change_attr(ino, fh, &change), attr => reply.attr(&TTL, &attr));
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let target =
            self.nodes.get(ino).and_then(|fd| rustix::fs::readlinkat(&*fd, "", Vec::new()).map_err(errno));
        answer!(reply, target, target => reply.data(target.as_bytes()));
    }

    fn mkdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let made = self.nodes.get(parent).and_then(|dir| {
            rustix::fs::mkdirat(&*dir, name, Mode::from_raw_mode(mode & !umask)).map_err(errno)?;
            self.find(parent, name)
        });
        answer!(reply, made, attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(parent, name, AtFlags::empty()), () => reply.ok());
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(parent, name, AtFlags::REMOVEDIR), () => reply.ok());
    }

    fn symlink(&self, _req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        let made = self.nodes.get(parent).and_then(|dir| {
            rustix::fs::symlinkat(target, &*dir, link_name).map_err(errno)?;
            self.find(parent, link_name)
        });
        answer!(reply, made, attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        let renamed = self.nodes.get(parent).and_then(|from| {
            let to = self.nodes.get(newparent)?;
            rustix::fs::renameat_with(&*from, name, &*to, newname, flags).map_err(errno)
        });
        answer!(reply, renamed, () => reply.ok());
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let linked = self.nodes.get(ino).and_then(|fd| {
            let dir = self.nodes.get(newparent)?;
            rustix::fs::linkat(rustix::fs::CWD, proc_path(&fd), &*dir, newname, AtFlags::SYMLINK_FOLLOW)
                .map_err(errno)?;
            self.find(newparent, newname)
        });
        answer!(reply, linked, attr => reply.entry(&TTL, &attr, GENERATION));
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.reopen(ino, open_flags(flags.0));
        answer!(reply, opened, fd => reply.opened(self.files.insert(fd), FopenFlags::FOPEN_KEEP_CACHE));
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let created = self.nodes.get(parent).and_then(|dir| {
            let exclusive = OFlags::from_bits_retain(flags.unsigned_abs()) & OFlags::EXCL;
            let flags = open_flags(flags) | exclusive | OFlags::CREATE | OFlags::NOFOLLOW;
            let fd =
                rustix::fs::openat(&*dir, name, flags, Mode::from_raw_mode(mode & !umask)).map_err(errno)?;
            Ok((self.find(parent, name)?, fd))
        });
        answer!(reply, created, (attr, fd) => {
            let fh = self.files.insert(fd);
            reply.created(&TTL, &attr, GENERATION, fh, FopenFlags::FOPEN_KEEP_CACHE);
        });
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let file = match self.files.get(fh) {
            Ok(file) => file,
            Err(error) => return reply.error(error),
        };
        READ_BUFFER.with_borrow_mut(|buffer| {
            let wanted = size as usize;
            if buffer.len() < wanted {
                buffer.resize(wanted, 0);
            }
            match rustix::io::pread(&*file, &mut buffer[..wanted], offset) {
                Ok(count) => reply.data(&buffer[..count]),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written =
            self.files.get(fh).and_then(|file| rustix::io::pwrite(&*file, data, offset).map_err(errno));
        answer!(reply, written, count => reply.written(u32::try_from(count).unwrap_or(u32::MAX)));
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.files.remove(fh);
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let synced = self.files.get(fh).and_then(|file| {
            if datasync { rustix::fs::fdatasync(&*file) } else { rustix::fs::fsync(&*file) }.map_err(errno)
        });
        answer!(reply, synced, () => reply.ok());
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.reopen(ino, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC);
        let cached = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
        answer!(reply, opened, fd => reply.opened(self.dirs.insert(OpenDir::new(fd)), cached));
    }

    fn readdir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let read = self.dirs.get(fh).and_then(|dir| {
            dir.read_from(offset, |entry| {
                !reply.add(INodeNo(entry.ino), entry.next, file_type(entry.kind), &entry.name)
            })
            .map_err(errno)
        });
        answer!(reply, read, () => reply.ok());
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let read = self.dirs.get(fh).and_then(|dir| {
            dir.read_from(offset, |entry| {
                // The kernel counts no lookup for the two names that lead nowhere new.
                let dots = entry.name == "." || entry.name == "..";
                let attr = match if dots { self.attr_of(ino) } else { self.find(ino, &entry.name) } {
                    Ok(attr) => attr,
                    // The name went away between the listing and the look at it.
                    Err(_) => return true,
                };
                let full = reply.add(attr.ino, entry.next, &entry.name, &TTL, &attr, GENERATION);
                if full && !dots {
                    self.nodes.forget(attr.ino, 1);
                }
                !full
            })
            .map_err(errno)
        });
        answer!(reply, read, () => reply.ok());
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let synced = self.dirs.get(fh).and_then(|dir| dir.sync(datasync).map_err(errno));
        answer!(reply, synced, () => reply.ok());
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.dirs.remove(fh);
        reply.ok();
    }

    fn statfs(&self, _req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let stat = self.nodes.get(ino).and_then(|fd| rustix::fs::fstatfs(&*fd).map_err(errno));
        answer!(reply, stat, stat => reply.statfs(
            stat.f_blocks,
            stat.f_bfree,
            stat.f_bavail,
            stat.f_files,
            stat.f_ffree,
            u32::try_from(stat.f_bsize).unwrap_or(4096),
            u32::try_from(stat.f_namelen).unwrap_or(255),
            u32::try_from(stat.f_frsize).unwrap_or(4096),
        ));
    }

    fn setxattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let flags = XattrFlags::from_bits_retain(flags.unsigned_abs());
        let set = self
            .nodes
            .get(ino)
            .and_then(|fd| rustix::fs::setxattr(proc_path(&fd), name, value, flags).map_err(errno));
        answer!(reply, set, () => reply.ok());
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let got = self.nodes.get(ino).and_then(|fd| {
            let mut value = Vec::with_capacity((size as usize).min(XATTR_BYTES_MAX));
            match size {
                0 => rustix::fs::getxattr_query(proc_path(&fd), name),
                _ => rustix::fs::getxattr(proc_path(&fd), name, rustix::buffer::spare_capacity(&mut value)),
            }
            .map(|count| (count, value))
            .map_err(errno)
        });
        answer!(reply, got, (count, value) => reply_xattr(reply, size, count, &value));
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let got = self.nodes.get(ino).and_then(|fd| {
            let mut names = Vec::with_capacity((size as usize).min(XATTR_BYTES_MAX));
            match size {
                0 => rustix::fs::listxattr_query(proc_path(&fd)),
                _ => rustix::fs::listxattr(proc_path(&fd), rustix::buffer::spare_capacity(&mut names)),
            }
            .map(|count| (count, names))
            .map_err(errno)
        });
        answer!(reply, got, (count, names) => reply_xattr(reply, size, count, &names));
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed =
            self.nodes.get(ino).and_then(|fd| rustix::fs::removexattr(proc_path(&fd), name).map_err(errno));
        answer!(reply, removed, () => reply.ok());
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = FallocateFlags::from_bits_retain(mode.unsigned_abs());
        let done = self
            .files
            .get(fh)
            .and_then(|file| rustix::fs::fallocate(&*file, mode, offset, length).map_err(errno));
        answer!(reply, done, () => reply.ok());
    }

    fn lseek(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let to = match whence {
            libc::SEEK_DATA => SeekFrom::Data(offset.unsigned_abs()),
            libc::SEEK_HOLE => SeekFrom::Hole(offset.unsigned_abs()),
            libc::SEEK_END => SeekFrom::End(offset),
            _ => return reply.error(Errno::EINVAL),
        };
        let found = self.files.get(fh).and_then(|file| rustix::fs::seek(&*file, to).map_err(errno));
        answer!(reply, found, position => reply.offset(i64::try_from(position).unwrap_or(i64::MAX)));
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        mut offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        mut offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The answer has 32 bits; a longer copy is continued by the caller.
        let length = usize::try_from(len).unwrap_or(usize::MAX).min(1 << 30);
        let copied = self.files.get(fh_in).and_then(|from| {
            let to = self.files.get(fh_out)?;
            rustix::fs::copy_file_range(&*from, Some(&mut offset_in), &*to, Some(&mut offset_out), length)
                .map_err(errno)
        });
        answer!(reply, copied, count => reply.written(u32::try_from(count).unwrap_or(u32::MAX)));
    }
}

impl Passthrough {
    /// Shows `source`, with at most `held_max` descriptors kept for nodes.
    pub(super) fn open(source: &Path, held_max: usize) -> rustix::io::Result<Self> {
        Ok(Self {
            nodes: NodeTable::open(source, held_max)?,
            files: OpenTable::new(),
            dirs: OpenTable::new(),
        })
    }

    /// Looks a name up and counts the reference that the reply will give the kernel.
    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let dir = self.nodes.get(parent)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path_fd = rustix::fs::openat(&*dir, name, flags, Mode::empty()).map_err(errno)?;
        let stat = rustix::fs::fstat(&path_fd).map_err(errno)?;
        let ino = self.nodes.remember(path_fd, &stat)?;
        Ok(file_attr(ino, &stat))
    }

    fn attr_of(&self, ino: INodeNo) -> Result<FileAttr, Errno> {
        let stat = rustix::fs::fstat(self.nodes.get(ino)?.as_fd()).map_err(errno)?;
        Ok(file_attr(ino, &stat))
    }

    fn change_attr(
        &self,
        ino: INodeNo,
        fh: Option<FileHandle>,
        change: &AttrChange,
    ) -> Result<FileAttr, Errno> {
        let open = fh.map(|fh| self.files.get(fh)).transpose()?;
        change.apply(open.as_deref(), &proc_path(&*self.nodes.get(ino)?))?;
        self.attr_of(ino)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, flags: AtFlags) -> Result<(), Errno> {
        rustix::fs::unlinkat(&*self.nodes.get(parent)?, name, flags).map_err(errno)
    }

    fn reopen(&self, ino: INodeNo, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = proc_path(&*self.nodes.get(ino)?);
        rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(errno)
    }
}

/// The caller's open flags as they apply to the file beneath. The kernel has resolved the name and picks the
/// offsets of appends itself, so the flags for these are dropped.
fn open_flags(flags: i32) -> OFlags {
    let dropped = OFlags::NOFOLLOW | OFlags::APPEND | OFlags::DIRECT | OFlags::CREATE | OFlags::EXCL;
    (OFlags::from_bits_retain(flags.unsigned_abs()) - dropped) | OFlags::CLOEXEC
}

/// The two-step protocol of getxattr and listxattr: size first, then as much as the caller has room for.
fn reply_xattr(reply: ReplyXattr, size: u32, count: usize, value: &[u8]) {
    match size {
        0 => reply.size(u32::try_from(count).unwrap_or(u32::MAX)),
        _ => reply.data(value),
    }
}
