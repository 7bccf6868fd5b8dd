//! Content: reading, writing, appending, mapping, copying, files that were deleted.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::process::Command;

use nearfs_tests::harness::{PROMPT, run_within};

use crate::{checked, errno, mounted, mounted_with};

#[test]
fn a_write_has_reached_the_server_when_it_returns() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    let file = File::create(mount.join("f")).unwrap();
    for round in 0..50_u64 {
        let text = format!("{round:09}\n");
        file.write_all_at(text.as_bytes(), round * 10).unwrap();
        // Not closed, not synced.
        let there = fs::read(world.export().join("f")).unwrap();
        assert_eq!(there.len() as u64, round * 10 + 10);
        assert!(there.ends_with(text.as_bytes()));
    }
    file.sync_all().unwrap();
    file.sync_data().unwrap();
}

#[test]
fn what_was_written_survives_the_death_of_the_client() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    let mut file = File::create(mount.join("f")).unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    file.write_all(&content).unwrap();
    let pid = mount.pid().cast_signed();
    // SAFETY: the process is the mount's own, which nobody else ends.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    assert!(fs::read(world.export().join("f")).unwrap() == content, "bytes are missing");
}

#[test]
fn files_are_larger_than_four_gigabytes() {
    let Some((_world, mount, _watchdog)) = mounted() else { return };
    let file = File::options().read(true).write(true).create_new(true).open(mount.join("f")).unwrap();
    let places = [(1 << 32) - 3, (1 << 32) + 5, 5 << 40];
    for place in places {
        file.write_all_at(b"here", place).unwrap();
    }
    for place in places {
        let mut found = [0; 4];
        file.read_exact_at(&mut found, place).unwrap();
        assert_eq!(&found, b"here");
    }
}

#[test]
fn direct_io_goes_past_the_caches() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    fs::write(mount.join("f"), [b'1'; 8192]).unwrap();
    let file =
        File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(mount.join("f")).unwrap();
    for digit in [b'2', b'3'] {
        fs::write(world.export().join("f"), [digit; 8192]).unwrap();
        let mut found = [0; 8192];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == [digit; 8192], "content of before");
    }
    file.write_all_at(&[b'4'; 4096], 4096).unwrap();
    assert!(fs::read(world.export().join("f")).unwrap()[4096..] == [b'4'; 4096]);
}

#[test]
fn a_deleted_file_can_be_used_while_it_is_open() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    let mut file = File::options().read(true).write(true).create_new(true).open(mount.join("f")).unwrap();
    file.write_all(b"before").unwrap();
    fs::remove_file(mount.join("f")).unwrap();
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0, "no name is left, not even a hidden one");
    assert_eq!(fs::read_dir(world.export()).unwrap().count(), 0);
    file.write_all(b" after").unwrap();
    file.set_len(10).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "before aft");
    let attr = file.metadata().unwrap();
    assert_eq!((attr.len(), std::os::unix::fs::MetadataExt::nlink(&attr)), (10, 0));
    // A new file of that name is another one.
    fs::write(mount.join("f"), "new").unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10);
}

#[test]
fn an_open_file_stays_the_same_file_when_its_name_is_given_to_another() {
    let Some((_world, mount, _watchdog)) = mounted() else { return };
    fs::write(mount.join("f"), "old").unwrap();
    let mut file = File::open(mount.join("f")).unwrap();
    fs::write(mount.join("g"), "new").unwrap();
    fs::rename(mount.join("g"), mount.join("f")).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old");
    assert_eq!(fs::read_to_string(mount.join("f")).unwrap(), "new");
}

#[test]
fn a_mapping_is_written_by_the_time_msync_returns() {
    let Some((world, mount, _watchdog)) = mounted() else { return };
    fs::write(mount.join("f"), vec![b'-'; 20_000]).unwrap();
    let file = File::options().read(true).write(true).open(mount.join("f")).unwrap();
    let length = 20_000;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of an open file, of the file's length.
    let place = unsafe {
        libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    assert_ne!(place, libc::MAP_FAILED);
    // SAFETY: the mapping is that long, writable, and used by nobody else.
    let bytes = unsafe { std::slice::from_raw_parts_mut(place.cast::<u8>(), length) };
    assert!(bytes.iter().all(|byte| *byte == b'-'));
    bytes[10_000..10_005].copy_from_slice(b"hello");
    // SAFETY: as above.
    checked(i64::from(unsafe { libc::msync(place, length, libc::MS_SYNC) })).unwrap();
    assert_eq!(&fs::read(world.export().join("f")).unwrap()[10_000..10_005], b"hello");
    let mut found = [0; 5];
    file.read_exact_at(&mut found, 10_000).unwrap();
    assert_eq!(&found, b"hello");
    // SAFETY: nothing refers to the mapping from here on.
    unsafe { libc::munmap(place, length) };
}

#[test]
fn programs_run_from_the_mount() {
    let Some((_world, mount, _watchdog)) = mounted() else { return };
    fs::copy("/bin/ls", mount.join("ls")).unwrap();
    fs::write(mount.join("script"), "#!/bin/sh\nexec \"$(dirname \"$0\")\"/ls \"$1\"\n").unwrap();
    fs::set_permissions(mount.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    let out = run_within(Command::new(mount.join("script")).arg(mount.path()), PROMPT);
    assert_eq!(String::from_utf8(out).unwrap(), "ls\nscript\n");
}

#[test]
fn copies_stay_on_the_server() {
    let Some((_world, mount, _watchdog)) = mounted() else { return };
    let content: Vec<u8> = (0..8_000_000_u32).map(|at| (at % 249) as u8).collect();
    fs::write(mount.join("from"), &content).unwrap();
    let transfers = |mount: &nearfs_tests::harness::Mount| mount.sent("read") + mount.sent("write");
    let before = transfers(&mount);
    fs::copy(mount.join("from"), mount.join("to")).unwrap();
    assert!(transfers(&mount) - before <= 1, "the content came through here");
    assert!(fs::read(mount.join("to")).unwrap() == content);
}

#[test]
fn a_full_disk_is_told_by_write() {
    let Some((world, _mount, _watchdog)) = mounted() else { return };
    let small = world.export().join("small");
    fs::create_dir(&small).unwrap();
    run_within(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "small"]).arg(&small), PROMPT);
    let mount = world.mount("beside", "");
    let result = File::create(mount.join("small/f")).and_then(|mut file| file.write_all(&vec![7; 8 << 20]));
    drop(mount);
    let stored = fs::metadata(small.join("f")).map(|attr| attr.len());
    run_within(Command::new("umount").arg("--lazy").arg(&small), PROMPT);
    assert_eq!(errno(result), libc::ENOSPC);
    assert!(stored.unwrap() <= 2 << 20);
}

#[test]
fn without_caches_everything_is_asked_of_the_server() {
    let Some((world, mount, _watchdog)) =
        mounted_with("cache_size=0,attr_timeout=0,entry_timeout=0,negative_timeout=0")
    else {
        return;
    };
    for round in 0..20 {
        fs::write(world.export().join("f"), format!("{round:03}")).unwrap();
        assert_eq!(fs::read_to_string(mount.join("f")).unwrap(), format!("{round:03}"));
        assert!(mount.join("f").exists());
        fs::remove_file(world.export().join("f")).unwrap();
        assert!(!mount.join("f").exists(), "round {round}");
    }
}
