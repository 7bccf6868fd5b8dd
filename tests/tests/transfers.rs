//! Transfers of a shell while the network lies or breaks, or the server dies: what has its name is whole and right.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The allowance for tests does not reach their shared functions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nearfs_tests::harness::{Companion, World, end_within, holds_within, own_address, program};
use nearfs_tests::proxy::{Calls, Endpoint, FaultProxy, Way};
use nearfs_tests::random::noise;

/// Longest time for a transfer, on a slow machine and over connections that are made again and again.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(120);
const MIB: usize = 1024 * 1024;

/// A directory on one side, a served one on the other, and a server that can be killed.
struct Ground {
    world: World,
    address: String,
    options: Vec<String>,
    server: Option<Companion>,
}

/// How a command ended.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Which of the two, and from where to where a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Get,
    Put,
}

impl Ground {
    fn new() -> Ground {
        Ground::with_options(Vec::new())
    }

    /// With a server that keeps its state, so that sessions outlive it.
    fn with_state() -> Ground {
        let state = tempfile::tempdir().unwrap().keep().display().to_string();
        Ground::with_options(vec!["--state-dir".into(), state])
    }

    fn with_options(options: Vec<String>) -> Ground {
        let world = World::new();
        world.directory("here");
        let address = own_address().to_string();
        let mut ground = Ground { world, address, options, server: None };
        ground.start();
        ground
    }

    fn start(&mut self) {
        let mut command = Command::new(program());
        command.args(["serve", "--listen", &self.address]).args(&self.options).arg(self.world.export());
        let server = Companion::start(&mut command);
        assert!(server.line().starts_with("listening on "));
        self.server = Some(server);
    }

    fn kill(&mut self) {
        // It is killed and waited for when it is dropped.
        self.server = None;
    }

    fn proxy(&self, seed: u64) -> FaultProxy {
        let target = Endpoint::Tcp(self.address.clone());
        FaultProxy::start_on(&Endpoint::Tcp("127.0.0.1:0".into()), target, seed).unwrap()
    }

    fn here(&self) -> PathBuf {
        self.world.export().parent().unwrap().join("here")
    }

    /// Where a file of this name comes from, and where it goes to.
    fn ends(&self, direction: Direction, name: &str) -> (PathBuf, PathBuf) {
        let (here, there) = (self.here().join(name), self.world.export().join(name));
        match direction {
            Direction::Get => (there, here),
            Direction::Put => (here, there),
        }
    }

    /// The command that brings this name from one side to the other, by way of this address.
    fn command(&self, direction: Direction, options: &[&str], address: &str, name: &str) -> Command {
        let remote = format!("nearfs://{address}/{name}");
        let mut command = Command::new(program());
        command.current_dir(self.here());
        match direction {
            Direction::Get => command.arg("get").args(options).arg(remote).arg(name),
            Direction::Put => command.arg("put").args(options).arg(name).arg(remote),
        };
        command
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.kill();
        if let [_, state] = &self.options[..] {
            fs::remove_dir_all(state).unwrap();
        }
    }
}

impl Direction {
    const BOTH: [Direction; 2] = [Direction::Get, Direction::Put];

    /// The way that the content goes.
    fn way(self) -> Way {
        match self {
            Direction::Get => Way::Down,
            Direction::Put => Way::Up,
        }
    }
}

#[track_caller]
fn run(command: &mut Command) -> Ended {
    let (status, out, err) = end_within(command, TRANSFER_TIME_MAX);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: status.code(), out: text(out), err: text(err) }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_connection_that_is_cut_in_the_middle_costs_nothing_but_time() {
    let ground = Ground::new();
    let content = noise(24 * MIB, 1);
    for direction in Direction::BOTH {
        for (number, cut_after) in [MIB / 2, 9 * MIB, 23 * MIB].into_iter().enumerate() {
            let name = format!("{direction:?}{number}");
            let (from, to) = ground.ends(direction, &name);
            fs::write(from, &content).unwrap();
            let proxy = ground.proxy(0);
            proxy.cut_after(direction.way(), cut_after as u64);
            let address = proxy.endpoint().to_string();
            let ended = run(&mut ground.command(direction, &["--json"], &address, &name));
            assert_eq!(ended.code, Some(0), "{name}: {}", ended.err);
            let sum: serde_json::Value = serde_json::from_str(ended.out.lines().last().unwrap()).unwrap();
            assert_eq!(sum["bytes"], content.len(), "{name}: nothing was counted twice");
            assert!(fs::read(to).unwrap() == content, "{name} has another content");
        }
    }
}

#[test]
fn an_answer_that_is_lost_makes_no_file_fail_or_appear_twice() {
    let ground = Ground::new();
    // Each of these has been carried out when the connection is lost; done once more, it would be refused.
    for operation in ["publish", "store", "mkdir", "create", "announce"] {
        let name = format!("tree-{operation}");
        let tree = ground.here().join(&name);
        fs::create_dir_all(tree.join("below")).unwrap();
        for number in 0..300 {
            fs::write(tree.join(format!("below/{number}")), noise(2000, number)).unwrap();
        }
        fs::write(tree.join("large"), noise(3 * MIB, 7)).unwrap();
        let proxy = ground.proxy(0);
        proxy.cut_reply(Calls::Operation(operation.into()), 1);
        let address = proxy.endpoint().to_string();
        let ended = run(&mut ground.command(Direction::Put, &[], &address, &name));
        assert_eq!(ended.code, Some(0), "{operation}: {}", ended.err);
        assert!(
            ended.out.contains("301 files") && ended.out.contains("0 failed"),
            "{operation}: {}",
            ended.out
        );
        let there = ground.world.export().join(&name);
        let mut compare = Command::new("diff");
        let same = run(compare.arg("-r").args([&tree, &there]));
        assert_eq!(same.code, Some(0), "{operation}: {}", same.out);
        assert_eq!(names(&there.join("below")).len(), 300, "{operation}: nothing else is there");
    }
}

/// Transfers a name while bits are flipped on the way of its content: from its first mebibyte to the eighth, all but one
/// byte in thousands of what passes is of it.
fn flipped(ground: &Ground, proxy: &FaultProxy, direction: Direction, name: &str) -> Ended {
    let address = proxy.endpoint().to_string();
    let mut command = ground.command(direction, &["-q", "--limit-rate", "8M"], &address, name);
    let transferring = std::thread::spawn(move || run(&mut command));
    let passed = |bytes: usize| proxy.passed_bytes(direction.way()) > bytes as u64;
    assert!(holds_within(TRANSFER_TIME_MAX, || passed(MIB)), "it does not begin");
    proxy.flip(&[direction.way()], 2e-6);
    holds_within(TRANSFER_TIME_MAX, || passed(8 * MIB) || transferring.is_finished());
    proxy.clear();
    transferring.join().unwrap()
}

#[test]
fn flipped_bits_get_no_name() {
    let content = noise(12 * MIB, 3);
    for direction in Direction::BOTH {
        let mut differed = false;
        for seed in 0..3 {
            let ground = Ground::new();
            let (from, to) = ground.ends(direction, "big");
            fs::write(&from, &content).unwrap();
            let proxy = ground.proxy(1000 * seed);
            let ended = flipped(&ground, &proxy, direction, "big");
            match ended.code {
                Some(0) => {
                    assert!(fs::read(&to).unwrap() == content, "{direction:?}: wrong, and nobody says so")
                }
                code => {
                    assert!(!to.exists(), "{direction:?}: {code:?}, and it has the name");
                    assert!(ended.err.starts_with("nearfs: "), "{direction:?}: {code:?} {}", ended.err);
                }
            }
            if ended.code == Some(5) {
                differed = true;
                assert!(ended.err.contains("differs from the source"), "{}", ended.err);
                let places = [ground.here(), ground.world.export()].map(|place| names(&place));
                assert!(places.iter().flatten().all(|name| name == "big"), "{places:?}: it is of no use");
                // The way is good again.
                let again = run(&mut ground.command(direction, &[], &proxy.endpoint().to_string(), "big"));
                assert_eq!(again.code, Some(0), "{}", again.err);
                assert!(fs::read(&to).unwrap() == content);
                break;
            }
        }
        assert!(differed, "{direction:?}: bits were flipped, and no hash told");
    }
}

#[test]
fn flipped_bits_get_no_name_among_many_small_files_either() {
    for direction in Direction::BOTH {
        let ground = Ground::new();
        let (from, to) = ground.ends(direction, "tree");
        fs::create_dir(&from).unwrap();
        let content = |number: usize| noise(60_000, number as u64);
        (0..200).for_each(|number| fs::write(from.join(number.to_string()), content(number)).unwrap());
        let proxy = ground.proxy(77);
        let ended = flipped(&ground, &proxy, direction, "tree");
        let mut whole = 0;
        for name in names(&to).iter().filter(|name| !name.starts_with(".nearfs-")) {
            // A flipped bit of a name makes another one; its content is somebody's all the same.
            let arrived = fs::read(to.join(name)).unwrap();
            let is_right = match name.parse() {
                Ok(number) => arrived == content(number),
                Err(_) => (0..200).any(|number| arrived == content(number)),
            };
            assert!(is_right, "{direction:?}: {name} has another content");
            whole += 1;
        }
        assert!(whole == 200 || ended.code != Some(0), "{direction:?}: {whole} of 200, and nobody says so");
    }
}

/// Starts a transfer of a name that takes some seconds, and kills the server in the middle of it.
fn killed_in_the_middle(
    ground: &mut Ground,
    direction: Direction,
    name: &str,
) -> std::thread::JoinHandle<Ended> {
    let (_, to) = ground.ends(direction, name);
    let directory = to.parent().unwrap().to_owned();
    for _ in 0..5 {
        let address = ground.address.clone();
        let mut command = ground.command(direction, &["-q", "--limit-rate", "6M"], &address, name);
        let transferring = std::thread::spawn(move || run(&mut command));
        let is_begun = || {
            let journal = names(&directory).into_iter().find(|name| name.ends_with(".journal"));
            let bytes =
                journal.and_then(|name| directory.join(name).metadata().ok()).map(|found| found.len());
            // Each MiB that has arrived has 40 bytes there.
            bytes.is_some_and(|bytes| bytes > 8 * 40)
        };
        assert!(holds_within(TRANSFER_TIME_MAX, || is_begun() || transferring.is_finished()));
        ground.kill();
        if !to.exists() {
            return transferring;
        }
        // The machine was busy with something else, and the transfer was faster.
        transferring.join().unwrap();
        fs::remove_file(&to).unwrap();
        ground.start();
    }
    panic!("the middle of a transfer was missed five times");
}

#[test]
fn a_transfer_goes_on_when_a_server_that_was_killed_is_back() {
    let content = noise(24 * MIB, 5);
    for direction in Direction::BOTH {
        let mut ground = Ground::with_state();
        let (from, to) = ground.ends(direction, "big");
        fs::write(from, &content).unwrap();
        let transferring = killed_in_the_middle(&mut ground, direction, "big");
        ground.start();
        let ended = transferring.join().unwrap();
        assert_eq!(ended.code, Some(0), "{direction:?}: {}", ended.err);
        assert!(fs::read(to).unwrap() == content, "{direction:?}: another content");
        let places = [ground.here(), ground.world.export()].map(|place| names(&place));
        assert!(places.iter().flatten().all(|name| name == "big"), "{places:?}");
    }
}

#[test]
fn a_server_that_forgot_the_transfer_ends_it_clearly_and_it_can_be_gone_on_with() {
    let content = noise(24 * MIB, 6);
    for direction in Direction::BOTH {
        // A server on a port of its own choice keeps no state unless that is asked for.
        let mut ground = Ground::with_state();
        let (from, to) = ground.ends(direction, "big");
        fs::write(from, &content).unwrap();
        let transferring = killed_in_the_middle(&mut ground, direction, "big");
        let state = ground.options[1].clone();
        fs::remove_dir_all(&state).unwrap();
        fs::create_dir(&state).unwrap();
        ground.start();
        let ended = transferring.join().unwrap();
        assert_eq!(ended.code, Some(3), "{direction:?}: {}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{direction:?}: {}", ended.err);
        assert!(ended.err.contains("the connection was lost for good"), "{direction:?}: {}", ended.err);
        assert!(!to.exists(), "{direction:?}: half of it has the name");
        let address = ground.address.clone();
        let went_on = run(&mut ground.command(direction, &["-c", "--json"], &address, "big"));
        assert_eq!(went_on.code, Some(0), "{direction:?}: {}", went_on.err);
        let sum: serde_json::Value = serde_json::from_str(went_on.out.lines().last().unwrap()).unwrap();
        assert!(sum["resumed_bytes"].as_u64().unwrap() >= 8 * MIB as u64, "{direction:?}: {sum}");
        assert!(fs::read(to).unwrap() == content, "{direction:?}: another content");
    }
}
