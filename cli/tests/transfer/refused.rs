//! What cannot be done: each with a clear line, its code, and nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{PROMPT, Server, World, can_mount, run, wait_for};
use crate::{noise, staged, transfer};

/// The program as a user who may not do much, from where everybody may run it.
fn nobody(world: &World) -> Command {
    let program = world.directory.path().join("nearfs");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_nearfs"), &program).unwrap();
        fs::set_permissions(world.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    command
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_not_permitted_is_said_of_whichever_end_refuses_it() {
    let mut world = World::new();
    let export = world.export();
    for (name, mode) in [("secret", 0o600), ("notes", 0o644), ("large", 0o644)] {
        let bytes = if name == "large" { 3_000_000 } else { 10 };
        fs::write(export.join(name), noise(bytes, 1)).unwrap();
        set_mode(&export.join(name), mode);
        fs::write(world.directory.path().join(format!("my-{name}")), noise(bytes, 2)).unwrap();
    }
    fs::create_dir_all(export.join("closed/below")).unwrap();
    set_mode(&export.join("closed"), 0o700);
    set_mode(&export, 0o755);
    let closed = world.place("closed-here");
    fs::write(closed.join("here"), "mine").unwrap();
    set_mode(&closed, 0o555);
    world.server = Server::start(&mut nobody(&world), &export);
    for (arguments, says) in [
        (&["get", "@/secret", "x"][..], "/secret: permission denied"),
        (&["get", "@/closed", "x"], "/closed: permission denied"),
        (&["cat", "@/secret"], "/secret: permission denied"),
        (&["put", "my-notes", "@/new"], "/new: permission denied"),
        (&["put", "my-large", "@/new"], "/new: permission denied"),
        (&["put", "-f", "my-notes", "@/notes"], "/notes: permission denied"),
        (&["put", "closed-here", "@/new"], "/new: permission denied"),
        (&["put", "my-notes", "@/new/on/the/way"], "/new: permission denied"),
        (&["cp", "@/notes", "@/new"], "/new: permission denied"),
        (&["mirror", "closed-here", "@/new"], "/new: permission denied"),
        (&["check", "@/secret", "my-secret"], "/secret: permission denied"),
    ] {
        let ended = run(&mut transfer(&world, arguments));
        assert_eq!(ended.code, Some(1), "{arguments:?} {ended:?}");
        let refusal = format!("nearfs: {says}");
        assert!(ended.err.lines().any(|line| line == refusal), "{arguments:?} {ended:?}");
    }
    assert_eq!(fs::read(export.join("notes")).unwrap(), noise(10, 1));
    assert!(!export.join("new").exists() && staged(&export).is_empty());
    for (arguments, says) in [
        (&["get", "@/notes", "closed-here/x"][..], "closed-here/x: permission denied"),
        (&["get", "@/large", "closed-here/x"], "closed-here/x: permission denied"),
        (&["get", "-f", "@/notes", "closed-here/here"], "closed-here/here: permission denied"),
        (&["get", "@/notes", "closed-here/on/the/way"], "closed-here/on/the: permission denied"),
    ] {
        let words = transfer(&world, arguments);
        let ended = run(nobody(&world).current_dir(world.directory.path()).args(words.get_args()));
        assert_eq!(ended.code, Some(1), "{arguments:?} {ended:?}");
        let refusal = format!("nearfs: {says}");
        assert!(ended.err.lines().any(|line| line == refusal), "{arguments:?} {ended:?}");
    }
    assert_eq!(fs::read(closed.join("here")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 1);
}

#[test]
fn what_is_of_another_kind_is_not_taken_for_the_other() {
    let world = World::new();
    let (here, there) = (world.directory.path().to_owned(), world.export());
    for place in [&here, &there] {
        fs::create_dir_all(place.join("dir/below")).unwrap();
        fs::create_dir_all(place.join("holder/file")).unwrap();
        fs::write(place.join("file"), "file").unwrap();
    }
    for (arguments, code, says) in [
        (&["cat", "@/dir"][..], 1, "/dir is a directory"),
        (&["get", "@/dir", "file"], 1, "file is a file, and /dir is a directory"),
        (&["get", "-f", "@/dir", "file"], 1, "file is a file, and /dir is a directory"),
        (&["put", "dir", "@/file"], 1, "/file is a file, and dir is a directory"),
        (&["put", "-f", "dir", "@/file"], 1, "/file is a file, and dir is a directory"),
        (&["get", "-f", "@/file", "holder"], 1, "holder/file: is a directory"),
        (&["put", "-f", "file", "@/holder"], 1, "/holder/file: is a directory"),
        (&["get", "@/file", "file/below"], 1, "file"),
        (&["put", "file", "@/file/below"], 4, "/file/below: not a directory"),
        (&["mirror", "@/file", "dir"], 1, "/file: is a file, not a directory"),
        (&["mirror", "file", "@/dir"], 1, "file: is a file, not a directory"),
        (&["mirror", "dir", "@/file"], 1, "/file: is a file, not a directory"),
        (&["check", "@/dir", "file"], 5, "1 file differs"),
        (&["rmdir", "@/file"], 1, "/file is a file, not a directory"),
        (&["rm", "@/dir"], 1, "/dir is a directory"),
        (&["mv", "@/file", "@/file/below"], 4, "/file/below: not a directory"),
        (&["ls", "@/file/below"], 4, "/file/below: not a directory"),
    ] {
        let ended = run(&mut transfer(&world, arguments));
        assert_eq!(ended.code, Some(code), "{arguments:?} {ended:?}");
        assert!(
            ended.err.lines().any(|line| line.starts_with("nearfs: ") && line.contains(says)),
            "{ended:?}"
        );
    }
    for place in [&here, &there] {
        assert_eq!(fs::read(place.join("file")).unwrap(), b"file");
        assert!(place.join("dir/below").is_dir() && place.join("holder/file").is_dir());
        assert_eq!(staged(place), Vec::<String>::new());
    }
}

#[test]
fn nothing_goes_onto_itself() {
    let world = World::new();
    let export = world.export();
    fs::create_dir(export.join("tree")).unwrap();
    for (name, bytes) in [("small", 10), ("large", 3_000_000), ("tree/below", 20)] {
        fs::write(export.join(name), noise(bytes, 7)).unwrap();
    }
    fs::hard_link(export.join("small"), export.join("same")).unwrap();
    std::os::unix::fs::symlink("large", export.join("link")).unwrap();
    let path = |name: &str| export.join(name).to_str().unwrap().to_owned();
    for (source, target) in [("small", "small"), ("large", "large"), ("small", "same"), ("link", "large")] {
        let there = format!("@/{target}");
        let ended = run(&mut transfer(&world, &["put", "-f", &path(source), &there]));
        ended.refused(1, "is the target itself");
        let there = format!("@/{source}");
        let ended = run(&mut transfer(&world, &["get", "-f", &there, &path(target)]));
        ended.refused(1, "is the target itself");
        let ended = run(&mut transfer(&world, &["cp", "-f", &there, &format!("@/{target}")]));
        ended.refused(1, "is the target itself");
    }
    for arguments in [["get", "-f", "@/tree", &path("tree/..")], ["put", "-f", &path("tree"), "@/"]] {
        run(&mut transfer(&world, &arguments)).refused(1, "is the target itself");
    }
    let moved = run(&mut transfer(&world, &["mv", "@/small", "@/small"]));
    moved.refused(1, "is there already");
    for (name, bytes) in [("small", 10), ("same", 10), ("large", 3_000_000), ("tree/below", 20)] {
        assert_eq!(fs::read(export.join(name)).unwrap(), noise(bytes, 7), "{name}");
    }
    assert_eq!(staged(&export), Vec::<String>::new());
}

#[test]
fn what_old_protocols_took_for_an_end_is_content() {
    let world = World::new();
    let here = world.directory.path().to_owned();
    let contents: [&[u8]; 7] = [b"", &[b' '; 1024], b"-1", b"FIN", b"OK@", b"\0", b"\r\n.\r\n"];
    for content in contents {
        for name in ["got", "back"] {
            let _ = fs::remove_file(here.join(name));
        }
        fs::write(here.join("mine"), content).unwrap();
        run(&mut transfer(&world, &["put", "-f", "mine", "@/there"])).succeeded();
        run(&mut transfer(&world, &["get", "@/there", "got"])).succeeded();
        let cat = transfer(&world, &["cat", "@/there"]).output().unwrap();
        assert!(cat.status.success() && cat.stdout == content, "{content:?}: {cat:?}");
        run(&mut transfer(&world, &["cp", "-f", "@/there", "@/copy"])).succeeded();
        run(&mut transfer(&world, &["check", "@/copy", "mine"])).succeeded();
        run(&mut transfer(&world, &["mirror", "@/", "back"])).succeeded();
        for path in [here.join("got"), world.export().join("copy"), here.join("back/there")] {
            assert_eq!(fs::read(&path).unwrap(), content, "{}", path.display());
        }
        fs::remove_dir_all(here.join("back")).unwrap();
    }
}

#[test]
fn a_full_disk_here_and_there_is_said_and_leaves_nothing_under_a_name() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let (here, there) = (world.place("small"), world.export().join("small"));
    fs::create_dir(&there).unwrap();
    for place in [&here, &there] {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(place)).succeeded();
    }
    let tree = |at: &Path| {
        fs::create_dir(at.join("tree")).unwrap();
        (0..40)
            .for_each(|number| fs::write(at.join(format!("tree/{number}")), noise(500_000, number)).unwrap());
        fs::write(at.join("big"), noise(20 << 20, 1)).unwrap();
    };
    tree(world.directory.path());
    tree(&world.export());
    let commands: Vec<Vec<&str>> = vec![
        vec!["put", "big", "@/small/"],
        vec!["put", "tree", "@/small/"],
        vec!["cp", "@/big", "@/small/copy"],
        vec!["cp", "-r", "@/tree", "@/small/copied"],
        vec!["mirror", "tree", "@/small/mirrored"],
        vec!["get", "@/big", "small/"],
        vec!["get", "@/tree", "small/"],
        vec!["mirror", "@/tree", "small/mirrored"],
    ];
    let mut ended = Vec::new();
    for command in &commands {
        ended.push(run(&mut transfer(&world, command)));
        for place in [&here, &there] {
            // All that has its name is whole.
            for number in 0..40 {
                for directory in ["tree", "copied", "mirrored"] {
                    if let Ok(content) = fs::read(place.join(format!("{directory}/{number}"))) {
                        assert!(content == noise(500_000, number), "{command:?}: {directory}/{number}");
                    }
                }
            }
            assert!(!place.join("big").exists() && !place.join("copy").exists(), "{command:?}");
            for entry in fs::read_dir(place).unwrap().flatten() {
                let _ = fs::remove_dir_all(entry.path());
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    for place in [&here, &there] {
        run(Command::new("umount").arg("--lazy").arg(place)).succeeded();
    }
    for (command, ended) in commands.iter().zip(ended) {
        assert_eq!(ended.code, Some(1), "{command:?} {ended:?}");
        let is_here = command[0] == "get" || command[1] == "@/tree" && command[0] == "mirror";
        let words = if is_here { "no space left" } else { "the server's disk is full" };
        assert!(ended.err.contains(words), "{command:?} {ended:?}");
    }
}

#[test]
fn a_server_that_goes_away_for_good_ends_a_transfer_clearly() {
    const BYTES: usize = 48 << 20;
    let world = World::new();
    let here = world.directory.path().to_owned();
    fs::write(here.join("up"), noise(BYTES, 1)).unwrap();
    fs::write(world.export().join("down"), noise(BYTES, 2)).unwrap();
    fs::create_dir(world.export().join("tree")).unwrap();
    for number in 0..400 {
        fs::write(world.export().join(format!("tree/{number}")), noise(40_000, number)).unwrap();
    }
    let begin = |arguments: &[&str]| {
        let command = [&arguments[..1], &["-q", "--limit-rate", "2M"], &arguments[1..]].concat();
        transfer(&world, &command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut children =
        [begin(&["put", "up", "@/up"]), begin(&["get", "@/down", "got"]), begin(&["get", "@/tree", "trees"])];
    let are_begun = || {
        let begun = [staged(&here.join("export")), staged(&here)];
        let got_some = fs::read_dir(here.join("trees")).is_ok_and(|names| names.count() > 5);
        (begun.iter().all(|names| !names.is_empty()) && got_some).then_some(())
    };
    wait_for(PROMPT, are_begun).expect("they begin");
    world.server.signal("KILL");
    for child in &mut children {
        wait_for(Duration::from_secs(150), || child.try_wait().unwrap()).expect("it ends");
    }
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("nearfs: ")).count(), 1, "{said}");
    }
    assert!(!here.join("got").exists() && !world.export().join("up").exists());
    for number in 0..400 {
        if let Ok(content) = fs::read(here.join(format!("trees/{number}"))) {
            assert!(content == noise(40_000, number), "{number} has another content");
        }
    }
}
