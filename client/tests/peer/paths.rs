//! The remote file system by paths.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nearfs_client::cancel::Cancel;
use nearfs_client::remote::{
    Announced, Follow, Patience, Reason, Remote, RemoteConfig, RemoteError, RemotePath, Session,
};
use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Refusal;
use nearfs_protocol::id::{BootEpoch, Change, Fh, Node, RequestId, SessionId, TransferId};
use nearfs_protocol::message::{Push, RenameMode, Reply, Request, Written};
use nearfs_protocol::roster::{Busy, Tally, TransferKind, TransferOutcome};

use crate::scripted::{Asked, Heard, Peer};
use crate::values::{ROOT, created, directory, entry, file, listed, name, renamed, welcome};

fn connect(peer: &Peer, cancel: &Cancel) -> Remote {
    let config = RemoteConfig { connections: 1, ..RemoteConfig::default() };
    Remote::connect(&peer.source(), config, cancel).unwrap()
}

fn with_remote() -> (Peer, Remote) {
    let peer = Peer::start();
    let remote = connect(&peer, &Cancel::new());
    (peer, remote)
}

fn path(text: &str) -> RemotePath {
    RemotePath::parse(text.as_bytes()).unwrap()
}

fn link(id: u64) -> Attr {
    Attr { kind: FileKind::Symlink, ..file(id, 1, 1) }
}

/// Does something on a thread of its own, so that the test can be the server meanwhile.
fn begin<T: Send + 'static>(
    remote: &Remote,
    what: impl FnOnce(&Remote) -> Result<T, RemoteError> + Send + 'static,
) -> JoinHandle<Result<T, RemoteError>> {
    let remote = remote.clone();
    std::thread::spawn(move || what(&remote))
}

fn stat(remote: &Remote, text: &str) -> JoinHandle<Result<Attr, RemoteError>> {
    let path = path(text);
    begin(remote, move |remote| remote.stat(&path, Follow::Yes))
}

#[track_caller]
fn expect_lookup(peer: &Peer, parent: Node, text: &str) -> Asked {
    peer.expect(&Request::Lookup { parent, name: name(text), also_open: None })
}

#[track_caller]
fn answer_link(peer: &Peer, parent: Node, text: &str, id: u64, target: &str) {
    expect_lookup(peer, parent, text).reply(entry(link(id)));
    peer.expect(&Request::ReadLink { node: link(id).node }).reply_with(Reply::Done, target.as_bytes());
}

/// Everything that is given back until the client says good-bye.
fn given_back(peer: &Peer, remote: Remote) -> Vec<(Node, u64)> {
    let ending = std::thread::spawn(move || remote.disconnect());
    let mut nodes = Vec::new();
    loop {
        match peer.hear() {
            Heard::Call(asked) => {
                match &asked.request {
                    Request::Forget { nodes: some } => nodes.extend(some),
                    Request::Release { .. } => {}
                    other => panic!("{other:?} gives nothing back"),
                }
                asked.reply(Reply::Done);
            }
            Heard::Bye => break,
            other => panic!("{other:?}"),
        }
    }
    ending.join().unwrap();
    nodes.sort();
    nodes
}

#[test]
fn a_path_is_walked_name_by_name_and_given_back() {
    let (peer, remote) = with_remote();
    let pending = stat(&remote, "/x/../a/b/c");
    expect_lookup(&peer, ROOT, "a").reply(entry(directory(2, 1)));
    expect_lookup(&peer, directory(2, 1).node, "b").reply(entry(directory(3, 1)));
    expect_lookup(&peer, directory(3, 1).node, "c").reply(entry(file(4, 99, 1)));
    assert_eq!(pending.join().unwrap().unwrap().size, 99);
    // The way to a neighbour is remembered.
    let pending = stat(&remote, "/a/b/d");
    expect_lookup(&peer, directory(3, 1).node, "d").fail(Errno::ENOENT);
    let error = pending.join().unwrap().unwrap_err();
    assert_eq!(
        (error.errno(), error.to_string()),
        (Errno::ENOENT, "/a/b/d: no such file or directory".into())
    );
    let counts: Vec<_> =
        [directory(2, 1), directory(3, 1), file(4, 99, 1)].iter().map(|attr| (attr.node, 1)).collect();
    let mut returned = given_back(&peer, remote);
    returned.dedup_by(|two, one| {
        one.0 == two.0 && {
            one.1 += two.1;
            true
        }
    });
    assert_eq!(returned, counts);
}

#[test]
fn a_directory_is_given_back_after_what_was_found_in_it() {
    let (peer, remote) = with_remote();
    let finding = begin(&remote, |remote| remote.find(&path("/"), Follow::Yes));
    peer.expect(&Request::GetAttr { node: ROOT, fh: None }).reply(Reply::Attr(directory(100, 1)));
    let mut found = finding.join().unwrap().unwrap();
    for id in [2, 3, 4] {
        let (node, above) = (found.node.node(), found);
        let listing = begin(&remote, move |remote| {
            let mut listing = remote.list_found(above, &path("/"));
            let first = listing.next().unwrap()?.into_iter().next().unwrap();
            Ok(first.into_found(listing.directory()).unwrap())
        });
        let asked = peer.call();
        assert!(matches!(asked.request, Request::ReadDir { node: of, .. } if of == node), "{asked:?}");
        let entries = vec![listed("d", 1, directory(id, 1))];
        asked.reply(Reply::Listing { entries, end: true, exact: false, change: Change(1) });
        found = listing.join().unwrap().unwrap();
        // Nothing but what was found in it has the directory any more.
        peer.expect_silence(Duration::from_millis(100));
    }
    drop(found);
    let counts: Vec<_> = [2, 3, 4].map(|id| (directory(id, 1).node, 1)).into();
    assert_eq!(given_back(&peer, remote), counts);
}

#[test]
fn links_are_followed_within_the_share() {
    let (peer, remote) = with_remote();
    let pending = stat(&remote, "/l/x");
    answer_link(&peer, ROOT, "l", 2, "./d//e");
    expect_lookup(&peer, ROOT, "d").reply(entry(directory(3, 1)));
    expect_lookup(&peer, directory(3, 1).node, "e").reply(entry(directory(4, 1)));
    answer_link(&peer, directory(4, 1).node, "x", 5, "../../f");
    expect_lookup(&peer, ROOT, "f").reply(entry(file(6, 7, 1)));
    assert_eq!(pending.join().unwrap().unwrap().size, 7);
    let at = path("/l");
    let pending = begin(&remote, move |remote| remote.stat(&at, Follow::No));
    expect_lookup(&peer, ROOT, "l").reply(entry(link(2)));
    assert_eq!(pending.join().unwrap().unwrap().kind, FileKind::Symlink);
}

#[test]
fn links_that_lead_out_of_the_share_are_refused() {
    for target in ["/etc/passwd", "../etc", "d/../../etc"] {
        let (peer, remote) = with_remote();
        let pending = stat(&remote, "/l");
        answer_link(&peer, ROOT, "l", 2, target);
        if target.starts_with('d') {
            expect_lookup(&peer, ROOT, "d").reply(entry(directory(3, 1)));
        }
        let error = pending.join().unwrap().unwrap_err();
        assert!(matches!(error.reason, Reason::LinkLeaves { .. }), "{target}: {error}");
        assert_eq!(
            error.to_string(),
            format!("/l: the symbolic link /l leads out of the share, to {target}")
        );
    }
}

#[test]
fn links_in_a_circle_end() {
    let (peer, remote) = with_remote();
    let pending = stat(&remote, "/l");
    let mut lookups = 0;
    // What is not needed any more is given back at any time, at the latest when the path was given up.
    while !pending.is_finished() {
        let Heard::Call(asked) = peer.hear() else { panic!("something else than a call") };
        match asked.request {
            Request::Lookup { .. } => {
                lookups += 1;
                asked.reply(entry(link(2)));
            }
            Request::ReadLink { .. } => asked.reply_with(Reply::Done, b"l"),
            Request::Forget { .. } => asked.reply(Reply::Done),
            _ => panic!("{:?} does not follow a link", asked.request),
        }
    }
    // Forty links are followed (ELOOP of path_resolution(7)), and one is one too many.
    assert_eq!(lookups, 41);
    assert_eq!(pending.join().unwrap().unwrap_err().errno(), Errno::ELOOP);
}

#[test]
fn a_wish_ends_what_waits_and_gives_back_what_comes_late() {
    let peer = Peer::start();
    let cancel = Cancel::new();
    let remote = connect(&peer, &cancel);
    let pending = stat(&remote, "/a");
    let asked = expect_lookup(&peer, ROOT, "a");
    let begun = Instant::now();
    cancel.cancel();
    let error = pending.join().unwrap().unwrap_err();
    assert!(error.is_interrupted() && begun.elapsed() < Duration::from_secs(5), "{error}");
    assert!(matches!(peer.hear(), Heard::Cancel(id) if id == asked.id));
    // What begins with the same wish later ends at once; with another it does not.
    assert!(remote.stat(&path("/b"), Follow::Yes).unwrap_err().is_interrupted());
    let other = remote.with_cancel(&Cancel::new());
    let pending = stat(&other, "/c");
    expect_lookup(&peer, ROOT, "c").reply(entry(file(8, 1, 1)));
    pending.join().unwrap().unwrap();
    asked.reply(entry(file(7, 1, 1)));
    let mut returned = Vec::new();
    while returned.len() < 2 {
        match peer.call().request {
            Request::Forget { nodes } => returned.extend(nodes),
            request => panic!("{request:?} gives nothing back"),
        }
    }
    assert!(returned.contains(&(file(7, 1, 1).node, 1)), "{returned:?}");
}

#[test]
fn a_wish_ends_the_wait_for_room() {
    let peer = Peer::start();
    let mut narrow = welcome();
    narrow.limits.requests_in_flight_max = 1;
    peer.greet_with(Ok(narrow));
    let cancel = Cancel::new();
    let remote = connect(&peer, &Cancel::new());
    let first = stat(&remote, "/a");
    let asked = expect_lookup(&peer, ROOT, "a");
    let second = stat(&remote.with_cancel(&cancel), "/b");
    std::thread::sleep(Duration::from_millis(50));
    cancel.cancel();
    assert!(second.join().unwrap().unwrap_err().is_interrupted());
    asked.reply(entry(file(2, 1, 1)));
    first.join().unwrap().unwrap();
}

#[test]
fn a_session_that_was_lost_for_good_is_followed_by_another() {
    let (peer, remote) = with_remote();
    let pending = stat(&remote, "/a/b");
    expect_lookup(&peer, ROOT, "a").reply(entry(directory(2, 1)));
    let lost = peer.call();
    assert!(matches!(lost.request, Request::Lookup { .. }));
    let mut restarted = welcome();
    (restarted.epoch, restarted.session) = (BootEpoch(2), SessionId(8));
    peer.greet_with(Ok(restarted));
    peer.cut();
    // The walk begins anew, from the root.
    expect_lookup(&peer, ROOT, "a").reply(entry(directory(2, 1)));
    expect_lookup(&peer, directory(2, 1).node, "b").reply(entry(file(3, 5, 1)));
    assert_eq!(pending.join().unwrap().unwrap().size, 5);
    assert_eq!(remote.session_count(), 2);
}

#[test]
fn a_change_of_a_session_that_was_lost_for_good_is_not_repeated() {
    let (peer, remote) = with_remote();
    let at = path("/d");
    let pending = begin(&remote, move |remote| remote.make_dir(&at, 0o777).map(drop));
    assert!(matches!(peer.call().request, Request::MakeDir { .. }));
    peer.greet_with(Err(Refusal::NoSession));
    peer.cut();
    let error = pending.join().unwrap().unwrap_err();
    assert!(matches!(error.reason, Reason::SessionOver(_)), "{error}");
    let error = remote.stat(&path("/"), Follow::Yes).unwrap_err();
    assert!(matches!(error.reason, Reason::Connect(_)), "{error}");
}

#[test]
fn listings_come_in_pieces_and_those_that_do_not_get_on_are_refused() {
    let (peer, remote) = with_remote();
    let at = path("/d");
    let pending = begin(&remote, move |remote| {
        let pieces: Result<Vec<_>, _> = remote.list(&at)?.collect();
        Ok(pieces?.iter().map(Vec::len).collect::<Vec<_>>())
    });
    expect_lookup(&peer, ROOT, "d").reply(entry(directory(2, 1)));
    let piece = |cookie, end| Reply::Listing {
        entries: vec![listed("x", cookie, file(cookie + 10, 1, 1))],
        end,
        exact: end,
        change: Change(1),
    };
    let cookie_of = |asked: &Asked| match asked.request {
        Request::ReadDir { cookie, with_attrs: true, .. } => cookie,
        _ => panic!("{asked:?}"),
    };
    let asked = peer.call();
    assert_eq!(cookie_of(&asked), 0);
    asked.reply(piece(1, false));
    let asked = peer.call();
    assert_eq!(cookie_of(&asked), 1);
    asked.reply(piece(2, true));
    assert_eq!(pending.join().unwrap().unwrap(), [1, 1]);

    let at = path("/e");
    let pending = begin(&remote, move |remote| remote.list(&at)?.collect::<Result<Vec<_>, _>>().map(drop));
    loop {
        let asked = peer.call();
        match &asked.request {
            Request::Lookup { .. } => asked.reply(entry(directory(2, 1))),
            Request::ReadDir { .. } => {
                break asked.reply(Reply::Listing {
                    entries: vec![],
                    end: false,
                    exact: false,
                    change: Change(1),
                });
            }
            Request::Forget { .. } => asked.reply(Reply::Done),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pending.join().unwrap().unwrap_err().errno(), Errno::EPROTO);
}

#[test]
fn a_file_is_written_whole_and_an_error_of_the_rest_is_told() {
    let (peer, remote) = with_remote();
    let at = path("/f");
    let pending =
        begin(&remote, move |remote| remote.create(&at, 0o644, libc::O_RDWR)?.write_at(0, &[7; 100]));
    match peer.call() {
        asked if matches!(asked.request, Request::Create { umask: 0o022, .. }) => {
            asked.reply(created(9, file(2, 0, 1)))
        }
        other => panic!("{other:?}"),
    }
    let asked = peer.call();
    assert_eq!(asked.payload.len(), 100);
    let written = Written { size: 60, offset: 0, before: Change(1), attr: file(2, 60, 2) };
    asked.reply(Reply::Written(written));
    let asked = peer.call();
    assert_eq!(asked.payload.len(), 40);
    asked.fail(Errno::ENOSPC);
    let error = pending.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "/f: the server's disk is full");
}

#[test]
fn hundreds_of_requests_are_under_way_at_once() {
    let peer = Peer::start();
    let mut wide = welcome();
    wide.limits.requests_in_flight_max = 300;
    peer.greet_with(Ok(wide));
    let remote = connect(&peer, &Cancel::new());
    let session = remote.session().unwrap();
    let (tell, told) = mpsc::channel();
    for _ in 0..300 {
        let tell = tell.clone();
        let request = Request::GetAttr { node: session.root().node(), fh: None };
        session.start(request, None, Patience::Bounded, move |outcome| tell.send(outcome.map(drop)).unwrap());
    }
    let asked: Vec<Asked> = (0..300).map(|_| peer.call()).collect();
    asked.iter().rev().for_each(|asked| asked.reply(Reply::Attr(directory(100, 1))));
    assert_eq!((0..300).filter(|_| told.recv().unwrap().is_ok()).count(), 300);
}

#[test]
fn a_renamed_directory_is_not_believed_to_be_where_it_was() {
    let (peer, remote) = with_remote();
    let pending = stat(&remote, "/a/x");
    expect_lookup(&peer, ROOT, "a").reply(entry(directory(2, 1)));
    expect_lookup(&peer, directory(2, 1).node, "x").reply(entry(file(3, 1, 1)));
    pending.join().unwrap().unwrap();
    let pending = begin(&remote, |remote| remote.rename(&path("/a"), &path("/b"), RenameMode::NoReplace));
    loop {
        let asked = peer.call();
        match &asked.request {
            Request::Rename { .. } => break asked.reply(renamed(directory(2, 2))),
            Request::Forget { .. } => asked.reply(Reply::Done),
            other => panic!("{other:?}"),
        }
    }
    pending.join().unwrap().unwrap();
    let pending = stat(&remote, "/a/x");
    loop {
        let asked = peer.call();
        match &asked.request {
            Request::Lookup { parent, .. } => {
                assert_eq!(*parent, ROOT);
                break asked.fail(Errno::ENOENT);
            }
            Request::Forget { .. } => asked.reply(Reply::Done),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pending.join().unwrap().unwrap_err().errno(), Errno::ENOENT);
}

#[test]
fn connecting_can_be_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("nearfs://{}/", silent.local_addr().unwrap()).parse().unwrap();
    let cancel = Cancel::new();
    let wish = cancel.clone();
    let begun = Instant::now();
    let ending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        wish.cancel();
    });
    assert!(Remote::connect(&source, RemoteConfig::default(), &cancel).is_err());
    assert!(begun.elapsed() < Duration::from_secs(5));
    ending.join().unwrap();
}

#[test]
fn a_transfer_is_announced_counted_and_ended() {
    let (peer, remote) = with_remote();
    let session = remote.session().unwrap();
    let announce = |session: Session| {
        std::thread::spawn(move || {
            session.announce(TransferKind::Upload, (ROOT, name("a")), 10, None).unwrap()
        })
    };
    let request = Request::Announce {
        kind: TransferKind::Upload,
        parent: ROOT,
        name: name("a"),
        total_bytes: 10,
        fh: None,
    };
    let tally = Tally { bytes: 4, files: 1, elapsed_ms: 7 };
    let announced = announce(session.clone());
    let busy = Busy { by: "ben (::1)".into(), kind: TransferKind::Delete, total_bytes: 10, tally };
    peer.expect(&request).reply(Reply::Busy(busy));
    let Announced::Busy(busy) = announced.join().unwrap() else { panic!("it has begun") };
    assert_eq!(busy.to_string(), "being deleted by ben (::1), 40 %");
    let announced = announce(session.clone());
    peer.expect(&request).reply(Reply::Announced(TransferId(5)));
    let Announced::Begun(transfer) = announced.join().unwrap() else { panic!("it has not begun") };
    let counted = std::thread::spawn(move || transfer.count(Fh(3)).map(|()| transfer).unwrap());
    peer.expect(&Request::CountFile { transfer: TransferId(5), fh: Fh(3) }).reply(Reply::Done);
    let transfer = counted.join().unwrap();
    let ended = std::thread::spawn(move || transfer.end(TransferOutcome::Done).unwrap());
    peer.expect(&Request::EndTransfer { transfer: TransferId(5), outcome: TransferOutcome::Done })
        .reply(Reply::Transferred(tally));
    assert_eq!(ended.join().unwrap(), tally);
    // One that is only dropped was given up, also when the wish to end has been told.
    let cancel = Cancel::new();
    let session = remote.with_cancel(&cancel).session().unwrap();
    let announced = announce(session);
    peer.expect(&request).reply(Reply::Announced(TransferId(6)));
    let announced = announced.join().unwrap();
    cancel.cancel();
    drop(announced);
    peer.expect(&Request::EndTransfer { transfer: TransferId(6), outcome: TransferOutcome::GivenUp })
        .reply(Reply::Transferred(tally));
}

#[test]
fn nobody_begins_anew_when_the_owner_has_ended_the_session() {
    let (peer, remote) = with_remote();
    peer.wire().send(FrameKind::Push, RequestId(1), &Push::EndedByOwner, &[]);
    let begun = Instant::now();
    while !remote.current().is_dismissed() {
        assert!(begun.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    let error = remote.stat(&path("a"), Follow::Yes).unwrap_err();
    assert!(error.to_string().contains("ended by the server's owner"), "{error}");
    assert_eq!((peer.hellos().len(), remote.session_count()), (1, 1));
}
