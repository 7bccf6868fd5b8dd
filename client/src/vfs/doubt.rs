//! Changes that were given up before their outcome was known: what they concern is not trusted.

use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::message::Request;

use crate::rpc::abandon::{Doubt, DoubtStage};
use crate::vfs::Vfs;
use crate::vfs::types::Invalidation;

impl Vfs {
    /// Lets go of what is remembered, at once and again when the outcome is known: what was asked for in between may
    /// be from before the change. The kernel hears of it only then. Its caches wait for locks that other callers
    /// hold until the server answers.
    pub(crate) fn doubt(&self, doubt: &Doubt, stage: DoubtStage) {
        let names = if doubt.request.changes() { doubt.request.names() } else { Vec::new() };
        for (parent, name) in names {
            self.cache.unlinked(parent, name);
            self.distrust_now(parent, stage);
            if stage == DoubtStage::Settled {
                let (parent, name) = (self.nodes.ino(parent.id), name.as_bytes().to_vec());
                self.notify(Invalidation::Entry { parent, name });
            }
        }
        if changes_node(&doubt.request)
            && let Ok(node) = self.nodes.node(doubt.ino)
        {
            self.distrust_now(node, stage);
        }
        if let Request::Link { node, .. } = &doubt.request {
            self.distrust_now(*node, stage);
        }
    }

    fn distrust_now(&self, node: Node, stage: DoubtStage) {
        self.cache.invalidate(node);
        self.nodes.pages_rebased(node, Change::UNSURE, Change::UNSURE);
        if stage == DoubtStage::Settled {
            self.notify(Invalidation::Node { ino: self.nodes.ino(node.id) });
        }
    }
}

/// Whether a request may have changed the node that it is about, apart from names in it. An open may have cut the file
/// off (`O_TRUNC`).
fn changes_node(request: &Request) -> bool {
    matches!(
        request,
        Request::SetAttr { .. }
            | Request::Open { .. }
            | Request::Write { .. }
            | Request::SetXattr { .. }
            | Request::RemoveXattr { .. }
            | Request::Allocate { .. }
            | Request::CopyRange { .. }
    )
}
