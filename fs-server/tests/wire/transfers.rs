//! Transfers that shells announce: who is in whose way, what is counted, when it ends.

use std::time::Duration;

use nearfs_fs_server::config::Timings;
use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, Node, RequestId, SessionId, TransferId};
use nearfs_protocol::limits::{SHOWN_PATH_BYTES_MAX, TRANSFERS_MAX, TRANSFERS_SHOWN_MAX};
use nearfs_protocol::message::{Publication, ReleasedFile, RenameMode, Reply, Request, WriteAt, WriteSync};
use nearfs_protocol::roster::{SessionReport, Tally, TransferKind, TransferOutcome};

use crate::harness::*;

impl Client {
    fn announce(&mut self, kind: TransferKind, text: &str, total_bytes: u64) -> Result<TransferId, String> {
        let parent = self.root();
        self.announce_in(parent, kind, text, total_bytes, None)
    }

    fn announce_in(
        &mut self,
        parent: Node,
        kind: TransferKind,
        text: &str,
        total_bytes: u64,
        fh: Option<Fh>,
    ) -> Result<TransferId, String> {
        match self.ask(&Request::Announce { kind, parent, name: name(text), total_bytes, fh }, b"").0 {
            Ok(Reply::Announced(transfer)) => Ok(transfer),
            Ok(Reply::Busy(busy)) => Err(busy.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, transfer: TransferId) -> Result<Tally, Errno> {
        let request = Request::EndTransfer { transfer, outcome: TransferOutcome::Done };
        match self.ask(&request, b"").0? {
            Reply::Transferred(tally) => Ok(tally),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, fh: Fh, bytes: usize) {
        let write = Request::Write { fh, at: WriteAt::End, sync: WriteSync::None };
        self.ask(&write, &vec![1; bytes]).0.unwrap();
    }

    fn release(&mut self, fh: Fh) {
        let files = vec![ReleasedFile { fh, flock_owner: None }];
        self.ask(&Request::Release { files }, b"").0.unwrap();
    }

    fn node_of(&mut self, parent: Node, text: &str) -> Node {
        let lookup = Request::Lookup { parent, name: name(text), also_open: None };
        match self.ask(&lookup, b"").0 {
            Ok(Reply::Entry { attr, .. }) => attr.node,
            other => panic!("{other:?}"),
        }
    }

    fn sessions(&mut self) -> Vec<SessionReport> {
        match self.ask(&Request::ListSessions { after: SessionId(0) }, b"").0 {
            Ok(Reply::Sessions { sessions, .. }) => sessions,
            other => panic!("{other:?}"),
        }
    }
}

const KINDS: [TransferKind; 4] =
    [TransferKind::Upload, TransferKind::Download, TransferKind::Delete, TransferKind::Rename];

#[test]
fn another_shell_is_told_who_is_at_a_name_and_how_far() {
    let served = Served::start();
    let (mut anna, mut ben) = (served.client(), served.client());
    let upload = anna.announce(TransferKind::Upload, "report", 5000).unwrap();
    let fh = anna.create(".report.part");
    anna.ask(&Request::CountFile { transfer: upload, fh }, b"").0.unwrap();
    anna.write(fh, 2000);
    for kind in KINDS {
        let busy = ben.announce(kind, "report", 1).unwrap_err();
        let address = served.address.ip();
        let expected = format!("being uploaded by wire test ({address}:");
        assert!(busy.starts_with(&expected) && busy.ends_with("), 40 %"), "{busy}");
        anna.announce(kind, "report", 1).unwrap();
    }
    assert!(ben.announce(TransferKind::Upload, "other", 1).is_ok());
    // Whoever announces nothing is never refused.
    let theirs = ben.create("report");
    ben.write(theirs, 10);
    let unlink = Request::Unlink { parent: ben.root(), name: name("report") };
    assert!(ben.ask(&unlink, b"").0.is_ok());
}

#[test]
fn each_kind_is_in_the_way_or_not() {
    let served = Served::start();
    let (mut anna, mut ben) = (served.client(), served.client());
    for (number, running) in KINDS.into_iter().enumerate() {
        let text = format!("name {number}");
        let transfer = anna.announce(running, &text, 0).unwrap();
        for wanted in KINDS {
            let refused = ben.announce(wanted, &text, 0).err();
            let expected = running.is_exclusive().then(|| format!("being {} by ", running.participle()));
            assert_eq!(refused.is_some(), expected.is_some(), "{running:?} {wanted:?}");
            if let (Some(refused), Some(expected)) = (refused, expected) {
                assert!(refused.starts_with(&expected) && !refused.contains('%'), "{refused}");
            }
        }
        anna.end(transfer).unwrap();
    }
}

#[test]
fn what_is_below_a_directory_that_goes_is_busy_too() {
    let served = Served::start();
    std::fs::create_dir_all(served.directory.path().join("a/b/c")).unwrap();
    let (mut anna, mut ben) = (served.client(), served.client());
    let below = ["a", "b", "c"].iter().fold(ben.root(), |parent, text| ben.node_of(parent, text));
    let into = anna.announce(TransferKind::Upload, "a", 0).unwrap();
    assert!(ben.announce_in(below, TransferKind::Upload, "new", 0, None).is_ok(), "two fill one directory");
    anna.end(into).unwrap();
    let going = anna.announce(TransferKind::Delete, "a", 0).unwrap();
    let busy = ben.announce_in(below, TransferKind::Upload, "new", 0, None).unwrap_err();
    assert!(busy.starts_with("being deleted by wire test ("), "{busy}");
    anna.end(going).unwrap();
    assert!(ben.announce_in(below, TransferKind::Download, "old", 0, None).is_ok());
    let paths: Vec<_> = ben.sessions()[1].transfers.iter().map(|transfer| transfer.path.clone()).collect();
    assert_eq!(paths, [b"a/b/c/new".to_vec(), b"a/b/c/old".to_vec()]);
}

#[test]
fn what_passes_is_counted() {
    let served = Served::start();
    let mut client = served.client();
    let fh = client.create("one");
    let root = client.root();
    let tied = client.announce_in(root, TransferKind::Upload, "one", 300, Some(fh)).unwrap();
    let tree = client.announce(TransferKind::Upload, "tree", 0).unwrap();
    let down = client.announce(TransferKind::Download, "tree", 0).unwrap();
    let gone = client.announce(TransferKind::Delete, "tree", 0).unwrap();
    client.write(fh, 100);
    let other = client.create("two");
    client.write(other, 20);
    client.ask(&Request::Read { fh: other, offset: 0, size: 7 }, b"").0.unwrap();
    client.ask(&Request::Unlink { parent: root, name: name("two") }, b"").0.unwrap();
    let mine = client.sessions().pop().unwrap();
    assert_eq!((mine.transfer_count, mine.transfers.len()), (4, TRANSFERS_SHOWN_MAX));
    assert_eq!((mine.transfers[0].transfer, mine.transfers[0].tally.bytes), (tied, 100));
    let counted = |tally: Result<Tally, Errno>| tally.map(|tally| (tally.bytes, tally.files));
    assert_eq!(counted(client.end(tied)), Ok((100, 1)));
    assert_eq!(counted(client.end(tree)), Ok((20, 1)));
    assert_eq!(counted(client.end(down)), Ok((7, 0)));
    assert_eq!(counted(client.end(gone)), Ok((0, 1)));
    assert_eq!(client.end(gone), Err(Errno::ENOENT));
    assert_eq!(client.sessions().pop().unwrap().transfer_count, 0);
}

#[test]
fn small_files_that_come_with_their_open_are_counted() {
    let served = Served::start();
    std::fs::write(served.directory.path().join("small"), [1; 900]).unwrap();
    let mut client = served.client();
    let root = client.root();
    let node = client.node_of(root, "small");
    let down = client.announce(TransferKind::Download, "small", 900).unwrap();
    let open = Request::Open { node, flags: 0, content_bytes_max: 4096 };
    assert_eq!(client.ask(&open, b"").1.len(), 900);
    let tally = client.end(down).unwrap();
    assert_eq!((tally.bytes, tally.files), (900, 1));
}

#[test]
fn whole_files_of_one_request_each_are_counted() {
    let served = Served::start();
    let mut client = served.client();
    let parent = client.root();
    let up = client.announce(TransferKind::Upload, "tree", 0).unwrap();
    let down = client.announce(TransferKind::Download, "tree", 0).unwrap();
    for number in 0..3 {
        let content = vec![number; 700];
        let name = name(&format!("stored {number}"));
        let hash = nearfs_protocol::hash::hash(&content);
        let (mode, umask, set) = (0o644, 0, Default::default());
        let store = Request::Store { parent, name: name.clone(), mode, umask, set, hash };
        client.ask(&store, &content).0.unwrap();
        if number > 0 {
            let fetch = Request::Fetch { parent, name, content_bytes_max: 4096 };
            client.ask(&fetch, b"").0.unwrap();
        }
    }
    let counted = |tally: Tally| (tally.bytes, tally.files);
    assert_eq!(client.end(up).map(counted), Ok((2100, 3)));
    assert_eq!(client.end(down).map(counted), Ok((1400, 2)));
}

#[test]
fn a_file_that_is_published_counts_once_and_its_journal_not_at_all() {
    let served = Served::start();
    let mut client = served.client();
    let parent = client.root();
    let up = client.announce(TransferKind::Upload, "big", 0).unwrap();
    let part = client.create(".nearfs-0123.part");
    let journal = client.create(".nearfs-0123.journal");
    client.write(part, 500);
    client.write(journal, 40);
    let content = [3; 70];
    let (staged, mode, umask, set) = (name(".nearfs-4567.part"), 0o644, 0, Default::default());
    let hash = nearfs_protocol::hash::hash(&content);
    client.ask(&Request::Store { parent, name: staged.clone(), mode, umask, set, hash }, &content).0.unwrap();
    let items = [(name(".nearfs-0123.part"), "big"), (staged, "small"), (name(".nearfs-89.part"), "none")];
    let items =
        items.map(|(staged, to)| Publication { parent, staged, name: name(to), mode: RenameMode::NoReplace });
    client.ask(&Request::Publish { items: items.into() }, b"").0.unwrap();
    client.release(journal);
    assert_eq!(client.end(up).map(|tally| (tally.bytes, tally.files)), Ok((570, 2)));
    // Without a transfer nothing is counted, and the journal's number is forgotten.
    let again = client.announce(TransferKind::Upload, "big", 0).unwrap();
    client.write(part, 7);
    assert_eq!(client.end(again).map(|tally| (tally.bytes, tally.files)), Ok((7, 0)));
}

#[test]
fn a_transfer_ends_with_the_last_of_its_files() {
    let served = Served::start();
    let mut client = served.client();
    let root = client.root();
    let (one, two) = (client.create("one"), client.create("two"));
    let transfer = client.announce_in(root, TransferKind::Upload, "x", 0, Some(one)).unwrap();
    client.ask(&Request::CountFile { transfer, fh: two }, b"").0.unwrap();
    client.ask(&Request::CountFile { transfer, fh: two }, b"").0.unwrap();
    client.release(one);
    assert_eq!(client.sessions()[0].transfer_count, 1);
    client.release(two);
    assert_eq!(client.sessions()[0].transfer_count, 0);
    assert_eq!(client.end(transfer), Err(Errno::ENOENT));
}

#[test]
fn a_transfer_ends_with_its_session_and_with_its_lease() {
    let timings = Timings { lease: Duration::from_millis(300), ..Timings::default() };
    let served = Served::start_with(timings, 64);
    let (mut leaving, mut vanishing, mut other) = (served.client(), served.client(), served.client());
    leaving.announce(TransferKind::Upload, "left", 0).unwrap();
    vanishing.announce(TransferKind::Upload, "vanished", 0).unwrap();
    leaving.send_raw(&frame(FrameKind::Bye, RequestId(0), &(), b""));
    assert!(leaving.is_closed());
    wait_until(|| other.announce(TransferKind::Download, "left", 0).is_ok());
    vanishing.link.closer().close();
    served.await_active(1);
    assert!(other.announce(TransferKind::Download, "vanished", 0).is_err(), "it may come back");
    wait_until(|| other.announce(TransferKind::Download, "vanished", 0).is_ok());
}

#[test]
fn nobody_ends_or_feeds_the_transfers_of_others() {
    let served = Served::start();
    let (mut anna, mut ben) = (served.client(), served.client());
    let transfer = anna.announce(TransferKind::Upload, "x", 0).unwrap();
    let fh = ben.create("file");
    assert_eq!(ben.ask(&Request::CountFile { transfer, fh }, b"").0, Err(Errno::ENOENT));
    assert_eq!(ben.end(transfer), Err(Errno::ENOENT));
    assert_eq!(anna.ask(&Request::CountFile { transfer, fh: Fh(99) }, b"").0, Err(Errno::EBADF));
    let stranger = Node { id: nearfs_protocol::id::NodeId(12345), ..Node::default() };
    let unknown = Request::Announce {
        kind: TransferKind::Upload,
        parent: stranger,
        name: name("x"),
        total_bytes: 0,
        fh: None,
    };
    assert_eq!(anna.ask(&unknown, b"").0, Err(Errno::ESTALE));
}

#[test]
fn announcements_are_bounded_and_harm_nobody() {
    let served = Served::start();
    let (mut hostile, mut other) = (served.client(), served.client());
    let root = hostile.root();
    let name_of = |number: usize| format!("{number}\n\u{1b}[2J{}", "x".repeat(200));
    for number in 0..TRANSFERS_MAX {
        hostile.announce(TransferKind::Upload, &name_of(number), u64::MAX).unwrap();
    }
    for _ in 0..2000 {
        let one_more = Request::Announce {
            kind: TransferKind::Delete,
            parent: root,
            name: name("one more"),
            total_bytes: 1,
            fh: None,
        };
        assert_eq!(hostile.ask(&one_more, b"").0, Err(Errno::EMFILE));
    }
    let report = hostile.sessions().remove(0);
    assert_eq!(
        (report.transfer_count as usize, report.transfers.len()),
        (TRANSFERS_MAX, TRANSFERS_SHOWN_MAX)
    );
    assert!(report.transfers.iter().all(|transfer| transfer.path.len() <= SHOWN_PATH_BYTES_MAX));
    let busy = other.announce(TransferKind::Upload, &name_of(7), 1).unwrap_err();
    assert!(busy.ends_with(", 0 %"), "{busy}");
    hostile.send_raw(&frame(FrameKind::Bye, RequestId(0), &(), b""));
    assert!(hostile.is_closed());
    wait_until(|| other.announce(TransferKind::Delete, &name_of(7), 1).is_ok());
}
