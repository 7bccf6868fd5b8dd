//! One tree made like another.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::{Ended, PROMPT, World, nearfs, run, wait_for};
use crate::{noise, staged, transfer};

/// The last object that a mirror told, and all before it.
fn told(ended: &Ended) -> (serde_json::Value, Vec<serde_json::Value>) {
    let mut objects: Vec<serde_json::Value> =
        ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (objects.pop().unwrap(), objects)
}

/// The counts of a mirror: sent, unchanged, deleted, failed.
fn counts(ended: &Ended) -> [u64; 4] {
    let (sum, _) = told(ended);
    ["sent", "unchanged", "deleted", "failed"].map(|name| sum[name].as_u64().unwrap())
}

/// Both directions: the directory of the source, that of the target, and the command's two arguments.
fn directions(world: &World) -> [(PathBuf, PathBuf, [&'static str; 2]); 2] {
    let (here, there) = (world.directory.path().to_owned(), world.export());
    [
        (here.join("up"), there.join("up"), ["up", "@/up"]),
        (there.join("down"), here.join("down"), ["@/down", "down"]),
    ]
}

fn mirror(world: &World, trees: [&str; 2], options: &[&str]) -> Ended {
    run(&mut transfer(world, &[&["mirror", "--json"], options, &trees].concat()))
}

fn fill(tree: &Path) {
    fs::create_dir_all(tree.join("a/b/empty")).unwrap();
    for number in 0..40 {
        fs::write(tree.join(format!("a/file{number}")), noise(number * 100, number as u64)).unwrap();
    }
    fs::write(tree.join("a/b/new\nline and \u{e9}"), "odd").unwrap();
    fs::write(tree.join("large"), noise(3_000_000, 9)).unwrap();
    fs::write(tree.join("script"), "#!/bin/sh").unwrap();
    fs::set_permissions(tree.join("script"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o710)).unwrap();
    symlink("a/file3", tree.join("link")).unwrap();
    symlink("no/where", tree.join("a/dangling")).unwrap();
    set_time(&tree.join("a/file7"), 1_000_000_000);
    set_time(&tree.join("a/b"), 1_100_000_000);
}

fn set_time(path: &Path, secs: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs) + Duration::from_nanos(123_456_789);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// Names, kinds, modes, times and contents.
fn described(tree: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(tree).unwrap().flatten() {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let name = path.file_name().unwrap().to_owned();
        if meta.is_dir() {
            found.push(format!("{name:?}/ {:o} {:?}", meta.mode(), meta.modified().unwrap()));
            found.extend(described(&path).into_iter().map(|line| format!("{name:?}/{line}")));
        } else if meta.is_symlink() {
            found.push(format!("{name:?} -> {:?}", fs::read_link(&path).unwrap()));
        } else {
            let content = fs::read(&path).unwrap();
            let sum = content.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
            found.push(format!("{name:?} {:o} {:?} {sum}", meta.mode(), meta.modified().unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_second_run_moves_nothing() {
    let world = World::new();
    for (source, target, trees) in directions(&world) {
        fill(&source);
        let first = mirror(&world, trees, &[]).succeeded();
        assert_eq!(counts(&first), [45, 0, 0, 0], "{}", first.out);
        assert_eq!(described(&target), described(&source));
        assert_eq!(staged(&target), Vec::<String>::new());
        let second = mirror(&world, trees, &[]).succeeded();
        let (sum, steps) = told(&second);
        assert_eq!(counts(&second), [0, 45, 0, 0], "{}", second.out);
        assert_eq!((&sum["bytes"], &sum["attributes_set"]), (&0.into(), &0.into()));
        assert_eq!(steps, Vec::<serde_json::Value>::new());
        let by_content = mirror(&world, trees, &["--checksum", "--delete"]).succeeded();
        assert_eq!(counts(&by_content), [0, 45, 0, 0], "{}", by_content.out);
        assert_eq!(described(&target), described(&source));
    }
}

#[test]
fn only_what_differs_is_brought() {
    let world = World::new();
    for (source, target, trees) in directions(&world) {
        fill(&source);
        mirror(&world, trees, &[]).succeeded();
        // Another time, another mode, another text, another name, and one that looks the same.
        set_time(&source.join("a/file1"), 1_234_567_890);
        fs::set_permissions(source.join("a/file2"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(source.join("link")).unwrap();
        symlink("a/file4", source.join("link")).unwrap();
        fs::create_dir(source.join("fresh")).unwrap();
        fs::write(source.join("fresh/new"), "new").unwrap();
        let time = target.join("a/file30").metadata().unwrap().modified().unwrap();
        fs::write(target.join("a/file30"), noise(3000, 99)).unwrap();
        fs::File::open(target.join("a/file30")).unwrap().set_modified(time).unwrap();
        let before = described(&target);
        let dry = mirror(&world, trees, &["-n"]).succeeded();
        assert_eq!(counts(&dry), [3, 43, 0, 0], "{}", dry.out);
        let (_, steps) = told(&dry);
        let actions = |name: &str| steps.iter().filter(|step| step["action"] == name).count();
        assert_eq!(["send", "make_directory", "set_attributes", "delete"].map(actions), [3, 1, 1, 0]);
        assert_eq!(described(&target), before, "a dry run changes nothing");
        let run = mirror(&world, trees, &[]).succeeded();
        let (sum, _) = told(&run);
        assert_eq!(counts(&run), [3, 43, 0, 0], "{}", run.out);
        assert_eq!((&sum["bytes"], &sum["attributes_set"]), (&103.into(), &1.into()));
        assert_ne!(described(&target), described(&source), "size and time tell nothing of one file");
        let by_content = mirror(&world, trees, &["--checksum"]).succeeded();
        assert_eq!(counts(&by_content), [1, 45, 0, 0], "{}", by_content.out);
        assert_eq!(described(&target), described(&source));
        // What has another time only is not sent where contents are compared.
        set_time(&source.join("large"), 1_300_000_000);
        let (sum, _) = told(&mirror(&world, trees, &["--checksum"]).succeeded());
        assert_eq!((&sum["sent"], &sum["bytes"], &sum["attributes_set"]), (&0.into(), &0.into(), &1.into()));
        assert_eq!(described(&target), described(&source));
        let near = SystemTime::UNIX_EPOCH + Duration::from_secs(1_300_000_001);
        fs::File::open(source.join("large")).unwrap().set_modified(near).unwrap();
        assert_eq!(counts(&mirror(&world, trees, &["--modify-window", "2"]).succeeded()), [0, 46, 0, 0]);
    }
}

#[test]
fn what_is_too_much_is_deleted_only_when_that_is_asked_for() {
    let world = World::new();
    for (source, target, trees) in directions(&world) {
        fill(&source);
        mirror(&world, trees, &[]).succeeded();
        fs::create_dir_all(target.join("old/deep/deeper")).unwrap();
        for name in ["old/1", "old/deep/2", "old/deep/deeper/3", "a/4"] {
            fs::write(target.join(name), "old").unwrap();
        }
        symlink("../../large", target.join("old/deep/link")).unwrap();
        let kept = mirror(&world, trees, &[]).succeeded();
        assert_eq!(counts(&kept), [0, 45, 0, 0], "{}", kept.out);
        let dry = mirror(&world, trees, &["--delete", "--dry-run"]).succeeded();
        assert_eq!(counts(&dry), [0, 45, 8, 0], "{}", dry.out);
        fs::write(source.join("late"), "").unwrap();
        let refused = mirror(&world, trees, &["--delete", "--max-delete", "7"]);
        assert_eq!((refused.code, counts(&refused)), (Some(1), [1, 45, 0, 1]), "{refused:?}");
        assert!(refused.err.contains("8 names would be deleted, and --max-delete is 7: none is"));
        assert!(target.join("old/deep/deeper/3").exists() && target.join("a/4").exists());
        let deleted = mirror(&world, trees, &["--delete", "--max-delete", "8"]).succeeded();
        assert_eq!(counts(&deleted), [0, 46, 8, 0], "{}", deleted.out);
        assert_eq!(described(&target), described(&source));
        // An empty source is more often a mistake than a wish.
        fs::remove_dir_all(&source).unwrap();
        fs::create_dir(&source).unwrap();
        let refused = mirror(&world, trees, &["--delete"]);
        assert_eq!((refused.code, counts(&refused)), (Some(1), [0, 0, 0, 1]), "{refused:?}");
        assert!(refused.err.contains("is empty: --force lets it"), "{refused:?}");
        mirror(&world, trees, &["--delete", "--force"]).succeeded();
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }
}

#[test]
fn a_file_takes_the_place_of_a_directory_and_the_reverse() {
    let world = World::new();
    for (source, target, trees) in directions(&world) {
        fs::create_dir_all(source.join("dir/in/it")).unwrap();
        fs::write(source.join("dir/in/it/file"), "now a directory").unwrap();
        fs::write(source.join("file"), noise(2_000_000, 1)).unwrap();
        symlink("file", source.join("link")).unwrap();
        fs::create_dir(source.join("linked")).unwrap();
        fs::create_dir_all(target.join("file/full/of")).unwrap();
        fs::write(target.join("file/full/of/things"), "").unwrap();
        fs::write(target.join("dir"), "was a file").unwrap();
        fs::create_dir(target.join("link")).unwrap();
        symlink("dir", target.join("linked")).unwrap();
        let refused = mirror(&world, trees, &[]);
        assert_eq!((refused.code, counts(&refused)), (Some(1), [1, 0, 2, 2]), "{refused:?}");
        assert!(refused.err.contains("--delete replaces it") && target.join("file/full/of/things").exists());
        assert_eq!(fs::read(target.join("dir/in/it/file")).unwrap(), b"now a directory");
        let dry = mirror(&world, trees, &["--delete", "-n"]).succeeded();
        assert_eq!(counts(&dry), [2, 1, 5, 0], "{}", dry.out);
        let refused = mirror(&world, trees, &["--delete", "--max-delete", "4"]);
        assert_eq!((refused.code, target.join("file/full/of/things").exists()), (Some(1), true));
        let replaced = mirror(&world, trees, &["--delete"]).succeeded();
        assert_eq!(counts(&replaced), [2, 1, 5, 0], "{}", replaced.out);
        assert_eq!(described(&target), described(&source));
    }
}

#[test]
fn a_mirror_onto_itself_is_refused() {
    let world = World::new();
    let export = world.export();
    fs::create_dir_all(export.join("a/b")).unwrap();
    fs::write(export.join("a/b/file"), "precious").unwrap();
    fs::write(export.join("a/other"), "precious").unwrap();
    let before = described(&export);
    let path = |name: &str| export.join(name).to_str().unwrap().to_owned();
    let (a, b, new) = (path("a"), path("a/b"), path("a/b/new"));
    for trees in [
        ["@/a", &a],
        [&a, "@/a"],
        ["@/a", &b],
        [&b, "@/a"],
        [&a, "@/a/b"],
        ["@/a/b", &a],
        ["@/a", &new],
        [&a, "@/a/b/new"],
    ] {
        let refused = mirror(&world, trees, &["--delete", "--force"]);
        assert_eq!(refused.code, Some(1), "{trees:?} {refused:?}");
        assert!(refused.err.contains("is the target itself, or has it inside"), "{trees:?} {refused:?}");
        assert_eq!(described(&export), before, "{trees:?}");
    }
    // What only the walk can come by: the whole share lies within the tree of this machine.
    let whole = world.directory.path().to_str().unwrap().to_owned();
    let refused = mirror(&world, [&whole, "@/"], &["--delete"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let refused = mirror(&world, ["@/", &whole], &["--delete"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(fs::read(export.join("a/b/file")).unwrap(), b"precious");
}

#[test]
fn a_mirror_that_was_killed_goes_on_where_it_was() {
    const BYTES: usize = 48 << 20;
    let world = World::new();
    for (source, target, trees) in directions(&world) {
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("big"), noise(BYTES, 4)).unwrap();
        fs::write(source.join("small"), "small").unwrap();
        let mut slow = transfer(&world, &["mirror", "--limit-rate", "24M", trees[0], trees[1]]);
        let mut child = slow.spawn().unwrap();
        let half = || {
            let name = fs::read_dir(&target).ok()?.flatten().find_map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                name.ends_with(".journal").then_some(name)
            })?;
            // Each chunk of a MiB has 40 bytes in the journal.
            (target.join(name).metadata().ok()?.len() > 24 * 40).then_some(())
        };
        wait_for(PROMPT, half).expect("half of it arrives");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!target.join("big").exists());
        // Until its lease has run out the server takes the one that was killed for one that may come back.
        let went_on = wait_for(Duration::from_secs(60), || {
            let ended = mirror(&world, trees, &[]);
            (!ended.err.contains("is being uploaded by")).then_some(ended)
        });
        let (sum, _) = told(&went_on.expect("the server gives it up").succeeded());
        let (bytes, resumed) = (sum["bytes"].as_u64().unwrap(), sum["resumed_bytes"].as_u64().unwrap());
        assert!(bytes < BYTES as u64 * 55 / 100 && resumed > 0, "{sum}");
        assert_eq!(described(&target), described(&source));
        assert_eq!(counts(&mirror(&world, trees, &[]).succeeded()), [0, 2, 0, 0]);
    }
}

#[test]
fn a_shell_mirrors_both_ways_and_says_what_it_does() {
    let world = World::new();
    fill(&world.export().join("tree"));
    let script =
        "mirror /tree here; mirror -R --delete -v here /back; mirror -R -n here /nowhere; mirror /no x";
    let mut command = Command::new(nearfs().get_program());
    command.current_dir(world.directory.path()).args(["shell", &world.source(), "-c", script]);
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.err.contains("/no: no such file or directory"), "{ended:?}");
    for words in [
        "mirrors /tree to ",
        "45 files sent",
        "45 files sent (",
        "0 unchanged, 0 deleted, 0 failed",
        "make the directory /back",
        "would make the directory /nowhere/a/b",
        "nothing was done; it would be 45 files sent",
    ] {
        assert!(ended.out.contains(words), "{words:?} is not in {}", ended.out);
    }
    let (tree, back) = (world.export().join("tree"), world.export().join("back"));
    assert_eq!(described(&back), described(&tree));
    assert!(!world.export().join("nowhere").exists());
}
