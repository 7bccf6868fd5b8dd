//! Listings.

use std::collections::BTreeSet;

use nearfs_protocol::attr::{DirEntry, FileKind};
use nearfs_protocol::codec::{FrameKind, encode_frame};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::{Answer, Reply, Request};

use crate::support::{client, name};

fn names(entries: &[DirEntry]) -> BTreeSet<String> {
    let names: BTreeSet<_> = entries.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names.len(), entries.len(), "each name once");
    names
}

#[test]
fn all_is_listed_however_small_the_pieces() {
    let (served, client) = client();
    let expected: BTreeSet<String> = (0..700).map(|number| format!("name-{number}")).collect();
    for name in &expected {
        std::fs::write(served.path(name), name).unwrap();
    }
    for bytes in [1, 500, 4096, 100_000, u32::MAX] {
        for with_attrs in [false, true] {
            let entries = client.list_all(client.root(), bytes, with_attrs);
            assert_eq!(names(&entries), expected);
            assert!(entries.iter().all(|entry| entry.attr.is_some() == with_attrs && entry.cookie != 0));
        }
    }
    let entries = client.list_all(client.root(), 4096, true);
    let attr = entries[0].attr.unwrap();
    assert_eq!(
        (attr.kind, entries[0].kind, attr.node.id.0),
        (FileKind::File, Some(FileKind::File), entries[0].ino)
    );
    assert_eq!(client.attr(attr.node), Ok(attr));
    let file = client.lookup("name-1").unwrap().node;
    assert_eq!(client.list(file, 0, 100, false), Err(Errno::ENOTDIR));
}

#[test]
fn the_largest_answer_fits_a_frame() {
    let (served, client) = client();
    for number in 0..3000 {
        std::fs::write(served.path(&format!("{number:04}")), "").unwrap();
    }
    let (entries, end) = client.list(client.root(), 0, u32::MAX, true).unwrap();
    assert!(!end && entries.len() > 1000, "{}", entries.len());
    let change = client.attr(client.root()).unwrap().change;
    let answer: Answer = Ok(Reply::Listing { entries, end, exact: false, change });
    encode_frame(&mut Vec::new(), FrameKind::Answer, RequestId(1), &answer, 0).unwrap();
}

#[test]
fn a_directory_that_changes_loses_and_doubles_nothing() {
    let (served, client) = client();
    let keep: BTreeSet<String> = (0..400).map(|number| format!("keep-{number}")).collect();
    for name in &keep {
        std::fs::write(served.path(name), "").unwrap();
        std::fs::write(served.path(&format!("go-{name}")), "").unwrap();
    }
    let mut seen: Vec<DirEntry> = Vec::new();
    loop {
        let cookie = seen.last().map_or(0, |entry| entry.cookie);
        let (entries, end) = client.list(client.root(), cookie, 2000, true).unwrap();
        for entry in &entries {
            let name = entry.name.to_string();
            if name.starts_with("go-") {
                std::fs::remove_file(served.path(&name)).unwrap();
                std::fs::write(served.path(&format!("new-{name}")), "").unwrap();
            }
        }
        seen.extend(entries);
        if end {
            break;
        }
    }
    let seen: Vec<_> = seen.into_iter().filter(|entry| entry.name.as_bytes().starts_with(b"keep-")).collect();
    assert_eq!(names(&seen), keep);
}

#[test]
fn listings_of_one_directory_do_not_disturb_each_other() {
    let (served, client) = client();
    for number in 0..2000 {
        std::fs::write(served.path(&format!("{number}")), "").unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(names(&client.list_all(client.root(), 3000, false)).len(), 2000));
        }
    });
    // A cookie works again, also when its stream has gone on.
    let (first, _) = client.list(client.root(), 0, 3000, false).unwrap();
    let cookie = first.last().unwrap().cookie;
    let again = |_| client.list(client.root(), cookie, 3000, false).unwrap().0;
    let pieces: Vec<_> = (0..3).map(again).collect();
    assert!(pieces.iter().all(|piece| *piece == pieces[0]));
}

#[test]
fn listed_nodes_count_a_lookup_each() {
    let (served, client) = client();
    for number in 0..50 {
        std::fs::write(served.path(&format!("{number}")), "").unwrap();
    }
    let entries = client.list_all(client.root(), 100_000, true);
    client.list_all(client.root(), 100_000, false);
    client.lookup("7").unwrap();
    assert_eq!(client.files.node_count(), 51);
    let nodes = entries.iter().map(|entry| (entry.attr.unwrap().node, 1)).collect();
    client.ask(Request::Forget { nodes }).unwrap();
    assert_eq!((client.files.node_count(), served.tree.node_count()), (2, 2));
    let seven = entries.iter().find(|entry| entry.name == name("7")).unwrap().attr.unwrap().node;
    assert!(client.attr(seven).is_ok());
    client.ask(Request::Forget { nodes: vec![(seven, 1)] }).unwrap();
    assert_eq!(client.attr(seven), Err(Errno::ESTALE));
}
