//! Names: made, found, moved, removed.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use nearfs_protocol::attr::FileKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::{AlsoOpen, RenameMode, Reply, Request};
use nearfs_protocol::name::Name;

use crate::support::{Export, client, entry, is_root, name, own};

#[test]
fn lookup_tells_what_lies_there() {
    let (served, client) = client();
    std::fs::write(served.path("f"), "12345").unwrap();
    std::fs::create_dir(served.path("d")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", served.path("l")).unwrap();
    let there = std::fs::metadata(served.path("f")).unwrap();
    let attr = client.lookup("f").unwrap();
    assert_eq!((attr.kind, attr.size, attr.node.id.0, attr.nlink), (FileKind::File, 5, there.ino(), 1));
    assert_eq!((attr.mtime.secs, i64::from(attr.mtime.nanos)), (there.mtime(), there.mtime_nsec()));
    assert_eq!(attr.mode, there.mode() & 0o7777);
    assert!(attr.btime.is_some());
    assert_eq!(client.lookup("d").unwrap().kind, FileKind::Directory);
    assert_eq!(client.lookup("l").unwrap().kind, FileKind::Symlink);
    assert_eq!(client.lookup("none"), Err(Errno::ENOENT));
    let file = client.lookup("f").unwrap().node;
    assert_eq!(client.lookup_in(file, "x"), Err(Errno::ENOTDIR));
}

#[test]
fn lookup_can_open_and_read_in_one_step() {
    let (served, client) = client();
    std::fs::write(served.path("small"), "content").unwrap();
    std::fs::write(served.path("large"), vec![7; 5000]).unwrap();
    let look = |text: &str| {
        let also_open = Some(AlsoOpen { content_bytes_max: 4096 });
        client.ask_with(Request::Lookup { parent: client.root(), name: name(text), also_open }, Vec::new())
    };
    let (reply, content) = look("small").unwrap();
    let Reply::Entry { fh: Some(fh), whole: true, .. } = reply else { panic!("{reply:?}") };
    assert_eq!(content, b"content");
    assert_eq!(client.read(fh, 3, 10).unwrap(), b"tent");
    let (reply, content) = look("large").unwrap();
    assert!(matches!(reply, Reply::Entry { fh: Some(_), whole: false, .. }) && content.is_empty());
    std::fs::create_dir(served.path("d")).unwrap();
    assert!(matches!(look("d").unwrap().0, Reply::Entry { fh: None, whole: false, .. }));
    assert_eq!(client.files.open_file_count(), 2);
}

#[test]
fn names_are_bytes() {
    let (served, client) = client();
    let longest = [b'x'; 255];
    for bytes in [&b"\xff\xfe"[..], b"e\xcc\x81", b"\xc3\xa9", b" a\nb", &longest] {
        let made = Name::new(bytes).unwrap();
        let request = Request::MakeDir { parent: client.root(), name: made.clone(), mode: 0o755, umask: 0 };
        let attr = entry(client.ask(request)).unwrap();
        let path = served.dir.path().join(std::ffi::OsStr::from_bytes(bytes));
        assert_eq!(std::fs::metadata(path).unwrap().ino(), attr.node.id.0);
        let look = Request::Lookup { parent: client.root(), name: made, also_open: None };
        assert_eq!(entry(client.ask(look)).unwrap().node, attr.node);
    }
    assert_eq!(client.list_all(client.root(), 4096, false).len(), 5);
}

#[test]
fn directories_come_and_go() {
    let (served, client) = client();
    let made = client.mkdir(client.root(), "d").unwrap();
    assert_eq!((made.kind, made.mode, made.nlink), (FileKind::Directory, 0o755, 2));
    assert_eq!(client.mkdir(client.root(), "d"), Err(Errno::EEXIST));
    client.mkdir(made.node, "inner").unwrap();
    let remove = |text: &str| client.ask(Request::RemoveDir { parent: client.root(), name: name(text) });
    assert_eq!(remove("d"), Err(Errno::ENOTEMPTY));
    std::fs::remove_dir(served.path("d/inner")).unwrap();
    assert_eq!(client.unlink("d"), Err(Errno::EISDIR));
    assert!(matches!(remove("d"), Ok(Reply::Removed { .. })));
    assert_eq!(remove("d"), Err(Errno::ENOENT));
    std::fs::write(served.path("f"), "").unwrap();
    assert_eq!(remove("f"), Err(Errno::ENOTDIR));
    assert!(matches!(client.unlink("f"), Ok(Reply::Removed { .. })));
}

#[test]
fn symlinks_are_text_and_never_followed() {
    let (served, client) = client();
    let make = |text: &str, target: &[u8]| {
        entry(client.ask(Request::Symlink { parent: client.root(), name: name(text), target: target.into() }))
    };
    let link = make("l", b"../../etc/passwd").unwrap();
    assert_eq!((link.kind, link.size), (FileKind::Symlink, 16));
    let (_, target) = client.ask_with(Request::ReadLink { node: link.node }, Vec::new()).unwrap();
    assert_eq!(target, b"../../etc/passwd");
    assert_eq!(client.open(link.node, libc::O_RDONLY), Err(Errno::ELOOP));
    assert_eq!(client.lookup_in(link.node, "x"), Err(Errno::ENOTDIR));
    assert_eq!(make("m", &[b'x'; 4096]), Err(Errno::ENAMETOOLONG));
    assert_eq!(make("m", b""), Err(Errno::ENOENT));
    std::fs::write(served.path("f"), "").unwrap();
    let file = client.lookup("f").unwrap().node;
    assert_eq!(client.ask(Request::ReadLink { node: file }), Err(Errno::EINVAL));
}

#[test]
fn hard_links_are_one_node() {
    let (served, client) = client();
    std::fs::write(served.path("a"), "x").unwrap();
    let a = client.lookup("a").unwrap();
    let link = |text: &str| {
        entry(client.ask(Request::Link { node: a.node, new_parent: client.root(), new_name: name(text) }))
    };
    let b = link("b").unwrap();
    assert_eq!((b.node, b.nlink), (a.node, 2));
    assert_eq!(link("b"), Err(Errno::EEXIST));
    client.unlink("b").unwrap();
    assert_eq!(client.attr(a.node).unwrap().nlink, 1);
    let symlink = Request::Symlink { parent: client.root(), name: name("s"), target: b"nowhere".to_vec() };
    let symlink = entry(client.ask(symlink)).unwrap().node;
    let request = Request::Link { node: symlink, new_parent: client.root(), new_name: name("s2") };
    assert_eq!(entry(client.ask(request)).unwrap().kind, FileKind::Symlink);
}

#[test]
fn special_files_are_made_and_never_opened() {
    let (served, client) = client();
    let make = |text: &str, mode: u32, rdev: u64| {
        let request = Request::MakeNode { parent: client.root(), name: name(text), mode, umask: 0o022, rdev };
        entry(client.ask(request))
    };
    let fifo = make("p", libc::S_IFIFO | 0o666, 0).unwrap();
    assert_eq!((fifo.kind, fifo.mode), (FileKind::Fifo, 0o644));
    assert!(std::fs::metadata(served.path("p")).unwrap().file_type().is_fifo());
    assert_eq!(make("s", libc::S_IFSOCK | 0o600, 0).unwrap().kind, FileKind::Socket);
    assert_eq!(make("f", 0o600, 0).unwrap().kind, FileKind::File);
    assert_eq!(make("d", libc::S_IFDIR | 0o700, 0), Err(Errno::EINVAL));
    assert_eq!(client.open(fifo.node, libc::O_RDONLY), Err(Errno::ENXIO));
    assert_eq!(client.create("p", 0o644, 0), Err(Errno::ESTALE));
    if is_root() {
        let device = make("z", libc::S_IFCHR | 0o666, libc::makedev(1, 5)).unwrap();
        assert_eq!((device.kind, device.rdev), (FileKind::CharDevice, libc::makedev(1, 5)));
        assert_eq!(client.open(device.node, libc::O_RDWR), Err(Errno::ENXIO));
    }
}

#[test]
fn renames_replace_refuse_or_exchange() {
    let (served, client) = client();
    let rename = |from: &str, to: &str, mode: RenameMode| {
        let (parent, new_parent) = (client.root(), client.root());
        client.ask(Request::Rename { parent, name: name(from), new_parent, new_name: name(to), mode })
    };
    std::fs::write(served.path("a"), "a").unwrap();
    std::fs::write(served.path("b"), "b").unwrap();
    let (a, b) = (client.lookup("a").unwrap().node, client.lookup("b").unwrap().node);
    assert_eq!(rename("a", "b", RenameMode::NoReplace), Err(Errno::EEXIST));
    assert!(
        matches!(rename("a", "b", RenameMode::Exchange), Ok(Reply::Renamed { moved: Some(moved), .. }) if moved.node == a)
    );
    assert_eq!((client.lookup("a").unwrap().node, client.lookup("b").unwrap().node), (b, a));
    assert!(
        matches!(rename("a", "b", RenameMode::Replace), Ok(Reply::Renamed { moved: Some(moved), .. }) if moved.node == b)
    );
    assert_eq!(std::fs::read(served.path("b")).unwrap(), b"b");
    assert_eq!(client.lookup("a"), Err(Errno::ENOENT));
    client.mkdir(client.root(), "d").unwrap();
    assert_eq!(rename("b", "d", RenameMode::Replace), Err(Errno::EISDIR));
    assert_eq!(rename("d", "b", RenameMode::Replace), Err(Errno::ENOTDIR));
    assert_eq!(rename("none", "x", RenameMode::Replace), Err(Errno::ENOENT));
}

#[test]
fn a_read_only_export_refuses_every_change() {
    let served = Export::with(own(), true, &nearfs_fs_server::descriptor::Descriptors::new(1000));
    std::fs::write(served.path("f"), "x").unwrap();
    let client = served.client();
    let (root, file) = (client.root(), client.lookup("f").unwrap().node);
    assert_eq!(client.create("new", 0o644, 0), Err(Errno::EROFS));
    assert_eq!(client.unlink("f"), Err(Errno::EROFS));
    assert_eq!(client.mkdir(root, "d"), Err(Errno::EROFS));
    assert_eq!(client.open(file, libc::O_RDWR), Err(Errno::EROFS));
    assert_eq!(client.open(file, libc::O_RDONLY | libc::O_TRUNC), Err(Errno::EROFS));
    assert_eq!(client.set(file, Default::default()), Err(Errno::EROFS));
    let set = Request::SetXattr {
        node: file,
        name: b"user.a".to_vec(),
        mode: nearfs_protocol::message::XattrMode::Set,
    };
    assert_eq!(client.ask(set), Err(Errno::EROFS));
    assert_eq!(client.ask(Request::Access { node: file, mask: 2 }), Err(Errno::EROFS));
    let (fh, _) = client.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(client.read(fh, 0, 10).unwrap(), b"x");
}
