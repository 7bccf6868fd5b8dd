//! Two mounts of one server show the same files.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nearfs_tests::harness::{Companion, Mount, World, can_mount, holds_within, watchdog};

const ACTOR: &str = env!("CARGO_BIN_EXE_file-actor");
/// No test takes longer.
const TEST_TIME_MAX: Duration = Duration::from_secs(100);
/// What was looked at on one mount may be this old on it, and a little for busy machines.
const TRUST: Duration = Duration::from_millis(1000);
const SLACK: Duration = Duration::from_millis(600);

fn two_mounts() -> (World, Mount, Mount) {
    let world = World::new();
    let (one, other) = (world.mount("one", ""), world.mount("other", ""));
    (world, one, other)
}

macro_rules! mounting {
    () => {
        if !can_mount() {
            return;
        }
        let _watchdog = watchdog(TEST_TIME_MAX);
    };
}

#[test]
fn what_was_closed_on_one_mount_is_read_after_an_open_on_the_other() {
    mounting!();
    let (_world, one, other) = two_mounts();
    let (writing, reading) = (one.join("file"), other.join("file"));
    for round in 0..300 {
        // The same size each time, so that only the content tells.
        let text = format!("round {round:06}\n");
        fs::write(&writing, &text).unwrap();
        assert_eq!(fs::read_to_string(&reading).unwrap(), text);
    }
}

#[test]
fn a_rewrite_in_place_is_read_after_an_open_on_the_other() {
    mounting!();
    let (_world, one, other) = two_mounts();
    fs::write(one.join("file"), vec![b'-'; 300_000]).unwrap();
    for round in 0..200_u64 {
        let text = format!("{round:06}");
        let at = round * 1400;
        let file = OpenOptions::new().write(true).open(one.join("file")).unwrap();
        file.write_all_at(text.as_bytes(), at).unwrap();
        drop(file);
        let mut found = [0; 6];
        File::open(other.join("file")).unwrap().read_exact_at(&mut found, at).unwrap();
        assert_eq!(found, text.as_bytes(), "round {round}");
    }
}

/// A look at a file before it is rewritten elsewhere must not make a later open show what was there before.
#[test]
fn a_look_before_the_other_mounts_close_makes_no_open_stale() {
    mounting!();
    let (_world, one, other) = two_mounts();
    let place = |mount: &Mount, round: u32| mount.join(format!("file{round}"));
    for round in 0..200 {
        fs::write(place(&one, round), "before\n").unwrap();
        assert_eq!(fs::read_to_string(place(&other, round)).unwrap(), "before\n");
    }
    let opened_ahead = other.sent("lookup") + other.sent("open");
    assert!(
        opened_ahead < 390,
        "{opened_ahead} requests: files are opened together with their lookup by then"
    );
    for round in 200..400 {
        fs::write(place(&one, round), "before\n").unwrap();
        assert!(fs::metadata(place(&other, round)).is_ok());
        fs::write(place(&one, round), "after!\n").unwrap();
        assert_eq!(fs::read_to_string(place(&other, round)).unwrap(), "after!\n", "round {round}");
    }
}

#[test]
fn own_changes_are_seen_at_once() {
    mounting!();
    let (_world, one, _other) = two_mounts();
    for round in 0..200 {
        let path = one.join("x");
        File::create(&path).unwrap();
        assert_eq!(names(one.path()), ["x"], "round {round}");
        fs::write(&path, "1").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"23").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"123", "round {round}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600 + round % 8)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600 + round % 8);
        let moved = one.join("y");
        fs::rename(&path, &moved).unwrap();
        assert!(!path.exists() && moved.exists(), "round {round}");
        fs::remove_file(&moved).unwrap();
        assert!(!moved.exists());
        assert_eq!(names(one.path()), Vec::<String>::new(), "round {round}");
    }
}

#[test]
fn a_change_elsewhere_is_seen_within_a_second() {
    mounting!();
    let (world, one, other) = two_mounts();
    let seen = |what: &str, condition: &dyn Fn() -> bool| {
        let begun = Instant::now();
        assert!(holds_within(TRUST + SLACK, condition), "{what} is not seen after {:?}", begun.elapsed());
    };
    // By another mount, and on the server's own disk.
    for (round, writer) in [one.path().to_owned(), world.export()].iter().enumerate() {
        let (there, here) = (writer.join(format!("f{round}")), other.join(format!("f{round}")));
        assert!(!here.exists(), "its absence is remembered from here on");
        fs::write(&there, "abc").unwrap();
        seen("a new name", &|| here.exists());
        seen("a new name in a listing", &|| names(other.path()).contains(&format!("f{round}")));
        assert_eq!(fs::metadata(&here).unwrap().len(), 3);
        OpenOptions::new().append(true).open(&there).unwrap().write_all(b"def").unwrap();
        seen("a new size", &|| fs::metadata(&here).unwrap().len() == 6);
        fs::set_permissions(&there, fs::Permissions::from_mode(0o640)).unwrap();
        seen("a new mode", &|| fs::metadata(&here).unwrap().mode() & 0o777 == 0o640);
        fs::remove_file(&there).unwrap();
        seen("a removed name", &|| !here.exists());
        assert!(!names(other.path()).contains(&format!("f{round}")));
    }
}

/// A reader who has the file open sees what another mount wrote within a second, too.
#[test]
fn an_open_file_follows_its_growth() {
    mounting!();
    let (_world, one, other) = two_mounts();
    fs::write(one.join("log"), "first\n").unwrap();
    let mut log = File::open(other.join("log")).unwrap();
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    OpenOptions::new().append(true).open(one.join("log")).unwrap().write_all(b"second\n").unwrap();
    let follows = holds_within(TRUST + SLACK, || {
        log.read_to_string(&mut text).unwrap();
        text == "first\nsecond\n"
    });
    assert!(follows, "{text:?}");
}

#[test]
fn appended_records_of_two_mounts_are_all_there_once() {
    mounting!();
    let (world, one, other) = two_mounts();
    File::create(one.join("log")).unwrap();
    let count = 150;
    let actors: Vec<_> = [(&one, "a"), (&other, "b"), (&one, "c"), (&other, "d")]
        .iter()
        .map(|(mount, tag)| Companion::actor(ACTOR, &["append", tag, &count.to_string()], &mount.join("log")))
        .collect();
    actors.iter().for_each(|actor| assert!(actor.end().success()));
    let text = fs::read_to_string(world.export().join("log")).unwrap();
    let records: Vec<&str> = text.lines().collect();
    assert_eq!(records.len(), 4 * count);
    let distinct: HashSet<&str> = records.iter().copied().collect();
    assert_eq!(distinct.len(), 4 * count, "a record was written twice or over another");
    for tag in ["a", "b", "c", "d"] {
        let own: Vec<_> = records.iter().filter(|record| record.starts_with(tag)).collect();
        assert!(own.is_sorted(), "the records of one writer change places");
    }
}

#[test]
fn one_of_all_is_the_first_to_create() {
    mounting!();
    let (_world, one, other) = two_mounts();
    fs::create_dir(one.join("locks")).unwrap();
    assert!(holds_within(TRUST + SLACK, || other.join("locks").exists()));
    let count = 100;
    let actors: Vec<_> = [&one, &other, &one, &other]
        .iter()
        .map(|mount| Companion::actor(ACTOR, &["create-first", &count.to_string()], &mount.join("locks")))
        .collect();
    let firsts: u32 = actors.iter().map(|actor| actor.line().parse::<u32>().unwrap()).sum();
    assert_eq!(firsts, count);
}

#[test]
fn a_counter_under_a_lock_loses_nothing() {
    mounting!();
    let (world, one, other) = two_mounts();
    for style in ["flock", "posix"] {
        fs::write(one.join(style), "00000000\n").unwrap();
        assert!(holds_within(TRUST + SLACK, || other.join(style).exists()));
        let actors: Vec<_> = [&one, &other, &one, &other]
            .iter()
            .map(|mount| Companion::actor(ACTOR, &["count", style, "60"], &mount.join(style)))
            .collect();
        actors.iter().for_each(|actor| assert!(actor.end().success()));
        assert_eq!(fs::read_to_string(world.export().join(style)).unwrap(), "00000240\n", "{style}");
    }
}

#[test]
fn a_lock_of_a_killed_process_is_free_again() {
    mounting!();
    let (_world, one, other) = two_mounts();
    for style in ["flock", "posix"] {
        fs::write(one.join(style), "").unwrap();
        assert!(holds_within(TRUST + SLACK, || other.join(style).exists()));
        let holder = Companion::actor(ACTOR, &["hold", style], &one.join(style));
        assert_eq!(holder.line(), "locked");
        for mount in [&one, &other] {
            let rival = Companion::actor(ACTOR, &["try", style], &mount.join(style));
            assert_eq!(rival.line(), "refused", "{style}");
        }
        let waiting = Companion::actor(ACTOR, &["hold", style], &other.join(style));
        assert!(!waiting.prints_within(Duration::from_millis(300)), "two hold the same lock");
        holder.signal(libc::SIGKILL);
        assert!(waiting.prints_within(Duration::from_secs(5)), "{style}: the lock of the dead is kept");
    }
}

#[test]
fn a_waiter_for_a_lock_can_be_killed() {
    mounting!();
    let (_world, one, other) = two_mounts();
    fs::write(one.join("f"), "").unwrap();
    assert!(holds_within(TRUST + SLACK, || other.join("f").exists()));
    let holder = Companion::actor(ACTOR, &["hold", "posix"], &one.join("f"));
    assert_eq!(holder.line(), "locked");
    let waiting = Companion::actor(ACTOR, &["hold", "posix"], &other.join("f"));
    assert!(!waiting.prints_within(Duration::from_millis(200)));
    let begun = Instant::now();
    waiting.signal(libc::SIGKILL);
    drop(holder);
    waiting.end();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn readers_of_a_replaced_file_always_find_a_whole_one() {
    mounting!();
    let (_world, one, other) = two_mounts();
    let (target, fresh) = (one.join("target"), one.join("fresh"));
    let version = |round: usize| format!("{round:07}\n").repeat(2000);
    fs::write(&target, version(0)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mount in [&one, &other] {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let text = fs::read_to_string(mount.join("target")).expect("it never misses");
                    assert_eq!(text.len(), 16_000);
                    let first = &text[..8];
                    assert!(text.as_bytes().chunks(8).all(|line| line == first.as_bytes()), "mixed versions");
                }
            });
        }
        for round in 1..150 {
            fs::write(&fresh, version(round)).unwrap();
            fs::rename(&fresh, &target).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_file_removed_elsewhere_can_be_used_while_it_is_open() {
    mounting!();
    let (_world, one, other) = two_mounts();
    fs::write(one.join("f"), "abc").unwrap();
    let mut file = OpenOptions::new().read(true).write(true).open(other.join("f")).unwrap();
    fs::remove_file(one.join("f")).unwrap();
    file.write_all(b"xyz").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "xyz");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
