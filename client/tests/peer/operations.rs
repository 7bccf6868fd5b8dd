//! Each operation asks the server once, for exactly what it is about, and returns what the server says.

use std::sync::Arc;
use std::time::Duration;

use nearfs_client::config::VfsConfig;
use nearfs_client::vfs::Vfs;
use nearfs_protocol::attr::{DirEntry, FileKind, Lock, LockKind, LockStyle, SetAttr, SetTime, StatFs};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Fh};
use nearfs_protocol::message::{
    DirChange, RenameMode, Reply, Request, SeekTarget, WriteAt, WriteSync, Written, XattrMode,
};

use crate::scripted::{Asked, Done, ME, Peer, ask, list, write};
use crate::values::{
    ROOT, created, directory, file, listed, look_up, made, name, node, open, removed, renamed, with_open_file,
};

/// Begins an operation, finds exactly this request at the server, answers it, and returns what came of it.
#[track_caller]
fn exchange<T: Send + 'static>(
    peer: &Peer,
    request: Request,
    answer: impl FnOnce(&Asked),
    begin: impl FnOnce(Done<T>),
) -> Result<T, Errno> {
    let pending = ask(begin);
    answer(&peer.expect(&request));
    pending.get()
}

fn done(asked: &Asked) {
    asked.reply(Reply::Done);
}

#[test]
fn names_are_made_with_one_request_each() {
    let (peer, vfs) = Peer::with_client();
    let (parent, attr) = (ROOT, file(7, 0, 1));
    let as_file = |asked: &Asked| asked.reply(made(attr));

    let request = Request::MakeDir { parent, name: name("d"), mode: 0o750, umask: 0o22 };
    let dir = directory(8, 1);
    let as_dir = |asked: &Asked| asked.reply(made(dir));
    let found = exchange(&peer, request, as_dir, |done| vfs.mkdir(ME, 1, b"d", 0o750, 0o22, done)).unwrap();
    assert_eq!((found.ino, found.attr, found.generation), (8, dir, 1));

    let rdev = libc::makedev(1, 3);
    let request = Request::MakeNode { parent, name: name("n"), mode: 0o20644, umask: 0, rdev };
    exchange(&peer, request, as_file, |done| vfs.mknod(ME, 1, b"n", 0o20644, 0, 0x103, done)).unwrap();

    let request = Request::Symlink { parent, name: name("s"), target: b"../x".to_vec() };
    exchange(&peer, request, as_file, |done| vfs.symlink(ME, 1, b"s", b"../x", done)).unwrap();

    let request = Request::Link { node: attr.node, new_parent: dir.node, new_name: name("l") };
    exchange(&peer, request, as_file, |done| vfs.link(ME, 7, 8, b"l", done)).unwrap();

    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    let request = Request::Create { parent, name: name("c"), mode: 0o600, umask: 0o77, flags: flags as u32 };
    let as_open = |asked: &Asked| asked.reply(created(500, file(9, 0, 1)));
    let (found, opened) =
        exchange(&peer, request, as_open, |done| vfs.create(ME, 1, b"c", 0o600, 0o77, flags, done)).unwrap();
    assert_eq!((found.ino, opened.direct_io), (9, false));
    peer.expect_nothing(&vfs);
}

#[test]
fn names_are_moved_and_removed_with_one_request_each() {
    let (peer, vfs) = Peer::with_client();
    let parent = ROOT;
    let gone = |asked: &Asked| asked.reply(removed());
    let moved = |asked: &Asked| asked.reply(renamed(file(7, 0, 2)));
    let request = Request::Unlink { parent, name: name("a") };
    exchange(&peer, request, gone, |done| vfs.unlink(ME, 1, b"a", done)).unwrap();
    let request = Request::RemoveDir { parent, name: name("d") };
    exchange(&peer, request, gone, |done| vfs.rmdir(ME, 1, b"d", done)).unwrap();
    for (flags, mode) in [
        (0, RenameMode::Replace),
        (libc::RENAME_NOREPLACE, RenameMode::NoReplace),
        (libc::RENAME_EXCHANGE, RenameMode::Exchange),
    ] {
        let request =
            Request::Rename { parent, name: name("a"), new_parent: parent, new_name: name("b"), mode };
        exchange(&peer, request, moved, |done| vfs.rename(ME, 1, b"a", 1, b"b", flags, done)).unwrap();
    }
    let whiteout = ask(|done| vfs.rename(ME, 1, b"a", 1, b"b", libc::RENAME_WHITEOUT, done));
    assert_eq!(whiteout.get(), Err(Errno::EINVAL));
    peer.expect_nothing(&vfs);
}

#[test]
fn attributes_are_read_and_changed_with_one_request_each() {
    let (peer, vfs) = Peer::with_client();
    let attr = file(7, 10, 1);
    let fh = with_open_file(&peer, &vfs, attr);
    let set = SetAttr {
        mode: Some(0o600),
        uid: Some(5),
        gid: Some(6),
        size: Some(3),
        atime: Some(SetTime::Now),
        mtime: None,
    };
    let after = file(7, 3, 2);
    let changed = |asked: &Asked| asked.reply(Reply::Changed { before: Change(1), attr: after });
    let request = Request::SetAttr { node: attr.node, fh: Some(Fh(500)), set };
    let shown = exchange(&peer, request, changed, |done| vfs.setattr(ME, 7, Some(fh), set, done)).unwrap();
    assert_eq!((shown.ino, shown.attr), (7, after));

    let request = Request::Access { node: attr.node, mask: 6 };
    let refused = |asked: &Asked| asked.fail(Errno::EACCES);
    assert_eq!(exchange(&peer, request, refused, |done| vfs.access(ME, 7, 6, done)), Err(Errno::EACCES));

    let request = Request::StatFs { node: ROOT };
    let figures = StatFs { blocks: 77, ..StatFs::default() };
    let answered = |asked: &Asked| asked.reply(Reply::StatFs(figures));
    assert_eq!(exchange(&peer, request, answered, |done| vfs.statfs(ME, 1, done)), Ok(figures));

    look_up(&peer, &vfs, "link", nearfs_protocol::attr::Attr { kind: FileKind::Symlink, ..file(8, 4, 1) });
    let request = Request::ReadLink { node: node(8) };
    let target = |asked: &Asked| asked.reply_with(Reply::Done, b"../x");
    assert_eq!(exchange(&peer, request, target, |done| vfs.readlink(ME, 8, done)), Ok(b"../x".to_vec()));
    // A symlink never changes, so that nobody has to ask twice.
    assert_eq!(ask(|done| vfs.readlink(ME, 8, done)).get(), Ok(b"../x".to_vec()));
    peer.expect_nothing(&vfs);
}

#[test]
fn extended_attributes_take_one_request_each() {
    let (peer, vfs) = Peer::with_client();
    let node = file(7, 10, 1).node;
    look_up(&peer, &vfs, "file", file(7, 10, 1));
    let attribute = || b"user.x".to_vec();
    for (flags, mode) in [
        (0, XattrMode::Set),
        (libc::XATTR_CREATE, XattrMode::Create),
        (libc::XATTR_REPLACE, XattrMode::Replace),
    ] {
        let request = Request::SetXattr { node, name: attribute(), mode };
        let stored = |asked: &Asked| {
            assert_eq!(asked.payload, b"value");
            asked.reply(Reply::Done);
        };
        exchange(&peer, request, stored, |done| vfs.setxattr(ME, 7, b"user.x", b"value", flags, done))
            .unwrap();
    }
    let value = |asked: &Asked| asked.reply_with(Reply::Done, b"value");
    let request = Request::GetXattr { node, name: attribute() };
    let found = exchange(&peer, request, value, |done| vfs.getxattr(ME, 7, b"user.x", done));
    assert_eq!(found, Ok(b"value".to_vec()));
    let request = Request::ListXattr { node };
    let names = |asked: &Asked| asked.reply_with(Reply::Done, b"user.x\0");
    assert_eq!(exchange(&peer, request, names, |done| vfs.listxattr(ME, 7, done)), Ok(b"user.x\0".to_vec()));
    let request = Request::RemoveXattr { node, name: attribute() };
    exchange(&peer, request, done, |done| vfs.removexattr(ME, 7, b"user.x", done)).unwrap();

    let too_long = vec![0; 64 * 1024 + 1];
    let refused = ask(|done| vfs.setxattr(ME, 7, b"user.x", &too_long, 0, done));
    assert_eq!(refused.get(), Err(Errno::E2BIG));
    let refused = ask(|done| vfs.getxattr(ME, 7, &[b'x'; 256], done));
    assert_eq!(refused.get(), Err(Errno::ERANGE));
    peer.expect_nothing(&vfs);
}

#[test]
fn writes_are_sent_as_they_are_made() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let pending = write(&vfs, fh, 4, b"abc");
    let at = WriteAt::Offset(4);
    let asked = peer.expect(&Request::Write { fh: Fh(500), at, sync: WriteSync::None });
    assert_eq!(asked.payload, b"abc");
    let written = Written { size: 3, offset: 4, before: Change(1), attr: file(7, 10, 2) };
    asked.reply(Reply::Written(written));
    assert_eq!(pending.get(), Ok(3));

    let appending = open(&peer, &vfs, file(7, 10, 2), libc::O_WRONLY | libc::O_APPEND, 501);
    let pending = write(&vfs, appending, 4, b"end");
    let asked = peer.expect(&Request::Write { fh: Fh(501), at: WriteAt::End, sync: WriteSync::None });
    asked.reply(Reply::Written(Written { size: 3, offset: 10, before: Change(2), attr: file(7, 13, 3) }));
    assert_eq!(pending.get(), Ok(3));

    let pending = ask(|done| vfs.fsync(ME, 7, fh, true, done));
    peer.expect(&Request::Fsync { fh: Fh(500), data_only: true }).reply(Reply::Done);
    pending.get().unwrap();
    peer.expect_nothing(&vfs);
}

#[test]
fn a_synchronous_mount_says_so_with_each_write() {
    let (peer, vfs) = Peer::with(nearfs_client::config::VfsConfig { sync: true, ..Default::default() });
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let pending = write(&vfs, fh, 4, b"abc");
    let at = WriteAt::Offset(4);
    let asked = peer.expect(&Request::Write { fh: Fh(500), at, sync: WriteSync::All });
    asked.reply(Reply::Written(Written { size: 3, offset: 4, before: Change(1), attr: file(7, 10, 2) }));
    assert_eq!(pending.get(), Ok(3));
}

#[test]
fn space_is_allocated_sought_and_copied_with_one_request_each() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let to = open(&peer, &vfs, file(7, 10, 1), libc::O_RDWR, 501);

    let request = Request::Allocate { fh: Fh(500), mode: 3, offset: 1, length: 2 };
    let changed = |asked: &Asked| asked.reply(Reply::Changed { before: Change(1), attr: file(7, 10, 2) });
    exchange(&peer, request, changed, |done| vfs.fallocate(ME, 7, fh, 1, 2, 3, done)).unwrap();

    let request = Request::Seek { fh: Fh(500), offset: 3, target: SeekTarget::Hole };
    let found = |asked: &Asked| asked.reply(Reply::Offset(10));
    let place = exchange(&peer, request, found, |done| vfs.lseek(ME, 7, fh, 3, libc::SEEK_HOLE, done));
    assert_eq!(place, Ok(10));
    let negative = ask(|done| vfs.lseek(ME, 7, fh, -1, libc::SEEK_DATA, done));
    assert_eq!(negative.get(), Err(Errno::ENXIO));

    let request = Request::CopyRange { from: Fh(500), from_offset: 0, to: Fh(501), to_offset: 20, length: 5 };
    let written = Written { size: 5, offset: 20, before: Change(2), attr: file(7, 25, 3) };
    let copied = |asked: &Asked| asked.reply(Reply::Written(written));
    let size = exchange(&peer, request, copied, |done| {
        vfs.copy_file_range(ME, 7, fh, 0, 7, to, 20, 5, done);
    });
    assert_eq!(size, Ok(5));
    peer.expect_nothing(&vfs);
}

#[test]
fn locks_are_the_servers() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let lock =
        Lock { start: 0, end: u64::MAX, kind: LockKind::Write, style: LockStyle::Posix, owner: 3, pid: 4 };
    let request = Request::GetLock { fh: Fh(500), lock };
    let nobody = |asked: &Asked| asked.reply(Reply::Lock(None));
    assert_eq!(exchange(&peer, request, nobody, |done| vfs.getlk(ME, 7, fh, lock, done)), Ok(None));
    let request = Request::SetLock { fh: Fh(500), lock, wait: true };
    exchange(&peer, request, done, |done| vfs.setlk(ME, 7, fh, lock, true, done)).unwrap();
}

#[test]
fn flush_asks_only_for_those_who_locked() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    ask(|done| vfs.flush(ME, 7, fh, 3, done)).get().unwrap();
    peer.expect_nothing(&vfs);

    let lock = Lock { start: 0, end: 9, kind: LockKind::Read, style: LockStyle::Posix, owner: 3, pid: 4 };
    let pending = ask(|done| vfs.setlk(ME, 7, fh, lock, false, done));
    peer.expect(&Request::SetLock { fh: Fh(500), lock, wait: false }).reply(Reply::Done);
    pending.get().unwrap();
    ask(|done| vfs.flush(ME, 7, fh, 4, done)).get().unwrap();
    peer.expect_nothing(&vfs);
    let request = Request::Flush { fh: Fh(500), owner: 3 };
    exchange(&peer, request, done, |done| vfs.flush(ME, 7, fh, 3, done)).unwrap();
    ask(|done| vfs.flush(ME, 7, fh, 3, done)).get().unwrap();
    peer.expect_nothing(&vfs);
}

#[test]
fn a_directory_is_opened_and_read_with_one_request() {
    let (peer, vfs) = Peer::with_client();
    let pending = ask(|done| vfs.opendir(ME, 1, done));
    let asked = peer.call();
    assert!(
        matches!(asked.request, Request::ReadDir { node: ROOT, cookie: 0, with_attrs: true, .. }),
        "{asked:?}"
    );
    let entries = vec![listed("a", 11, file(7, 1, 1)), listed("b", 12, file(8, 1, 1))];
    asked.reply(Reply::Listing { entries, end: true, exact: true, change: Change(1) });
    let fh = pending.get().unwrap().fh;
    let names = |items: Vec<(Vec<u8>, u64)>| items.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(list(&vfs, fh, 0, 3).get().unwrap()), [&b"."[..], b"..", b"a"]);
    let rest = list(&vfs, fh, 13, 3).get().unwrap();
    assert_eq!(rest, [(b"b".to_vec(), 14)]);
    assert_eq!(list(&vfs, fh, 14, 3).get().unwrap(), []);
    vfs.releasedir(1, fh);
    peer.expect_nothing(&vfs);
}

#[test]
fn a_reference_that_is_given_back_at_once_counts() {
    let (peer, vfs) = Peer::with_client();
    let pending = ask(|done| vfs.opendir(ME, 1, done));
    let entries = vec![listed("a", 11, file(7, 1, 1)), listed("b", 12, file(8, 1, 1))];
    peer.call().reply(Reply::Listing { entries, end: true, exact: true, change: Change(1) });
    let fh = pending.get().unwrap().fh;
    let forgetting = Arc::clone(&vfs);
    vfs.readdir(ME, 1, fh, 2, true, move |items| {
        assert_eq!(items.unwrap().len(), 2);
        forgetting.forget(7, 1);
        1
    });
    peer.expect(&Request::Forget { nodes: vec![(node(7), 1)] }).reply(Reply::Done);
    vfs.releasedir(1, fh);
    peer.expect(&Request::Forget { nodes: vec![(node(8), 1)] }).reply(Reply::Done);
}

#[test]
fn a_directory_that_is_opened_again_at_once_is_not_listed_again() {
    let (peer, vfs) = Peer::with_client();
    let list_it = |asked: Asked| {
        assert!(matches!(asked.request, Request::ReadDir { node: ROOT, cookie: 0, .. }), "{asked:?}");
        let entries = vec![listed("a", 11, file(7, 1, 1)), listed("b", 12, file(8, 1, 1))];
        asked.reply(Reply::Listing { entries, end: true, exact: true, change: Change(1) });
    };
    let pending = ask(|done| vfs.getattr(ME, 1, None, done));
    peer.call().reply(Reply::Attr(directory(100, 1)));
    pending.get().unwrap();
    let pending = ask(|done| vfs.opendir(ME, 1, done));
    list_it(peer.call());
    let first = pending.get().unwrap().fh;
    assert_eq!(list(&vfs, first, 0, 9).get().unwrap().len(), 4);

    let second = ask(|done| vfs.opendir(ME, 1, done)).get().unwrap().fh;
    assert_eq!(list(&vfs, second, 0, 3).get().unwrap().len(), 3);
    vfs.releasedir(1, first);
    vfs.releasedir(1, second);
    peer.expect_nothing(&vfs);

    // One that the kernel does not know any more comes with a new reference.
    vfs.forget(8, 1);
    peer.expect(&Request::Forget { nodes: vec![(node(8), 1)] }).reply(Reply::Done);
    let third = ask(|done| vfs.opendir(ME, 1, done)).get().unwrap().fh;
    let pending = list(&vfs, third, 0, 9);
    list_it(peer.call());
    assert_eq!(pending.get().unwrap().len(), 4);
    vfs.forget(7, 3);
    peer.expect(&Request::Forget { nodes: vec![(node(7), 2)] }).reply(Reply::Done);
}

#[test]
fn a_directory_that_is_only_synced_is_not_listed() {
    let (peer, vfs) = Peer::with_client();
    let list_it = |asked: Asked| {
        assert!(matches!(asked.request, Request::ReadDir { node: ROOT, cookie: 0, .. }), "{asked:?}");
        asked.reply(Reply::Listing { entries: vec![], end: true, exact: true, change: Change(1) });
    };
    let change_it = |before: u64| {
        let pending = ask(|done| vfs.unlink(ME, 1, b"journal", done));
        let change = DirChange { before: Change(before), attr: directory(100, before + 1) };
        peer.call().reply(Reply::Removed { parent: Box::new(change) });
        pending.get().unwrap();
    };
    look_up(&peer, &vfs, "journal", file(7, 1, 1));
    let pending = ask(|done| vfs.getattr(ME, 1, None, done));
    peer.call().reply(Reply::Attr(directory(100, 1)));
    pending.get().unwrap();
    let pending = ask(|done| vfs.opendir(ME, 1, done));
    list_it(peer.call());
    vfs.releasedir(1, pending.get().unwrap().fh);

    change_it(1);
    let fh = ask(|done| vfs.opendir(ME, 1, done)).get().unwrap().fh;
    let pending = ask(|done| vfs.fsyncdir(ME, 1, fh, false, done));
    peer.expect(&Request::FsyncDir { node: ROOT, data_only: false }).reply(Reply::Done);
    pending.get().unwrap();
    // Should it be read after all, it is asked for then, and with the next open again.
    let pending = list(&vfs, fh, 0, 3);
    list_it(peer.call());
    assert_eq!(pending.get().unwrap().len(), 2);
    vfs.releasedir(1, fh);
    change_it(2);
    let pending = ask(|done| vfs.opendir(ME, 1, done));
    list_it(peer.call());
    pending.get().unwrap();
}

#[test]
fn a_listing_is_gone_on_with_where_the_reader_is() {
    let (peer, vfs) = Peer::with_client();
    let pending = ask(|done| vfs.opendir(ME, 1, done));
    let entries = vec![listed("a", 11, file(7, 1, 1)), listed("b", 12, file(8, 1, 1))];
    peer.call().reply(Reply::Listing { entries, end: false, exact: false, change: Change(1) });
    let fh = pending.get().unwrap().fh;
    assert_eq!(list(&vfs, fh, 0, 9).get().unwrap().len(), 4);
    let pending = list(&vfs, fh, 14, 9);
    let asked = peer.call();
    assert!(matches!(asked.request, Request::ReadDir { node: ROOT, cookie: 12, .. }), "{asked:?}");
    let entries = vec![listed("c", 13, file(9, 1, 1))];
    asked.reply(Reply::Listing { entries, end: true, exact: true, change: Change(1) });
    assert_eq!(pending.get().unwrap(), [(b"c".to_vec(), 15)]);

    // Going back (rewinddir(3)) begins anew.
    let pending = list(&vfs, fh, 0, 9);
    let asked = peer.call();
    assert!(matches!(asked.request, Request::ReadDir { cookie: 0, .. }), "{asked:?}");
    asked.reply(Reply::Listing { entries: vec![], end: true, exact: true, change: Change(2) });
    assert_eq!(pending.get().unwrap().len(), 2);
}

#[test]
fn a_server_that_seems_far_is_asked_again_how_far_it_is() {
    let far = VfsConfig { far_round_trip: Duration::ZERO, ..VfsConfig::default() };
    let (peer, vfs) = Peer::with(far);
    let measuring = std::thread::spawn(move || vfs.is_measured_far());
    for _ in 0..2 {
        peer.expect(&Request::StatFs { node: ROOT }).reply(Reply::StatFs(StatFs::default()));
    }
    assert!(measuring.join().unwrap());
    let (peer, vfs) = Peer::with_client();
    assert!(!vfs.is_measured_far());
    peer.expect_nothing(&vfs);
}

#[test]
fn forgotten_nodes_and_closed_files_are_told_together() {
    let (peer, vfs) = Peer::with_client();
    for id in 10..20 {
        look_up(&peer, &vfs, &format!("f{id}"), file(id, 0, 1));
    }
    // One that was looked up twice counts twice, and only the last of the kernel's references gives it back.
    look_up_again(&peer, &vfs, file(10, 0, 1));
    let files: Vec<u64> = (10..20).map(|id| open(&peer, &vfs, file(id, 0, 1), libc::O_RDONLY, id)).collect();
    for (id, fh) in (10..20).zip(files) {
        vfs.release(id, fh, None);
        vfs.forget(id, 1);
    }
    let mut nodes = Vec::new();
    let mut closed = Vec::new();
    while nodes.len() < 9 || closed.len() < 10 {
        let asked = peer.call();
        asked.reply(Reply::Done);
        match asked.request {
            Request::Forget { nodes: more } => nodes.extend(more),
            Request::Release { files } => closed.extend(files.into_iter().map(|file| file.fh)),
            other => panic!("{other:?}"),
        }
    }
    nodes.sort();
    assert_eq!(nodes, (11..20).map(|id| (node(id), 1)).collect::<Vec<_>>());
    closed.sort();
    assert_eq!(closed, (10..20).map(Fh).collect::<Vec<_>>());
    let batches =
        |kind| vfs.status().requests_sent.iter().find(|(name, _)| *name == kind).map_or(0, |sent| sent.1);
    assert!(batches("forget") + batches("release") <= 10, "20 things were told one by one");

    vfs.forget(10, 1);
    peer.expect(&Request::Forget { nodes: vec![(node(10), 2)] }).reply(Reply::Done);
    assert_eq!(ask(|done| vfs.getattr(ME, 10, None, done)).get().unwrap_err(), Errno::ESTALE);
}

/// The same node by another name.
fn look_up_again(peer: &Peer, vfs: &Arc<Vfs>, attr: nearfs_protocol::attr::Attr) {
    look_up(peer, vfs, "other", attr);
}

#[test]
fn a_written_file_is_closed_at_once() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 0, 1));
    vfs.release(7, fh, None);
    let asked = peer.call();
    assert!(matches!(&asked.request, Request::Release { files } if files[0].fh == Fh(500)), "{asked:?}");
}

#[test]
fn numbers_of_nothing_are_refused_here() {
    let (peer, vfs) = Peer::with_client();
    assert_eq!(ask(|done| vfs.getattr(ME, 77, None, done)).get().unwrap_err(), Errno::ESTALE);
    assert_eq!(write(&vfs, 77, 0, b"x").get(), Err(Errno::EBADF));
    for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
        assert_eq!(ask(|done| vfs.lookup(ME, 1, bad, done)).get().unwrap_err(), Errno::EINVAL);
    }
    let long = ask(|done| vfs.mkdir(ME, 1, &[b'x'; 256], 0o755, 0, done));
    assert_eq!(long.get().unwrap_err(), Errno::ENAMETOOLONG);
    peer.expect_nothing(&vfs);
}

#[test]
fn what_the_server_says_unasked_is_confirmed() {
    let (peer, vfs) = Peer::with_client();
    let push = nearfs_protocol::message::Push::Stopping;
    peer.wire().send(nearfs_protocol::codec::FrameKind::Push, nearfs_protocol::id::RequestId(3), &push, &[]);
    match peer.hear() {
        crate::scripted::Heard::Ack(id) => assert_eq!(id.0, 3),
        other => panic!("{other:?} instead of an ack"),
    }
    peer.expect_nothing(&vfs);
}

#[test]
fn a_session_that_the_owner_ended_does_not_come_back() {
    let (peer, vfs) = Peer::with_client();
    let pending = ask(|done| vfs.statfs(ME, 1, done));
    peer.call();
    let push = nearfs_protocol::message::Push::EndedByOwner;
    peer.wire().send(nearfs_protocol::codec::FrameKind::Push, nearfs_protocol::id::RequestId(1), &push, &[]);
    assert_eq!(pending.get(), Err(Errno::EIO), "who waits is told at once");
    assert_eq!(ask(|done| vfs.statfs(ME, 1, done)).get(), Err(Errno::EIO));
    let status = vfs.status();
    assert!(!status.connected && status.connected_since.is_none());
    assert_eq!(status.last_error.as_deref(), Some("the session was ended by the server's owner"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(peer.hellos().len(), 1, "it does not connect again");
}

#[test]
fn the_end_is_told() {
    let (peer, vfs) = Peer::with_client();
    assert_eq!(vfs.shutdown(std::time::Duration::from_secs(1)), Vec::<String>::new());
    assert!(matches!(peer.hear(), crate::scripted::Heard::Bye));
    assert_eq!(ask(|done| vfs.statfs(ME, 1, done)).get(), Err(Errno::EIO));
}

/// Lists two files of one byte with something happening between opening and reading. Says of what size the files were
/// shown, for each name that came with a node that the kernel would keep. `again` says whether the client has to ask
/// once more, and what it is told then.
fn listed_sizes(
    peer: &Peer,
    vfs: &Arc<Vfs>,
    plus: bool,
    meanwhile: impl FnOnce(),
    again: Option<Vec<DirEntry>>,
) -> Vec<Option<u64>> {
    let pending = ask(|done| vfs.opendir(ME, 1, done));
    let entries = vec![listed("a", 11, file(7, 1, 1)), listed("b", 12, file(8, 1, 1))];
    peer.call().reply(Reply::Listing { entries, end: true, exact: true, change: Change(1) });
    let fh = pending.get().unwrap().fh;
    meanwhile();
    let pending = ask(|done| {
        vfs.readdir(ME, 1, fh, 2, plus, move |items| {
            let items = items.unwrap();
            done(Ok(items.iter().map(|item| item.entry.as_ref().map(|entry| entry.attr.size)).collect()));
            items.len()
        });
    });
    if let Some(entries) = again {
        peer.call().reply(Reply::Listing { entries, end: true, exact: true, change: Change(2) });
    }
    let sizes = pending.get().unwrap();
    vfs.releasedir(1, fh);
    sizes
}

#[test]
fn a_plain_listing_leaves_no_reference() {
    let (peer, vfs) = Peer::with_client();
    assert_eq!(listed_sizes(&peer, &vfs, false, || (), None), [None, None]);
    peer.expect(&Request::Forget { nodes: vec![(node(7), 1), (node(8), 1)] }).reply(Reply::Done);
    assert_eq!(vfs.status().nodes, 1, "only the root is known");
}

#[test]
fn what_changed_since_it_was_fetched_is_fetched_again() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "a", file(7, 1, 1));
    let change = || {
        let set = SetAttr { size: Some(9), ..SetAttr::default() };
        let pending = ask(|done| vfs.setattr(ME, 7, None, set, done));
        peer.call().reply(Reply::Changed { before: Change(1), attr: file(7, 9, 2) });
        pending.get().unwrap();
    };
    let anew = vec![listed("a", 11, file(7, 9, 2)), listed("b", 12, file(8, 1, 1))];
    assert_eq!(listed_sizes(&peer, &vfs, true, change, Some(anew)), [Some(9), Some(1)]);
    let remove = || {
        let pending = ask(|done| vfs.unlink(ME, 1, b"b", done));
        peer.call().reply(removed());
        pending.get().unwrap();
    };
    let anew = vec![listed("a", 11, file(7, 9, 2))];
    assert_eq!(listed_sizes(&peer, &vfs, true, remove, Some(anew)), [Some(9)]);
}

#[test]
fn what_was_fetched_long_ago_is_fetched_again() {
    let (peer, vfs) = Peer::with_client();
    let wait = || std::thread::sleep(std::time::Duration::from_millis(1050));
    let anew = vec![listed("a", 11, file(7, 5, 2)), listed("b", 12, file(8, 6, 2))];
    assert_eq!(listed_sizes(&peer, &vfs, true, wait, Some(anew)), [Some(5), Some(6)]);
}
