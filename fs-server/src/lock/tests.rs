//! The table against a model that remembers each byte.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BYTES: u64 = 24;
const NODE: NodeId = NodeId(5);

fn lock(kind: LockKind, start: u64, end: u64, owner: u64) -> Lock {
    Lock { start, end, kind, style: LockStyle::Posix, owner, pid: owner as u32 }
}

fn session(owner: u64) -> SessionId {
    SessionId(owner % 2)
}

fn wait_id(number: u64, owner: u64) -> WaitId {
    (session(owner), RequestId(number))
}

/// For each owner and byte, what it holds of it.
#[derive(Default)]
struct Model(BTreeMap<(u64, u64), LockKind>);

impl Model {
    fn is_free(&self, lock: &Lock) -> bool {
        !self.0.iter().any(|(&(owner, byte), &kind)| {
            let exclusive = kind == LockKind::Write || lock.kind == LockKind::Write;
            owner != lock.owner && (lock.start..=lock.end).contains(&byte) && exclusive
        })
    }

    fn set(&mut self, lock: &Lock) -> bool {
        let free = lock.kind == LockKind::Unlock || self.is_free(lock);
        for byte in (lock.start..=lock.end.min(BYTES)).filter(|_| free) {
            match lock.kind {
                LockKind::Unlock => self.0.remove(&(lock.owner, byte)),
                LockKind::Read | LockKind::Write => self.0.insert((lock.owner, byte), lock.kind),
            };
        }
        free
    }

    /// Ranges that the table should have: runs of one kind of one owner.
    fn runs(&self) -> usize {
        let starts = self.0.iter().filter(|((owner, byte), kind)| {
            let before = byte.checked_sub(1).and_then(|byte| self.0.get(&(*owner, byte)));
            before != Some(kind)
        });
        starts.count()
    }
}

fn any_lock() -> impl Strategy<Value = Lock> {
    let kind = prop_oneof![Just(LockKind::Read), Just(LockKind::Write), Just(LockKind::Unlock)];
    (kind, 0..BYTES, 0..BYTES, 0..4_u64, any::<bool>()).prop_map(|(kind, a, b, owner, to_end)| {
        lock(kind, a.min(b), if to_end { u64::MAX } else { a.max(b) }, owner)
    })
}

proptest! {
    #[test]
    fn the_table_agrees_with_a_model_of_bytes(locks in prop::collection::vec(any_lock(), 1..60)) {
        let (mut table, mut model) = (LockTable::default(), Model::default());
        for lock in &locks {
            let set = table.set(NODE, session(lock.owner), lock);
            prop_assert_eq!(set.is_ok(), model.set(lock), "{:?}", lock);
            let count = table.count(SessionId(0)) + table.count(SessionId(1));
            prop_assert_eq!(count, model.runs(), "after {:?}", lock);
            for byte in 0..BYTES {
                let probe = Lock { owner: 99, ..*lock };
                let probe = Lock { start: byte, end: byte, kind: LockKind::Write, ..probe };
                let in_the_way = table.conflict(NODE, SessionId(9), &probe);
                prop_assert_eq!(in_the_way.is_none(), model.is_free(&probe));
            }
        }
    }

    #[test]
    fn nobody_waits_for_what_is_free(locks in prop::collection::vec(any_lock(), 1..60)) {
        let (mut table, mut model) = (LockTable::default(), Model::default());
        let mut waiting: Vec<(WaitId, Lock)> = Vec::new();
        for (number, lock) in locks.iter().enumerate() {
            let id = wait_id(number as u64, lock.owner);
            match table.set(NODE, session(lock.owner), lock) {
                Ok(decided) => {
                    model.set(lock);
                    for (granted, outcome) in decided {
                        prop_assert_eq!(outcome, Ok(()));
                        let at = waiting.iter().position(|(id, _)| *id == granted).expect("a wait");
                        let (_, lock) = waiting.remove(at);
                        prop_assert!(model.set(&lock));
                    }
                }
                Err(Denied::Conflict) => {
                    if table.wait(id, NODE, lock).is_ok() {
                        waiting.push((id, *lock));
                    }
                }
                Err(Denied::Full) => prop_assert!(false, "not that many"),
            }
            for (_, lock) in &waiting {
                prop_assert!(!model.is_free(lock), "{:?} is free", lock);
            }
        }
        for session in [SessionId(0), SessionId(1)] {
            table.release_session(session);
        }
        prop_assert!(table.files.is_empty() && table.waits.is_empty() && table.held_by.is_empty());
    }
}

#[test]
fn those_who_waited_longest_come_first() {
    let mut table = LockTable::default();
    let write = |owner| lock(LockKind::Write, 0, 9, owner);
    table.set(NODE, session(1), &write(1)).unwrap();
    for owner in [2, 3, 4] {
        table.wait(wait_id(owner, owner), NODE, &write(owner)).unwrap();
    }
    assert!(table.cancel(wait_id(3, 3)) && !table.cancel(wait_id(3, 3)));
    for (gives, gets) in [(1, 2), (2, 4)] {
        let decided = table.set(NODE, session(gives), &lock(LockKind::Unlock, 0, 9, gives)).unwrap();
        assert_eq!(decided, [(wait_id(gets, gets), Ok(()))]);
    }
}

#[test]
fn readers_come_in_together_and_a_downgrade_lets_them() {
    let mut table = LockTable::default();
    table.set(NODE, session(1), &lock(LockKind::Write, 0, u64::MAX, 1)).unwrap();
    for owner in [2, 3] {
        table.wait(wait_id(owner, owner), NODE, &lock(LockKind::Read, owner, owner + 1, owner)).unwrap();
    }
    let decided = table.set(NODE, session(1), &lock(LockKind::Read, 0, u64::MAX, 1)).unwrap();
    assert_eq!(decided.len(), 2);
}

#[test]
fn a_circle_of_waits_is_refused() {
    let mut table = LockTable::default();
    for owner in 1..=3 {
        table.set(NODE, session(owner), &lock(LockKind::Write, owner, owner, owner)).unwrap();
    }
    let wants = |owner, byte| lock(LockKind::Write, byte, byte, owner);
    assert_eq!(table.wait(wait_id(1, 1), NODE, &wants(1, 2)), Ok(()));
    assert_eq!(table.wait(wait_id(2, 2), NODE, &wants(2, 3)), Ok(()));
    assert_eq!(table.wait(wait_id(3, 3), NODE, &wants(3, 1)), Err(Errno::EDEADLK));
    // flock(2) knows no deadlocks.
    let flock = |owner, byte| Lock { style: LockStyle::Flock, ..wants(owner, byte) };
    for owner in 1..=2 {
        table.set(NODE, session(owner), &flock(owner, owner)).unwrap();
    }
    assert_eq!(table.wait(wait_id(11, 1), NODE, &flock(1, 2)), Ok(()));
    assert_eq!(table.wait(wait_id(12, 2), NODE, &flock(2, 1)), Ok(()));
}

#[test]
fn a_session_has_so_many_locks_and_no_more() {
    let mut table = LockTable::default();
    for byte in 0..LOCKS_MAX as u64 {
        table.set(NODE, session(1), &lock(LockKind::Read, byte * 2, byte * 2, 1)).unwrap();
    }
    let one_more = lock(LockKind::Read, u64::MAX, u64::MAX, 1);
    assert_eq!(table.set(NODE, session(1), &one_more), Err(Denied::Full));
    assert_eq!(table.set(NodeId(6), session(1), &one_more), Err(Denied::Full));
    assert!(table.set(NODE, session(2), &Lock { owner: 2, ..one_more }).is_ok());
    // One range that takes the place of all of them fits.
    assert!(table.set(NODE, session(1), &lock(LockKind::Read, 0, u64::MAX, 1)).is_ok());
    assert_eq!(table.count(session(1)), 1);
}

#[test]
fn styles_do_not_see_each_other() {
    let mut table = LockTable::default();
    let posix = lock(LockKind::Write, 0, u64::MAX, 1);
    table.set(NODE, session(1), &posix).unwrap();
    let flock = Lock { style: LockStyle::Flock, owner: 2, ..posix };
    assert!(table.set(NODE, session(2), &flock).is_ok());
    assert!(table.holds(NODE, LockStyle::Flock, Owner { session: session(2), owner: 2 }));
    let decided = table.release(NODE, LockStyle::Flock, Owner { session: session(2), owner: 2 });
    assert_eq!(decided, []);
    assert_eq!(table.conflict(NODE, session(2), &flock), None);
    assert!(table.conflict(NODE, session(2), &Lock { owner: 3, ..posix }).is_some());
}
