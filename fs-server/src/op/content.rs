//! Content of open files: read, written, synced, allocated.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nearfs_protocol::attr::{Attr, LockStyle};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, RequestId};
use nearfs_protocol::limits::PAYLOAD_BYTES_MAX;
use nearfs_protocol::message::{Reply, SeekTarget, WriteAt, WriteSync, Written};

use super::{Outcome, Stop};
use crate::export::{Patience, Spread};
use crate::handle::OpenFile;
use crate::lock::Owner;
use crate::op::{Pace, Response};
use crate::session_files::SessionFiles;

/// A larger write takes longer than handing it to another thread, which then does not hold up others.
const QUICK_WRITE_BYTES_MAX: usize = 256 * 1024;

impl SessionFiles {
    pub(crate) fn read(&self, fh: Fh, offset: u64, size: u32, pace: Pace) -> Outcome {
        let file = self.files.get(fh)?;
        if !file.readable {
            return Err(Errno::EBADF.into());
        }
        if size as usize > PAYLOAD_BYTES_MAX {
            return Err(Errno::EINVAL.into());
        }
        let change = self.tree.export.attr(&*file)?.change;
        let mut payload = self.pool.take(size as usize);
        let patience = match pace {
            Pace::Quick => Patience::Cached,
            Pace::Slow => Patience::Disk,
        };
        let count = match self.read_into(&file, &mut payload, offset, patience) {
            Err(Errno::EAGAIN) if pace == Pace::Quick => return Err(Stop::MaySleep),
            count => count?,
        };
        payload.truncate(count);
        Ok(Response { answer: Ok(Reply::Read { change }), payload })
    }

    /// Fills room from a file. With [`Patience::Cached`] `EAGAIN` means that the disk has to be waited for.
    pub(crate) fn read_into(
        &self,
        file: &OpenFile,
        room: &mut [u8],
        offset: u64,
        patience: Patience,
    ) -> Result<usize, Errno> {
        let export = &self.tree.export;
        if patience == Patience::Disk || file.always_cached.load(Ordering::Relaxed) {
            return export.read(file, room, offset, Patience::Disk);
        }
        match export.read(file, room, offset, Patience::Cached) {
            Err(Errno::EOPNOTSUPP) => {
                file.always_cached.store(true, Ordering::Relaxed);
                export.read(file, room, offset, Patience::Disk)
            }
            count => count,
        }
    }

    pub(crate) fn write(
        &self,
        id: RequestId,
        fh: Fh,
        (at, sync): (WriteAt, WriteSync),
        bytes: &[u8],
        pace: Pace,
    ) -> Outcome {
        let file = self.files.get(fh)?;
        if !file.writable {
            return Err(Errno::EBADF.into());
        }
        let sync = stricter(sync, file.sync);
        let began = Instant::now();
        let sleeps =
            sync != WriteSync::None || bytes.len() > QUICK_WRITE_BYTES_MAX || self.tree.disk().is_busy(began);
        if pace == Pace::Quick && sleeps {
            return Err(Stop::MaySleep);
        }
        let export = &self.tree.export;
        let _changing = self.changing(file.node, pace)?;
        let Attr { change: before, size: end, .. } = export.attr(&*file)?;
        let (offset, size) = match at {
            WriteAt::Offset(offset) => {
                let written = file.written(sync, export.write(&*file, bytes, offset, sync));
                (offset, self.noting_failure(fh, &file, written)?)
            }
            WriteAt::End => {
                self.intend_append(id, fh, end, bytes.len() as u64)?;
                let written = file.written(sync, export.append(&*file, bytes, sync));
                self.noting_failure(fh, &file, written)?
            }
        };
        let attr = export.attr(&*file)?;
        self.tree.disk().wrote(began);
        Ok(Reply::Written(Written { size: size as u64, offset, before, attr }).into())
    }

    pub(crate) fn flush(&self, fh: Fh, owner: u64) -> Outcome {
        let file = self.files.get(fh)?;
        let owner = Owner { session: self.session, owner };
        self.tree.locks.release(file.node.id, LockStyle::Posix, owner);
        Ok(Reply::Done.into())
    }

    pub(crate) fn fsync(&self, fh: Fh, data_only: bool) -> Outcome {
        let file = self.files.get(fh)?;
        let synced = file.synced(|| self.tree.export.sync(&*file, data_only));
        self.noting_failure(fh, &file, synced)?;
        Ok(Reply::Done.into())
    }

    pub(crate) fn allocate(&self, fh: Fh, mode: u32, part: Spread, pace: Pace) -> Outcome {
        let file = self.files.get(fh)?;
        if !file.writable {
            return Err(Errno::EBADF.into());
        }
        let export = &self.tree.export;
        let _changing = self.changing(file.node, pace)?;
        let before = export.attr(&*file)?.change;
        export.allocate(&*file, mode, part)?;
        Ok(Reply::Changed { before, attr: export.attr(&*file)? }.into())
    }

    pub(crate) fn seek(&self, fh: Fh, offset: u64, target: SeekTarget) -> Outcome {
        let file = self.files.get(fh)?;
        Ok(Reply::Offset(self.tree.export.seek(file.as_fd(), offset, target)?).into())
    }
}

fn stricter(one: WriteSync, other: WriteSync) -> WriteSync {
    match (one, other) {
        (WriteSync::All, _) | (_, WriteSync::All) => WriteSync::All,
        (WriteSync::Data, _) | (_, WriteSync::Data) => WriteSync::Data,
        (WriteSync::None, WriteSync::None) => WriteSync::None,
    }
}
