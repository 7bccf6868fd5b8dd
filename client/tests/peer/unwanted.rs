//! What a late answer brings is given back: nobody waits for it, and the server would keep it for us.

use std::sync::Arc;
use std::time::Duration;

use nearfs_client::config::VfsConfig;
use nearfs_client::vfs::Vfs;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Fh, Node};
use nearfs_protocol::message::{Reply, Request};

use crate::scripted::{Asked, Done, Heard, ME, Peer, ask};
use crate::values::{created, entry, file, listed, node};

const TIMEOUT: Duration = Duration::from_millis(200);

/// What the client gave back.
#[derive(Debug, Default, PartialEq, Eq)]
struct Returned {
    nodes: Vec<(Node, u64)>,
    files: Vec<Fh>,
}

/// Begins an operation, answers it when it was given up, and waits until so much is given back.
#[track_caller]
fn answered_too_late<T: Send + std::fmt::Debug + 'static>(
    begin: impl FnOnce(&Arc<Vfs>, Done<T>),
    answer: Reply,
    items: usize,
) -> Returned {
    let (peer, vfs) = Peer::with(VfsConfig { timeout: TIMEOUT, ..VfsConfig::default() });
    let pending = ask(|done| begin(&vfs, done));
    let asked = peer.call();
    assert_eq!(pending.get().unwrap_err(), Errno::ETIMEDOUT);
    assert!(matches!(peer.hear(), Heard::Cancel(id) if id == asked.id));
    asked.reply(answer);
    let mut returned = Returned::default();
    while returned.nodes.len() + returned.files.len() < items {
        take_back(&peer.call(), &mut returned);
    }
    peer.expect_nothing(&vfs);
    returned
}

fn take_back(asked: &Asked, returned: &mut Returned) {
    match &asked.request {
        Request::Forget { nodes } => returned.nodes.extend(nodes),
        Request::Release { files } => returned.files.extend(files.iter().map(|file| file.fh)),
        other => panic!("{other:?} gives nothing back"),
    }
    asked.reply(Reply::Done);
}

#[test]
fn a_created_file_is_closed_and_forgotten() {
    let create = |vfs: &Arc<Vfs>, done| vfs.create(ME, 1, b"new", 0o644, 0, libc::O_RDWR, done);
    let returned = answered_too_late(create, created(777, file(7, 0, 1)), 2);
    assert_eq!(returned, Returned { nodes: vec![(node(7), 1)], files: vec![Fh(777)] });
}

#[test]
fn a_found_node_is_forgotten() {
    let look_up = |vfs: &Arc<Vfs>, done: Done<_>| vfs.lookup(ME, 1, b"there", done);
    let returned = answered_too_late(look_up, entry(file(7, 0, 1)), 1);
    assert_eq!(returned, Returned { nodes: vec![(node(7), 1)], files: Vec::new() });
}

#[test]
fn a_node_that_was_opened_ahead_is_closed_and_forgotten() {
    let look_up = |vfs: &Arc<Vfs>, done: Done<_>| vfs.lookup(ME, 1, b"there", done);
    let found = Reply::Entry { attr: file(7, 0, 1), fh: Some(Fh(778)), whole: false };
    let returned = answered_too_late(look_up, found, 2);
    assert_eq!(returned, Returned { nodes: vec![(node(7), 1)], files: vec![Fh(778)] });
}

#[test]
fn listed_nodes_are_forgotten() {
    let entries = vec![listed("a", 1, file(7, 0, 1)), listed("b", 2, file(8, 0, 1))];
    let listing = Reply::Listing { entries, end: true, exact: true, change: Change(1) };
    let open = |vfs: &Arc<Vfs>, done: Done<_>| vfs.opendir(ME, 1, done);
    let returned = answered_too_late(open, listing, 2);
    assert_eq!(returned, Returned { nodes: vec![(node(7), 1), (node(8), 1)], files: Vec::new() });
}
