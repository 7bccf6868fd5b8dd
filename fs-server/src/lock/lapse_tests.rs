//! Locks of sessions whose lease has run out, against a model that remembers each byte.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nearfs_protocol::attr::LockKind;
use nearfs_protocol::id::RequestId;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::super::Denied;
use super::*;

const NODE: NodeId = NodeId(5);
const BYTES: u64 = 12;
const SESSIONS: u64 = 3;

/// The open files of a session of a test, which may be in use.
#[derive(Clone, Default)]
struct Files {
    in_use: Arc<AtomicBool>,
    shut: Arc<Mutex<BTreeSet<NodeId>>>,
}

impl Fence for Files {
    fn shut(&self, node: NodeId) -> bool {
        let shut = !self.in_use.load(Ordering::Relaxed);
        if shut {
            self.shut.lock().insert(node);
        }
        shut
    }
}

impl Files {
    fn are_shut(&self) -> bool {
        self.shut.lock().contains(&NODE)
    }
}

fn write(start: u64, end: u64) -> Lock {
    Lock { start, end, kind: LockKind::Write, style: LockStyle::Posix, owner: 1, pid: 1 }
}

fn session(number: u64) -> SessionId {
    SessionId(number)
}

fn lapse(table: &mut LockTable, number: u64) -> Files {
    let files = Files::default();
    assert_eq!(table.lapse(session(number), Box::new(files.clone())), []);
    files
}

#[test]
fn what_nobody_asks_for_stays() {
    let mut table = LockTable::default();
    table.set(NODE, session(1), &write(0, 9)).unwrap();
    table.set(NodeId(6), session(1), &write(0, 9)).unwrap();
    let files = lapse(&mut table, 1);
    assert_eq!(table.conflict(NODE, session(2), &write(0, 0)), None, "whoever asks would get it");
    table.set(NODE, session(2), &write(10, 19)).unwrap();
    let read = Lock { kind: LockKind::Read, ..write(20, 29) };
    table.set(NodeId(6), session(2), &read).unwrap();
    assert_eq!(table.revive(session(1)), []);
    assert!(!files.are_shut());
    assert_eq!(table.of_session(session(1)).len(), 2);
    assert_eq!(table.set(NODE, session(2), &write(0, 9)), Err(Denied::Conflict));
}

#[test]
fn who_asks_gets_it_and_the_files_are_shut() {
    let mut table = LockTable::default();
    table.set(NODE, session(1), &write(0, 9)).unwrap();
    table.set(NODE, session(1), &Lock { style: LockStyle::Flock, ..write(0, u64::MAX) }).unwrap();
    table.set(NodeId(6), session(1), &write(0, 9)).unwrap();
    let files = lapse(&mut table, 1);
    table.set(NODE, session(2), &write(5, 5)).unwrap();
    assert!(files.are_shut());
    // All of that node went, since no file of it can be used any more; other nodes did not.
    assert_eq!(table.of_session(session(1)), [(NodeId(6), write(0, 9))]);
    assert_eq!((table.count(session(1)), table.count(session(2))), (1, 1));
}

#[test]
fn a_file_in_use_keeps_its_locks_until_it_is_not() {
    let mut table = LockTable::default();
    table.set(NODE, session(1), &write(0, 9)).unwrap();
    let files = lapse(&mut table, 1);
    files.in_use.store(true, Ordering::Relaxed);
    assert_eq!(table.set(NODE, session(2), &write(0, 9)), Err(Denied::Conflict));
    table.wait((session(2), RequestId(7)), NODE, &write(0, 9)).unwrap();
    assert_eq!(table.retry(), []);
    files.in_use.store(false, Ordering::Relaxed);
    assert_eq!(table.retry(), [((session(2), RequestId(7)), Ok(()))]);
    assert!(files.are_shut());
}

#[test]
fn those_who_wait_get_it_when_the_lease_ends() {
    let mut table = LockTable::default();
    table.set(NODE, session(1), &write(0, 9)).unwrap();
    table.wait((session(2), RequestId(7)), NODE, &write(0, 9)).unwrap();
    table.wait((session(1), RequestId(8)), NODE, &write(20, 29)).unwrap();
    let files = Files::default();
    let decided = table.lapse(session(1), Box::new(files.clone()));
    assert_eq!(decided, [((session(2), RequestId(7)), Ok(()))]);
    assert!(files.are_shut());
    // What it waits for itself it does not get while it is away, and not through a file that is shut.
    assert_eq!(table.revive(session(1)), [((session(1), RequestId(8)), Err(Errno::EIO))]);
}

#[test]
fn who_waits_goes_on_waiting_when_it_is_back() {
    let mut table = LockTable::default();
    table.set(NODE, session(2), &write(0, 9)).unwrap();
    table.wait((session(1), RequestId(8)), NODE, &write(0, 9)).unwrap();
    let files = lapse(&mut table, 1);
    assert_eq!(table.release(NODE, LockStyle::Posix, Owner { session: session(2), owner: 1 }), []);
    assert_eq!(table.revive(session(1)), [((session(1), RequestId(8)), Ok(()))]);
    assert!(!files.are_shut());
}

#[test]
fn one_who_is_there_keeps_the_locks_of_all() {
    let mut table = LockTable::default();
    let read = Lock { kind: LockKind::Read, ..write(0, 9) };
    table.set(NODE, session(1), &read).unwrap();
    table.set(NODE, session(2), &read).unwrap();
    let files = lapse(&mut table, 1);
    assert_eq!(table.set(NODE, session(3), &write(0, 9)), Err(Denied::Conflict));
    assert!(!files.are_shut());
    assert_eq!(table.conflict(NODE, session(3), &write(0, 9)), Some(read));
}

#[derive(Clone, Debug)]
enum Step {
    Set(u64, Lock),
    Lapse(u64),
    Revive(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(LockKind::Read), Just(LockKind::Write), Just(LockKind::Unlock)];
    let set = (0..SESSIONS, kind, 0..BYTES, 0..BYTES)
        .prop_map(|(of, kind, a, b)| Step::Set(of, Lock { kind, ..write(a.min(b), a.max(b)) }));
    prop_oneof![8 => set, 1 => (0..SESSIONS).prop_map(Step::Lapse), 1 => (0..SESSIONS).prop_map(Step::Revive)]
}

#[derive(Default)]
struct Model {
    held: BTreeMap<(u64, u64), LockKind>,
    away: BTreeMap<u64, Files>,
}

impl Model {
    fn in_the_way(&self, of: u64, lock: &Lock) -> BTreeSet<u64> {
        let excludes = |kind: LockKind| kind == LockKind::Write || lock.kind == LockKind::Write;
        let ranges = self.held.iter().filter(|&(&(session, byte), &kind)| {
            session != of && (lock.start..=lock.end).contains(&byte) && excludes(kind)
        });
        if lock.kind == LockKind::Unlock {
            return BTreeSet::new();
        }
        ranges.map(|(&(session, _), _)| session).collect()
    }

    /// Whether the lock is had afterwards.
    fn set(&mut self, of: u64, lock: &Lock) -> bool {
        let in_the_way = self.in_the_way(of, lock);
        if !in_the_way.iter().all(|session| self.away.contains_key(session)) {
            return false;
        }
        self.held.retain(|(session, _), _| !in_the_way.contains(session));
        for byte in lock.start..=lock.end {
            match lock.kind {
                LockKind::Unlock => self.held.remove(&(of, byte)),
                LockKind::Read | LockKind::Write => self.held.insert((of, byte), lock.kind),
            };
        }
        true
    }
}

proptest! {
    #[test]
    fn nobody_loses_a_lock_that_still_has_a_file(steps in prop::collection::vec(any_step(), 1..80)) {
        let (mut table, mut model) = (LockTable::default(), Model::default());
        for step in steps {
            match step {
                Step::Set(of, lock) if !model.away.contains_key(&of) => {
                    let taken_from = model.in_the_way(of, &lock);
                    prop_assert_eq!(table.set(NODE, session(of), &lock).is_ok(), model.set(of, &lock));
                    for other in taken_from {
                        let lost = table.count(session(other)) == 0;
                        prop_assert_eq!(lost, model.away.get(&other).is_some_and(Files::are_shut));
                    }
                }
                Step::Lapse(of) if !model.away.contains_key(&of) => {
                    let files = lapse(&mut table, of);
                    model.away.insert(of, files);
                }
                Step::Revive(of) => {
                    prop_assert_eq!(table.revive(session(of)), []);
                    model.away.remove(&of);
                }
                Step::Set(..) | Step::Lapse(_) => {}
            }
            for of in 0..SESSIONS {
                let held: BTreeMap<u64, LockKind> = table
                    .of_session(session(of))
                    .into_iter()
                    .flat_map(|(_, lock)| (lock.start..=lock.end).map(move |byte| (byte, lock.kind)))
                    .collect();
                let expected: BTreeMap<u64, LockKind> =
                    model.held.range((of, 0)..(of + 1, 0)).map(|(&(_, byte), &kind)| (byte, kind)).collect();
                prop_assert_eq!(held, expected);
            }
        }
    }
}
