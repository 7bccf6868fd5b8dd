//! Names that move.

use std::os::fd::AsFd;

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
        self.rename_node((parent, name), (new_parent, new_name), mode)?;
        Ok(Reply::Done.into())
    }

    /// The same for whoever has more to say.
    pub(crate) fn rename_node(
        &self,
        (parent, name): (Node, &Name),
        (new_parent, new_name): (Node, &Name),
        mode: RenameMode,
    ) -> Result<(), Errno> {
        let (from, to) = (self.reach(parent)?, self.reach(new_parent)?);
        let (c_name, new_c_name) = (c_name(name)?, c_name(new_name)?);
        self.tree.export.rename((from.as_fd(), &c_name), (to.as_fd(), &new_c_name), mode)?;
        self.note_place(&to, new_parent, new_name);
        match mode {
            RenameMode::Replace | RenameMode::NoReplace => {}
            RenameMode::Exchange => self.note_place(&from, parent, name),
        }
        Ok(())
    }

    /// Remembers under which name a node is found, whichever session knows it. If that fails it is found the longer way.
    fn note_place(&self, directory: &At, parent: Node, name: &Name) {
        let attr = c_name(name).and_then(|c_name| self.tree.export.attr_of(directory, &c_name));
        if let Ok(attr) = attr {
            self.tree.nodes.moved(attr.node, named(parent, name));
        }
    }
}
