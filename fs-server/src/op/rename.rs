//! Names that move.

use std::os::fd::AsFd;

use nearfs_protocol::attr::Attr;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::message::{RenameMode, Reply};
use nearfs_protocol::name::Name;

use super::Outcome;
use crate::export::c_name;
use crate::session_files::{At, SessionFiles};
use crate::tree::named;

impl SessionFiles {
    pub(crate) fn rename(
        &self,
        (parent, name): (Node, &Name),
        (new_parent, new_name): (Node, &Name),
        mode: RenameMode,
    ) -> Outcome {
        Ok(self.rename_node((parent, name), (new_parent, new_name), mode)?.into())
    }

    /// The same for whoever has more to say.
    pub(crate) fn rename_node(
        &self,
        (parent, name): (Node, &Name),
        (new_parent, new_name): (Node, &Name),
        mode: RenameMode,
    ) -> Result<Reply, Errno> {
        let (from, to) = (self.reach(parent)?, self.reach(new_parent)?);
        let (c_name, new_c_name) = (c_name(name)?, c_name(new_name)?);
        // A name that is there when all is done is looked up faster than one that is gone.
        let remaining = if new_parent == parent { new_name } else { name };
        let changing = self.changing_name((parent, remaining), &from)?;
        let changing_other =
            if new_parent == parent { None } else { Some(self.changing_name((new_parent, new_name), &to)?) };
        self.tree.export.rename((from.as_fd(), &c_name), (to.as_fd(), &new_c_name), mode)?;
        let moved = self.note_place(&to, new_parent, new_name);
        let names = match mode {
            RenameMode::Replace | RenameMode::NoReplace => 1,
            RenameMode::Exchange => {
                self.note_place(&from, parent, name);
                2
            }
        };
        let to = changing_other.map(|changing| changing.done(names)).transpose()?;
        let from = changing.done(if to.is_some() { names } else { 2 * names })?;
        Ok(Reply::Renamed { moved, from, to })
    }

    /// Remembers under which name a node is found, whichever session knows it. If that fails it is found the longer way.
    pub(super) fn note_place(&self, directory: &At, parent: Node, name: &Name) -> Option<Attr> {
        let attr = c_name(name).and_then(|c_name| self.tree.export.attr_of(directory, &c_name)).ok()?;
        let place = named(parent, name);
        if let Some(kind) = self.tree.nodes.moved(attr.node, &place) {
            self.note_moved(attr.node, kind, &place);
        }
        Some(attr)
    }
}
