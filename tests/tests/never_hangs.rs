//! What people suffer from when a server goes away, and that it does not happen here: with the commands that they use.
//!
//! | what people complain about | shown by |
//! |---|---|
//! | 1. everything freezes when the server or the network goes | `commands_end_in_time_and_work_again_at_once` |
//! | 2. processes in uninterruptible sleep, no suspend | `nobody_sleeps_uninterruptibly_for_longer_than_the_time_out` |
//! | 3. no recovery after a drop | `nothing_lost.rs`: `appends_and_directories_survive_cut_connections`; `exactly_once.rs` |
//! | 4. the client dies, and its mount point is a corpse | `a_corpse_is_replaced_by_mounting_again_though_programs_sit_in_it` |
//! | 5. Ctrl-C and kill do nothing | `commands_can_be_interrupted_and_killed`; `interrupt.rs` |
//! | 6. a dead mount cannot be unmounted | `umount_ends_whatever_has_become_of_the_server`, `umount_tells_what_is_lost` |
//! | 7. boot and shutdown hang | `mounting_from_who_does_not_answer_fails_in_one_line`, `a_signal_ends_a_mount_in_time` |
//! | 12. two clients see different content | `nothing_lost.rs`: `two_mounts_never_differ_after_a_close`; `coherence.rs` |
//! | 13. close, fsync and unmount lie | `nothing_lost.rs`: `what_was_synced_or_unmounted_is_on_the_server` |
//! | 14. short transfers succeed | `nothing_lost.rs`: `a_move_that_is_cut_short_leaves_a_good_copy`; `write_errors.rs` |
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nearfs_tests::harness::{
    Companion, Mount, PROMPT, World, can_mount, end_within, holds_within, is_mounted, program, run_within,
    watchdog,
};
use nearfs_tests::injection::Injection;
use nearfs_tests::proxy::{FaultProxy, Way};

const TEST_TIME_MAX: Duration = Duration::from_secs(150);
/// Longest time to unmount, whatever has become of the server.
const UMOUNT_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest time in which somebody who is to end ends.
const END_TIME_MAX: Duration = Duration::from_secs(2);
/// For so long the server's disk holds a call up.
const HELD_UP: Duration = Duration::from_secs(6);
/// What a busy machine and a kernel that asks twice add.
const SLACK: Duration = Duration::from_secs(4);

macro_rules! mounting {
    () => {
        if !can_mount() {
            return;
        }
        let _watchdog = watchdog(TEST_TIME_MAX);
    };
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn commands_end_in_time_and_work_again_at_once() {
    mounting!();
    let (world, other) = (World::new(), World::new());
    let mount = world.mount("mount", "timeout=3");
    let beside = other.mount("beside", "");
    fs::write(world.export().join("new"), "text").unwrap();
    world.server().companion().freeze();
    let begun = Instant::now();
    let end = |command: &str, path: &Path| {
        let (status, ..) = end_within(Command::new(command).arg(path), Duration::from_secs(3) + SLACK);
        status.success()
    };
    thread::scope(|scope| {
        scope.spawn(|| end("df", mount.path()));
        scope.spawn(|| assert!(!end("ls", &mount.join("new")), "it knows what it cannot know"));
        scope.spawn(|| assert!(end("ls", beside.path()), "another mount suffers with it"));
    });
    assert!(begun.elapsed() > Duration::from_secs(2), "nobody had to wait");
    world.server().companion().signal(libc::SIGCONT);
    run_within(Command::new("cat").arg(mount.join("new")), END_TIME_MAX);
}

#[test]
fn a_call_that_the_servers_disk_holds_up_holds_up_nobody_else() {
    mounting!();
    let world = World::new();
    let (mount, beside) = (world.mount("mount", ""), world.mount("beside", ""));
    let rule = format!("mkdirat:delay_enter={}", HELD_UP.as_micros());
    let injection = Injection::start(world.server().companion().pid(), &world.directory("log"), &[&rule]);
    let Some(_injection) = injection else { return };
    thread::scope(|scope| {
        let making = scope.spawn(|| fs::create_dir(mount.join("d")));
        let mut rounds = 0;
        while !making.is_finished() {
            let begun = Instant::now();
            fs::write(beside.join("f"), format!("{rounds}")).unwrap();
            assert!(begun.elapsed() < HELD_UP / 2, "after {rounds} rounds: {:?}", begun.elapsed());
            rounds += 1;
            thread::sleep(Duration::from_millis(20));
        }
        assert!(making.join().unwrap().is_ok() && rounds > 3, "{rounds} rounds");
    });
}

#[test]
fn any_number_of_calls_that_hang_hold_up_nobody_else() {
    mounting!();
    let world = World::new();
    let cores = thread::available_parallelism().map_or(2, |cores| cores.get());
    // More than the server has threads for calls that do not sleep.
    let hanging: Vec<_> = (0..cores.min(16) + 3).map(|n| world.mount(&format!("hanging{n}"), "")).collect();
    let beside = world.mount("beside", "");
    let rule = format!("mkdirat:delay_enter={}", HELD_UP.as_micros());
    let injection = Injection::start(world.server().companion().pid(), &world.directory("log"), &[&rule]);
    let Some(_injection) = injection else { return };
    thread::scope(|scope| {
        let make = |(n, mount): (usize, &Mount)| fs::create_dir(mount.join(format!("d{n}")));
        let making: Vec<_> =
            hanging.iter().enumerate().map(|hangs| scope.spawn(move || make(hangs))).collect();
        let mut rounds = 0;
        while !making.iter().any(|making| making.is_finished()) {
            let begun = Instant::now();
            fs::write(beside.join("f"), format!("{rounds}")).unwrap();
            fs::remove_file(beside.join("f")).unwrap();
            if rounds == 1 {
                drop(world.mount("newcomer", ""));
            }
            assert!(begun.elapsed() < HELD_UP / 2, "after {rounds} rounds: {:?}", begun.elapsed());
            rounds += 1;
            thread::sleep(Duration::from_millis(20));
        }
        assert!(making.into_iter().all(|making| making.join().unwrap().is_ok()) && rounds > 3);
    });
}

#[test]
fn nobody_sleeps_uninterruptibly_for_longer_than_the_time_out() {
    mounting!();
    let world = World::new();
    let mount = world.mount("mount", "timeout=3");
    world.server().companion().freeze();
    let commands = [["cat", "new"], ["mkdir", "d"], ["rm", "gone"]];
    let waiting =
        commands.map(|[command, name]| Companion::start(Command::new(command).arg(mount.join(name))));
    thread::sleep(Duration::from_secs(3) + SLACK);
    for companion in &waiting {
        let stat = fs::read_to_string(format!("/proc/{}/stat", companion.pid())).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        assert_ne!(state, Some('D'), "{stat}");
        // It may have asked more than once.
        assert!(!companion.end().success());
    }
}

#[test]
fn commands_can_be_interrupted_and_killed() {
    mounting!();
    let world = World::new();
    let mount = world.mount("mount", "");
    for name in ["INT", "KILL", "TERM"] {
        fs::create_dir_all(world.export().join(name).join("d/below")).unwrap();
        fs::write(world.export().join(name).join("big"), vec![1; 1 << 20]).unwrap();
    }
    world.server().companion().freeze();
    let place = mount.path().display();
    let waiting: Vec<_> = ["INT", "KILL", "TERM"]
        .into_iter()
        .flat_map(|signal| {
            [
                format!("timeout -s {signal} 1 cp {place}/{signal}/big /dev/null"),
                format!("timeout -s {signal} 1 find {place}/{signal}"),
                format!("timeout -s {signal} 1 dd if=/dev/zero of={place}/{signal}/x bs=1M count=4"),
                format!("timeout -s {signal} 1 rm -r {place}/{signal}/d"),
                format!("timeout -s {signal} 1 mv {place}/{signal}/big {place}/{signal}/d/big"),
                format!("timeout -s {signal} 1 flock {place}/{signal}/big true"),
            ]
        })
        .map(|line| {
            let begun = Instant::now();
            (Companion::start(Command::new("sh").arg("-c").arg(&line)), line, begun)
        })
        .collect();
    for (companion, line, begun) in waiting {
        assert!(!companion.end().success(), "{line}: nothing was in its way");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1) + END_TIME_MAX + Duration::from_secs(1), "{line}: {took:?}");
    }
}

#[test]
fn a_hard_mount_keeps_a_write_for_much_longer_than_the_time_out() {
    mounting!();
    let world = World::new();
    let mount = world.mount("mount", "timeout=10");
    let mut file = File::create(mount.join("log")).unwrap();
    world.server().companion().freeze();
    let begun = Instant::now();
    let writer = thread::spawn(move || file.write_all(b"kept").and_then(|()| file.sync_all()));
    thread::sleep(Duration::from_secs(40));
    assert!(!writer.is_finished(), "it gave up after {:?}", begun.elapsed());
    assert_eq!(mount.status()["pending_bytes"], 4);
    world.server().companion().signal(libc::SIGCONT);
    assert!(writer.join().unwrap().is_ok());
    assert_eq!(fs::read_to_string(world.export().join("log")).unwrap(), "kept");
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    Frozen,
    Killed,
    BlackHole,
    Refused,
}

/// A mount of a server to which this is about to happen.
struct Doomed {
    world: World,
    proxy: FaultProxy,
}

impl Doomed {
    fn new() -> Doomed {
        let world = World::new();
        let target: SocketAddr = world.server().address.parse().unwrap();
        Doomed { proxy: FaultProxy::start(target).unwrap(), world }
    }

    fn mount(&self) -> Mount {
        self.world.mount_through(&self.proxy.endpoint().to_string(), "mount", "")
    }

    fn strike(self, trouble: Trouble) -> (World, Option<FaultProxy>) {
        match trouble {
            Trouble::Frozen => self.world.server().companion().freeze(),
            Trouble::Killed => self.world.server().companion().signal(libc::SIGKILL),
            Trouble::BlackHole => self.proxy.black_hole(&Way::BOTH),
            Trouble::Refused => return (self.world, None),
        }
        (self.world, Some(self.proxy))
    }
}

const TROUBLES: [Trouble; 4] = [Trouble::Frozen, Trouble::Killed, Trouble::BlackHole, Trouble::Refused];

#[test]
fn umount_ends_whatever_has_become_of_the_server() {
    mounting!();
    thread::scope(|scope| {
        for trouble in TROUBLES {
            scope.spawn(move || {
                let doomed = Doomed::new();
                let mount = doomed.mount();
                fs::write(mount.join("file"), "text").unwrap();
                let (pid, place) = (mount.pid(), mount.path().to_owned());
                let _kept = doomed.strike(trouble);
                let (status, ..) =
                    end_within(Command::new(program()).arg("umount").arg(&place), UMOUNT_TIME_MAX);
                assert!(status.success(), "{trouble:?}: nothing was lost");
                assert!(!is_mounted(&place), "{trouble:?}");
                assert!(holds_within(END_TIME_MAX, || !is_running(pid)), "{trouble:?}: its process is there");
            });
        }
    });
}

#[test]
fn umount_tells_what_is_lost() {
    mounting!();
    thread::scope(|scope| {
        for trouble in TROUBLES {
            scope.spawn(move || {
                let doomed = Doomed::new();
                let mount = doomed.mount();
                let mut file = File::create(mount.join("file")).unwrap();
                let (pid, place) = (mount.pid(), mount.path().to_owned());
                let _kept = doomed.strike(trouble);
                let writer = thread::spawn(move || file.write_all(b"lost"));
                thread::sleep(Duration::from_millis(300));
                let umount = |options: &[&str]| {
                    let mut command = Command::new(program());
                    let (status, _, said) =
                        end_within(command.arg("umount").args(options).arg(&place), UMOUNT_TIME_MAX);
                    (status.code(), String::from_utf8(said).unwrap())
                };
                let (code, said) = umount(&[]);
                let holder = format!("(pid {}, open file)", std::process::id());
                assert!(code == Some(1) && said.contains(&holder), "{trouble:?}: {said}");
                let (code, said) = umount(&["--force"]);
                let lost = format!("lost: a write to file by process {}", writer_tid(&said));
                assert!(code == Some(1) && said.contains(&lost), "{trouble:?}: {said}");
                assert!(writer.join().unwrap().is_err(), "{trouble:?}");
                assert!(
                    !is_mounted(&place) && holds_within(END_TIME_MAX, || !is_running(pid)),
                    "{trouble:?}"
                );
            });
        }
    });
}

/// The number at the end: the thread that wrote is known to the kernel only.
fn writer_tid(said: &str) -> &str {
    said.trim().rsplit(' ').next().unwrap_or_default()
}

#[test]
fn a_signal_ends_a_mount_in_time() {
    mounting!();
    let doomed = Doomed::new();
    let place = doomed.world.directory("front");
    let address = doomed.proxy.endpoint().to_string();
    let mut command = Command::new(program());
    command.args(["mount", "-f"]).arg(format!("nearfs://{address}/")).arg(&place);
    let served = Companion::start(&mut command);
    assert!(holds_within(PROMPT, || is_mounted(&place)));
    let mut file = File::create(place.join("file")).unwrap();
    let _kept = doomed.strike(Trouble::Frozen);
    let writer = thread::spawn(move || file.write_all(b"lost"));
    thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    served.signal(libc::SIGTERM);
    let status = served.end();
    assert!(begun.elapsed() < UMOUNT_TIME_MAX, "{:?}", begun.elapsed());
    assert!(!status.success(), "something was lost");
    assert!(!is_mounted(&place) && writer.join().unwrap().is_err());
}

#[test]
fn mounting_from_who_does_not_answer_fails_in_one_line() {
    mounting!();
    let world = World::new();
    world.server().companion().freeze();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    // Nobody accepts, and there is room for few: further ones get no answer at all.
    let full = shortest_queue();
    let crowd: Vec<_> =
        (0..4).map(|_| TcpStream::connect_timeout(&full.1, Duration::from_millis(300))).collect();
    let silent_address = silent.local_addr().unwrap();
    let sources = [
        ("closed", closed, "refused the connection"),
        ("silent", silent_address, "no answer within"),
        ("frozen", world.server().address.parse().unwrap(), "no answer within"),
        ("full", full.1, "within"),
    ];
    thread::scope(|scope| {
        for (name, address, expected) in sources {
            let place = world.directory(name);
            scope.spawn(move || {
                let mut command = Command::new(program());
                command.arg("mount").arg(format!("nearfs://{address}/")).arg(&place);
                let (status, _, said) = end_within(&mut command, Duration::from_secs(15));
                let said = String::from_utf8(said).unwrap();
                assert_eq!(status.code(), Some(3), "{name}: {said}");
                assert!(said.starts_with("nearfs: ") && said.contains(expected), "{name}: {said}");
                assert_eq!(said.lines().count(), 1, "{name}: {said}");
                assert!(!is_mounted(&place), "{name}");
            });
        }
    });
    drop(crowd);
}

/// A socket that listens with the shortest queue there is.
fn shortest_queue() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_corpse_is_replaced_by_mounting_again_though_programs_sit_in_it() {
    mounting!();
    let world = World::new();
    let mount = world.mount("mount", "");
    fs::create_dir(mount.join("sub")).unwrap();
    let sitting = Companion::start(Command::new("sleep").arg("1000").current_dir(mount.join("sub")));
    let open = File::create(mount.join("open")).unwrap();
    let kill = |mount: &Mount| {
        let pid = mount.pid();
        run_within(Command::new("kill").args(["-9", &pid.to_string()]), PROMPT);
        assert!(holds_within(PROMPT, || !is_running(pid)));
    };
    for round in 0..2 {
        kill(&mount);
        let source = format!("nearfs://{}/", world.server().address);
        run_within(Command::new(program()).arg("mount").arg(&source).arg(mount.path()), PROMPT);
        fs::write(mount.join("alive"), format!("again {round}")).unwrap();
    }
    assert!(open.sync_all().is_err() && is_running(sitting.pid()), "the old one is not the new one");
    drop((open, sitting));
    let place = mount.path().to_owned();
    mount.unmount();
    assert!(!is_mounted(&place), "a corpse lies below");
}

#[test]
fn a_corpse_of_another_file_system_is_left_alone() {
    mounting!();
    let world = World::new();
    let (target, place) = (world.directory("target"), world.directory("place"));
    let mut passthrough = Command::new(env!("CARGO_BIN_EXE_passthrough"));
    let other = Companion::start(passthrough.arg(&target).arg(&place).process_group(0));
    if !holds_within(PROMPT, || is_mounted(&place)) {
        eprintln!("SKIPPED: the passthrough does not mount");
        return;
    }
    other.signal(libc::SIGKILL);
    other.end();
    let mut command = Command::new(program());
    command.arg("mount").arg(format!("nearfs://{}/", world.server().address)).arg(&place);
    let (status, _, said) = end_within(&mut command, PROMPT);
    let said = String::from_utf8(said).unwrap();
    let still_there = is_mounted(&place);
    rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(status.code() == Some(1) && said.contains("dead mount of type fuse"), "{said}");
    assert!(still_there);
}
