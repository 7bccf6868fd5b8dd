//! Copies within the server.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::{PROMPT, World, nearfs, run, send_signal, wait_for};
use crate::{noise, staged, transfer};

#[test]
fn no_content_passes_through_the_client() {
    let world = World::new();
    fs::write(world.export().join("big"), noise(40 << 20, 1)).unwrap();
    fs::create_dir(world.export().join("tree")).unwrap();
    for number in 0..50 {
        fs::write(world.export().join(format!("tree/{number}")), noise(20_000, number)).unwrap();
    }
    let mut shell = Command::new(nearfs().get_program());
    let script = "cp big copied; cp -r tree other; cp -f --json copied big; who --json";
    let ended = run(shell.args(["shell", &world.source(), "-c", script])).succeeded();
    let objects = ended.out.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let objects: Vec<_> = objects.collect();
    let moved: u64 = objects.iter().filter_map(|object| object["bytes"].as_u64()).max().unwrap();
    assert_eq!(moved, 40 << 20, "the server says what it has copied");
    let own = objects.iter().find(|object| object["read_bytes"].is_u64()).expect("who tells of sessions");
    for counter in ["read_bytes", "written_bytes"] {
        let bytes = own[counter].as_u64().unwrap();
        assert!(bytes < 10_000, "{bytes} {counter} of 81 MiB that were copied: {own}");
    }
    for name in ["big", "copied"] {
        assert_eq!(fs::read(world.export().join(name)).unwrap(), noise(40 << 20, 1));
    }
    assert_eq!(fs::read(world.export().join("other/49")).unwrap(), noise(20_000, 49));
    assert_eq!(staged(&world.export()), Vec::<String>::new());
}

#[test]
fn a_tree_is_copied_as_it_is() {
    let world = World::new();
    let tree = world.export().join("tree");
    fs::create_dir_all(tree.join("a/b/empty")).unwrap();
    for (name, bytes) in [("none", 0), ("small", 700), ("a/edge", 16 << 20), ("a/above", (16 << 20) + 1)] {
        fs::write(tree.join(name), noise(bytes, bytes as u64)).unwrap();
    }
    fs::write(tree.join("a/b/new\nline -rf"), "odd").unwrap();
    symlink("../small", tree.join("a/link")).unwrap();
    fs::set_permissions(tree.join("small"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o500)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_000_000_000_123_456_789);
    for name in ["small", "a/above", "a"] {
        fs::File::open(tree.join(name)).unwrap().set_modified(old).unwrap();
    }
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    sparse.set_len(80 << 20).unwrap();
    sparse.write_all_at(&noise(5000, 3), 40_000_000).unwrap();
    drop(sparse);
    let diff = |copy: &str| {
        let mut diff = Command::new("diff");
        run(diff.args(["-r", "--no-dereference"]).arg(&tree).arg(world.export().join(copy))).succeeded();
    };
    run(&mut transfer(&world, &["cp", "-r", "@/tree", "@/plain"])).succeeded();
    diff("plain");
    let plain = world.export().join("plain");
    assert_eq!(plain.join("small").metadata().unwrap().mode() & 0o7777, 0o751);
    assert_eq!(plain.join("a/b").metadata().unwrap().mode() & 0o7777, 0o500);
    assert!(plain.join("small").metadata().unwrap().modified().unwrap() > old);
    fs::create_dir(world.export().join("into")).unwrap();
    run(&mut transfer(&world, &["copy", "-a", "@/tree", "@/into"])).succeeded();
    diff("into/tree");
    for name in ["small", "a/above", "a", "a/b"] {
        let (source, copy) = (tree.join(name), world.export().join("into/tree").join(name));
        let (source, copy) = (source.metadata().unwrap(), copy.metadata().unwrap());
        assert_eq!(source.mode(), copy.mode(), "{name}");
        assert_eq!(source.modified().unwrap(), copy.modified().unwrap(), "{name}");
    }
    for copy in ["plain", "into/tree"] {
        let blocks = world.export().join(copy).join("sparse").metadata().unwrap().blocks();
        assert!(blocks * 512 < 4 << 20, "{copy} is not sparse");
        assert!(world.export().join(copy).join("a/link").is_symlink());
    }
    assert_eq!(staged(&world.export()), Vec::<String>::new());
}

#[test]
fn what_must_not_be_copied_is_refused() {
    let world = World::new();
    let export = world.export();
    fs::create_dir_all(export.join("dir/below")).unwrap();
    fs::write(export.join("file"), "content").unwrap();
    fs::write(export.join("other"), "kept").unwrap();
    fs::hard_link(export.join("file"), export.join("same")).unwrap();
    symlink("dir/below", export.join("inside")).unwrap();
    let copy = |arguments: &[&str]| run(&mut transfer(&world, &[&["cp"], arguments].concat()));
    copy(&["@/file", "@/other"]).refused(1, "/other: already exists; -f replaces it");
    assert_eq!(fs::read(export.join("other")).unwrap(), b"kept");
    copy(&["-f", "@/file", "@/file"]).refused(1, "is the target itself");
    assert_eq!(copy(&["-f", "@/file", "@/same"]).code, Some(1));
    copy(&["@/dir", "@/new"]).refused(1, "/dir: is a directory; -r copies it");
    copy(&["-r", "@/dir", "@/dir"]).refused(1, "has it inside");
    copy(&["-r", "@/", "@/dir/new"]).refused(1, "has it inside");
    copy(&["-r", "@/dir", "@/dir/below/new"]).refused(1, "has it inside");
    assert_eq!(copy(&["-r", "@/dir", "@/inside"]).code, Some(1), "a link leads into the source");
    copy(&["-r", "@/dir", "@/file"]).refused(1, "is a directory, and /file");
    copy(&["@/file", "@/other", "@/no"]).refused(1, "several things go only into a directory");
    copy(&["@/nope", "@/new"]).refused(4, "no such file");
    copy(&["@/file", "@/no/new"]).refused(4, "no such file");
    assert_eq!(copy(&["@/file"]).code, Some(2));
    // A tree that meets files replaces none of them, and copies the others.
    fs::create_dir(export.join("tree")).unwrap();
    for name in ["taken", "free"] {
        fs::write(export.join("tree").join(name), "new").unwrap();
    }
    fs::create_dir_all(export.join("to/tree")).unwrap();
    fs::write(export.join("to/tree/taken"), "old").unwrap();
    let partly = copy(&["-r", "@/tree", "@/to"]);
    assert_eq!(partly.code, Some(1));
    assert!(partly.err.contains("/to/tree/taken: already exists; -f replaces it"), "{partly:?}");
    assert_eq!(fs::read(export.join("to/tree/taken")).unwrap(), b"old");
    assert_eq!(fs::read(export.join("to/tree/free")).unwrap(), b"new");
    copy(&["-r", "-f", "@/tree", "@/to"]).succeeded();
    assert_eq!(fs::read(export.join("to/tree/taken")).unwrap(), b"new");
    fs::create_dir(export.join("many")).unwrap();
    for number in 0..1500 {
        fs::write(export.join(format!("many/{number}")), number.to_string()).unwrap();
    }
    fs::create_dir(export.join("all")).unwrap();
    copy(&["@/many/*", "@/all"]).succeeded();
    assert_eq!(fs::read(export.join("all/1499")).unwrap(), b"1499");
    assert_eq!(fs::read_dir(export.join("all")).unwrap().count(), 1500);
    copy(&["@/file", "@/other", "@/dir"]).succeeded();
    assert_eq!(fs::read(export.join("dir/other")).unwrap(), b"kept");
    assert_eq!(staged(&export), Vec::<String>::new());
}

#[test]
fn ctrl_c_ends_a_copy_and_leaves_nothing() {
    let world = World::new();
    fs::write(world.export().join("big"), noise(64 << 20, 2)).unwrap();
    let mut child = transfer(&world, &["cp", "--limit-rate", "16M", "@/big", "@/copy"]).spawn().unwrap();
    wait_for(PROMPT, || (!staged(&world.export()).is_empty()).then_some(())).expect("it begins");
    send_signal(child.id(), "INT");
    let status = wait_for(PROMPT, || child.try_wait().unwrap()).expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert!(!world.export().join("copy").exists());
    let is_gone = wait_for(PROMPT, || staged(&world.export()).is_empty().then_some(()));
    is_gone.expect("what was begun is removed");
}
