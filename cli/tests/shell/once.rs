//! Verbs as commands of the program, and what scripts read.

use std::fs;
use std::process::Stdio;

use crate::site::{Site, objects};
use crate::support::run;

#[test]
fn each_verb_is_a_command() {
    let site = Site::new();
    assert!(site.once(&["ls", "@/docs"]).succeeded().out.ends_with("/docs: 1 directory, 2 files, 2.0 KiB\n"));
    assert_eq!(site.once(&["mkdir", "@/new"]).succeeded().out, "made the directory /new\n");
    assert_eq!(
        site.once(&["mv", "@/docs/a.txt", "z.txt"]).succeeded().out,
        "moved /docs/a.txt to /docs/z.txt (2.0 KiB)\n"
    );
    assert_eq!(
        site.once(&["mv", "@/docs/z.txt", "@/new"]).succeeded().out,
        "moved /docs/z.txt to /new/z.txt (2.0 KiB)\n"
    );
    assert_eq!(site.once(&["find", "@/", "-name", "*.txt", "-size", "+1K"]).succeeded().out, "/new/z.txt\n");
    assert!(site.once(&["stat", "@/notes"]).succeeded().out.starts_with("/notes\n"));
    assert!(site.once(&["du", "@/docs"]).succeeded().out.contains("2 files of 2 B"));
    assert!(site.once(&["df", "@/"]).succeeded().out.contains('%'));
    assert_eq!(site.once(&["rm", "@/notes"]).succeeded().out, "removed /notes (6 B)\n");
    assert_eq!(site.once(&["rmdir", "@/empty"]).succeeded().out, "removed the empty directory /empty\n");
    assert_eq!(
        site.once(&["rm", "-r", "@/docs"]).succeeded().out,
        "removed /docs: 2 directories and 2 files, 2 B\n"
    );
}

#[test]
fn patterns_are_matched_and_names_that_look_like_one_are_found() {
    let site = Site::new();
    fs::write(site.export().join("a[1].txt"), "").unwrap();
    fs::write(site.export().join("a1.txt"), "").unwrap();
    let out = site.once(&["find", "@/docs/*.txt"]).succeeded().out;
    assert_eq!(out, "/docs/a.txt\n/docs/b.txt\n");
    assert_eq!(site.once(&["rm", "@/a[1].txt"]).succeeded().out, "removed /a[1].txt (0 B)\n");
    assert_eq!(site.once(&["rm", "@/a[1].txt"]).succeeded().out, "removed /a1.txt (0 B)\n");
    site.once(&["ls", "@/*.none"]).refused(4, "nothing of that name");
}

#[test]
fn exit_codes_tell_what_failed() {
    let site = Site::new();
    site.once(&["ls", "@/missing"]).refused(4, "/missing: no such file or directory");
    site.once(&["mkdir", "@/docs"]).refused(1, "exists already");
    site.once(&["ls", "notes"]).refused(2, "\"notes\" is no source");
    site.once(&["ls"]).refused(2, "SOURCE");
    site.once(&["mv", "@/notes", "nearfs://127.0.0.2/x"]).refused(2, "two servers");
    site.once(&["ls", "nearfs://127.0.0.1:1/"]).refused(3, "refused the connection");
    site.once(&["ls", "nearfs://192.0.2.1/"]).refused(3, "another machine");
    let ended = site.once(&["rm", "@/notes", "@/missing"]);
    assert_eq!((ended.code, site.exists("notes")), (Some(1), false), "some of it failed: {ended:?}");
}

#[test]
fn exit_codes_are_the_same_for_every_verb() {
    // What is missing is named by the first argument, or by the last one where that is the server's.
    for arguments in [
        &["ls", "@/missing"][..],
        &["get", "@/missing"],
        &["download", "@/missing", "here"],
        &["put", "missing", "@/x"],
        &["upload", "missing", "@/x"],
        &["cat", "@/missing"],
        &["rm", "@/missing"],
        &["mv", "@/missing", "x"],
        &["mkdir", "@/missing/x"],
        &["rmdir", "@/missing"],
        &["stat", "@/missing"],
        &["du", "@/missing"],
        &["find", "@/missing"],
        &["df", "@/missing"],
        &["check", "@/missing", "mine"],
        &["cp", "@/missing", "@/x"],
        &["copy", "@/missing", "@/x"],
        &["mirror", "@/missing", "here"],
        &["mirror", "missing", "@/x"],
    ] {
        let site = Site::new();
        fs::write(site.home().join("mine"), "mine").unwrap();
        let missing = site.once(arguments);
        assert_eq!(missing.code, Some(4), "{missing:?}");
        assert!(missing.err.starts_with("nearfs: ") && missing.err.contains("missing"), "{missing:?}");
        let source = site.world.source();
        let nowhere =
            arguments.iter().map(|argument| argument.replace("@/missing", "nearfs://127.0.0.1:1/x"));
        let nowhere: Vec<String> =
            nowhere.map(|argument| argument.replace("@/x", "nearfs://127.0.0.1:1/x")).collect();
        let ended = run(site.nearfs().args(&nowhere));
        ended.refused(3, "refused the connection");
        run(site.nearfs().arg(arguments[0])).refused(2, "");
        run(site.nearfs().args([arguments[0], "--no-such-option", &source])).refused(2, "");
    }
}

#[test]
fn scripts_read_an_object_a_line() {
    let site = Site::new();
    let listed = objects(&site.once(&["ls", "--json", "@/docs"]).succeeded().out);
    let names: Vec<&str> = listed.iter().map(|object| object["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a.txt", "b.txt", "deep"]);
    assert_eq!((&listed[0]["size"], &listed[0]["kind"]), (&2048.into(), &"file".into()));
    let ended = site.once(&["rm", "--json", "@/notes"]).succeeded();
    assert_eq!(objects(&ended.out)[0]["bytes"], 6);
    assert_eq!(ended.err, "removed /notes (6 B)\n", "people read the other stream");
    let ended = site.once(&["rm", "--json", "@/missing"]);
    assert_eq!(objects(&ended.out)[0]["code"], 4);
    assert_eq!(ended.code, Some(4));
    let found = objects(&site.once(&["find", "--json", "@/", "-type", "l"]).succeeded().out);
    assert_eq!((found.len(), &found[0]["kind"]), (1, &"symlink".into()));
    assert_eq!(objects(&site.once(&["stat", "--json", "@/link"]).succeeded().out)[0]["target"], "docs/a.txt");
    assert_eq!(objects(&site.once(&["du", "--json", "@/docs"]).succeeded().out)[0]["files"], 3);
    assert!(objects(&site.once(&["df", "--json", "@/"]).succeeded().out)[0]["free"].as_u64().unwrap() > 0);
}

#[test]
fn whoever_has_read_enough_is_no_error() {
    let site = Site::empty();
    (0..3000).for_each(|number| fs::write(site.export().join(format!("a-long-name-{number}")), "").unwrap());
    let mut command = std::process::Command::new("sh");
    let program = format!("'{}' ls {} | head -n 1", env!("CARGO_BIN_EXE_nearfs"), site.world.source());
    let ended = run(command.args(["-c", &program]).stdin(Stdio::null()));
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("        0 B  a-long-name-0\n", ""));
}

#[test]
fn every_verb_tells_scripts_objects_and_people_the_rest() {
    let site = Site::new();
    fs::write(site.home().join("here"), "here").unwrap();
    let (host, port) = site.server();
    for verb in [
        "pwd",
        "cd docs",
        "ls",
        "ls -R",
        "find",
        "find -name '*.txt'",
        "size notes",
        "stat link",
        "du",
        "df",
        "status",
        "who",
        "kick --all",
        "mkdir made",
        "mkdir -p a/b",
        "rmdir empty",
        "mv notes moved",
        "rm notes",
        "rm -r docs",
        "rm -n notes",
        "get notes",
        "reget notes",
        "put here",
        "reput here",
        "check notes here",
        "cp notes copy",
        "cp -r docs tree",
        "mirror docs mirrored",
        "mirror -R . mirrored",
        "lpwd",
        "lls",
        "lls here",
        "lcd .",
        "help",
        "help rm",
        "set",
        "disconnect",
        "ls missing",
        "mv missing x",
        "get missing",
        "cd missing",
        "lcd missing",
    ] {
        let site = Site::new();
        fs::write(site.home().join("here"), "here").unwrap();
        let ended = site.shell(&format!("{verb} --json"));
        assert!(!objects(&ended.out).is_empty(), "{verb}: {ended:?}");
        assert!(ended.err.lines().all(|line| !line.starts_with('{')), "{verb}: {ended:?}");
        let is_to_fail = verb.contains("missing") || verb.starts_with("check");
        assert_eq!(ended.code != Some(0), is_to_fail, "{verb}: {ended:?}");
    }
    let connect = format!("connect --json {host} {port}");
    let ended = run(site.nearfs().args(["shell", "-c", &connect])).succeeded();
    assert_eq!(objects(&ended.out)[0]["directory"], "/", "{ended:?}");
    site.shell("cat --json notes").refused(2, "cat writes contents as they are");
    let found = objects(&site.once(&["find", "@/docs", "-type", "d", "--json"]).succeeded().out);
    assert_eq!((found.len(), &found[1]["path"]), (2, &"/docs/deep".into()), "also behind the tests");
}
