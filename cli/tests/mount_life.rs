//! The life of a mount, through the program and the kernel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use support::{Companion, Mounted, World, assert_gone, can_mount, nearfs, run, run_within, wait_for};

/// Longest time that an unmounting may take, whatever has become of the server.
const UMOUNT_TIME_MAX: Duration = Duration::from_secs(10);

#[test]
fn mount_returns_when_the_mount_can_be_used_and_umount_leaves_nothing() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    fs::write(world.export().join("there"), "from the server").unwrap();
    let mount = world.mount("mnt", &[]);
    assert_eq!(fs::read_to_string(mount.place.join("there")).unwrap(), "from the server");
    fs::write(mount.place.join("here"), "from the client").unwrap();
    assert_eq!(fs::read_to_string(world.export().join("here")).unwrap(), "from the client");

    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(mount.place.to_str().unwrap())).unwrap();
    assert!(line.starts_with(&format!("{} ", world.source())) && line.contains(" fuse.nearfs "), "{line}");
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");

    let pid = mount.pid();
    let ended = run(&mut mount.umount_command(&[])).succeeded();
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", ""));
    assert!(!mount.is_mounted());
    assert_gone(pid);
    run(&mut mount.umount_command(&[])).refused(1, "is not a mount point");
}

#[test]
fn status_tells_how_a_mount_is() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let (first, second) = (world.mount("one", &[]), world.mount("two", &["-o", "ro"]));
    fs::read_dir(&first.place).unwrap().count();
    let status = first.status();
    assert_eq!(status["server"], world.server.address.as_str());
    assert_eq!(status["mount_point"], first.place.to_str().unwrap());
    assert_eq!(status["connected"], true);
    assert_eq!(status["reconnects"], 0);
    assert_eq!(status["pending"], serde_json::json!([]));
    assert!(status["requests_sent"]["total"].as_u64().unwrap() > 0, "{status}");
    for field in ["connected_since", "pending_bytes", "leases_held", "cache_bytes"] {
        assert!(status[field].is_u64(), "{field}: {status}");
    }
    assert!(status["cache"].is_object() && status.get("last_error").is_some(), "{status}");
    assert!(status.get("round_trip_us").is_some(), "{status}");

    // Somebody else's mount on this machine may be dead, so that only the answers count.
    let all = run(nearfs().args(["status", "--json"]));
    let all: serde_json::Value = serde_json::from_str(&all.out).unwrap();
    let places: Vec<_> = all.as_array().unwrap().iter().map(|one| one["mount_point"].as_str()).collect();
    for mount in [&first, &second] {
        assert!(places.contains(&mount.place.to_str()), "{places:?}");
    }
    let text = run(nearfs().arg("status").arg(&first.place)).succeeded().out;
    assert!(text.contains("connected for") && text.contains("pending     nothing"), "{text}");
    run(nearfs().arg("status").arg(world.export())).refused(1, "is not a mount point");
}

#[test]
fn a_mount_in_the_foreground_ends_by_a_signal() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    for signal in ["TERM", "INT", "HUP"] {
        let place = world.place(signal);
        let mut child = Companion::start(&mut world.mount_command(&place, &["-f"]));
        let mount = Mounted { place };
        wait_for(support::PROMPT, || mount.is_mounted().then_some(())).expect("mounted");
        fs::write(mount.place.join("file"), signal).unwrap();
        support::send_signal(child.0.id(), signal);
        let status = wait_for(UMOUNT_TIME_MAX, || child.0.try_wait().unwrap()).expect("it ends");
        assert!(status.success(), "{signal}: {status}");
        assert!(!mount.is_mounted());
    }
}

#[test]
fn a_signal_ends_a_mount_that_is_in_use() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    let _user = Companion::start(Command::new("sleep").arg("1000").current_dir(&mount.place));
    let pid = mount.pid();
    support::send_signal(pid, "TERM");
    assert_gone(pid);
    assert!(!mount.is_mounted());
}

#[test]
fn an_unmounting_by_others_ends_the_process() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    for program in [&["umount"][..], &["fusermount3", "-u"]] {
        let mount = world.mount("mnt", &[]);
        let pid = mount.pid();
        run(Command::new(program[0]).args(&program[1..]).arg(&mount.place)).succeeded();
        assert_gone(pid);
    }
}

#[test]
fn a_dead_mount_point_is_replaced_by_mounting_again() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    support::send_signal(mount.pid(), "KILL");
    wait_until_dead(&mount);
    run(nearfs().arg("status").arg(&mount.place)).refused(1, "is a dead mount");

    run(&mut world.mount_command(&mount.place, &[])).succeeded();
    fs::write(mount.place.join("alive"), "again").unwrap();
    run(&mut mount.umount_command(&[])).succeeded();
    assert!(!mount.is_mounted(), "one mount was left below the other");
}

/// "Transport endpoint is not connected", as users know it.
fn wait_until_dead(mount: &Mounted) {
    let dead = || fs::metadata(&mount.place).is_err_and(|error| error.raw_os_error() == Some(107));
    wait_for(support::PROMPT, || dead().then_some(())).expect("the mount is dead");
}

#[test]
fn a_dead_mount_point_can_be_unmounted() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    support::send_signal(mount.pid(), "KILL");
    wait_until_dead(&mount);
    run(&mut mount.umount_command(&[])).succeeded();
    assert!(!mount.is_mounted());
}

#[test]
fn a_busy_mount_names_who_uses_it() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    let user = Companion::start(Command::new("sleep").arg("1000").current_dir(&mount.place));
    let who = format!("sleep (pid {}, current directory)", user.0.id());
    run(&mut mount.umount_command(&[])).refused(1, &who);
    assert!(mount.is_mounted());
    drop(user);

    fs::write(mount.place.join("file"), "text").unwrap();
    let file = fs::File::open(mount.place.join("file")).unwrap();
    let who = format!("(pid {}, open file)", std::process::id());
    run(&mut mount.umount_command(&[])).refused(1, &who);
    drop(file);
    let pid = mount.pid();
    run(&mut mount.umount_command(&[])).succeeded();
    assert_gone(pid);
}

#[test]
fn a_busy_mount_can_be_forced_or_left_lazily() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    let pid = mount.pid();
    let user = Companion::start(Command::new("sleep").arg("1000").current_dir(&mount.place));
    run(&mut mount.umount_command(&["--force"])).succeeded();
    assert!(!mount.is_mounted());
    assert_gone(pid);
    drop(user);

    let mount = world.mount("mnt", &[]);
    let pid = mount.pid();
    let user = Companion::start(Command::new("sleep").arg("1000").current_dir(&mount.place));
    run(&mut mount.umount_command(&["--lazy"])).succeeded();
    assert!(!mount.is_mounted() && support::is_running(pid));
    drop(user);
    assert_gone(pid);
}

#[test]
fn umount_ends_with_a_frozen_server() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    fs::write(mount.place.join("file"), "text").unwrap();
    let pid = mount.pid();
    world.server.signal("STOP");
    run_within(&mut mount.umount_command(&[]), UMOUNT_TIME_MAX);
    assert!(!mount.is_mounted());
    assert_gone(pid);
}

#[test]
fn umount_by_force_ends_whoever_waits_for_a_frozen_server() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    for index in 0..4 {
        fs::write(world.export().join(format!("file{index}")), "text").unwrap();
    }
    let mount = world.mount("mnt", &[]);
    let pid = mount.pid();
    world.server.signal("STOP");
    let mut reader = Companion::start(Command::new("cat").arg(mount.place.join("file3")));
    let waits = || {
        let status = mount.status();
        status["pending"].as_array().is_some_and(|pending| !pending.is_empty()).then_some(status)
    };
    let status = wait_for(support::PROMPT, waits).expect("status answers and shows what waits");
    assert!(status["pending"][0]["age_ms"].is_u64(), "{status}");
    assert_eq!(status["pending"][0]["path"], "file3");
    run_within(&mut mount.umount_command(&["--force"]), UMOUNT_TIME_MAX);
    assert!(!mount.is_mounted());
    wait_for(support::PROMPT, || reader.0.try_wait().unwrap()).expect("the reader ends");
    assert_gone(pid);
}

#[test]
fn umount_ends_with_a_frozen_client() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    let pid = mount.pid();
    support::send_signal(pid, "STOP");
    let ended = run_within(&mut mount.umount_command(&[]), UMOUNT_TIME_MAX);
    assert!(ended.err.contains("lost") && ended.code == Some(1), "{ended:?}");
    assert!(!mount.is_mounted());
    assert_gone(pid);
}

#[test]
fn mount_calls_our_program_and_can_remount() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let program = world.directory.path().join("mount.nearfs");
    symlink(env!("CARGO_BIN_EXE_nearfs"), &program).unwrap();
    let mount = Mounted { place: world.place("mnt") };
    let mounting = |options: &str| {
        let mut command = Command::new(&program);
        command.arg(world.source()).arg(&mount.place).args(["-o", options]);
        run(&mut command)
    };
    // The words that mount(8) passes for a line of fstab.
    mounting("rw,noexec,_netdev,nofail,x-systemd.automount").succeeded();
    fs::write(mount.place.join("file"), "text").unwrap();
    mounting("remount,ro").succeeded();
    let error = fs::write(mount.place.join("file"), "more").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    mounting("remount,rw").succeeded();
    fs::write(mount.place.join("file"), "more").unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(mount.place.to_str().unwrap())).unwrap();
    for flag in ["noexec", "nosuid", "nodev"] {
        assert!(line.contains(flag), "{flag} was lost: {line}");
    }
    let fake = run(Command::new(&program).arg("far:/").arg("/nowhere").args(["-f", "-v", "-t", "nearfs"]));
    fake.succeeded();
    run(Command::new(&program).arg("far:/").arg("/nowhere").args(["-o", "frob"])).refused(2, "frob");
}

/// In a mount namespace of its own, where a copy of /sbin has the programs that `scripts/install` puts there.
#[test]
fn mount_and_fstab_work_once_installed() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let programs = world.place("programs");
    for name in ["mount.nearfs", "mount.fuse.nearfs"] {
        symlink(env!("CARGO_BIN_EXE_nearfs"), programs.join(name)).unwrap();
    }
    let place = world.place("mnt");
    let fstab = world.directory.path().join("fstab");
    let line =
        format!("{} {} nearfs noauto,user,_netdev,nofail,noatime 0 0\n", world.source(), place.display());
    fs::write(&fstab, line).unwrap();
    let script = r#"
        sbin=$(readlink -f /sbin)
        mount -t overlay -o "lowerdir=$PROGRAMS:$sbin" overlay "$sbin" || { echo "no overlay"; exit 0; }
        set -e
        mount -t nearfs "$SOURCE" "$PLACE" -o noexec
        echo one > "$PLACE/file"
        mount -o remount,ro "$PLACE"
        if echo two > "$PLACE/file"; then echo "a read-only mount was written to"; exit 1; fi 2> /dev/null
        mount -o remount,rw "$PLACE"
        echo three > "$PLACE/file"
        grep -q " $PLACE fuse.nearfs rw,nosuid,nodev,noexec" /proc/mounts
        umount "$PLACE"
        mount -T "$FSTAB" "$PLACE"
        cat "$PLACE/file"
        umount "$PLACE"
    "#;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]);
    command.env("PROGRAMS", programs).env("SOURCE", world.source()).env("PLACE", place).env("FSTAB", fstab);
    let ended = run(&mut command).succeeded();
    if ended.out == "no overlay\n" {
        eprintln!("SKIPPED: this kernel has no overlay file system to put mount programs into /sbin with");
        return;
    }
    assert_eq!(ended.out, "three\n");
}

/// In a mount namespace of its own, where every user may open /dev/fuse, as Debian has it.
#[test]
fn a_user_mounts_through_fusermount() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = r#"
        chmod 755 . && mkdir own own/export own/mnt && chown -R 65534:65534 own
        mknod fuse c 10 229 && chmod 666 fuse && mount --bind fuse /dev/fuse || { echo "no device"; exit 0; }
        cp "$PROGRAM" nearfs && chmod 755 nearfs
        cat > user.sh <<'END'
            set -e
            ../nearfs serve --listen 127.0.0.1:0 export > listening & server=$!
            trap 'kill $server' EXIT
            until grep -q 'listening on' listening; do sleep 0.05; done
            source=nearfs://$(sed -n 's/^listening on //p' listening)/
            ../nearfs mount "$source" mnt
            echo hello > mnt/file
            ../nearfs status mnt | head -n 1 | cut -d ' ' -f 2
            ../nearfs umount mnt
            cat export/file
            grep -c " $PWD/mnt fuse" /proc/mounts || true
END
        cd own && exec setpriv --reuid=65534 --regid=65534 --clear-groups sh ../user.sh
    "#;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-ec", script]).current_dir(directory.path());
    let ended = run(command.env("PROGRAM", env!("CARGO_BIN_EXE_nearfs"))).succeeded();
    if ended.out == "no device\n" {
        eprintln!("SKIPPED: no device files can be made in {}", directory.path().display());
        return;
    }
    assert_eq!(ended.out, "on\nhello\n0\n", "{ended:?}");
}

/// As ssh would be. Reading to the end of what `nearfs mount` prints shows that it keeps nothing open.
#[test]
fn a_command_can_be_the_way_to_the_server() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = Mounted { place: world.place("mnt") };
    let server = format!("exec:{} serve --stdio {}", env!("CARGO_BIN_EXE_nearfs"), world.export().display());
    run(nearfs().arg("mount").arg(server).arg(&mount.place)).succeeded();
    fs::write(mount.place.join("file"), "text").unwrap();
    assert_eq!(fs::read_to_string(world.export().join("file")).unwrap(), "text");
    let pid = mount.pid();
    run(&mut mount.umount_command(&[])).succeeded();
    assert_gone(pid);
}

#[test]
fn two_mounts_see_each_other() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let (one, two) = (world.mount("one", &[]), world.mount("two", &[]));
    fs::write(one.place.join("file"), "written on one").unwrap();
    assert_eq!(fs::read_to_string(two.place.join("file")).unwrap(), "written on one");
    fs::rename(two.place.join("file"), two.place.join("moved")).unwrap();
    let seen = || fs::read_to_string(one.place.join("moved")).ok();
    assert_eq!(wait_for(Duration::from_secs(3), seen).as_deref(), Some("written on one"));
}
