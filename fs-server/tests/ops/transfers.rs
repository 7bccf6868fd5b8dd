//! Whole files and their hashes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nearfs_protocol::attr::{Attr, SetAttr, SetTime, Time};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::hash::hash;
use nearfs_protocol::id::{ContentHash, Fh, Node};
use nearfs_protocol::limits::{HASH_BYTES, PUBLISHED_MAX};
use nearfs_protocol::message::{Publication, RenameMode, Reply, Request, WriteAt};

use crate::support::{Client, Export, client, name, own};

fn hashes(client: &Client, fh: Fh, range: (u64, u64), chunk_bytes: u32) -> Result<Vec<ContentHash>, Errno> {
    let (offset, length) = range;
    let request = Request::HashRange { fh, offset, length, chunk_bytes };
    let (_, payload) = client.ask_with(request, Vec::new())?;
    Ok(payload.chunks(HASH_BYTES).map(|hash| ContentHash(hash.try_into().unwrap())).collect())
}

fn fetch(client: &Client, text: &str, content_bytes_max: u32) -> Result<(Attr, Option<Vec<u8>>), Errno> {
    let request = Request::Fetch { parent: client.root(), name: name(text), content_bytes_max };
    match client.ask_with(request, Vec::new())? {
        (Reply::Fetched { attr, whole: true, hash: told }, content) => {
            assert_eq!(told, hash(&content));
            Ok((attr, Some(content)))
        }
        (Reply::Fetched { attr, whole: false, .. }, content) if content.is_empty() => Ok((attr, None)),
        other => panic!("{other:?}"),
    }
}

fn store(client: &Client, text: &str, content: &[u8], set: SetAttr) -> Result<Attr, Errno> {
    let (parent, hash) = (client.root(), hash(content));
    let request = Request::Store { parent, name: name(text), mode: 0o666, umask: 0o027, set, hash };
    match client.ask_with(request, content.to_vec())?.0 {
        Reply::Attr(attr) => Ok(attr),
        other => panic!("{other:?}"),
    }
}

fn item(parent: Node, staged: &str, wanted: &str, mode: RenameMode) -> Publication {
    Publication { parent, staged: name(staged), name: name(wanted), mode }
}

fn publish(client: &Client, items: Vec<Publication>) -> Result<Vec<Option<Errno>>, Errno> {
    match client.ask(Request::Publish { items })? {
        Reply::Published { refusals } => Ok(refusals),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ranges_are_hashed_where_they_are() {
    let (_served, client) = client();
    let (fh, _) = client.create("f", 0o644, 0o022).unwrap();
    let content: Vec<u8> = (0..700_000_u32).map(|at| (at % 251) as u8).collect();
    client.write(fh, WriteAt::Offset(0), &content).unwrap();
    let expected: Vec<_> = content.chunks(300_000).map(hash).collect();
    assert_eq!(hashes(&client, fh, (0, 10_000_000), 300_000).unwrap(), expected);
    assert_eq!(hashes(&client, fh, (5, 10), 300_000).unwrap(), [hash(&content[5..15])]);
    assert_eq!(hashes(&client, fh, (700_000, 10), 10).unwrap(), []);
    for (range, chunk_bytes) in
        [((0, 10), 0), ((0, 1 << 30), 1 << 20), ((0, 1 << 20), 1), ((u64::MAX, 10), 10)]
    {
        assert_eq!(hashes(&client, fh, range, chunk_bytes), Err(Errno::EINVAL));
    }
    assert_eq!(hashes(&client, Fh(77), (0, 10), 10), Err(Errno::EBADF));
}

#[test]
fn a_small_file_is_fetched_in_one_step() {
    let (served, client) = client();
    for content in [&b""[..], b"-1", &[7; 900_000]] {
        fs::write(served.path("f"), content).unwrap();
        let (attr, fetched) = fetch(&client, "f", 900_000).unwrap();
        assert_eq!((attr.size, fetched.as_deref()), (content.len() as u64, Some(content)));
    }
    assert_eq!(fetch(&client, "f", 899_999).unwrap().1, None);
    assert_eq!(fetch(&client, "g", 10), Err(Errno::ENOENT));
    assert_eq!(fetch(&client, "f", 1 << 21), Err(Errno::EINVAL));
    fs::create_dir(served.path("d")).unwrap();
    std::os::unix::fs::symlink("f", served.path("l")).unwrap();
    assert_eq!(fetch(&client, "d", 10), Err(Errno::EISDIR));
    assert_eq!(fetch(&client, "l", 10), Err(Errno::ELOOP));
    assert_eq!((client.files.open_file_count(), client.files.node_count()), (0, 1), "nothing is kept");
}

#[test]
fn a_stored_file_is_complete_or_not_there() {
    let (served, client) = client();
    let mtime = Some(SetTime::At(Time { secs: 1_000_000_000, nanos: 5 }));
    let attr = store(&client, "s", b"content", SetAttr { mtime, ..SetAttr::default() }).unwrap();
    assert_eq!((attr.mode, attr.size, attr.mtime.secs), (0o640, 7, 1_000_000_000));
    assert_eq!(fs::read(served.path("s")).unwrap(), b"content");
    assert_eq!(store(&client, "s", b"other", SetAttr::default()), Err(Errno::EEXIST));
    let large = vec![3; 1 << 20];
    store(&client, "large", &large, SetAttr { mode: Some(0o4700), ..SetAttr::default() }).unwrap();
    assert_eq!(fs::metadata(served.path("large")).unwrap().permissions().mode() & 0o7777, 0o4700);
    let damaged = Request::Store {
        parent: client.root(),
        name: name("d"),
        mode: 0o600,
        umask: 0,
        set: SetAttr::default(),
        hash: hash(b"content"),
    };
    assert_eq!(client.ask_with(damaged, b"contemt".to_vec()).err(), Some(Errno::EIO));
    let cut = SetAttr { size: Some(0), ..SetAttr::default() };
    assert_eq!(store(&client, "d", b"content", cut), Err(Errno::EINVAL));
    assert!(!served.path("d").exists());
    assert_eq!(client.files.node_count(), 1, "nothing is counted");
}

#[test]
fn staged_files_get_their_names_each_for_itself() {
    let (served, client) = client();
    let directory = client.mkdir(client.root(), "d").unwrap().node;
    let count = 100;
    let staged = |at: usize| format!(".nearfs-{at}.part");
    let items: Vec<_> = (0..count)
        .map(|at| {
            let parent = if at % 2 == 0 { client.root() } else { directory };
            let place =
                if at % 2 == 0 { served.path(&staged(at)) } else { served.path("d").join(staged(at)) };
            fs::write(place, at.to_string()).unwrap();
            item(parent, &staged(at), &format!("f{at}"), RenameMode::NoReplace)
        })
        .collect();
    fs::write(served.path("f4"), "was here").unwrap();
    fs::remove_file(served.path("d").join(staged(5))).unwrap();
    let refusals = publish(&client, items.clone()).unwrap();
    for (at, refusal) in refusals.into_iter().enumerate() {
        let expected = match at {
            4 => Some(Errno::EEXIST),
            5 => Some(Errno::ENOENT),
            _ => None,
        };
        assert_eq!(refusal, expected, "item {at}");
    }
    assert_eq!(fs::read(served.path("f4")).unwrap(), b"was here");
    assert_eq!(fs::read(served.path("f98")).unwrap(), b"98");
    assert_eq!(fs::read(served.path("d").join("f99")).unwrap(), b"99");
    let again = item(client.root(), &staged(4), "f4", RenameMode::Replace);
    assert_eq!(publish(&client, vec![again]).unwrap(), [None]);
    assert_eq!(fs::read(served.path("f4")).unwrap(), b"4");
}

#[test]
fn only_files_are_published_and_only_so_many() {
    let (served, client) = client();
    fs::create_dir(served.path("staged")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", served.path("link")).unwrap();
    let of = |staged| vec![item(client.root(), staged, "f", RenameMode::Replace)];
    assert_eq!(publish(&client, of("staged")).unwrap(), [Some(Errno::EISDIR)]);
    assert_eq!(publish(&client, of("link")).unwrap(), [Some(Errno::ELOOP)]);
    let exchange = item(client.root(), "link", "f", RenameMode::Exchange);
    assert_eq!(publish(&client, vec![exchange]), Err(Errno::EINVAL));
    let many = vec![item(client.root(), "a", "b", RenameMode::Replace); PUBLISHED_MAX + 1];
    assert_eq!(publish(&client, many), Err(Errno::EINVAL));
    let unknown = vec![item(Node::default(), "a", "b", RenameMode::Replace)];
    assert_eq!(publish(&client, unknown), Err(Errno::ESTALE));
    assert_eq!(publish(&client, Vec::new()).unwrap(), []);
}

#[test]
fn a_read_only_export_stores_and_publishes_nothing() {
    let descriptors = nearfs_fs_server::descriptor::Descriptors::new(1000);
    let served = Export::with(own(), true, &descriptors);
    let client = served.client();
    assert_eq!(store(&client, "s", b"", SetAttr::default()), Err(Errno::EROFS));
    assert_eq!(publish(&client, Vec::new()), Err(Errno::EROFS));
}
