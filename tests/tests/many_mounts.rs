//! Many mounts of one server at once: all usable, and the server's memory and descriptors bounded.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::fs;
use std::thread;
use std::time::Duration;

use nearfs_tests::harness::{Mount, World, can_mount, holds_within, status_number, watchdog};

/// As many as the program is meant for at least.
const MOUNTS: usize = 64;
/// Mounts that are made at once; each is a process that starts.
const AT_ONCE: usize = 8;
const TEST_TIME_MAX: Duration = Duration::from_secs(150);
/// What the server may need for all of them, in KiB.
const SERVER_KIB_MAX: u64 = 64 * 1024;
/// What one client without content in its cache may need, in KiB.
const CLIENT_KIB_MAX: u64 = 32 * 1024;
/// Each mount has up to 3 connections, and none of its files is open in the end.
const DESCRIPTORS_PER_MOUNT: usize = 4;

#[test]
fn sixty_four_mounts_are_all_usable_and_cost_little() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let server = world.server().companion();
    let (kib_before, descriptors_before) = (server.status_number("VmRSS"), server.descriptors());
    let mounts = mount_all(&world);

    for (number, mount) in mounts.iter().enumerate() {
        fs::write(mount.join(format!("from{number}")), format!("mount {number}\n")).unwrap();
    }
    // Each sees what all have written, through a listing of its own.
    in_parallel(&mounts, |mount| {
        assert!(
            holds_within(Duration::from_secs(3), || fs::read_dir(mount.path()).unwrap().count() == MOUNTS)
        );
        for number in 0..MOUNTS {
            let text = fs::read_to_string(mount.join(format!("from{number}"))).unwrap();
            assert_eq!(text, format!("mount {number}\n"));
        }
    });

    let kib = server.status_number("VmRSS") - kib_before;
    assert!(kib < SERVER_KIB_MAX, "the server grew by {kib} KiB");
    let most = descriptors_before + MOUNTS * DESCRIPTORS_PER_MOUNT + MOUNTS;
    assert!(
        holds_within(Duration::from_secs(5), || server.descriptors() <= most),
        "{} of {most}",
        server.descriptors()
    );
    let largest = mounts.iter().map(|mount| status_number(mount.pid(), "VmRSS")).max().unwrap();
    assert!(largest < CLIENT_KIB_MAX, "a client takes {largest} KiB");
    eprintln!(
        "{MOUNTS} mounts: server +{kib} KiB, {} descriptors; largest client {largest} KiB",
        server.descriptors()
    );

    drop(mounts);
    let back = descriptors_before + AT_ONCE;
    let freed = holds_within(Duration::from_secs(10), || server.descriptors() <= back);
    assert!(freed, "{} descriptors are left of {descriptors_before}", server.descriptors());
}

fn mount_all(world: &World) -> Vec<Mount> {
    let numbers: Vec<usize> = (0..MOUNTS).collect();
    let mount = |number: &usize| world.mount(&format!("m{number}"), "");
    let mut mounts = Vec::new();
    for some in numbers.chunks(AT_ONCE) {
        mounts.extend(thread::scope(|scope| {
            let started: Vec<_> = some.iter().map(|number| scope.spawn(|| mount(number))).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        }));
    }
    mounts
}

fn in_parallel(mounts: &[Mount], act: impl Fn(&Mount) + Sync) {
    thread::scope(|scope| {
        for some in mounts.chunks(MOUNTS.div_ceil(AT_ONCE)) {
            scope.spawn(|| some.iter().for_each(&act));
        }
    });
}
