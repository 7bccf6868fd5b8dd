//! Everything that can be typed wrong or be missing: one clear line and the right exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use support::{World, can_mount, nearfs, run};

#[test]
fn what_is_typed_wrong_is_refused_with_code_2() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().to_str().unwrap();
    for (words, says) in [
        (&[][..], "nothing to do"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["mount"], "<SOURCE>"),
        (&["mount", "nearfs://h/"], "<MOUNTPOINT>"),
        (&["mount", "--frob", "nearfs://h/", place], "--frob"),
        (&["mount", "/not/a/source", place], "is no source"),
        (&["mount", "nearfs://h:99999/", place], "is no port"),
        (&["mount", "nearfs://h/", place, "-o", "frob"], "unknown mount option \"frob\""),
        (&["mount", "nearfs://h/", place, "-o", "timeout=soon"], "wants seconds"),
        (&["mount", "nearfs://h/", place, "-o", "port=5"], "nearfs://host:port/"),
        (&["umount"], "<MOUNTPOINT>"),
        (&["umount", "--lazy", "--force", place], "cannot be used with"),
        (&["completions", "csh"], "invalid value 'csh'"),
    ] {
        run(nearfs().args(words)).refused(2, says);
    }
}

#[test]
fn a_mount_point_that_will_not_do_is_refused_with_code_1() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let missing = world.directory.path().join("missing");
    run(&mut world.mount_command(&missing, &[])).refused(1, "does not exist: make it with `mkdir -p");
    let file = world.directory.path().join("file");
    fs::write(&file, "").unwrap();
    run(&mut world.mount_command(&file, &[])).refused(1, "is not a directory");
    let full = world.place("full");
    fs::write(full.join("hidden"), "").unwrap();
    run(&mut world.mount_command(&full, &[])).refused(1, "is not empty");
    let over = world.mount("full", &["-o", "nonempty"]);
    assert!(!over.place.join("hidden").exists());
    run(&mut world.mount_command(&over.place, &[])).refused(1, "is in use already");
    run(nearfs().arg("umount").arg(&missing)).refused(1, "missing");
    run(nearfs().args(["umount", "/proc"])).refused(1, "is a mount of type proc");
    let log = world.directory.path().join("no/such/log");
    let place = world.place("mnt");
    run(&mut world.mount_command(&place, &["--log-file", log.to_str().unwrap()]))
        .refused(1, "cannot open the log file");
}

#[test]
fn a_server_that_is_not_there_is_refused_with_code_3() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let place = world.place("mnt");
    let mount = |source: &str| run(nearfs().arg("mount").arg(source).arg(&place));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    mount(&format!("nearfs://{free}/")).refused(3, "refused the connection");
    mount("nearfs://no-such-host.invalid/").refused(3, "unknown host no-such-host.invalid");
    mount("nearfs://192.0.2.1/").refused(3, "-o insecure");
    mount("unix:/no/such/socket").refused(3, "there is no socket");
    mount("exec:/no/such/program").refused(3, "cannot run /no/such/program");
    mount("exec:true").refused(3, "ended before the server had answered");
    mount(&format!("nearfs://{}/no-such-export", world.server.address))
        .refused(3, "no export or directory of that name");
    mount(&format!("nearfs://{}", other_service())).refused(3, "is a nearfs server listening there?");
    let ended = mount("exec:sh -c 'echo the key does not fit >&2; exit 255'");
    assert!(ended.err.starts_with("the key does not fit\nnearfs: ") && ended.code == Some(3), "{ended:?}");
    assert!(!support::is_mounted(&place));
}

/// Something that speaks another protocol: greets as ssh does and hangs up.
fn other_service() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3 and some more words\r\n").unwrap();
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    address
}

#[test]
fn a_machine_without_fuse_is_told_what_to_do() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let place = world.place("mnt");
    let program = env!("CARGO_BIN_EXE_nearfs");
    let mount = format!("{program} mount {} {}", world.source(), place.display());
    let without_device = format!("mount -t tmpfs none /dev && exec {mount}");
    run(Command::new("unshare").args(["-m", "sh", "-c", &without_device])).refused(1, "modprobe fuse");
}

#[test]
fn a_user_without_fusermount_is_told_what_to_do() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    run(Command::new("chmod").arg("755").arg(directory.path())).succeeded();
    let own = directory.path().join("own");
    fs::create_dir_all(own.join("export")).unwrap();
    fs::create_dir(own.join("mnt")).unwrap();
    run(Command::new("chown").args(["-R", "65534:65534"]).arg(&own)).succeeded();
    let program = env!("CARGO_BIN_EXE_nearfs");
    let nobody = |program: &str| {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command
    };
    if run(nobody("/usr/bin/test").args(["-x", program])).code != Some(0) {
        eprintln!("SKIPPED: {program} cannot be run by another user");
        return;
    }
    let server = support::Server::start(&mut nobody(program), &own.join("export"));
    let source = format!("nearfs://{}/", server.address);
    let mut mount = nobody(program);
    run(mount.args(["mount", &source]).arg(own.join("mnt")).env("PATH", "/nowhere"))
        .refused(1, "install the package fuse3");
}
