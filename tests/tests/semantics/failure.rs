//! What programs see when the server does not answer.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nearfs_tests::harness::{PROMPT, World, can_mount, end_within, holds_within, watchdog};
use nearfs_tests::proxy::FaultProxy;

use crate::{TEST_TIME_MAX, errno, mounted_with};

/// Added to a time-out by the kernel, which may ask twice, and by a busy machine.
const SLACK: Duration = Duration::from_secs(4);

#[test]
fn a_silent_server_ends_reads_and_metadata_in_time() {
    let Some((world, mount, _watchdog)) =
        mounted_with("timeout=2,attr_timeout=0,entry_timeout=0,negative_timeout=0")
    else {
        return;
    };
    fs::write(mount.join("f"), vec![1; 300_000]).unwrap();
    let file = File::open(mount.join("f")).unwrap();
    world.server().companion().freeze();
    let within = |what: &str, errno: i32, begun: Instant| {
        assert_eq!(errno, libc::ETIMEDOUT, "{what}");
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(1500) && took < Duration::from_secs(2) + SLACK,
            "{what}: {took:?}"
        );
    };
    let begun = Instant::now();
    within("stat", errno(fs::metadata(mount.join("other"))), begun);
    let begun = Instant::now();
    within("mkdir", errno(fs::create_dir(mount.join("d"))), begun);
    let begun = Instant::now();
    within("read", errno(file.read_exact_at(&mut [0; 4096], 200_000)), begun);
    world.server().companion().signal(libc::SIGCONT);
    assert!(holds_within(PROMPT, || mount.join("f").exists()), "the mount works again");
    let mut content = Vec::new();
    (&file).read_to_end(&mut content).unwrap();
    assert!(content == vec![1; 300_000]);
}

#[test]
fn a_hard_mount_keeps_writing() {
    let Some((world, mount, _watchdog)) = mounted_with("timeout=1") else { return };
    let mut file = File::create(mount.join("f")).unwrap();
    world.server().companion().freeze();
    let writer = std::thread::spawn(move || {
        let begun = Instant::now();
        file.write_all(b"kept").and_then(|()| file.sync_all()).map(|()| begun.elapsed())
    });
    std::thread::sleep(Duration::from_millis(2500));
    world.server().companion().signal(libc::SIGCONT);
    let took = writer.join().unwrap().expect("the write succeeds");
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert_eq!(fs::read_to_string(world.export().join("f")).unwrap(), "kept");
}

#[test]
fn a_soft_mount_gives_writes_up() {
    let Some((world, mount, _watchdog)) = mounted_with("timeout=1,soft") else { return };
    let mut file = File::create(mount.join("f")).unwrap();
    world.server().companion().freeze();
    let begun = Instant::now();
    assert_eq!(errno(file.write_all(b"lost")), libc::ETIMEDOUT);
    assert!(begun.elapsed() < Duration::from_secs(1) + SLACK, "{:?}", begun.elapsed());
}

#[test]
fn a_lost_connection_is_made_again_and_nothing_is_lost() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let target: std::net::SocketAddr = world.server().address.parse().unwrap();
    let proxy = FaultProxy::start(target).unwrap();
    let mount = world.mount_through(&proxy.endpoint().to_string(), "mount", "");
    let mut log = File::create(mount.join("log")).unwrap();
    fs::write(mount.join("deleted"), "still here").unwrap();
    let mut deleted = File::open(mount.join("deleted")).unwrap();
    fs::remove_file(mount.join("deleted")).unwrap();
    let mut expected = String::new();
    for number in 0..300 {
        if number % 50 == 25 {
            proxy.cut();
        }
        let record = format!("record {number}\n");
        log.write_all(record.as_bytes()).unwrap();
        fs::create_dir(mount.join(format!("d{number}"))).expect("it is made once, and only once");
        expected.push_str(&record);
    }
    assert_eq!(fs::read_to_string(world.export().join("log")).unwrap(), expected);
    let mut text = String::new();
    deleted.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here", "a file that has no name any more is kept as well");
    assert!(mount.status()["reconnects"].as_u64().unwrap() >= 5);
}

#[test]
fn a_server_that_was_killed_leaves_errors_and_no_hanging() {
    let Some((world, mount, _watchdog)) = mounted_with("timeout=2") else { return };
    let mut file = File::create(mount.join("f")).unwrap();
    world.server().companion().signal(libc::SIGKILL);
    let begun = Instant::now();
    assert!(matches!(errno(fs::metadata(mount.join("x"))), libc::ETIMEDOUT | libc::EIO));
    assert!(begun.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", begun.elapsed());
    // A hard write would wait for it; umount ends that, too.
    let writer = std::thread::spawn(move || file.write_all(b"x"));
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    let mut umount = Command::new(nearfs_tests::harness::program());
    let _ = end_within(umount.args(["umount", "--force"]).arg(mount.path()), Duration::from_secs(12));
    assert!(holds_within(Duration::from_secs(5), || writer.is_finished()), "the writer still waits");
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert!(writer.join().unwrap().is_err());
}
