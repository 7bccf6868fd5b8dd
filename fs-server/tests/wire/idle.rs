//! What clients cost that do nothing.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::*;

const SESSIONS: usize = 1000;
/// Both ends are in this process, so that it is twice what the server needs, and more.
const BYTES_PER_SESSION_MAX: usize = 32 * 1024;

#[test]
fn a_thousand_idle_sessions_cost_little() {
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    let served = Served::start_with(Default::default(), SESSIONS + 1);
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
    // One at each end.
    assert!(descriptors <= 2 * SESSIONS + 8, "{descriptors} descriptors");
    assert!(witness.make_dir("after").is_ok());
    assert_eq!(served.server.active_sessions(), SESSIONS + 1);
}
