//! Writing: every write reaches the server before it returns, unless the server is far away ([`super::behind`]).

use std::sync::Arc;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::{Reply, Request, SeekTarget, WriteAt, WriteSync, Written};
use nearfs_transport::pool::Payload;

use crate::cache::FillToken;
use crate::files::OpenFile;
use crate::identity::Caller;
use crate::rpc::{Outcome, Patience};
use crate::vfs::behind::{Turn, range_of};
use crate::vfs::types::Invalidation;
use crate::vfs::{Vfs, tri, unexpected};

impl Vfs {
    /// Writes to an open file (pwrite(2)). A file that was opened to append is written at its end, wherever the
    /// server finds that. `is_page`: it comes out of a mapping, and no program waits for it to hear of an error.
    #[expect(clippy::too_many_arguments, reason = "the operation has them")]
    pub fn write(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        fh: u64,
        offset: u64,
        bytes: &[u8],
        is_page: bool,
        done: impl FnOnce(Result<u32, Errno>) + Send + 'static,
    ) {
        let file = tri!(self.files.get(fh), done);
        tri!(file.check(), done);
        let content = self.rpc.keep(bytes);
        self.write_kept((caller, ino, fh), &file, offset, content, is_page, done);
    }

    fn write_kept(
        self: &Arc<Self>,
        (caller, ino, fh): (Caller, u64, u64),
        file: &Arc<OpenFile>,
        offset: u64,
        content: Arc<Payload>,
        is_page: bool,
        done: impl FnOnce(Result<u32, Errno>) + Send + 'static,
    ) {
        let node = file.node;
        let sync = if self.config.sync { WriteSync::All } else { WriteSync::None };
        let range = range_of(offset, &content);
        let is_plain = sync == WriteSync::None
            && !is_page
            && !content.is_empty()
            && self.config.cache_bytes > 0
            && !(file.appends() || file.is_synchronous() || file.is_direct());
        let file = Arc::clone(file);
        match self.behind.turn(node, &range, is_plain) {
            Turn::Awaited => {}
            Turn::Behind => return self.write_late((caller, ino), file, offset, content, done),
            Turn::Later => {
                let again = move |vfs: &Arc<Vfs>, done| {
                    vfs.write_kept((caller, ino, fh), &file, offset, content, is_page, done);
                };
                return self.after_writes(caller, node, self.writers_patience(), done, again);
            }
        }
        let at = if file.appends() { WriteAt::End } else { WriteAt::Offset(offset) };
        let expected = (!file.appends()).then_some(offset);
        let writing = self.cache.blocks.begin_write(node, expected, content.len());
        let token = self.cache.begin_fill();
        let payload = Some(Arc::clone(&content));
        let vfs = Arc::clone(self);
        let request = Request::Write { fh: file.fh, at, sync };
        self.call_writing(caller, node, request, payload, move |outcome| {
            if sync == WriteSync::None && !file.is_synchronous() && outcome.is_ok() {
                file.unsynced.changed();
            }
            let written = vfs.written(token, outcome).and_then(|written| {
                let size = usize::try_from(written.size).map_err(|_| Errno::EIO)?;
                let content = content.get(..size).ok_or(Errno::EIO)?;
                let Written { offset, before, attr, .. } = &written;
                writing.finish(*offset, content, *before, attr.change, attr.size);
                Ok(written)
            });
            if let Ok(Written { offset: landed, size, .. }) = &written
                && *landed != offset
            {
                let (offset, size) = (*landed, *size);
                vfs.notify(Invalidation::Range { ino, offset, size });
            }
            if let Err(errno) = &written
                && is_page
            {
                vfs.files.note_lost(node, *errno);
            }
            done(written.map(|written| written.size as u32));
        });
    }

    /// Allocates or frees space (fallocate(2)).
    #[expect(clippy::too_many_arguments, reason = "the operation has them")]
    pub fn fallocate(
        self: &Arc<Self>,
        caller: Caller,
        _ino: u64,
        fh: u64,
        offset: u64,
        length: u64,
        mode: i32,
        done: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        let file = tri!(self.files.get(fh), done);
        if self.behind.is_pending(file.node) {
            let again =
                move |vfs: &Arc<Vfs>, done| vfs.fallocate(caller, _ino, fh, offset, length, mode, done);
            return self.after_writes(caller, file.node, Patience::Bounded, done, again);
        }
        let token = self.cache.begin_fill();
        let vfs = Arc::clone(self);
        let request = Request::Allocate { fh: file.fh, mode: mode as u32, offset, length };
        self.call(caller, file.node, request, move |outcome| {
            // Some modes move everything behind the range.
            vfs.cache.blocks.changed(file.node, offset..u64::MAX);
            done(match outcome {
                Ok((Reply::Changed { before, attr }, _)) => {
                    file.unsynced.changed();
                    vfs.changed(token, before, &attr);
                    Ok(())
                }
                Ok((other, _)) => Err(unexpected(&other)),
                Err(errno) => {
                    vfs.cache.attrs.invalidate(file.node);
                    Err(errno)
                }
            });
        });
    }

    /// Copies between two open files without the bytes coming here (copy_file_range(2)).
    #[expect(clippy::too_many_arguments, reason = "the operation has them")]
    pub fn copy_file_range(
        self: &Arc<Self>,
        caller: Caller,
        in_ino: u64,
        in_fh: u64,
        from_offset: u64,
        out_ino: u64,
        out_fh: u64,
        to_offset: u64,
        length: u64,
        done: impl FnOnce(Result<u64, Errno>) + Send + 'static,
    ) {
        let from = tri!(self.files.get(in_fh), done);
        let to = tri!(self.files.get(out_fh), done);
        if let Some(node) = [from.node, to.node].into_iter().find(|node| self.behind.is_pending(*node)) {
            let again = move |vfs: &Arc<Vfs>, done| {
                let from = (in_ino, in_fh, from_offset);
                let to = (out_ino, out_fh, to_offset);
                vfs.copy_file_range(caller, from.0, from.1, from.2, to.0, to.1, to.2, length, done);
            };
            return self.after_writes(caller, node, Patience::Bounded, done, again);
        }
        let token = self.cache.begin_fill();
        let vfs = Arc::clone(self);
        let request = Request::CopyRange { from: from.fh, from_offset, to: to.fh, to_offset, length };
        self.call(caller, to.node, request, move |outcome| {
            to.unsynced.changed();
            vfs.cache.blocks.changed(to.node, to_offset..to_offset.saturating_add(length));
            done(vfs.written(token, outcome).and_then(|written| match written.size <= length {
                true => Ok(written.size),
                false => Err(Errno::EIO), // The server is broken.
            }));
        });
    }

    /// Finds the next data or hole (lseek(2) with `SEEK_DATA` or `SEEK_HOLE`).
    pub fn lseek(
        self: &Arc<Self>,
        caller: Caller,
        _ino: u64,
        fh: u64,
        offset: i64,
        whence: i32,
        done: impl FnOnce(Result<i64, Errno>) + Send + 'static,
    ) {
        let file = tri!(self.files.get(fh), done);
        if self.behind.is_pending(file.node) {
            let again = move |vfs: &Arc<Vfs>, done| vfs.lseek(caller, _ino, fh, offset, whence, done);
            return self.after_writes(caller, file.node, Patience::Bounded, done, again);
        }
        let target = match whence {
            libc::SEEK_DATA => SeekTarget::Data,
            libc::SEEK_HOLE => SeekTarget::Hole,
            _ => return done(Err(Errno::EINVAL)),
        };
        let Ok(offset) = u64::try_from(offset) else { return done(Err(Errno::ENXIO)) };
        self.call(caller, file.node, Request::Seek { fh: file.fh, offset, target }, |outcome| {
            done(outcome.and_then(|(reply, _)| match reply {
                Reply::Offset(found) => i64::try_from(found).map_err(|_| Errno::EOVERFLOW),
                other => Err(unexpected(&other)),
            }));
        });
    }

    /// Takes the outcome of a write or a copy into the caches.
    fn written(&self, token: FillToken, outcome: Outcome) -> Result<Written, Errno> {
        match outcome?.0 {
            Reply::Written(written) => {
                self.changed(token, written.before, &written.attr);
                Ok(written)
            }
            other => Err(unexpected(&other)),
        }
    }
}
