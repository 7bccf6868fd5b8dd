//! Transfers that are cut off, and gone on with.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::{PROMPT, World, nearfs, run, wait_for};
use crate::{noise, staged, transfer};

const BYTES: usize = 48 << 20;

/// Starts a slow transfer of `big`, and kills it when half of it is there.
fn cut_off(world: &World, arguments: &[&str], arriving_in: &Path) {
    let command = [&arguments[..1], &["-q", "--limit-rate", "12M"], &arguments[1..]].concat();
    for _ in 0..5 {
        let mut child = transfer(world, &command).spawn().unwrap();
        let half = || {
            let journal = staged(arriving_in).into_iter().find(|name| name.ends_with(".journal"));
            let found = journal.and_then(|name| arriving_in.join(name).metadata().ok());
            // Each chunk of a MiB has 40 bytes in the journal.
            let is_half = found.is_some_and(|found| found.len() > 24 * 40);
            (is_half || child.try_wait().unwrap().is_some()).then_some(())
        };
        wait_for(PROMPT, half).expect("half of it arrives");
        child.kill().unwrap();
        child.wait().unwrap();
        if !arriving_in.join("big").exists() {
            return;
        }
        // The machine was busy with something else, and the transfer was faster.
        fs::remove_file(arriving_in.join("big")).unwrap();
    }
    panic!("the middle of a transfer was missed five times");
}

/// How much of a transfer was moved, and how much was there already.
fn moved(out: &str) -> (u64, u64) {
    let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    (last["bytes"].as_u64().unwrap(), last["resumed_bytes"].as_u64().unwrap())
}

#[test]
fn a_download_goes_on_where_it_was_killed() {
    let world = World::new();
    fs::write(world.export().join("big"), noise(BYTES, 1)).unwrap();
    let here = world.place("here");
    cut_off(&world, &["get", "@/big", "here/big"], &here);
    assert!(!here.join("big").exists(), "nothing has the name before it is complete");
    let went_on = run(&mut transfer(&world, &["get", "-c", "--json", "@/big", "here/big"])).succeeded();
    let (bytes, resumed) = moved(&went_on.out);
    assert!(bytes < BYTES as u64 * 55 / 100 && bytes + resumed == BYTES as u64, "{bytes} and {resumed}");
    assert_eq!(fs::read(here.join("big")).unwrap(), noise(BYTES, 1));
    assert_eq!(staged(&here), Vec::<String>::new());
}

#[test]
fn an_upload_goes_on_where_it_was_killed_though_the_server_was_started_again() {
    let mut world = World::new();
    fs::write(world.directory.path().join("big"), noise(BYTES, 2)).unwrap();
    cut_off(&world, &["put", "big", "@/big"], &world.export());
    assert!(!world.export().join("big").exists(), "nothing has the name before it is complete");
    world.server.child.kill().unwrap();
    world.server.child.wait().unwrap();
    world.server = crate::support::Server::start(&mut nearfs(), &world.export());
    let went_on = run(&mut transfer(&world, &["put", "-c", "--json", "big", "@/big"])).succeeded();
    let (bytes, resumed) = moved(&went_on.out);
    assert!(bytes < BYTES as u64 * 55 / 100 && bytes + resumed == BYTES as u64, "{bytes} and {resumed}");
    assert_eq!(fs::read(world.export().join("big")).unwrap(), noise(BYTES, 2));
    assert_eq!(staged(&world.export()), Vec::<String>::new());
}

#[test]
fn a_source_that_has_changed_is_begun_anew_and_that_is_said() {
    let world = World::new();
    fs::write(world.export().join("big"), noise(BYTES, 3)).unwrap();
    let here = world.place("here");
    cut_off(&world, &["get", "@/big", "here/big"], &here);
    fs::write(world.export().join("big"), noise(BYTES, 4)).unwrap();
    let anew = run(&mut transfer(&world, &["get", "-c", "@/big", "here/big"])).succeeded();
    let said = format!("{}{}", anew.out, anew.err);
    assert!(said.contains("has changed since the transfer was interrupted: starting over"), "{said}");
    assert_eq!(fs::read(here.join("big")).unwrap(), noise(BYTES, 4));
}

#[test]
fn a_download_goes_on_though_the_server_was_started_again() {
    let mut world = World::new();
    fs::write(world.export().join("big"), noise(BYTES, 9)).unwrap();
    let here = world.place("here");
    cut_off(&world, &["get", "@/big", "here/big"], &here);
    world.server.child.kill().unwrap();
    world.server.child.wait().unwrap();
    world.server = crate::support::Server::start(&mut nearfs(), &world.export());
    let went_on = run(&mut transfer(&world, &["get", "-c", "--json", "@/big", "here/big"])).succeeded();
    let (bytes, resumed) = moved(&went_on.out);
    assert!(bytes < BYTES as u64 * 55 / 100 && bytes + resumed == BYTES as u64, "{bytes} and {resumed}");
    assert_eq!(fs::read(here.join("big")).unwrap(), noise(BYTES, 9));
    assert_eq!(staged(&here), Vec::<String>::new());
}

#[test]
fn an_upload_whose_source_has_changed_is_begun_anew_and_that_is_said() {
    let world = World::new();
    let source = world.directory.path().join("big");
    fs::write(&source, noise(BYTES, 10)).unwrap();
    cut_off(&world, &["put", "big", "@/big"], &world.export());
    fs::write(&source, noise(BYTES, 11)).unwrap();
    // The server waits a while for a client that has gone, and refuses the name to others as long.
    let again = || {
        let ended = run(&mut transfer(&world, &["put", "-c", "--json", "big", "@/big"]));
        (!ended.err.contains("is being uploaded by")).then_some(ended)
    };
    let anew = wait_for(PROMPT * 2, again).expect("its announcement ends").succeeded();
    let said = &anew.err;
    assert!(said.contains("big has changed since the transfer was interrupted: starting over"), "{said}");
    assert_eq!(moved(&anew.out), (BYTES as u64, 0), "all of it is brought again");
    assert_eq!(fs::read(world.export().join("big")).unwrap(), noise(BYTES, 11));
    assert_eq!(staged(&world.export()), Vec::<String>::new());
}

#[test]
fn a_damaged_part_is_brought_again() {
    let world = World::new();
    fs::write(world.export().join("big"), noise(BYTES, 5)).unwrap();
    let here = world.place("here");
    cut_off(&world, &["get", "@/big", "here/big"], &here);
    let part = here.join(staged(&here).into_iter().find(|name| name.ends_with(".part")).unwrap());
    let file = fs::File::options().write(true).open(&part).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 2_500_000).unwrap();
    run(&mut transfer(&world, &["get", "-c", "@/big", "here/big"])).succeeded();
    assert_eq!(fs::read(here.join("big")).unwrap(), noise(BYTES, 5));
}

#[test]
fn ctrl_c_leaves_no_half_file_and_says_130() {
    let world = World::new();
    fs::write(world.directory.path().join("big"), noise(BYTES, 6)).unwrap();
    let mut child = transfer(&world, &["put", "--limit-rate", "8M", "big", "@/big"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    crate::support::send_signal(child.id(), "INT");
    let status = wait_for(PROMPT, || child.try_wait().unwrap()).expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert!(!world.export().join("big").exists());
}

#[test]
fn ctrl_c_ends_a_transfer_of_nothing_but_holes() {
    for (arguments, from, to) in
        [(["get", "@/holes", "to"], "export/holes", "."), (["put", "holes", "@/to"], "holes", "export")]
    {
        let world = World::new();
        let base = world.directory.path();
        // To hash so many zeros takes a quarter of an hour.
        fs::File::create(base.join(from)).unwrap().set_len(1 << 40).unwrap();
        let mut child = transfer(&world, &arguments).spawn().unwrap();
        let begun = || (!staged(&base.join(to)).is_empty()).then_some(());
        wait_for(PROMPT, begun).expect("it begins");
        crate::support::send_signal(child.id(), "INT");
        let status = wait_for(PROMPT, || child.try_wait().unwrap());
        if status.is_none() {
            child.kill().unwrap();
        }
        assert_eq!(status.expect("it ends").code(), Some(130));
        assert!(!base.join(to).join("to").exists());
    }
}

#[test]
fn a_server_that_stands_still_for_a_while_is_waited_for() {
    let world = World::new();
    fs::write(world.export().join("big"), noise(BYTES, 8)).unwrap();
    let mut child = transfer(&world, &["get", "--limit-rate", "24M", "@/big", "big"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    world.server.signal("STOP");
    std::thread::sleep(Duration::from_secs(8));
    world.server.signal("CONT");
    let status = wait_for(Duration::from_secs(60), || child.try_wait().unwrap()).expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(fs::read(world.directory.path().join("big")).unwrap(), noise(BYTES, 8));
}
