//! Attributes, times, inode numbers, extended attributes, figures of the file system.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use nearfs_tests::harness::{PROMPT, end_within, run_within};

use crate::{c_path, checked, errno, mounted};

#[test]
fn times_are_kept_to_the_nanosecond() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    let file = File::create(mount.join("f")).unwrap();
    let times = [
        (UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789), 1_600_000_000, 123_456_789),
        (UNIX_EPOCH - Duration::new(100, 500_000_000), -101, 500_000_000),
        (UNIX_EPOCH + Duration::new(5_000_000_000, 1), 5_000_000_000, 1),
    ];
    for (time, secs, nanos) in times {
        file.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time)).unwrap();
        for path in [mount.join("f"), world.export().join("f")] {
            let attr = fs::metadata(path).unwrap();
            assert_eq!((attr.mtime(), attr.mtime_nsec()), (secs, nanos));
            assert_eq!((attr.atime(), attr.atime_nsec()), (secs, nanos));
        }
    }
}

#[test]
fn changes_are_stamped_by_the_servers_clock() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    fs::write(mount.join("f"), "1").unwrap();
    let first = fs::metadata(mount.join("f")).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    fs::write(mount.join("f"), "2").unwrap();
    let second = fs::metadata(mount.join("f")).unwrap();
    assert!(second.modified().unwrap() > first.modified().unwrap());
    let there = fs::metadata(world.export().join("f")).unwrap();
    assert_eq!((second.mtime(), second.mtime_nsec()), (there.mtime(), there.mtime_nsec()));
    assert_eq!((second.ctime(), second.ctime_nsec()), (there.ctime(), there.ctime_nsec()));
}

#[test]
fn inode_numbers_outlive_the_mount() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    fs::create_dir(mount.join("d")).unwrap();
    fs::write(mount.join("d/f"), "x").unwrap();
    let numbers = |mount: &nearfs_tests::harness::Mount| {
        ["", "d", "d/f"].map(|path| fs::metadata(mount.join(path)).unwrap().ino())
    };
    let before = numbers(&mount);
    let entry = fs::read_dir(mount.join("d")).unwrap().next().unwrap().unwrap();
    assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), before[2]);
    drop(entry);
    mount.unmount();
    assert_eq!(numbers(&world.mount("again", "")), before);
}

#[test]
fn sparse_files_have_their_holes() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    let file = File::options().read(true).write(true).create_new(true).open(mount.join("f")).unwrap();
    let terabyte = 1 << 40;
    file.set_len(3 * terabyte).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", terabyte).unwrap();
    assert_eq!(seek(&file, 0, libc::SEEK_DATA).unwrap(), terabyte);
    assert!(seek(&file, terabyte, libc::SEEK_HOLE).unwrap() <= terabyte + 65536);
    assert_eq!(errno(seek(&file, 2 * terabyte, libc::SEEK_DATA)), libc::ENXIO);
    let attr = fs::metadata(mount.join("f")).unwrap();
    assert!(attr.len() == 3 * terabyte && attr.blocks() < 2048, "{} blocks", attr.blocks());
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    allocate(&file, mode, terabyte, 4096).unwrap();
    assert_eq!(errno(seek(&file, 0, libc::SEEK_DATA)), libc::ENXIO);
    assert_eq!(fs::metadata(world.export().join("f")).unwrap().len(), 3 * terabyte);
}

#[test]
fn extended_attributes_are_the_servers() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    fs::write(mount.join("f"), "").unwrap();
    let path = c_path(&mount.join("f"));
    let set = |name: &std::ffi::CStr, value: &[u8], flags| {
        // SAFETY: both names end with a NUL, and the value has the length that is given.
        checked(i64::from(unsafe {
            libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags)
        }))
    };
    set(c"user.colour", b"blue\0\xff", libc::XATTR_CREATE).unwrap();
    assert_eq!(errno(set(c"user.colour", b"x", libc::XATTR_CREATE)), libc::EEXIST);
    assert_eq!(errno(set(c"user.other", b"x", libc::XATTR_REPLACE)), libc::ENODATA);
    let there = c_path(&world.export().join("f"));
    for place in [&path, &there] {
        let mut value = [0_u8; 16];
        let name = c"user.colour";
        // SAFETY: both names end with a NUL, and the room has the size that is given.
        let size =
            unsafe { libc::getxattr(place.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        assert_eq!(&value[..size as usize], b"blue\0\xff");
    }
}

#[test]
fn the_file_systems_figures_are_the_servers() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    let figures = |path: &std::path::Path| {
        let out = run_within(Command::new("stat").args(["-f", "-c", "%b %c %l %S"]).arg(path), PROMPT);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(figures(mount.path()), figures(&world.export()));
}

#[test]
fn what_the_fuse_library_lacks_is_refused_cleanly() {
    let Some((_world, mount, _watchdog)) = mounted() else { return };
    let unnamed = std::os::unix::fs::OpenOptionsExt::custom_flags(
        File::options().read(true).write(true),
        libc::O_TMPFILE,
    )
    .open(mount.path());
    assert_eq!(errno(unnamed), libc::EOPNOTSUPP);
    fs::write(mount.join("f"), "").unwrap();
    let (status, out, _) = end_within(Command::new("stat").args(["-c", "%w"]).arg(mount.join("f")), PROMPT);
    assert!(status.success());
    assert_eq!(out, b"-\n", "no birth time rather than a wrong one");
}

fn seek(file: &File, offset: u64, whence: i32) -> std::io::Result<u64> {
    // SAFETY: the descriptor is open.
    checked(unsafe { libc::lseek(std::os::fd::AsRawFd::as_raw_fd(file), offset as i64, whence) })
}

fn allocate(file: &File, mode: i32, offset: u64, length: u64) -> std::io::Result<u64> {
    let file = std::os::fd::AsRawFd::as_raw_fd(file);
    // SAFETY: the descriptor is open.
    checked(i64::from(unsafe { libc::fallocate(file, mode, offset as i64, length as i64) }))
}
