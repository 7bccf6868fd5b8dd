//! Nodes: the same while they live, never mistaken for another, found again wherever they went.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nearfs_fs_server::descriptor::Descriptors;
use nearfs_fs_server::tree::Tree;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Node;
use nearfs_protocol::message::{RenameMode, Request, WriteAt};

use crate::support::{Client, Export, client, is_root, name, own};

#[test]
fn a_node_is_the_same_to_every_session_and_server() {
    let (served, client) = client();
    let directory = client.mkdir(client.root(), "d").unwrap();
    let (_, file) = client.create_in(directory.node, "f", (0o644, 0), libc::O_RDWR).unwrap();
    let again = Export {
        tree: Arc::new(Tree::open(served.dir.path(), own(), false, &Descriptors::new(1000)).unwrap()),
        dir: tempfile::tempdir().unwrap(),
    };
    let inner = again.client_at(&[name("d")]);
    assert_eq!(inner.root(), directory.node);
    assert_eq!(inner.lookup("f").unwrap(), file);
    assert_eq!(inner.attr(client.root()), Err(Errno::ESTALE), "above its root");
}

#[test]
fn sessions_know_only_what_they_were_told() {
    let (served, client) = client();
    let (fh, attr) = client.create("f", 0o644, 0).unwrap();
    let other = served.client();
    assert_eq!(other.attr(attr.node), Err(Errno::ESTALE));
    assert_eq!(other.open(attr.node, libc::O_RDONLY), Err(Errno::ESTALE));
    assert_eq!(other.read(fh, 0, 1), Err(Errno::EBADF));
    assert_eq!(client.attr(Node::default()), Err(Errno::ESTALE));
}

#[test]
fn a_session_begins_at_directories_only() {
    let (served, _client) = client();
    std::fs::write(served.path("f"), "").unwrap();
    std::os::unix::fs::symlink("/", served.path("l")).unwrap();
    let begin = |text: &str| {
        let pool = nearfs_transport::pool::Pool::new(0);
        let session = nearfs_protocol::id::SessionId(1);
        nearfs_fs_server::session_files::SessionFiles::begin(&served.tree, session, &[name(text)], &pool)
            .err()
    };
    assert_eq!(begin("none"), Some(Errno::ENOENT));
    assert_eq!(begin("f"), Some(Errno::ENOTDIR));
    assert!(matches!(begin("l"), Some(Errno::ELOOP | Errno::ENOTDIR)));
}

#[test]
fn reused_inode_numbers_are_told_apart() {
    for base in ["/tmp", "/dev/shm"] {
        let dir = tempfile::tempdir_in(base).unwrap();
        let tree = Arc::new(Tree::open(dir.path(), own(), false, &Descriptors::new(1000)).unwrap());
        let client = Export { tree, dir }.client_keeping();
        let mut seen = std::collections::HashSet::new();
        let mut reused = 0;
        for round in 0..500 {
            let (fh, attr) = client.0.create("f", 0o644, 0).unwrap();
            assert!(seen.insert(attr.node), "{base}: {:?} again in round {round}", attr.node);
            reused += usize::from(seen.iter().filter(|node| node.id == attr.node.id).count() > 1);
            client.0.unlink("f").unwrap();
            client.0.release(fh);
        }
        let stale = seen.iter().filter(|&&node| client.0.attr(node) == Err(Errno::ESTALE)).count();
        assert_eq!(stale, 500, "{base}");
        eprintln!("{base}: {reused} of 500 inode numbers were used again");
    }
}

/// A server that can hold almost no descriptors, so that nodes have to be found again.
fn scarce() -> (Export, Client) {
    let served = Export::with(own(), false, &Descriptors::new(8));
    let client = served.client();
    (served, client)
}

#[test]
fn nodes_are_found_again_without_a_descriptor() {
    let (served, client) = scarce();
    let mut parents = vec![client.root()];
    for depth in 0..20 {
        parents.push(client.mkdir(parents[depth], "deeper").unwrap().node);
    }
    let nodes: Vec<Node> = (0..100)
        .map(|number| client.mkdir(parents[number % 20], &format!("n{number}")).unwrap().node)
        .collect();
    for &node in nodes.iter().chain(&parents) {
        assert_eq!(client.attr(node).unwrap().node, node);
    }
    // Moved by this server: found under the new name.
    let request = Request::Rename {
        parent: parents[3],
        name: name("deeper"),
        new_parent: client.root(),
        new_name: name("moved"),
        mode: RenameMode::Replace,
    };
    client.ask(request).unwrap();
    for &node in nodes.iter().chain(&parents) {
        assert_eq!(client.attr(node).unwrap().node, node);
    }
    assert!(served.path("moved/deeper").is_dir());
    // Replaced behind our back: another node, not found by the old one's name.
    std::fs::remove_dir(served.path("n0")).unwrap();
    std::fs::create_dir(served.path("n0")).unwrap();
    assert_eq!(client.attr(nodes[0]), Err(Errno::ESTALE));
}

#[test]
fn root_finds_what_was_moved_behind_its_back() {
    if !is_root() {
        return;
    }
    let (served, client) = scarce();
    let moved = client.mkdir(client.root(), "here").unwrap().node;
    let others: Vec<Node> =
        (0..600).map(|number| client.mkdir(client.root(), &format!("n{number}")).unwrap().node).collect();
    others.iter().for_each(|&node| assert!(client.attr(node).is_ok()));
    std::fs::rename(served.path("here"), served.path("there")).unwrap();
    assert_eq!(client.attr(moved).unwrap().node, moved);
}

#[test]
fn open_files_are_bounded_and_given_back() {
    let descriptors = Descriptors::new(40);
    let served = Export::with(own(), false, &descriptors);
    let client = served.client();
    let (_, attr) = client.create("f", 0o644, 0).unwrap();
    for number in 0..60 {
        client.mkdir(client.root(), &format!("d{number}")).unwrap();
    }
    let open = || client.open(attr.node, libc::O_RDONLY);
    let opened = std::iter::from_fn(|| open().ok()).count();
    assert!((30..40).contains(&opened), "{opened}");
    assert_eq!(open(), Err(Errno::ENFILE));
    assert!(client.lookup("d1").is_ok(), "looking needs no slot");
    client.files.end();
    drop(client);
    drop(served);
    assert_eq!(descriptors.held(), 0);
}

#[test]
fn many_threads_leave_nothing_behind() {
    let descriptors = Descriptors::new(64);
    let served = Export::with(own(), false, &descriptors);
    std::thread::scope(|scope| {
        let clients = [served.client(), served.client()].map(Arc::new);
        for thread in 0..6_usize {
            let client = clients[thread % 2].clone();
            scope.spawn(move || busy(&client, thread));
        }
    });
    assert_eq!((served.tree.node_count(), descriptors.held()), (0, 0));
}

/// Makes, moves, uses and forgets the same few names as the other threads.
fn busy(client: &Client, thread: usize) {
    for round in 0..600 {
        let text = format!("{}", (round + thread) % 7);
        let other = format!("{}", (round * 3 + thread) % 7);
        let parent = client.root();
        if let Ok((fh, attr)) = client.create(&text, 0o644, 0) {
            client.write(fh, WriteAt::End, b"record").unwrap();
            let mode = RenameMode::Replace;
            let (name, new_name) = (name(&text), name(&other));
            let rename = Request::Rename { parent, name, new_parent: parent, new_name, mode };
            client.ask(rename).ok();
            assert_eq!(client.attr(attr.node).unwrap().node, attr.node, "it is open");
            client.release(fh);
            client.ask(Request::Forget { nodes: vec![(attr.node, 1)] }).unwrap();
        }
        if let Ok(attr) = client.lookup(&other) {
            match client.attr(attr.node) {
                Ok(again) => assert_eq!(again.node, attr.node),
                Err(errno) => assert_eq!(errno, Errno::ESTALE),
            }
            client.ask(Request::Forget { nodes: vec![(attr.node, 1)] }).unwrap();
        }
        if round % 5 == 0 {
            client.unlink(&text).ok();
            client.list_all(parent, 300, true);
        }
    }
}

#[test]
fn several_devices_are_one_tree() {
    if !is_root() {
        return;
    }
    let (served, client) = client();
    let inner = client.mkdir(client.root(), "mnt").unwrap();
    let mount = MountedTmpfs::new(served.path("mnt"));
    let over = client.lookup("mnt").unwrap();
    assert_ne!(over.node, inner.node);
    let (_, file) = client.create_in(over.node, "f", (0o644, 0), libc::O_RDWR).unwrap();
    let there = std::fs::metadata(served.path("mnt/f")).unwrap();
    assert_eq!(file.node.id.0 & 0xff_ffff_ffff, there.ino());
    assert_ne!(file.node.id.0, there.ino());
    let listed = client.list_all(client.root(), 4096, true);
    assert_eq!(listed[0].attr.unwrap().node, over.node);
    let listed = client.list_all(over.node, 4096, false);
    assert_eq!(listed[0].ino, file.node.id.0);
    let request = Request::Link { node: file.node, new_parent: client.root(), new_name: name("f") };
    assert_eq!(client.ask(request), Err(Errno::EXDEV));
    drop(client);
    drop(mount);
}

struct MountedTmpfs(std::path::PathBuf);

impl MountedTmpfs {
    fn new(at: std::path::PathBuf) -> MountedTmpfs {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &at, "tmpfs", flags, None::<&std::ffi::CStr>).unwrap();
        MountedTmpfs(at)
    }
}

impl Drop for MountedTmpfs {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

/// A client that keeps its directory.
struct Keeping(Client, #[expect(dead_code, reason = "removed at the end")] Export);

impl Export {
    fn client_keeping(self) -> Keeping {
        Keeping(self.client(), self)
    }
}
