//! What is noted of a session as it goes, and what comes of it all.

use std::collections::{BTreeMap, HashMap};

use nearfs_protocol::attr::{FileKind, Lock};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::GrantedLimits;
use nearfs_protocol::id::{Fh, Node, NodeId, RequestId, SessionId, SessionToken};
use nearfs_protocol::message::WriteSync;
use nearfs_protocol::name::Name;
use serde::{Deserialize, Serialize};

use super::slot::Outcome;
use crate::export::StoredHandle;
use crate::lock::LockTable;

/// Something that happened in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// It began. Comes first, and only once.
    Begun(Begun),
    /// A node was looked up, or has another name.
    Known { node: Node, found: Found },
    /// A node was moved by this session, which need not know it.
    Moved { node: Node, found: Found },
    /// All lookups of a node were given back.
    Forgotten(Node),
    /// A file was opened.
    Opened { fh: Fh, file: Opened },
    /// It was closed.
    Closed(Fh),
    /// A lock was set or given back.
    Locked(NodeId, Lock),
    /// Others have got the locks that it held of a node: its files of that are shut.
    Fenced(NodeId),
    /// Numbers of open files up to this one were given out.
    Numbered(Fh),
    /// How far a mutation is, where that is too long for its slot; begun means that the slot says it all.
    Aside { request: RequestId, outcome: Outcome },
    /// A known node was looked up so often again.
    Counted { node: Node, lookups: u64 },
    /// So many lookups of a node were given back, and not all.
    GivenBack { node: Node, lookups: u64 },
    /// Something that was written through an open file may never reach the disk.
    Failed { fh: Fh, errno: Errno },
}

/// What a session is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) session: SessionId,
    pub(crate) token: SessionToken,
    pub(crate) limits: GrantedLimits,
    /// What its client calls itself.
    pub(crate) client: String,
    /// The user who was admitted.
    pub(crate) uid: Option<u32>,
    pub(crate) is_shell: bool,
    /// As others read it who are told that it is in their way.
    pub(crate) shown: String,
    /// From the export's root to the session's.
    pub(crate) path: Vec<Name>,
    pub(crate) root: Node,
}

/// How a node is found again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) kind: FileKind,
    /// In which directory, under which name; `None` if it has no name.
    pub(crate) place: Option<(Node, Name)>,
    /// Of several sessions' places the one with the highest number is the newest.
    pub(crate) order: u64,
    /// By which a directory is found wherever it has been moved, if the server may use it.
    pub(crate) handle: Option<StoredHandle>,
}

impl Found {
    /// The same node, found at another place.
    fn found_again(&mut self, found: Found) {
        let handle = found.handle.or_else(|| self.handle.take());
        *self = Found { handle, ..found };
    }
}

/// How an open file is opened again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) node: Node,
    /// The request that opened it. If its answer was not kept, nobody knows of the file.
    pub(crate) request: RequestId,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) sync: WriteSync,
    pub(crate) handle: Option<StoredHandle>,
    /// Whether nothing may be done through it any more.
    pub(crate) is_shut: bool,
    /// Why something that was written through it may never reach the disk.
    pub(crate) unsafe_since: Option<Errno>,
}

/// A session as its records leave it.
#[derive(Default)]
pub(crate) struct Image {
    pub(crate) begun: Option<Begun>,
    /// With how many lookups, of which some may have been told of twice when the server was killed.
    pub(crate) nodes: HashMap<Node, (Found, u64)>,
    /// Where nodes are that the session does not know but has moved.
    pub(crate) moved: HashMap<Node, Found>,
    pub(crate) files: BTreeMap<Fh, Opened>,
    pub(crate) last_fh: Fh,
    /// By slots, what had no room there.
    aside: HashMap<usize, (RequestId, Outcome)>,
    locks: LockTable,
}

impl Image {
    /// Applies the next record. `None` if it cannot follow those before it.
    pub(crate) fn apply(&mut self, record: Record) -> Option<()> {
        match (record, &self.begun) {
            (Record::Begun(begun), None) => self.begun = Some(begun),
            (Record::Begun(_), Some(_)) | (_, None) => return None,
            (Record::Known { node, found }, Some(_)) => match self.nodes.get_mut(&node) {
                Some((present, _)) => present.found_again(found),
                None => drop(self.nodes.insert(node, (found, 1))),
            },
            (Record::Moved { node, found }, Some(_)) => match self.nodes.get_mut(&node) {
                Some((present, _)) => present.found_again(found),
                None => drop(self.moved.insert(node, found)),
            },
            (Record::Forgotten(node), Some(_)) => {
                self.nodes.remove(&node);
            }
            (Record::Counted { node, lookups }, Some(_)) => {
                if let Some((_, counted)) = self.nodes.get_mut(&node) {
                    *counted = counted.saturating_add(lookups);
                }
            }
            (Record::GivenBack { node, lookups }, Some(_)) => {
                if let Some((_, counted)) = self.nodes.get_mut(&node) {
                    *counted = counted.saturating_sub(lookups).max(1);
                }
            }
            (Record::Opened { fh, file }, Some(_)) => {
                self.files.insert(fh, file);
                self.last_fh = self.last_fh.max(fh);
            }
            (Record::Failed { fh, errno }, Some(_)) => {
                // It may have been closed meanwhile.
                if let Some(file) = self.files.get_mut(&fh) {
                    file.unsafe_since.get_or_insert(errno);
                }
            }
            (Record::Closed(fh), Some(_)) => {
                self.files.remove(&fh);
            }
            (Record::Locked(node, lock), Some(begun)) => {
                self.locks.set(node, begun.session, &lock).ok()?;
            }
            (Record::Fenced(node), Some(begun)) => {
                self.locks.take(begun.session, node);
                let of_node = self.files.values_mut().filter(|file| file.node.id == node);
                of_node.for_each(|file| file.is_shut = true);
            }
            (Record::Numbered(fh), Some(_)) => self.last_fh = self.last_fh.max(fh),
            (Record::Aside { request, outcome: Outcome::Begun }, Some(_)) => {
                self.aside.remove(&request.slot());
            }
            (Record::Aside { request, outcome }, Some(_)) => {
                self.aside.insert(request.slot(), (request, outcome));
            }
        }
        Some(())
    }

    /// How far a mutation is of which its slot says this.
    pub(crate) fn outcome_of(&self, request: RequestId, in_slot: Outcome) -> Outcome {
        let aside = self.aside.get(&request.slot()).filter(|(of, _)| *of == request);
        match (in_slot, aside) {
            // An intent in the slot is newer than one that had no room there.
            (Outcome::Begun, Some((_, aside)))
            | (Outcome::Intended(_), Some((_, aside @ Outcome::Done(_)))) => aside.clone(),
            (in_slot @ (Outcome::Begun | Outcome::Intended(_) | Outcome::Done(_)), _) => in_slot,
        }
    }

    /// Nodes that must be found wherever they have been moved: directories, in which programs stand, and open files.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = Node> {
        let directories = self.nodes.iter().filter(|(_, (found, _))| found.kind == FileKind::Directory);
        directories.map(|(node, _)| *node).chain(self.files.values().map(|file| file.node))
    }

    /// The slots of which something is noted here.
    pub(crate) fn aside_slots(&self) -> impl Iterator<Item = usize> {
        self.aside.keys().copied()
    }

    /// The locks that it holds.
    pub(crate) fn locks(&self) -> Vec<(NodeId, Lock)> {
        self.begun.as_ref().map_or_else(Vec::new, |begun| self.locks.of_session(begun.session))
    }

    /// The fewest records that lead here.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> {
        let begun = self.begun.clone().map(Record::Begun);
        let nodes = self.nodes.iter().flat_map(|(&node, (found, lookups))| {
            let again = lookups.saturating_sub(1);
            let again = (again > 0).then_some(Record::Counted { node, lookups: again });
            [Record::Known { node, found: found.clone() }].into_iter().chain(again)
        });
        let moved = self.moved.iter().map(|(&node, found)| Record::Moved { node, found: found.clone() });
        let files = self.files.iter().map(|(&fh, file)| Record::Opened { fh, file: file.clone() });
        let locks = self.locks().into_iter().map(|(node, lock)| Record::Locked(node, lock));
        let numbered = begun.is_some().then_some(Record::Numbered(self.last_fh));
        let aside = self.aside.values();
        let aside =
            aside.map(|(request, outcome)| Record::Aside { request: *request, outcome: outcome.clone() });
        begun.into_iter().chain(nodes).chain(moved).chain(files).chain(locks).chain(numbered).chain(aside)
    }
}
