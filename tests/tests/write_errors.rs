//! Errors of the server's disk reach the program whose bytes they concern, and are not forgotten.
//!
//! EIO and EDQUOT are injected into the server's system calls by strace(1), as this kernel has no failing disks.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nearfs_tests::harness::{Mount, PROMPT, World, can_mount, holds_within, run_within, watchdog};
use nearfs_tests::injection::Injection;

const TEST_TIME_MAX: Duration = Duration::from_secs(150);

macro_rules! mounting {
    () => {
        if !can_mount() {
            return;
        }
        let _watchdog = watchdog(TEST_TIME_MAX);
    };
}

fn errno<T: std::fmt::Debug>(outcome: io::Result<T>) -> i32 {
    outcome.expect_err("it fails").raw_os_error().unwrap()
}

/// A disk of its own in the export, of this many MiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(world: &World, mebibytes: u32) -> SmallDisk {
        let place = world.export().join("small");
        fs::create_dir(&place).unwrap();
        let size = format!("size={mebibytes}m");
        run_within(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "small"]).arg(&place), PROMPT);
        SmallDisk(place)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Makes calls of the server fail.
fn inject(world: &World, rules: &[&str]) -> Option<Injection> {
    Injection::start(world.server().companion().pid(), &world.directory("injection"), rules)
}

fn mounted() -> (World, Mount) {
    let world = World::new();
    let mount = world.mount("mount", "");
    (world, mount)
}

/// A shared mapping of the first page of a file, changed.
fn change_by_mapping(file: &File, bytes: &[u8]) -> Mapping {
    const PAGE_BYTES: usize = 4096;
    // SAFETY: a new mapping of an open file, which nothing else refers to.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(at, libc::MAP_FAILED);
    // SAFETY: the mapping has a page, and the bytes are fewer.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at.cast(), bytes.len().min(PAGE_BYTES)) };
    Mapping(at, PAGE_BYTES)
}

struct Mapping(*mut libc::c_void, usize);

impl Mapping {
    fn sync(&self) -> io::Result<()> {
        // SAFETY: the mapping lives as long as this.
        match unsafe { libc::msync(self.0, self.1, libc::MS_SYNC) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

#[test]
fn a_full_disk_fails_the_write_that_does_not_fit_and_dd_says_so() {
    mounting!();
    let world = World::new();
    let disk = SmallDisk::new(&world, 64);
    let mount = world.mount("mount", "");
    let mut dd = Command::new("dd");
    dd.arg("if=/dev/zero")
        .arg(format!("of={}", mount.join("small/x").display()))
        .args(["bs=1M", "count=200"]);
    let output = dd.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("No space left on device"), "{said}");
    assert!(fs::metadata(disk.0.join("x")).unwrap().len() <= 64 << 20);
    // Room that comes back can be used.
    fs::remove_file(mount.join("small/x")).unwrap();
    let fits = || fs::write(mount.join("small/y"), vec![1; 1 << 20]).is_ok();
    assert!(holds_within(Duration::from_secs(1), fits));
    drop(mount);
}

#[test]
fn a_full_disk_fails_the_sync_of_a_mapping_as_often_as_it_is_asked() {
    mounting!();
    let world = World::new();
    let disk = SmallDisk::new(&world, 2);
    let mount = world.mount("mount", "");
    let file =
        File::options().read(true).write(true).create_new(true).open(mount.join("small/hole")).unwrap();
    file.set_len(4096).unwrap();
    let mut filler = File::create(disk.0.join("filler")).unwrap();
    while filler.write_all(&[7; 4096]).is_ok() {}
    let mapping = change_by_mapping(&file, b"never stored");
    assert_eq!(errno(mapping.sync()), libc::ENOSPC);
    for _ in 0..3 {
        assert!(file.sync_all().is_err(), "what was lost is told to be safe");
    }
    drop((mapping, file));
    assert_eq!(fs::read(disk.0.join("hole")).unwrap(), vec![0; 4096]);
    File::open(mount.join("small/hole")).unwrap().sync_all().expect("who opens it now has lost nothing");
    drop(mount);
}

#[test]
fn a_sync_that_failed_once_does_not_succeed_later() {
    mounting!();
    let (world, mount) = mounted();
    let mut file = File::create(mount.join("f")).unwrap();
    file.write_all(b"written").unwrap();
    let Some(injection) = inject(&world, &["fsync:error=EIO:when=1", "fdatasync:error=EIO:when=1"]) else {
        return;
    };
    assert_eq!(errno(file.sync_all()), libc::EIO);
    assert_eq!(injection.count(), 1);
    // The server's kernel would say yes now.
    assert_eq!(errno(file.sync_all()), libc::EIO);
    assert_eq!(errno(file.sync_data()), libc::EIO);
    let mapping_file = File::options().read(true).write(true).open(mount.join("f")).unwrap();
    let mapping = change_by_mapping(&mapping_file, b"mapped!");
    drop(injection);
    mapping.sync().expect("another descriptor has had no failure");
    assert_eq!(errno(file.sync_all()), libc::EIO);
    drop(file);
    File::open(mount.join("f")).unwrap().sync_all().expect("a file that is opened again begins anew");
}

#[test]
fn a_quota_and_a_broken_disk_are_told_by_the_write_itself() {
    mounting!();
    let (world, mount) = mounted();
    let file = File::create(mount.join("f")).unwrap();
    let rules = ["pwritev2:error=EDQUOT:when=1", "pwrite64:error=EDQUOT:when=1"];
    let Some(injection) = inject(&world, &rules) else { return };
    assert_eq!(errno(file.write_all_at(b"too much", 0)), libc::EDQUOT);
    assert_eq!(injection.count(), 1);
    file.write_all_at(b"fits", 0).unwrap();
    drop(injection);
    file.sync_all().unwrap();
    assert_eq!(fs::read(world.export().join("f")).unwrap(), b"fits");
}

/// Files that are written in the test below.
const FILES: usize = 300;

#[test]
fn no_injected_error_is_lost() {
    mounting!();
    let (world, mount) = mounted();
    let rules = ["pwritev2:error=EIO:when=3+5", "fsync:error=EIO:when=2+3"];
    let Some(injection) = inject(&world, &rules) else { return };
    let (mut told, mut again, mut safe) = (0, 0, 0);
    for number in 0..FILES {
        let path = format!("f{number}");
        let file = File::create(mount.join(&path)).unwrap();
        let mut acknowledged = Vec::new();
        for record in 0..3_u64 {
            let bytes = format!("{number:05} {record:05}\n");
            match file.write_all_at(bytes.as_bytes(), record * 12) {
                Ok(()) => acknowledged.push((record * 12, bytes)),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EIO));
                    told += 1;
                }
            }
        }
        match file.sync_all() {
            Ok(()) => safe += 1,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO));
                told += 1;
                assert!(file.sync_all().is_err(), "{path} is told to be safe after a failure");
                again += 1;
            }
        }
        assert_all_there(&world.export().join(&path), &acknowledged);
    }
    let injected = injection.count();
    eprintln!(
        "{injected} errors injected, {told} told, {again} told again; {safe} of {FILES} files are safe"
    );
    assert_eq!(told, injected, "each error was told once to the program that it concerns");
    assert!(injected >= 250 && again > FILES / 4 && safe > FILES / 4);
    drop(injection);
}

fn assert_all_there(path: &Path, records: &[(u64, String)]) {
    let content = fs::read(path).unwrap();
    for (offset, record) in records {
        let start = usize::try_from(*offset).unwrap();
        assert_eq!(content.get(start..start + record.len()), Some(record.as_bytes()), "{}", path.display());
    }
}
