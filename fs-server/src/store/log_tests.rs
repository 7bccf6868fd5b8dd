use std::os::unix::fs::FileExt;

use nearfs_protocol::attr::{FileKind, Lock, LockKind, LockStyle};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::GrantedLimits;
use nearfs_protocol::id::{Fh, Generation, Node, NodeId, RequestId, SessionId, SessionToken};
use nearfs_protocol::message::{Reply, WriteSync};
use nearfs_protocol::name::Name;

use super::*;
use crate::store::Outcome;
use crate::store::record::{Begun, Found, Opened};

fn node(id: u64) -> Node {
    Node { id: NodeId(id), generation: Generation(id * 3) }
}

fn begun() -> Record {
    let limits = GrantedLimits {
        requests_in_flight_max: 512,
        in_flight_bytes_max: 1 << 20,
        payload_bytes_max: 1 << 20,
        connections_max: 4,
        lease_ms: 10_000,
    };
    Record::Begun(Begun {
        session: SessionId(7),
        token: SessionToken([9; 16]),
        limits,
        client: "test".into(),
        uid: Some(0),
        is_shell: false,
        shown: "test".into(),
        path: vec![],
        root: node(2),
    })
}

fn known(id: u64, name: &str) -> Record {
    let place = Some((node(2), Name::new(name.as_bytes()).unwrap()));
    let handle = None;
    Record::Known { node: node(id), found: Found { kind: FileKind::File, place, order: id, handle } }
}

fn opened(fh: u64, id: u64) -> Record {
    let file = Opened {
        node: node(id),
        request: RequestId::new(1, fh),
        readable: true,
        writable: false,
        sync: WriteSync::None,
        handle: None,
        is_shut: false,
        unsafe_since: None,
    };
    Record::Opened { fh: Fh(fh), file }
}

fn lock(kind: LockKind, start: u64, end: u64) -> Record {
    Record::Locked(NodeId(3), Lock { start, end, kind, style: LockStyle::Posix, owner: 1, pid: 4 })
}

fn aside(slot: u16, outcome: Outcome) -> Record {
    Record::Aside { request: RequestId::new(slot, 1), outcome }
}

fn some() -> Vec<Record> {
    vec![
        begun(),
        known(3, "a"),
        known(4, "b"),
        opened(1, 3),
        opened(2, 4),
        Record::Closed(Fh(2)),
        Record::Forgotten(node(4)),
        lock(LockKind::Write, 0, 99),
        lock(LockKind::Unlock, 50, 59),
        known(3, "c"),
        Record::Failed { fh: Fh(1), errno: Errno::EIO },
        Record::Failed { fh: Fh(1), errno: Errno::ENOSPC },
        Record::Failed { fh: Fh(2), errno: Errno::EIO },
        Record::Counted { node: node(3), lookups: 3 },
        Record::GivenBack { node: node(3), lookups: 2 },
        aside(1, Outcome::Done(Ok(Reply::Done))),
        aside(2, Outcome::Done(Ok(Reply::Done))),
        aside(2, Outcome::Begun),
    ]
}

fn log_of(records: &[Record]) -> (tempfile::TempDir, PathBuf, Log) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut log = Log::create(&path).unwrap();
    for record in records {
        log.append(record).unwrap();
    }
    (directory, path, log)
}

fn sorted(image: &Image) -> Vec<String> {
    let mut records: Vec<_> = image.records().map(|record| format!("{record:?}")).collect();
    records.sort();
    records
}

fn image_of(records: &[Record]) -> Vec<String> {
    let mut image = Image::default();
    records.iter().for_each(|record| image.apply(record.clone()).unwrap());
    sorted(&image)
}

#[test]
fn a_log_leads_to_what_happened() {
    let (_directory, path, _) = log_of(&some());
    let (_, image) = Log::open(&path).unwrap();
    assert_eq!(image.nodes.len(), 1);
    assert_eq!(image.nodes[&node(3)].0.place.as_ref().unwrap().1, Name::new(b"c").unwrap());
    assert_eq!(image.files.keys().collect::<Vec<_>>(), [&Fh(1)]);
    assert_eq!((image.last_fh, image.locks().len()), (Fh(2), 2));
    assert_eq!(image.nodes[&node(3)].1, 2);
    assert_eq!(image.files[&Fh(1)].unsafe_since, Some(Errno::EIO));
    assert_eq!(image.aside_slots().collect::<Vec<_>>(), [1]);
}

#[test]
fn it_goes_on_where_it_ended_and_half_a_record_goes() {
    let (_directory, path, log) = log_of(&some());
    let end = log.end;
    drop(log);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 500], end as u64 + 4).unwrap();
    let (mut log, _) = Log::open(&path).unwrap();
    log.append(&known(9, "d")).unwrap();
    drop(log);
    let (log, image) = Log::open(&path).unwrap();
    assert!(log.end > end && image.nodes.contains_key(&node(9)));
}

#[test]
fn no_cut_and_no_flipped_bit_leads_elsewhere() {
    let (_directory, path, log) = log_of(&some());
    let (end, expected) = (log.end, image_of(&some()));
    drop(log);
    let bytes = std::fs::read(&path).unwrap();
    for length in (1..end + 100).chain([STEP_BYTES - 1, STEP_BYTES + 1]) {
        let mut cut = bytes.clone();
        cut.resize(length, 0);
        std::fs::write(&path, cut).unwrap();
        assert!(Log::open(&path).is_err(), "{length}");
    }
    for bit in 0..end * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut image = Image::default();
        assert!(apply_all(&flipped, &mut image).is_err(), "bit {bit}");
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(sorted(&Log::open(&path).unwrap().1), expected);
}

#[test]
fn what_cannot_follow_is_refused() {
    for wrong in [vec![known(3, "a")], vec![begun(), begun()]] {
        let (_directory, path, _) = log_of(&wrong);
        assert!(matches!(Log::open(&path), Err(LogError::Damaged(_))));
    }
}

#[test]
fn a_log_is_written_anew_while_it_goes_on() {
    let mut records = some();
    records.extend((0..60_000).map(|n| known(5 + n % 10, &format!("{}{n}", "x".repeat(n as usize % 200)))));
    let (_directory, path, mut log) = log_of(&records);
    assert!(log.wants_compaction());
    let before = log.end;
    let part = log.compaction_begins().unwrap();
    assert!(!log.wants_compaction());
    let late = [known(77, "late"), Record::Forgotten(node(5)), lock(LockKind::Read, 500, 600)];
    late.iter().for_each(|record| log.append(record).unwrap());
    let compaction = Log::compact(part).unwrap();
    let later = (0..3000).map(|n| known(78, &format!("later{n}"))).collect::<Vec<_>>();
    later.iter().for_each(|record| log.append(record).unwrap());
    log.replace(compaction).unwrap();
    assert!(log.end < before / 10 && !log.wants_compaction());
    log.append(&known(79, "last")).unwrap();
    drop(log);
    records.extend(late);
    records.extend(later);
    records.push(known(79, "last"));
    assert_eq!(sorted(&Log::open(&path).unwrap().1), image_of(&records));
}

#[test]
fn a_full_disk_is_an_error() {
    let (_directory, _, mut log) = log_of(&some());
    let end = log.end;
    log.file = File::open("/dev/full").unwrap();
    log.step = None;
    assert!(log.append(&known(9, "d")).is_err());
    assert_eq!(log.end, end);
}
