//! Copies between open files, on the server.

use std::os::fd::AsFd;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Fh;
use nearfs_protocol::message::{Reply, Written};

use super::Outcome;
use crate::op::Pace;
use crate::session_files::SessionFiles;

/// Most bytes of one copy: about a tenth of a second. Programs expect to have to go on.
const COPY_BYTES_MAX: u64 = 64 * 1024 * 1024;

impl SessionFiles {
    pub(crate) fn copy_range(
        &self,
        (from, from_offset): (Fh, u64),
        (to, to_offset): (Fh, u64),
        length: u64,
        pace: Pace,
    ) -> Outcome {
        let (source, target) = (self.files.get(from)?, self.files.get(to)?);
        if !source.readable || !target.writable {
            return Err(Errno::EBADF.into());
        }
        let export = &self.tree.export;
        let _changing = self.changing(target.node, pace)?;
        let before = export.attr(&*target)?.change;
        let size = export.copy(
            (source.as_fd(), from_offset),
            (target.as_fd(), to_offset),
            length.min(COPY_BYTES_MAX),
        )?;
        let attr = export.attr(&*target)?;
        Ok(Reply::Written(Written { size, offset: to_offset, before, attr }).into())
    }
}
