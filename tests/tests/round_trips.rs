//! What a change of names costs where the server is far away: one round trip, because the client knows what is not there.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nearfs_tests::harness::{Mount, World, can_mount, holds_within, watchdog};
use nearfs_tests::proxy::FaultProxy;

const TEST_TIME_MAX: Duration = Duration::from_secs(150);
/// One way. A round trip takes twice as long.
const DELAY: Duration = Duration::from_millis(10);
/// Names of a directory are believed for this long, and a little for busy machines.
const TRUST: Duration = Duration::from_millis(1000);
const SLACK: Duration = Duration::from_millis(600);
/// Most bytes that the kernel asks for at once, wherever in memory they shall go.
const LARGE_BYTES: usize = 1024 * 1024 - 4096;
/// How often each thing is done.
const COUNT: u64 = 40;

macro_rules! mounting {
    () => {
        if !can_mount() {
            return;
        }
        let _watchdog = watchdog(TEST_TIME_MAX);
    };
}

/// A server, and a mount of it over a slow link.
fn far() -> (World, FaultProxy, Mount) {
    let world = World::new();
    let (proxy, mount) = world.mount_far(DELAY, "");
    (world, proxy, mount)
}

/// Does something [`COUNT`] times. Returns how many requests of the kinds that it would have to wait for were sent.
#[track_caller]
fn asked(mount: &Mount, kinds: &[&str], act: impl Fn(u64)) -> u64 {
    let sent = || kinds.iter().map(|kind| mount.sent(kind)).sum::<u64>();
    let before = sent();
    (0..COUNT).for_each(act);
    sent() - before
}

/// What is done with the name of a number.
type Step<'a> = &'a dyn Fn(u64);

/// Makes, moves and removes files and directories in a directory, and counts the questions beside the changes.
#[track_caller]
fn change_names_without_questions(mount: &Mount, directory: &Path) {
    let at = |text: &str, number: u64| directory.join(format!("{text}{number}"));
    let steps: [(&str, &str, Step<'_>); 6] = [
        ("create", "create", &|number| {
            File::create(at("f", number)).unwrap().write_all(b"x").unwrap();
        }),
        ("mkdir", "mkdir", &|number| fs::create_dir(at("d", number)).unwrap()),
        ("rename", "rename", &|number| fs::rename(at("f", number), at("g", number)).unwrap()),
        ("replace", "rename", &|number| {
            // All that is left in the end is one file.
            let source = if number == 0 { at("g", 0) } else { at("h", number - 1) };
            fs::rename(source, at("h", number)).unwrap();
        }),
        ("unlink", "unlink", &|number| {
            let path = if number == 0 { at("h", COUNT - 1) } else { at("g", number) };
            fs::remove_file(path).unwrap();
        }),
        ("rmdir", "rmdir", &|number| fs::remove_dir(at("d", number)).unwrap()),
    ];
    for (what, kind, step) in steps {
        let changes = mount.sent(kind);
        let questions = asked(mount, &["lookup", "getattr", "open"], step);
        assert_eq!(mount.sent(kind) - changes, COUNT, "{what}");
        // The clock may go past a second in between on a busy machine.
        assert!(questions <= COUNT / 8, "{questions} questions for {COUNT} times {what}");
    }
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
}

#[test]
fn in_a_directory_of_ones_own_each_change_is_one_round_trip() {
    mounting!();
    let (_world, _proxy, mount) = far();
    fs::create_dir(mount.join("fresh")).unwrap();
    change_names_without_questions(&mount, &mount.join("fresh"));
}

#[test]
fn in_a_listed_directory_each_change_is_one_round_trip() {
    mounting!();
    let (world, _proxy, mount) = far();
    let directory = world.export().join("listed");
    fs::create_dir(&directory).unwrap();
    (0..50).for_each(|number| fs::write(directory.join(format!("old{number}")), "").unwrap());
    assert_eq!(fs::read_dir(mount.join("listed")).unwrap().count(), 50);
    let kinds = ["lookup", "getattr", "open"];
    let questions = asked(&mount, &kinds, |number| {
        File::create(mount.join(format!("listed/new{number}"))).unwrap();
    });
    assert!(questions <= COUNT / 8, "{questions} questions");
    let questions = asked(&mount, &kinds, |number| {
        fs::rename(mount.join(format!("listed/new{number}")), mount.join(format!("listed/other{number}")))
            .unwrap();
    });
    assert!(questions <= COUNT / 8, "{questions} questions");
}

#[test]
fn a_small_file_is_opened_and_read_in_one_round_trip() {
    mounting!();
    let (world, _proxy, mount) = far();
    (0..COUNT).for_each(|number| fs::write(world.export().join(format!("f{number}")), "abc").unwrap());
    let kinds = ["lookup", "getattr", "open", "read"];
    let questions = asked(&mount, &kinds, |number| {
        assert_eq!(fs::read(mount.join(format!("f{number}"))).unwrap(), b"abc");
    });
    assert!(questions <= COUNT + COUNT / 8, "{questions} questions for {COUNT} files");
}

/// A directory of which the mount knows all names, and who changes it from elsewhere: another mount, or a program on the
/// server.
fn known_directories(world: &World, mount: &Mount) -> (Mount, Vec<(PathBuf, PathBuf)>) {
    let other = world.mount("other", "");
    let places = ["by-mount", "by-program"].map(|name| {
        fs::create_dir(mount.join(name)).unwrap();
        fs::write(mount.join(name).join("mine"), "").unwrap();
        mount.join(name)
    });
    let [one, two] = places;
    let rivals = [other.join("by-mount"), world.export().join("by-program")];
    assert!(holds_within(TRUST + SLACK, || rivals.iter().all(|rival| rival.join("mine").exists())));
    (other, [one, two].into_iter().zip(rivals).collect())
}

#[test]
fn what_others_do_in_a_known_directory_is_seen_within_a_second() {
    mounting!();
    let (world, _proxy, mount) = far();
    let (_other, places) = known_directories(&world, &mount);
    for (here, there) in places {
        for round in 0..4 {
            let name = format!("theirs{round}");
            fs::write(here.join(format!("mine{round}")), "").unwrap();
            assert!(!here.join(&name).exists());
            fs::write(there.join(&name), "abc").unwrap();
            assert!(
                holds_within(TRUST + SLACK, || fs::read(here.join(&name)).is_ok_and(|text| text == b"abc"))
            );
            fs::remove_file(there.join(&name)).unwrap();
            assert!(holds_within(TRUST + SLACK, || !here.join(&name).exists()));
        }
    }
}

#[test]
fn what_others_do_is_seen_while_one_changes_the_directory_all_the_time() {
    mounting!();
    let (world, _proxy, mount) = far();
    let (_other, places) = known_directories(&world, &mount);
    for (here, there) in places {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let names = (0..).take_while(|_| !done.load(Ordering::Relaxed));
                names.for_each(|number| drop(File::create(here.join(format!("n{number}"))).unwrap()));
            });
            for round in 0..6 {
                let name = format!("theirs{round}");
                assert!(!here.join(&name).exists());
                fs::write(there.join(&name), "abc").unwrap();
                let seen = holds_within(TRUST + SLACK, || here.join(&name).exists());
                done.fetch_or(!seen, Ordering::Relaxed);
                assert!(seen, "round {round}");
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn what_exists_without_ones_knowledge_is_neither_replaced_nor_made_twice() {
    mounting!();
    let (world, _proxy, mount) = far();
    let (_other, places) = known_directories(&world, &mount);
    for (here, there) in places {
        let in_vain = |name: &str, act: &dyn Fn(&Path) -> std::io::Result<()>| {
            fs::write(here.join("mine"), "").unwrap();
            fs::write(there.join(name), "theirs").unwrap();
            let begun = Instant::now();
            let error = act(&here.join(name)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{name} after {:?}", begun.elapsed());
            assert_eq!(fs::read_to_string(there.join(name)).unwrap(), "theirs");
            // It is known from here on.
            assert_eq!(fs::read_to_string(here.join(name)).unwrap(), "theirs");
        };
        in_vain("a", &|path| fs::create_dir(path));
        in_vain("b", &|path| File::create_new(path).map(drop));
        in_vain("c", &|path| fs::hard_link(here.join("mine"), path));
        in_vain("d", &|path| std::os::unix::fs::symlink("x", path));
    }
}

#[test]
fn a_large_direct_read_is_one_round_trip() {
    mounting!();
    let (world, _proxy, mount) = far();
    let bytes: Vec<u8> = (0..LARGE_BYTES).map(|at| (at / 7) as u8).collect();
    fs::write(world.export().join("large"), &bytes).unwrap();
    let mut file = File::options().read(true).custom_flags(libc::O_DIRECT).open(mount.join("large")).unwrap();
    let before = mount.sent("read");
    let mut read = vec![0; LARGE_BYTES];
    file.read_exact(&mut read).unwrap();
    assert_eq!(mount.sent("read") - before, 1);
    assert!(read == bytes);
}
