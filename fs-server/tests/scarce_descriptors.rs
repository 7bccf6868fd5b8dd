//! Many clients that are lost, and few descriptors. Alone in its process, whose descriptors it limits and counts.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "the tests of the wire use the rest of it")]
#[path = "wire/harness.rs"]
mod harness;

use std::time::Duration;

use nearfs_fs_server::config::Timings;
use nearfs_fs_server::descriptor::Descriptors;
use nearfs_protocol::attr::{Lock, LockKind, LockStyle};
use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::Request;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use harness::*;

/// So many are lost.
const LOST: usize = 2000;
/// The process may have so many descriptors, and share out so many of them.
const LIMIT: u64 = 512;
const SHARED_OUT: usize = 320;
/// One that lives is looked at after so many that were lost.
const LOOK_EVERY: usize = 50;

fn greeted(served: &Served) -> Client {
    let mut client = served.dial();
    // Those who were lost make room once their leases have run out.
    wait_until(|| {
        client = served.dial();
        client.greet(new_session()).is_ok()
    });
    client
}

#[test]
fn lost_clients_make_room_for_others_and_leave_nothing() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), maximum }).unwrap();
    let timings = Timings { lease: Duration::from_millis(1), ..Timings::default() };
    let served = Served::start_kept(timings, 10_000, &Descriptors::new(SHARED_OUT));
    let empty = open_descriptors();
    let mut living = greeted(&served);
    let mine = living.create("living");
    for number in 0..LOST {
        let mut lost = greeted(&served);
        let fh = lost.create(&format!("lost-{number}"));
        let (start, kind, style) = (0, LockKind::Write, LockStyle::Posix);
        let lock = Lock { start, end: 9, kind, style, owner: 1, pid: 1 };
        lost.ask(&Request::SetLock { fh, lock, wait: false }, b"").0.unwrap();
        lost.link.closer().close();
        if number % LOOK_EVERY == 0 {
            living.ask(&Request::Read { fh: mine, offset: 0, size: 1 }, b"").0.unwrap();
            living.make_dir(&format!("d-{number}")).unwrap();
            assert!(open_descriptors() < LIMIT as usize - 32, "{} after {number}", open_descriptors());
        }
    }
    assert_eq!(served.dial().greet(living.resume()).map(|welcome| welcome.root.node), Ok(living.root()));
    assert!(served.server.sessions().len() > 10, "some are kept as long as there is room");
    // As many as there is room for take the places of all who are lost.
    let mut crowd = Vec::new();
    loop {
        let mut client = served.dial();
        if client.greet(new_session()).is_err() {
            break;
        }
        crowd.push(client);
    }
    assert!(crowd.len() > SHARED_OUT / 8, "{}", crowd.len());
    for client in &crowd {
        client.send_raw(&frame(FrameKind::Bye, RequestId(0), &(), b""));
    }
    drop(crowd);
    drop(living);
    wait_until(|| served.server.sessions().len() <= 1);
    wait_until(|| open_descriptors() <= empty + 8);
}
