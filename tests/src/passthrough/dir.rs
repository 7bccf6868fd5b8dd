//! An open directory: entries read ahead in blocks, addressed by the cookies of the filesystem beneath.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use parking_lot::Mutex;
use rustix::fs::{RawDir, SeekFrom};

/// Bytes asked of `getdents` at a time.
const BLOCK_BYTES: usize = 16 * 1024;

/// A directory stream; the lock serves one reader at a time, as `readdir` does anyway.
pub(super) struct OpenDir(Mutex<DirStream>);

/// Position in a directory and what was read beyond it.
pub(super) struct DirStream {
    fd: OwnedFd,
    /// Cookie of the entry that `entries` begins with.
    offset: u64,
    entries: VecDeque<DirEntry>,
}

/// One name in a directory.
pub(super) struct DirEntry {
    pub(super) name: OsString,
    pub(super) ino: u64,
    pub(super) kind: rustix::fs::FileType,
    /// Cookie of the entry after this one.
    pub(super) next: u64,
}

impl OpenDir {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(Mutex::new(DirStream { fd, offset: 0, entries: VecDeque::new() }))
    }

    /// Calls `take` with each entry from cookie `offset` on until it returns false or the directory ends. An
    /// entry that was not taken comes first the next time.
    pub(super) fn read_from(
        &self,
        offset: u64,
        mut take: impl FnMut(&DirEntry) -> bool,
    ) -> rustix::io::Result<()> {
        let mut stream = self.0.lock();
        stream.seek(offset)?;
        while stream.fill()? {
            while let Some(entry) = stream.entries.pop_front() {
                if !take(&entry) {
                    stream.entries.push_front(entry);
                    return Ok(());
                }
                stream.offset = entry.next;
            }
        }
        Ok(())
    }

    /// Writes the directory to disk, as fsync(2) does.
    pub(super) fn sync(&self, datasync: bool) -> rustix::io::Result<()> {
        let stream = self.0.lock();
        if datasync { rustix::fs::fdatasync(&stream.fd) } else { rustix::fs::fsync(&stream.fd) }
    }
}

impl DirStream {
    fn seek(&mut self, offset: u64) -> rustix::io::Result<()> {
        if offset != self.offset {
            rustix::fs::seek(&self.fd, SeekFrom::Start(offset))?;
            self.entries.clear();
            self.offset = offset;
        }
        Ok(())
    }

    /// Makes sure that an entry is there; false at the end of the directory.
    fn fill(&mut self) -> rustix::io::Result<bool> {
        if !self.entries.is_empty() {
            return Ok(true);
        }
        let mut block = [MaybeUninit::uninit(); BLOCK_BYTES];
        let mut raw = RawDir::new(&self.fd, &mut block);
        while let Some(entry) = raw.next() {
            let entry = entry?;
            self.entries.push_back(DirEntry {
                name: OsStr::from_bytes(entry.file_name().to_bytes()).to_owned(),
                ino: entry.ino(),
                kind: entry.file_type(),
                next: entry.next_entry_cookie(),
            });
            if raw.is_buffer_empty() {
                break;
            }
        }
        Ok(!self.entries.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> OpenDir {
        OpenDir::new(std::fs::File::open(path).unwrap().into())
    }

    #[test]
    fn a_listing_in_small_parts_has_every_name_once() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..1_000 {
            std::fs::write(dir.path().join(format!("file{index}")), "").unwrap();
        }
        let opened = open(dir.path());
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let before = names.len();
            let read = opened.read_from(offset, |entry| {
                let room = names.len() < before + 7;
                if room {
                    names.push(entry.name.clone());
                    offset = entry.next;
                }
                room
            });
            read.unwrap();
            if names.len() == before {
                break;
            }
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 1_002);
    }

    #[test]
    fn a_listing_can_begin_again() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open(dir.path());
        for _ in 0..2 {
            let mut count = 0;
            let read = opened.read_from(0, |_| {
                count += 1;
                true
            });
            read.unwrap();
            assert_eq!(count, 2);
        }
    }
}
