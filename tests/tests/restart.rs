//! A server that is killed and started again with the same state directory goes on as if nothing had happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The allowance for tests does not reach their shared functions.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nearfs_tests::harness::{
    Companion, Mount, World, can_mount, end_within, holds_within, own_address, program, watchdog,
};
use nearfs_tests::injection::Injection;
use nearfs_tests::proxy::{FaultProxy, Way};
use parking_lot::Mutex;
use rustix::fs::FlockOperation;

/// Longest time for a test.
const TEST_TIME_MAX: Duration = Duration::from_secs(120);
/// Longest time until a program goes on when the server is back.
const BACK_TIME_MAX: Duration = Duration::from_secs(10);

/// So many files are open, of which so many are removed, and so many locked.
const OPEN: usize = 1000;
const REMOVED: usize = 50;
const LOCKED: usize = 200;
/// Longer than a server that stops waits for what it is at.
const SLOW_CALL: Duration = Duration::from_secs(15);
/// Small files that are uploaded together, in so many directories.
const FILES: usize = 1500;
const DIRECTORIES: usize = 7;
/// How a program ends that does not reach the server.
const UNREACHABLE: i32 = 3;
/// The server is killed again and again for so long at least.
const STORM_TIME_MIN: Duration = Duration::from_secs(3);

/// A server that can be killed and started again, always at the same address with the same state.
struct Phoenix {
    world: World,
    address: String,
    options: Vec<String>,
    present: Mutex<Option<Companion>>,
}

impl Phoenix {
    /// None if there can be no mounts here.
    fn rise() -> Option<Phoenix> {
        Phoenix::with(&[])
    }

    fn with(options: &[&str]) -> Option<Phoenix> {
        if !can_mount() {
            return None;
        }
        let world = World::new();
        let address = own_address().to_string();
        let state = world.directory("state");
        let mut options: Vec<String> = options.iter().map(|&option| option.into()).collect();
        options.extend(["--state-dir".into(), state.to_str().unwrap().into()]);
        let phoenix = Phoenix { world, address, options, present: Mutex::new(None) };
        phoenix.start();
        Some(phoenix)
    }

    fn start(&self) {
        self.start_by(Command::new(program()));
    }

    /// Starts the server as if the machine had lost its power meanwhile: with the number of another start of the system.
    fn start_after_a_loss_of_power(&self) {
        let number = self.world.export().parent().unwrap().join("boot-id");
        fs::write(&number, "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n").unwrap();
        let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(&number).arg(program());
        self.start_by(command);
    }

    fn start_by(&self, mut command: Command) {
        command.args(["serve", "--listen", &self.address]).args(&self.options).arg(self.world.export());
        let server = Companion::start(&mut command);
        assert!(server.line().starts_with("listening on "));
        *self.present.lock() = Some(server);
    }

    /// Ends the server by a signal and waits until it is gone.
    fn end(&self, signal: i32) {
        let server = self.present.lock().take().unwrap();
        server.signal(signal);
        let stat = format!("/proc/{}/stat", server.pid());
        // A zombie is gone as well.
        let is_gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        assert!(holds_within(BACK_TIME_MAX, is_gone), "the server does not end");
    }

    fn kill(&self) {
        self.end(libc::SIGKILL);
    }

    fn restart(&self) {
        self.kill();
        self.start();
    }

    fn mount(&self, name: &str) -> Mount {
        self.world.mount_through(&self.address, name, "")
    }

    fn hidden(&self) -> PathBuf {
        self.world.export().parent().unwrap().join("state/open")
    }

    /// Runs `work` while the server is killed again and again.
    fn storm(&self, work: impl FnOnce() + Send) -> u32 {
        self.storm_with(|kills| Duration::from_millis(60 + u64::from(kills) % 7 * 23), work)
    }

    /// The same where the server lives so long after so many kills.
    fn storm_with(&self, life: impl Fn(u32) -> Duration + Sync, work: impl FnOnce() + Send) -> u32 {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let killer = scope.spawn(|| {
                let mut kills = 0;
                while !over.load(Ordering::Relaxed) {
                    thread::sleep(life(kills));
                    self.restart();
                    kills += 1;
                }
                kills
            });
            let worked = scope.spawn(work).join();
            over.store(true, Ordering::Relaxed);
            let kills = killer.join().unwrap();
            worked.unwrap();
            kills
        })
    }
}

fn text(mut file: &File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn open_files_survive_a_killed_server() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let mount = server.mount("mount");
    let mut log = OpenOptions::new().create(true).append(true).open(mount.join("log")).unwrap();
    fs::write(mount.join("deleted"), "still here").unwrap();
    let deleted = File::options().read(true).write(true).open(mount.join("deleted")).unwrap();
    fs::remove_file(mount.join("deleted")).unwrap();
    fs::write(mount.join("replaced"), "the old one").unwrap();
    let replaced = File::open(mount.join("replaced")).unwrap();
    fs::write(mount.join("new"), "the new one").unwrap();
    fs::rename(mount.join("new"), mount.join("replaced")).unwrap();
    // What is open keeps its rights whatever the mode says.
    let mode = OpenOptions::new().create_new(true).write(true).mode(0o400).open(mount.join("read-only"));
    let mut read_only = mode.unwrap();
    let mut expected = String::new();
    for round in 0..3 {
        let record = format!("round {round}\n");
        server.restart();
        let begun = Instant::now();
        log.write_all(record.as_bytes()).unwrap();
        assert!(begun.elapsed() < BACK_TIME_MAX, "{:?}", begun.elapsed());
        read_only.write_all(record.as_bytes()).unwrap();
        deleted.write_all_at(b"STILL", 0).unwrap();
        deleted.sync_all().unwrap();
        expected.push_str(&record);
    }
    log.sync_all().unwrap();
    assert_eq!(fs::read_to_string(server.world.export().join("log")).unwrap(), expected);
    assert_eq!(fs::read_to_string(server.world.export().join("read-only")).unwrap(), expected);
    assert_eq!(deleted.metadata().unwrap().nlink(), 0);
    assert_eq!(text(&deleted), "STILL here");
    assert_eq!(text(&replaced), "the old one");
    assert_eq!(fs::read_dir(server.hidden()).unwrap().count(), 2);
    drop((deleted, replaced));
    assert!(holds_within(BACK_TIME_MAX, || fs::read_dir(server.hidden()).unwrap().count() == 0));
}

#[test]
fn a_sync_that_failed_stays_failed_though_the_server_is_killed() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let mount = server.mount("mount");
    let mut files = ["failed", "fine"].map(|name| File::create(mount.join(name)).unwrap());
    for file in &mut files {
        file.write_all(b"content").unwrap();
    }
    let pid = server.present.lock().as_ref().unwrap().pid();
    let rules = ["fsync:error=EIO:when=1", "fdatasync:error=EIO:when=1"];
    let Some(injection) = Injection::start(pid, &server.world.directory("injection"), &rules) else { return };
    let errno = |file: &File| file.sync_all().err().and_then(|error| error.raw_os_error());
    assert_eq!(errno(&files[0]), Some(libc::EIO));
    drop(injection);
    for _ in 0..2 {
        server.restart();
        assert_eq!(errno(&files[0]), Some(libc::EIO), "what may be lost is called safe");
        assert_eq!(errno(&files[1]), None);
    }
    let again = File::options().write(true).open(mount.join("failed")).unwrap();
    assert_eq!(errno(&again), None, "it is closed and opened again");
}

#[test]
fn a_loss_of_power_is_told_to_those_whose_bytes_it_may_have_cost() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let mount = server.mount("mount");
    let mut files = ["synced", "unsynced", "idle"].map(|name| File::create(mount.join(name)).unwrap());
    for file in &mut files[..2] {
        file.write_all(b"before ").unwrap();
    }
    let [synced, unsynced, idle] = &mut files;
    synced.sync_all().unwrap();
    server.kill();
    server.start_after_a_loss_of_power();
    for file in [&mut *synced, &mut *idle] {
        file.write_all(b"after").unwrap();
        file.sync_all().unwrap();
    }
    let is_eio = |outcome: std::io::Result<()>| outcome.unwrap_err().raw_os_error() == Some(libc::EIO);
    for _ in 0..2 {
        assert!(is_eio(unsynced.sync_all()), "what may be lost is called safe");
        assert!(is_eio(unsynced.write_all(b"after")));
    }
    assert_eq!(fs::read_to_string(server.world.export().join("synced")).unwrap(), "before after");
    let mut again = OpenOptions::new().append(true).open(mount.join("unsynced")).unwrap();
    again.write_all(b"again").and_then(|()| again.sync_all()).unwrap();
}

#[test]
fn a_thousand_open_files_and_hundreds_of_locks_survive_a_killed_server() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let raised = rustix::process::Rlimit { current: limit, maximum: limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let (mount, thief) = (server.mount("mount"), server.mount("thief"));
    let open = |number: usize| {
        let path = mount.join(number.to_string());
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all_at(format!("{number:04}").as_bytes(), 0).unwrap();
        if number < REMOVED {
            fs::remove_file(&path).unwrap();
        } else if number < REMOVED + LOCKED {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        }
        file
    };
    let files: Vec<File> = (0..OPEN).map(open).collect();
    server.restart();
    let begun = Instant::now();
    let is_stolen = |number: usize| {
        let file = File::open(thief.join(number.to_string())).unwrap();
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
    };
    let stolen = (REMOVED..REMOVED + LOCKED).filter(|number| is_stolen(*number)).count();
    assert_eq!(stolen, 0, "of {LOCKED} locks");
    for (number, file) in files.iter().enumerate() {
        let mut text = [0; 4];
        file.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(text, format!("{number:04}").as_bytes());
        file.write_all_at(b"gone on with", 4).unwrap();
    }
    eprintln!("all go on within {:?}", begun.elapsed());
    assert_eq!(fs::read_dir(server.hidden()).unwrap().count(), REMOVED);
    drop(files);
    assert!(holds_within(BACK_TIME_MAX, || fs::read_dir(server.hidden()).unwrap().count() == 0));
    assert!(holds_within(BACK_TIME_MAX, || is_stolen(REMOVED)), "a lock that was given back is free");
}

#[test]
fn the_current_directory_survives_a_killed_server() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let mount = server.mount("mount");
    fs::create_dir_all(mount.join("a/b/c")).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo in; read go; echo new > file && cat file && cat ../x; exec /bin/pwd -P"]);
    let shell = Companion::start(shell.current_dir(mount.join("a/b/c")));
    assert_eq!(shell.line(), "in");
    fs::rename(mount.join("a"), mount.join("moved")).unwrap();
    fs::write(mount.join("moved/b/x"), "beside\n").unwrap();
    server.restart();
    shell.say("go");
    assert_eq!((shell.line().as_str(), shell.line().as_str()), ("new", "beside"));
    assert_eq!(Path::new(&shell.line()), mount.join("moved/b/c"));
}

#[test]
fn directories_that_were_moved_past_a_killed_server_are_gone_on_with() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let mount = server.mount("mount");
    fs::create_dir_all(mount.join("a/b/c")).unwrap();
    fs::create_dir(mount.join("other")).unwrap();
    fs::write(mount.join("a/listed"), "listed").unwrap();
    fs::write(mount.join("a/b/x"), "beside\n").unwrap();
    let mut log = OpenOptions::new().create(true).append(true).open(mount.join("a/log")).unwrap();
    let opened = File::open(mount.join("a")).unwrap();
    let script = "echo in; read go; echo new > file && cat file && cat ../x; read go; cat file";
    let shell = Companion::start(Command::new("sh").args(["-c", script]).current_dir(mount.join("a/b/c")));
    assert_eq!(shell.line(), "in");
    let export = server.world.export();
    server.kill();
    fs::rename(export.join("a"), export.join("other/moved")).unwrap();
    server.start();
    shell.say("go");
    assert_eq!((shell.line().as_str(), shell.line().as_str()), ("new", "beside"));
    assert_eq!(fs::read_to_string(export.join("other/moved/b/c/file")).unwrap(), "new\n");
    log.write_all(b"record").unwrap();
    let names = rustix::fs::Dir::read_from(&opened).unwrap().filter(|name| {
        let name = name.as_ref().unwrap().file_name().to_bytes();
        !matches!(name, b"." | b"..")
    });
    assert_eq!(names.count(), 3);
    server.restart();
    shell.say("go");
    assert_eq!(shell.line(), "new");
    assert_eq!(fs::read_to_string(export.join("other/moved/log")).unwrap(), "record");
}

#[test]
fn locks_survive_a_killed_server_and_nobody_steals_them() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let (holder, thief) = (server.mount("holder"), server.mount("thief"));
    fs::write(holder.join("f"), vec![0; 100]).unwrap();
    fs::write(holder.join("g"), "").unwrap();
    let range = File::options().read(true).write(true).open(holder.join("f")).unwrap();
    let whole = File::open(holder.join("g")).unwrap();
    rustix::fs::fcntl_lock(&range, FlockOperation::NonBlockingLockExclusive).unwrap();
    rustix::fs::flock(&whole, FlockOperation::NonBlockingLockExclusive).unwrap();
    let over = AtomicBool::new(false);
    let attempts = thread::scope(|scope| {
        let attack = scope.spawn(|| {
            let mut attempts = 0;
            while !over.load(Ordering::Relaxed) {
                let range = File::options().read(true).write(true).open(thief.join("f")).unwrap();
                let whole = File::open(thief.join("g")).unwrap();
                let stolen = rustix::fs::flock(&whole, FlockOperation::NonBlockingLockExclusive).is_ok()
                    || rustix::fs::fcntl_lock(&range, FlockOperation::NonBlockingLockExclusive).is_ok();
                assert!(!stolen, "a lock was stolen after {attempts} attempts");
                attempts += 1;
            }
            attempts
        });
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(100));
            server.restart();
            range.write_all_at(b"mine", 0).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        attack.join().unwrap()
    });
    assert!(attempts > 5, "{attempts}");
    drop((range, whole));
    let whole = File::open(thief.join("g")).unwrap();
    let is_free = || rustix::fs::flock(&whole, FlockOperation::NonBlockingLockExclusive).is_ok();
    assert!(holds_within(BACK_TIME_MAX, is_free), "a lock that was given back is free");
}

#[test]
fn each_change_happens_once_while_the_server_is_killed() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let mount = server.mount("mount");
    fs::write(mount.join("target"), "").unwrap();
    let kills = server.storm(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut log = OpenOptions::new().create(true).append(true).open(mount.join("log")).unwrap();
                (1..=2000).for_each(|number| writeln!(log, "{number}").unwrap());
            });
            scope.spawn(|| {
                for number in 0..500 {
                    let (made, moved) = (mount.join(format!("d{number}")), mount.join(format!("m{number}")));
                    fs::create_dir(&made).expect("mkdir");
                    fs::rename(&made, &moved).expect("rename");
                    fs::remove_dir(&moved).expect("rmdir");
                }
            });
            scope.spawn(|| {
                for number in 0..500 {
                    let (path, link) = (mount.join(format!("f{number}")), mount.join(format!("l{number}")));
                    let mut file = File::create_new(&path).expect("create");
                    file.write_all(b"x").expect("write");
                    fs::hard_link(&path, &link).expect("link");
                    fs::remove_file(&path).expect("unlink");
                    std::os::unix::fs::symlink("x", &path).expect("symlink");
                }
            });
        });
    });
    assert!(kills >= 5, "{kills}");
    let lines: String = (1..=2000).map(|number| format!("{number}\n")).collect();
    let export = server.world.export();
    assert!(fs::read_to_string(export.join("log")).unwrap() == lines, "each record once and in order");
    let count = |first: char| {
        let entries = fs::read_dir(&export).unwrap().map(Result::unwrap);
        entries.filter(|entry| entry.file_name().to_str().unwrap().starts_with(first)).count()
    };
    assert_eq!((count('d'), count('m'), count('f'), count('l')), (0, 0, 500, 501));
}

/// The server is killed when the file has been cut off and before anybody, and the server's own notes, could be told.
#[test]
fn a_file_is_cut_off_once_though_the_server_is_killed_meanwhile() {
    let cuts: [fn(&Path) -> std::io::Result<()>; 2] =
        [|path| File::create(path).map(drop), |path| OpenOptions::new().write(true).open(path)?.set_len(0)];
    for cut in cuts {
        let Some(server) = Phoenix::rise() else { return };
        let _watchdog = watchdog(TEST_TIME_MAX);
        let proxy = FaultProxy::start(server.address.parse::<SocketAddr>().unwrap()).unwrap();
        let mount = server.world.mount_through(&proxy.endpoint().to_string(), "mount", "");
        let (file, beside) = (mount.join("f"), server.mount("beside"));
        fs::write(&file, "first").unwrap();
        let rules = ["truncate", "ftruncate"].map(|call| format!("{call}:delay_exit=60000000"));
        let rules = [rules[0].as_str(), rules[1].as_str()];
        let pid = server.present.lock().as_ref().unwrap().pid();
        let Some(injection) = Injection::start(pid, &server.world.directory("log"), &rules) else { return };
        thread::scope(|scope| {
            let cutting = scope.spawn(|| cut(&file));
            let size = || fs::metadata(server.world.export().join("f")).unwrap().size();
            assert!(holds_within(BACK_TIME_MAX, || size() == 0), "it is not cut off");
            // He who is cut off hears of it when somebody else has written to the file.
            proxy.black_hole(&Way::BOTH);
            server.present.lock().as_ref().unwrap().signal(libc::SIGKILL);
            injection.break_off();
            server.restart();
            fs::write(beside.join("f"), "second").unwrap();
            proxy.clear();
            cutting.join().unwrap().unwrap();
        });
        assert_eq!(fs::read_to_string(server.world.export().join("f")).unwrap(), "second");
        assert_eq!(fs::read_to_string(&file).unwrap(), "second");
    }
}

#[test]
fn two_mounts_that_make_the_same_names_share_them_out() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let mounts = [server.mount("one"), server.mount("two")];
    let made = [0, 1].map(|_| Mutex::new(0));
    server.storm(|| {
        thread::scope(|scope| {
            for (mount, made) in mounts.iter().zip(&made) {
                scope.spawn(move || {
                    for number in 0..400 {
                        match fs::create_dir(mount.join(format!("d{number}"))) {
                            Ok(()) => *made.lock() += 1,
                            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EEXIST)),
                        }
                    }
                });
            }
        });
    });
    assert_eq!(*made[0].lock() + *made[1].lock(), 400, "each name was made by one");
}

/// What Announce, Store and Publish do, for which a mount does not ask.
#[test]
fn a_tree_is_uploaded_whole_while_the_server_is_killed() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let tree = server.world.directory("tree");
    let place = |number: usize| format!("{}/{number}", number % DIRECTORIES);
    (0..DIRECTORIES).for_each(|number| fs::create_dir(tree.join(number.to_string())).unwrap());
    (0..FILES).for_each(|number| fs::write(tree.join(place(number)), number.to_string()).unwrap());
    let rounds = AtomicUsize::new(0);
    // Longer and longer, since whole groups of files have to be synced in one life.
    let life = |kills: u32| Duration::from_millis(150 + 30 * u64::from(kills));
    let kills = server.storm_with(life, || {
        let begun = Instant::now();
        while rounds.load(Ordering::Relaxed) < 2 || begun.elapsed() < STORM_TIME_MIN {
            let target = format!("nearfs://{}/{}", server.address, rounds.load(Ordering::Relaxed));
            let mut put = Command::new(program());
            let (status, _, err) = end_within(put.arg("put").arg(&tree).arg(target), TEST_TIME_MAX);
            // Before there is a session nothing outlives the server.
            if status.code() != Some(UNREACHABLE) {
                assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&err));
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    assert!(kills >= 3, "{kills}");
    for round in 0..rounds.into_inner() {
        let uploaded = server.world.export().join(round.to_string());
        for number in 0..FILES {
            assert_eq!(fs::read_to_string(uploaded.join(place(number))).unwrap(), number.to_string());
        }
        let names = |number: usize| fs::read_dir(uploaded.join(number.to_string())).unwrap().count();
        assert_eq!((0..DIRECTORIES).map(names).sum::<usize>(), FILES, "round {round}: nothing else is left");
    }
}

#[test]
fn a_server_that_is_stopped_leaves_its_sessions_to_the_next() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let mount = server.mount("mount");
    fs::write(mount.join("f"), "content").unwrap();
    let file = File::open(mount.join("f")).unwrap();
    fs::remove_file(mount.join("f")).unwrap();
    server.end(libc::SIGTERM);
    server.start();
    assert_eq!(text(&file), "content");
    drop(file);
    mount.unmount();
    let sessions = server.hidden().parent().unwrap().join("sessions");
    assert!(holds_within(BACK_TIME_MAX, || fs::read_dir(&sessions).unwrap().count() == 0));
    server.end(libc::SIGTERM);
    assert_eq!(fs::read_dir(server.hidden()).unwrap().count(), 0);
}

/// It is still at the system call when the server gives up waiting for it.
#[test]
fn a_slow_change_in_flight_at_a_stop_is_made_once() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let mount = server.mount("mount");
    for slow in ["delay_enter", "delay_exit"] {
        let pid = server.present.lock().as_ref().unwrap().pid();
        let rule = format!("mkdirat:{slow}={}", SLOW_CALL.as_micros());
        let injection = Injection::start(pid, &server.world.directory(slow), &[&rule]);
        let Some(injection) = injection else { return };
        let (made, served) =
            (mount.join(format!("d-{slow}")), server.world.export().join(format!("d-{slow}")));
        thread::scope(|scope| {
            let making = scope.spawn(|| fs::create_dir(&made));
            if slow == "delay_exit" {
                assert!(holds_within(BACK_TIME_MAX, || served.exists()));
            } else {
                thread::sleep(Duration::from_millis(500));
            }
            server.end(libc::SIGTERM);
            assert_eq!(served.exists(), slow == "delay_exit", "{slow}");
            drop(injection);
            server.start();
            assert!(making.join().unwrap().is_ok(), "{slow}");
        });
        assert!(made.is_dir() && served.is_dir(), "{slow}");
    }
}

#[test]
fn who_waits_for_a_lock_does_so_over_a_server_that_is_stopped() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let (holder, waiter) = (server.mount("holder"), server.mount("waiter"));
    fs::write(holder.join("f"), "").unwrap();
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let held = File::open(holder.join("f")).unwrap();
        rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        let wanted = File::open(waiter.join("f")).unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| rustix::fs::flock(&wanted, FlockOperation::LockExclusive));
            thread::sleep(Duration::from_millis(200));
            server.end(signal);
            server.start();
            // Both are back when they have asked for something.
            for mount in [&holder, &waiter] {
                fs::write(mount.join("back"), "").unwrap();
            }
            thread::sleep(Duration::from_millis(200));
            assert!(!waits.is_finished(), "it got the lock that another holds, or an error");
            rustix::fs::flock(&held, FlockOperation::Unlock).unwrap();
            assert!(holds_within(BACK_TIME_MAX, || waits.is_finished()), "it gets the lock");
            assert_eq!(waits.join().unwrap(), Ok(()), "signal {signal}");
        });
        rustix::fs::flock(&wanted, FlockOperation::Unlock).unwrap();
    }
}

#[test]
fn a_damaged_state_directory_costs_its_sessions_and_no_more() {
    let Some(server) = Phoenix::rise() else { return };
    let _watchdog = watchdog(TEST_TIME_MAX);
    let mount = server.mount("mount");
    fs::write(mount.join("f"), "content").unwrap();
    server.kill();
    let sessions = fs::read_dir(server.hidden().parent().unwrap().join("sessions")).unwrap();
    for session in sessions.map(Result::unwrap) {
        fs::write(session.path().join("log"), "this is no log").unwrap();
    }
    server.start();
    let has_ended =
        || fs::metadata(mount.join("f")).is_err_and(|error| error.raw_os_error() == Some(libc::EIO));
    assert!(holds_within(BACK_TIME_MAX, has_ended), "the mount is told");
    let fresh = server.mount("fresh");
    assert_eq!(fs::read_to_string(fresh.join("f")).unwrap(), "content");
}
