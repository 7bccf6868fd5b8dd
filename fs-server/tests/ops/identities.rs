//! As whom the server acts.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nearfs_protocol::attr::{SetAttr, SetTime};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Identity;
use nearfs_protocol::message::{Caller, Reply, Request, WriteAt};

use crate::support::{Client, Export, client, entry, is_root, name, user};

/// A passthrough export, for tests that only root can run.
fn passthrough() -> Option<(Export, Client)> {
    is_root().then(|| {
        let served = Export::new(Identity::Passthrough);
        let client = served.client();
        (served, client)
    })
}

#[test]
fn what_a_caller_makes_is_his() {
    let Some((served, root)) = passthrough() else { return };
    let caller = Caller { uid: 1001, gid: 2002, groups: vec![2002, 3003] };
    let other = root.acting_as(caller);
    let (_, attr) = other.create("f", 0o666, 0o027).unwrap();
    assert_eq!((attr.uid, attr.gid, attr.mode), (1001, 2002, 0o640));
    let directory = other.mkdir(other.root(), "d").unwrap();
    assert_eq!((directory.uid, directory.gid), (1001, 2002));
    let link = Request::Symlink { parent: other.root(), name: name("l"), target: b"f".to_vec() };
    assert_eq!(entry(other.ask(link)).unwrap().uid, 1001);
    assert_eq!(root.create("r", 0o666, 0).unwrap().1.uid, 0);
    assert_eq!(std::fs::metadata(served.path("f")).unwrap().uid(), 1001);
}

#[test]
fn rights_are_the_callers() {
    let Some((served, root)) = passthrough() else { return };
    let (_, secret) = root.create("secret", 0o600, 0).unwrap();
    let (_, group) = root.create("group", 0o060, 0).unwrap();
    let set = SetAttr { uid: Some(5), gid: Some(77), ..SetAttr::default() };
    root.set(group.node, set).unwrap();
    let stranger = root.acting_as(user(1234));
    let member = root.acting_as(Caller { uid: 1234, gid: 1234, groups: vec![77] });
    assert_eq!(stranger.open(secret.node, libc::O_RDONLY), Err(Errno::EACCES));
    assert_eq!(stranger.ask(Request::Access { node: secret.node, mask: 4 }), Err(Errno::EACCES));
    assert_eq!(stranger.open(group.node, libc::O_RDWR), Err(Errno::EACCES));
    assert!(member.open(group.node, libc::O_RDWR).is_ok());
    let chmod = SetAttr { mode: Some(0o777), ..SetAttr::default() };
    assert_eq!(stranger.set(secret.node, chmod), Err(Errno::EPERM));
    assert_eq!(
        stranger.set(secret.node, SetAttr { uid: Some(1234), ..SetAttr::default() }),
        Err(Errno::EPERM)
    );
    let now = Some(SetTime::Now);
    let touch = SetAttr { atime: now, mtime: now, ..SetAttr::default() };
    assert_eq!(stranger.set(secret.node, touch), Err(Errno::EACCES));
    assert_eq!(stranger.set(secret.node, SetAttr { atime: None, ..touch }), Err(Errno::EPERM));
    let closed = root.mkdir(root.root(), "closed").unwrap();
    root.set(closed.node, SetAttr { mode: Some(0o700), ..SetAttr::default() }).unwrap();
    std::fs::write(served.path("closed/f"), "").unwrap();
    assert_eq!(stranger.lookup_in(closed.node, "f"), Err(Errno::EACCES));
    assert_eq!(stranger.mkdir(closed.node, "x"), Err(Errno::EACCES));
    assert_eq!(stranger.list(closed.node, 0, 4096, true), Err(Errno::EACCES));
    assert!(root.lookup_in(closed.node, "f").is_ok());
    // Nobody but the owner deletes in a sticky directory.
    let sticky = root.mkdir(root.root(), "sticky").unwrap();
    root.set(sticky.node, SetAttr { mode: Some(0o1777), ..SetAttr::default() }).unwrap();
    std::fs::write(served.path("sticky/f"), "").unwrap();
    let remove = Request::Unlink { parent: sticky.node, name: name("f") };
    assert_eq!(stranger.ask(remove), Err(Errno::EPERM));
}

#[test]
fn a_directory_may_be_listed_without_being_searched() {
    let Some((served, root)) = passthrough() else { return };
    let directory = root.mkdir(root.root(), "d").unwrap();
    std::fs::write(served.path("d/f"), "").unwrap();
    root.set(directory.node, SetAttr { mode: Some(0o444), ..SetAttr::default() }).unwrap();
    let (entries, end) = root.acting_as(user(1234)).list(directory.node, 0, 4096, true).unwrap();
    assert!(end && entries.len() == 1 && entries[0].attr.is_none());
}

#[test]
fn a_write_by_others_takes_set_id_bits_away() {
    let Some((served, root)) = passthrough() else { return };
    let (_, attr) = root.create("f", 0o777, 0).unwrap();
    let stranger = root.acting_as(user(1234));
    let set_id = SetAttr { mode: Some(0o6777), ..SetAttr::default() };
    root.set(attr.node, set_id).unwrap();
    let (fh, _) = stranger.open(attr.node, libc::O_RDWR).unwrap();
    let written = stranger.write(fh, WriteAt::Offset(0), b"x").unwrap();
    assert_eq!(written.attr.mode, 0o777);
    root.set(attr.node, set_id).unwrap();
    let (fh, _) = root.open(attr.node, libc::O_RDWR).unwrap();
    assert_eq!(root.write(fh, WriteAt::Offset(0), b"x").unwrap().attr.mode, 0o6777);
    // The client's kernel takes them away in the writer's name; anything else stays refused.
    let dropped = SetAttr { mode: Some(0o777), ..SetAttr::default() };
    assert_eq!(stranger.set(attr.node, dropped).unwrap().mode, 0o777);
    root.set(attr.node, set_id).unwrap();
    let more = SetAttr { mode: Some(0o776), ..SetAttr::default() };
    assert_eq!(stranger.set(attr.node, more), Err(Errno::EPERM));
    let mode = std::fs::metadata(served.path("f")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o6777);
    root.set(attr.node, SetAttr { mode: Some(0o6755), ..SetAttr::default() }).unwrap();
    let dropped = SetAttr { mode: Some(0o755), ..SetAttr::default() };
    assert_eq!(stranger.set(attr.node, dropped), Err(Errno::EPERM), "cannot write");
}

#[test]
fn what_may_be_executed_can_be_opened_for_it() {
    let Some((_served, root)) = passthrough() else { return };
    let (_, attr) = root.create("program", 0o711, 0).unwrap();
    let stranger = root.acting_as(user(1234));
    assert_eq!(stranger.open(attr.node, libc::O_RDONLY), Err(Errno::EACCES));
    assert!(stranger.open(attr.node, libc::O_RDONLY | 0x20).is_ok());
    assert_eq!(stranger.open(attr.node, libc::O_WRONLY | 0x20), Err(Errno::EACCES));
}

#[test]
fn ids_that_name_nobody_are_refused() {
    let Some((_served, root)) = passthrough() else { return };
    for caller in [
        user(u32::MAX),
        Caller { gid: u32::MAX, ..user(1) },
        Caller { groups: vec![u32::MAX], ..user(1) },
        Caller { groups: vec![1; 1025], ..user(1) },
    ] {
        assert_eq!(root.acting_as(caller).create("f", 0o644, 0), Err(Errno::EINVAL));
    }
    assert!(root.create("f", 0o644, 0).is_ok());
}

#[test]
fn threads_do_not_mix_up_their_callers() {
    let Some((_served, root)) = passthrough() else { return };
    let root = &root;
    std::thread::scope(|scope| {
        for uid in [0, 1001, 1002, 1003] {
            scope.spawn(move || {
                for round in 0..300 {
                    let client = root.acting_as(user(uid + round % 2 * 5000));
                    let (fh, attr) = client.create(&format!("{uid}-{round}"), 0o666, uid % 8).unwrap();
                    client.release(fh);
                    assert_eq!((attr.uid, attr.mode), (uid + round % 2 * 5000, 0o666 & !(uid % 8)));
                    // A thread that is started by one that acts for a caller acts for its own callers.
                    if round == 100 {
                        std::thread::scope(|scope| {
                            scope.spawn(|| {
                                let attr = root.create(&format!("inner-{uid}"), 0o644, 0).unwrap().1;
                                assert_eq!((attr.uid, attr.gid), (0, 0));
                            });
                        });
                    }
                }
            });
        }
    });
}

#[test]
fn a_squashing_server_is_itself_whoever_asks() {
    let (_served, client) = client();
    let own = rustix::process::geteuid().as_raw();
    let (_, attr) = client.acting_as(user(4321)).create("f", 0o666, 0o022).unwrap();
    assert_eq!((attr.uid, attr.mode), (own, 0o644));
}

#[test]
fn a_default_acl_wins_over_the_umask() {
    let (served, client) = client();
    let acl: &[u8] = &[
        2, 0, 0, 0, // version
        1, 0, 7, 0, 255, 255, 255, 255, // owner rwx
        4, 0, 7, 0, 255, 255, 255, 255, // group rwx
        32, 0, 4, 0, 255, 255, 255, 255, // others r
    ];
    let directory = client.mkdir(client.root(), "d").unwrap();
    let set = Request::SetXattr {
        node: directory.node,
        name: b"system.posix_acl_default".to_vec(),
        mode: nearfs_protocol::message::XattrMode::Set,
    };
    match client.ask_with(set, acl.to_vec()) {
        Err(Errno::EOPNOTSUPP) => eprintln!("no ACLs on {}", served.dir.path().display()),
        outcome => {
            assert_eq!(outcome.map(|(reply, _)| reply), Ok(Reply::Done));
            let (_, attr) = client.create_in(directory.node, "f", (0o666, 0o077), libc::O_RDWR).unwrap();
            assert_eq!(attr.mode, 0o664);
        }
    }
}
