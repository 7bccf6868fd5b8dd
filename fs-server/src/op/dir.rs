//! Directories, listed and synced.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use nearfs_protocol::attr::DirEntry;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::limits::CONTROL_BYTES_MAX;
use nearfs_protocol::message::Reply;
use nearfs_protocol::name::Name;

use super::Outcome;
use crate::export::Listed;
use crate::identity;
use crate::listings::Stream;
use crate::session_files::{At, SessionFiles};
use crate::tree::named;

/// Bytes of an encoded entry beside its name and attributes: lengths, cookie, number, kind.
const ENTRY_BYTES: usize = 30;
/// Bytes of encoded attributes.
const ATTR_BYTES: usize = 121;
/// What an answer has beside its entries, amply.
const ANSWER_BYTES: usize = 256;
/// Bytes of the kernel's own entry with the longest name.
const RAW_ENTRY_BYTES_MAX: usize = 280;
/// Bytes of the kernel's entries that are asked for at once.
const RAW_BYTES_MAX: usize = 32 * 1024;

impl SessionFiles {
    pub(crate) fn read_dir(
        &self,
        node: Node,
        cookie: u64,
        entry_bytes_max: u32,
        with_attrs: bool,
    ) -> Outcome {
        let directory = self.reach(node)?;
        let change = self.tree.export.attr(&directory)?.change;
        let stream = self.stream_at(node, &directory, cookie)?;
        let bytes_max = (entry_bytes_max as usize).min(CONTROL_BYTES_MAX - ANSWER_BYTES);
        let mut piece = Piece { entries: Vec::new(), bytes_left: bytes_max, with_attrs };
        let end = self.fill(&mut piece, node, &directory, &stream)?;
        let exact = end && self.tree.export.has_exact_names(stream.fd.as_fd());
        if let Some(last) = piece.entries.last()
            && !end
        {
            self.listings.put(node, last.cookie, stream);
        }
        Ok(Reply::Listing { entries: piece.entries, end, exact, change }.into())
    }

    pub(crate) fn fsync_dir(&self, node: Node, data_only: bool) -> Outcome {
        let directory = self.reach(node)?;
        let export = &self.tree.export;
        // Syncing takes no right to list.
        let fd = identity::as_server(|| export.open_dir(directory.as_fd()))?;
        export.sync(fd, data_only)?;
        Ok(Reply::Done.into())
    }

    /// Whether a directory has no names for certain, and so lacks any that is asked for.
    pub(crate) fn is_empty(&self, directory: Node) -> bool {
        let export = &self.tree.export;
        let Ok(directory) = self.reach(directory) else { return false };
        // Its maker may have kept himself from listing it.
        let Ok(fd) = identity::as_server(|| export.open_dir(directory.as_fd())) else { return false };
        let mut room = [MaybeUninit::uninit(); RAW_ENTRY_BYTES_MAX];
        let mut has_names = false;
        while !has_names {
            let found = export.read_dir(fd.as_fd(), &mut room, |_| {
                has_names = true;
                Ok(())
            });
            match found {
                Ok(true) => {}
                Ok(false) => return !has_names && export.has_exact_names(fd.as_fd()),
                Err(_) => return false,
            }
        }
        false
    }

    /// A stream that stands at a cookie: one that was left there, or another that is put there.
    fn stream_at(&self, node: Node, directory: &At, cookie: u64) -> Result<Stream, Errno> {
        if cookie != 0
            && let Some(stream) = self.listings.take(node, cookie)
        {
            return Ok(stream);
        }
        let slot = self.slot()?;
        let fd = self.tree.export.open_dir(directory.as_fd())?;
        if cookie != 0 {
            self.tree.export.seek_dir(fd.as_fd(), cookie)?;
        }
        Ok(Stream::new(fd, slot))
    }

    /// Reads on until the piece is full, or the end is reached, which is returned. The kernel is asked for no more than
    /// fits in any case, so that the stream stands behind the last entry of the piece.
    fn fill(&self, piece: &mut Piece, node: Node, directory: &At, stream: &Stream) -> Result<bool, Errno> {
        let export = &self.tree.export;
        let (number, device) = export.device_of(directory.as_fd())?;
        let mut room = [MaybeUninit::uninit(); RAW_BYTES_MAX];
        loop {
            let fitting = piece.raw_bytes_fitting();
            if fitting < RAW_ENTRY_BYTES_MAX && !piece.entries.is_empty() {
                return Ok(false);
            }
            let room = &mut room[..fitting.clamp(RAW_ENTRY_BYTES_MAX, RAW_BYTES_MAX)];
            let any = export.read_dir(stream.fd.as_fd(), room, |listed: Listed<'_>| {
                // What is no name cannot be asked for either.
                let Ok(name) = Name::new(listed.name.to_bytes()) else { return Ok(()) };
                let attr = piece.with_attrs.then(|| export.attr_of(directory, listed.name).ok()).flatten();
                if let Some(attr) = &attr {
                    self.count(attr, &named(node, &name));
                }
                let ino = match &attr {
                    Some(attr) => attr.node.id.0,
                    None => export.fold(number, device, listed.ino)?.0,
                };
                piece.push(DirEntry { name, cookie: listed.cookie, attr, ino, kind: listed.kind });
                Ok(())
            })?;
            if !any {
                return Ok(true);
            }
        }
    }
}

/// The entries of an answer, and how many more bytes fit into it.
struct Piece {
    entries: Vec<DirEntry>,
    bytes_left: usize,
    with_attrs: bool,
}

impl Piece {
    fn push(&mut self, entry: DirEntry) {
        let attr_bytes = if entry.attr.is_some() { ATTR_BYTES } else { 0 };
        let bytes = ENTRY_BYTES + attr_bytes + entry.name.as_bytes().len();
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.entries.push(entry);
    }

    /// How many bytes of the kernel's entries fit in any case. Its shortest entry has 24 bytes and a name of at most 4,
    /// which is where the encoded form is longest in proportion.
    fn raw_bytes_fitting(&self) -> usize {
        let attr_bytes = if self.with_attrs { ATTR_BYTES } else { 0 };
        self.bytes_left * 24 / (ENTRY_BYTES + attr_bytes + 4)
    }
}

#[cfg(test)]
mod tests {
    use nearfs_protocol::attr::{Attr, FileKind, Time};
    use nearfs_protocol::codec::{FrameKind, encode_frame};
    use nearfs_protocol::id::{Change, RequestId};
    use nearfs_protocol::limits::HEADER_BYTES;

    use super::*;

    fn entry(attr: Option<Attr>) -> DirEntry {
        let name = Name::new(b"12345").unwrap();
        DirEntry { name, cookie: 1, attr, ino: 1, kind: Some(FileKind::File) }
    }

    fn attr() -> Attr {
        let time = Time::default();
        Attr {
            node: Node::default(),
            change: Change(1),
            kind: FileKind::File,
            mode: 0,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            blksize: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: Some(time),
        }
    }

    #[test]
    fn entries_are_as_long_as_is_counted() {
        for (attr, bytes) in [(None, ENTRY_BYTES + 5), (Some(attr()), ENTRY_BYTES + ATTR_BYTES + 5)] {
            let mut frame = Vec::new();
            encode_frame(&mut frame, FrameKind::Answer, RequestId(1), &entry(attr), 0).unwrap();
            assert_eq!(frame.len() - HEADER_BYTES, bytes);
        }
    }
}
