//! What clients cost that do nothing.

use std::time::{Duration, Instant};

use nearfs_fs_server::descriptor::Descriptors;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::*;
use crate::roster::{id, list};

const SESSIONS: usize = 1000;
/// Both ends are in this process, so that it is twice what the server needs, and more; and three pages of what is kept of
/// each are mapped.
const BYTES_PER_SESSION_MAX: usize = (32 + 3 * 4) * 1024;

/// How long telling of all of them may take, of which most is work for the test.
const LISTING_TIME_MAX: Duration = Duration::from_secs(5);

#[test]
fn a_thousand_idle_sessions_cost_little() {
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    let served = Served::start_kept(Default::default(), SESSIONS + 1, &Descriptors::new(4 * SESSIONS + 100));
    let mut witness = served.client();
    witness.make_dir("before").unwrap();
    let (memory, descriptors) = (resident_bytes(), open_descriptors());
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        clients.push(served.client());
        // A client is as good as gone when nothing was heard of it for six seconds.
        if clients.len().is_multiple_of(SESSIONS / 10) {
            clients.iter_mut().for_each(Client::ping);
            witness.ping();
        }
    }
    let per_session = resident_bytes().saturating_sub(memory) / SESSIONS;
    let descriptors = open_descriptors() - descriptors;
    println!("each of {SESSIONS} idle sessions: {per_session} bytes, {descriptors} descriptors in all");
    assert!(per_session < BYTES_PER_SESSION_MAX, "{per_session} bytes");
    // One at each end, and two for what is kept.
    assert!(descriptors <= 4 * SESSIONS + 8, "{descriptors} descriptors");
    assert!(witness.make_dir("after").is_ok());
    let begun = Instant::now();
    let listed = list(&mut witness);
    assert!(begun.elapsed() < LISTING_TIME_MAX, "{:?}", begun.elapsed());
    let expected: Vec<_> = [&witness].into_iter().chain(&clients).map(id).collect();
    assert_eq!(listed.iter().map(|session| session.id).collect::<Vec<_>>(), expected);
    assert_eq!(served.server.active_sessions(), SESSIONS + 1);
}
