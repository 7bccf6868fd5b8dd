//! Whose files they are: ids as the server has them, and as programs here see them.

use std::fs;

use nearfs_protocol::attr::{Attr, SetAttr};
use nearfs_protocol::greeting::Identity;
use nearfs_protocol::limits::GROUPS_MAX;
use nearfs_protocol::message;

use crate::config::IdentityMap;

/// The user that is shown for a file whose owner's number here belongs to the one who mounted.
const NOBODY: u32 = 65534;

/// The process for which an operation is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// File system user id.
    pub uid: u32,
    /// File system group id.
    pub gid: u32,
    /// Thread id as the kernel gave it; 0 where it lives in another pid namespace.
    pub pid: u32,
}

/// Translates in both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    server: Identity,
    map: IdentityMap,
}

impl Ids {
    pub(crate) fn new(server: Identity, map: IdentityMap) -> Ids {
        Ids { server, map }
    }

    /// What the server is told of the caller. A server that squashes needs to know nothing.
    pub(crate) fn outgoing(&self, caller: Caller) -> message::Caller {
        match self.server {
            Identity::Squash { .. } => message::Caller::default(),
            Identity::Passthrough => message::Caller {
                uid: caller.uid,
                gid: caller.gid,
                groups: if caller.uid == 0 { Vec::new() } else { supplementary_groups(caller.pid) },
            },
        }
    }

    /// Attributes as programs here shall see them.
    pub(crate) fn shown(&self, mut attr: Attr) -> Attr {
        if let Identity::Squash { uid, gid } = self.server {
            attr.uid = self.map.uid.unwrap_or_else(|| shown_id(attr.uid, uid, self.map.own_uid));
            attr.gid = self.map.gid.unwrap_or_else(|| shown_id(attr.gid, gid, self.map.own_gid));
        }
        if let Some(umask) = self.map.umask {
            attr.mode &= !umask;
        }
        attr
    }

    /// A change of attributes as the server shall see it.
    pub(crate) fn sent(&self, mut set: SetAttr) -> SetAttr {
        if let Identity::Squash { uid, gid } = self.server {
            let own_uid = self.map.uid.unwrap_or(self.map.own_uid);
            let own_gid = self.map.gid.unwrap_or(self.map.own_gid);
            set.uid = set.uid.map(|id| if id == own_uid { uid } else { id });
            set.gid = set.gid.map(|id| if id == own_gid { gid } else { id });
        }
        set
    }
}

/// The server's own id is mine; what happens to have my number there is somebody else's.
fn shown_id(id: u32, servers: u32, mine: u32) -> u32 {
    match id {
        _ if id == servers => mine,
        _ if id == mine => NOBODY,
        _ => id,
    }
}

/// The groups of a thread at this moment (proc_pid_status(5)). Not remembered: a program may change them
/// between two system calls. Empty if it is gone or out of sight.
fn supplementary_groups(pid: u32) -> Vec<u32> {
    if pid == 0 {
        return Vec::new();
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok()).take(GROUPS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_user_is_me_and_a_namesake_is_nobody() {
        let map = IdentityMap { own_uid: 1000, own_gid: 100, ..IdentityMap::default() };
        let ids = Ids::new(Identity::Squash { uid: 2001, gid: 2002 }, map);
        let shown = |uid, gid| {
            let attr = ids.shown(crate::testing::attr(uid, gid));
            (attr.uid, attr.gid)
        };
        assert_eq!(shown(2001, 2002), (1000, 100));
        assert_eq!(shown(1000, 100), (NOBODY, NOBODY));
        assert_eq!(shown(0, 0), (0, 0));
        let set = ids.sent(SetAttr { uid: Some(1000), gid: Some(7), ..SetAttr::default() });
        assert_eq!((set.uid, set.gid), (Some(2001), Some(7)));
    }

    #[test]
    fn passthrough_changes_nothing() {
        let ids = Ids::new(Identity::Passthrough, IdentityMap { own_uid: 1000, ..IdentityMap::default() });
        assert_eq!(ids.shown(crate::testing::attr(2001, 5)).uid, 2001);
    }
}
