//! Odd names, and links.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::site::{Site, objects};

/// Names that break what is careless: how they are written at the prompt, and what people see of them.
const ODD: [(&[u8], &str, &str); 9] = [
    (b"two words", "'two words'", "two words"),
    (b"new\nline", "$'new\\nline'", "new\\nline"),
    (b"it's", "\"it's\"", "it's"),
    (b"say \"x\"", "'say \"x\"'", "say \"x\""),
    (b"-rf", "'-rf'", "-rf"),
    (b"\xff\xe9", "$'\\xff\\xe9'", "\\xff\\xe9"),
    (b"*", "\\*", "*"),
    (b"a;b|c>d", "a\\;b\\|c\\>d", "a;b|c>d"),
    (b"\x1b[31mred", "$'\\e[31mred'", "\\u{1b}[31mred"),
];

#[test]
fn odd_names_are_written_listed_moved_and_removed() {
    for (name, written, shown) in ODD {
        let site = Site::empty();
        fs::write(site.export().join("innocent"), "").unwrap();
        let path = site.export().join(OsStr::from_bytes(name));
        fs::write(&path, "abc").unwrap();
        let out = site.shell("ls").succeeded().out;
        assert!(out.lines().any(|line| line == format!("        3 B  {shown}")), "{shown} is not in {out}");
        assert_eq!(
            site.shell(&format!("size {written}")).succeeded().out,
            format!("/{shown}: 3 B (3 bytes)\n")
        );
        site.shell(&format!("mv {written} plain; mv plain {written}")).succeeded();
        assert!(path.exists(), "{shown}");
        let out = site.shell(&format!("rm {written}; mkdir {written}; rmdir {written}")).succeeded().out;
        assert!(out.starts_with(&format!("removed /{shown} (3 B)\n")), "{out}");
        assert!(!path.exists() && site.exists("innocent"), "{shown}");
    }
}

#[test]
fn odd_names_are_downloaded_and_uploaded() {
    for (name, written, shown) in ODD {
        let site = Site::empty();
        let (here, there) = (OsStr::from_bytes(name), site.export().join(OsStr::from_bytes(name)));
        let here = site.home().join(here);
        fs::write(&there, "abc").unwrap();
        site.shell(&format!("get {written}")).succeeded();
        assert_eq!(fs::read(&here).unwrap(), b"abc", "{shown}");
        let ended = site.shell(&format!("get {written}"));
        let ended =
            ended.refused(1, &format!("./{shown} already exists; -f replaces it, and ./{shown}.1 is free"));
        assert!(ended.err.trim_end().chars().all(|c| !c.is_control()), "{ended:?}");
        fs::remove_file(&there).unwrap();
        site.shell(&format!("put {written}; check {written} {written}")).succeeded();
        assert_eq!(fs::read(&there).unwrap(), b"abc", "{shown}");
        let ended = site.shell(&format!("put {written}")).refused(1, &format!("/{shown} already exists"));
        assert!(ended.err.trim_end().chars().all(|c| !c.is_control()), "{ended:?}");
        assert_eq!(site.shell(&format!("cat {written}")).succeeded().out, "abc", "{shown}");
        fs::create_dir(site.home().join("tree")).unwrap();
        fs::rename(&here, site.home().join("tree").join(OsStr::from_bytes(name))).unwrap();
        let ended = site.shell(&format!("put tree/* . ; put tree/{written} tree2/"));
        assert!(ended.err.chars().all(|c| c == '\n' || !c.is_control()), "{ended:?}");
    }
}

#[test]
fn scripts_get_names_that_are_no_text_in_bytes() {
    let site = Site::empty();
    fs::write(site.export().join(OsStr::from_bytes(b"\xff")), "").unwrap();
    let listed = objects(&site.once(&["ls", "--json", "@/"]).succeeded().out);
    assert_eq!(listed[0]["path_bytes"], serde_json::json!([b'/', 0xff]));
}

#[test]
fn two_dashes_end_the_options() {
    let site = Site::empty();
    fs::write(site.export().join("-x"), "").unwrap();
    site.shell("size -x").refused(2, "see `help size`");
    site.shell("size -- -x").succeeded();
    site.shell("rm ./-x").succeeded();
    assert!(!site.exists("-x"));
}

#[test]
fn links_are_followed_within_the_share_only() {
    let site = Site::new();
    let export = site.export();
    std::os::unix::fs::symlink("../docs", export.join("empty/up")).unwrap();
    std::os::unix::fs::symlink("/etc", export.join("out")).unwrap();
    std::os::unix::fs::symlink("../../etc", export.join("docs/away")).unwrap();
    std::os::unix::fs::symlink("circle", export.join("circle")).unwrap();
    assert_eq!(site.shell("size link; size empty/up/b.txt").succeeded().out.lines().count(), 2);
    site.shell("ls out").refused(1, "/out: the symbolic link /out leads out of the share, to /etc");
    site.shell("ls out/passwd").refused(1, "leads out of the share");
    site.shell("cd docs/away").refused(1, "leads out of the share, to ../../etc");
    site.shell("size circle").refused(1, "too many symbolic links");
    site.shell("rm out circle docs/away").succeeded();
    assert_eq!(site.shell("cd ../../..; pwd").succeeded().out, "in /\n/\n", "nothing is above the root");
    site.shell("size ../../../etc/passwd").refused(4, "/etc/passwd: no such file");
}

#[test]
fn names_that_cannot_be_are_refused() {
    let site = Site::new();
    site.shell(&format!("size {}", "x".repeat(256))).refused(1, "longer than 255 bytes");
    site.shell("mkdir $'a\\x00b'").refused(1, "not a name");
}
