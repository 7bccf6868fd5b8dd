//! What may be asked by whom: the server's owner, and a client of another machine.

use nearfs_protocol::attr::{Lock, LockKind, LockStyle, SetAttr};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, SessionId, TransferId};
use nearfs_protocol::message::*;
use nearfs_protocol::roster::{TransferKind, TransferOutcome};

use crate::harness::*;

/// One request of each kind, on a file `file` that is open as the first of the session.
fn requests(client: &mut Client) -> Vec<Request> {
    let fh = client.create("file");
    assert_eq!(fh, Fh(1));
    let parent = client.root();
    let lookup = Request::Lookup { parent, name: name("file"), also_open: None };
    let Ok(Reply::Entry { attr, .. }) = client.ask(&lookup, b"").0 else { panic!("not there") };
    let node = attr.node;
    let lock = Lock { start: 0, end: 9, kind: LockKind::Write, style: LockStyle::Posix, owner: 1, pid: 1 };
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let announce =
        Request::Announce { kind: TransferKind::Upload, parent, name: name("new"), total_bytes: 1, fh: None };
    vec![
        lookup,
        Request::Forget { nodes: vec![] },
        Request::GetAttr { node, fh: Some(fh) },
        Request::SetAttr { node, fh: None, set },
        Request::Access { node, mask: 4 },
        Request::ReadLink { node },
        Request::Symlink { parent, name: name("link"), target: b"file".to_vec() },
        Request::Link { node, new_parent: parent, new_name: name("linked") },
        Request::MakeNode { parent, name: name("fifo"), mode: 0o010_644, umask: 0, rdev: 0 },
        Request::MakeDir { parent, name: name("directory"), mode: 0o755, umask: 0 },
        Request::Unlink { parent, name: name("linked") },
        Request::RemoveDir { parent, name: name("directory") },
        Request::Rename {
            parent,
            name: name("fifo"),
            new_parent: parent,
            new_name: name("pipe"),
            mode: RenameMode::Replace,
        },
        Request::Open { node, flags: 0, content_bytes_max: 0 },
        Request::Create { parent, name: name("created"), mode: 0o644, umask: 0, flags: 2 },
        Request::CreateUnnamed { parent, mode: 0o600, umask: 0, flags: 2 },
        Request::Read { fh, offset: 0, size: 10 },
        Request::Write { fh, at: WriteAt::End, sync: WriteSync::None },
        Request::Flush { fh, owner: 1 },
        Request::Fsync { fh, data_only: false },
        Request::ReadDir { node: parent, cookie: 0, entry_bytes_max: 4096, with_attrs: false },
        Request::FsyncDir { node: parent, data_only: false },
        Request::StatFs { node },
        Request::GetXattr { node, name: b"user.none".to_vec() },
        Request::SetXattr { node, name: b"user.some".to_vec(), mode: XattrMode::Set },
        Request::ListXattr { node },
        Request::RemoveXattr { node, name: b"user.some".to_vec() },
        Request::Allocate { fh, mode: 0, offset: 0, length: 4096 },
        Request::Seek { fh, offset: 0, target: SeekTarget::Hole },
        Request::CopyRange { from: fh, from_offset: 0, to: fh, to_offset: 8192, length: 1 },
        Request::GetLock { fh, lock },
        Request::SetLock { fh, lock, wait: false },
        Request::HashRange { fh, offset: 0, length: 10, chunk_bytes: 10 },
        Request::Fetch { parent, name: name("file"), content_bytes_max: 1 << 20 },
        Request::Store {
            parent,
            name: name(".stored"),
            mode: 0o644,
            umask: 0,
            set: SetAttr::default(),
            hash: nearfs_protocol::hash::hash(b""),
        },
        Request::Publish { items: vec![] },
        Request::ListSessions { after: SessionId(0) },
        Request::Kick { session: None },
        Request::Kick { session: Some(SessionId(77)) },
        announce,
        Request::CountFile { transfer: TransferId(1), fh },
        Request::EndTransfer { transfer: TransferId(1), outcome: TransferOutcome::Done },
        Request::Report { verb: "ls".into(), failure: "no such file or directory".into() },
        Request::Release { files: vec![ReleasedFile { fh, flock_owner: None }] },
    ]
}

/// What each request comes to, without what differs between two directories.
fn outcomes(served: &Served) -> Vec<(Request, Result<std::mem::Discriminant<Reply>, Errno>)> {
    let mut client = served.client();
    let requests = requests(&mut client);
    let ask = |request: Request| {
        let outcome = client.ask(&request, b"").0.map(|reply| std::mem::discriminant(&reply));
        (request, outcome)
    };
    requests.into_iter().map(ask).collect()
}

#[test]
fn every_request_is_answered_to_each_role_as_it_may() {
    leave_network();
    let strangers = outcomes(&Served::start_for_strangers());
    let owners = outcomes(&Served::start());
    let kinds: std::collections::HashSet<_> = owners.iter().map(|(request, _)| request.name()).collect();
    let names = include_str!("../../../protocol/src/request.rs").matches("{ .. } => \"").count();
    assert_eq!(kinds.len(), names, "a request is new: add it to the table");
    for ((request, owner), (_, stranger)) in owners.iter().zip(&strangers) {
        match request {
            Request::Kick { session } => {
                assert_eq!(*stranger, Err(Errno::EPERM), "{request:?}");
                assert_eq!(owner.err(), session.map(|_| Errno::ENOENT), "{request:?}");
            }
            other => assert_eq!(owner, stranger, "{other:?}"),
        }
    }
    let refused = owners.iter().filter(|(_, outcome)| outcome.is_err()).map(|(request, _)| request.name());
    assert_eq!(
        refused.collect::<Vec<_>>(),
        ["readlink", "getxattr", "kick"],
        "the table asks for what works"
    );
}
