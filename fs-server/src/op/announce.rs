//! Transfers that are announced, and what operations move for them.

use nearfs_protocol::id::{Fh, Node, TransferId};
use nearfs_protocol::limits::SHOWN_PATH_BYTES_MAX;
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::name::Name;
use nearfs_protocol::roster::{TransferKind, TransferOutcome};

use super::Outcome;
use crate::node::Place;
use crate::op::Response;
use crate::session_files::SessionFiles;
use crate::transfers::{Announcement, End, Passed, Target};

/// Most directories above a name that are looked at.
const ABOVE_MAX: usize = 256;

impl SessionFiles {
    pub(crate) fn announce(
        &self,
        kind: TransferKind,
        (parent, name): (Node, &Name),
        total_bytes: u64,
        fh: Option<Fh>,
    ) -> Outcome {
        self.known.check(parent)?;
        if let Some(fh) = fh {
            self.files.get(fh)?;
        }
        let above = self.above(parent);
        let announcement = Announcement {
            session: self.session,
            by: self.client(),
            kind,
            path: shown(&above, name),
            above,
            target: (parent, name.clone()),
            total_bytes,
        };
        Ok(match self.transfers.begin(&self.tree.transfers, announcement, fh)? {
            Ok(transfer) => Reply::Announced(transfer.id).into(),
            Err(busy) => Reply::Busy(busy).into(),
        })
    }

    pub(crate) fn count_file(&self, transfer: TransferId, fh: Fh) -> Outcome {
        self.files.get(fh)?;
        self.transfers.count_file(transfer, fh)?;
        Ok(Reply::Done.into())
    }

    pub(crate) fn end_transfer(&self, transfer: TransferId, outcome: TransferOutcome) -> Outcome {
        let ended = self.transfers.end(&self.tree.transfers, transfer, End::Told(outcome))?;
        Ok(Reply::Transferred(ended.tally()).into())
    }

    /// Counts what an answered request, which had so many bytes of payload, moved for the session's transfers.
    pub(crate) fn count_passed(&self, request: &Request, sent_bytes: usize, response: &Response) {
        if !self.transfers.is_any() {
            return;
        }
        if let (Request::Create { name, .. }, Ok(Reply::Created { fh, .. })) = (request, &response.answer)
            && name.is_journal()
        {
            self.transfers.pass_over(*fh);
        }
        if let Some(passed) = passed(request, sent_bytes, response) {
            self.transfers.passed(passed);
        }
    }

    /// Where a name is, from the session's root on, as far as the server remembers places: for people to read.
    pub(crate) fn shown_path(&self, parent: Node, name: &Name) -> Box<[u8]> {
        shown(&self.above(parent), name)
    }

    /// A directory and those above it, nearest first, each as a name in the one above it.
    fn above(&self, directory: Node) -> Vec<Target> {
        let (mut above, mut at) = (Vec::new(), directory);
        while at != self.root
            && above.len() < ABOVE_MAX
            && let Ok((_, Place::Named(parent, name))) = self.tree.nodes.place(at)
        {
            at = parent;
            above.push((parent, name));
        }
        above
    }
}

/// A path's end, as long as it may be.
fn shown(above: &[Target], name: &Name) -> Box<[u8]> {
    let names = above.iter().rev().map(|(_, name)| name).chain([name]);
    let path: Vec<_> = names.map(Name::as_bytes).collect();
    let path = path.join(&b'/');
    path[path.len().saturating_sub(SHOWN_PATH_BYTES_MAX)..].into()
}

/// What a request moved, if it has succeeded and is one that moves something. A file that will get another name counts
/// when it gets that.
fn passed<'a>(request: &'a Request, sent_bytes: usize, response: &Response) -> Option<Passed<'a>> {
    let reply = response.answer.as_ref().ok()?;
    let payload_bytes = response.payload.len() as u64;
    let (kind, fh, bytes, files) = match request {
        Request::Read { fh, .. } => (TransferKind::Download, Some(*fh), payload_bytes, 0),
        Request::Write { fh, .. } | Request::CopyRange { to: fh, .. } => {
            let Reply::Written(written) = reply else { return None };
            (TransferKind::Upload, Some(*fh), written.size, 0)
        }
        Request::Create { name, .. } if name.is_staged() || name.is_journal() => return None,
        Request::Open { flags, .. } | Request::Create { flags, .. } => {
            let reads = flags & libc::O_ACCMODE as u32 == libc::O_RDONLY as u32;
            let kind = if reads { TransferKind::Download } else { TransferKind::Upload };
            (kind, None, payload_bytes, 1)
        }
        Request::Lookup { .. } => {
            let Reply::Entry { fh: Some(_), .. } = reply else { return None };
            (TransferKind::Download, None, payload_bytes, 1)
        }
        Request::Fetch { .. } => (TransferKind::Download, None, payload_bytes, 1),
        Request::Store { name, .. } => {
            (TransferKind::Upload, None, sent_bytes as u64, u64::from(!name.is_staged()))
        }
        Request::Publish { .. } => {
            let Reply::Published { refusals } = reply else { return None };
            let published = refusals.iter().filter(|refusal| refusal.is_none()).count();
            (TransferKind::Upload, None, 0, published as u64)
        }
        Request::Unlink { .. } => (TransferKind::Delete, None, 0, 1),
        Request::Forget { .. }
        | Request::GetAttr { .. }
        | Request::SetAttr { .. }
        | Request::Access { .. }
        | Request::ReadLink { .. }
        | Request::Symlink { .. }
        | Request::Link { .. }
        | Request::MakeNode { .. }
        | Request::MakeDir { .. }
        | Request::RemoveDir { .. }
        | Request::Rename { .. }
        | Request::CreateUnnamed { .. }
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
        | Request::GetLock { .. }
        | Request::SetLock { .. }
        | Request::HashRange { .. }
        | Request::ListSessions { .. }
        | Request::Kick { .. }
        | Request::Announce { .. }
        | Request::CountFile { .. }
        | Request::EndTransfer { .. }
        | Request::Report { .. } => return None,
    };
    let removed = if let Request::Unlink { parent, name } = request { Some((*parent, name)) } else { None };
    Some(Passed { kind, removed, fh, bytes, files })
}
