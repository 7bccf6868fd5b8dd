//! Clients that are lost: what they held goes to others after a while, and who comes back late does no harm.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nearfs_protocol::limits::{LEASE, LINK_SILENCE_MAX};
use nearfs_tests::harness::{Companion, Mount, PROMPT, World, can_mount, holds_within, is_mounted, watchdog};
use rustix::fs::{FlockOperation, flock};

const ACTOR: &str = env!("CARGO_BIN_EXE_file-actor");
const TEST_TIME_MAX: Duration = Duration::from_secs(120);
/// How much later than at the end of a lease a lock is granted: the server looks twice a second.
const GRANT_TIME_MAX: Duration = Duration::from_secs(1);
/// What a busy machine adds.
const SLACK: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
enum Style {
    Flock,
    Posix,
}

impl Style {
    fn lock(self, file: &File, wait: bool) -> io::Result<()> {
        let operation =
            if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        match self {
            Style::Flock => Ok(flock(file, operation)?),
            Style::Posix => posix(file, libc::F_WRLCK, wait),
        }
    }

    fn unlock(self, file: &File) -> io::Result<()> {
        match self {
            Style::Flock => Ok(flock(file, FlockOperation::Unlock)?),
            Style::Posix => posix(file, libc::F_UNLCK, false),
        }
    }
}

/// fcntl(2) of the whole file.
fn posix(file: &File, kind: i32, wait: bool) -> io::Result<()> {
    // SAFETY: a `flock` of zeros is a valid one, of the whole file.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as i16;
    range.l_whence = libc::SEEK_SET as i16;
    let command = if wait { libc::F_SETLKW } else { libc::F_SETLK };
    // SAFETY: the descriptor is open and `range` outlives the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &range) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

fn number(file: &File) -> io::Result<u64> {
    let mut text = [0; 9];
    file.read_exact_at(&mut text, 0)?;
    std::str::from_utf8(&text).unwrap().trim().parse().map_err(io::Error::other)
}

fn set_number(file: &File, number: u64) -> io::Result<()> {
    file.write_all_at(format!("{number:08}\n").as_bytes(), 0)
}

fn is_eio<T: std::fmt::Debug>(outcome: io::Result<T>) -> bool {
    outcome.unwrap_err().raw_os_error() == Some(libc::EIO)
}

/// A mount whose process is stopped and goes on as the test wants.
struct Stoppable {
    mount: Mount,
    pid: i32,
}

impl Stoppable {
    fn new(mount: Mount) -> Stoppable {
        let pid = mount.pid().cast_signed();
        Stoppable { mount, pid }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the process serves the mount, which this holds.
        unsafe { libc::kill(self.pid, signal) };
    }
}

impl Drop for Stoppable {
    fn drop(&mut self) {
        self.signal(libc::SIGCONT);
    }
}

/// Adds 1 to the number of a file under a lock that it waits for. How long that took.
fn increment(style: Style, path: &Path) -> Duration {
    let file = open(path);
    let begun = Instant::now();
    style.lock(&file, true).unwrap();
    let took = begun.elapsed();
    set_number(&file, number(&file).unwrap() + 1).unwrap();
    style.unlock(&file).unwrap();
    took
}

#[test]
fn a_late_holder_of_a_lock_is_fenced_and_only_there() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let (late, other) = (Stoppable::new(world.mount("late", "")), world.mount("other", ""));
    let styles = [(Style::Flock, "flock"), (Style::Posix, "posix")];
    let held = styles.map(|(style, name)| {
        let file = open(&late.mount.join(name));
        set_number(&file, 0).unwrap();
        style.lock(&file, true).unwrap();
        assert_eq!(number(&file).unwrap(), 0);
        (style, name, file)
    });
    let unwanted = open(&late.mount.join("unwanted"));
    Style::Flock.lock(&unwanted, true).unwrap();
    // Read by its holder, so that it is cached, and locked by the other, but not changed.
    let looked_at = open(&late.mount.join("looked-at"));
    set_number(&looked_at, 0).unwrap();
    Style::Flock.lock(&looked_at, true).unwrap();
    assert_eq!(number(&looked_at).unwrap(), 0);
    late.signal(libc::SIGSTOP);
    let waiting = styles.map(|(style, name)| {
        let path = other.join(name);
        thread::spawn(move || increment(style, &path))
    });
    for waiter in waiting {
        let took = waiter.join().unwrap();
        eprintln!("a lock of a silent client was granted after {took:?}");
        assert!(took > LINK_SILENCE_MAX && took < LEASE + GRANT_TIME_MAX + SLACK, "{took:?}");
    }
    Style::Flock.lock(&open(&other.join("looked-at")), true).unwrap();
    late.signal(libc::SIGCONT);
    assert!(
        holds_within(PROMPT, || number(&looked_at).is_err()),
        "it reads what it remembers of its lock's time"
    );
    drop(looked_at);
    for (style, name, file) in held {
        // It has read 0 under its lock, and so it writes 1: the other's increment would be lost.
        assert!(is_eio(set_number(&file, 1)), "{name}: its write was taken");
        assert!(is_eio(file.sync_all()), "{name}: it is told that it is safe");
        assert!(is_eio(number(&file)), "{name}: it may read on");
        assert!(is_eio(style.lock(&file, false)), "{name}: it may lock again");
        drop(file);
        let again = open(&late.mount.join(name));
        assert_eq!(number(&again).unwrap(), 1, "{name}");
        style.lock(&again, false).expect("a file that is opened again is as good as any");
        set_number(&again, 2).unwrap();
        drop(again);
        assert_eq!(number(&open(&other.join(name))).unwrap(), 2, "{name}: as many as were acknowledged");
    }
    assert!(set_number(&unwanted, 7).is_ok(), "what nobody wanted goes on");
    let refused = Style::Flock.lock(&open(&other.join("unwanted")), false).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock, "its lock is still held");
    drop(unwanted);
    assert!(late.mount.status()["last_error"].is_string());
}

#[test]
fn the_locks_of_a_lost_client_are_free_after_its_lease_and_of_one_that_left_at_once() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let (killed, left, other) =
        (world.mount("killed", ""), world.mount("left", ""), world.mount("other", ""));
    let names = ["killed", "left"];
    let holders = [&killed, &left].map(|mount| {
        let name = mount.path().file_name().unwrap();
        set_number(&open(&mount.join(name)), 0).unwrap();
        let holder = Companion::actor(ACTOR, &["hold", "flock"], &mount.join(name));
        assert_eq!(holder.line(), "locked");
        holder
    });
    let paths = names.map(|name| other.join(name));
    for path in &paths {
        assert!(Style::Flock.lock(&open(path), false).is_err());
    }
    let killed = Stoppable::new(killed);
    killed.signal(libc::SIGKILL);
    let path = paths[0].clone();
    let after_kill = thread::spawn(move || increment(Style::Flock, &path));
    let left_place = left.path().to_owned();
    drop(left);
    assert!(!is_mounted(&left_place));
    assert!(increment(Style::Flock, &paths[1]) < SLACK);
    let took = after_kill.join().unwrap();
    eprintln!("a lock of a killed client was granted after {took:?}");
    assert!(took > LEASE / 2 && took < LEASE + GRANT_TIME_MAX + SLACK, "{took:?}");
    drop(holders);
    assert!(holds_within(PROMPT, || fs::metadata(&paths[0]).is_ok()));
}
