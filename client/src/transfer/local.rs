//! Files and directories of this machine, as a transfer makes and reads them.
//!
//! Everything below the directory that a person named is reached from an open directory by one name, and no symbolic link
//! is followed: what a server lists can lead nowhere else.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nearfs_protocol::attr::{Attr, FileKind, Time};
use nearfs_protocol::name::Name;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps};

use crate::transfer::journal::{SourceStamp, is_staged};

/// What nobody has touched for so long is not being brought any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Names that are looked at for abandoned ones.
const SWEPT_NAMES_MAX: usize = 20_000;

/// An open directory, and its path for people.
pub(super) struct LocalDir {
    fd: OwnedFd,
    pub(super) path: PathBuf,
}

/// One name of a directory.
pub(super) struct LocalEntry {
    pub(super) name: Name,
    pub(super) stat: Stat,
}

impl LocalDir {
    /// Opens a directory that a person named.
    pub(super) fn open(path: &Path) -> io::Result<LocalDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path_or_dot = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let fd = rustix::fs::open(path_or_dot, flags, Mode::empty())?;
        Ok(LocalDir { fd, path: path.to_owned() })
    }

    /// Opens a directory in it.
    pub(super) fn child(&self, name: &Name) -> io::Result<LocalDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name.as_bytes(), flags, Mode::empty())?;
        Ok(LocalDir { fd, path: self.path_of(name) })
    }

    /// Makes a directory in it unless it is there, and opens it. Whether it was made.
    pub(super) fn make_child(&self, name: &Name, mode: u32) -> io::Result<(LocalDir, bool)> {
        match rustix::fs::mkdirat(&self.fd, name.as_bytes(), Mode::from_raw_mode(mode & 0o7777)) {
            Ok(()) => Ok((self.child(name)?, true)),
            Err(rustix::io::Errno::EXIST) => Ok((self.child(name)?, false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a name in it is, for people and for programs.
    pub(super) fn path_of(&self, name: &Name) -> PathBuf {
        self.path.join(std::ffi::OsStr::from_bytes(name.as_bytes()))
    }

    /// Opens a directory somewhere below it again, name by name. `path` is that of the directory, and begins as this one's.
    pub(super) fn descend(self: &Arc<Self>, path: &Path) -> io::Result<Arc<LocalDir>> {
        let way = path.strip_prefix(&self.path).map_err(|_| io::ErrorKind::NotFound)?;
        let mut at = Arc::clone(self);
        for part in way.components() {
            let name = Name::new(part.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::NotFound)?;
            at = Arc::new(at.child(&name)?);
        }
        Ok(at)
    }

    /// Makes a file that must not exist.
    pub(super) fn create(&self, name: &Name, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & 0o777);
        Ok(rustix::fs::openat(&self.fd, name.as_bytes(), flags, mode)?.into())
    }

    /// Opens a file in it.
    pub(super) fn open_file(&self, name: &Name, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name.as_bytes(), flags, Mode::empty())?.into())
    }

    /// Whether a file that is open here is one that we may have made: where others make names as well, they may have put
    /// theirs in our way, and would have what is written into it.
    pub(super) fn may_be_ours(&self, file: &File) -> io::Result<bool> {
        let stat = rustix::fs::fstat(file)?;
        let is_alone = self.stat_self()?.st_mode & 0o022 == 0;
        let is_own = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_nlink == 1;
        Ok(kind_of(&stat) == FileKind::File && (is_alone || is_own))
    }

    /// A name's attributes, of a link itself; `None` if there is no such name.
    pub(super) fn stat(&self, name: &Name) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The attributes of the directory.
    pub(super) fn stat_self(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.fd)?)
    }

    /// Gives a complete file its name.
    pub(super) fn publish(&self, staged: &Name, name: &Name, replace: bool) -> io::Result<()> {
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let (from, to) = (staged.as_bytes(), name.as_bytes());
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, flags) {
            // A file system that knows no flags.
            Err(rustix::io::Errno::INVAL) if !replace => {
                rustix::fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty())?;
                self.remove(staged)
            }
            renamed => Ok(renamed?),
        }
    }

    pub(super) fn remove(&self, name: &Name) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::empty())?)
    }

    /// Removes an empty directory.
    pub(super) fn remove_dir(&self, name: &Name) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::REMOVEDIR)?)
    }

    pub(super) fn symlink(&self, target: &[u8], name: &Name) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, name.as_bytes())?)
    }

    pub(super) fn read_link(&self, name: &Name) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.fd, name.as_bytes(), Vec::new())?.into_bytes())
    }

    /// Sets mode and time of modification of a directory, which the copying of its content changed.
    pub(super) fn set_attr(&self, mode: u32, mtime: Time) -> io::Result<()> {
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode & 0o7777))?;
        Ok(rustix::fs::futimens(&self.fd, &modified_at(mtime))?)
    }

    /// Calls `entry` for each name, in the directory's order, with those of incomplete files.
    pub(super) fn each(&self, mut entry: impl FnMut(LocalEntry) -> bool) -> io::Result<()> {
        for listed in rustix::fs::Dir::read_from(&self.fd)? {
            let listed = listed?;
            let Ok(name) = Name::new(listed.file_name().to_bytes()) else { continue };
            // What vanished meanwhile is not there.
            if let Some(stat) = self.stat(&name)?
                && !entry(LocalEntry { name, stat })
            {
                break;
            }
        }
        Ok(())
    }

    /// Removes what earlier transfers left incomplete and nobody has gone on with.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let old = SystemTime::now().checked_sub(ABANDONED_AFTER).unwrap_or(SystemTime::UNIX_EPOCH);
        self.sweep_before(old.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// Removes what was incomplete and has not been touched since then, in seconds since 1970. What has the time of its
    /// source already is told by the time of its last change.
    fn sweep_before(&self, secs: u64) -> io::Result<()> {
        let old = secs.cast_signed();
        for listed in rustix::fs::Dir::read_from(&self.fd)?.take(SWEPT_NAMES_MAX) {
            let Ok(name) = Name::new(listed?.file_name().to_bytes()) else { continue };
            if is_staged(name.as_bytes())
                && self.stat(&name)?.is_some_and(|stat| {
                    matches!(kind_of(&stat), FileKind::File | FileKind::Symlink) && stat.st_ctime < old
                })
            {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Brings a file in it to stable storage, and what its mode does not let us open with all of the file system.
    pub(super) fn sync_file(&self, name: &Name) -> io::Result<()> {
        match self.open_file(name, OFlags::RDONLY) {
            Ok(file) => file.sync_all(),
            Err(_) => self.sync_device(),
        }
    }

    /// Brings the file system to stable storage.
    pub(super) fn sync_device(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.fd)?)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

/// Keeps other processes from writing to the file; whether that was possible.
pub(super) fn lock(file: &File) -> bool {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Has the disk begin to write what it has not of a file, without waiting (sync_file_range(2)).
pub(super) fn begin_writing(file: &File) {
    // SAFETY: a descriptor and plain numbers. What goes wrong with it is told when the file is synced.
    unsafe {
        libc::sync_file_range(std::os::fd::AsRawFd::as_raw_fd(file), 0, 0, libc::SYNC_FILE_RANGE_WRITE)
    };
}

/// Sets what a complete file gets of its source.
pub(super) fn set_file_attr(file: &File, mode: Option<u32>, mtime: Option<Time>) -> io::Result<()> {
    if let Some(mode) = mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))?;
    }
    if let Some(mtime) = mtime {
        rustix::fs::futimens(file, &modified_at(mtime))?;
    }
    Ok(())
}

/// Whether both are the same file.
pub(super) fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// What a file of this machine is told apart by.
pub(super) fn stamp_of(stat: &Stat) -> SourceStamp {
    let change = (stat.st_ctime.cast_unsigned() << 30) ^ stat.st_ctime_nsec;
    SourceStamp { size: stat.st_size.cast_unsigned(), mtime: mtime_of(stat), change }
}

pub(super) fn mtime_of(stat: &Stat) -> Time {
    Time { secs: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

pub(super) fn kind_of(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice | FileType::Unknown => FileKind::BlockDevice,
    }
}

/// Whether a file has holes worth keeping.
pub(super) fn is_sparse(attr: &Attr) -> bool {
    attr.blocks.saturating_mul(512) < attr.size
}

/// The part of a file from an offset on that is data: where it begins and ends. `None` behind the last.
pub(super) fn next_content(file: impl AsFd, offset: u64) -> io::Result<Option<(u64, u64)>> {
    match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(begin) => {
            let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(begin))?;
            Ok(Some((begin, end)))
        }
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn modified_at(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::journal::StagedNames;

    #[test]
    fn what_others_may_have_put_in_the_way_is_not_ours() {
        use std::os::unix::fs::PermissionsExt;

        let place = tempfile::tempdir().unwrap();
        let dir = LocalDir::open(place.path()).unwrap();
        let name = |text: &[u8]| Name::new(text).unwrap();
        let own = dir.create(&name(b"own"), 0o600).unwrap();
        let linked = dir.create(&name(b"linked"), 0o600).unwrap();
        std::fs::hard_link(place.path().join("linked"), place.path().join("elsewhere")).unwrap();
        let ours = |file: &File| dir.may_be_ours(file).unwrap();
        assert_eq!((ours(&own), ours(&linked)), (true, true));
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!((ours(&own), ours(&linked)), (true, false));
        assert!(!ours(&File::open("/dev/null").unwrap()));
    }

    #[test]
    fn only_what_nobody_goes_on_with_is_swept() {
        let place = tempfile::tempdir().unwrap();
        let dir = LocalDir::open(place.path()).unwrap();
        let (one, link) = (StagedNames::fresh().unwrap(), StagedNames::fresh().unwrap());
        let other = Name::new(b".nearfs-mine.part").unwrap();
        for name in [&one.part, &one.journal, &other] {
            dir.create(name, 0o600).unwrap();
        }
        dir.symlink(b"nowhere", &link.part).unwrap();
        let names = || std::fs::read_dir(place.path()).unwrap().count();
        // What was made a moment ago has an old time already when it is to keep that of its source.
        let old = Time { secs: 1, nanos: 0 };
        set_file_attr(&dir.open_file(&one.part, OFlags::RDWR).unwrap(), None, Some(old)).unwrap();
        dir.sweep().unwrap();
        assert_eq!(names(), 4);
        let later = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 10;
        dir.sweep_before(later).unwrap();
        assert_eq!(names(), 1);
        assert!(dir.stat(&other).unwrap().is_some());
    }
}
