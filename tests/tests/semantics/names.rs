//! Names, links, listings, renames.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use nearfs_tests::harness::{PROMPT, run_within};

use crate::{c_path, checked, errno, mounted};

#[test]
fn names_are_bytes() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    let longest = [b'n'; 255];
    let names: [&[u8]; 9] = [
        "é".as_bytes(),
        "e\u{301}".as_bytes(),
        b"\xe9\xff\xfe",
        b"new\nline",
        b"-rf",
        b" ",
        b"A",
        b"a",
        &longest,
    ];
    for name in names {
        fs::write(mount.join(OsStr::from_bytes(name)), name).unwrap();
    }
    for name in names {
        assert_eq!(fs::read(mount.join(OsStr::from_bytes(name))).unwrap(), name);
    }
    let all: BTreeSet<OsString> = names.iter().map(|name| OsStr::from_bytes(name).to_owned()).collect();
    assert_eq!(listed(mount.path()), all);
    assert_eq!(listed(&world.export()), all);
    for name in names {
        fs::remove_file(mount.join(OsStr::from_bytes(name))).unwrap();
    }
    assert_eq!(errno(File::create(mount.join(OsStr::from_bytes(&[b'n'; 256])))), libc::ENAMETOOLONG);
}

#[test]
fn a_directory_that_changes_is_listed_whole() {
    let Some((_world, mount, _watchdog)) = mounted() else { return };
    let directory = mount.join("d");
    fs::create_dir(&directory).unwrap();
    for number in 0..3000 {
        File::create(directory.join(format!("kept{number:05}"))).unwrap();
        File::create(directory.join(format!("gone{number:05}"))).unwrap();
    }
    let mut seen = Vec::new();
    for (count, entry) in fs::read_dir(&directory).unwrap().enumerate() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("kept") {
            seen.push(name);
        }
        if count % 10 == 0 {
            fs::remove_file(directory.join(format!("gone{:05}", count / 10))).unwrap();
            File::create(directory.join(format!("made{count:05}"))).unwrap();
        }
    }
    seen.sort();
    let all: Vec<_> = (0..3000).map(|number| format!("kept{number:05}")).collect();
    assert_eq!(seen, all, "each name that nobody touched, once");
}

#[test]
fn symbolic_links_are_kept_byte_for_byte_and_followed_here() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    let targets: [&[u8]; 4] = [b"../a/b", b"/nowhere/at/all", b"\xff\xfe", b"loop"];
    for (number, target) in targets.iter().enumerate() {
        let link = mount.join(format!("link{number}"));
        symlink(OsStr::from_bytes(target), &link).unwrap();
        assert_eq!(fs::read_link(&link).unwrap().as_os_str().as_bytes(), *target);
        assert_eq!(fs::symlink_metadata(&link).unwrap().len(), target.len() as u64);
    }
    // An absolute link leads to this machine's file, not to the server's, and a link into the mount works.
    let beside = world.directory("beside");
    fs::write(beside.join("file"), "here").unwrap();
    symlink(beside.join("file"), world.export().join("out")).unwrap();
    assert_eq!(fs::read_to_string(mount.join("out")).unwrap(), "here");
    symlink(mount.path(), world.export().join("back")).unwrap();
    assert!(fs::symlink_metadata(mount.join("back/back/out")).is_ok());
    symlink("loop", mount.join("loop")).unwrap();
    assert_eq!(errno(fs::metadata(mount.join("loop"))), libc::ELOOP);
}

#[test]
fn hard_links_are_one_file() {
    let Some((_world, mount, _watchdog)) = mounted() else { return };
    let (one, other) = (mount.join("one"), mount.join("other"));
    fs::write(&one, "x").unwrap();
    fs::hard_link(&one, &other).unwrap();
    let (a, b) = (fs::metadata(&one).unwrap(), fs::metadata(&other).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    fs::write(&one, "longer").unwrap();
    assert_eq!(fs::read_to_string(&other).unwrap(), "longer");
    // Renaming a name to another of the same file does nothing (rename(2)).
    fs::rename(&one, &other).unwrap();
    assert!(one.exists() && other.exists());
    fs::remove_file(&one).unwrap();
    assert_eq!(fs::metadata(&other).unwrap().nlink(), 1);
}

#[test]
fn renames_replace_exchange_or_refuse() {
    let Some((_world, mount, _watchdog)) = mounted() else { return };
    let (a, b) = (mount.join("a"), mount.join("b"));
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    fs::write(&a, "a").unwrap();
    fs::write(&b, "b").unwrap();
    assert_eq!(errno(rename(&a, &b, libc::RENAME_NOREPLACE)), libc::EEXIST);
    rename(&a, &b, libc::RENAME_EXCHANGE).unwrap();
    assert_eq!((text(&a), text(&b)), ("b".into(), "a".into()));
    fs::rename(&a, &b).unwrap();
    assert_eq!((a.exists(), text(&b)), (false, "b".into()));
    fs::create_dir_all(mount.join("d/e")).unwrap();
    assert_eq!(errno(fs::rename(mount.join("d"), mount.join("d/e/f"))), libc::EINVAL);
    fs::create_dir(mount.join("g")).unwrap();
    assert_eq!(errno(fs::rename(mount.join("g"), mount.join("d"))), libc::ENOTEMPTY);
}

#[test]
fn a_working_directory_goes_with_its_name() {
    let Some((_world, mount, _watchdog)) = mounted() else { return };
    fs::create_dir_all(mount.join("d/e")).unwrap();
    fs::write(mount.join("d/e/f"), "found").unwrap();
    let moved = "mv ../../d ../../moved && cat f && echo more >g";
    let out = run_within(Command::new("sh").args(["-c", moved]).current_dir(mount.join("d/e")), PROMPT);
    assert_eq!(out, b"found");
    assert_eq!(fs::read_to_string(mount.join("moved/e/g")).unwrap(), "more\n");
}

#[test]
fn fifos_and_sockets_connect_programs_of_this_machine() {
    let Some((_world, mount, _watchdog)) = mounted() else { return };
    let pipe = mount.join("pipe");
    run_within(Command::new("mkfifo").arg(&pipe), PROMPT);
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    let there = pipe.clone();
    let writer = std::thread::spawn(move || fs::write(there, "through").unwrap());
    assert_eq!(fs::read_to_string(&pipe).unwrap(), "through");
    writer.join().unwrap();
    let socket = mount.join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    drop(listener);
}

fn listed(directory: &Path) -> BTreeSet<OsString> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn rename(from: &Path, to: &Path, flags: u32) -> std::io::Result<u64> {
    let (from, to) = (c_path(from), c_path(to));
    // SAFETY: both paths end with a NUL and outlive the call.
    let result =
        unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) };
    checked(i64::from(result))
}
