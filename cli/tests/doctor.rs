//! What `nearfs doctor` finds, through the program and the kernel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Companion, Mounted, World, assert_gone, can_mount, nearfs, run, send_signal, wait_for};

/// It answers so fast, whatever has become of the server.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// What it found, and whether that is well by the exit code.
fn examine(mount: &Mounted) -> (Value, bool) {
    let begun = Instant::now();
    let ended = run(nearfs().args(["doctor", "--json"]).arg(&mount.place));
    assert!(begun.elapsed() < ANSWER_TIME_MAX, "{:?}", begun.elapsed());
    let found: Value = serde_json::from_str(&ended.out).expect(&ended.err);
    assert_eq!(found["well"], ended.code == Some(0), "{found}");
    (found, ended.code == Some(0))
}

fn words(mount: &Mounted) -> String {
    run(nearfs().arg("doctor").arg(&mount.place)).out
}

/// A shell in a directory, which becomes another program when it is told to, without any further look-up there.
fn poised(place: &Path, program: &str) -> Child {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("read go; exec {program}")).current_dir(place);
    shell.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn let_go(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
}

/// What it says of the programs that wait, once it names so many.
fn waiting(mount: &Mounted, part: &str, count: usize) -> Vec<Value> {
    let found = || {
        let found = examine(mount).0[part].as_array().unwrap().clone();
        (found.len() >= count).then_some(found)
    };
    wait_for(support::PROMPT, found).unwrap_or_else(|| panic!("not {count}: {}", words(mount)))
}

#[test]
fn a_mount_that_is_well_says_so() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    let (found, well) = examine(&mount);
    assert!(well && found["waiting"] == serde_json::json!([]), "{found}");
    let text = words(&mount);
    assert!(text.contains("a round trip takes") && text.contains("all is well"), "{text}");
    let this_machine = run(nearfs().args(["doctor", "--json"]));
    let found: Value = serde_json::from_str(&this_machine.out).unwrap();
    assert!(found["set_up"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{found}");
    run(nearfs().arg("doctor").arg(world.export())).refused(1, "is not a mount point");
}

#[test]
fn it_names_who_waits_for_a_frozen_server_and_who_waits_behind_him() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    fs::create_dir_all(world.export().join("dir/sub")).unwrap();
    let mount = world.mount("mnt", &["-o", "timeout=20"]);
    let mut log = fs::File::create(mount.place.join("dir/log")).unwrap();
    log.write_all(b"kept").unwrap();
    let mut first = Companion(poised(&mount.place.join("dir/sub"), "mkdir one"));
    let mut second = Companion(poised(&mount.place.join("dir/sub"), "mkdir two"));
    // The shells have to be where they wait before nobody can get there any more.
    std::thread::sleep(Duration::from_millis(500));
    world.server.signal("STOP");
    std::thread::sleep(Duration::from_millis(100));
    // A write would ask for attributes first, if what is known of them is older than a second.
    let writer = std::thread::spawn(move || log.sync_all());
    let_go(&mut first.0);
    std::thread::sleep(Duration::from_millis(300));
    let_go(&mut second.0);

    let stuck = waiting(&mount, "waiting", 2);
    let of = |op: &str| stuck.iter().find(|one| one["op"] == op).unwrap_or_else(|| panic!("{op}: {stuck:?}"));
    let synced = of("fsync");
    assert_eq!(synced["path"], "dir/log");
    assert_eq!(synced["program"]["pid"], std::process::id());
    assert!(synced["ends_in_ms"].is_null(), "{synced}");
    assert!(synced["outlook"].as_str().unwrap().contains("Ctrl-C ends the program"), "{synced}");
    let made = stuck.iter().find(|one| one["program"]["pid"] == first.0.id()).expect("the first mkdir waits");
    assert_eq!(
        (made["path"].as_str(), made["program"]["name"].as_str()),
        (Some("dir/sub/one"), Some("mkdir"))
    );
    let left_ms = made["ends_in_ms"].as_u64().unwrap();
    assert!((1..20_000).contains(&left_ms), "{made}");

    let behind = waiting(&mount, "behind", 1);
    assert_eq!(behind[0]["program"]["pid"], second.0.id(), "{behind:?}");
    assert_eq!(behind[0]["path"], "dir/sub/two");
    assert_eq!(behind[0]["holder"]["pid"], first.0.id());
    let text = words(&mount);
    let expected = format!("goes on when mkdir (pid {}) does, and ends with it", first.0.id());
    assert!(text.contains(&expected) && text.contains("ends with ETIMEDOUT in"), "{text}");

    // And so it comes.
    for signal in ["INT", "KILL"] {
        send_signal(second.0.id(), signal);
    }
    send_signal(first.0.id(), "INT");
    for program in [&mut first, &mut second] {
        wait_for(support::PROMPT, || program.0.try_wait().unwrap()).expect("it ends");
    }
    world.server.signal("CONT");
    assert!(writer.join().unwrap().is_ok());
    assert!(wait_for(support::PROMPT, || examine(&mount).1.then_some(())).is_some(), "{}", words(&mount));
}

#[test]
fn it_tells_an_unreachable_server_from_a_process_that_is_stopped_or_dead() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    let pid = mount.pid();
    send_signal(pid, "STOP");
    wait_for(support::PROMPT, || words(&mount).contains("it is stopped").then_some(()))
        .expect("it is stopped");
    send_signal(pid, "CONT");
    world.server.signal("KILL");
    let lost = || words(&mount).contains("has been unreachable for").then_some(());
    wait_for(support::PROMPT, lost).unwrap_or_else(|| panic!("{}", words(&mount)));
    // The first attempt may still find the queue of the one that was killed, and is reset; the next is refused.
    let refused = || words(&mount).contains("refused the connection").then_some(());
    wait_for(support::PROMPT, refused).unwrap_or_else(|| panic!("{}", words(&mount)));
    send_signal(pid, "KILL");
    assert_gone(pid);
    let (found, well) = examine(&mount);
    assert!(!well && found["state"].as_str().unwrap().contains("it is dead"), "{found}");
}
