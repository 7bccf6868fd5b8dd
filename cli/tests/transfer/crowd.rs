//! Many at the same names at once, and disks that are full.

use std::fs;
use std::process::Command;

use crate::support::{World, run};
use crate::{noise, staged, transfer};

/// Clients at once.
const CLIENTS: usize = 20;
const NAMES: usize = 3;

fn memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[test]
fn twenty_at_the_same_names_leave_whole_files() {
    let world = World::new();
    let place = world.place("clients");
    let bytes = |client: usize| if client.is_multiple_of(2) { 3_000_000 } else { 30_000 };
    for client in 0..CLIENTS {
        fs::write(place.join(format!("source{client}")), noise(bytes(client), client as u64)).unwrap();
    }
    let one_round = |round: usize| {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (world, place) = (&world, &place);
                scope.spawn(move || {
                    let name = format!("@/name{}", client % NAMES);
                    let source = format!("clients/source{client}");
                    let back = format!("clients/back{round}-{client}");
                    let other = format!("@/moved{}", client % NAMES);
                    let command = match client % 4 {
                        0 | 1 => vec!["put", "-f", &source, &name],
                        2 => vec!["get", &name, &back],
                        _ if client % 8 == 3 => vec!["mv", "-f", &name, &other],
                        _ => vec!["rm", "-f", &name],
                    };
                    let ended = run(&mut transfer(world, &command));
                    let refusals =
                        ["being", "no such file", "does not exist", "meanwhile", "changed", "not there"];
                    let is_clear =
                        ended.code == Some(0) || refusals.iter().any(|words| ended.err.contains(words));
                    assert!(is_clear, "{command:?}: {:?} {}", ended.code, ended.err);
                    if let Ok(content) = fs::read(place.join(format!("back{round}-{client}"))) {
                        let is_whole = (0..CLIENTS).any(|one| content == noise(bytes(one), one as u64));
                        assert!(is_whole, "{} bytes are nobody's file", content.len());
                    }
                });
            }
        });
    };
    one_round(0);
    let before = memory_kib(world.server.child.id());
    (1..4).for_each(one_round);
    let after = memory_kib(world.server.child.id());
    assert!(after < before + 32 * 1024, "the server has grown from {before} to {after} KiB");
    for entry in fs::read_dir(world.export()).unwrap().flatten() {
        let content = fs::read(entry.path()).unwrap();
        let is_whole = (0..CLIENTS).any(|one| content == noise(bytes(one), one as u64));
        assert!(is_whole, "{} has {} bytes of nobody", entry.path().display(), content.len());
    }
    assert_eq!(staged(&world.export()), Vec::<String>::new());
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_under_the_name() {
    if !rustix_is_root() {
        eprintln!("SKIPPED: a file system of 64 MiB needs root");
        return;
    }
    let world = World::new();
    let small = world.export().join("small");
    fs::create_dir(&small).unwrap();
    let mut mount = Command::new("mount");
    run(mount.args(["-t", "tmpfs", "-o", "size=64m", "none"]).arg(&small)).succeeded();
    fs::write(world.directory.path().join("big"), noise(80 << 20, 1)).unwrap();
    let ended = run(&mut transfer(&world, &["put", "big", "@/small/big"]));
    let is_there = small.join("big").exists();
    run(Command::new("umount").arg("--lazy").arg(&small)).succeeded();
    ended.refused(1, "full");
    assert!(!is_there);
}

fn rustix_is_root() -> bool {
    run(Command::new("id").arg("-u")).succeeded().out.trim() == "0"
}
