//! What was moved past the server, or by a session that has ended, and is found again when the server is started again.

use super::*;

/// A world in which file handles may be used, and one in which they may not.
fn worlds() -> [World; 2] {
    [true, false].map(|has_handles| {
        let mut world = World::new();
        world.has_handles = has_handles;
        world.restart();
        world
    })
}

fn lookup_in(world: &mut World, session: u64, parent: Node, text: &str) -> Result<Attr, Errno> {
    match world.ask(session, Request::Lookup { parent, name: name(text), also_open: None }, b"")? {
        Reply::Entry { attr, .. } => Ok(attr),
        other => panic!("{text}: {other:?}"),
    }
}

fn attr_of(world: &mut World, session: u64, node: Node) -> Result<Attr, Errno> {
    match world.ask(session, Request::GetAttr { node, fh: None }, b"")? {
        Reply::Attr(attr) => Ok(attr),
        other => panic!("{other:?}"),
    }
}

fn names_in(world: &mut World, session: u64, node: Node) -> usize {
    let list = Request::ReadDir { node, cookie: 0, entry_bytes_max: 9999, with_attrs: true };
    match world.ask(session, list, b"") {
        Ok(Reply::Listing { entries, .. }) => entries.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn directories_and_open_files_that_were_moved_past_the_server_are_found_again() {
    for mut world in worlds() {
        fs::create_dir_all(world.path("a/b/c")).unwrap();
        fs::create_dir_all(world.path("deep/er")).unwrap();
        fs::write(world.path("a/b/f"), "content").unwrap();
        let session = world.begin();
        let a = world.lookup(session, "a").node;
        let b = lookup_in(&mut world, session, a, "b").unwrap().node;
        let c = lookup_in(&mut world, session, b, "c").unwrap().node;
        let f = lookup_in(&mut world, session, b, "f").unwrap().node;
        let open = Request::Open { node: f, flags: libc::O_RDONLY as u32, content_bytes_max: 0 };
        let Ok(Reply::Opened { fh, .. }) = world.ask(session, open, b"") else { panic!("not opened") };
        fs::rename(world.path("a/b/f"), world.path("deep/g")).unwrap();
        fs::rename(world.path("a"), world.path("deep/er/a2")).unwrap();
        fs::rename(world.path("deep/er/a2/b"), world.path("deep/er/b2")).unwrap();
        for _ in 0..2 {
            world.restart();
            for node in [c, b, a] {
                assert_eq!(attr_of(&mut world, session, node).map(|attr| attr.node), Ok(node));
            }
            assert_eq!(world.read(session, fh).unwrap(), b"content");
            assert_eq!(names_in(&mut world, session, b), 1);
            let made = Request::MakeDir { parent: c, name: name("n"), mode: 0o700, umask: 0 };
            assert!(matches!(world.ask(session, made, b""), Ok(_) | Err(Errno::EEXIST)));
            assert!(world.path("deep/er/b2/c/n").is_dir());
        }
    }
}

#[test]
fn what_a_session_moved_that_has_ended_is_found_again() {
    for mut world in worlds() {
        fs::create_dir_all(world.path("a/b")).unwrap();
        fs::write(world.path("a/b/f"), "content").unwrap();
        let (stays, ends) = (world.begin(), world.begin());
        let a = world.lookup(stays, "a").node;
        let b = lookup_in(&mut world, stays, a, "b").unwrap().node;
        let f = lookup_in(&mut world, stays, b, "f").unwrap().node;
        let (parent, mode) = (world.files(ends).root, RenameMode::Replace);
        let rename =
            Request::Rename { parent, name: name("a"), new_parent: parent, new_name: name("z"), mode };
        world.ask(ends, rename, b"").unwrap();
        world.files(ends).end();
        world.restart();
        for node in [b, f, a] {
            assert_eq!(attr_of(&mut world, stays, node).map(|attr| attr.node), Ok(node));
        }
    }
}

#[test]
fn what_was_removed_past_the_server_stays_gone() {
    for mut world in worlds() {
        fs::create_dir_all(world.path("a/b")).unwrap();
        let session = world.begin();
        let a = world.lookup(session, "a").node;
        let b = lookup_in(&mut world, session, a, "b").unwrap().node;
        fs::remove_dir_all(world.path("a")).unwrap();
        fs::create_dir_all(world.path("a/b")).unwrap();
        world.restart();
        for node in [b, a] {
            assert_eq!(attr_of(&mut world, session, node), Err(Errno::ESTALE));
        }
    }
}

#[test]
fn what_was_only_listed_can_be_opened_later() {
    for mut world in worlds() {
        fs::create_dir(world.path("d")).unwrap();
        fs::write(world.path("d/f"), "content").unwrap();
        let session = world.begin();
        let d = world.lookup(session, "d").node;
        let list = Request::ReadDir { node: d, cookie: 0, entry_bytes_max: 9999, with_attrs: true };
        let Ok(Reply::Listing { entries, .. }) = world.ask(session, list, b"") else { panic!("not listed") };
        let node = entries[0].attr.as_ref().unwrap().node;
        fs::rename(world.path("d"), world.path("e")).unwrap();
        world.restart();
        let open = Request::Open { node, flags: libc::O_RDONLY as u32, content_bytes_max: 0 };
        let Ok(Reply::Opened { fh, .. }) = world.ask(session, open, b"") else { panic!("not opened") };
        assert_eq!(world.read(session, fh).unwrap(), b"content");
    }
}
