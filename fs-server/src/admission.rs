//! Who may be a client, before he has said anything.

use nearfs_protocol::greeting::{Identity, Refusal};
use nearfs_transport::stream::Peer;

use crate::peer_uid;

/// The rule of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    /// As whom the server runs.
    pub(crate) own_uid: u32,
    /// Whether other machines are admitted, although nothing tells who they are.
    pub(crate) insecure: bool,
    /// As whom the server acts.
    pub(crate) identity: Identity,
}

/// A client that may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// Which user it is, where the kernel can tell.
    pub(crate) uid: Option<u32>,
    /// Whether it is the server's own user, or root: who may end other clients' sessions.
    pub(crate) is_owner: bool,
}

/// What is known of who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    User(u32),
    OtherMachine,
    Vanished,
}

impl Admission {
    /// Admits the server's own user and root from this machine, and other machines where that was asked
    /// for. May have to read the tables of proc(5), which are long when there are thousands of sockets.
    pub(crate) fn admit(&self, peer: Peer) -> Result<Admitted, Refusal> {
        let who = match peer {
            Peer::Unix { uid } => Who::User(uid),
            // Whoever started the server gave it these streams.
            Peer::Stdio => Who::User(self.own_uid),
            Peer::Tcp { peer, local } if peer.ip().to_canonical().is_loopback() => {
                match peer_uid::of_loopback(peer, local) {
                    Ok(Some(uid)) => Who::User(uid),
                    Ok(None) => Who::Vanished,
                    Err(error) => {
                        log::warn!("cannot tell who connects from {peer}: {error}");
                        Who::Vanished
                    }
                }
            }
            Peer::Tcp { .. } => Who::OtherMachine,
        };
        self.judge(who)
    }

    fn judge(&self, who: Who) -> Result<Admitted, Refusal> {
        let refused = |why: &str| Err(Refusal::NotAdmitted(why.into()));
        let owner = |uid| Ok(Admitted { uid: Some(uid), is_owner: true });
        match (who, self.identity) {
            (Who::User(0), _) => owner(0),
            (Who::User(uid), Identity::Squash { .. }) if uid == self.own_uid => owner(uid),
            (Who::User(_), Identity::Passthrough) => refused("only root may act for other users"),
            (Who::User(_), Identity::Squash { .. }) => refused("it is another user's server"),
            (Who::OtherMachine, _) if self.insecure => Ok(Admitted { uid: None, is_owner: false }),
            (Who::OtherMachine, _) => refused("it takes clients of its own machine only"),
            (Who::Vanished, _) => refused("it cannot tell which user connects"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_is_judged() {
        let squash = Identity::Squash { uid: 1000, gid: 1000 };
        let admits =
            |own_uid, insecure, identity, who| Admission { own_uid, insecure, identity }.judge(who).is_ok();
        for (own_uid, insecure, identity, who, admitted) in [
            (1000, false, squash, Who::User(1000), true),
            (1000, false, squash, Who::User(0), true),
            (1000, false, squash, Who::User(1001), false),
            (1000, true, squash, Who::User(1001), false),
            (0, false, squash, Who::User(1000), false),
            (0, false, Identity::Passthrough, Who::User(0), true),
            (0, false, Identity::Passthrough, Who::User(1000), false),
            (1000, false, Identity::Passthrough, Who::User(1000), false),
            (0, false, squash, Who::OtherMachine, false),
            (0, true, squash, Who::OtherMachine, true),
            (0, true, squash, Who::Vanished, false),
        ] {
            assert_eq!(admits(own_uid, insecure, identity, who), admitted, "{own_uid} {insecure} {who:?}");
        }
    }

    #[test]
    fn owners_are_those_whom_the_kernel_vouches_for() {
        let identity = Identity::Squash { uid: 1000, gid: 1000 };
        let admission = Admission { own_uid: 1000, insecure: true, identity };
        let owner = |uid| Ok(Admitted { uid: Some(uid), is_owner: true });
        assert_eq!(admission.judge(Who::User(1000)), owner(1000));
        assert_eq!(admission.judge(Who::User(0)), owner(0));
        assert_eq!(admission.judge(Who::OtherMachine), Ok(Admitted { uid: None, is_owner: false }));
    }
}
