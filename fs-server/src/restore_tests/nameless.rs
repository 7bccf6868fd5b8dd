//! Files that were made without a name (`O_TMPFILE`), or have lost it.

use super::*;

fn make(world: &mut World, session: u64) -> (Fh, Node) {
    make_with(world, session, libc::O_RDWR)
}

fn make_with(world: &mut World, session: u64, flags: i32) -> (Fh, Node) {
    let (parent, flags) = (world.files(session).root, flags as u32);
    let make = Request::CreateUnnamed { parent, mode: 0o600, umask: 0, flags };
    let Ok(Reply::Opened { fh, attr, .. }) = world.ask(session, make, b"") else { panic!("not made") };
    assert_eq!(attr.nlink, 0);
    let write = Request::Write { fh, at: WriteAt::Offset(0), sync: WriteSync::None };
    assert!(world.ask(session, write, b"content").is_ok());
    (fh, attr.node)
}

fn hidden(world: &World) -> usize {
    fs::read_dir(world.base.path().join("state/open")).unwrap().count()
}

fn links(world: &mut World, session: u64, (fh, node): (Fh, Node)) -> u32 {
    match world.ask(session, Request::GetAttr { node, fh: Some(fh) }, b"") {
        Ok(Reply::Attr(attr)) => attr.nlink,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_without_a_name_lives_as_long_as_it_is_open() {
    let mut world = World::new();
    let hidden = |world: &World| fs::read_dir(world.base.path().join("state/open")).unwrap().count();
    for (text, rename_over) in [("f", false), ("g", true)] {
        fs::write(world.path(text), "kept").unwrap();
        let session = world.begin();
        let other = world.begin();
        let fh = world.open(other, text, libc::O_RDONLY);
        let parent = world.files(session).root;
        let request = if rename_over {
            fs::write(world.path("new"), "new").unwrap();
            let (new_parent, mode) = (parent, RenameMode::Replace);
            Request::Rename { parent, name: name("new"), new_parent, new_name: name(text), mode }
        } else {
            Request::Unlink { parent, name: name(text) }
        };
        world.ask(session, request, b"").unwrap();
        assert_eq!(hidden(&world), 1);
        for _ in 0..2 {
            assert_eq!(world.read(other, fh).unwrap(), b"kept");
            let node = world.files(other).files.get(fh).unwrap().node;
            let attr = world.ask(other, Request::GetAttr { node, fh: Some(fh) }, b"");
            assert!(matches!(attr, Ok(Reply::Attr(Attr { nlink: 0, .. }))), "{attr:?}");
            world.restart();
        }
        world.files(other).end();
        assert_eq!(hidden(&world), 0);
        world.files(session).end();
    }
}

#[test]
fn a_file_that_nobody_has_open_or_that_has_other_names_is_not_kept() {
    let mut world = World::new();
    let session = world.begin();
    let parent = world.files(session).root;
    fs::write(world.path("closed"), "").unwrap();
    fs::write(world.path("a"), "").unwrap();
    fs::hard_link(world.path("a"), world.path("b")).unwrap();
    let _open = world.open(session, "a", libc::O_RDONLY);
    for text in ["closed", "a"] {
        world.ask(session, Request::Unlink { parent, name: name(text) }, b"").unwrap();
    }
    assert_eq!(fs::read_dir(world.base.path().join("state/open")).unwrap().count(), 0);
    world.ask(session, Request::Unlink { parent, name: name("b") }, b"").unwrap();
    assert_eq!(fs::read_dir(world.base.path().join("state/open")).unwrap().count(), 1);
    world.restart();
    world.files(session).end();
    world.restart();
    assert_eq!(fs::read_dir(world.base.path().join("state/open")).unwrap().count(), 0);
}

#[test]
fn a_file_that_never_had_a_name_lives_as_long_as_it_is_open() {
    let mut world = World::new();
    let session = world.begin();
    let file = make(&mut world, session);
    for _ in 0..2 {
        world.restart();
        assert_eq!(world.read(session, file.0).unwrap(), b"content");
        assert_eq!(links(&mut world, session, file), 0, "no name of ours is seen");
    }
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), 0);
    let files = vec![nearfs_protocol::message::ReleasedFile { fh: file.0, flock_owner: None }];
    world.ask(session, Request::Release { files }, b"").unwrap();
    assert_eq!(hidden(&world), 0);
}

#[test]
fn a_file_gets_its_first_name_in_a_later_life_of_the_server() {
    let mut world = World::new();
    let session = world.begin();
    let file = make(&mut world, session);
    world.restart();
    let new_parent = world.files(session).root;
    let link = Request::Link { node: file.1, new_parent, new_name: name("n") };
    assert!(world.ask(session, link, b"").is_ok());
    assert_eq!(links(&mut world, session, file), 1);
    world.restart();
    world.files(session).end();
    assert_eq!(fs::read(world.path("n")).unwrap(), b"content");
    assert_eq!((hidden(&world), fs::metadata(world.path("n")).unwrap().nlink()), (0, 1));
}

#[test]
fn a_file_that_may_never_have_a_name_is_gone_with_the_process() {
    let mut world = World::new();
    let session = world.begin();
    let file = make_with(&mut world, session, libc::O_RDWR | libc::O_EXCL);
    assert_eq!(hidden(&world), 0);
    world.restart();
    assert_eq!(world.read(session, file.0), Err(Errno::EIO));
}
