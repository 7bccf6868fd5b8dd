//! Locks between sessions.

use std::sync::mpsc;
use std::time::Duration;

use nearfs_fs_server::dispatch::Served;
use nearfs_protocol::attr::{Lock, LockKind, LockStyle};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, RequestId};
use nearfs_protocol::message::{Answer, ReleasedFile, Reply, Request};

use crate::support::{Client, client, next_id};

const SOON: Duration = Duration::from_secs(5);

fn lock(kind: LockKind, owner: u64) -> Lock {
    Lock { start: 0, end: u64::MAX, kind, style: LockStyle::Posix, owner, pid: 7 }
}

/// Sets a lock without waiting. One that is taken comes with the file's attributes, one given back does not.
fn take(client: &Client, fh: Fh, lock: Lock) -> Result<Reply, Errno> {
    match client.ask(Request::SetLock { fh, lock, wait: false }) {
        Ok(Reply::Attr(_)) if lock.kind != LockKind::Unlock => Ok(Reply::Done),
        Ok(Reply::Done) if lock.kind != LockKind::Unlock => panic!("no attributes with a taken lock"),
        answer => answer,
    }
}

/// Waits for a lock; returns the request and where the answer arrives.
fn wait(client: &Client, fh: Fh, lock: Lock) -> (RequestId, mpsc::Receiver<Answer>) {
    let id = next_id();
    let (answers, arrived) = mpsc::channel();
    match client.serve(id, Request::SetLock { fh, lock, wait: true }, Vec::new()) {
        Served::Answered(response) => answers.send(response.answer).unwrap(),
        Served::Slow(_) => panic!("locks do not sleep"),
        Served::Waits(wait) => wait.then(move |response| answers.send(response.answer).unwrap()),
    }
    (id, arrived)
}

/// Two sessions that have one file open.
fn two() -> (crate::support::Export, (Client, Fh), (Client, Fh)) {
    let (served, one) = client();
    let (fh, _) = one.create("f", 0o644, 0).unwrap();
    let two = served.client();
    let (other_fh, _) = two.open(two.lookup("f").unwrap().node, libc::O_RDWR).unwrap();
    (served, (one, fh), (two, other_fh))
}

#[test]
fn a_lock_keeps_others_out_until_it_is_given_back() {
    let (_served, (one, fh), (two, other_fh)) = two();
    assert_eq!(take(&one, fh, lock(LockKind::Write, 1)), Ok(Reply::Done));
    // The same owner number of another session is another owner.
    assert_eq!(take(&two, other_fh, lock(LockKind::Read, 1)), Err(Errno::EAGAIN));
    let probe = Request::GetLock { fh: other_fh, lock: lock(LockKind::Read, 1) };
    assert_eq!(two.ask(probe.clone()), Ok(Reply::Lock(Some(lock(LockKind::Write, 1)))));
    let (_, arrived) = wait(&two, other_fh, lock(LockKind::Read, 1));
    assert!(arrived.try_recv().is_err());
    assert_eq!(take(&one, fh, lock(LockKind::Unlock, 1)), Ok(Reply::Done));
    assert_eq!(arrived.recv_timeout(SOON).unwrap(), Ok(Reply::Done));
    assert_eq!(two.ask(probe), Ok(Reply::Lock(None)));
    assert_eq!(take(&one, fh, Lock { start: 9, end: 8, ..lock(LockKind::Read, 1) }), Err(Errno::EINVAL));
}

#[test]
fn closing_gives_locks_back() {
    let (_served, (one, fh), (two, other_fh)) = two();
    take(&one, fh, lock(LockKind::Write, 1)).unwrap();
    let (_, arrived) = wait(&two, other_fh, lock(LockKind::Write, 2));
    one.ask(Request::Flush { fh, owner: 99 }).unwrap();
    assert!(arrived.try_recv().is_err());
    one.ask(Request::Flush { fh, owner: 1 }).unwrap();
    assert_eq!(arrived.recv_timeout(SOON).unwrap(), Ok(Reply::Done));
    two.ask(Request::Flush { fh: other_fh, owner: 2 }).unwrap();
    let flock = Lock { style: LockStyle::Flock, ..lock(LockKind::Write, 5) };
    take(&one, fh, flock).unwrap();
    let (_, arrived) = wait(&two, other_fh, flock);
    one.ask(Request::Release { files: vec![ReleasedFile { fh, flock_owner: Some(5) }] }).unwrap();
    assert_eq!(arrived.recv_timeout(SOON).unwrap(), Ok(Reply::Done));
}

#[test]
fn a_wait_can_be_given_up() {
    let (_served, (one, fh), (two, other_fh)) = two();
    take(&one, fh, lock(LockKind::Write, 1)).unwrap();
    let (id, arrived) = wait(&two, other_fh, lock(LockKind::Write, 2));
    assert!(two.files.cancel(id) && !two.files.cancel(id));
    assert_eq!(arrived.recv_timeout(SOON).unwrap(), Err(Errno::ECANCELED));
    // One whose outcome nobody will hear of leaves nothing behind.
    let request = Request::SetLock { fh: other_fh, lock: lock(LockKind::Write, 2), wait: true };
    let Served::Waits(unheard) = two.serve(next_id(), request.clone(), Vec::new()) else { panic!() };
    drop(unheard);
    let Served::Waits(granted_unheard) = two.serve(next_id(), request, Vec::new()) else { panic!() };
    take(&one, fh, lock(LockKind::Unlock, 1)).unwrap();
    assert_eq!(two.files.lock_count(), 1);
    drop(granted_unheard);
    assert_eq!(two.files.lock_count(), 0);
}

#[test]
fn an_outcome_is_told_also_if_it_came_first() {
    let (_served, (one, fh), (two, other_fh)) = two();
    take(&one, fh, lock(LockKind::Write, 1)).unwrap();
    let request = Request::SetLock { fh: other_fh, lock: lock(LockKind::Write, 2), wait: true };
    let Served::Waits(waits) = two.serve(next_id(), request, Vec::new()) else { panic!() };
    take(&one, fh, lock(LockKind::Unlock, 1)).unwrap();
    let (answers, arrived) = mpsc::channel();
    waits.then(move |response| answers.send(response.answer).unwrap());
    assert_eq!(arrived.try_recv(), Ok(Ok(Reply::Done)));
}

#[test]
fn the_end_of_a_session_frees_its_locks_and_ends_its_waits() {
    let (served, (one, fh), (two, other_fh)) = two();
    take(&one, fh, lock(LockKind::Write, 1)).unwrap();
    let (_, arrived) = wait(&two, other_fh, lock(LockKind::Write, 2));
    let three = served.client();
    let (third_fh, _) = three.open(three.lookup("f").unwrap().node, libc::O_RDWR).unwrap();
    let (_, third) = wait(&three, third_fh, lock(LockKind::Write, 3));
    two.files.end();
    assert_eq!(arrived.recv_timeout(SOON).unwrap(), Err(Errno::ECANCELED));
    drop(one);
    assert_eq!(third.recv_timeout(SOON).unwrap(), Ok(Reply::Done));
}

#[test]
fn waiting_in_a_circle_is_refused() {
    let (_served, (one, fh), (two, other_fh)) = two();
    let byte = |byte, owner| Lock { start: byte, end: byte, ..lock(LockKind::Write, owner) };
    take(&one, fh, byte(1, 1)).unwrap();
    take(&two, other_fh, byte(2, 2)).unwrap();
    let (_, arrived) = wait(&one, fh, byte(2, 1));
    let (_, refused) = wait(&two, other_fh, byte(1, 2));
    assert_eq!(refused.recv_timeout(SOON).unwrap(), Err(Errno::EDEADLK));
    take(&two, other_fh, Lock { kind: LockKind::Unlock, ..byte(2, 2) }).unwrap();
    assert_eq!(arrived.recv_timeout(SOON).unwrap(), Ok(Reply::Done));
}
