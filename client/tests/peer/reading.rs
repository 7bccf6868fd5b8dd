//! How content is fetched: along with an open, ahead of readers who go in order, once for all who want it.

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Fh};
use nearfs_protocol::message::{Reply, Request};

use crate::scripted::{Asked, ME, Peer, ask, read};
use crate::values::{content, file, look_up, open};

const BLOCK: u64 = 128 * 1024;

fn range(asked: &Asked) -> (u64, u64) {
    match asked.request {
        Request::Read { offset, size, .. } => (offset, u64::from(size)),
        _ => panic!("{asked:?}"),
    }
}

fn answer(asked: &Asked) {
    let (offset, size) = range(asked);
    asked.reply_with(Reply::Read { change: Change(1) }, &content(offset, size as usize));
}

#[test]
fn a_small_files_content_comes_with_the_open() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 1000, 1));
    let pending = ask(|done| vfs.open(ME, 7, libc::O_RDONLY, done));
    let asked = peer.call();
    assert!(matches!(asked.request, Request::Open { content_bytes_max: 1000..=4096, .. }), "{asked:?}");
    asked.reply_with(
        Reply::Opened { fh: Fh(500), attr: file(7, 1000, 1), created: false, whole: true },
        &content(0, 1000),
    );
    let fh = pending.get().unwrap().fh;
    assert_eq!(read(&vfs, fh, 0, 4096).get().unwrap(), content(0, 1000));
    assert_eq!(read(&vfs, fh, 990, 4096).get().unwrap(), content(990, 10));
    assert_eq!(read(&vfs, fh, 1000, 4096).get().unwrap(), b"");
    peer.expect_nothing(&vfs);
}

#[test]
fn a_large_file_is_opened_without_content() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 1 << 30, 1));
    let _pending = ask(|done| vfs.open(ME, 7, libc::O_RDONLY, done));
    let asked = peer.call();
    assert!(matches!(asked.request, Request::Open { content_bytes_max: 0, .. }), "{asked:?}");
}

#[test]
fn a_reader_who_goes_in_order_finds_the_next_blocks_here() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 64 * BLOCK, 1));
    let fh = open(&peer, &vfs, file(7, 64 * BLOCK, 1), libc::O_RDONLY, 500);
    let pending = read(&vfs, fh, 0, BLOCK as u32);
    let first = peer.call();
    assert_eq!(range(&first), (0, BLOCK));
    // More is asked for before the first answer has come.
    let second = peer.call();
    assert_eq!(range(&second), (BLOCK, BLOCK));
    answer(&first);
    assert_eq!(pending.get().unwrap(), content(0, BLOCK as usize));
    answer(&second);
    let pending = read(&vfs, fh, BLOCK, BLOCK as u32);
    assert_eq!(pending.get().unwrap(), content(BLOCK, BLOCK as usize));
}

#[test]
fn a_reader_who_jumps_gets_what_it_asks_for_and_nothing_else_is_fetched() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 64 * BLOCK, 1));
    let fh = open(&peer, &vfs, file(7, 64 * BLOCK, 1), libc::O_RDONLY, 500);
    for place in [40_000_u64, 5_000_000, 1_300_000, 7_100_000, 300_000] {
        let pending = read(&vfs, fh, place, 4096);
        let asked = peer.call();
        assert_eq!(range(&asked), (place, 4096));
        answer(&asked);
        assert_eq!(pending.get().unwrap(), content(place, 4096));
    }
    peer.expect_nothing(&vfs);
}

#[test]
fn two_readers_of_a_block_share_a_request() {
    let (peer, vfs) = Peer::with_client();
    let size = 1000;
    look_up(&peer, &vfs, "file", file(7, size, 1));
    let one = open(&peer, &vfs, file(7, size, 1), libc::O_RDONLY, 500);
    let other = open(&peer, &vfs, file(7, size, 1), libc::O_RDONLY, 501);
    let mut first = read(&vfs, one, 0, 100);
    let mut second = read(&vfs, other, 100, 100);
    let asked = peer.call();
    peer.expect_nothing(&vfs);
    assert!(first.is_pending() && second.is_pending());
    asked.reply_with(Reply::Read { change: Change(1) }, &content(0, size as usize));
    assert_eq!(first.get().unwrap(), content(0, 100));
    assert_eq!(second.get().unwrap(), content(100, 100));
}

#[test]
fn an_error_reaches_every_reader_and_is_not_kept() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 1000, 1));
    let fh = open(&peer, &vfs, file(7, 1000, 1), libc::O_RDONLY, 500);
    let (first, second) = (read(&vfs, fh, 0, 100), read(&vfs, fh, 0, 1000));
    peer.call().fail(Errno::EIO);
    assert_eq!(first.get(), Err(Errno::EIO));
    assert_eq!(second.get(), Err(Errno::EIO));
    let pending = read(&vfs, fh, 0, 1000);
    peer.call().reply_with(Reply::Read { change: Change(1) }, &content(0, 1000));
    assert_eq!(pending.get().unwrap(), content(0, 1000));
}

#[test]
fn a_file_that_became_shorter_ends_where_the_server_says() {
    let (peer, vfs) = Peer::with_client();
    look_up(&peer, &vfs, "file", file(7, 1000, 1));
    let fh = open(&peer, &vfs, file(7, 1000, 1), libc::O_RDONLY, 500);
    let pending = read(&vfs, fh, 0, 1000);
    peer.call().reply_with(Reply::Read { change: Change(2) }, &content(0, 600));
    assert_eq!(pending.get().unwrap(), content(0, 600));
}
