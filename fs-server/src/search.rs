//! Nodes that others moved past the server, looked for in the whole export where file handles find nothing.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Node, NodeId};
use nearfs_protocol::name::Name;

use crate::export::{Listed, c_name};
use crate::node::{Held, Place};
use crate::tree::{Tree, named};

/// Most names that are looked at ...
const NAMES_MAX: usize = 1_000_000;
/// ... and for how long: meanwhile nobody is served.
const TIME_MAX: Duration = Duration::from_secs(3);
/// Most directories above a name.
const DEPTH_MAX: usize = 1024;
/// Bytes of the kernel's entries that are asked for at once.
const RAW_BYTES: usize = 32 * 1024;

/// Nodes that are not where they were.
type Missing = HashMap<NodeId, Node>;

/// A directory that is still to be searched: how it is reached, from the root on.
struct Next {
    parent: Arc<Held>,
    name: Name,
    above: Arc<Step>,
}

/// A directory on the way down.
struct Step {
    node: Node,
    place: Place,
    above: Option<Arc<Step>>,
    depth: usize,
}

/// How much is left to look at.
struct Bounds {
    names_left: usize,
    due: Instant,
}

impl Tree {
    /// Looks for nodes that are not where they were, and remembers where they are; what is not found stays lost. To be
    /// called before anybody is served, with the server's own rights.
    pub(crate) fn find_moved(&self, nodes: impl IntoIterator<Item = Node>) {
        let is_missing =
            |node: &Node| self.reach(*node).is_err() && self.export.open_unnamed(node.id).is_err();
        let mut missing: Missing = nodes.into_iter().filter(is_missing).map(|node| (node.id, node)).collect();
        if missing.is_empty() {
            return;
        }
        let count = missing.len();
        let mut bounds = Bounds { names_left: NAMES_MAX, due: Instant::now() + TIME_MAX };
        let mut to_search = Vec::new();
        if let Ok(root) = self.export.descend(&[]) {
            let root = Arc::new(Held::uncounted(root));
            // What is below a directory that the server may not read cannot be found.
            let place = Place::Root(root.clone());
            _ = self.search(&root, (place, None), &mut missing, &mut to_search, &mut bounds);
        }
        while let Some(Next { parent, name, above }) = to_search.pop() {
            if missing.is_empty() || bounds.are_reached() {
                break;
            }
            let Ok(fd) = c_name(&name).and_then(|name| self.export.open_path(&parent, &name)) else {
                continue;
            };
            let directory = Arc::new(Held::uncounted(fd));
            let place = named(above.node, &name);
            _ = self.search(&directory, (place, Some(above)), &mut missing, &mut to_search, &mut bounds);
        }
        log::info!("{} of {count} nodes that were moved meanwhile were found", count - missing.len());
    }

    /// Looks at the names of one directory.
    fn search(
        &self,
        directory: &Arc<Held>,
        (place, above): (Place, Option<Arc<Step>>),
        missing: &mut Missing,
        to_search: &mut Vec<Next>,
        bounds: &mut Bounds,
    ) -> Result<(), Errno> {
        let depth = above.as_ref().map_or(0, |above| above.depth + 1);
        let step = Arc::new(Step { node: self.export.attr(directory)?.node, place, above, depth });
        let (number, device) = self.export.device_of(directory.as_fd())?;
        let stream = self.export.open_dir(directory.as_fd())?;
        let mut room = [MaybeUninit::uninit(); RAW_BYTES];
        loop {
            let any = self.export.read_dir(stream.as_fd(), &mut room, |listed: Listed<'_>| {
                bounds.names_left = bounds.names_left.saturating_sub(1);
                let Ok(name) = Name::new(listed.name.to_bytes()) else { return Ok(()) };
                if missing.contains_key(&self.export.fold(number, device, listed.ino)?)
                    && let Ok(attr) = self.export.attr_of(directory, listed.name)
                    && missing.get(&attr.node.id) == Some(&attr.node)
                {
                    missing.remove(&attr.node.id);
                    step.hold(self);
                    self.nodes.moved(attr.node, &named(step.node, &name));
                }
                if matches!(listed.kind, Some(FileKind::Directory) | None) && depth < DEPTH_MAX {
                    to_search.push(Next { parent: directory.clone(), name, above: step.clone() });
                }
                Ok(())
            })?;
            if !any || bounds.are_reached() {
                return Ok(());
            }
        }
    }
}

impl Step {
    /// Has the tree know it, and those above it, as long as the server runs: something is found by them.
    fn hold(&self, tree: &Tree) {
        let mut next = Some(self);
        while let Some(step) = next {
            tree.nodes.found(step.node, FileKind::Directory, &step.place, true);
            next = step.above.as_deref();
        }
    }
}

impl Bounds {
    fn are_reached(&self) -> bool {
        self.names_left == 0 || Instant::now() >= self.due
    }
}
