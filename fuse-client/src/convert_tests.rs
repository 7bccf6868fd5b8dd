use super::*;
use nearfs_protocol::id::{Change, Generation, Node, NodeId};

fn attr() -> Attr {
    Attr {
        node: Node { id: NodeId(7), generation: Generation(3) },
        change: Change(9),
        kind: FileKind::File,
        mode: 0o4755,
        nlink: 2,
        uid: 10,
        gid: 20,
        rdev: 0,
        size: 5_000_000_000,
        blocks: 8,
        blksize: 4096,
        atime: Time { secs: 1, nanos: 2 },
        mtime: Time { secs: -1, nanos: 500_000_000 },
        ctime: Time { secs: 3, nanos: 0 },
        btime: None,
    }
}

#[test]
fn every_errno_keeps_its_number_except_enosys() {
    for &ours in Errno::ALL {
        let expected = if ours == Errno::ENOSYS { libc::EOPNOTSUPP } else { ours.number() };
        assert_eq!(i32::from(errno(ours)), expected, "{ours}");
    }
}

#[test]
fn attributes_arrive_whole() {
    let shown = file_attr(42, &attr());
    assert_eq!((shown.ino.0, shown.size, shown.blocks, shown.blksize), (42, 5_000_000_000, 8, 4096));
    assert_eq!((shown.perm, shown.nlink, shown.uid, shown.gid), (0o4755, 2, 10, 20));
    assert_eq!(shown.kind, FileType::RegularFile);
    assert_eq!(shown.mtime, UNIX_EPOCH - Duration::from_millis(500));
    assert_eq!(no_attr(FileKind::Directory).ino.0, 0);
}

#[test]
fn kinds_are_all_told_apart() {
    let kinds = [
        (FileKind::File, FileType::RegularFile),
        (FileKind::Directory, FileType::Directory),
        (FileKind::Symlink, FileType::Symlink),
        (FileKind::Fifo, FileType::NamedPipe),
        (FileKind::Socket, FileType::Socket),
        (FileKind::CharDevice, FileType::CharDevice),
        (FileKind::BlockDevice, FileType::BlockDevice),
    ];
    for (ours, theirs) in kinds {
        assert_eq!(file_type(ours), theirs);
    }
}

#[test]
fn times_that_do_not_fit_become_the_epoch() {
    for (secs, nanos, expected) in [
        (0, 0, UNIX_EPOCH),
        (10, 5, UNIX_EPOCH + Duration::new(10, 5)),
        (-10, 0, UNIX_EPOCH - Duration::from_secs(10)),
        (-2, 800_000_000, UNIX_EPOCH - Duration::from_millis(1200)),
        (10, u32::MAX, UNIX_EPOCH + Duration::new(10, 999_999_999)),
    ] {
        assert_eq!(system_time(Time { secs, nanos }), expected, "{secs}.{nanos}");
    }
    system_time(Time { secs: i64::MIN, nanos: 1 });
    system_time(Time { secs: i64::MAX, nanos: 999_999_999 });
}

/// What the library makes of the seconds and nanoseconds that the kernel sent (its `time.rs`).
fn as_the_library_reads_it(secs: i64, nanos: u32) -> SystemTime {
    if secs >= 0 {
        UNIX_EPOCH + Duration::new(secs.unsigned_abs(), nanos)
    } else {
        UNIX_EPOCH - Duration::new(secs.unsigned_abs(), nanos)
    }
}

#[test]
fn times_before_1970_are_what_the_program_asked_for() {
    for (secs, nanos) in [(0, 0), (0, 1), (5, 999_999_999), (-1, 0), (-1, 1), (-1, 999_999_999), (-77, 123)] {
        let time = TimeOrNow::SpecificTime(as_the_library_reads_it(secs, nanos));
        assert_eq!(set_time(time), SetTime::At(Time { secs, nanos }));
    }
    assert_eq!(set_time(TimeOrNow::Now), SetTime::Now);
}

#[test]
fn opened_flags() {
    let closed = Opened { fh: 1, keep_cache: false, direct_io: false, cache_dir: false };
    assert_eq!(fopen_flags(closed), FopenFlags::empty());
    assert_eq!(fopen_flags(Opened { keep_cache: true, ..closed }), FopenFlags::FOPEN_KEEP_CACHE);
    assert_eq!(fopen_flags(Opened { cache_dir: true, ..closed }), FopenFlags::FOPEN_CACHE_DIR);
    assert!(fopen_flags(Opened { direct_io: true, ..closed }).contains(FopenFlags::FOPEN_DIRECT_IO));
}

#[test]
fn locks_go_there_and_back() {
    for (number, kind) in
        [(libc::F_RDLCK, LockKind::Read), (libc::F_WRLCK, LockKind::Write), (libc::F_UNLCK, LockKind::Unlock)]
    {
        let ours = lock(5, 10, 20, number, 99).unwrap();
        assert_eq!(ours, Lock { start: 10, end: 20, kind, style: LockStyle::Posix, owner: 5, pid: 99 });
        assert_eq!(lock_range(&ours), (10, 20, number));
    }
    let whole = lock(5, 0, KERNEL_LOCK_END, libc::F_WRLCK, 99).unwrap();
    assert_eq!(whole.end, u64::MAX);
    assert_eq!(lock_range(&whole), (0, KERNEL_LOCK_END, libc::F_WRLCK));
    assert_eq!(lock(5, 0, 1, 77, 99), None);
}

#[test]
fn device_numbers_are_repacked() {
    for (major, minor, packed) in [(1, 3, 0x0103), (8, 0x12345, (0x123 << 20) | (8 << 8) | 0x45), (0, 0, 0)] {
        assert_eq!(pack_device(libc::makedev(major, minor)), packed);
    }
}
