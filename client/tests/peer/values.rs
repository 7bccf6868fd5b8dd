//! Values that a server may send.

use std::sync::Arc;
use std::time::Duration;

use nearfs_client::vfs::Vfs;
use nearfs_client::vfs::types::Lookup;
use nearfs_protocol::attr::{Attr, DirEntry, FileKind, Time};
use nearfs_protocol::greeting::{GrantedLimits, Identity, Welcome};
use nearfs_protocol::id::{BootEpoch, BootId, Change, Fh, Generation, Node, NodeId, SessionId, SessionToken};
use nearfs_protocol::message::{DirChange, Reply, Request};
use nearfs_protocol::name::Name;
use nearfs_protocol::version::{Features, SPOKEN};

use crate::scripted::{ME, Peer, ask};

pub(crate) const ROOT: Node = node(100);

pub(crate) const fn node(id: u64) -> Node {
    Node { id: NodeId(id), generation: Generation(1) }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// A regular file of this size, with a change counter.
pub(crate) fn file(id: u64, size: u64, change: u64) -> Attr {
    Attr {
        node: node(id),
        change: Change(change),
        kind: FileKind::File,
        mode: 0o644,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size,
        blocks: size.div_ceil(512),
        blksize: 4096,
        atime: Time::default(),
        mtime: Time::default(),
        ctime: Time::default(),
        btime: None,
    }
}

pub(crate) fn directory(id: u64, change: u64) -> Attr {
    Attr { kind: FileKind::Directory, mode: 0o755, nlink: 2, ..file(id, 4096, change) }
}

pub(crate) fn entry(attr: Attr) -> Reply {
    Reply::Entry { attr, fh: None, whole: false }
}

/// The root after a change of names in it, of which the server cannot say whether it was the only one.
pub(crate) fn root_changed() -> Box<DirChange> {
    Box::new(DirChange { before: Change::UNSURE, attr: directory(100, 2) })
}

pub(crate) fn made(attr: Attr) -> Reply {
    Reply::Made { attr, empty: false, parent: root_changed() }
}

pub(crate) fn created(fh: u64, attr: Attr) -> Reply {
    Reply::Created { fh: Fh(fh), attr, created: true, parent: root_changed() }
}

pub(crate) fn removed() -> Reply {
    Reply::Removed { parent: root_changed() }
}

pub(crate) fn renamed(moved: Attr) -> Reply {
    Reply::Renamed { moved: Some(moved), from: root_changed(), to: None }
}

pub(crate) fn opened(fh: u64, attr: Attr) -> Reply {
    Reply::Opened { fh: Fh(fh), attr, created: false, whole: false }
}

pub(crate) fn listed(text: &str, cookie: u64, attr: Attr) -> DirEntry {
    DirEntry { name: name(text), cookie, ino: attr.node.id.0, kind: Some(attr.kind), attr: Some(attr) }
}

pub(crate) fn limits() -> GrantedLimits {
    GrantedLimits {
        requests_in_flight_max: 64,
        in_flight_bytes_max: 32 << 20,
        payload_bytes_max: 1 << 20,
        connections_max: 4,
        lease_ms: 10_000,
    }
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        version: SPOKEN.newest,
        features: Features::all() - Features::SHELL,
        epoch: BootEpoch(1),
        boot: BootId([1; 16]),
        session: SessionId(7),
        token: SessionToken([7; 16]),
        root: directory(100, 1),
        read_only: false,
        identity: Identity::Squash { uid: 0, gid: 0 },
        limits: limits(),
    }
}

/// Bytes that tell where in a file they are.
pub(crate) fn content(offset: u64, size: usize) -> Vec<u8> {
    (offset..offset + size as u64).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

/// Makes a node known to the client. Returns its number.
#[track_caller]
pub(crate) fn look_up(peer: &Peer, vfs: &Arc<Vfs>, text: &str, attr: Attr) -> u64 {
    let pending = ask(|done| vfs.lookup(ME, 1, text.as_bytes(), done));
    peer.expect(&Request::Lookup { parent: ROOT, name: name(text), also_open: None }).reply(entry(attr));
    match pending.get().unwrap() {
        Lookup::Found(entry) => entry.ino,
        Lookup::Absent { .. } => panic!("{text} is absent"),
    }
}

/// Opens a file that the client knows, without content. Returns the client's number of it.
#[track_caller]
pub(crate) fn open(peer: &Peer, vfs: &Arc<Vfs>, attr: Attr, flags: i32, fh: u64) -> u64 {
    let pending = ask(|done| vfs.open(ME, attr.node.id.0, flags, done));
    let asked = peer.call();
    assert!(matches!(asked.request, Request::Open { .. }), "{asked:?}");
    asked.reply(opened(fh, attr));
    pending.get().unwrap().fh
}

/// A client that has one file open for reading and writing, and nothing of its content.
#[track_caller]
pub(crate) fn with_open_file(peer: &Peer, vfs: &Arc<Vfs>, attr: Attr) -> u64 {
    look_up(peer, vfs, "file", attr);
    open(peer, vfs, attr, libc::O_RDWR, 500)
}

/// Longer than anything is trusted by a client that was told to trust for 50 ms.
pub(crate) const AFTER_TRUST: Duration = Duration::from_millis(80);
