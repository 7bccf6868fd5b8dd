//! What is not asked because it is known: names along one's own changes, and what far servers tell ahead.

use std::sync::Arc;
use std::time::Duration;

use nearfs_client::config::VfsConfig;
use nearfs_client::vfs::Vfs;
use nearfs_client::vfs::types::Lookup;
use nearfs_protocol::attr::{Attr, DirEntry};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Fh, Node};
use nearfs_protocol::message::{DirChange, Reply, Request};

use crate::scripted::{ME, Peer, ask};
use crate::values::{ROOT, directory, file, look_up, name, node};

/// A server whose every answer counts as slow.
fn far() -> (Peer, Arc<Vfs>) {
    Peer::with(VfsConfig { far_round_trip: Duration::ZERO, ..VfsConfig::default() })
}

fn parent(id: u64, before: u64, after: u64) -> Box<DirChange> {
    Box::new(DirChange { before: Change(before), attr: directory(id, after) })
}

/// Whether a name is absent, which the client must know by itself.
#[track_caller]
fn is_absent(vfs: &Arc<Vfs>, directory: u64, text: &str) -> bool {
    let known = ask(|done| vfs.lookup(ME, directory, text.as_bytes(), done)).get().unwrap();
    match known {
        Lookup::Absent { ttl } => {
            assert!(!ttl.is_zero() && ttl <= Duration::from_secs(1), "{ttl:?}");
            true
        }
        Lookup::Found(_) => false,
    }
}

/// The client asks for a name, which is absent.
#[track_caller]
fn is_asked(peer: &Peer, vfs: &Arc<Vfs>, parent: Node, ino: u64, text: &str) {
    let pending = ask(|done| vfs.lookup(ME, ino, text.as_bytes(), done));
    peer.expect(&Request::Lookup { parent, name: name(text), also_open: None }).fail(Errno::ENOENT);
    assert!(matches!(pending.get().unwrap(), Lookup::Absent { .. }));
}

/// A file is made in a directory, which goes from one counter to another.
#[track_caller]
fn create(peer: &Peer, vfs: &Arc<Vfs>, ino: u64, text: &str, attr: Attr, change: Box<DirChange>) {
    let pending = ask(|done| vfs.create(ME, ino, text.as_bytes(), 0o644, 0, libc::O_RDWR, done));
    let asked = peer.call();
    assert!(matches!(asked.request, Request::Create { .. }), "{asked:?}");
    asked.reply(Reply::Created { fh: Fh(attr.node.id.0), attr, created: true, parent: change });
    pending.get().unwrap();
}

/// A directory that the client makes, known as number 8.
#[track_caller]
fn make_directory(peer: &Peer, vfs: &Arc<Vfs>, empty: bool) {
    let pending = ask(|done| vfs.mkdir(ME, 1, b"d", 0o755, 0, done));
    peer.call().reply(Reply::Made { attr: directory(8, 1), empty, parent: parent(100, 1, 2) });
    pending.get().unwrap();
}

#[test]
fn in_a_directory_that_i_made_nothing_is_looked_up() {
    let (peer, vfs) = Peer::with_client();
    make_directory(&peer, &vfs, true);
    for count in 1..40 {
        let text = format!("f{count}");
        assert!(is_absent(&vfs, 8, &text));
        create(&peer, &vfs, 8, &text, file(10 + count, 0, 1), parent(8, count, count + 1));
        assert!(!is_absent(&vfs, 8, &text));
    }
    let pending = ask(|done| vfs.unlink(ME, 8, b"f3", done));
    peer.call().reply(Reply::Removed { parent: parent(8, 40, 41) });
    pending.get().unwrap();
    is_asked(&peer, &vfs, ROOT, 1, "x"); // As a kernel does before it renames.
    let pending = ask(|done| vfs.rename(ME, 8, b"f4", 1, b"x", 0, done));
    let (from, to) = (parent(8, 41, 42), Some(parent(100, 2, 3)));
    peer.call().reply(Reply::Renamed { moved: Some(file(14, 0, 2)), from, to });
    pending.get().unwrap();
    assert!(is_absent(&vfs, 8, "f3") && is_absent(&vfs, 8, "f4") && !is_absent(&vfs, 8, "f5"));
    assert_eq!(ask(|done| vfs.getattr(ME, 8, None, done)).get().unwrap().attr, directory(8, 42));
    peer.expect_nothing(&vfs);
    // Only so long as the server has vouched for it.
    std::thread::sleep(Duration::from_millis(1050));
    is_asked(&peer, &vfs, node(8), 8, "f99");
}

#[test]
fn a_directory_that_may_have_names_is_asked_for_them() {
    let (peer, vfs) = Peer::with_client();
    make_directory(&peer, &vfs, false);
    is_asked(&peer, &vfs, node(8), 8, "f");
}

#[test]
fn what_others_change_in_between_ends_what_is_known() {
    for change in [parent(8, 5, 6), parent(8, 0, 2)] {
        let (peer, vfs) = Peer::with_client();
        make_directory(&peer, &vfs, true);
        assert!(is_absent(&vfs, 8, "other"));
        create(&peer, &vfs, 8, "mine", file(10, 0, 1), change);
        assert!(!is_absent(&vfs, 8, "mine"));
        is_asked(&peer, &vfs, node(8), 8, "other");
    }
}

#[test]
fn a_change_that_is_told_of_another_directory_is_not_believed() {
    let (peer, vfs) = Peer::with_client();
    make_directory(&peer, &vfs, true);
    create(&peer, &vfs, 8, "mine", file(10, 0, 1), parent(9, 1, 2));
    is_asked(&peer, &vfs, node(8), 8, "mine");
    is_asked(&peer, &vfs, node(8), 8, "other");
}

/// The server is asked for a listing without attributes, and gives these names.
#[track_caller]
fn answer_listing(peer: &Peer, names: &[&str], end: bool, change: u64) {
    let asked = peer.call();
    assert!(matches!(asked.request, Request::ReadDir { cookie: 0, with_attrs: false, .. }), "{asked:?}");
    asked.reply(listing(names, 1, end, change));
}

fn listing(names: &[&str], first_cookie: u64, end: bool, change: u64) -> Reply {
    let listed =
        |(text, cookie): (&&str, u64)| DirEntry { name: name(text), cookie, attr: None, ino: 7, kind: None };
    let entries = names.iter().zip(first_cookie..).map(listed).collect();
    Reply::Listing { entries, end, exact: end, change: Change(change) }
}

#[test]
fn a_far_directory_is_listed_once_when_names_are_missing_in_it() {
    let (peer, vfs) = far();
    is_asked(&peer, &vfs, ROOT, 1, "a");
    is_asked(&peer, &vfs, ROOT, 1, "b");
    answer_listing(&peer, &["there"], true, 1);
    // The answer is taken in by the time that another one is.
    look_up(&peer, &vfs, "there", file(7, 0, 1));
    assert!(is_absent(&vfs, 1, "c") && is_absent(&vfs, 1, "d"));
    create(&peer, &vfs, 1, "c", file(10, 0, 1), parent(100, 1, 2));
    assert!(is_absent(&vfs, 1, "d") && !is_absent(&vfs, 1, "c"));
    create(&peer, &vfs, 1, "e", file(11, 0, 1), parent(100, 9, 10));
    is_asked(&peer, &vfs, ROOT, 1, "f");
    peer.expect_nothing(&vfs);
}

#[test]
fn a_far_directory_that_is_too_large_is_not_listed_again() {
    let (peer, vfs) = far();
    is_asked(&peer, &vfs, ROOT, 1, "a");
    is_asked(&peer, &vfs, ROOT, 1, "b");
    answer_listing(&peer, &["there"], false, 1);
    std::thread::sleep(Duration::from_millis(1050));
    for text in ["c", "d", "e"] {
        is_asked(&peer, &vfs, ROOT, 1, text);
    }
    peer.expect_nothing(&vfs);
}

#[test]
fn names_that_are_not_compared_byte_for_byte_are_never_taken_for_absent() {
    let (peer, vfs) = far();
    is_asked(&peer, &vfs, ROOT, 1, "A");
    is_asked(&peer, &vfs, ROOT, 1, "B");
    let entries = vec![DirEntry { name: name("c"), cookie: 1, attr: None, ino: 7, kind: None }];
    peer.call().reply(Reply::Listing { entries, end: true, exact: false, change: Change(1) });
    look_up(&peer, &vfs, "c", file(7, 0, 1));
    look_up(&peer, &vfs, "C", file(7, 0, 1));
    peer.expect_nothing(&vfs);
}

#[test]
fn a_near_directory_is_not_listed_ahead() {
    let (peer, vfs) = Peer::with_client();
    for text in ["a", "b", "c", "d"] {
        is_asked(&peer, &vfs, ROOT, 1, text);
    }
    peer.expect_nothing(&vfs);
}

#[test]
fn a_program_that_lists_a_far_directory_tells_which_names_are_absent() {
    for (second_change, complete) in [(1, true), (2, false)] {
        let (peer, vfs) = far();
        let pending = ask(|done| vfs.opendir(ME, 1, done));
        peer.call().reply(listing(&["a"], 5, false, 1));
        let fh = pending.get().unwrap().fh;
        for offset in [0, 7] {
            let reading = ask(|done| {
                vfs.readdir(ME, 1, fh, offset, false, |items| {
                    let count = items.map(|items| items.len());
                    let taken = count.unwrap_or(0);
                    done(count);
                    taken
                });
            });
            if offset == 7 {
                peer.call().reply(listing(&["b"], 6, true, second_change));
            }
            assert!(reading.get().unwrap() > 0);
        }
        match complete {
            true => assert!(is_absent(&vfs, 1, "c")),
            false => is_asked(&peer, &vfs, ROOT, 1, "c"),
        }
        peer.expect_nothing(&vfs);
    }
}

#[test]
fn a_name_whose_node_is_gone_is_asked_for_anew() {
    for (peer, vfs) in [Peer::with_client(), far()] {
        look_up(&peer, &vfs, "f", file(7, 10, 1));
        assert!(!is_absent(&vfs, 1, "f"));
        let pending = ask(|done| vfs.open(ME, 7, libc::O_RDWR, done));
        peer.call().fail(Errno::ESTALE);
        assert_eq!(pending.get().err(), Some(Errno::ESTALE));
        look_up(&peer, &vfs, "f", file(8, 10, 1));
    }
}

#[test]
fn whoever_wants_a_name_alone_does_not_wait_for_attributes() {
    let (peer, vfs) = far();
    let pending = ask(|done| vfs.getattr(ME, 1, None, done));
    peer.call().reply(Reply::Attr(directory(100, 1)));
    pending.get().unwrap();
    look_up(&peer, &vfs, "f", file(7, 10, 1));
    std::thread::sleep(Duration::from_millis(600));
    make_directory(&peer, &vfs, true);
    std::thread::sleep(Duration::from_millis(500));
    // The directory was vouched for meanwhile, the file was not.
    match ask(|done| vfs.lookup(ME, 1, b"f", done)).get().unwrap() {
        Lookup::Found(found) => assert_eq!((found.ino, found.attr_ttl), (7, Duration::ZERO)),
        Lookup::Absent { .. } => panic!("absent"),
    }
    let pending = ask(|done| vfs.getattr(ME, 7, None, done));
    peer.expect(&Request::GetAttr { node: node(7), fh: None }).reply(Reply::Attr(file(7, 11, 2)));
    assert_eq!(pending.get().unwrap().attr.size, 11);
}
