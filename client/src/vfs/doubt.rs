//! Changes that were given up before their outcome was known: what they concern is not trusted.

use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::message::Request;
use nearfs_protocol::name::Name;

use crate::rpc::abandon::{Doubt, DoubtStage};
use crate::vfs::Vfs;
use crate::vfs::types::Invalidation;

impl Vfs {
    /// Lets go of what is remembered, at once and again when the outcome is known: what was asked for in between may
    /// be from before the change. The kernel hears of it only then. Its caches wait for locks that other callers
    /// hold until the server answers.
    pub(crate) fn doubt(&self, doubt: &Doubt, stage: DoubtStage) {
        for (parent, name) in places(&doubt.request) {
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

/// The names that a request may have changed.
fn places(request: &Request) -> Vec<(Node, &Name)> {
    match request {
        Request::Symlink { parent, name, .. }
        | Request::MakeNode { parent, name, .. }
        | Request::MakeDir { parent, name, .. }
        | Request::Unlink { parent, name }
        | Request::RemoveDir { parent, name }
        | Request::Create { parent, name, .. }
        | Request::Store { parent, name, .. } => vec![(*parent, name)],
        Request::Publish { items } => {
            items.iter().flat_map(|item| [(item.parent, &item.staged), (item.parent, &item.name)]).collect()
        }
        Request::Link { new_parent, new_name, .. } => vec![(*new_parent, new_name)],
        Request::Rename { parent, name, new_parent, new_name, .. } => {
            vec![(*parent, name), (*new_parent, new_name)]
        }
        Request::Lookup { .. }
        | Request::Forget { .. }
        | Request::GetAttr { .. }
        | Request::SetAttr { .. }
        | Request::Access { .. }
        | Request::ReadLink { .. }
        | Request::Open { .. }
        | Request::CreateUnnamed { .. }
        | Request::Read { .. }
        | Request::Write { .. }
        | Request::Flush { .. }
        | Request::Fsync { .. }
        | Request::Release { .. }
        | Request::ReadDir { .. }
        | Request::FsyncDir { .. }
        | Request::StatFs { .. }
        | Request::GetXattr { .. }
        | Request::SetXattr { .. }
        | Request::ListXattr { .. }
        | Request::RemoveXattr { .. }
        | Request::Allocate { .. }
        | Request::Seek { .. }
        | Request::CopyRange { .. }
        | Request::GetLock { .. }
        | Request::SetLock { .. }
        | Request::HashRange { .. }
        | Request::Fetch { .. }
        | Request::ListSessions { .. }
        | Request::Kick { .. }
        | Request::Announce { .. }
        | Request::CountFile { .. }
        | Request::EndTransfer { .. } => Vec::new(),
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
