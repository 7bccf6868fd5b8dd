//! Content: read, written, appended, allocated, copied, emptied.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nearfs_fs_server::dispatch::Served;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::limits::PAYLOAD_BYTES_MAX;
use nearfs_protocol::message::{ReleasedFile, Reply, Request, SeekTarget, WriteAt, WriteSync};

use crate::support::{client, next_id, opened};

#[test]
fn what_is_written_is_read() {
    let (served, client) = client();
    let (fh, attr) = client.create("f", 0o644, 0o022).unwrap();
    assert_eq!((attr.size, attr.mode), (0, 0o644));
    let written = client.write(fh, WriteAt::Offset(3), b"hello").unwrap();
    assert_eq!((written.size, written.offset, written.attr.size), (5, 3, 8));
    assert!(written.before.same_as(attr.change) && !written.before.same_as(written.attr.change));
    assert_eq!(client.read(fh, 0, 100).unwrap(), b"\0\0\0hello");
    assert_eq!(client.read(fh, 5, 2).unwrap(), b"ll");
    assert_eq!(client.read(fh, 8, 2).unwrap(), b"");
    assert_eq!(std::fs::read(served.path("f")).unwrap(), b"\0\0\0hello");
    let large = vec![9; PAYLOAD_BYTES_MAX];
    assert_eq!(client.write(fh, WriteAt::Offset(1 << 33), &large).unwrap().size, PAYLOAD_BYTES_MAX as u64);
    assert_eq!(client.read(fh, 1 << 33, PAYLOAD_BYTES_MAX as u32).unwrap(), large);
    assert_eq!(client.read(fh, 0, PAYLOAD_BYTES_MAX as u32 + 1), Err(Errno::EINVAL));
    assert_eq!(client.read(fh, u64::MAX, 1), Err(Errno::EINVAL));
    assert_eq!(client.write(fh, WriteAt::Offset(u64::MAX), b"x"), Err(Errno::EINVAL));
}

#[test]
fn a_file_is_read_and_written_as_it_was_opened() {
    let (_served, client) = client();
    let (_, attr) = client.create("f", 0o644, 0).unwrap();
    let (read_only, _) = client.open(attr.node, libc::O_RDONLY).unwrap();
    let (write_only, _) = client.open(attr.node, libc::O_WRONLY).unwrap();
    assert_eq!(client.write(read_only, WriteAt::End, b"x"), Err(Errno::EBADF));
    assert_eq!(client.read(write_only, 0, 1), Err(Errno::EBADF));
    let released = [read_only, write_only].map(|fh| ReleasedFile { fh, flock_owner: None });
    assert_eq!(client.ask(Request::Release { files: released.to_vec() }), Ok(Reply::Done));
    assert_eq!(client.ask(Request::Release { files: released.to_vec() }), Ok(Reply::Done));
    assert_eq!(client.read(read_only, 0, 1), Err(Errno::EBADF));
    assert_eq!(client.files.open_file_count(), 1);
}

#[test]
fn appends_of_many_never_overlap() {
    let (served, first) = client();
    first.create("log", 0o644, 0).unwrap();
    let offsets: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let client = served.client();
                scope.spawn(move || {
                    let node = client.lookup("log").unwrap().node;
                    let (fh, _) = client.open(node, libc::O_WRONLY | libc::O_APPEND).unwrap();
                    let append = |number| {
                        let record = format!("{writer}:{number:06}\n");
                        let written = client.write(fh, WriteAt::End, record.as_bytes()).unwrap();
                        assert_eq!(written.size, 9);
                        assert!(written.attr.size >= written.offset + 9);
                        written.offset
                    };
                    (0..500).map(append).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let text = std::fs::read_to_string(served.path("log")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((lines.len(), text.len()), (2000, 18_000));
    let mut sorted = offsets;
    sorted.sort_unstable();
    assert!(sorted.iter().enumerate().all(|(at, &offset)| offset == at as u64 * 9));
}

#[test]
fn opening_can_empty_and_bring_the_content() {
    let (served, client) = client();
    std::fs::write(served.path("f"), "content").unwrap();
    let node = client.lookup("f").unwrap().node;
    let open = |flags: i32| {
        client.ask_with(Request::Open { node, flags: flags as u32, content_bytes_max: 100 }, Vec::new())
    };
    let (reply, content) = open(libc::O_RDWR).unwrap();
    assert!(matches!(reply, Reply::Opened { whole: true, .. }) && content == b"content");
    let (reply, content) = open(libc::O_WRONLY).unwrap();
    assert!(matches!(reply, Reply::Opened { whole: false, .. }) && content.is_empty());
    for flags in [libc::O_RDWR | libc::O_TRUNC, libc::O_RDONLY | libc::O_TRUNC] {
        std::fs::write(served.path("f"), "again").unwrap();
        let (reply, content) = open(flags).unwrap();
        let Reply::Opened { attr, whole: true, .. } = reply else { panic!("{reply:?}") };
        assert_eq!((attr.size, content.len()), (0, 0));
        assert_eq!(std::fs::metadata(served.path("f")).unwrap().len(), 0);
    }
    let directory = client.mkdir(client.root(), "d").unwrap().node;
    assert_eq!(client.open(directory, libc::O_RDONLY), Err(Errno::EISDIR));
}

#[test]
fn create_opens_what_others_made_unless_it_must_be_new() {
    let (served, client) = client();
    std::fs::write(served.path("f"), "there").unwrap();
    let create = |text: &str, flags: i32| client.create_in(client.root(), text, (0o644, 0), flags);
    assert_eq!(create("f", libc::O_RDWR | libc::O_EXCL), Err(Errno::EEXIST));
    let (fh, attr) = create("f", libc::O_RDWR).unwrap();
    assert_eq!((attr.size, client.read(fh, 0, 9).unwrap()), (5, b"there".to_vec()));
    assert_eq!(create("f", libc::O_RDWR | libc::O_TRUNC).unwrap().1.size, 0);
    client.mkdir(client.root(), "d").unwrap();
    assert_eq!(create("d", libc::O_RDWR), Err(Errno::EISDIR));
    std::os::unix::fs::symlink("/tmp/nearfs-must-not-appear", served.path("l")).unwrap();
    assert_eq!(create("l", libc::O_RDWR), Err(Errno::ESTALE));
    assert!(!std::path::Path::new("/tmp/nearfs-must-not-appear").exists());
}

#[test]
fn files_without_a_name_can_get_one() {
    let (served, client) = client();
    let (parent, flags) = (client.root(), libc::O_RDWR as u32);
    let make = || opened(client.ask(Request::CreateUnnamed { parent, mode: 0o640, umask: 0, flags }));
    let (fh, attr) = make().unwrap();
    assert_eq!((attr.nlink, attr.mode), (0, 0o640));
    client.write(fh, WriteAt::Offset(0), b"born").unwrap();
    assert_eq!(client.attr(attr.node).unwrap().size, 4);
    let request =
        Request::Link { node: attr.node, new_parent: client.root(), new_name: crate::support::name("named") };
    client.ask(request).unwrap();
    assert_eq!(std::fs::read(served.path("named")).unwrap(), b"born");
}

#[test]
fn space_is_allocated_freed_and_found() {
    let (served, client) = client();
    let (fh, _) = client.create("f", 0o644, 0).unwrap();
    let ones = vec![1; 1 << 16];
    client.write(fh, WriteAt::Offset(0), &ones).unwrap();
    client.write(fh, WriteAt::Offset(1 << 20), &ones).unwrap();
    let seek = |offset, target| client.ask(Request::Seek { fh, offset, target });
    assert_eq!(seek(0, SeekTarget::Hole), Ok(Reply::Offset(1 << 16)));
    assert_eq!(seek(1 << 16, SeekTarget::Data), Ok(Reply::Offset(1 << 20)));
    assert_eq!(seek(1 << 30, SeekTarget::Data), Err(Errno::ENXIO));
    let punch = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as u32;
    let allocate = |mode, offset, length| client.ask(Request::Allocate { fh, mode, offset, length });
    let Reply::Changed { before, attr } = allocate(punch, 0, 1 << 16).unwrap() else { panic!() };
    assert!(!before.same_as(attr.change));
    assert_eq!(client.read(fh, 0, 10).unwrap(), [0; 10]);
    assert!(matches!(allocate(0, 0, 1 << 22), Ok(Reply::Changed { attr, .. }) if attr.size == 1 << 22));
    assert_eq!(allocate(1 << 30, 0, 10), Err(Errno::EOPNOTSUPP));
    assert_eq!(allocate(0, 0, 0), Err(Errno::EINVAL));
    assert_eq!(std::fs::metadata(served.path("f")).unwrap().len(), 1 << 22);
}

#[test]
fn copies_stay_on_the_server() {
    let (served, client) = client();
    std::fs::write(served.path("from"), [vec![1; 100_000], vec![2; 100_000]].concat()).unwrap();
    let (from, _) = client.open(client.lookup("from").unwrap().node, libc::O_RDONLY).unwrap();
    let (to, _) = client.create("to", 0o644, 0).unwrap();
    let copy = |from, from_offset, to, to_offset, length| {
        client.ask(Request::CopyRange { from, from_offset, to, to_offset, length })
    };
    let Ok(Reply::Written(written)) = copy(from, 50_000, to, 10, 1 << 40) else { panic!() };
    assert_eq!((written.size, written.offset, written.attr.size), (150_000, 10, 150_010));
    let copied = std::fs::read(served.path("to")).unwrap();
    assert!(copied[10..50_010].iter().all(|&byte| byte == 1));
    assert!(copied[50_010..].iter().all(|&byte| byte == 2));
    assert_eq!(copy(to, 0, to, 10, 100), Err(Errno::EINVAL), "overlap");
    assert_eq!(copy(from, 0, from, 10, 100), Err(Errno::EBADF));
}

#[test]
fn what_waits_for_the_disk_is_done_elsewhere() {
    let (_served, client) = client();
    let (fh, _) = client.create("f", 0o644, 0).unwrap();
    let write = |sync, len| {
        client.serve(next_id(), Request::Write { fh, at: WriteAt::Offset(0), sync }, vec![1; len])
    };
    assert!(matches!(write(WriteSync::None, 4096), Served::Answered(_)));
    assert!(matches!(write(WriteSync::All, 4096), Served::Slow(_)));
    assert!(matches!(write(WriteSync::None, PAYLOAD_BYTES_MAX), Served::Slow(_)));
    assert!(matches!(
        client.serve(next_id(), Request::Fsync { fh, data_only: true }, Vec::new()),
        Served::Slow(_)
    ));
    assert_eq!(client.ask(Request::Fsync { fh, data_only: false }), Ok(Reply::Done));
    assert_eq!(client.ask(Request::FsyncDir { node: client.root(), data_only: false }), Ok(Reply::Done));
    // A file opened with O_SYNC is synced whatever the single write asks for.
    let node = client.lookup("f").unwrap().node;
    let (synced, _) = client.open(node, libc::O_WRONLY | libc::O_SYNC).unwrap();
    let request = Request::Write { fh: synced, at: WriteAt::Offset(0), sync: WriteSync::None };
    assert!(matches!(client.serve(next_id(), request, vec![1]), Served::Slow(_)));
}

#[test]
fn every_change_shows_in_the_counter() {
    let (served, client) = client();
    let (fh, attr) = client.create("f", 0o644, 0).unwrap();
    let mut last = attr.change;
    let file = std::fs::OpenOptions::new().write(true).open(served.path("f")).unwrap();
    for round in 0..2000_u64 {
        if round % 2 == 0 {
            let written = client.write(fh, WriteAt::Offset(0), &round.to_le_bytes()).unwrap();
            assert!(written.before.same_as(last) || written.before.0 == 0);
        } else {
            // The same size, behind our back.
            file.write_all_at(&round.to_le_bytes(), 0).unwrap();
        }
        let change = client.attr(attr.node).unwrap().change;
        assert!(!change.same_as(last), "round {round}");
        last = change;
    }
}

#[test]
fn a_lease_of_another_program_is_waited_for_elsewhere() {
    let (served, client) = client();
    std::fs::write(served.path("f"), "leased").unwrap();
    let node = client.lookup("f").unwrap().node;
    let holder = std::fs::File::open(served.path("f")).unwrap();
    // SIGURG, which is ignored, instead of SIGIO, which would end the test.
    let control = |command, argument: i32| {
        // SAFETY: the descriptor is open, and both commands take a number.
        let outcome = unsafe { libc::fcntl(holder.as_raw_fd(), command, argument) };
        assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    };
    const SET_SIGNAL: i32 = 10;
    control(SET_SIGNAL, libc::SIGURG);
    control(libc::F_SETLEASE, libc::F_RDLCK);
    let request = Request::Open { node, flags: libc::O_RDWR as u32, content_bytes_max: 0 };
    let Served::Slow(waiting) = client.serve(next_id(), request, Vec::new()) else { panic!("must wait") };
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| waiting.run().answer);
        control(libc::F_SETLEASE, libc::F_UNLCK);
        assert!(matches!(opened.join().unwrap(), Ok(Reply::Opened { .. })));
    });
}
