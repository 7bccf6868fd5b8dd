//! What is known is not asked again, until it may have changed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nearfs_client::config::VfsConfig;
use nearfs_client::vfs::types::{Invalidation, Lookup};
use nearfs_protocol::attr::{Attr, Lock, LockKind, LockStyle, SetAttr};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Fh};
use nearfs_protocol::message::{Reply, Request, Written};

use crate::scripted::{ME, Peer, ask, read, write};
use crate::values::{
    AFTER_TRUST, ROOT, content, directory, entry, file, look_up, made, name, node, open, opened, removed,
    renamed, with_open_file,
};

fn short_trust() -> VfsConfig {
    let trust = Duration::from_millis(50);
    VfsConfig { attr_timeout: trust, entry_timeout: trust, negative_timeout: trust, ..VfsConfig::default() }
}

#[test]
fn attributes_are_asked_again_only_after_their_time() {
    let (peer, vfs) = Peer::with(short_trust());
    look_up(&peer, &vfs, "file", file(7, 10, 1));
    for _ in 0..3 {
        ask(|done| vfs.getattr(ME, 7, None, done)).get().unwrap();
    }
    std::thread::sleep(AFTER_TRUST);
    let pending = ask(|done| vfs.getattr(ME, 7, None, done));
    peer.expect(&Request::GetAttr { node: node(7), fh: None }).reply(Reply::Attr(file(7, 11, 2)));
    let shown = pending.get().unwrap();
    assert_eq!(shown.attr.size, 11);
    assert!(shown.ttl <= Duration::from_millis(50));
}

#[test]
fn attributes_from_before_a_link_are_not_believed_after_it() {
    let (peer, vfs) = Peer::with(VfsConfig::default());
    look_up(&peer, &vfs, "file", file(7, 10, 1));
    std::thread::sleep(Duration::from_millis(1100)); // Until they are asked for again.
    let before = ask(|done| vfs.getattr(ME, 7, None, done));
    let asked = peer.expect(&Request::GetAttr { node: node(7), fh: None });
    let linked = ask(|done| vfs.link(ME, 7, 1, b"other", done));
    let request = Request::Link { node: node(7), new_parent: ROOT, new_name: name("other") };
    peer.expect(&request).reply(made(Attr { nlink: 2, ..file(7, 10, 2) }));
    assert_eq!(linked.get().unwrap().attr.nlink, 2);
    asked.reply(Reply::Attr(file(7, 10, 1)));
    before.get().unwrap();
    assert_eq!(ask(|done| vfs.getattr(ME, 7, None, done)).get().unwrap().attr.nlink, 2);
}

#[test]
fn names_and_their_absence_are_asked_again_only_after_their_time() {
    let (peer, vfs) = Peer::with(short_trust());
    let find = |text: &'static str| ask(|done| vfs.lookup(ME, 1, text.as_bytes(), done));
    look_up(&peer, &vfs, "here", file(7, 10, 1));
    let pending = find("gone");
    peer.expect(&Request::Lookup { parent: ROOT, name: name("gone"), also_open: None }).fail(Errno::ENOENT);
    assert!(matches!(pending.get().unwrap(), Lookup::Absent { ttl } if ttl > Duration::ZERO));
    assert!(matches!(find("here").get().unwrap(), Lookup::Found(found) if found.ino == 7));
    assert!(matches!(find("gone").get().unwrap(), Lookup::Absent { .. }));

    std::thread::sleep(AFTER_TRUST);
    let pending = find("gone");
    peer.expect(&Request::Lookup { parent: ROOT, name: name("gone"), also_open: None })
        .reply(entry(file(8, 0, 1)));
    assert!(matches!(pending.get().unwrap(), Lookup::Found(found) if found.ino == 8));
    let pending = find("here");
    peer.expect(&Request::Lookup { parent: ROOT, name: name("here"), also_open: None }).fail(Errno::ENOENT);
    assert!(matches!(pending.get().unwrap(), Lookup::Absent { .. }));
}

#[test]
fn nothing_is_trusted_longer_than_a_second_whatever_is_configured() {
    let trust = Duration::from_secs(3600);
    let config = VfsConfig {
        attr_timeout: trust,
        entry_timeout: trust,
        negative_timeout: trust,
        ..VfsConfig::default()
    };
    let (peer, vfs) = Peer::with(config);
    look_up(&peer, &vfs, "file", file(7, 10, 1));
    let shown = ask(|done| vfs.getattr(ME, 7, None, done)).get().unwrap();
    assert!(shown.ttl <= Duration::from_secs(1), "{:?}", shown.ttl);
    std::thread::sleep(Duration::from_millis(1050));
    let pending = ask(|done| vfs.getattr(ME, 7, None, done));
    peer.expect(&Request::GetAttr { node: node(7), fh: None }).reply(Reply::Attr(file(7, 11, 2)));
    assert_eq!(pending.get().unwrap().attr.size, 11);
}

#[test]
fn what_i_did_myself_i_know() {
    let (peer, vfs) = Peer::with_client();
    let pending = ask(|done| vfs.mkdir(ME, 1, b"d", 0o755, 0, done));
    peer.call().reply(made(directory(8, 1)));
    pending.get().unwrap();
    assert!(matches!(ask(|done| vfs.lookup(ME, 1, b"d", done)).get().unwrap(), Lookup::Found(_)));
    let pending = ask(|done| vfs.rmdir(ME, 1, b"d", done));
    peer.call().reply(removed());
    pending.get().unwrap();
    assert!(matches!(ask(|done| vfs.lookup(ME, 1, b"d", done)).get().unwrap(), Lookup::Absent { .. }));

    look_up(&peer, &vfs, "file", file(7, 10, 1));
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let pending = ask(|done| vfs.setattr(ME, 7, None, set, done));
    let after = nearfs_protocol::attr::Attr { mode: 0o600, ..file(7, 10, 2) };
    peer.call().reply(Reply::Changed { before: Change(1), attr: after });
    pending.get().unwrap();
    assert_eq!(ask(|done| vfs.getattr(ME, 7, None, done)).get().unwrap().attr.mode, 0o600);
    peer.expect_nothing(&vfs);
}

#[test]
fn a_renamed_file_is_known_by_its_new_name_and_attributes() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "from", file(7, 10, 1));
    look_up(&peer, &vfs, "to", file(8, 10, 1));
    let pending = ask(|done| vfs.rename(ME, 1, b"from", 1, b"to", 0, done));
    peer.call().reply(renamed(file(7, 10, 2)));
    pending.get().unwrap();
    assert!(matches!(ask(|done| vfs.lookup(ME, 1, b"from", done)).get().unwrap(), Lookup::Absent { .. }));
    let found = ask(|done| vfs.lookup(ME, 1, b"to", done)).get().unwrap();
    assert!(matches!(found, Lookup::Found(found) if found.ino == 7 && found.attr == file(7, 10, 2)));
    peer.expect_nothing(&vfs);
    // The replaced file has lost a name, which is an attribute.
    let pending = ask(|done| vfs.getattr(ME, 8, None, done));
    peer.expect(&Request::GetAttr { node: node(8), fh: None }).reply(Reply::Attr(file(8, 10, 2)));
    pending.get().unwrap();
}

#[test]
fn the_pages_of_a_renamed_file_go_at_once_if_it_is_open_and_else_when_it_is_opened() {
    let (peer, vfs) = Peer::with_client();
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&told);
    vfs.set_notifier(Box::new(move |invalidation, _| into.lock().unwrap().push(invalidation)));
    let rename = |from: &str, to: &str, change| {
        let pending = ask(|done| vfs.rename(ME, 1, from.as_bytes(), 1, to.as_bytes(), 0, done));
        peer.call().reply(renamed(file(7, 10, change)));
        pending.get().unwrap();
    };
    for (id, name) in [(7, "a"), (8, "b"), (9, "c")] {
        look_up(&peer, &vfs, name, file(id, 10, 1));
    }
    let fh = open(&peer, &vfs, file(7, 10, 1), libc::O_RDONLY, 500);
    rename("a", "b", 2);
    assert_eq!(std::mem::take(&mut *told.lock().unwrap()), [Invalidation::Node { ino: 7 }]);
    let again = open(&peer, &vfs, file(7, 10, 2), libc::O_RDONLY, 501);
    vfs.release(7, fh, None);
    vfs.release(7, again, None);
    rename("b", "c", 3);
    assert_eq!(*told.lock().unwrap(), []);
    let pending = ask(|done| vfs.open(ME, 7, libc::O_RDONLY, done));
    peer.call().reply(opened(502, file(7, 10, 3)));
    assert!(!pending.get().unwrap().keep_cache, "nobody says that only the name is another");
}

#[test]
fn a_file_that_was_opened_ahead_is_opened_though_we_took_its_name() {
    let (peer, vfs) = Peer::with_client();
    let looking = ask(|done| vfs.lookup(ME, 1, b"file", done));
    peer.call().reply(Reply::Entry { attr: file(7, 10, 1), fh: Some(Fh(778)), whole: false });
    assert!(matches!(looking.get().unwrap(), Lookup::Found(found) if found.ino == 7));
    let removing = ask(|done| vfs.unlink(ME, 1, b"file", done));
    peer.call().reply(removed());
    removing.get().unwrap();
    // By its node nobody finds it any more.
    let opening = ask(|done| vfs.open(ME, 7, libc::O_RDONLY, done));
    peer.expect(&Request::GetAttr { node: node(7), fh: Some(Fh(778)) }).reply(Reply::Attr(file(7, 10, 2)));
    let fh = opening.get().unwrap().fh;
    let reading = read(&vfs, fh, 0, 10);
    let asked = peer.call();
    assert!(matches!(asked.request, Request::Read { fh: Fh(778), .. }), "{:?}", asked.request);
    asked.reply_with(Reply::Read { change: Change(2) }, &content(0, 10));
    assert_eq!(reading.get().unwrap(), content(0, 10));
}

#[test]
fn where_files_are_replaced_between_lookup_and_open_names_are_asked_for_though_we_know_them() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "to", file(8, 10, 1));
    look_up(&peer, &vfs, "from", file(7, 10, 1));
    let opening = ask(|done| vfs.open(ME, 8, libc::O_RDONLY, done));
    let asked = peer.call();
    let renaming = ask(|done| vfs.rename(ME, 1, b"from", 1, b"to", 0, done));
    peer.call().reply(renamed(file(7, 10, 2)));
    renaming.get().unwrap();
    asked.fail(Errno::ESTALE);
    assert_eq!(opening.get().err(), Some(Errno::ESTALE));
    // The next rename may be on its way to take this file too.
    look_up(&peer, &vfs, "to", file(9, 10, 1));
}

#[test]
fn after_a_change_that_failed_nothing_is_taken_for_granted() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 10, 1));
    let pending = ask(|done| vfs.unlink(ME, 1, b"file", done));
    peer.call().fail(Errno::EIO);
    assert_eq!(pending.get(), Err(Errno::EIO));
    let pending = ask(|done| vfs.lookup(ME, 1, b"file", done));
    peer.expect(&Request::Lookup { parent: ROOT, name: name("file"), also_open: None }).fail(Errno::ENOENT);
    assert!(matches!(pending.get().unwrap(), Lookup::Absent { .. }));
}

#[test]
fn an_answer_from_before_a_change_is_passed_on_but_not_kept() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 10, 1));
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    // The attributes are forgotten, so that they are asked for while the change is under way.
    let failing = ask(|done| vfs.setattr(ME, 7, None, set, done));
    peer.call().fail(Errno::EPERM);
    assert_eq!(failing.get().unwrap_err(), Errno::EPERM);
    let looking = ask(|done| vfs.getattr(ME, 7, None, done));
    let looked = peer.expect(&Request::GetAttr { node: node(7), fh: None });
    let changing = ask(|done| vfs.setattr(ME, 7, None, set, done));
    let after = nearfs_protocol::attr::Attr { mode: 0o600, ..file(7, 10, 2) };
    peer.call().reply(Reply::Changed { before: Change(1), attr: after });
    changing.get().unwrap();
    looked.reply(Reply::Attr(file(7, 10, 1)));
    let shown = looking.get().unwrap();
    assert_eq!((shown.attr.mode, shown.ttl), (0o644, Duration::ZERO));
    let mut pending = ask(|done| vfs.getattr(ME, 7, None, done));
    if let Some(asked) = pending.is_pending().then(|| peer.call()) {
        asked.reply(Reply::Attr(after));
    }
    assert_eq!(pending.get().unwrap().attr.mode, 0o600);
}

#[test]
fn a_reopened_file_that_did_not_change_keeps_its_content() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 10, 1));
    let open_it = |content_wanted: bool, change| {
        let pending = ask(|done| vfs.open(ME, 7, libc::O_RDONLY, done));
        let asked = peer.call();
        let Request::Open { content_bytes_max, .. } = asked.request else { panic!("{asked:?}") };
        assert_eq!(content_bytes_max > 0, content_wanted, "for counter {change}");
        let reply =
            Reply::Opened { fh: Fh(500), attr: file(7, 10, change), created: false, whole: content_wanted };
        asked.reply_with(reply, if content_wanted { b"0123456789" } else { b"" });
        pending.get().unwrap()
    };
    assert!(!open_it(true, 1).keep_cache);
    let again = open_it(false, 1);
    assert!(again.keep_cache);
    assert_eq!(read(&vfs, again.fh, 2, 3).get().unwrap(), b"234");
    let changed = open_it(false, 2);
    assert!(!changed.keep_cache, "somebody else changed it");
    let pending = read(&vfs, changed.fh, 0, 10);
    peer.call().reply_with(Reply::Read { change: Change(2) }, b"ABCDEFGHIJ");
    assert_eq!(pending.get().unwrap(), b"ABCDEFGHIJ");
}

#[test]
fn own_writes_are_read_at_once() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let pending = read(&vfs, fh, 0, 10);
    peer.call().reply_with(Reply::Read { change: Change(1) }, b"0123456789");
    pending.get().unwrap();
    let pending = write(&vfs, fh, 3, b"xyz");
    let written = Written { size: 3, offset: 3, before: Change(1), attr: file(7, 10, 2) };
    peer.call().reply(Reply::Written(written));
    pending.get().unwrap();
    assert_eq!(read(&vfs, fh, 0, 10).get().unwrap(), b"012xyz6789");
    assert_eq!(ask(|done| vfs.getattr(ME, 7, None, done)).get().unwrap().attr.change, Change(2));
    peer.expect_nothing(&vfs);
}

#[test]
fn a_write_over_somebody_elses_change_shows_that_change() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let pending = read(&vfs, fh, 0, 10);
    peer.call().reply_with(Reply::Read { change: Change(1) }, b"0123456789");
    pending.get().unwrap();
    let pending = write(&vfs, fh, 3, b"xyz");
    // Counter 2 was somebody else's.
    let written = Written { size: 3, offset: 3, before: Change(2), attr: file(7, 10, 3) };
    peer.call().reply(Reply::Written(written));
    pending.get().unwrap();
    let pending = read(&vfs, fh, 0, 10);
    peer.call().reply_with(Reply::Read { change: Change(3) }, b"ABCxyzGHIJ");
    assert_eq!(pending.get().unwrap(), b"ABCxyzGHIJ");
}

#[test]
fn a_lock_shows_what_the_others_wrote() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let pending = read(&vfs, fh, 0, 10);
    peer.call().reply_with(Reply::Read { change: Change(1) }, b"0123456789");
    pending.get().unwrap();
    let lock =
        Lock { start: 0, end: u64::MAX, kind: LockKind::Write, style: LockStyle::Posix, owner: 3, pid: 4 };
    let pending = ask(|done| vfs.setlk(ME, 7, fh, lock, true, done));
    peer.call().reply(Reply::Done);
    pending.get().unwrap();
    let pending = read(&vfs, fh, 0, 10);
    let asked = peer.call();
    assert!(matches!(asked.request, Request::Read { .. }), "{asked:?}");
    asked.reply_with(Reply::Read { change: Change(2) }, b"ABCDEFGHIJ");
    assert_eq!(pending.get().unwrap(), b"ABCDEFGHIJ");
}

#[test]
fn a_client_without_caches_keeps_no_content() {
    let (peer, vfs) = Peer::with(VfsConfig { cache_bytes: 0, ..VfsConfig::default() });
    look_up(&peer, &vfs, "file", file(7, 10, 1));
    let pending = ask(|done| vfs.open(ME, 7, libc::O_RDONLY, done));
    peer.expect(&Request::Open { node: node(7), flags: 0, content_bytes_max: 0 })
        .reply(crate::values::opened(500, file(7, 10, 1)));
    let opened = pending.get().unwrap();
    assert!(opened.direct_io);
    for _ in 0..2 {
        let pending = read(&vfs, opened.fh, 2, 3);
        peer.expect(&Request::Read { fh: Fh(500), offset: 2, size: 3 })
            .reply_with(Reply::Read { change: Change(1) }, b"234");
        assert_eq!(pending.get().unwrap(), b"234");
    }
}

#[test]
fn memory_stays_within_what_was_configured() {
    let cache_bytes = 4 << 20;
    let (peer, vfs) = Peer::with(VfsConfig { cache_bytes, readahead_bytes: 1 << 20, ..VfsConfig::default() });
    let size = 32 << 20;
    look_up(&peer, &vfs, "file", file(7, size, 1));
    let fh = open(&peer, &vfs, file(7, size, 1), libc::O_RDONLY, 500);
    let reading = std::thread::spawn({
        let vfs = std::sync::Arc::clone(&vfs);
        move || {
            for offset in (0..size).step_by(128 << 10) {
                assert_eq!(read(&vfs, fh, offset, 128 << 10).get().unwrap(), content(offset, 128 << 10));
                assert!(vfs.status().cache_bytes <= cache_bytes, "{}", vfs.status().cache_bytes);
            }
        }
    });
    let mut asked_bytes = 0;
    while asked_bytes < size {
        let asked = peer.call();
        let Request::Read { offset, size, .. } = asked.request else { panic!("{asked:?}") };
        asked_bytes += u64::from(size);
        asked.reply_with(Reply::Read { change: Change(1) }, &content(offset, size as usize));
    }
    reading.join().unwrap();
}
