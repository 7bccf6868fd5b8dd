//! What a name leads to, as briefly as it can be asked.

use std::ffi::CStr;
use std::os::fd::AsFd;

use nearfs_protocol::attr::{FileKind, Time};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::NodeId;
use rustix::fs::{AtFlags, StatxFlags};
use serde::{Deserialize, Serialize};

use super::Export;
use super::stat::{device_number, kind_of_mode, time};
use crate::errno::from_os;

const WANTED: StatxFlags =
    StatxFlags::INO.union(StatxFlags::TYPE).union(StatxFlags::NLINK).union(StatxFlags::BTIME);

/// An inode, told apart from all others that had its number if its file system knows when it was born.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inode {
    device: (u32, u32),
    number: u64,
    born: Option<Time>,
}

/// An inode that a name leads to, and whether that is its last name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    pub(crate) inode: Inode,
    pub(crate) id: NodeId,
    pub(crate) kind: FileKind,
    pub(super) links: u32,
}

impl Export {
    /// Looks where a name leads.
    pub(crate) fn glance(&self, directory: impl AsFd, name: &CStr) -> Result<Glance, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(&directory, name, flags, WANTED).map_err(from_os)?;
        let number = device_number(&stat);
        let device = match self.devices.known(number) {
            Some(device) => device,
            None => self.meet_device(number, directory.as_fd(), name)?,
        };
        let born = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = born.then(|| time(stat.stx_btime));
        Ok(Glance {
            inode: Inode { device: number, number: stat.stx_ino, born },
            id: self.fold(number, device, stat.stx_ino)?,
            kind: kind_of_mode(u32::from(stat.stx_mode)),
            links: stat.stx_nlink,
        })
    }
}
