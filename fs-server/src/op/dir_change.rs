//! What becomes of directories whose names are changed, for the client that changes them.

use std::os::fd::AsFd;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::message::DirChange;
use nearfs_protocol::name::Name;

use crate::export::{Export, Seen};
use crate::identity;
use crate::session_files::{At, SessionFiles};

/// A directory whose names are about to be changed.
pub(crate) struct Changing<'a> {
    export: &'a Export,
    directory: &'a At,
    name: &'a Name,
    before: Change,
    /// What had happened to its names before; nothing if it cannot be watched.
    seen: Option<Seen>,
}

impl SessionFiles {
    /// Looks at a directory before one of its names is changed.
    pub(crate) fn changing_name<'a>(
        &'a self,
        (node, name): (Node, &'a Name),
        directory: &'a At,
    ) -> Result<Changing<'a>, Errno> {
        let export = &self.tree.export;
        let watch = || identity::as_server(|| export.watch(directory.as_fd(), node));
        let seen = export.witness.seen(node).or_else(watch);
        let before = export.attr(directory)?.change;
        Ok(Changing { export, directory, name, before, seen })
    }
}

impl Changing<'_> {
    /// Looks again after the change. `events`: how many names appeared and disappeared in the directory.
    pub(crate) fn done(self, events: u64) -> Result<Box<DirChange>, Errno> {
        let Changing { export, directory, name, before, seen } = self;
        let attr = export.attr(directory)?;
        let alone = seen.is_some_and(|seen| {
            export.wait_for_changes_of_names(directory, name);
            export.witness.saw_only(seen, events)
        });
        Ok(Box::new(DirChange { before: if alone { before } else { Change::UNSURE }, attr }))
    }
}
