//! Many names that a shell removes or moves at a server that is far away, alone and in trees, and what comes of each.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use nearfs_tests::harness::{World, program};
use nearfs_tests::proxy::{FaultProxy, Way};

const DELAY: Duration = Duration::from_millis(20);
const NAMES: usize = 200;
/// One after the other names would take four round trips each, which is 32 s, and directories about as many.
const TIME_MAX: Duration = Duration::from_secs(8);

/// A server's address that is so far away.
fn far(world: &World) -> FaultProxy {
    let target: SocketAddr = world.server().address.parse().unwrap();
    let proxy = FaultProxy::start(target).unwrap();
    proxy.set_delay(&[Way::Up, Way::Down], DELAY);
    proxy
}

#[test]
fn directories_of_a_tree_are_removed_together() {
    let world = World::new();
    let tree = world.export().join("tree");
    for number in 0..NAMES {
        fs::create_dir_all(tree.join(format!("{}/{number}", number % 10))).unwrap();
        fs::write(tree.join(format!("{}/{number}/file", number % 10)), "content").unwrap();
    }
    let proxy = far(&world);
    let began = Instant::now();
    let ended =
        Command::new(program()).args(["rm", "-r", &format!("nearfs://{}/tree", proxy.endpoint())]).output();
    assert!(began.elapsed() < TIME_MAX, "{:?}", began.elapsed());
    let told = String::from_utf8(ended.unwrap().stdout).unwrap();
    assert_eq!(told, "removed /tree: 211 directories and 200 files, 1.4 KiB\n");
    assert!(!tree.exists());
}

#[test]
fn many_names_take_few_round_trips_and_are_told_in_order() {
    let world = World::new();
    let export = world.export();
    for directory in ["from", "to"] {
        fs::create_dir(export.join(directory)).unwrap();
    }
    let proxy = far(&world);
    let source = |path: String| format!("nearfs://{}/{path}", proxy.endpoint());
    let missing = NAMES / 2;
    for number in (0..NAMES).filter(|number| *number != missing) {
        fs::write(export.join(format!("from/{number}")), "content").unwrap();
    }
    let all = |directory: &str| (0..NAMES).map(|number| source(format!("{directory}/{number}"))).collect();
    let run = |verb: &str, arguments: Vec<String>| {
        let began = Instant::now();
        let ended = Command::new(program()).arg(verb).args(arguments).output().unwrap();
        assert!(began.elapsed() < TIME_MAX, "{verb} took {:?}", began.elapsed());
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let told = |line: &dyn Fn(usize) -> String| {
        (0..NAMES).filter(|number| *number != missing).map(line).collect::<Vec<_>>().concat()
    };

    let mut moved: Vec<String> = all("from");
    moved.push(source("to".into()));
    let [out, err] = run("mv", moved);
    assert_eq!(out, told(&|number| format!("moved /from/{number} to /to/{number} (7 B)\n")));
    assert_eq!(err, format!("nearfs: /from/{missing} does not exist\n"));
    assert_eq!(fs::read_dir(export.join("to")).unwrap().count(), NAMES - 1);

    let [out, err] = run("rm", all("to"));
    assert_eq!(out, told(&|number| format!("removed /to/{number} (7 B)\n")));
    assert_eq!(err, format!("nearfs: /to/{missing}: no such file or directory\n"));
    assert_eq!(fs::read_dir(export.join("to")).unwrap().count(), 0);
}
