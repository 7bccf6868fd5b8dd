//! Real programs do their work while the server is killed and started again under them, as often as `NEARFS_KILLS`
//! says: builds succeed, repositories and databases are sound, and counts are exact.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use nearfs_tests::harness::{Watchdog, can_mount, end_within, watchdog};
use nearfs_tests::soak::Place;

/// How often the server is killed at least while a program works.
const KILLS: u64 = 4;
/// No test takes longer.
const TEST_TIME_MAX: Duration = Duration::from_secs(400);
/// No program takes longer.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(180);
/// The server lives so long, and is away so long.
const LIFE: Duration = Duration::from_millis(700);
const ABSENCE: Duration = Duration::from_millis(150);

fn kills() -> u64 {
    std::env::var("NEARFS_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"))
}

/// Does something again and again until the server has been killed often enough meanwhile; none where mounting is
/// impossible.
fn while_the_server_is_killed(work: impl Fn(&Path, u64)) -> Option<(Place, Watchdog)> {
    if !can_mount() {
        return None;
    }
    let watchdog = watchdog(TEST_TIME_MAX);
    let place = Mutex::new(Place::make(None).unwrap());
    let mount = place.lock().unwrap().mounts[0].path.clone();
    let (is_over, killed) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            while !is_over.load(SeqCst) {
                thread::sleep(LIFE);
                let mut place = place.lock().unwrap();
                place.kill_server();
                thread::sleep(ABSENCE);
                place.start_server().unwrap();
                killed.fetch_add(1, SeqCst);
            }
        });
        // A program that fails must not leave the other thread at work.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0.. {
                work(&mount, round);
                if killed.load(SeqCst) >= kills() {
                    break;
                }
            }
        }));
        is_over.store(true, SeqCst);
        killer.join().unwrap();
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    Some((place.into_inner().unwrap(), watchdog))
}

/// Runs checks of tests/programs on the mount.
fn programs(mount: &Path, checks: &[&str]) {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-B").arg(programs).arg(mount).args(checks).stdin(Stdio::null());
    let (status, out, err) = end_within(&mut command, PROGRAM_TIME_MAX);
    let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
    assert!(status.success(), "{checks:?}: {status}\n{out}\n{err}");
}

#[test]
fn a_build_succeeds_while_the_server_is_killed() {
    while_the_server_is_killed(|mount, _| programs(mount, &["make_a_c_project"]));
}

#[test]
fn a_repository_stays_sound_while_the_server_is_killed() {
    while_the_server_is_killed(|mount, _| {
        programs(mount, &["git_clone", "git_commit_merge_rebase", "git_gc_and_fsck"]);
    });
}

#[test]
fn a_database_loses_nothing_while_the_server_is_killed() {
    while_the_server_is_killed(|mount, _| {
        programs(mount, &["sqlite_transactions", "sqlite_concurrent_writers"]);
    });
}

#[test]
fn each_record_is_appended_once_while_the_server_is_killed() {
    const RECORDS: u64 = 200;
    let appended = while_the_server_is_killed(|mount, round| {
        let mut log = OpenOptions::new().append(true).create(true).open(mount.join("log")).unwrap();
        for number in round * RECORDS..(round + 1) * RECORDS {
            log.write_all(format!("record {number:06}\n").as_bytes()).unwrap();
            // So that they last as long as some lives of the server.
            thread::sleep(Duration::from_millis(12));
        }
    });
    let Some((place, _watchdog)) = appended else { return };
    let log = fs::read_to_string(place.export().join("log")).unwrap();
    let count = log.lines().count() as u64;
    assert!(count >= RECORDS && count.is_multiple_of(RECORDS), "{count} records");
    let expected: String = (0..count).map(|number| format!("record {number:06}\n")).collect();
    assert!(log == expected, "records are missing, doubled or torn");
}
