//! What a client is told of the directories whose names it changes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nearfs_protocol::attr::Attr;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Node};
use nearfs_protocol::message::{DirChange, RenameMode, Reply, Request};
use nearfs_protocol::name::Name;

use crate::support::*;

/// The directories in an answer.
fn changes(reply: Result<Reply, Errno>) -> Vec<DirChange> {
    match reply.unwrap() {
        Reply::Made { parent, .. } | Reply::Created { parent, .. } | Reply::Removed { parent } => {
            vec![*parent]
        }
        Reply::Renamed { from, to, .. } => {
            [Some(from), to].into_iter().flatten().map(|change| *change).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn create(parent: Node, text: &str, flags: i32) -> Request {
    Request::Create { parent, name: name(text), mode: 0o644, umask: 0, flags: (libc::O_RDWR | flags) as u32 }
}

fn node(parent: Node, text: &str, mode: u32) -> Request {
    Request::MakeNode { parent, name: name(text), mode, umask: 0, rdev: 0 }
}

fn rename((parent, text): (Node, &str), (new_parent, new_text): (Node, &str), mode: RenameMode) -> Request {
    Request::Rename { parent, name: name(text), new_parent, new_name: name(new_text), mode }
}

fn attr(client: &Client, node: Node) -> Attr {
    match client.ask(Request::GetAttr { node, fh: None }).unwrap() {
        Reply::Attr(attr) => attr,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_that_was_alone_says_from_what_to_what() {
    let (served, client) = client();
    let [one, two] = ["one", "two"].map(|text| client.mkdir(client.root(), text).unwrap().node);
    if attr(&client, one).change == Change::UNSURE {
        return eprintln!("no counter that could be vouched for on {}", served.dir.path().display());
    }
    let made = |parent, text: &str| Request::MakeDir { parent, name: name(text), mode: 0o755, umask: 0 };
    let a = entry(client.ask(node(one, "fifo", 0o10_644))).unwrap().node;
    let steps = [
        create(one, "a", libc::O_EXCL),
        create(one, "a", 0),
        made(one, "d"),
        made(two, "e"),
        Request::Symlink { parent: one, name: name("s"), target: b"a".to_vec() },
        Request::Link { node: a, new_parent: one, new_name: name("l") },
        rename((one, "a"), (one, "b"), RenameMode::NoReplace),
        rename((one, "b"), (one, "s"), RenameMode::Replace),
        rename((one, "l"), (two, "b"), RenameMode::Replace),
        rename((one, "d"), (two, "b"), RenameMode::Exchange),
        rename((one, "s"), (one, "d"), RenameMode::Exchange),
        Request::Unlink { parent: one, name: name("s") },
        Request::RemoveDir { parent: two, name: name("e") },
    ];
    for step in steps {
        let before = [one, two].map(|node| attr(&client, node).change);
        let told = changes(client.ask(step.clone()));
        assert!(!told.is_empty(), "{step:?}");
        for change in told {
            let at = usize::from(change.attr.node == two);
            assert_eq!(change.before, before[at], "{step:?}");
            assert_eq!(change.attr, attr(&client, [one, two][at]), "{step:?}");
        }
    }
}

/// Whatever a program on the server does in the same directory at the same time: as long as the counters follow one
/// another, the names that are there are those that were there and those that the client made.
#[test]
fn what_others_do_at_the_same_time_is_never_mistaken_for_ones_own() {
    let (served, client) = client();
    let path = served.path("strange");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stopped = StopAtEnd(&stop);
        scope.spawn(|| {
            for round in 0u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let change =
                    if round % 2 == 0 { std::fs::write(&path, "") } else { std::fs::remove_file(&path) };
                change.unwrap();
                std::thread::sleep(Duration::from_micros(round % 7 * 20));
            }
        });
        let (mut followed, mut compared) = (0, 0);
        let mut known = (BTreeSet::new(), Change::UNSURE);
        for round in 0..1500 {
            let text = format!("n{}", round / 2);
            let request = match round % 2 {
                0 => node(client.root(), &text, 0o100_644),
                _ => Request::Unlink { parent: client.root(), name: name(&text) },
            };
            let told = changes(client.ask(request))[0];
            if told.before.same_as(known.1) {
                followed += 1;
                match round % 2 {
                    0 => known.0.insert(name(&text)),
                    _ => known.0.remove(&name(&text)),
                };
                known.1 = told.attr.change;
            }
            let (names, change) = listed(&client);
            // What is done while names are read may be among them, though not in the counter from before.
            let undisturbed = attr(&client, client.root()).change.same_as(change);
            if undisturbed && change.same_as(known.1) {
                compared += 1;
                assert_eq!(names, known.0, "round {round}");
            }
            known = (names, if undisturbed { change } else { Change::UNSURE });
        }
        assert!(followed > 0 && compared > 0, "{followed} changes followed one another, {compared} compared");
    });
}

/// Also when the test fails, or it would wait for ever.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The names in the root, and the counter from before they were read.
fn listed(client: &Client) -> (BTreeSet<Name>, Change) {
    let request =
        Request::ReadDir { node: client.root(), cookie: 0, entry_bytes_max: 65536, with_attrs: false };
    match client.ask(request).unwrap() {
        Reply::Listing { entries, end: true, change, .. } => {
            (entries.into_iter().map(|entry| entry.name).collect(), change)
        }
        other => panic!("{other:?}"),
    }
}
