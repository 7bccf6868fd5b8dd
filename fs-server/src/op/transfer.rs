//! Whole files and their hashes: what transfers ask for beyond what a kernel does.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use nearfs_protocol::attr::{Attr, SetAttr};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::{Hasher, hash};
use nearfs_protocol::id::{ContentHash, Fh, Node};
use nearfs_protocol::limits::{HASH_BYTES, HASHED_BYTES_MAX, HASHES_MAX, PAYLOAD_BYTES_MAX};
use nearfs_protocol::message::{Reply, WriteSync};
use nearfs_protocol::name::Name;
use nearfs_transport::pool::Payload;

use super::open::only_regular;
use super::{Outcome, Stop};
use crate::export::{Opening, Patience, Reached, Spread, c_name};
use crate::handle::OpenFile;
use crate::identity;
use crate::op::{Pace, Response};
use crate::session_files::SessionFiles;

/// A larger piece takes longer to hash than to be handed to another thread, which then does not hold up others.
const QUICK_HASH_BYTES_MAX: usize = 256 * 1024;
/// Bytes that are read at a time to be hashed, so that they stay in the processor's cache.
const HASH_PIECE_BYTES: usize = 256 * 1024;

/// The content of a file, and what its sender says its hash is.
pub(crate) struct Content<'call> {
    pub(crate) bytes: &'call [u8],
    pub(crate) hash: ContentHash,
}

impl SessionFiles {
    pub(crate) fn hash_range(&self, fh: Fh, range: Spread, chunk_bytes: u32) -> Outcome {
        let file = self.files.get(fh)?;
        if !file.readable {
            return Err(Errno::EBADF.into());
        }
        let is_bounded = chunk_bytes != 0
            && range.length <= HASHED_BYTES_MAX as u64
            && range.length.div_ceil(u64::from(chunk_bytes)) <= HASHES_MAX as u64;
        let end = range.offset.checked_add(range.length).filter(|_| is_bounded).ok_or(Errno::EINVAL)?;
        let change = self.tree.export.attr(&*file)?.change;
        let mut piece = self.pool.take(HASH_PIECE_BYTES);
        let mut hashes = Vec::new();
        let mut at = range.offset;
        while at < end {
            let chunk_end = end.min(at + u64::from(chunk_bytes));
            let (bytes, hash) = self.hash_chunk(&file, &mut piece, at, chunk_end)?;
            if bytes == 0 {
                break;
            }
            hashes.extend_from_slice(&hash);
            at += bytes;
        }
        Ok(Response { answer: Ok(Reply::Hashed { change }), payload: Payload::from(hashes) })
    }

    /// How many bytes there are from `at` to `end`, and their hash.
    fn hash_chunk(
        &self,
        file: &OpenFile,
        room: &mut [u8],
        mut at: u64,
        end: u64,
    ) -> Result<(u64, [u8; HASH_BYTES]), Errno> {
        let begin = at;
        let mut hasher = Hasher::default();
        while at < end {
            let wanted = room.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let count = self.tree.export.read(file, &mut room[..wanted], at, Patience::Disk)?;
            hasher.update(&room[..count]);
            at += count as u64;
            if count < wanted {
                break;
            }
        }
        Ok((at - begin, hasher.finish().0))
    }

    pub(crate) fn fetch(
        self: &Arc<Self>,
        parent: Node,
        name: &Name,
        content_bytes_max: u32,
        pace: Pace,
    ) -> Outcome {
        if content_bytes_max as usize > PAYLOAD_BYTES_MAX {
            return Err(Errno::EINVAL.into());
        }
        let directory = self.reach(parent)?;
        let slot = self.slot()?;
        let export = &self.tree.export;
        let fd = match export.open_name(&directory, &c_name(name)?, Opening::READ) {
            // Another program of the server has a lease on it, which open(2) would wait for.
            Err(Errno::EAGAIN) if pace == Pace::Quick => return Err(Stop::MaySleep),
            fd => fd?,
        };
        let attr = export.attr(&fd)?;
        only_regular(attr.kind)?;
        let file = OpenFile::new(fd, attr.node, Opening::READ, slot, &export.unnamed);
        if attr.size > u64::from(content_bytes_max) {
            return Ok(fetched(attr, None));
        }
        if pace == Pace::Quick && attr.size as usize <= QUICK_HASH_BYTES_MAX {
            match self.read_whole(&file, &attr, Patience::Cached) {
                Err(Errno::EAGAIN) => {}
                content => return Ok(fetched(attr, content?)),
            }
        }
        let files = self.clone();
        Err(Stop::Later(Box::new(move || match files.read_whole(&file, &attr, Patience::Disk) {
            Ok(content) => fetched(attr, content),
            Err(errno) => Response::refused(errno),
        })))
    }

    /// A file's content, if it is just as long as its attributes said, and nobody has changed it since.
    fn read_whole(&self, file: &OpenFile, attr: &Attr, patience: Patience) -> Result<Option<Payload>, Errno> {
        let content = self.whole_content(file, attr.size, patience)?;
        let after = self.tree.export.attr(file)?;
        Ok(content.filter(|_| after.change == attr.change))
    }

    pub(crate) fn store(
        &self,
        (parent, name): (Node, &Name),
        (mode, umask): (u32, u32),
        set: &SetAttr,
        content: Content<'_>,
        pace: Pace,
    ) -> Outcome {
        if set.size.is_some() {
            return Err(Errno::EINVAL.into());
        }
        let began = Instant::now();
        let sleeps = content.bytes.len() > QUICK_HASH_BYTES_MAX || self.tree.disk().is_busy(began);
        if pace == Pace::Quick && sleeps {
            return Err(Stop::MaySleep);
        }
        if hash(content.bytes) != content.hash {
            return Err(Errno::EIO.into());
        }
        let directory = self.reach(parent)?;
        let c_name = c_name(name)?;
        let export = &self.tree.export;
        identity::set_umask(umask)?;
        let opening = Opening::from_flags(libc::O_WRONLY as u32)?;
        let fd = export.create(&directory, &c_name, mode, opening)?;
        let written = export.write(&fd, content.bytes, 0, WriteSync::None).and_then(|count| {
            // Where it stopped half way, a second attempt brings the reason.
            if count < content.bytes.len() {
                export.write(&fd, &content.bytes[count..], count as u64, WriteSync::None)?;
                return Err(Errno::ENOSPC);
            }
            export.set_attr(Reached::Open(fd.as_fd()), set)?;
            export.attr(&fd)
        });
        let attr = written.inspect_err(|_| {
            // It was made by this call, and nobody knows of it.
            let _ = export.unlink(&directory, &c_name);
        })?;
        self.tree.disk().wrote(began);
        Ok(Reply::Attr(attr).into())
    }
}

fn fetched(attr: Attr, content: Option<Payload>) -> Response {
    let hash = content.as_ref().map_or_else(ContentHash::default, |content| hash(content));
    let whole = content.is_some();
    let payload = content.unwrap_or_else(Payload::empty);
    Response { answer: Ok(Reply::Fetched { attr, whole, hash }), payload }
}
