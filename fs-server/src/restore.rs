//! A server that was started again takes up the sessions of the one before, before anybody can reach it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nearfs_protocol::id::Node;
use nearfs_protocol::session::server::{Remembered, ServerSession};
use nearfs_transport::pool::Pool;

use crate::identity;
use crate::op::limbo::{self, Claimed};
use crate::session::Session;
use crate::session_files::SessionFiles;
use crate::state::Shared;
use crate::store::{Begun, Found, Image, Restored, Store};
use crate::tree::Tree;
use crate::visitor::Visitor;

/// Added to the first lease of a restored session: clients find out by and by that the server is back.
const LEASE_EXTRA: Duration = Duration::from_secs(5);

/// Takes up all sessions that the server's store has kept.
pub(crate) fn restore(shared: &Shared, now: Instant) {
    let Some(store) = &shared.store else { return };
    if let Err(errno) = shared.tree.export.keep_unnamed(&store.open_files()) {
        log::warn!(
            "files that are removed while they are open will not survive a restart of the server: {errno}"
        );
    }
    for (begun, remembered, files) in take_up(&shared.tree, &shared.pool, store) {
        log::info!(
            "session {}: restored, {} nodes, {} open files, {} locks",
            begun.session.0,
            files.node_count(),
            files.open_file_count(),
            files.lock_count()
        );
        let Begun { session, token, limits, client, uid, is_shell, shown, .. } = begun;
        files.set_client(&shown);
        let visitor = Visitor { name: client, uid, is_shell };
        let machine = ServerSession::restored(session, token, limits, remembered, now + LEASE_EXTRA);
        shared.sessions.restore(Arc::new(Session::new(machine, visitor, files, shared.journal.clone())));
    }
    shared.tree.export.sweep_unnamed();
    shared.tree.locks.set_journal(store.clone());
}

type TakenUp = (Begun, Vec<Remembered>, Arc<SessionFiles>);

/// First all places of nodes and all locks, then the open files, then what was in limbo: each needs those before.
fn take_up(tree: &Arc<Tree>, pool: &Pool, store: &Arc<Store>) -> Vec<TakenUp> {
    let (mut sessions, mut places) = (Vec::new(), Vec::new());
    tree.transfers.skip_numbers(microseconds());
    for Restored { record, begun, image, kept } in store.restore() {
        let known = image.nodes.iter().map(|(node, (found, _))| (node, found));
        let found = known.chain(&image.moved);
        places.extend(found.map(|(&node, found)| (node, found.clone())));
        match SessionFiles::restore(tree, pool, (store, &record), &begun, &image) {
            Ok(files) => sessions.push((begun, image, kept, files)),
            Err(error) => {
                log::warn!("session {} is not restored: {error}", begun.session.0);
                store.end(begun.session);
            }
        }
    }
    places.sort_unstable_by_key(|(_, Found { order, .. })| *order);
    for (node, found) in places {
        tree.restore_place(node, found);
    }
    if !tree.export.finds_by_handle() {
        let of_session = |(_, image, _, _): &(_, Image, _, _)| -> Vec<Node> { image.wanted().collect() };
        let wanted: Vec<Node> = sessions.iter().flat_map(of_session).collect();
        identity::as_server(|| tree.find_moved(wanted));
    }
    let mut claimed = Claimed::default();
    for (_, image, kept, files) in &sessions {
        files.restore_open_files(image, kept.as_deref());
        claimed.extend(kept.iter().flat_map(|kept| limbo::claims(kept)));
    }
    let settle = |(begun, _, kept, files): (_, _, Option<_>, Arc<SessionFiles>)| {
        let remembered = files.settle(kept.unwrap_or_default(), &mut claimed);
        (begun, remembered, files)
    };
    sessions.into_iter().map(settle).collect()
}

/// Since 1970: a number that the process before cannot have come to by counting.
fn microseconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_micros() as u64)
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
