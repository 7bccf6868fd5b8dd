//! Writes that nobody waits for: sent at once, one another's order and everybody's view kept, and no error lost.

use std::sync::Arc;
use std::time::Duration;

use nearfs_client::config::VfsConfig;
use nearfs_client::vfs::Vfs;
use nearfs_client::vfs::types::Lookup;
use nearfs_protocol::attr::{Attr, SetAttr};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Fh};
use nearfs_protocol::message::{ReleasedFile, Reply, Request, WriteAt, WriteSync, Written};

use crate::scripted::{Asked, ME, Peer, ask, read, write};
use crate::values::{ROOT, content, entry, file, look_up, name, node, open, with_open_file};

const WINDOW_BYTES: u64 = 256 * 1024;

/// A client that writes behind, and a file that it has open.
fn behind() -> (Peer, Arc<Vfs>, u64) {
    let (peer, vfs) = Peer::with_client();
    vfs.write_behind(WINDOW_BYTES);
    let fh = with_open_file(&peer, &vfs, file(7, 0, 1));
    (peer, vfs, fh)
}

fn write_request(offset: u64) -> Request {
    Request::Write { fh: Fh(500), at: WriteAt::Offset(offset), sync: WriteSync::None }
}

/// So many bytes were written, which took the file from one counter to another.
fn wrote(asked: &Asked, size: u64, (before, attr): (u64, Attr)) {
    let Request::Write { at: WriteAt::Offset(offset), .. } = asked.request else { panic!("{asked:?}") };
    asked.reply(Reply::Written(Written { size, offset, before: Change(before), attr }));
}

#[test]
fn a_writer_goes_on_at_once_and_a_reader_sees_all_of_it() {
    let (peer, vfs, fh) = behind();
    assert_eq!(write(&vfs, fh, 0, &content(0, 1000)).get(), Ok(1000));
    assert_eq!(write(&vfs, fh, 1000, &content(1000, 1000)).get(), Ok(1000));
    let (first, second) = (peer.expect(&write_request(0)), peer.expect(&write_request(1000)));
    assert_eq!([&first.payload[..], &second.payload], [&content(0, 1000)[..], &content(1000, 1000)]);
    let mut looked = ask(|done| vfs.getattr(ME, 7, None, done));
    let mut seen = read(&vfs, fh, 0, 2000);
    peer.expect_nothing(&vfs);
    wrote(&first, 1000, (1, file(7, 1000, 2)));
    peer.expect_nothing(&vfs);
    assert!(looked.is_pending() && seen.is_pending());
    wrote(&second, 1000, (2, file(7, 2000, 3)));
    assert_eq!(looked.get().unwrap().attr.size, 2000);
    let asked = peer.call();
    assert!(matches!(asked.request, Request::Read { fh: Fh(500), .. }), "{asked:?}");
    asked.reply_with(Reply::Read { change: Change(3) }, &content(0, 2000));
    assert_eq!(seen.get().unwrap(), content(0, 2000));
}

#[test]
fn no_more_is_under_way_than_was_configured() {
    let (peer, vfs, fh) = behind();
    let piece = WINDOW_BYTES as usize / 2;
    let at = |number: u64| number * piece as u64;
    for number in 0..2 {
        write(&vfs, fh, at(number), &content(0, piece)).get().unwrap();
    }
    let mut third = write(&vfs, fh, at(2), &content(0, piece));
    let asked: Vec<_> = (0..3).map(|number| peer.expect(&write_request(at(number)))).collect();
    peer.expect_nothing(&vfs);
    assert!(third.is_pending());
    wrote(&asked[0], piece as u64, (1, file(7, at(1), 2)));
    assert_eq!(third.get(), Ok(piece as u32));
}

#[test]
fn an_error_is_told_by_what_is_done_next_and_until_the_file_is_closed() {
    let (peer, vfs, fh) = behind();
    write(&vfs, fh, 0, b"lost").get().unwrap();
    let flushed = ask(|done| vfs.flush(ME, 7, fh, 9, done));
    peer.expect(&write_request(0)).fail(Errno::ENOSPC);
    assert_eq!(flushed.get(), Err(Errno::ENOSPC));
    for _ in 0..2 {
        assert_eq!(write(&vfs, fh, 0, b"more").get(), Err(Errno::ENOSPC));
        assert_eq!(ask(|done| vfs.fsync(ME, 7, fh, false, done)).get(), Err(Errno::ENOSPC));
        assert_eq!(ask(|done| vfs.flush(ME, 7, fh, 9, done)).get(), Err(Errno::ENOSPC));
    }
    vfs.release(7, fh, None);
    peer.expect(&Request::Release { files: vec![ReleasedFile { fh: Fh(500), flock_owner: None }] });
    let fh = open(&peer, &vfs, file(7, 0, 1), libc::O_RDWR, 500);
    assert_eq!(write(&vfs, fh, 0, b"fits").get(), Ok(4));
}

#[test]
fn a_sync_and_a_close_wait_for_what_was_written() {
    let (peer, vfs, fh) = behind();
    write(&vfs, fh, 0, b"text").get().unwrap();
    let asked = peer.expect(&write_request(0));
    let synced = ask(|done| vfs.fsync(ME, 7, fh, false, done));
    peer.expect_nothing(&vfs);
    wrote(&asked, 4, (1, file(7, 4, 2)));
    peer.expect(&Request::Fsync { fh: Fh(500), data_only: false }).reply(Reply::Done);
    synced.get().unwrap();
    write(&vfs, fh, 4, b"more").get().unwrap();
    let asked = peer.expect(&write_request(4));
    let mut flushed = ask(|done| vfs.flush(ME, 7, fh, 9, done));
    vfs.release(7, fh, None);
    peer.expect_silence(Duration::from_millis(50));
    assert!(flushed.is_pending());
    wrote(&asked, 4, (2, file(7, 8, 3)));
    flushed.get().unwrap();
    peer.expect(&Request::Release { files: vec![ReleasedFile { fh: Fh(500), flock_owner: None }] });
}

#[test]
fn what_meets_something_under_way_is_sent_after_it() {
    let (peer, vfs, fh) = behind();
    write(&vfs, fh, 0, b"first").get().unwrap();
    let first = peer.expect(&write_request(0));
    let mut second = write(&vfs, fh, 4, b"second");
    let set = SetAttr { size: Some(2), ..SetAttr::default() };
    let truncated = ask(|done| vfs.setattr(ME, 7, None, set, done));
    peer.expect_nothing(&vfs);
    assert!(second.is_pending());
    wrote(&first, 5, (1, file(7, 5, 2)));
    let asked = peer.expect(&write_request(4));
    second.get().unwrap();
    peer.expect_nothing(&vfs);
    wrote(&asked, 6, (2, file(7, 10, 3)));
    peer.expect(&Request::SetAttr { node: node(7), fh: None, set })
        .reply(Reply::Changed { before: Change(3), attr: file(7, 2, 4) });
    assert_eq!(truncated.get().unwrap().attr.size, 2);
}

#[test]
fn answers_in_another_order_prove_no_change_of_others() {
    let (peer, vfs, fh) = behind();
    let asked: Vec<_> = (0..3)
        .map(|number| {
            write(&vfs, fh, number * 10, &content(0, 10)).get().unwrap();
            peer.expect(&write_request(number * 10))
        })
        .collect();
    // The server made the last one first.
    wrote(&asked[0], 10, (2, file(7, 30, 3)));
    wrote(&asked[1], 10, (3, file(7, 30, 4)));
    let looked = ask(|done| vfs.getattr(ME, 7, None, done));
    wrote(&asked[2], 10, (1, file(7, 30, 2)));
    assert_eq!(looked.get().unwrap().attr.size, 30);
    let opened = ask(|done| vfs.open(ME, 7, libc::O_RDONLY, done));
    let again = peer.call();
    assert!(matches!(again.request, Request::Open { .. }), "{again:?}");
    again.reply(crate::values::opened(501, file(7, 30, 4)));
    assert!(opened.get().unwrap().keep_cache, "the kernel's pages are right");
}

#[test]
fn who_looks_a_name_up_meanwhile_sees_the_size_to_come() {
    let (peer, vfs, fh) = behind();
    write(&vfs, fh, 100, b"text").get().unwrap();
    let asked = peer.expect(&write_request(100));
    let found = ask(|done| vfs.lookup(ME, 1, b"other", done));
    let lookup = peer.expect(&Request::Lookup { parent: ROOT, name: name("other"), also_open: None });
    let late = ask(|done| vfs.lookup(ME, 1, b"late", done));
    let late_lookup = peer.expect(&Request::Lookup { parent: ROOT, name: name("late"), also_open: None });
    let size = |found: Lookup| match found {
        Lookup::Found(entry) => entry.attr.size,
        Lookup::Absent { .. } => panic!("it is absent"),
    };
    lookup.reply(entry(file(7, 0, 1)));
    assert_eq!(size(found.get().unwrap()), 104);
    wrote(&asked, 4, (1, file(7, 104, 2)));
    ask(|done| vfs.getattr(ME, 7, None, done)).get().unwrap();
    // The server has looked before it wrote.
    late_lookup.reply(entry(file(7, 0, 1)));
    assert_eq!(size(late.get().unwrap()), 104);
}

#[test]
fn the_rest_of_a_write_that_was_cut_short_is_written_or_its_error_told() {
    let (peer, vfs, fh) = behind();
    write(&vfs, fh, 0, &content(0, 10)).get().unwrap();
    wrote(&peer.expect(&write_request(0)), 4, (1, file(7, 4, 2)));
    let rest = peer.expect(&write_request(4));
    assert_eq!(rest.payload, content(4, 6));
    let flushed = ask(|done| vfs.flush(ME, 7, fh, 9, done));
    rest.fail(Errno::ENOSPC);
    assert_eq!(flushed.get(), Err(Errno::ENOSPC));
}

#[test]
fn appended_and_synchronous_writes_are_waited_for() {
    let (peer, vfs) = Peer::with_client();
    vfs.write_behind(WINDOW_BYTES);
    for (number, flags) in [(7, libc::O_APPEND), (8, libc::O_DSYNC), (9, libc::O_DIRECT)] {
        look_up(&peer, &vfs, "file", file(number, 0, 1));
        let fh = open(&peer, &vfs, file(number, 0, 1), libc::O_RDWR | flags, 500);
        let mut written = write(&vfs, fh, 0, b"text");
        let asked = peer.call();
        assert!(written.is_pending());
        asked.fail(Errno::EDQUOT);
        assert_eq!(written.get(), Err(Errno::EDQUOT));
        std::thread::sleep(Duration::from_millis(1)); // Names are looked up again.
        vfs.forget(number, 1);
    }
    let strict = VfsConfig { sync: true, ..VfsConfig::default() };
    let (peer, vfs) = Peer::with(strict);
    vfs.write_behind(WINDOW_BYTES);
    let fh = with_open_file(&peer, &vfs, file(7, 0, 1));
    let mut written = write(&vfs, fh, 0, b"text");
    let asked = peer.call();
    assert!(written.is_pending());
    asked.fail(Errno::EDQUOT);
    assert_eq!(written.get(), Err(Errno::EDQUOT));
}

#[test]
fn whoever_waits_for_what_was_written_does_so_for_a_while() {
    let impatient = VfsConfig { timeout: Duration::from_millis(200), ..VfsConfig::default() };
    let (peer, vfs) = Peer::with(impatient);
    vfs.write_behind(WINDOW_BYTES);
    let fh = with_open_file(&peer, &vfs, file(7, 0, 1));
    write(&vfs, fh, 0, b"text").get().unwrap();
    let asked = peer.expect(&write_request(0));
    let looked = ask(|done| vfs.getattr(ME, 7, None, done));
    let mut synced = ask(|done| vfs.fsync(ME, 7, fh, false, done));
    assert_eq!(looked.get().map(|node| node.attr.size), Err(Errno::ETIMEDOUT));
    assert!(synced.is_pending(), "a hard mount keeps it");
    wrote(&asked, 4, (1, file(7, 4, 2)));
    peer.expect(&Request::Fsync { fh: Fh(500), data_only: false }).reply(Reply::Done);
    synced.get().unwrap();
}

#[test]
fn answers_that_prove_a_change_of_others_are_not_kept_for_long() {
    let (peer, vfs, fh) = behind();
    let mut writes: Vec<_> = (0..60)
        .map(|number| {
            let written = write(&vfs, fh, number * 10, &content(0, 10));
            let asked = peer.expect(&write_request(number * 10));
            if number > 0 {
                // Somebody else has written before each of them, and the first is not answered.
                wrote(&asked, 10, (number * 2 + 10, file(7, 600, number * 2 + 11)));
            }
            (written, asked)
        })
        .collect();
    let (first, asked) = writes.remove(0);
    wrote(&asked, 10, (1, file(7, 600, 2)));
    assert_eq!(first.get(), Ok(10));
    writes.into_iter().for_each(|(written, _)| assert_eq!(written.get(), Ok(10)));
    let looked = ask(|done| vfs.getattr(ME, 7, None, done));
    let again = peer.expect(&Request::GetAttr { node: node(7), fh: None });
    again.reply(Reply::Attr(file(7, 600, 200)));
    assert_eq!(looked.get().unwrap().attr.size, 600);
}
