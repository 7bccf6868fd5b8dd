//! The client library without a kernel above it. What a kernel does is done here: it walks paths, and refuses what
//! makes no sense for a kind of node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use nearfs_client::identity::Caller;
use nearfs_client::vfs::Vfs;
use nearfs_client::vfs::types::{Entry, Lookup};
use nearfs_protocol::attr::{Attr, FileKind, SetAttr, SetTime, Time};
use nearfs_protocol::errno::Errno;

use super::directory::user_names;
use super::{Excerpt, HANDS, Kind, Leaf, NOWHERE, Node, Op, Outcome, Place, Subject, Tree, Value, pattern};

const ME: Caller = Caller { uid: 0, gid: 0, pid: 0 };
/// No operation takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest request that a kernel makes.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// A directory of a server.
pub struct Client {
    vfs: Arc<Vfs>,
    root: u64,
    held: [Option<Open>; HANDS],
}

/// An open file, closed when it is dropped.
struct Open {
    vfs: Arc<Vfs>,
    ino: u64,
    fh: u64,
}

/// What an operation calls when it has ended.
type Done<T> = Box<dyn FnOnce(Result<T, Errno>) + Send>;

impl Client {
    /// A directory of this name in the client's root, which is made new.
    pub fn new(vfs: Arc<Vfs>, name: &str) -> Client {
        let made = ask(|done| vfs.mkdir(ME, 1, name.as_bytes(), 0o755, 0, done)).unwrap();
        Client { vfs, root: made.ino, held: Default::default() }
    }

    fn try_apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Create { place, exclusive } => self.create(place, *exclusive)?,
            Op::Write { place, offset, size, seed } => {
                return self.open(place, libc::O_RDWR)?.write(*offset, &pattern(*seed, *size));
            }
            Op::Append { place, size, seed } => {
                let open = self.open(place, libc::O_WRONLY | libc::O_APPEND)?;
                return open.write(0, &pattern(*seed, *size));
            }
            Op::Read { place, offset, size } => {
                return Ok(Value::Bytes(Excerpt(self.open(place, libc::O_RDWR)?.read(*offset, *size)?)));
            }
            Op::Truncate { place, size } => self.open(place, libc::O_RDWR)?.truncate(*size)?,
            Op::Allocate { place, offset, size, hole } => {
                let mode = if *hole { libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE } else { 0 };
                let open = self.open(place, libc::O_RDWR)?;
                ask(|done| self.vfs.fallocate(ME, open.ino, open.fh, *offset, *size, mode, done))?;
            }
            Op::CopyRange { from, from_offset, to, to_offset, size } => {
                return self.copy(from, *from_offset, to, *to_offset, *size);
            }
            Op::MakeDir { place } => {
                let (parent, name) = self.parent(place)?;
                ask(|done| self.vfs.mkdir(ME, parent, name.as_bytes(), 0o755, 0, done))?;
            }
            Op::RemoveDir { place } => {
                let (parent, name) = self.parent(place)?;
                ask(|done| self.vfs.rmdir(ME, parent, name.as_bytes(), done))?;
            }
            Op::Unlink { place } => {
                let (parent, name) = self.parent(place)?;
                ask(|done| self.vfs.unlink(ME, parent, name.as_bytes(), done))?;
            }
            Op::Rename { from, to, flags } => {
                let ((parent, name), (new_parent, new_name)) = (self.parent(from)?, self.parent(to)?);
                let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
                ask(|done| self.vfs.rename(ME, parent, name, new_parent, new_name, *flags, done))?;
            }
            Op::Link { from, to } => {
                let node = self.find(from)?.ino;
                let (parent, name) = self.parent(to)?;
                ask(|done| self.vfs.link(ME, node, parent, name.as_bytes(), done))?;
            }
            Op::Symlink { place } => {
                let (parent, name) = self.parent(place)?;
                ask(|done| self.vfs.symlink(ME, parent, name.as_bytes(), NOWHERE.as_bytes(), done))?;
            }
            Op::ReadLink { place } => {
                let found = self.find(place)?;
                if found.attr.kind != FileKind::Symlink {
                    return Err(libc::EINVAL);
                }
                return Ok(Value::Bytes(Excerpt(ask(|done| self.vfs.readlink(ME, found.ino, done))?)));
            }
            Op::Chmod { place, mode } => {
                let found = self.find(place)?;
                if found.attr.kind == FileKind::Symlink {
                    return Err(libc::ELOOP);
                }
                let set = SetAttr { mode: Some(*mode), ..SetAttr::default() };
                ask(|done| self.vfs.setattr(ME, found.ino, None, set, done))?;
            }
            Op::SetModified { place, secs, nanos } => {
                let found = self.find(place)?;
                let time = Time { secs: *secs, nanos: *nanos };
                let set = SetAttr { mtime: Some(SetTime::At(time)), ..SetAttr::default() };
                ask(|done| self.vfs.setattr(ME, found.ino, None, set, done))?;
            }
            Op::List { place } => {
                let found = self.find(place)?;
                if found.attr.kind != FileKind::Directory {
                    return Err(libc::ENOTDIR);
                }
                return Ok(Value::Names(self.list(found.ino)?));
            }
            Op::Stat { place } => return Ok(Value::Node(node(&self.stat(self.find(place)?.ino, None)?))),
            Op::SetXattr { .. } | Op::GetXattr { .. } | Op::ListXattr { .. } | Op::RemoveXattr { .. } => {
                return self.apply_xattr(op);
            }
            Op::Hold { place, hand } => {
                self.held[*hand] = None;
                self.held[*hand] = Some(self.open(place, libc::O_RDWR)?);
            }
            Op::LetGo { hand } => self.held[*hand] = None,
            Op::WriteHeld { hand, .. }
            | Op::ReadHeld { hand, .. }
            | Op::TruncateHeld { hand, .. }
            | Op::StatHeld { hand } => {
                return self.held[*hand]
                    .as_ref()
                    .map_or(Ok(Value::Nothing), |open| self.apply_held(op, open));
            }
        }
        Ok(Value::Done)
    }

    fn apply_held(&self, op: &Op, open: &Open) -> Outcome {
        match op {
            Op::WriteHeld { offset, size, seed, .. } => open.write(*offset, &pattern(*seed, *size)),
            Op::ReadHeld { offset, size, .. } => Ok(Value::Bytes(Excerpt(open.read(*offset, *size)?))),
            Op::TruncateHeld { size, .. } => open.truncate(*size).map(|()| Value::Done),
            Op::StatHeld { .. } => Ok(Value::Node(node(&self.stat(open.ino, Some(open.fh))?))),
            other => panic!("{other:?} is not done to an open file"),
        }
    }

    /// A kernel lets users' attributes only be on files and directories (xattr(7)).
    fn apply_xattr(&self, op: &Op) -> Outcome {
        let found = |place| self.find(place).map(|found| (found.ino, found.attr.kind == FileKind::Symlink));
        match op {
            Op::SetXattr { place, name, value, flags } => {
                let (ino, is_link) = found(place)?;
                if is_link {
                    return Err(libc::EPERM);
                }
                ask(|done| self.vfs.setxattr(ME, ino, name.as_bytes(), value, *flags, done))?;
                Ok(Value::Done)
            }
            Op::RemoveXattr { place, name } => {
                let (ino, is_link) = found(place)?;
                if is_link {
                    return Err(libc::EPERM);
                }
                ask(|done| self.vfs.removexattr(ME, ino, name.as_bytes(), done))?;
                Ok(Value::Done)
            }
            Op::GetXattr { place, name } => {
                let (ino, is_link) = found(place)?;
                if is_link {
                    return Err(libc::ENODATA);
                }
                Ok(Value::Bytes(Excerpt(ask(|done| self.vfs.getxattr(ME, ino, name.as_bytes(), done))?)))
            }
            Op::ListXattr { place } => {
                let (ino, _) = found(place)?;
                Ok(Value::Names(user_names(&ask(|done| self.vfs.listxattr(ME, ino, done))?)))
            }
            other => panic!("{other:?} is not about extended attributes"),
        }
    }

    fn create(&self, place: &Place, exclusive: bool) -> Result<(), i32> {
        let (parent, name) = self.parent(place)?;
        match self.find(place) {
            Ok(_) if exclusive => return Err(libc::EEXIST),
            Ok(found) => match found.attr.kind {
                FileKind::Directory => return Err(libc::EISDIR),
                FileKind::Symlink => return Err(libc::ELOOP),
                FileKind::File
                | FileKind::CharDevice
                | FileKind::BlockDevice
                | FileKind::Fifo
                | FileKind::Socket => {}
            },
            Err(libc::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        let flags = libc::O_RDWR | libc::O_CREAT | if exclusive { libc::O_EXCL } else { 0 };
        let (entry, opened) =
            ask(|done| self.vfs.create(ME, parent, name.as_bytes(), 0o644, 0, flags, done))?;
        self.vfs.release(entry.ino, opened.fh, None);
        Ok(())
    }

    fn copy(&self, from: &Place, from_offset: u64, to: &Place, to_offset: u64, size: u64) -> Outcome {
        let (from, to) = (self.open(from, libc::O_RDWR)?, self.open(to, libc::O_RDWR)?);
        let there = self.stat(from.ino, Some(from.fh))?.size;
        let size = size.min(there.saturating_sub(from_offset));
        if from.ino == to.ino && to_offset + size > from_offset && to_offset < from_offset + size {
            return Err(libc::EINVAL);
        }
        let mut copied = 0;
        while copied < size {
            let (at, to_at, left) = (from_offset + copied, to_offset + copied, size - copied);
            let more = ask(|done| {
                self.vfs.copy_file_range(ME, from.ino, from.fh, at, to.ino, to.fh, to_at, left, done);
            })?;
            if more == 0 {
                break;
            }
            copied += more;
        }
        Ok(Value::Size(copied))
    }

    fn stat(&self, ino: u64, fh: Option<u64>) -> Result<Attr, i32> {
        Ok(ask(|done| self.vfs.getattr(ME, ino, fh, done))?.attr)
    }

    /// Opens for reading and writing, without following a link.
    fn open(&self, place: &Place, flags: i32) -> Result<Open, i32> {
        let found = self.find(place)?;
        match found.attr.kind {
            FileKind::Directory => return Err(libc::EISDIR),
            FileKind::Symlink => return Err(libc::ELOOP),
            _ => {}
        }
        let opened = ask(|done| self.vfs.open(ME, found.ino, flags, done))?;
        Ok(Open { vfs: Arc::clone(&self.vfs), ino: found.ino, fh: opened.fh })
    }

    fn find(&self, place: &Place) -> Result<Entry, i32> {
        let (parent, name) = self.parent(place)?;
        self.look_up(parent, name)
    }

    /// The directory of a path's last name.
    fn parent(&self, place: &Place) -> Result<(u64, &'static str), i32> {
        let (name, parents) = place.0.split_last().expect("a place has a name");
        let mut parent = self.root;
        for step in parents {
            let found = self.look_up(parent, step)?;
            match found.attr.kind {
                FileKind::Directory => parent = found.ino,
                FileKind::Symlink => return Err(libc::ENOENT),
                _ => return Err(libc::ENOTDIR),
            }
        }
        Ok((parent, name))
    }

    /// Nothing is forgotten, as by a kernel that has room for everything.
    fn look_up(&self, parent: u64, name: &str) -> Result<Entry, i32> {
        match ask(|done| self.vfs.lookup(ME, parent, name.as_bytes(), done))? {
            Lookup::Found(entry) => Ok(entry),
            Lookup::Absent { .. } => Err(libc::ENOENT),
        }
    }

    fn list(&self, ino: u64) -> Result<Vec<String>, i32> {
        let fh = ask(|done| self.vfs.opendir(ME, ino, done))?.fh;
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let items: Vec<(String, u64)> = ask(|done| {
                self.vfs.readdir(ME, ino, fh, offset, false, move |items| {
                    let told = |item: &nearfs_client::vfs::types::DirItem| {
                        (String::from_utf8_lossy(&item.name).into_owned(), item.offset)
                    };
                    let count = items.map_or(0, <[_]>::len);
                    done(items.map(|items| items.iter().map(told).collect()));
                    count
                });
            })?;
            let Some((_, last)) = items.last() else { break };
            offset = *last;
            names.extend(items.into_iter().map(|(name, _)| name).filter(|name| name != "." && name != ".."));
        }
        self.vfs.releasedir(ino, fh);
        names.sort();
        Ok(names)
    }

    fn collect(&self, ino: u64, prefix: &str, timed: &dyn Fn(&str) -> bool, tree: &mut Tree) {
        for name in self.list(ino).unwrap() {
            let (found, path) = (self.look_up(ino, &name).unwrap(), format!("{prefix}{name}"));
            let attr = self.stat(found.ino, None).unwrap();
            let node = node(&attr);
            let content = match node.kind {
                Kind::File => {
                    let fh = ask(|done| self.vfs.open(ME, found.ino, libc::O_RDONLY, done)).unwrap().fh;
                    let open = Open { vfs: Arc::clone(&self.vfs), ino: found.ino, fh };
                    open.read(0, node.size as usize + 1).unwrap()
                }
                Kind::Directory => Vec::new(),
                Kind::Symlink => ask(|done| self.vfs.readlink(ME, found.ino, done)).unwrap(),
            };
            let names = user_names(&ask(|done| self.vfs.listxattr(ME, found.ino, done)).unwrap());
            let value =
                |name: &String| ask(|done| self.vfs.getxattr(ME, found.ino, name.as_bytes(), done)).unwrap();
            let xattrs: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), value(name))).collect();
            let modified = timed(&path).then_some((attr.mtime.secs, attr.mtime.nanos));
            let is_directory = node.kind == Kind::Directory;
            tree.insert(path.clone(), Leaf { node, content: Excerpt(content), xattrs, modified });
            if is_directory {
                self.collect(found.ino, &format!("{path}/"), timed, tree);
            }
        }
    }
}

impl Subject for Client {
    fn name(&self) -> &'static str {
        "the client library"
    }

    fn apply(&mut self, op: &Op) -> Outcome {
        self.try_apply(op)
    }

    fn tree(&mut self, timed: &dyn Fn(&str) -> bool) -> Tree {
        let mut tree = Tree::new();
        self.collect(self.root, "", timed, &mut tree);
        tree
    }
}

impl Open {
    fn write(&self, offset: u64, bytes: &[u8]) -> Outcome {
        let mut written = 0;
        for part in bytes.chunks(REQUEST_BYTES_MAX) {
            let at = offset + written;
            written += u64::from(ask(|done| self.vfs.write(ME, self.ino, self.fh, at, part, false, done))?);
        }
        Ok(Value::Size(written))
    }

    fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, i32> {
        let mut bytes = Vec::new();
        while bytes.len() < size {
            let (at, left) =
                (offset + bytes.len() as u64, (size - bytes.len()).min(REQUEST_BYTES_MAX) as u32);
            let more = ask(|done: Done<Vec<u8>>| {
                let done = move |more: Result<&[u8], Errno>| done(more.map(<[u8]>::to_vec));
                self.vfs.read(ME, self.ino, self.fh, at, left, done);
            })?;
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        Ok(bytes)
    }

    fn truncate(&self, size: u64) -> Result<(), i32> {
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        ask(|done| self.vfs.setattr(ME, self.ino, Some(self.fh), set, done)).map(drop)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.vfs.release(self.ino, self.fh, None);
    }
}

/// Begins an operation and waits for its end.
fn ask<T: Send + 'static>(begin: impl FnOnce(Done<T>)) -> Result<T, i32> {
    let (sender, receiver) = mpsc::channel();
    begin(Box::new(move |result| sender.send(result).expect("somebody waits")));
    let result = receiver.recv_timeout(PATIENCE).expect("the operation ends");
    result.map_err(Errno::number)
}

fn node(attr: &Attr) -> Node {
    let kind = match attr.kind {
        FileKind::Directory => Kind::Directory,
        FileKind::Symlink => Kind::Symlink,
        _ => Kind::File,
    };
    let nlink = if kind == Kind::Directory { 0 } else { attr.nlink.into() };
    let size = if kind == Kind::File { attr.size } else { 0 };
    Node { kind, mode: attr.mode, nlink, size }
}
