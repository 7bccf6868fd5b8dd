//! What transfers ask for, in flight when the server is killed.

use nearfs_protocol::attr::SetAttr;
use nearfs_protocol::hash::hash;
use nearfs_protocol::id::TransferId;
use nearfs_protocol::message::Publication;
use nearfs_protocol::roster::{TransferKind, TransferOutcome};

use super::*;

/// As many as one request takes, whose names leave no room in a slot.
const MANY: usize = nearfs_protocol::limits::PUBLISHED_MAX;

fn staged(number: usize) -> String {
    format!(".nearfs-{number}-{}.part", "x".repeat(200))
}

fn published(number: usize) -> String {
    format!("{number}-{}", "y".repeat(200))
}

/// So many staged files, each with its number as its content.
fn publish(world: &World, session: u64, count: usize) -> Request {
    let parent = world.files(session).root;
    let item = |number| {
        fs::write(world.path(&staged(number)), number.to_string()).unwrap();
        let (staged, name) = (name(&staged(number)), name(&published(number)));
        Publication { parent, staged, name, mode: RenameMode::NoReplace }
    };
    Request::Publish { items: (0..count).map(item).collect() }
}

fn rename(world: &World, count: usize) {
    for number in 0..count {
        fs::rename(world.path(&staged(number)), world.path(&published(number))).unwrap();
    }
}

fn assert_published(world: &World, count: usize) {
    for number in 0..count {
        assert_eq!(fs::read_to_string(world.path(&published(number))).unwrap(), number.to_string());
    }
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), count);
}

fn remembers(world: &World, session: u64, answer: &Answer) -> bool {
    let remembered = &world.life.as_ref().unwrap().remembered[&session];
    remembered.iter().any(|remembered| remembered.answer == *answer)
}

#[test]
fn a_publish_that_was_half_done_is_carried_to_its_end() {
    for (count, done) in [(1, 1), (3, 2), (MANY, 1), (MANY, MANY - 1), (MANY, MANY)] {
        let mut world = World::new();
        let session = world.begin();
        let request = publish(&world, session, count);
        let effect = |world: &World| rename(world, done);
        let answer = world.killed_within(session, &request, Some(&effect)).expect("it was carried out");
        assert_eq!(answer, Ok(Reply::Published { refusals: vec![None; count] }), "{done} of {count}");
        assert_published(&world, count);
        world.restart();
        assert!(remembers(&world, session, &answer), "{done} of {count}: it is remembered the next time");
    }
}

#[test]
fn a_publish_that_was_half_done_refuses_what_it_would_have_refused() {
    let mut world = World::new();
    let session = world.begin();
    let request = publish(&world, session, 20);
    fs::write(world.path(&published(7)), "was here before").unwrap();
    fs::remove_file(world.path(&staged(8))).unwrap();
    let answer = world.killed_within(session, &request, Some(&|world| rename(world, 4)));
    let Some(Ok(Reply::Published { refusals })) = answer else { panic!("{answer:?}") };
    for (number, refusal) in refusals.into_iter().enumerate() {
        let expected = match number {
            7 => Some(Errno::EEXIST),
            8 => Some(Errno::ENOENT),
            _ => None,
        };
        assert_eq!(refusal, expected, "{number}");
    }
    assert_eq!(fs::read_to_string(world.path(&published(7))).unwrap(), "was here before");
}

#[test]
fn a_publish_that_had_not_begun_runs_when_it_is_sent_again() {
    for count in [2, MANY] {
        let mut world = World::new();
        let session = world.begin();
        let request = publish(&world, session, count);
        assert_eq!(world.killed_within(session, &request, None), None);
        let answer = world.ask(session, request, b"");
        assert_eq!(answer, Ok(Reply::Published { refusals: vec![None; count] }));
        assert_published(&world, count);
        world.restart();
        assert!(remembers(&world, session, &answer), "an answer for which there is no room in its slot");
    }
}

#[test]
fn what_others_publish_later_was_not_in_limbo() {
    let mut world = World::new();
    let session = world.begin();
    let request = publish(&world, session, MANY);
    assert_eq!(world.killed_within(session, &request, None), None);
    rename(&world, MANY);
    world.restart();
    assert_eq!(world.life.as_ref().unwrap().remembered[&session], []);
}

#[test]
fn a_file_that_was_half_stored_is_stored_anew() {
    for present in ["", "ha", "half"] {
        let mut world = World::new();
        let session = world.begin();
        let store = Request::Store {
            parent: world.files(session).root,
            name: name("f"),
            mode: 0o600,
            umask: 0,
            set: SetAttr::default(),
            hash: hash(b"half"),
        };
        let effect = |world: &World| fs::write(world.path("f"), present).unwrap();
        assert_eq!(world.killed_within(session, &store, Some(&effect)), None);
        assert!(world.ask(session, store, b"half").is_ok(), "with {present:?}");
        assert_eq!(fs::read(world.path("f")).unwrap(), b"half");
    }
}

#[test]
fn a_stored_file_of_another_is_not_taken_back() {
    let mut world = World::new();
    fs::write(world.path("f"), "another's").unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let session = world.begin();
    let (parent, set, hash) = (world.files(session).root, SetAttr::default(), hash(b"new"));
    let store = Request::Store { parent, name: name("f"), mode: 0o600, umask: 0, set, hash };
    assert_eq!(world.killed_within(session, &store, None), None);
    assert_eq!(world.ask(session, store, b"new"), Err(Errno::EEXIST));
    assert_eq!(fs::read(world.path("f")).unwrap(), b"another's");
}

#[test]
fn an_announcement_is_made_anew_and_none_is_taken_for_another() {
    let mut world = World::new();
    let session = world.begin();
    let id = world.next_id();
    let (parent, kind) = (world.files(session).root, TransferKind::Upload);
    let announce = Request::Announce { kind, parent, name: name("f"), total_bytes: 7, fh: None };
    let begun = |answer| match answer {
        Ok(Reply::Announced(transfer)) => transfer,
        other => panic!("{other:?}"),
    };
    let end = |transfer: TransferId| Request::EndTransfer { transfer, outcome: TransferOutcome::Done };
    let before = begun(world.ask_as(session, id, announce.clone(), b""));
    world.restart();
    assert_eq!(world.life.as_ref().unwrap().remembered[&session], [], "it went with the process");
    let again = begun(world.ask_as(session, id, announce, b""));
    assert!(again > before, "{again:?} after {before:?}");
    assert_eq!(world.ask(session, end(before), b""), Err(Errno::ENOENT));
    assert!(world.ask(session, end(again), b"").is_ok());
}
