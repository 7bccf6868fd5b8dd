use std::os::unix::fs::FileExt;

use nearfs_protocol::message::Reply;

use super::*;
use crate::store::Outcome;

const BOOT: BootId = BootId([1; 16]);
const DONE: Answer = Ok(Reply::Done);

fn table() -> (tempfile::TempDir, std::path::PathBuf, Table) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("slots");
    let table = Table::create(&path, BOOT).unwrap();
    (directory, path, table)
}

#[test]
fn what_was_done_is_there_when_the_table_is_opened_again() {
    let (_directory, path, mut table) = table();
    let (done, begun) = (RequestId::new(0, 9), RequestId::new(511, 2));
    table.begin(done, 4).unwrap();
    assert_eq!(table.finish(RequestId::new(0, 8), &DONE), Noted::Nowhere, "an answer to another request");
    assert_eq!(table.finish(RequestId::new(600, 8), &DONE), Noted::Nowhere, "a slot that there is not");
    assert_eq!((table.finish(done, &DONE), table.finish(done, &DONE)), (Noted::Here, Noted::Nowhere));
    table.begin(begun, 5).unwrap();
    assert!(table.is_underway(begun) && !table.is_underway(done));
    drop(table);
    for _ in 0..2 {
        let (mut table, kept) = Table::open(&path, BOOT).unwrap();
        let expected = [
            Kept { id: done, fingerprint: 4, outcome: Outcome::Done(DONE) },
            Kept { id: begun, fingerprint: 5, outcome: Outcome::Begun },
        ];
        assert_eq!(kept.unwrap(), expected);
        assert!(table.is_underway(begun));
    }
}

#[test]
fn only_what_is_used_takes_room() {
    let (_directory, path, _table) = table();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap());
    assert!(blocks * 512 < 64 * 1024, "{blocks}");
}

#[test]
fn another_start_of_the_system_remembers_nothing() {
    let (_directory, path, mut table) = table();
    table.begin(RequestId::new(0, 1), 4).unwrap();
    drop(table);
    assert!(Table::open(&path, BootId([2; 16])).unwrap().1.is_none());
    assert_eq!(Table::open(&path, BootId([2; 16])).unwrap().1, Some(vec![]));
}

#[test]
fn a_table_that_was_cut_or_changed_is_refused() {
    let (_directory, path, mut table) = table();
    table.begin(RequestId::new(0, 1), 4).unwrap();
    drop(table);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for at in [0, 17, HEAD_BYTES, HEAD_BYTES + 24] {
        let mut byte = [0];
        File::open(&path).unwrap().read_exact_at(&mut byte, at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at as u64).unwrap();
        assert!(Table::open(&path, BOOT).is_err(), "{at}");
        file.write_all_at(&byte, at as u64).unwrap();
    }
    Table::open(&path, BOOT).unwrap();
    for length in [0, 1, HEAD_BYTES, TABLE_BYTES - 1, TABLE_BYTES + 1] {
        file.set_len(length as u64).unwrap();
        assert!(matches!(Table::open(&path, BOOT), Err(TableError::Length)), "{length}");
    }
}
