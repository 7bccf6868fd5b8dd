//! Attributes: set and seen.

use nearfs_protocol::attr::{SetAttr, SetTime, Time};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::{Reply, Request, WriteAt};

use crate::support::{client, entry, is_root, name};

fn at(secs: i64, nanos: u32) -> Option<SetTime> {
    Some(SetTime::At(Time { secs, nanos }))
}

#[test]
fn every_field_can_be_set() {
    let (_served, client) = client();
    let (_, attr) = client.create("f", 0o644, 0).unwrap();
    let node = attr.node;
    let set = |set: SetAttr| client.set(node, set).unwrap();
    assert_eq!(set(SetAttr { mode: Some(0o4711), ..SetAttr::default() }).mode, 0o4711);
    assert_eq!(set(SetAttr { size: Some(1 << 40), ..SetAttr::default() }).size, 1 << 40);
    let times =
        SetAttr { atime: at(-1_000_000, 999_999_999), mtime: at(4_000_000_000, 1), ..SetAttr::default() };
    let changed = set(times);
    assert_eq!(changed.atime, Time { secs: -1_000_000, nanos: 999_999_999 });
    assert_eq!(changed.mtime, Time { secs: 4_000_000_000, nanos: 1 });
    let only_atime = set(SetAttr { atime: Some(SetTime::Now), ..SetAttr::default() });
    assert_eq!(only_atime.mtime, changed.mtime);
    assert!(only_atime.atime.secs > 1_600_000_000);
    if is_root() {
        let owned = set(SetAttr { uid: Some(12), gid: Some(34), mode: Some(0o6755), ..SetAttr::default() });
        assert_eq!((owned.uid, owned.gid, owned.mode), (12, 34, 0o6755));
    }
}

#[test]
fn a_symlinks_own_attributes_change() {
    let (served, client) = client();
    std::fs::write(served.path("target"), "x").unwrap();
    let target = client.lookup("target").unwrap();
    let link = Request::Symlink { parent: client.root(), name: name("l"), target: b"target".to_vec() };
    let link = entry(client.ask(link)).unwrap().node;
    let times = SetAttr { mtime: at(77, 7), ..SetAttr::default() };
    assert_eq!(client.set(link, times).unwrap().mtime, Time { secs: 77, nanos: 7 });
    let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    assert_eq!(client.set(link, mode), Err(Errno::EOPNOTSUPP));
    let size = SetAttr { size: Some(0), ..SetAttr::default() };
    assert!(client.set(link, size).is_err());
    assert!(client.attr(target.node).unwrap().change.same_as(target.change));
}

#[test]
fn an_open_file_without_a_name_still_has_attributes() {
    let (_served, client) = client();
    let (fh, attr) = client.create("f", 0o644, 0).unwrap();
    client.unlink("f").unwrap();
    client.write(fh, WriteAt::Offset(0), b"still here").unwrap();
    assert_eq!(client.attr(attr.node).unwrap().nlink, 0);
    let set = SetAttr { size: Some(5), mode: Some(0o600), mtime: at(5, 5), ..SetAttr::default() };
    for fh in [Some(fh), None] {
        let reply = client.ask(Request::SetAttr { node: attr.node, fh, set }).unwrap();
        let Reply::Changed { attr, .. } = reply else { panic!("{reply:?}") };
        assert_eq!((attr.size, attr.mode, attr.mtime.secs), (5, 0o600, 5));
    }
    let (again, _) = client.open(attr.node, libc::O_RDONLY).unwrap();
    assert_eq!(client.read(again, 0, 10).unwrap(), b"still");
}

#[test]
fn rights_and_figures_are_the_servers() {
    let (served, client) = client();
    let (_, attr) = client.create("f", 0o644, 0).unwrap();
    assert_eq!(client.ask(Request::Access { node: attr.node, mask: 6 }), Ok(Reply::Done));
    assert_eq!(client.ask(Request::Access { node: attr.node, mask: 1 }), Err(Errno::EACCES));
    assert_eq!(client.ask(Request::Access { node: attr.node, mask: 8 }), Err(Errno::EINVAL));
    let Ok(Reply::StatFs(figures)) = client.ask(Request::StatFs { node: client.root() }) else { panic!() };
    let there = rustix::fs::statvfs(served.dir.path()).unwrap();
    assert_eq!((figures.blocks, figures.files), (there.f_blocks, there.f_files));
    assert_eq!((u64::from(figures.block_bytes), figures.name_bytes_max), (there.f_frsize, 255));
}
