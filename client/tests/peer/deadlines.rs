//! No operation waits without a bound, except writes that were promised to wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearfs_client::config::VfsConfig;
use nearfs_client::vfs::Vfs;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::GrantedLimits;
use nearfs_protocol::id::{Change, Fh};
use nearfs_protocol::message::{Reply, Request, Written};

use crate::scripted::{Heard, ME, Peer, ask, read, write};
use crate::values::{file, limits, opened, welcome, with_open_file};

const TIMEOUT: Duration = Duration::from_millis(300);

fn impatient(hard: bool) -> (Peer, Arc<Vfs>) {
    Peer::with(VfsConfig { timeout: TIMEOUT, hard, ..VfsConfig::default() })
}

#[track_caller]
fn expect_cancel(peer: &Peer, of: nearfs_protocol::id::RequestId) {
    match peer.hear() {
        Heard::Cancel(id) => assert_eq!(id, of),
        other => panic!("{other:?} instead of a cancel"),
    }
}

#[test]
fn what_is_not_answered_ends_with_a_time_out_and_is_taken_back() {
    let (peer, vfs) = impatient(true);
    let begun = Instant::now();
    let pending = ask(|done| vfs.getattr(ME, 1, None, done));
    let asked = peer.call();
    assert_eq!(pending.get().unwrap_err(), Errno::ETIMEDOUT);
    let took = begun.elapsed();
    assert!(took >= TIMEOUT && took < TIMEOUT * 5, "{took:?}");
    expect_cancel(&peer, asked.id);
    // The late answer is for nobody, and breaks nothing.
    asked.fail(Errno::ECANCELED);
    peer.expect_nothing(&vfs);
    assert_eq!(peer.hellos().len(), 1);
}

#[test]
fn every_kind_of_question_ends_in_time() {
    let (peer, vfs) = impatient(true);
    let fh = with_open_file(&peer, &vfs, file(7, 1 << 20, 1));
    let begun = Instant::now();
    let pending = [
        ask(|done| vfs.statfs(ME, 1, |result| done(result.map(drop)))),
        ask(|done| vfs.lookup(ME, 1, b"x", |result| done(result.map(drop)))),
        ask(|done| vfs.unlink(ME, 1, b"x", done)),
        ask(|done| vfs.mkdir(ME, 1, b"x", 0o755, 0, |result| done(result.map(drop)))),
        ask(|done| vfs.opendir(ME, 1, |result| done(result.map(drop)))),
        ask(|done| vfs.open(ME, 7, 0, |result| done(result.map(drop)))),
        ask(|done| vfs.read(ME, 7, fh, 0, 4096, |result| done(result.map(drop)))),
        ask(|done| vfs.getxattr(ME, 7, b"user.x", |result| done(result.map(drop)))),
        ask(|done| vfs.fallocate(ME, 7, fh, 0, 1, 0, done)),
    ];
    for pending in pending {
        assert_eq!(pending.get(), Err(Errno::ETIMEDOUT));
    }
    let took = begun.elapsed();
    assert!(took < TIMEOUT * 6, "{took:?}");
}

#[test]
fn a_hard_write_waits_for_its_answer() {
    let (peer, vfs) = impatient(true);
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let mut pending = write(&vfs, fh, 0, b"abc");
    let asked = peer.call();
    let mut syncing = ask(|done| vfs.fsync(ME, 7, fh, false, done));
    let sync_asked = peer.call();
    peer.expect_silence(TIMEOUT * 3);
    assert!(pending.is_pending() && syncing.is_pending());
    let written = Written { size: 3, offset: 0, before: Change(1), attr: file(7, 10, 2) };
    asked.reply(Reply::Written(written));
    sync_asked.reply(Reply::Done);
    assert_eq!(pending.get(), Ok(3));
    assert_eq!(syncing.get(), Ok(()));
}

#[test]
fn a_soft_write_gives_up() {
    let (peer, vfs) = impatient(false);
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let pending = write(&vfs, fh, 0, b"abc");
    let asked = peer.call();
    assert_eq!(pending.get(), Err(Errno::ETIMEDOUT));
    expect_cancel(&peer, asked.id);
    // Whether it was written is unknown, so that nothing of before is shown.
    asked.fail(Errno::ECANCELED);
    let pending = read(&vfs, fh, 0, 10);
    let asked = peer.call();
    assert!(matches!(asked.request, Request::Read { .. }), "{asked:?}");
    asked.reply_with(Reply::Read { change: Change(2) }, b"abc3456789");
    assert_eq!(pending.get().unwrap(), b"abc3456789");
}

#[test]
fn who_finds_no_room_ends_in_time_too() {
    let peer = Peer::start();
    let limits = GrantedLimits { requests_in_flight_max: 1, ..limits() };
    peer.greet_with(Ok(nearfs_protocol::greeting::Welcome { limits, ..welcome() }));
    let config = VfsConfig { timeout: TIMEOUT, connections: 1, ..VfsConfig::default() };
    let vfs = Vfs::connect(&peer.source(), config).unwrap();
    let first = ask(|done| vfs.getattr(ME, 1, None, done));
    let asked = peer.call();
    assert_eq!(first.get().unwrap_err(), Errno::ETIMEDOUT);
    // Its slot stays taken until the server has told what became of it.
    let begun = Instant::now();
    let second = ask(|done| vfs.getattr(ME, 1, None, done));
    assert_eq!(second.get().unwrap_err(), Errno::ETIMEDOUT);
    assert!(begun.elapsed() < TIMEOUT * 5);
    expect_cancel(&peer, asked.id);
    asked.fail(Errno::ECANCELED);
    peer.expect_nothing(&vfs);
}

#[test]
fn an_open_that_nobody_waits_for_is_closed_again() {
    let (peer, vfs) = impatient(true);
    with_open_file(&peer, &vfs, file(7, 10, 1));
    let pending = ask(|done| vfs.open(ME, 7, libc::O_RDONLY, done));
    let asked = peer.call();
    assert_eq!(pending.get().unwrap_err(), Errno::ETIMEDOUT);
    expect_cancel(&peer, asked.id);
    asked.reply(opened(777, file(7, 10, 1)));
    let asked = peer.call();
    assert!(matches!(&asked.request, Request::Release { files } if files[0].fh == Fh(777)), "{asked:?}");
}

#[test]
fn shutting_down_ends_in_time_whatever_is_pending() {
    let (peer, vfs) = Peer::with_client();
    let fh = with_open_file(&peer, &vfs, file(7, 10, 1));
    let pending = write(&vfs, fh, 0, b"abc");
    peer.call();
    let begun = Instant::now();
    let lost = vfs.shutdown(TIMEOUT);
    assert!(begun.elapsed() < TIMEOUT * 5, "{:?}", begun.elapsed());
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].contains("write"), "{lost:?}");
    assert_eq!(pending.get(), Err(Errno::EIO));
}
