//! Each verb by each of its names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::site::Site;
use crate::support::Ended;

/// Runs the same commands with each name in the place of `VERB`, on a fresh site each, and wants the same of all.
fn for_each_name(names: &[&str], commands: &str, expected: &str) {
    for name in names {
        let site = Site::new();
        let ended = site.shell(&commands.replace("VERB", name)).succeeded();
        assert_eq!(ended.out.replace(&site.world.server.address, "SERVER"), expected, "{name}: {ended:?}");
        assert_eq!(ended.err, "", "{name}");
    }
}

#[test]
fn listing_tells_sizes_kinds_and_the_total() {
    let expected = "    2.0 KiB  a.txt\n        1 B  b.txt\n          -  deep/\n\
        /docs: 1 directory, 2 files, 2.0 KiB\n";
    for_each_name(&["ls", "dir", "list", "fetch"], "VERB docs", expected);
}

#[test]
fn listings_are_long_sorted_and_recursive() {
    let site = Site::new();
    fs::set_permissions(site.export().join("notes"), fs::Permissions::from_mode(0o640)).unwrap();
    let out = site.shell("ls -l").succeeded().out;
    let notes = out.lines().find(|line| line.ends_with("  notes")).unwrap();
    assert!(notes.starts_with("-rw-r-----   1 ") && notes.contains("        6 B  20"), "{notes}");
    assert!(out.lines().any(|line| line.ends_with("  link@ -> docs/a.txt")), "{out}");
    let names = |commands: &str| {
        let out = site.shell(commands).succeeded().out;
        let listed: Vec<String> =
            out.lines().filter_map(|line| Some(line.rsplit_once("  ")?.1.to_owned())).collect();
        listed.join(" ")
    };
    assert_eq!(names("ls -r docs"), "deep/ b.txt a.txt");
    assert_eq!(names("ls --sort size docs -r"), "b.txt a.txt deep/");
    assert_eq!(names("ls -R docs"), "a.txt b.txt deep/ c.txt");
    std::os::unix::fs::symlink("docs", site.export().join("to_docs")).unwrap();
    assert_eq!(names("ls -R to_docs"), "a.txt b.txt deep/ c.txt");
    fs::write(site.export().join("docs/.hidden"), "").unwrap();
    assert_eq!(names("ls docs"), "a.txt b.txt deep/");
    assert_eq!(names("ls -a docs"), ".hidden a.txt b.txt deep/");
    assert_eq!(names("ls docs/*.txt"), "/docs/a.txt /docs/b.txt");
    let out = site.shell("ls docs/*.txt empty").succeeded().out;
    assert!(out.ends_with("/empty:\n/empty is empty\n0 directories, 2 files, 2.0 KiB\n"), "{out}");
}

#[test]
fn an_empty_directory_a_missing_one_and_a_file_are_told_apart() {
    let site = Site::new();
    assert_eq!(site.shell("ls empty").succeeded().out, "/empty is empty\n");
    assert!(site.shell("ls notes").succeeded().out.contains("/notes is a file of 6 B\n"));
    site.shell("ls missing").refused(4, "/missing: no such file or directory");
    site.shell("cd missing").refused(4, "/missing: no such file or directory");
    site.shell("cd notes").refused(1, "/notes is a file, not a directory");
    site.shell("ls notes/x").refused(4, "/notes/x: not a directory");
}

#[test]
fn one_goes_about_there() {
    let expected = "in /docs\nin /docs/deep\n/docs/deep\nin /docs\nin /docs/deep\nin /\n/\n";
    for_each_name(&["cd", "chdir"], "VERB docs; VERB deep; pwd; VERB ..; VERB -; VERB; pwd", expected);
}

#[test]
fn one_goes_about_here() {
    let site = Site::new();
    fs::create_dir(site.home().join("here")).unwrap();
    fs::write(site.home().join("here/file"), "12345").unwrap();
    let home = site.home().display().to_string();
    let out = site.shell("lcd here; lpwd; lls; lcd -; lls here/f*; lcd; lcd ~/here").succeeded().out;
    let expected = format!(
        "here in {home}/here\n{home}/here\n        5 B  file\n.: 1 entry, 5 B\nhere in {home}\n        5 B  here/file\n\
         here in {home}\nhere in {home}/here\n"
    );
    assert_eq!(out, expected);
    site.shell("lcd here/file").refused(1, "is a file of this machine");
    site.shell("lcd missing").refused(4, "missing: no such file or directory");
}

#[test]
fn files_are_removed_by_every_name() {
    for_each_name(
        &["rm", "delete", "remove"],
        "VERB notes docs/b.txt",
        "removed /notes (6 B)\nremoved /docs/b.txt (1 B)\n",
    );
}

#[test]
fn trees_are_removed_only_when_that_is_asked_for() {
    let site = Site::new();
    site.shell("rm docs").refused(1, "/docs is a directory; use rm -r");
    site.shell("rm missing").refused(4, "/missing: no such file or directory");
    site.shell("rm -r /").refused(1, "cannot be removed");
    let out = site.shell("rm -r -n docs").succeeded().out;
    assert!(out.starts_with("would remove the directory /docs") && site.exists("docs/a.txt"), "{out}");
    let out = site.shell("rm -r docs").succeeded().out;
    assert_eq!(out, "removed /docs: 2 directories and 3 files, 2.0 KiB\n");
    assert!(!site.exists("docs"));
    site.shell("rm -f missing; rm -f *.none").succeeded();
    assert_eq!(site.shell("rm link").succeeded().out, "removed the symbolic link /link\n");
}

#[test]
fn names_that_matter_to_each_other_are_dealt_with_one_after_the_other() {
    let site = Site::new();
    let export = site.export();
    for directory in ["one", "two", "to", "behind", "a/b"] {
        fs::create_dir_all(export.join(directory)).unwrap();
    }
    for file in ["same", "one/same", "two/same", "behind/x", "a/b/c"] {
        fs::write(export.join(file), file).unwrap();
    }
    for (target, link) in [("behind", "way"), ("behind", "first"), ("first", "second")] {
        std::os::unix::fs::symlink(target, export.join(link)).unwrap();
    }
    let outcome = |command: &str| {
        let Ended { code, out, err, .. } = site.shell(command);
        (code.unwrap(), out, err)
    };
    for (command, out, err) in [
        ("rm same same", "removed /same (4 B)\n", "/same: no such file or directory"),
        ("rm way way/x", "removed the symbolic link /way\n", "/way/x: no such file or directory"),
        ("rm first second/x", "removed the symbolic link /first\n", "/second/x: no such file or directory"),
        (
            "mv one/same two/same to",
            "moved /one/same to /to/same (8 B)\n",
            "/to/same exists already; mv -f replaces it",
        ),
        (
            "mv to/same two/same one",
            "moved /to/same to /one/same (8 B)\n",
            "/one/same exists already; mv -f replaces it",
        ),
        ("mv a a/b/c to", "moved /a to /to/a/\n", "/a/b/c does not exist"),
        (
            "rm -r to/a to/a/b",
            "removed /to/a: 2 directories and 1 file, 5 B\n",
            "/to/a/b: no such file or directory",
        ),
    ] {
        assert_eq!(outcome(command), (1, out.into(), format!("nearfs: {err}\n")), "{command}");
    }
    assert!(site.exists("behind/x") && site.exists("two/same") && site.exists("one/same"));
    let out = site.shell("mv -f one/same two/same to; mv to/same to/same one").out;
    assert_eq!(out.lines().count(), 3, "{out}");
    assert_eq!(fs::read(export.join("one/same")).unwrap(), b"two/same", "the last one stays");
}

#[test]
fn large_trees_are_removed_whole() {
    let site = Site::empty();
    for directory in 0..3 {
        let directory = site.export().join(format!("tree/{directory}"));
        fs::create_dir_all(&directory).unwrap();
        (0..3000).for_each(|number| fs::write(directory.join(format!("file-{number:05}")), "x").unwrap());
    }
    let mut remove = site.nearfs();
    remove.args(["shell", &site.world.source(), "-c", "rm -r tree"]);
    // Many names on a disk that is busy with the files of other tests.
    let out = crate::support::run_within(&mut remove, Duration::from_secs(180)).succeeded().out;
    assert_eq!(out, "removed /tree: 4 directories and 9000 files, 8.8 KiB\n");
    assert!(!site.exists("tree"));
}

#[test]
fn trees_that_are_too_deep_are_told_of_and_reached_piece_by_piece() {
    let site = Site::new();
    let limit = format!("deep/{}d", "d/".repeat(512));
    fs::create_dir_all(site.export().join(&limit).join("d")).unwrap();
    let refusal = format!("/{limit}: more than 512 directories below what was named; name it by itself");
    for verb in ["ls -R", "find", "du"] {
        let ended = site.shell(&format!("{verb} deep"));
        assert_eq!((ended.code, ended.err), (Some(1), format!("nearfs: {refusal}\n")), "{verb}");
    }
    let sum = site.shell("du deep").out;
    assert!(sum.ends_with("/deep  (0 files of 0 B in 514 directories)\n"), "{sum}");
    site.shell("rm -r deep").refused(1, "more than 512 directories below what was named");
    site.shell(&format!("rm -r {limit}; rm -r deep")).succeeded();
    assert!(!site.exists("deep"));
}

#[test]
fn directories_are_made_and_removed() {
    let site = Site::new();
    let out = site.shell("mkdir new; mkdir -p a/b/c; mkdir -p a; rmdir new").succeeded().out;
    assert_eq!(
        out,
        "made the directory /new\nmade the directory /a\nmade the directory /a/b\nmade the directory /a/b/c\n\
         /a is there already\nremoved the empty directory /new\n"
    );
    assert!(site.exists("a/b/c") && !site.exists("new"));
    site.shell("mkdir docs").refused(1, "/docs exists already, it is a directory");
    site.shell("mkdir notes").refused(1, "/notes exists already, it is a file");
    site.shell("mkdir x/y").refused(4, "/x does not exist; mkdir -p makes it too");
    site.shell("rmdir docs").refused(1, "/docs is not empty; use rm -r");
    site.shell("rmdir notes").refused(1, "/notes is a file, not a directory");
    site.shell("rmdir missing").refused(4, "no such file or directory");
    site.shell("mkdir -m 700 private").succeeded();
    let mode = fs::metadata(site.export().join("private")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn files_are_renamed_by_every_name() {
    let expected = "moved /notes to /renamed (6 B)\nmoved /renamed to /docs/renamed (6 B)\n";
    for_each_name(&["mv", "move", "rename", "change"], "VERB notes renamed; VERB renamed docs", expected);
}

#[test]
fn a_move_says_what_is_in_its_way() {
    let site = Site::new();
    site.shell("mv missing x").refused(4, "/missing does not exist");
    site.shell("mv notes docs/a.txt").refused(1, "/docs/a.txt exists already; mv -f replaces it");
    site.shell("mv notes nowhere/x").refused(4, "the directory of /nowhere/x does not exist");
    site.shell("mv docs docs/deep").refused(1, "/docs cannot be moved into itself");
    site.shell("mv notes link x")
        .refused(1, "several things go only into a directory, and /x does not exist");
    site.shell("mv notes notes").refused(1, "/notes is there already");
    assert!(site.exists("notes"));
    site.shell("mv -f notes docs/a.txt").succeeded();
    assert_eq!(fs::read(site.export().join("docs/a.txt")).unwrap(), b"hello\n");
    let out = site.shell("mv docs/*.txt empty").succeeded().out;
    assert_eq!(out, "moved /docs/a.txt to /empty/a.txt (6 B)\nmoved /docs/b.txt to /empty/b.txt (1 B)\n");
}

#[test]
fn attributes_are_told() {
    let site = Site::new();
    assert_eq!(
        site.shell("size notes docs/a.txt").succeeded().out,
        "/notes: 6 B (6 bytes)\n/docs/a.txt: 2.0 KiB (2048 bytes)\n"
    );
    site.shell("size docs").refused(1, "/docs is a directory; du tells what is in it");
    let out = site.shell("stat link").succeeded().out;
    assert!(out.starts_with("/link -> docs/a.txt\n  kind      symlink, node "), "{out}");
    let out = site.shell("stat -L link").succeeded().out;
    assert!(out.contains("  kind      file") && out.contains("2.0 KiB (2048 bytes)"), "{out}");
    assert!(out.contains("\n  modified  20"), "{out}");
}

#[test]
fn the_use_of_the_disk_is_told() {
    let site = Site::new();
    let out = site.shell("du -d 1 docs").succeeded().out;
    let lines: Vec<&str> = out.lines().map(str::trim_start).collect();
    assert!(lines[0].ends_with("/docs/deep  (1 file of 1 B in 1 directory)"), "{out}");
    assert!(lines[1].ends_with("/docs  (3 files of 2.0 KiB in 2 directories)"), "{out}");
    assert_eq!(lines.len(), 2);
    let out = site.shell("df").succeeded().out;
    assert!(out.contains("free") && out.trim_end().ends_with("%  /"), "{out}");
}

#[test]
fn names_are_found() {
    let site = Site::new();
    let found = |commands: &str| {
        let mut lines: Vec<String> =
            site.shell(commands).succeeded().out.lines().map(str::to_owned).collect();
        lines.sort();
        lines.join(" ")
    };
    assert_eq!(found("find -name '*.txt'"), "/docs/a.txt /docs/b.txt /docs/deep/c.txt");
    assert_eq!(found("find docs -type d"), "/docs /docs/deep");
    assert_eq!(found("find . -size +1K"), "/docs/a.txt");
    assert_eq!(found("find docs -maxdepth 1 -type f -size -1K"), "/docs/b.txt");
    assert_eq!(found("find -type l"), "/link");
    assert_eq!(found("find --iname 'A.*' -mtime -1"), "/docs/a.txt");
    assert_eq!(found("find -mtime +1"), "");
    site.shell("find -nmae x").refused(2, "there is no test -nmae");
    site.shell("find -size x").refused(2, "cannot be");
}

#[test]
fn one_connects_and_leaves_by_every_name() {
    for (connect, disconnect) in [("connect", "disconnect"), ("open", "close"), ("connme", "byebye")] {
        let site = Site::new();
        let (host, port) = site.server();
        let script = format!("{connect} {host} {port}; pwd; {disconnect}; -pwd; {connect} {host}:{port}");
        let ended = crate::support::run(site.nearfs().args(["shell", "-c", &script])).succeeded();
        let server = &site.world.server.address;
        let expected = format!(
            "connected to {server}, in /\n/\ndisconnected from {server}\nconnected to {server}, in /\n"
        );
        assert_eq!(ended.out, expected, "{ended:?}");
        assert_eq!(ended.err, "nearfs: not connected; use `connect HOST [PORT]` first\n");
    }
}

#[test]
fn who_is_connected_is_told_to_disconnect_first() {
    let site = Site::new();
    let (host, port) = site.server();
    site.shell(&format!("connect {host} {port}")).refused(1, "use `disconnect` first");
}

#[test]
fn every_verb_without_a_connection_names_connect() {
    let site = Site::new();
    for verb in [
        "ls",
        "pwd",
        "cd x",
        "rm x",
        "mkdir x",
        "rmdir x",
        "mv x y",
        "size x",
        "stat x",
        "du",
        "df",
        "find",
        "get x",
        "reget x",
        "put .",
        "reput .",
        "cat x",
        "check x y",
        "cp x y",
        "mirror x y",
        "mirror -R . y",
        "status",
        "who",
        "kick 1",
        "disconnect",
    ] {
        crate::support::run(site.nearfs().args(["shell", "-c", verb]))
            .refused(3, "use `connect HOST [PORT]`");
    }
    // Others need none.
    let ended =
        crate::support::run(site.nearfs().args(["shell", "-c", "lpwd; lls; lcd .; help; history; set"]));
    ended.succeeded();
}

#[test]
fn the_shell_is_left_by_every_name() {
    for name in ["exit", "quit", "bye"] {
        let site = Site::new();
        assert_eq!(site.shell(&format!("pwd; {name}; pwd")).succeeded().out, "/\n", "{name}");
    }
}

#[test]
fn the_state_of_the_connection_is_told() {
    let site = Site::new();
    let out = site.shell("cd docs; status").succeeded().out;
    assert!(out.contains(&format!("server      {}, connected\n", site.world.server.address)), "{out}");
    assert!(out.contains("directory   /docs\n") && out.contains("acts as one user"), "{out}");
    let out = site.shell("status --json").succeeded().out;
    let status = &crate::site::objects(&out)[0];
    assert_eq!(status["connected"], true);
    assert_eq!(status["server"], site.world.server.address.as_str());
}

#[test]
fn who_is_connected_is_told_and_ended() {
    let site = Site::new();
    let mut other = crate::terminal::Terminal::start(site.nearfs().args(["shell", &site.world.source()]));
    other.ends_with(&site.prompt("/"));
    let out = site.shell("who").succeeded().out;
    assert!(out.ends_with("2 clients\n") && out.contains(", which is you\n"), "{out}");
    let clients = crate::site::objects(&site.shell("who --json").succeeded().out);
    let other_id = clients.iter().find(|client| client["own"] == false).unwrap()["id"].as_u64().unwrap();
    assert_eq!(clients[0]["address"].as_str().unwrap().split(':').next(), Some("127.0.0.1"));
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(clients[0]["uid"], uid);
    let line = out.lines().find(|line| line.trim_start().starts_with(&format!("{other_id} "))).unwrap();
    let since = clients.iter().find(|client| client["id"] == other_id).unwrap()["since"].as_str().unwrap();
    // Day and hour, which both have in common with few exceptions a year.
    let words = [&since[..10], &format!("uid {uid} "), "127.0.0.1:", "shell)"];
    assert!(words.iter().all(|words| line.contains(words)), "{words:?} {line}");
    site.shell("kick 999999").refused(4, "nobody with the id 999999 is connected");
    site.shell("kick").refused(2, "see `help kick`");
    let out = site.shell(&format!("kick {other_id}")).succeeded().out;
    assert_eq!(out, format!("ended the connection of client {other_id}\n"));
    other.type_line("ls");
    other.shows("/: the connection was lost for good");
    other.type_line("disconnect");
    other.ends_with("nearfs not connected>");
    assert_eq!(site.shell("kick --all").succeeded().out, "ended the connections of 0 other clients\n");
    let start = || crate::terminal::Terminal::start(site.nearfs().args(["shell", &site.world.source()]));
    let mut others = [start(), start()];
    others.iter().for_each(|other| other.ends_with(&site.prompt("/")));
    assert_eq!(site.shell("kick --all").succeeded().out, "ended the connections of 2 other clients\n");
    for other in &mut others {
        other.type_line("pwd; ls");
        other.shows("/: the connection was lost for good");
    }
}

#[test]
fn help_tells_of_all_verbs_and_of_one() {
    let site = Site::new();
    for name in ["help", "?"] {
        let out = site.shell(name).succeeded().out;
        for words in ["connect, open, connme", "rm, delete, remove", "mv, move, rename, change", "Looking"] {
            assert!(out.contains(words), "{words} is not in {out}");
        }
    }
    let out = site.shell("help rename").succeeded().out;
    assert!(out.contains("--force") && out.ends_with("The same: move, rename, change\n"), "{out}");
    let out = site.shell("rm --help").succeeded().out;
    assert!(site.shell("help rm").succeeded().out.starts_with(out.trim_end()), "{out}");
    site.shell("help renmae").refused(2, "did you mean rename?");
}

#[test]
fn files_come_and_go_by_every_name() {
    for (get, put) in [("get", "put"), ("download", "upload"), ("reget", "reput"), ("get -c", "put -c")] {
        let site = Site::new();
        let out = site
            .shell(&format!("{get} notes; {put} notes there; cd docs; {get} *.txt new/; {put} new back"))
            .succeeded()
            .out;
        let sums: Vec<&str> = out.lines().filter_map(|line| line.split(" in ").next()).collect();
        let home = site.home().display().to_string();
        let expected = [
            &format!("to {home}/notes: 1 file, 6 B"),
            "to /there: 1 file, 6 B",
            "in /docs",
            &format!("to {home}/new/: 2 files, 2.0 KiB"),
            "to /docs/back: 2 files, 2.0 KiB",
        ];
        assert_eq!(sums, expected, "{out}");
        assert_eq!(fs::read(site.home().join("notes")).unwrap(), b"hello\n", "{get}");
        assert!(
            site.exists("there") && site.exists("docs/back/a.txt") && site.exists("docs/back/b.txt"),
            "{put}"
        );
    }
}

#[test]
fn contents_are_shown_one_after_the_other() {
    let site = Site::new();
    assert_eq!(site.shell("cat notes docs/b.txt").succeeded().out, "hello\nb");
    let ended = site.shell("cat missing notes docs");
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), "hello\n"), "{ended:?}");
    assert!(
        ended.err.contains("/missing: no such file") && ended.err.contains("/docs is a directory"),
        "{ended:?}"
    );
    site.shell("cat missing").refused(4, "/missing: no such file or directory");
}
