//! Files that appear under their names when they are complete and on the disk.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::limits::PUBLISHED_MAX;
use nearfs_protocol::message::{Publication, RenameMode, Reply};

use super::Outcome;
use super::open::only_regular;
use crate::export::{Opening, c_name};
use crate::identity;
use crate::session_files::{At, SessionFiles};

/// So few files are synced one by one: what else waits for the disk does not concern them.
const FEW: usize = 4;

/// A directory with staged files.
struct Directory {
    node: Node,
    at: At,
    /// Opened for syncing.
    fd: OwnedFd,
}

impl SessionFiles {
    pub(crate) fn publish(&self, items: &[Publication]) -> Outcome {
        Ok(Reply::Published { refusals: self.publish_rest(items, &HashSet::new())? }.into())
    }

    /// The same where some, by their numbers, have their names already. Why each of the others does not get its own.
    pub(super) fn publish_rest(
        &self,
        items: &[Publication],
        done: &HashSet<usize>,
    ) -> Result<Vec<Option<Errno>>, Errno> {
        let is_sane = items.len() <= PUBLISHED_MAX
            && items.iter().all(|item| match item.mode {
                RenameMode::Replace | RenameMode::NoReplace => true,
                RenameMode::Exchange => false,
            });
        if !is_sane {
            return Err(Errno::EINVAL);
        }
        let directories = self.open_directories(items)?;
        let rest = items.len() - done.len();
        let group_sync = if rest > FEW { self.sync_devices(&directories) } else { Ok(()) };
        let sync = |(number, item): (usize, &Publication)| {
            let directory = directory_of(&directories, item.parent).filter(|_| !done.contains(&number))?;
            group_sync.and_then(|()| self.sync_staged(directory, item, rest <= FEW)).err()
        };
        let mut refusals: Vec<Option<Errno>> = items.iter().enumerate().map(sync).collect();
        for (number, (item, refusal)) in items.iter().zip(&mut refusals).enumerate() {
            if refusal.is_none() && !done.contains(&number) {
                let (from, to) = ((item.parent, &item.staged), (item.parent, &item.name));
                *refusal = self.rename_node(from, to, item.mode).err();
            }
        }
        for directory in &directories {
            if let Err(errno) = self.tree.export.sync(&directory.fd, false) {
                refuse_all(items, &mut refusals, directory.node, errno);
            }
        }
        Ok(refusals)
    }

    /// Each directory once.
    fn open_directories(&self, items: &[Publication]) -> Result<Vec<Directory>, Errno> {
        let mut directories: Vec<Directory> = Vec::new();
        for item in items {
            if directory_of(&directories, item.parent).is_none() {
                let at = self.reach(item.parent)?;
                // Syncing takes no right to list.
                let fd = identity::as_server(|| self.tree.export.open_dir(at.as_fd()))?;
                directories.push(Directory { node: item.parent, at, fd });
            }
        }
        Ok(directories)
    }

    /// Syncs the file systems that the directories are on, each once for all who ask at the same time.
    fn sync_devices(&self, directories: &[Directory]) -> Result<(), Errno> {
        let mut synced = Vec::new();
        for directory in directories {
            let (device, _) = self.tree.export.device_of(directory.fd.as_fd())?;
            if !synced.contains(&device) {
                self.tree.group_sync.sync(device, || self.tree.export.sync_device(&directory.fd))?;
                synced.push(device);
            }
        }
        Ok(())
    }

    /// Makes sure that a staged file is a file and on the disk: by syncing it, or by asking what became of it when
    /// everything was.
    fn sync_staged(&self, directory: &Directory, item: &Publication, by_itself: bool) -> Result<(), Errno> {
        let export = &self.tree.export;
        let name: CString = c_name(&item.staged)?;
        let fd = identity::as_server(|| export.open_name(&directory.at, &name, Opening::READ))?;
        only_regular(export.attr(&fd)?.kind)?;
        if by_itself { export.sync(&fd, false) } else { export.await_written(&fd) }
    }
}

fn directory_of(directories: &[Directory], node: Node) -> Option<&Directory> {
    directories.iter().find(|directory| directory.node == node)
}

/// What was renamed has its name, but not for certain.
fn refuse_all(items: &[Publication], refusals: &mut [Option<Errno>], parent: Node, errno: Errno) {
    for (item, refusal) in items.iter().zip(refusals) {
        if item.parent == parent && refusal.is_none() {
            *refusal = Some(errno);
        }
    }
}
