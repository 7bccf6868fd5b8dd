//! Each change takes effect once, though the connection is cut when it has been carried out and before anybody is
//! told: whoever sends it again blindly gets EEXIST for his own directory, or writes his record twice.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nearfs_tests::harness::{Mount, Watchdog, World, can_mount, watchdog};
use nearfs_tests::proxy::{Calls, FaultProxy};

/// No test takes longer.
const TEST_TIME_MAX: Duration = Duration::from_secs(120);
/// How often each change is cut.
const ROUNDS: usize = 4;

/// A change, by the name of its request, with what it needs and what it does in an empty directory.
struct Change {
    operation: &'static str,
    prepare: fn(&Path) -> io::Result<()>,
    make: fn(&Path) -> io::Result<()>,
    happened: fn(&Path) -> bool,
}

const CHANGES: [Change; 10] = [
    Change {
        operation: "mkdir",
        prepare: |_| Ok(()),
        make: |place| fs::create_dir(place.join("made")),
        happened: |place| names(place) == ["made"] && place.join("made").is_dir(),
    },
    Change {
        operation: "create",
        prepare: |_| Ok(()),
        make: |place| {
            OpenOptions::new().write(true).create_new(true).open(place.join("made"))?.write_all(b"once")
        },
        happened: |place| names(place) == ["made"] && text(place.join("made")) == "once",
    },
    Change {
        operation: "rename",
        prepare: |place| fs::write(place.join("old"), "moved"),
        make: |place| fs::rename(place.join("old"), place.join("new")),
        happened: |place| names(place) == ["new"] && text(place.join("new")) == "moved",
    },
    Change {
        operation: "link",
        prepare: |place| fs::write(place.join("file"), "linked"),
        make: |place| fs::hard_link(place.join("file"), place.join("other")),
        happened: |place| names(place) == ["file", "other"] && text(place.join("other")) == "linked",
    },
    Change {
        operation: "symlink",
        prepare: |_| Ok(()),
        make: |place| std::os::unix::fs::symlink("nowhere", place.join("link")),
        happened: |place| fs::read_link(place.join("link")).unwrap() == Path::new("nowhere"),
    },
    Change {
        operation: "unlink",
        prepare: |place| fs::write(place.join("file"), "gone"),
        make: |place| fs::remove_file(place.join("file")),
        happened: |place| names(place).is_empty(),
    },
    Change {
        operation: "rmdir",
        prepare: |place| fs::create_dir(place.join("directory")),
        make: |place| fs::remove_dir(place.join("directory")),
        happened: |place| names(place).is_empty(),
    },
    Change {
        operation: "write",
        prepare: |place| fs::write(place.join("log"), "first\n"),
        make: |place| OpenOptions::new().append(true).open(place.join("log"))?.write_all(b"second\n"),
        happened: |place| text(place.join("log")) == "first\nsecond\n",
    },
    Change {
        operation: "setxattr",
        prepare: |place| fs::write(place.join("file"), ""),
        make: |place| {
            let (file, flags) = (File::open(place.join("file"))?, rustix::fs::XattrFlags::CREATE);
            Ok(rustix::fs::fsetxattr(&file, "user.once", b"value", flags)?)
        },
        happened: |place| {
            let mut value = [0; 5];
            rustix::fs::getxattr(place.join("file"), "user.once", &mut value) == Ok(5) && value == *b"value"
        },
    },
    Change {
        operation: "setlk",
        prepare: |place| fs::write(place.join("file"), "kept"),
        make: |place| {
            let file = File::open(place.join("file"))?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
            Ok(rustix::fs::flock(&file, rustix::fs::FlockOperation::Unlock)?)
        },
        happened: |place| text(place.join("file")) == "kept",
    },
];

fn names(place: &Path) -> Vec<String> {
    let entries = fs::read_dir(place).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap()
}

/// A mount through a proxy; none where mounting is impossible.
fn mounted_through_proxy() -> Option<(World, FaultProxy, Mount, Watchdog)> {
    if !can_mount() {
        return None;
    }
    let watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let target: SocketAddr = world.server().address.parse().unwrap();
    let proxy = FaultProxy::start(target).unwrap();
    let mount = world.mount_through(&proxy.endpoint().to_string(), "mount", "");
    Some((world, proxy, mount, watchdog))
}

#[test]
fn a_change_whose_reply_is_lost_is_not_made_twice() {
    let Some((world, proxy, mount, _watchdog)) = mounted_through_proxy() else { return };
    let mut cuts = 0;
    for Change { operation, prepare, make, happened } in CHANGES {
        for round in 0..ROUNDS {
            let name = format!("{operation}-{round}");
            fs::create_dir(world.export().join(&name)).unwrap();
            prepare(&world.export().join(&name)).unwrap();
            proxy.cut_reply(Calls::Operation(operation.to_owned()), 1);
            make(&mount.join(&name)).unwrap_or_else(|error| panic!("{operation}: {error}"));
            cuts += 1;
            assert!(happened(&world.export().join(&name)), "{operation}");
            assert!(happened(&mount.join(&name)), "{operation}, as the mount shows it");
        }
    }
    let reconnects = mount.status()["reconnects"].as_u64().unwrap();
    assert!(reconnects >= cuts, "of {cuts} connections only {reconnects} were cut");
}

#[test]
fn a_record_is_appended_once_however_its_connection_ends() {
    let Some((world, proxy, mount, _watchdog)) = mounted_through_proxy() else { return };
    let mut log = OpenOptions::new().append(true).create(true).open(mount.join("log")).unwrap();
    let mut expected = String::new();
    for number in 0..120 {
        match number % 6 {
            0 => proxy.cut_reply(Calls::Changes, 1),
            2 => proxy.cut_after(nearfs_tests::proxy::Way::Up, number * 3),
            4 => proxy.cut_after(nearfs_tests::proxy::Way::Down, number * 3),
            _ => {}
        }
        let record = format!("record {number}\n");
        log.write_all(record.as_bytes()).unwrap();
        expected.push_str(&record);
    }
    proxy.clear();
    assert_eq!(text(world.export().join("log")), expected);
}
