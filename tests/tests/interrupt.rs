//! People can end a program that waits for a silent server, and no other program notices.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nearfs_tests::harness::{Companion, Mount, World, can_mount, holds_within, watchdog};
use rustix::fs::{FlockOperation, flock};

const TEST_TIME_MAX: Duration = Duration::from_secs(120);
/// From the signal to the end of the program.
const END_TIME_MAX: Duration = Duration::from_secs(2);
/// More than comes along when a file is opened.
const FILE_BYTES: usize = 200_000;

/// Makes its directory warm, says so, waits for a word, and then does one system call, whose outcome it prints.
/// The calls go past Python's own, which would hide an interrupt by calling again.
const ACTOR: &str = r#"
import ctypes, fcntl, os, resource, signal, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
rang = []
operation, caught = sys.argv[1], sys.argv[2] == "caught"
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, (lambda number, _: rang.append(number)) if caught else signal.SIG_DFL)
for number in (signal.SIGALRM, signal.SIGCHLD, signal.SIGURG, signal.SIGUSR1):
    signal.signal(number, lambda number, _: rang.append(number))
os.chdir(sys.argv[3])
file = os.open("file", os.O_RDWR | (os.O_APPEND if "append" in sys.argv else 0))
if "locks" in sys.argv:
    fcntl.lockf(file, fcntl.LOCK_EX)
buffer = ctypes.create_string_buffer(4096)
def call(name, *arguments):
    return lambda: getattr(libc, name)(*arguments)
calls = {
    "stat": call("access", b"unknown", 0),
    "create": call("open", b"new", os.O_CREAT | os.O_WRONLY, 0o644),
    "mkdir": call("mkdir", b"new", 0o755),
    "unlink": call("unlink", b"old"),
    "rename": call("rename", b"old", b"new"),
    "read": call("pread", file, buffer, 4096, 0),
    "write": call("pwrite", file, b"written", 7, 0),
    "fsync": call("fsync", file),
    "flock": call("flock", file, fcntl.LOCK_EX),
}
print("ready", flush=True)
sys.stdin.readline()
for name in ("new", "old"):
    os.path.exists(name)
if operation != "read":
    os.fstat(file)
print("warm", flush=True)
sys.stdin.readline()
if "alarms" in sys.argv:
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    if os.fork() == 0:
        os._exit(0)
outcome = []
def wait():
    outcome.append(ctypes.get_errno() if calls[operation]() < 0 else 0)
if "beside" in sys.argv:
    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
else:
    wait()
signal.setitimer(signal.ITIMER_REAL, 0)
print(outcome[0], len(set(rang) - {signal.SIGURG, signal.SIGUSR1}), flush=True)
"#;

const OPERATIONS: [&str; 9] =
    ["stat", "create", "mkdir", "unlink", "rename", "read", "write", "fsync", "flock"];

struct Waiter {
    what: String,
    operation: &'static str,
    actor: Companion,
}

/// Programs that are about to wait, each in a directory of its own: in the kernel they would wait for each other.
fn waiters(world: &World, mount: &Mount, name: &str, words: &[&str]) -> Vec<Waiter> {
    let start = |&operation: &&'static str| {
        let place = mount.join(format!("{name}-{operation}"));
        fs::create_dir(&place).unwrap();
        // Past the mount, which shall have to ask for it.
        let beside = world.export().join(format!("{name}-{operation}"));
        fs::write(beside.join("file"), vec![b'x'; FILE_BYTES]).unwrap();
        fs::write(beside.join("old"), "old").unwrap();
        // It may believe for a second that the directory is as empty as it made it.
        assert!(holds_within(Duration::from_secs(5), || place.join("file").exists()), "{}", place.display());
        let actor = actor(operation, &place, words);
        Waiter { what: format!("{operation}, {name}"), operation, actor }
    };
    let waiters: Vec<Waiter> = OPERATIONS.iter().map(start).collect();
    for waiter in &waiters {
        assert_eq!(waiter.actor.line(), "ready");
    }
    waiters
}

fn actor(operation: &str, place: &Path, words: &[&str]) -> Companion {
    let mut command = Command::new("python3");
    command.args(["-c", ACTOR, operation, words[0]]).arg(place).args(&words[1..]);
    Companion::start(&mut command)
}

/// Freezes the server and lets all of them begin what they then wait for.
fn begin(world: &World, mount: &Mount, waiters: &[Waiter]) {
    set_off(world, waiters);
    let all_wait = || {
        let pids = pending_pids(mount);
        waiters.iter().all(|waiter| has_any(&waiter.actor, &pids))
    };
    assert!(holds_within(Duration::from_secs(10), all_wait), "{:?}", mount.status()["pending"]);
}

/// The same without looking whether they wait.
fn set_off(world: &World, waiters: &[Waiter]) {
    for Waiter { actor, .. } in waiters {
        actor.say("warm up");
    }
    for Waiter { actor, .. } in waiters {
        assert_eq!(actor.line(), "warm");
    }
    world.server().companion().freeze();
    for Waiter { actor, .. } in waiters {
        actor.say("go");
    }
}

/// Whether one of a process's threads is among these.
fn has_any(process: &Companion, threads: &BTreeSet<u64>) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    let mut numbers = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap());
    numbers.any(|number: u64| threads.contains(&number))
}

fn pending_pids(mount: &Mount) -> BTreeSet<u64> {
    let status = mount.status();
    status["pending"].as_array().unwrap().iter().filter_map(|pending| pending["pid"].as_u64()).collect()
}

/// Sends each a signal and sees that it ends. Returns the longest time that took.
fn end_all(waiters: &[Waiter], signal: i32) -> Duration {
    let mut longest = Duration::ZERO;
    for Waiter { what, actor, .. } in waiters {
        let begun = Instant::now();
        actor.signal(signal);
        actor.end();
        let took = begun.elapsed();
        assert!(took < END_TIME_MAX, "{what}: {took:?} after signal {signal}");
        longest = longest.max(took);
    }
    longest
}

fn thaw(world: &World, mount: &Mount) {
    world.server().companion().signal(libc::SIGCONT);
    let begun = Instant::now();
    assert!(fs::metadata(mount.path()).is_ok() && fs::read_dir(mount.path()).unwrap().count() > 0);
    fs::write(mount.join("works"), "again").unwrap();
    assert!(begun.elapsed() < END_TIME_MAX, "the mount works again after {:?}", begun.elapsed());
}

/// The mount shows what the server has, whatever became of what was given up.
fn assert_same(world: &World, mount: &Mount, name: &str) {
    let names = |root: &Path, operation: &str| -> BTreeSet<_> {
        let entries = fs::read_dir(root.join(format!("{name}-{operation}"))).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let none_pending = || pending_pids(mount).is_empty();
    assert!(holds_within(END_TIME_MAX, none_pending), "{:?}", mount.status()["pending"]);
    for operation in OPERATIONS {
        let here = names(mount.path(), operation);
        assert_eq!(here, names(&world.export(), operation), "{name}-{operation}");
        for old_or_new in ["old", "new"] {
            let path = mount.join(format!("{name}-{operation}")).join(old_or_new);
            assert_eq!(path.exists(), here.contains(old_or_new.as_ref() as &std::ffi::OsStr), "{path:?}");
        }
        let content = |root: &Path| fs::read(root.join(format!("{name}-{operation}/file"))).unwrap();
        assert!(content(mount.path()) == content(&world.export()), "{name}-{operation}");
        let file = fs::File::open(mount.join(format!("{name}-{operation}/file"))).unwrap();
        assert!(
            holds_within(END_TIME_MAX, || flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()),
            "{name}-{operation} leaves a lock"
        );
    }
}

#[test]
fn programs_that_wait_for_a_silent_server_can_be_ended() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let mount = world.mount("mount", "");
    let signals = [
        ("killed", "default", libc::SIGKILL),
        ("interrupted", "default", libc::SIGINT),
        ("caught", "caught", libc::SIGINT),
        ("terminated", "caught", libc::SIGTERM),
        ("quit", "default", libc::SIGQUIT),
    ];
    for (name, reaction, signal) in signals {
        let waiters = waiters(&world, &mount, name, &[reaction]);
        begin(&world, &mount, &waiters);
        let longest = end_all(&waiters, signal);
        eprintln!("{name}: each of {} ended within {longest:?}", waiters.len());
        if reaction == "caught" {
            for Waiter { what, actor, .. } in &waiters {
                assert_eq!(actor.line(), format!("{} 1", libc::EINTR), "{what}");
            }
        }
        thaw(&world, &mount);
        assert_same(&world, &mount, name);
    }
}

#[test]
fn what_was_given_up_and_done_all_the_same_is_seen_at_once() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let mount = world.mount("mount", "");
    fs::write(mount.join("file"), "x").unwrap();
    let actor = actor("mkdir", mount.path(), &["caught"]);
    assert_eq!(actor.line(), "ready");
    let waiters = [Waiter { what: "mkdir".into(), operation: "mkdir", actor }];
    // The kernel has just been told, for a second, that the name does not exist.
    set_off(&world, &waiters);
    let sends_it = || mount.status()["pending"][0]["op"] == "mkdir";
    assert!(holds_within(END_TIME_MAX, sends_it), "{:?}", mount.status()["pending"]);
    end_all(&waiters, libc::SIGINT);
    world.server().companion().signal(libc::SIGCONT);
    assert!(holds_within(END_TIME_MAX, || world.export().join("new").exists()), "the server had it already");
    assert!(holds_within(Duration::from_millis(200), || mount.join("new").exists()));
}

#[test]
fn programs_with_alarms_children_and_stops_do_not_notice() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let mount = world.mount("mount", "");
    let waiters = waiters(&world, &mount, "patient", &["default", "alarms"]);
    begin(&world, &mount, &waiters);
    for signal in [libc::SIGURG, libc::SIGUSR1, libc::SIGSTOP, libc::SIGCONT, libc::SIGWINCH] {
        waiters.iter().for_each(|waiter| waiter.actor.signal(signal));
        std::thread::sleep(Duration::from_millis(400));
    }
    assert!(waiters.iter().all(|waiter| !waiter.actor.prints_within(Duration::ZERO)), "one waits no longer");
    world.server().companion().signal(libc::SIGCONT);
    for Waiter { what, operation, actor } in &waiters {
        let expected = if *operation == "stat" { libc::ENOENT } else { 0 };
        assert_eq!(actor.line(), format!("{expected} 2"), "{what}");
        assert!(actor.end().success(), "{what}");
    }
    assert_same(&world, &mount, "patient");
}

#[test]
fn one_who_reads_the_same_is_not_disturbed() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let mount = world.mount("mount", "");
    fs::write(world.export().join("file"), vec![b'x'; FILE_BYTES]).unwrap();
    // The kernel keeps no pages of a file that is appended to, so that each of them asks us.
    let waiters = ["first", "second"].map(|name| {
        let actor = actor("read", mount.path(), &["caught", "append"]);
        assert_eq!(actor.line(), "ready");
        Waiter { what: name.into(), operation: "read", actor }
    });
    set_off(&world, &waiters);
    assert!(holds_within(Duration::from_secs(10), || !pending_pids(&mount).is_empty()));
    std::thread::sleep(Duration::from_millis(300));
    let [one, other] = waiters.map(|waiter| waiter.actor);
    // The first is the one who has asked.
    let (first, second) = if has_any(&one, &pending_pids(&mount)) { (one, other) } else { (other, one) };
    assert!(!has_any(&second, &pending_pids(&mount)), "they wait for the same answer");
    first.signal(libc::SIGINT);
    assert_eq!(first.line(), format!("{} 1", libc::EINTR));
    assert!(!second.prints_within(Duration::from_millis(500)));
    world.server().companion().signal(libc::SIGCONT);
    assert_eq!(second.line(), "0 0");
}

#[test]
fn a_signal_that_another_thread_takes_disturbs_nobody() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let mount = world.mount("mount", "");
    let waiters = waiters(&world, &mount, "beside", &["caught", "beside"]);
    begin(&world, &mount, &waiters);
    for _ in 0..5 {
        waiters.iter().for_each(|waiter| waiter.actor.signal(libc::SIGTERM));
        std::thread::sleep(Duration::from_millis(200));
    }
    world.server().companion().signal(libc::SIGCONT);
    for Waiter { what, operation, actor } in &waiters {
        let expected = if *operation == "stat" { libc::ENOENT } else { 0 };
        assert_eq!(actor.line(), format!("{expected} 1"), "{what}");
    }
}

#[test]
fn one_who_waits_for_a_lock_can_be_ended_and_leaves_nothing() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let mount = world.mount("mount", "timeout=1");
    fs::write(mount.join("file"), "x").unwrap();
    let start = |reaction| {
        let actor = actor("flock", mount.path(), &[reaction]);
        for (line, word) in [("ready", "warm up"), ("warm", "go")] {
            assert_eq!(actor.line(), line);
            actor.say(word);
        }
        actor
    };
    let holder = fs::File::open(mount.join("file")).unwrap();
    holder.lock().unwrap();
    for (reaction, signal) in [("default", libc::SIGKILL), ("caught", libc::SIGTERM)] {
        let waiting = start(reaction);
        // Longer than any other request may take.
        assert!(!waiting.prints_within(Duration::from_millis(1500)));
        let begun = Instant::now();
        waiting.signal(signal);
        waiting.end();
        assert!(begun.elapsed() < END_TIME_MAX, "{:?}", begun.elapsed());
    }
    drop(holder);
    assert_eq!(start("default").line(), "0 0", "the lock is free");
}

#[test]
fn one_who_holds_a_lock_can_be_ended_and_gives_it_back() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let mount = world.mount("mount", "");
    fs::write(mount.join("file"), "x").unwrap();
    let holder = |reaction| {
        let actor = actor("stat", mount.path(), &[reaction, "locks"]);
        assert_eq!(actor.line(), "ready");
        Waiter { what: "holder".into(), operation: "stat", actor }
    };
    // Each waits a second time when it is past its signals: the kernel closes its files and says so.
    for (reaction, signal) in [("default", libc::SIGKILL), ("caught", libc::SIGTERM)] {
        let waiters = [holder(reaction)];
        begin(&world, &mount, &waiters);
        let took = end_all(&waiters, signal);
        eprintln!("a holder of a lock ended within {took:?}");
        thaw(&world, &mount);
    }
    holder("default");
}
