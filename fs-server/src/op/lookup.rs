//! Names to nodes, and back to forgotten.

use std::os::fd::AsFd;
use std::sync::Arc;

use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::limits::BATCH_ITEMS_MAX;
use nearfs_protocol::message::{AlsoOpen, Reply};
use nearfs_protocol::name::Name;

use super::Outcome;
use crate::export::{Opening, c_name};
use crate::session_files::{At, SessionFiles};
use crate::tree::named;

impl SessionFiles {
    pub(crate) fn lookup(
        self: &Arc<Self>,
        parent: Node,
        name: &Name,
        also_open: Option<AlsoOpen>,
    ) -> Outcome {
        let directory = self.reach(parent)?;
        let attr = self.meet(&directory, parent, name)?;
        if let Some(AlsoOpen { content_bytes_max }) = also_open
            && attr.kind == FileKind::File
            && let Ok((fd, attr)) = self.open_by_name((directory.as_fd(), name), attr.node, Opening::READ)
            && let Ok(slot) = self.slot()
        {
            let opened = self.opened(fd, attr, Opening::READ, slot);
            return self.answer_opened(opened, content_bytes_max, |attr, fh, whole| Reply::Entry {
                attr,
                fh: Some(fh),
                whole,
            });
        }
        Ok(Reply::Entry { attr, fh: None, whole: false }.into())
    }

    /// Finds out what a name leads to, which counts one lookup. Its descriptor is held from here on: a file whose name is
    /// given to another before it is opened is still the one that was found.
    pub(crate) fn meet(&self, directory: &At, parent: Node, name: &Name) -> Result<Attr, Errno> {
        let fd = self.tree.export.open_path(directory, &c_name(name)?)?;
        let attr = self.tree.export.attr(&fd)?;
        self.count(&attr, &named(parent, name));
        self.tree.hold(attr.node, fd);
        Ok(attr)
    }

    pub(crate) fn forget(&self, nodes: &[(Node, u64)]) -> Outcome {
        if nodes.len() > BATCH_ITEMS_MAX {
            return Err(Errno::EINVAL.into());
        }
        for &(node, lookups) in nodes.iter().filter(|(node, _)| *node != self.root) {
            self.known.forget(node, lookups, |left| match left {
                0 => {
                    self.tree.nodes.forget(node);
                    self.note_forgotten(node);
                }
                _ => self.note_given_back(node, lookups),
            });
        }
        Ok(Reply::Done.into())
    }
}
