//! What clients leave behind that have come and gone. Alone in its process, whose memory and descriptors it counts.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "the tests of the wire use the rest of it")]
#[path = "wire/harness.rs"]
mod harness;

use std::time::{Duration, Instant};

use nearfs_fs_server::config::Timings;
use nearfs_fs_server::descriptor::Descriptors;
use nearfs_protocol::attr::{Lock, LockKind, LockStyle};
use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::Request;

use harness::*;

const CLIENTS: usize = 10_000;
/// One of so many is cut off, the others say good-bye.
const CUT_EVERY: usize = 100;
/// Fewer than are cut off, so that those who are gone have to make room.
const SESSIONS_MAX: usize = 48;
/// What the allocator may keep.
const GROWTH_MAX_BYTES: usize = 4 * 1024 * 1024;

fn greeted(served: &Served) -> Client {
    let mut client = served.dial();
    // Those who were cut off make room once somebody has looked at their leases.
    wait_until(|| {
        client = served.dial();
        client.greet(new_session()).is_ok()
    });
    client
}

fn good_bye(client: &Client) {
    client.send_raw(&frame(FrameKind::Bye, RequestId(0), &(), b""));
}

fn come_and_go(served: &Served, number: usize) {
    let mut client = greeted(served);
    let fh = client.create(&format!("file-{}", number % 10));
    let start = number as u64 * 10;
    let lock =
        Lock { start, end: start + 5, kind: LockKind::Write, style: LockStyle::Posix, owner: 1, pid: 1 };
    client.ask(&Request::SetLock { fh, lock, wait: false }, b"").0.unwrap();
    match number % CUT_EVERY {
        0 => client.link.closer().close(),
        _ => good_bye(&client),
    }
}

/// Has all who are gone make room, and leaves again. Returns when all is closed.
fn take_all_the_room(served: &Served, held: &Descriptors) {
    served.await_active(0);
    let crowd: Vec<Client> = (0..SESSIONS_MAX).map(|_| greeted(served)).collect();
    crowd.iter().for_each(good_bye);
    wait_until(|| held.held() == 0);
}

#[test]
fn ten_thousand_clients_leave_nothing() {
    let timings = Timings { lease: Duration::from_millis(1), ..Timings::default() };
    let held = Descriptors::new(1000);
    let served = Served::start_kept(timings, SESSIONS_MAX, &held);
    (0..CLIENTS / 10).for_each(|number| come_and_go(&served, number));
    take_all_the_room(&served, &held);
    let (descriptors, memory) = (open_descriptors(), resident_bytes());
    let begun = Instant::now();
    (0..CLIENTS).for_each(|number| come_and_go(&served, number));
    take_all_the_room(&served, &held);
    wait_until(|| open_descriptors() == descriptors);
    let growth = resident_bytes().saturating_sub(memory);
    println!("{CLIENTS} clients in {:?}: {growth} bytes more, {descriptors} descriptors", begun.elapsed());
    assert!(growth < GROWTH_MAX_BYTES, "{growth} bytes");
}
