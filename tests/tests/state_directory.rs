//! A state directory that is full, damaged, or of another version costs sessions, and says so; nothing hangs, nothing
//! panics, and no file is harmed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The allowance for tests does not reach their shared functions.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nearfs_tests::harness::{
    Companion, PROMPT, Watchdog, can_mount, end_within, holds_within, program, watchdog,
};
use nearfs_tests::soak::Place;

const TEST_TIME_MAX: Duration = Duration::from_secs(240);
/// Longest time until a mount goes on, or says that it cannot.
const BACK_TIME_MAX: Duration = Duration::from_secs(20);
/// The user of a server that is not root.
const SERVER: u32 = 2001;
/// How many state directories are damaged.
const DAMAGES: u64 = 8;

fn placed() -> Option<(Place, Watchdog)> {
    can_mount().then(|| (Place::make(None).unwrap(), watchdog(TEST_TIME_MAX)))
}

/// Whether a mount goes on with its session; if not it says `EIO`.
fn goes_on(mount: &Path) -> bool {
    let mut outcome = None;
    // Nothing that the kernel knows.
    let decided = || match fs::create_dir(mount.join("goes on")) {
        Ok(()) => outcome.insert(true) == &true,
        Err(error) if error.raw_os_error() == Some(libc::EIO) => outcome.insert(false) == &false,
        Err(error) => panic!("{error}"),
    };
    assert!(holds_within(BACK_TIME_MAX, decided), "the mount neither goes on nor fails");
    if outcome == Some(true) {
        fs::remove_dir(mount.join("goes on")).unwrap();
    }
    outcome.unwrap()
}

fn assert_sound(place: &Place, mount: &Path) {
    assert_eq!(fs::read_to_string(mount.join("kept")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(place.export().join("kept")).unwrap(), "kept");
    let log = place.server_log();
    assert!(!log.contains("panicked"), "{log}");
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Damages one file in one way, which `number` decides.
fn damage(file: &Path, number: u64) -> io::Result<()> {
    let opened = OpenOptions::new().read(true).write(true).open(file)?;
    let length = opened.metadata()?.len();
    match number % 4 {
        0 => opened.set_len(length / 2),
        1 => opened.set_len(0),
        2 => opened.write_all_at(&[0xa5; 16], number * 37 % length.max(1)),
        _ => opened.write_all_at(&[0xff; 64], length),
    }
}

#[test]
fn a_damaged_state_costs_at_most_the_session() {
    let Some((mut place, _watchdog)) = placed() else { return };
    let mut ended = 0;
    for number in 0..DAMAGES {
        let mount = place.mount(&format!("damaged-{number}")).unwrap();
        fs::write(mount.path.join("kept"), "kept").unwrap();
        let open = fs::File::open(mount.path.join("kept")).unwrap();
        place.kill_server();
        let all = files(&place.state().join("sessions"));
        assert!(!all.is_empty());
        for file in all {
            damage(&file, number).unwrap();
        }
        place.start_server().unwrap();
        if !goes_on(&mount.path) {
            ended += 1;
        }
        drop(open);
        assert!(place.unmount(&mount).unwrap().is_some(), "it can be unmounted");
        let fresh = place.mount(&format!("fresh-{number}")).unwrap();
        assert_sound(&place, &fresh.path);
        assert!(place.unmount(&fresh).unwrap().is_some());
    }
    assert!(ended > 0, "no damage was noticed");
}

#[test]
fn a_state_of_another_version_is_left_alone_and_named() {
    let Some((mut place, _watchdog)) = placed() else { return };
    place.stop_server().unwrap();
    let format = place.state().join("format");
    let before = fs::read(&format).unwrap();
    fs::write(&format, "nearfs state 4711\n").unwrap();
    assert!(place.start_server().is_err(), "the server starts");
    let log = place.server_log();
    let line = log.lines().last().unwrap_or_default();
    assert!(line.starts_with("nearfs: ") && line.contains("state") && line.contains("version"), "{log}");
    assert_eq!(fs::read_to_string(&format).unwrap(), "nearfs state 4711\n");
    fs::write(&format, before).unwrap();
    place.start_server().unwrap();
    fs::write(place.mounts[0].path.join("kept"), "kept").unwrap();
    assert_sound(&place, &place.mounts[0].path);
}

#[test]
fn a_full_disk_below_the_state_stops_no_work() {
    let Some((mut place, _watchdog)) = placed() else { return };
    // What is there moves to a small file system of its own.
    place.stop_server().unwrap();
    let state = Small::mount(&place.state());
    place.start_server().unwrap();
    let filler = place.state().join("filler");
    // As much as goes in.
    let full = fs::write(&filler, vec![7; 2 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    let mount = place.mount("full").unwrap();
    fs::write(mount.path.join("kept"), "kept").unwrap();
    assert_sound(&place, &mount.path);
    let log = place.server_log();
    assert!(log.contains("will not survive a restart"), "{log}");
    place.kill_server();
    fs::remove_file(&filler).unwrap();
    place.start_server().unwrap();
    assert!(!goes_on(&mount.path), "its session could not be kept");
    assert!(place.unmount(&mount).unwrap().is_some());
    let fresh = place.mount("fresh").unwrap();
    assert_sound(&place, &fresh.path);
    assert!(place.unmount(&fresh).unwrap().is_some());
    place.kill_server();
    drop(state);
}

/// By a server that is not root, which could read everything.
#[test]
fn a_state_that_cannot_be_read_is_refused_or_passed_over() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let base = tempfile::Builder::new().prefix("nearfs-test-").tempdir().unwrap();
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let [export, state, logs] = ["export", "state", "logs"].map(|name| base.path().join(name));
    for directory in [&export, &state, &logs] {
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let give_away = |path: &Path| std::os::unix::fs::chown(path, Some(SERVER), Some(SERVER)).unwrap();
    give_away(&export);
    give_away(&logs);
    let log = logs.join("log");
    let serve = || {
        let mut command = Command::new(program());
        command.uid(SERVER).gid(SERVER).args(["serve", "--listen", "127.0.0.1:0", "--log-file"]).arg(&log);
        command.arg("--state-dir").arg(&state).arg(&export);
        command
    };
    let (status, _, err) = end_within(&mut serve(), PROMPT);
    let err = String::from_utf8_lossy(&err);
    assert_eq!(status.code(), Some(1), "{err}");
    assert!(err.starts_with("nearfs: ") && err.contains("state directory"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    give_away(&state);
    let server = Companion::start(&mut serve());
    assert!(server.line().starts_with("listening on "));
    drop(server);
    // A session that the server may not look at, and a file in the place of one.
    fs::create_dir(state.join("sessions/7")).unwrap();
    fs::set_permissions(state.join("sessions/7"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(state.join("sessions/8"), "").unwrap();
    let server = Companion::start(&mut serve());
    assert!(server.line().starts_with("listening on "));
    let log = fs::read_to_string(&log).unwrap();
    for session in ["session 7", "session 8"] {
        assert!(log.contains(&format!("{session} is not restored")), "{log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

/// A file system of one mebibyte, unmounted in the end.
struct Small(PathBuf);

impl Small {
    fn mount(place: &Path) -> Small {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", place, "tmpfs", flags, Some(c"size=1m,mode=700")).unwrap();
        Small(place.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}
