//! Who else is connected to the server: all pages of the list, none of which is believed.

use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::SessionId;
use nearfs_protocol::limits::SESSIONS_PAGE_MAX;
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::roster::SessionReport;

/// Most sessions that are listed: a server that tells of more is not believed.
const SESSIONS_MAX: usize = 100_000;

/// Lists the server's sessions by rising ids, through `ask`.
///
/// Errors: those of `ask`; `EIO` if the answers make no sense.
pub(crate) fn list(ask: impl Fn(Request) -> Result<Reply, Errno>) -> Result<Vec<SessionReport>, Errno> {
    let mut all: Vec<SessionReport> = Vec::new();
    loop {
        let after = all.last().map_or(SessionId(0), |last| last.id);
        let Reply::Sessions { sessions, end } = ask(Request::ListSessions { after })? else {
            return Err(Errno::EIO);
        };
        let ids: Vec<_> = [after].into_iter().chain(sessions.iter().map(|session| session.id)).collect();
        let rising = ids.windows(2).all(|pair| pair[0] < pair[1]);
        let endless = !end && (sessions.is_empty() || all.len() + sessions.len() > SESSIONS_MAX);
        if !rising || endless || sessions.len() > SESSIONS_PAGE_MAX {
            return Err(Errno::EIO);
        }
        all.extend(sessions);
        if end {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn session(id: u64) -> SessionReport {
        SessionReport {
            id: SessionId(id),
            own: false,
            client: String::new(),
            address: String::new(),
            uid: None,
            shell: false,
            connected: true,
            age_ms: 0,
            idle_ms: 0,
            open_files: 0,
            locks: 0,
            read_bytes: 0,
            written_bytes: 0,
            recent: vec![],
            transfers: vec![],
            transfer_count: 0,
        }
    }

    fn page(ids: &[u64], end: bool) -> Result<Reply, Errno> {
        Ok(Reply::Sessions { sessions: ids.iter().map(|id| session(*id)).collect(), end })
    }

    #[test]
    fn pages_are_put_together() {
        let listed = list(|request| match request {
            Request::ListSessions { after: SessionId(0) } => page(&[1, 5], false),
            Request::ListSessions { after: SessionId(5) } => page(&[6], true),
            other => panic!("{other:?}"),
        });
        let ids = listed.map(|all| all.iter().map(|session| session.id.0).collect::<Vec<_>>());
        assert_eq!(ids, Ok(vec![1, 5, 6]));
        assert_eq!(list(|_| page(&[], true)).map(|all| all.len()), Ok(0));
    }

    #[test]
    fn answers_without_sense_are_not_believed() {
        let many: Vec<u64> = (1..=SESSIONS_PAGE_MAX as u64 + 1).collect();
        for ids in [&[0][..], &[2, 1], &[3, 3], &many] {
            assert_eq!(list(|_| page(ids, true)), Err(Errno::EIO), "{ids:?}");
        }
        assert_eq!(list(|_| page(&[], false)), Err(Errno::EIO));
        assert_eq!(list(|_| page(&[7], false)), Err(Errno::EIO), "it never ends");
        assert_eq!(list(|_| Ok(Reply::Done)), Err(Errno::EIO));
        assert_eq!(list(|_| Err(Errno::ETIMEDOUT)), Err(Errno::ETIMEDOUT));
        let last = Cell::new(0);
        let endless = list(|_| {
            last.set(last.get() + 100);
            page(&(last.get() - 99..=last.get()).collect::<Vec<_>>(), false)
        });
        assert_eq!(endless, Err(Errno::EIO));
        assert!(last.get() <= SESSIONS_MAX as u64 + 100);
    }
}
