//! Whose files they are, and who may do what.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nearfs_tests::harness::{Mount, PROMPT, Watchdog, World, can_mount, end_within, holds_within, watchdog};

use crate::{TEST_TIME_MAX, errno, mounted_with};

/// A user of the test machine that need not have an account.
const SOMEBODY: u32 = 54_321;
const ANOTHER: u32 = 54_322;

#[test]
fn what_i_create_is_mine_on_both_sides() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::with_user(SOMEBODY, &[]);
    let mount = world.mount("mount", "");
    fs::write(mount.join("f"), "x").unwrap();
    fs::create_dir(mount.join("d")).unwrap();
    for name in ["f", "d"] {
        let (here, there) =
            (fs::metadata(mount.join(name)).unwrap(), fs::metadata(world.export().join(name)).unwrap());
        assert_eq!((here.uid(), here.gid()), (0, 0), "shown as mine");
        assert_eq!((there.uid(), there.gid()), (SOMEBODY, SOMEBODY), "kept as the server's user's");
    }
    chown(mount.join("f"), Some(0), Some(0)).unwrap();
    assert_eq!(errno(chown(mount.join("f"), Some(ANOTHER), None)), libc::EPERM);
    // What the server's user may not do, I may not do.
    fs::write(world.export().join("private"), "secret").unwrap();
    fs::set_permissions(world.export().join("private"), fs::Permissions::from_mode(0o600)).unwrap();
    // It may know for a second that there is no such name.
    assert!(holds_within(PROMPT, || mount.join("private").exists()));
    assert_eq!(errno(File::open(mount.join("private"))), libc::EACCES);
}

#[test]
fn options_show_all_files_as_one_users() {
    let Some((world, mount, _watchdog)) = mounted_with("uid=54321,gid=54322,umask=027") else { return };
    fs::write(world.export().join("f"), "x").unwrap();
    fs::set_permissions(world.export().join("f"), fs::Permissions::from_mode(0o666)).unwrap();
    let attr = fs::metadata(mount.join("f")).unwrap();
    assert_eq!((attr.uid(), attr.gid(), attr.mode() & 0o777), (54321, 54322, 0o640));
}

#[test]
fn with_passthrough_each_user_is_himself() {
    let Some((world, mount, _watchdog)) = passthrough() else { return };
    fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(run_as(SOMEBODY, "umask 022; echo mine >f; mkdir d; chmod 600 f", mount.path()), 0);
    let there = fs::metadata(world.export().join("f")).unwrap();
    assert_eq!((there.uid(), there.gid(), there.mode() & 0o777), (SOMEBODY, SOMEBODY, 0o600));
    assert_eq!(fs::metadata(world.export().join("d")).unwrap().mode() & 0o777, 0o755);
    assert_ne!(run_as(ANOTHER, "cat f", mount.path()), 0, "somebody else's private file");
    assert_ne!(run_as(ANOTHER, "echo x >>f", mount.path()), 0);
    assert_ne!(run_as(ANOTHER, "rm -f d/../f && touch d/x", mount.path()), 0);
    assert_ne!(run_as(SOMEBODY, "chown 0 d", mount.path()), 0, "only root gives files away");
    chown(mount.join("d"), Some(ANOTHER), Some(ANOTHER)).unwrap();
    assert_eq!(run_as(ANOTHER, "touch d/x", mount.path()), 0);
}

#[test]
fn supplementary_groups_count() {
    let Some((_world, mount, _watchdog)) = passthrough() else { return };
    fs::write(mount.join("shared"), "x").unwrap();
    chown(mount.join("shared"), Some(0), Some(ANOTHER)).unwrap();
    fs::set_permissions(mount.join("shared"), fs::Permissions::from_mode(0o640)).unwrap();
    let read_with = |groups: &str| {
        let mut command = Command::new("setpriv");
        let id = SOMEBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--groups", groups, "cat"]).arg(mount.join("shared"));
        end_within(&mut command, PROMPT).0.success()
    };
    assert!(read_with(&ANOTHER.to_string()));
    assert!(!read_with(&SOMEBODY.to_string()));
}

#[test]
fn access_control_lists_are_the_servers() {
    let Some((_world, mount, _watchdog)) = passthrough() else { return };
    if end_within(Command::new("sh").args(["-c", "command -v setfacl"]), PROMPT).1.is_empty() {
        eprintln!("SKIPPED: setfacl is not installed");
        return;
    }
    fs::write(mount.join("f"), "x").unwrap();
    fs::set_permissions(mount.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(run_as(SOMEBODY, "cat f", mount.path()), 0);
    let (status, _, _) = end_within(
        Command::new("setfacl").args(["-m", &format!("u:{SOMEBODY}:r")]).arg(mount.join("f")),
        PROMPT,
    );
    assert!(status.success());
    assert_eq!(run_as(SOMEBODY, "cat f", mount.path()), 0);
    assert_ne!(run_as(ANOTHER, "cat f", mount.path()), 0);
}

#[test]
fn a_read_only_export_refuses_every_change() {
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(TEST_TIME_MAX);
    let world = World::with(&["--read-only"]);
    fs::write(world.export().join("f"), "x").unwrap();
    let mount = world.mount("mount", "");
    refuses_changes(&mount);
}

#[test]
fn a_read_only_mount_refuses_every_change() {
    let Some((world, mount, _watchdog)) = mounted_with("ro") else { return };
    fs::write(world.export().join("f"), "x").unwrap();
    refuses_changes(&mount);
}

fn refuses_changes(mount: &Mount) {
    assert_eq!(fs::read_to_string(mount.join("f")).unwrap(), "x");
    assert_eq!(errno(File::create(mount.join("g"))), libc::EROFS);
    assert_eq!(errno(File::options().write(true).open(mount.join("f"))), libc::EROFS);
    assert_eq!(errno(fs::remove_file(mount.join("f"))), libc::EROFS);
    assert_eq!(errno(fs::create_dir(mount.join("d"))), libc::EROFS);
    assert_eq!(errno(fs::rename(mount.join("f"), mount.join("g"))), libc::EROFS);
}

fn passthrough() -> Option<(World, Mount, Watchdog)> {
    if !can_mount() {
        return None;
    }
    let watchdog = watchdog(TEST_TIME_MAX);
    let world = World::with(&["--identity", "passthrough"]);
    let mount = world.mount("mount", "allow_other,default_permissions");
    Some((world, mount, watchdog))
}

/// The exit code of a script that another user runs there.
fn run_as(uid: u32, script: &str, directory: &Path) -> i32 {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(directory).uid(uid).gid(uid);
    end_within(&mut command, PROMPT).0.code().unwrap()
}
