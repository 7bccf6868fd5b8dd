//! The model: what Linux says that should come of each operation, as plainly as possible.

use std::collections::BTreeMap;

use super::{Excerpt, HANDS, Kind, Leaf, NOWHERE, Node, Op, Outcome, Place, Subject, Tree, Value, pattern};

const ROOT: usize = 0;

/// A file system in memory.
pub struct Memory {
    /// Nodes stay when their last name goes: somebody may hold them.
    inodes: Vec<Inode>,
    held: [Option<usize>; HANDS],
}

struct Inode {
    body: Body,
    mode: u32,
    nlink: u64,
    xattrs: BTreeMap<String, Vec<u8>>,
    modified: Option<(i64, u32)>,
}

enum Body {
    File(Vec<u8>),
    Directory(BTreeMap<&'static str, usize>),
    Symlink,
}

/// A name in a directory, and what it stands for.
struct Found {
    parent: usize,
    name: &'static str,
    inode: Option<usize>,
}

impl Memory {
    /// An empty directory.
    pub fn new() -> Memory {
        Memory { inodes: vec![Inode::new(Body::Directory(BTreeMap::new()), 0o755)], held: [None; HANDS] }
    }

    /// Whether the time of a place is known.
    pub fn is_timed(&self, path: &str) -> bool {
        let found = path.split('/').try_fold(ROOT, |at, name| self.entries(at)?.get(name).copied());
        found.is_some_and(|inode| self.inodes[inode].modified.is_some())
    }

    fn try_apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Create { place, exclusive } => self.create(place, *exclusive),
            Op::Write { place, offset, size, seed } => {
                let inode = self.open(place)?;
                self.write(inode, *offset, &pattern(*seed, *size))
            }
            Op::Append { place, size, seed } => {
                let inode = self.open(place)?;
                let end = self.content(inode).len() as u64;
                self.write(inode, end, &pattern(*seed, *size))
            }
            Op::Read { place, offset, size } => {
                let inode = self.open(place)?;
                Ok(self.read(inode, *offset, *size))
            }
            Op::Truncate { place, size } => {
                let inode = self.open(place)?;
                self.truncate(inode, *size)
            }
            Op::Allocate { place, offset, size, hole } => {
                let inode = self.open(place)?;
                self.allocate(inode, *offset, *size, *hole)
            }
            Op::CopyRange { from, from_offset, to, to_offset, size } => {
                let (from, to) = (self.open(from)?, self.open(to)?);
                self.copy(from, *from_offset, to, *to_offset, *size)
            }
            Op::MakeDir { place } => self.make(place, Body::Directory(BTreeMap::new()), 0o755),
            Op::Symlink { place } => self.make(place, Body::Symlink, 0o777),
            Op::RemoveDir { place } => self.remove_directory(place),
            Op::Unlink { place } => self.unlink(place),
            Op::Rename { from, to, flags } => self.rename(from, to, *flags),
            Op::Link { from, to } => self.link(from, to),
            Op::ReadLink { place } => match self.inodes[self.existing(place)?].body {
                Body::Symlink => Ok(Value::Bytes(Excerpt(NOWHERE.into()))),
                Body::File(_) | Body::Directory(_) => Err(libc::EINVAL),
            },
            Op::Chmod { place, mode } => {
                let inode = self.existing(place)?;
                if self.kind(inode) == Kind::Symlink {
                    return Err(libc::ELOOP);
                }
                self.inodes[inode].mode = *mode;
                Ok(Value::Done)
            }
            Op::SetModified { place, secs, nanos } => {
                let inode = self.existing(place)?;
                self.inodes[inode].modified = Some((*secs, *nanos));
                Ok(Value::Done)
            }
            Op::List { place } => {
                let inode = self.existing(place)?;
                let entries = self.entries(inode).ok_or(libc::ENOTDIR)?;
                Ok(Value::Names(entries.keys().map(|name| name.to_string()).collect()))
            }
            Op::Stat { place } => Ok(Value::Node(self.stat(self.existing(place)?))),
            Op::SetXattr { place, name, value, flags } => self.set_xattr(place, name, value, *flags),
            Op::GetXattr { place, name } => {
                let inode = self.existing(place)?;
                let value = self.inodes[inode].xattrs.get(*name).cloned();
                value.map(|value| Value::Bytes(Excerpt(value))).ok_or(libc::ENODATA)
            }
            Op::ListXattr { place } => {
                let inode = self.existing(place)?;
                Ok(Value::Names(self.inodes[inode].xattrs.keys().cloned().collect()))
            }
            Op::RemoveXattr { place, name } => {
                let inode = self.existing(place)?;
                if self.kind(inode) == Kind::Symlink {
                    return Err(libc::EPERM);
                }
                self.inodes[inode].xattrs.remove(*name).map(|_| Value::Done).ok_or(libc::ENODATA)
            }
            Op::Hold { place, hand } => {
                self.held[*hand] = None;
                self.held[*hand] = Some(self.open(place)?);
                Ok(Value::Done)
            }
            Op::WriteHeld { hand, offset, size, seed } => match self.held[*hand] {
                Some(inode) => self.write(inode, *offset, &pattern(*seed, *size)),
                None => Ok(Value::Nothing),
            },
            Op::ReadHeld { hand, offset, size } => match self.held[*hand] {
                Some(inode) => Ok(self.read(inode, *offset, *size)),
                None => Ok(Value::Nothing),
            },
            Op::TruncateHeld { hand, size } => match self.held[*hand] {
                Some(inode) => self.truncate(inode, *size),
                None => Ok(Value::Nothing),
            },
            Op::StatHeld { hand } => {
                Ok(self.held[*hand].map_or(Value::Nothing, |inode| Value::Node(self.stat(inode))))
            }
            Op::LetGo { hand } => {
                self.held[*hand] = None;
                Ok(Value::Done)
            }
        }
    }

    fn create(&mut self, place: &Place, exclusive: bool) -> Outcome {
        let found = self.find(place)?;
        match found.inode.map(|inode| self.kind(inode)) {
            Some(_) if exclusive => Err(libc::EEXIST),
            Some(Kind::File) => Ok(Value::Done),
            Some(Kind::Directory) => Err(libc::EISDIR),
            Some(Kind::Symlink) => Err(libc::ELOOP),
            None => self.make(place, Body::File(Vec::new()), 0o644),
        }
    }

    fn make(&mut self, place: &Place, body: Body, mode: u32) -> Outcome {
        let Found { parent, name, inode } = self.find(place)?;
        if inode.is_some() {
            return Err(libc::EEXIST);
        }
        self.inodes.push(Inode::new(body, mode));
        let new = self.inodes.len() - 1;
        self.set_entry(parent, name, Some(new));
        Ok(Value::Done)
    }

    fn remove_directory(&mut self, place: &Place) -> Outcome {
        let Found { parent, name, inode } = self.find(place)?;
        let entries = self.entries(inode.ok_or(libc::ENOENT)?).ok_or(libc::ENOTDIR)?;
        if !entries.is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.set_entry(parent, name, None);
        Ok(Value::Done)
    }

    fn unlink(&mut self, place: &Place) -> Outcome {
        let Found { parent, name, inode } = self.find(place)?;
        let inode = inode.ok_or(libc::ENOENT)?;
        if self.kind(inode) == Kind::Directory {
            return Err(libc::EISDIR);
        }
        self.set_entry(parent, name, None);
        self.inodes[inode].nlink -= 1;
        Ok(Value::Done)
    }

    fn rename(&mut self, from: &Place, to: &Place, flags: u32) -> Outcome {
        let (from, to) = (self.find(from)?, self.find(to)?);
        let moved = from.inode.ok_or(libc::ENOENT)?;
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        match to.inode {
            Some(_) if flags & libc::RENAME_NOREPLACE != 0 => return Err(libc::EEXIST),
            None if exchange => return Err(libc::ENOENT),
            Some(_) | None => {}
        }
        if self.is_within(to.parent, moved) {
            return Err(libc::EINVAL);
        }
        let Some(target) = to.inode else {
            self.set_entry(from.parent, from.name, None);
            self.set_entry(to.parent, to.name, Some(moved));
            return Ok(Value::Done);
        };
        if self.is_within(from.parent, target) {
            return Err(if exchange { libc::EINVAL } else { libc::ENOTEMPTY });
        }
        if target == moved {
            return Ok(Value::Done);
        }
        if !exchange {
            match (self.entries(moved).is_some(), self.entries(target)) {
                (true, None) => return Err(libc::ENOTDIR),
                (false, Some(_)) => return Err(libc::EISDIR),
                (true, Some(entries)) if !entries.is_empty() => return Err(libc::ENOTEMPTY),
                (true, Some(_)) | (false, None) => {}
            }
            self.inodes[target].nlink -= 1;
        }
        self.set_entry(from.parent, from.name, exchange.then_some(target));
        self.set_entry(to.parent, to.name, Some(moved));
        Ok(Value::Done)
    }

    fn link(&mut self, from: &Place, to: &Place) -> Outcome {
        let inode = self.existing(from)?;
        let to = self.find(to)?;
        if to.inode.is_some() {
            return Err(libc::EEXIST);
        }
        if self.kind(inode) == Kind::Directory {
            return Err(libc::EPERM);
        }
        self.set_entry(to.parent, to.name, Some(inode));
        self.inodes[inode].nlink += 1;
        Ok(Value::Done)
    }

    fn set_xattr(&mut self, place: &Place, name: &str, value: &[u8], flags: i32) -> Outcome {
        let inode = self.existing(place)?;
        if self.kind(inode) == Kind::Symlink {
            return Err(libc::EPERM);
        }
        let xattrs = &mut self.inodes[inode].xattrs;
        match xattrs.contains_key(name) {
            true if flags == libc::XATTR_CREATE => return Err(libc::EEXIST),
            false if flags == libc::XATTR_REPLACE => return Err(libc::ENODATA),
            true | false => {}
        }
        xattrs.insert(name.to_owned(), value.to_vec());
        Ok(Value::Done)
    }

    fn write(&mut self, inode: usize, offset: u64, bytes: &[u8]) -> Outcome {
        if !bytes.is_empty() {
            let end = offset as usize + bytes.len();
            let content = self.content(inode);
            content.resize(content.len().max(end), 0);
            content[offset as usize..end].copy_from_slice(bytes);
            self.inodes[inode].modified = None;
        }
        Ok(Value::Size(bytes.len() as u64))
    }

    fn read(&mut self, inode: usize, offset: u64, size: usize) -> Value {
        let content = self.content(inode);
        let start = (offset as usize).min(content.len());
        let end = (start + size).min(content.len());
        Value::Bytes(Excerpt(content[start..end].to_vec()))
    }

    fn truncate(&mut self, inode: usize, size: u64) -> Outcome {
        self.content(inode).resize(size as usize, 0);
        self.inodes[inode].modified = None;
        Ok(Value::Done)
    }

    fn allocate(&mut self, inode: usize, offset: u64, size: u64, hole: bool) -> Outcome {
        let (start, end) = (offset as usize, (offset + size) as usize);
        let content = self.content(inode);
        if hole {
            let end = end.min(content.len());
            content[start.min(end)..end].fill(0);
        } else {
            content.resize(content.len().max(end), 0);
        }
        self.inodes[inode].modified = None;
        Ok(Value::Done)
    }

    fn copy(&mut self, from: usize, from_offset: u64, to: usize, to_offset: u64, size: u64) -> Outcome {
        let there = self.content(from).len() as u64;
        let size = size.min(there.saturating_sub(from_offset));
        if from == to && to_offset + size > from_offset && to_offset < from_offset + size {
            return Err(libc::EINVAL);
        }
        let bytes = self.content(from)[from_offset.min(there) as usize..][..size as usize].to_vec();
        self.write(to, to_offset, &bytes)
    }

    /// A path's last name and the directory that it is in.
    fn find(&self, place: &Place) -> Result<Found, i32> {
        let (name, parents) = place.0.split_last().expect("a place has a name");
        let mut parent = ROOT;
        for step in parents {
            let next = self.entries(parent).and_then(|entries| entries.get(step)).copied();
            parent = next.ok_or(libc::ENOENT)?;
            match self.kind(parent) {
                Kind::Directory => {}
                Kind::File => return Err(libc::ENOTDIR),
                Kind::Symlink => return Err(libc::ENOENT),
            }
        }
        let inode = self.entries(parent).and_then(|entries| entries.get(name)).copied();
        Ok(Found { parent, name, inode })
    }

    fn existing(&self, place: &Place) -> Result<usize, i32> {
        self.find(place)?.inode.ok_or(libc::ENOENT)
    }

    /// Opens for reading and writing.
    fn open(&self, place: &Place) -> Result<usize, i32> {
        let inode = self.existing(place)?;
        match self.kind(inode) {
            Kind::File => Ok(inode),
            Kind::Directory => Err(libc::EISDIR),
            Kind::Symlink => Err(libc::ELOOP),
        }
    }

    fn entries(&self, inode: usize) -> Option<&BTreeMap<&'static str, usize>> {
        match &self.inodes[inode].body {
            Body::Directory(entries) => Some(entries),
            Body::File(_) | Body::Symlink => None,
        }
    }

    fn set_entry(&mut self, parent: usize, name: &'static str, inode: Option<usize>) {
        let Body::Directory(entries) = &mut self.inodes[parent].body else { panic!("not a directory") };
        match inode {
            Some(inode) => entries.insert(name, inode),
            None => entries.remove(name),
        };
        self.inodes[parent].modified = None;
    }

    fn content(&mut self, inode: usize) -> &mut Vec<u8> {
        match &mut self.inodes[inode].body {
            Body::File(content) => content,
            Body::Directory(_) | Body::Symlink => panic!("not a file"),
        }
    }

    fn kind(&self, inode: usize) -> Kind {
        match self.inodes[inode].body {
            Body::File(_) => Kind::File,
            Body::Directory(_) => Kind::Directory,
            Body::Symlink => Kind::Symlink,
        }
    }

    fn stat(&self, inode: usize) -> Node {
        let Inode { body, mode, nlink, .. } = &self.inodes[inode];
        let (nlink, size) = match body {
            Body::File(content) => (*nlink, content.len() as u64),
            Body::Directory(_) => (0, 0),
            Body::Symlink => (*nlink, 0),
        };
        Node { kind: self.kind(inode), mode: *mode, nlink, size }
    }

    /// Whether a directory is, or is somewhere below, another node.
    fn is_within(&self, directory: usize, other: usize) -> bool {
        directory == other
            || self.entries(other).is_some_and(|entries| {
                entries
                    .values()
                    .any(|below| self.entries(*below).is_some() && self.is_within(directory, *below))
            })
    }

    fn collect(&self, directory: usize, prefix: &str, tree: &mut Tree) {
        for (name, inode) in self.entries(directory).into_iter().flatten() {
            let path = format!("{prefix}{name}");
            let Inode { body, xattrs, modified, .. } = &self.inodes[*inode];
            let content = match body {
                Body::File(content) => content.clone(),
                Body::Directory(_) => Vec::new(),
                Body::Symlink => NOWHERE.into(),
            };
            let leaf = Leaf {
                node: self.stat(*inode),
                content: Excerpt(content),
                xattrs: xattrs.clone(),
                modified: *modified,
            };
            tree.insert(path.clone(), leaf);
            self.collect(*inode, &format!("{path}/"), tree);
        }
    }
}

impl Subject for Memory {
    fn name(&self) -> &'static str {
        "the model"
    }

    fn apply(&mut self, op: &Op) -> Outcome {
        self.try_apply(op)
    }

    fn tree(&mut self, _timed: &dyn Fn(&str) -> bool) -> Tree {
        let mut tree = Tree::new();
        self.collect(ROOT, "", &mut tree);
        tree
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

impl Inode {
    fn new(body: Body, mode: u32) -> Inode {
        Inode { body, mode, nlink: 1, xattrs: BTreeMap::new(), modified: None }
    }
}
