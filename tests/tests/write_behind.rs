//! A program does not wait for each of its writes where the server is far away, and notices nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nearfs_tests::harness::{Mount, PROMPT, World, can_mount, run_within, watchdog};
use nearfs_tests::proxy::FaultProxy;
use nearfs_tests::random::noise;

const TEST_TIME_MAX: Duration = Duration::from_secs(150);
/// One way. A round trip takes twice as long.
const DELAY: Duration = Duration::from_millis(25);
const FAR: &str = "write_behind=8M";

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
    let (proxy, mount) = world.mount_far(DELAY, FAR);
    (world, proxy, mount)
}

#[test]
fn a_far_server_is_not_waited_for_at_each_write_but_at_close() {
    mounting!();
    let (world, _proxy, mount) = far();
    let near = world.mount("near", "");
    let content = noise(64 * 64 * 1024, 1);
    let began = Instant::now();
    let mut file = File::create(mount.join("f")).unwrap();
    for piece in content.chunks(64 * 1024) {
        file.write_all(piece).unwrap();
    }
    drop(file);
    let took = began.elapsed();
    assert!(took < 32 * 2 * DELAY, "{took:?} for 64 writes");
    // Close-to-open, for the server itself and for other mounts.
    assert!(fs::read(world.export().join("f")).unwrap() == content);
    assert!(fs::read(near.join("f")).unwrap() == content);
}

#[test]
fn what_is_on_its_way_is_seen_at_once_by_programs_here() {
    mounting!();
    let (world, _proxy, mount) = far();
    let path = mount.join("f");
    let mut expected = Vec::new();
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    for round in 0..30_u64 {
        // Odd places, so that pages are filled in parts.
        let spread = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize;
        let (at, size) = (spread % 60_000, 1 + (spread >> 20) % 9_000);
        let bytes = noise(size, round);
        file.write_all_at(&bytes, at as u64).unwrap();
        expected.resize(expected.len().max(at + size), 0);
        expected[at..at + size].copy_from_slice(&bytes);
        match round % 5 {
            0 => assert_eq!(fs::metadata(&path).unwrap().len(), expected.len() as u64),
            1 => assert!(fs::read(&path).unwrap() == expected, "round {round}"),
            2 => {
                let mut seen = vec![0; size];
                file.read_exact_at(&mut seen, at as u64).unwrap();
                assert!(seen == bytes, "round {round}");
            }
            3 => {
                expected.truncate(at);
                file.set_len(at as u64).unwrap();
            }
            _ => {}
        }
    }
    let listed = fs::read_dir(mount.path()).unwrap().next().unwrap().unwrap();
    assert_eq!(listed.metadata().unwrap().len(), expected.len() as u64);
    file.sync_all().unwrap();
    assert!(fs::read(world.export().join("f")).unwrap() == expected);
}

#[test]
fn what_was_synced_or_unlocked_is_on_a_far_server() {
    mounting!();
    let (world, _proxy, mount) = far();
    let there = || fs::read_to_string(world.export().join("f")).unwrap();
    let mut file = File::create(mount.join("f")).unwrap();
    file.write_all(b"synced").unwrap();
    file.sync_data().unwrap();
    assert_eq!(there(), "synced");
    file.lock().unwrap();
    file.write_all(b", unlocked").unwrap();
    file.unlock().unwrap();
    assert_eq!(there(), "synced, unlocked");
}

#[test]
fn an_error_of_a_far_servers_disk_reaches_who_wrote() {
    mounting!();
    let (world, _proxy, mount) = far();
    let small = world.export().join("small");
    fs::create_dir(&small).unwrap();
    run_within(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "small"]).arg(&small), PROMPT);
    let dd = |of: &str, more: &[&str]| {
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "bs=64K", "count=32"]).arg(format!("of={}", mount.join(of).display()));
        dd.args(more).output().unwrap()
    };
    // Whether at a later write, at its sync or at its close: dd hears of it.
    let told = [dd("small/a", &[]), dd("small/b", &["conv=fsync"])];
    // Much more than may be on its way.
    let mut file = File::create(mount.join("small/d")).unwrap();
    let piece = noise(256 * 1024, 1);
    let written = (0..200).try_for_each(|_| file.write_all(&piece));
    let synced = File::create(mount.join("small/c")).and_then(|file| {
        file.write_all_at(&noise(2 << 20, 1), 0)?;
        file.sync_all()
    });
    drop(file);
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH).unwrap();
    for output in told {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("No space left on device"), "{said}");
    }
    for outcome in [written, synced] {
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }
}

#[test]
fn what_is_on_its_way_survives_cut_connections() {
    mounting!();
    let (world, proxy, mount) = far();
    let content = noise(8 << 20, 1);
    let mut file = File::create(mount.join("f")).unwrap();
    for (number, piece) in content.chunks(256 * 1024).enumerate() {
        file.write_all(piece).unwrap();
        if number % 8 == 3 {
            proxy.cut();
        }
    }
    drop(file);
    assert!(fs::read(world.export().join("f")).unwrap() == content);
    let mut seen = Vec::new();
    File::open(mount.join("f")).unwrap().read_to_end(&mut seen).unwrap();
    assert!(seen == content);
}
