//! What people lose elsewhere, and do not lose here: with the commands that they use. `never_hangs.rs` has the table.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nearfs_tests::harness::{Companion, Mount, PROMPT, World, can_mount, holds_within, run_within, watchdog};
use nearfs_tests::proxy::FaultProxy;

const TEST_TIME_MAX: Duration = Duration::from_secs(150);

macro_rules! mounting {
    () => {
        if !can_mount() {
            return;
        }
        let _watchdog = watchdog(TEST_TIME_MAX);
    };
}

fn same(one: &Path, other: &Path) -> bool {
    match (fs::read(one), fs::read(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Ok(_), Err(_)) | (Err(_), _) => false,
    }
}

/// Content in which no part is like another.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes / 8)
        .flat_map(|number| (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

fn kill(mount: &Mount) {
    let pid = mount.pid();
    run_within(Command::new("kill").args(["-9", &pid.to_string()]), PROMPT);
    assert!(holds_within(PROMPT, || !Path::new(&format!("/proc/{pid}")).exists()));
}

#[test]
fn appends_and_directories_survive_cut_connections() {
    mounting!();
    let world = World::new();
    let target: SocketAddr = world.server().address.parse().unwrap();
    let proxy = FaultProxy::start(target).unwrap();
    let mount = world.mount_through(&proxy.endpoint().to_string(), "mount", "");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(150));
                proxy.cut();
            }
        });
        // As a shell does it: one descriptor, 200 lines; and directories that nobody else makes.
        let script = "exec 3>>log; for i in $(seq 200); do echo $i >&3; mkdir d$i || exit 1; sleep .01; done";
        let mut shell = Command::new("sh");
        let status = Companion::start(shell.arg("-c").arg(script).current_dir(mount.path())).end();
        done.store(true, Ordering::Relaxed);
        assert!(status.success(), "mkdir was told of a directory that is its own");
    });
    let expected: String = (1..=200).map(|number| format!("{number}\n")).collect();
    assert_eq!(fs::read_to_string(world.export().join("log")).unwrap(), expected);
    assert!(mount.status()["reconnects"].as_u64().unwrap() >= 5, "{}", mount.status());
}

#[test]
fn two_mounts_never_differ_after_a_close() {
    mounting!();
    let world = World::new();
    let (one, other) = (world.mount("one", ""), world.mount("other", ""));
    fs::write(one.join("f"), "round ......").unwrap();
    assert!(holds_within(PROMPT, || other.join("f").exists()));
    for round in 0..500 {
        let (writer, reader) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        // Of one size, so that only the content tells; read before, so that there is something to be stale.
        let text = format!("round {round:06}");
        let _ = fs::read_to_string(reader.join("f"));
        fs::write(writer.join("f"), &text).unwrap();
        let mut read = String::new();
        File::open(reader.join("f")).unwrap().read_to_string(&mut read).unwrap();
        assert_eq!(read, text);
    }
    let names = || fs::read_dir(one.path()).unwrap().count();
    let before = names();
    for round in 0..300 {
        File::create(one.join("x")).unwrap();
        fs::remove_file(one.join("x")).unwrap();
        assert_eq!(names(), before, "round {round}");
    }
    let append = |text: &str| {
        let mut file = OpenOptions::new().append(true).create(true).open(one.join("ab")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append("a\n");
    append("b\n");
    assert_eq!(fs::read_to_string(one.join("ab")).unwrap(), "a\nb\n");
}

#[test]
fn what_was_synced_or_unmounted_is_on_the_server() {
    mounting!();
    let world = World::new();
    let source = world.directory("source").join("big");
    fs::write(&source, content(32 << 20)).unwrap();
    let mount = world.mount("unmounted", "");
    run_within(Command::new("cp").arg(&source).arg(mount.join("big")), PROMPT);
    mount.unmount();
    assert!(same(&source, &world.export().join("big")));

    let mount = world.mount("killed", "");
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", source.display())).arg(format!("of={}", mount.join("synced").display()));
    run_within(dd.args(["bs=1M", "conv=fsync"]), PROMPT);
    kill(&mount);
    assert!(same(&source, &world.export().join("synced")));
}

#[test]
fn what_is_not_yet_on_the_server_is_told() {
    mounting!();
    let world = World::new();
    let mount = world.mount("mount", "");
    let file = File::create(mount.join("f")).unwrap();
    world.server().companion().freeze();
    let writer = thread::spawn(move || file.write_all_at(&[7; 50_000], 0));
    assert!(holds_within(PROMPT, || mount.status()["pending_bytes"] == 50_000), "{}", mount.status());
    world.server().companion().signal(libc::SIGCONT);
    writer.join().unwrap().unwrap();
    assert_eq!(mount.status()["pending_bytes"], 0);
}

#[test]
fn a_move_that_is_cut_short_leaves_a_good_copy() {
    mounting!();
    let world = World::new();
    let whole = content(48 << 20);
    let reference = world.directory("reference").join("big");
    fs::write(&reference, &whole).unwrap();
    let target = world.directory("target").join("big");
    let mut cut_short = 0;
    for (round, after_ms) in [5, 20, 40, 80, 160].into_iter().enumerate() {
        let _ = fs::remove_file(&target);
        fs::write(world.export().join("big"), &whole).unwrap();
        let mount = world.mount(&format!("mount{round}"), "");
        let moving = Companion::start(Command::new("mv").arg(mount.join("big")).arg(&target));
        thread::sleep(Duration::from_millis(after_ms));
        kill(&mount);
        cut_short += usize::from(!moving.end().success());
        let at_the_server = same(&reference, &world.export().join("big"));
        assert!(at_the_server || same(&reference, &target), "after {after_ms} ms no copy is whole");
    }
    assert!(cut_short > 0, "no move was cut short");
}
