//! A directory, by system calls: a local one, or one in a mount.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{Excerpt, HANDS, Kind, Leaf, NOWHERE, Node, Op, Outcome, Place, Subject, Tree, Value, pattern};

/// Longest value of an extended attribute here.
const VALUE_BYTES_MAX: usize = 4096;

/// A directory of some file system.
pub struct Directory {
    name: &'static str,
    root: PathBuf,
    held: [Option<File>; HANDS],
}

impl Directory {
    /// An empty directory that exists. The process must have a umask of 0.
    pub fn new(name: &'static str, root: PathBuf) -> Directory {
        Directory { name, root, held: Default::default() }
    }

    fn path(&self, place: &Place) -> PathBuf {
        place.0.iter().fold(self.root.clone(), |path, name| path.join(name))
    }

    fn open(&self, place: &Place) -> io::Result<File> {
        File::options().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(self.path(place))
    }

    fn try_apply(&mut self, op: &Op) -> io::Result<Value> {
        match op {
            Op::Create { place, exclusive } => {
                let mut options = File::options();
                options.read(true).write(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
                let options = if *exclusive { options.create_new(true) } else { options.create(true) };
                options.open(self.path(place))?;
            }
            Op::Write { place, offset, size, seed } => {
                return write(&self.open(place)?, *offset, &pattern(*seed, *size));
            }
            Op::Append { place, size, seed } => {
                let mut options = File::options();
                let file = options.append(true).custom_flags(libc::O_NOFOLLOW).open(self.path(place))?;
                let size = io::Write::write(&mut &file, &pattern(*seed, *size))?;
                return Ok(Value::Size(size as u64));
            }
            Op::Read { place, offset, size } => return read(&self.open(place)?, *offset, *size),
            Op::Truncate { place, size } => self.open(place)?.set_len(*size)?,
            Op::Allocate { place, offset, size, hole } => {
                let mode = if *hole { libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE } else { 0 };
                let (file, offset, size) = (self.open(place)?, *offset as i64, *size as i64);
                // SAFETY: the descriptor is open.
                let result = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, size) };
                checked(result.into())?;
            }
            Op::CopyRange { from, from_offset, to, to_offset, size } => {
                return copy(&self.open(from)?, *from_offset, &self.open(to)?, *to_offset, *size);
            }
            Op::MakeDir { place } => {
                fs::create_dir(self.path(place))?;
                // Some file systems pass bits of the parent on.
                fs::set_permissions(self.path(place), fs::Permissions::from_mode(0o755))?;
            }
            Op::RemoveDir { place } => fs::remove_dir(self.path(place))?,
            Op::Unlink { place } => {
                let path = c_path(&self.path(place));
                // SAFETY: the path ends with a NUL and outlives the call.
                checked(unsafe { libc::unlink(path.as_ptr()) }.into())?;
            }
            Op::Rename { from, to, flags } => rename(&self.path(from), &self.path(to), *flags)?,
            Op::Link { from, to } => fs::hard_link(self.path(from), self.path(to))?,
            Op::Symlink { place } => symlink(NOWHERE, self.path(place))?,
            Op::ReadLink { place } => {
                let target = fs::read_link(self.path(place))?;
                return Ok(Value::Bytes(Excerpt(target.as_os_str().as_bytes().to_vec())));
            }
            Op::Chmod { place, mode } => {
                let file =
                    File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(self.path(place))?;
                file.set_permissions(fs::Permissions::from_mode(*mode))?;
            }
            Op::SetModified { place, secs, nanos } => set_modified(&self.path(place), *secs, *nanos)?,
            Op::List { place } => return Ok(Value::Names(list(&self.path(place))?)),
            Op::Stat { place } => return Ok(Value::Node(node(&fs::symlink_metadata(self.path(place))?))),
            Op::SetXattr { place, name, value, flags } => {
                let (path, name) = (c_path(&self.path(place)), CString::new(*name)?);
                // SAFETY: both end with a NUL, and the value has the length that is given.
                let result = unsafe {
                    libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), *flags)
                };
                checked(result.into())?;
            }
            Op::GetXattr { place, name } => {
                return Ok(Value::Bytes(Excerpt(get_xattr(&self.path(place), name)?)));
            }
            Op::ListXattr { place } => return Ok(Value::Names(list_xattr(&self.path(place))?)),
            Op::RemoveXattr { place, name } => {
                let (path, name) = (c_path(&self.path(place)), CString::new(*name)?);
                // SAFETY: both end with a NUL and outlive the call.
                checked(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }.into())?;
            }
            Op::Hold { place, hand } => {
                self.held[*hand] = None;
                self.held[*hand] = Some(self.open(place)?);
            }
            Op::LetGo { hand } => self.held[*hand] = None,
            Op::WriteHeld { hand, .. }
            | Op::ReadHeld { hand, .. }
            | Op::TruncateHeld { hand, .. }
            | Op::StatHeld { hand } => {
                return self.held[*hand].as_ref().map_or(Ok(Value::Nothing), |file| apply_held(op, file));
            }
        }
        Ok(Value::Done)
    }

    fn collect(&self, directory: &Path, prefix: &str, timed: &dyn Fn(&str) -> bool, tree: &mut Tree) {
        for name in list(directory).unwrap() {
            let (here, path) = (directory.join(&name), format!("{prefix}{name}"));
            let attr = fs::symlink_metadata(&here).unwrap();
            let node = node(&attr);
            let content = match node.kind {
                Kind::File => fs::read(&here).unwrap(),
                Kind::Directory => Vec::new(),
                Kind::Symlink => fs::read_link(&here).unwrap().as_os_str().as_bytes().to_vec(),
            };
            let names = list_xattr(&here).unwrap();
            let xattrs: BTreeMap<_, _> =
                names.into_iter().map(|name| (name.clone(), get_xattr(&here, &name).unwrap())).collect();
            let modified = timed(&path).then(|| (attr.mtime(), attr.mtime_nsec() as u32));
            let is_directory = node.kind == Kind::Directory;
            tree.insert(path.clone(), Leaf { node, content: Excerpt(content), xattrs, modified });
            if is_directory {
                self.collect(&here, &format!("{path}/"), timed, tree);
            }
        }
    }
}

impl Subject for Directory {
    fn name(&self) -> &'static str {
        self.name
    }

    fn apply(&mut self, op: &Op) -> Outcome {
        self.try_apply(op).map_err(|error| error.raw_os_error().expect("an errno"))
    }

    fn tree(&mut self, timed: &dyn Fn(&str) -> bool) -> Tree {
        let mut tree = Tree::new();
        self.collect(&self.root, "", timed, &mut tree);
        tree
    }
}

fn apply_held(op: &Op, file: &File) -> io::Result<Value> {
    match op {
        Op::WriteHeld { offset, size, seed, .. } => write(file, *offset, &pattern(*seed, *size)),
        Op::ReadHeld { offset, size, .. } => read(file, *offset, *size),
        Op::TruncateHeld { size, .. } => file.set_len(*size).map(|()| Value::Done),
        Op::StatHeld { .. } => Ok(Value::Node(node(&file.metadata()?))),
        other => panic!("{other:?} is not done to an open file"),
    }
}

fn write(file: &File, offset: u64, bytes: &[u8]) -> io::Result<Value> {
    file.write_all_at(bytes, offset)?;
    Ok(Value::Size(bytes.len() as u64))
}

fn read(file: &File, offset: u64, size: usize) -> io::Result<Value> {
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    bytes.truncate(filled);
    Ok(Value::Bytes(Excerpt(bytes)))
}

fn copy(from: &File, from_offset: u64, to: &File, to_offset: u64, size: u64) -> io::Result<Value> {
    // What the copy itself appends to its source is not copied as well, which a second call would do.
    let size = size.min(from.metadata()?.len().saturating_sub(from_offset));
    let (mut from_offset, mut to_offset, mut copied) = (from_offset as i64, to_offset as i64, 0);
    while copied < size {
        let (from, to, left) = (from.as_raw_fd(), to.as_raw_fd(), (size - copied) as usize);
        // SAFETY: both descriptors are open, and the offsets outlive the call.
        let more = unsafe { libc::copy_file_range(from, &mut from_offset, to, &mut to_offset, left, 0) };
        match checked(more as i64)? {
            0 => break,
            more => copied += more,
        }
    }
    Ok(Value::Size(copied))
}

fn rename(from: &Path, to: &Path, flags: u32) -> io::Result<()> {
    let (from, to) = (c_path(from), c_path(to));
    // SAFETY: both paths end with a NUL and outlive the call.
    let result =
        unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) };
    checked(result.into()).map(drop)
}

fn set_modified(path: &Path, secs: i64, nanos: u32) -> io::Result<()> {
    let omitted = libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT };
    let times = [omitted, libc::timespec { tv_sec: secs, tv_nsec: nanos.into() }];
    let path = c_path(path);
    // SAFETY: the path ends with a NUL, and there are two times.
    let result =
        unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    checked(result.into()).map(drop)
}

fn list(path: &Path) -> io::Result<Vec<String>> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let directory = File::options().read(true).custom_flags(flags).open(path)?;
    let entries = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().expect("a name of ours")));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn get_xattr(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let (path, name) = (c_path(path), CString::new(name)?);
    let mut value = vec![0_u8; VALUE_BYTES_MAX];
    // SAFETY: both end with a NUL, and the room has the size that is given.
    let size =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(checked(size as i64)? as usize);
    Ok(value)
}

fn list_xattr(path: &Path) -> io::Result<Vec<String>> {
    let path = c_path(path);
    let mut names = vec![0_u8; VALUE_BYTES_MAX];
    // SAFETY: the path ends with a NUL, and the room has the size that is given.
    let size = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(checked(size as i64)? as usize);
    Ok(user_names(&names))
}

/// The names of users' attributes in a list with a NUL after each, in order: others belong to the system.
pub(super) fn user_names(list: &[u8]) -> Vec<String> {
    let names = list.split(|byte| *byte == 0).map(|name| String::from_utf8_lossy(name).into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("user.")).collect();
    names.sort();
    names
}

fn node(attr: &fs::Metadata) -> Node {
    let kind = match attr.file_type() {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Symlink,
        _ => Kind::File,
    };
    let nlink = if kind == Kind::Directory { 0 } else { attr.nlink() };
    let size = if kind == Kind::File { attr.len() } else { 0 };
    Node { kind, mode: attr.mode() & 0o7777, nlink, size }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn checked(result: i64) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}
