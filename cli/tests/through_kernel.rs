//! What the FUSE adaptor alone is responsible for, seen by programs: sizes of attributes, old times, numbers
//! of files, locks, and calls that make no sense for files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use support::{World, can_mount};

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// The errno of a system call that must have failed.
#[track_caller]
fn errno_of(result: i64) -> i32 {
    let error = io::Error::last_os_error();
    assert_eq!(result, -1, "the call succeeded");
    error.raw_os_error().unwrap()
}

#[test]
fn times_before_1970_keep_their_fractions() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    let file = File::create(mount.place.join("file")).unwrap();
    for nanos in [1, 500_000_000, 1_500_000_001, 1_000_000_000_000_000_007] {
        let time = UNIX_EPOCH - Duration::from_nanos(nanos);
        file.set_modified(time).unwrap();
        for place in [&mount.place, &world.export()] {
            assert_eq!(fs::metadata(place.join("file")).unwrap().modified().unwrap(), time, "{nanos}");
        }
    }
}

#[test]
fn sizes_of_extended_attributes_can_be_asked_for() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    let path = mount.place.join("file");
    File::create(&path).unwrap();
    let (path, name) = (c_string(&path), c"user.colour");
    let mut room = [0u8; 64];
    // SAFETY: all pointers are to values that live through the calls, with their true lengths.
    unsafe {
        let set = |flags| libc::setxattr(path.as_ptr(), name.as_ptr(), b"blue".as_ptr().cast(), 4, flags);
        let get = |room: &mut [u8]| {
            libc::getxattr(path.as_ptr(), name.as_ptr(), room.as_mut_ptr().cast(), room.len())
        };
        if set(0) != 0 {
            eprintln!("SKIPPED: no extended attributes in {path:?}");
            return;
        }
        assert_eq!(get(&mut []), 4, "asked for the size");
        assert_eq!(errno_of(get(&mut room[..3]) as i64), libc::ERANGE);
        assert_eq!((get(&mut room), &room[..4]), (4, &b"blue"[..]));
        assert_eq!(errno_of(i64::from(set(libc::XATTR_CREATE))), libc::EEXIST);
        let list = |room: &mut [u8]| libc::listxattr(path.as_ptr(), room.as_mut_ptr().cast(), room.len());
        assert_eq!(list(&mut []), 12);
        assert_eq!(errno_of(list(&mut room[..11]) as i64), libc::ERANGE);
        assert_eq!((list(&mut room), &room[..12]), (12, &b"user.colour\0"[..]));
        assert_eq!(libc::removexattr(path.as_ptr(), name.as_ptr()), 0);
        assert_eq!(errno_of(get(&mut room) as i64), libc::ENODATA);
    }
}

#[test]
fn files_have_the_numbers_and_kinds_that_they_have_on_the_server() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &["-o", "dev"]);
    let here = |name: &str| c_string(&mount.place.join(name));
    fs::create_dir(mount.place.join("directory")).unwrap();
    fs::write(mount.place.join("file"), "").unwrap();
    std::os::unix::fs::symlink("file", mount.place.join("symlink")).unwrap();
    let null = libc::makedev(1, 3);
    // SAFETY: the names are NUL-terminated and live through the calls.
    unsafe {
        assert_eq!(libc::mkfifo(here("fifo").as_ptr(), 0o600), 0);
        assert_eq!(libc::mknod(here("device").as_ptr(), libc::S_IFCHR | 0o600, null), 0);
    }
    let _socket = std::os::unix::net::UnixListener::bind(mount.place.join("socket")).unwrap();
    assert_eq!(fs::metadata(&mount.place).unwrap().ino(), fs::metadata(world.export()).unwrap().ino());
    let mut seen = 0;
    for entry in fs::read_dir(&mount.place).unwrap().map(Result::unwrap) {
        let (far, kind) = (world.export().join(entry.file_name()), entry.file_type().unwrap());
        let far = fs::symlink_metadata(far).unwrap();
        assert_eq!(entry.ino(), far.ino(), "{entry:?}");
        assert_eq!((entry.metadata().unwrap().ino(), kind), (far.ino(), far.file_type()), "{entry:?}");
        seen += 1;
    }
    assert_eq!(seen, 6);
    let device = fs::metadata(mount.place.join("device")).unwrap();
    assert!(device.file_type().is_char_device() && device.rdev() == null);
}

#[test]
fn locks_of_both_kinds_are_seen_by_the_other_mount() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let (one, two) = (world.mount("one", &[]), world.mount("two", &[]));
    let open = |place: &Path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(place.join("file"))
            .unwrap()
    };
    let (one, two) = (open(&one.place), open(&two.place));
    assert_eq!(flock(&one, libc::LOCK_EX), 0);
    assert_eq!(errno_of(flock(&two, libc::LOCK_EX | libc::LOCK_NB)), libc::EAGAIN);
    assert_eq!(flock(&one, libc::LOCK_UN), 0);
    assert_eq!(flock(&two, libc::LOCK_EX | libc::LOCK_NB), 0);
    assert_eq!(flock(&two, libc::LOCK_UN), 0);

    let mut range = lock_of(libc::F_WRLCK, 10, 20);
    assert_eq!(fcntl(&one, libc::F_SETLK, &mut range), 0);
    assert_eq!(errno_of(fcntl(&two, libc::F_SETLK, &mut lock_of(libc::F_RDLCK, 15, 1))), libc::EAGAIN);
    assert_eq!(fcntl(&two, libc::F_SETLK, &mut lock_of(libc::F_RDLCK, 30, 0)), 0, "to the end");
    let mut found = lock_of(libc::F_RDLCK, 0, 0);
    assert_eq!(fcntl(&two, libc::F_GETLK, &mut found), 0);
    assert_eq!((i32::from(found.l_type), found.l_start, found.l_len), (libc::F_WRLCK, 10, 20));
    let mut found = lock_of(libc::F_WRLCK, 0, 5);
    assert_eq!(fcntl(&two, libc::F_GETLK, &mut found), 0);
    assert_eq!(i32::from(found.l_type), libc::F_UNLCK);
}

#[test]
fn locks_stay_here_if_they_are_told_to() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let (one, two) = (world.mount("one", &["-o", "local_lock=all"]), world.mount("two", &[]));
    fs::write(one.place.join("file"), "").unwrap();
    let open = |place: &Path| OpenOptions::new().write(true).open(place.join("file")).unwrap();
    let (here, also_here, there) = (open(&one.place), open(&one.place), open(&two.place));
    assert_eq!(flock(&here, libc::LOCK_EX), 0);
    assert_eq!(errno_of(flock(&also_here, libc::LOCK_EX | libc::LOCK_NB)), libc::EAGAIN);
    assert_eq!(flock(&there, libc::LOCK_EX | libc::LOCK_NB), 0);
}

#[test]
fn calls_that_make_no_sense_for_files_fail_as_they_do_elsewhere() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mount = world.mount("mnt", &[]);
    fs::write(mount.place.join("file"), "text").unwrap();
    let file = File::open(mount.place.join("file")).unwrap();
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut terminal = std::mem::MaybeUninit::<libc::termios>::uninit();
    // SAFETY: both pointers are to values that live through the calls and are large enough for them.
    unsafe {
        assert_eq!(libc::poll(&raw mut poll, 1, 5000), 1);
        let terminal = libc::ioctl(file.as_raw_fd(), libc::TCGETS, terminal.as_mut_ptr());
        assert_eq!(errno_of(i64::from(terminal)), libc::ENOTTY);
    }
    let nameless = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(&mount.place);
    assert_eq!(nameless.unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    let long = mount.place.join("n".repeat(256));
    assert_eq!(File::create(long).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
}

#[test]
fn identity_options_change_what_is_shown() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    fs::write(world.export().join("file"), "").unwrap();
    let mount = world.mount("mnt", &["-o", "uid=1234,gid=5678,umask=077"]);
    let shown = fs::metadata(mount.place.join("file")).unwrap();
    assert_eq!((shown.uid(), shown.gid(), shown.mode() & 0o777), (1234, 5678, 0o600));
}

fn flock(file: &File, how: i32) -> i64 {
    // SAFETY: the descriptor is open.
    i64::from(unsafe { libc::flock(file.as_raw_fd(), how) })
}

fn fcntl(file: &File, command: i32, lock: &mut libc::flock) -> i64 {
    // SAFETY: the descriptor is open and the lock lives through the call.
    i64::from(unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut *lock) })
}

fn lock_of(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}
