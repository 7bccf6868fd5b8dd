use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nearfs_protocol::attr::{Attr, Lock, LockKind, LockStyle, SetAttr};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::{GrantedLimits, Identity};
use nearfs_protocol::id::{BootId, Fh, Node, RequestId, SessionToken};
use nearfs_protocol::message::{
    Answer, Call, Caller, RenameMode, Reply, Request, WriteAt, WriteSync, XattrMode,
};
use nearfs_protocol::name::Name;
use nearfs_transport::pool::Payload;
use tempfile::TempDir;

use super::*;
use crate::descriptor::Descriptors;
use crate::dispatch::Served;
use crate::keep::{Keeper, is_kept};
use crate::store::AfterTruncation;

#[path = "restore_tests/moved.rs"]
mod moved;
#[path = "restore_tests/nameless.rs"]
mod nameless;
#[path = "restore_tests/transfers.rs"]
mod transfers;

/// A served directory, its state directory, and the present server of it.
struct World {
    base: TempDir,
    boot: BootId,
    life: Option<Life>,
    last_id: u64,
    has_handles: bool,
}

struct Life {
    tree: Arc<Tree>,
    store: Arc<Store>,
    sessions: HashMap<u64, Arc<SessionFiles>>,
    remembered: HashMap<u64, Vec<Remembered>>,
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn limits() -> GrantedLimits {
    GrantedLimits {
        requests_in_flight_max: 512,
        in_flight_bytes_max: 1 << 20,
        payload_bytes_max: 1 << 20,
        connections_max: 4,
        lease_ms: 10_000,
    }
}

impl World {
    fn new() -> World {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("served")).unwrap();
        let mut world = World { base, boot: BootId([1; 16]), life: None, last_id: 0, has_handles: true };
        world.start();
        world
    }

    fn start(&mut self) {
        let served = self.base.path().join("served");
        let identity = Identity::Squash {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let mut tree = Tree::open(&served, identity, false, &Descriptors::new(500)).unwrap();
        if !self.has_handles {
            tree.export.forgo_handles();
        }
        let tree = Arc::new(tree);
        let store = Arc::new(Store::open(&self.base.path().join("state"), &served, self.boot).unwrap());
        tree.export.keep_unnamed(&store.open_files()).unwrap();
        let mut life = Life { tree, store, sessions: HashMap::new(), remembered: HashMap::new() };
        for (begun, remembered, files) in take_up(&life.tree, &Pool::new(1 << 20), &life.store) {
            life.sessions.insert(begun.session.0, files);
            life.remembered.insert(begun.session.0, remembered);
        }
        life.tree.export.sweep_unnamed();
        life.tree.locks.set_journal(life.store.clone());
        self.life = Some(life);
    }

    fn begin(&mut self) -> u64 {
        let life = self.life.as_mut().unwrap();
        let id = life.store.next_session();
        let keep = |root| {
            let begun = Begun {
                session: id,
                token: SessionToken([3; 16]),
                limits: limits(),
                client: "test".into(),
                uid: None,
                is_shell: false,
                shown: "test".into(),
                path: vec![],
                root,
            };
            Some(Keeper::new(&life.store, id, life.store.begin(begun)?))
        };
        let tree = (&life.tree, life.tree.join_descriptors().unwrap());
        let files = SessionFiles::begin_kept(tree, id, &[], &Pool::new(1 << 20), keep).unwrap();
        life.sessions.insert(id.0, files);
        id.0
    }

    /// The process is killed and started again: nothing of what is in memory is given back.
    fn restart(&mut self) {
        let life = self.life.take().unwrap();
        life.tree.export.unnamed.stay();
        life.sessions.values().for_each(|files| files.leave());
        drop(life);
        self.start();
    }

    fn files(&self, session: u64) -> &Arc<SessionFiles> {
        &self.life.as_ref().unwrap().sessions[&session]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join("served").join(name)
    }

    fn next_id(&mut self) -> RequestId {
        self.last_id += 1;
        RequestId::new((self.last_id % 40) as u16, self.last_id)
    }

    /// Asks as a connection does.
    fn ask(&mut self, session: u64, request: Request, payload: &[u8]) -> Result<Reply, Errno> {
        let id = self.next_id();
        self.ask_as(session, id, request, payload)
    }

    fn ask_as(&self, session: u64, id: RequestId, request: Request, payload: &[u8]) -> Answer {
        let files = self.files(session);
        if is_kept(&request) {
            files.note_begun(id, 77);
        }
        let call = Call { caller: Caller::default(), request };
        let response = match files.serve(id, call, Payload::from(payload.to_vec())) {
            Served::Answered(response) => response,
            Served::Slow(call) => call.run(),
            Served::Waits(_) => return Err(Errno::EAGAIN),
        };
        files.note_answer(id, &response.answer);
        response.answer
    }

    fn lookup(&mut self, session: u64, text: &str) -> Attr {
        let parent = self.files(session).root;
        match self.ask(session, Request::Lookup { parent, name: name(text), also_open: None }, b"") {
            Ok(Reply::Entry { attr, .. }) => attr,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn open(&mut self, session: u64, text: &str, flags: i32) -> Fh {
        let node = self.lookup(session, text).node;
        let open = Request::Open { node, flags: flags as u32, content_bytes_max: 0 };
        match self.ask(session, open, b"") {
            Ok(Reply::Opened { fh, .. }) => fh,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn read(&mut self, session: u64, fh: Fh) -> Result<Vec<u8>, Errno> {
        let call = Call { caller: Caller::default(), request: Request::Read { fh, offset: 0, size: 100 } };
        let id = self.next_id();
        let response = match self.files(session).serve(id, call, Payload::empty()) {
            Served::Answered(response) => response,
            Served::Slow(call) => call.run(),
            Served::Waits(_) => panic!("a read waits for nobody"),
        };
        response.answer.map(|_| response.payload.to_vec())
    }

    /// The server is killed within a mutation: before it has an effect, or, if `effect` is given, after it and before the
    /// answer is noted. Returns the answer that the next server remembers, if it took it for carried out.
    fn killed_within(
        &mut self,
        session: u64,
        request: &Request,
        effect: Option<&dyn Fn(&World)>,
    ) -> Option<Answer> {
        let id = self.next_id();
        self.files(session).note_begun(id, 77);
        let call = Call { caller: Caller::default(), request: request.clone() };
        self.files(session).intend(id, &call).unwrap();
        if let (Request::Write { fh, at: WriteAt::End, .. }, Some(length)) =
            (request, self.length_of(request))
        {
            let size = fs::metadata(self.path("f")).unwrap().size();
            self.files(session).intend_append(id, *fh, size, length).unwrap();
        }
        self.intend_truncation(session, id, request);
        if let Some(effect) = effect {
            effect(self);
        }
        self.restart();
        let all = self.life.as_mut().unwrap().remembered.remove(&session).unwrap();
        let found: Vec<_> = all.into_iter().filter(|remembered| remembered.id == id).collect();
        found.into_iter().next().map(|remembered| {
            assert_eq!(remembered.fingerprint, 77);
            remembered.answer
        })
    }

    /// As those requests do that set a size.
    fn intend_truncation(&self, session: u64, id: RequestId, request: &Request) {
        let (size, rest) = match request {
            Request::SetAttr { set: set @ SetAttr { size: Some(size), .. }, .. } => {
                let set = SetAttr { size: None, ..*set };
                (*size, AfterTruncation::Set { caller: Caller::default(), set })
            }
            Request::Open { flags, .. } => (0, AfterTruncation::Open { flags: *flags }),
            _ => return,
        };
        let files = self.files(session);
        let attr = files.tree.export.attr_of(files.reach(files.root).unwrap(), c"f").unwrap();
        files.intend_truncation(id, &attr, size, rest).unwrap();
    }

    fn length_of(&self, request: &Request) -> Option<u64> {
        matches!(request, Request::Write { .. }).then_some(6)
    }
}

#[test]
fn nodes_open_files_and_locks_are_there_again() {
    let mut world = World::new();
    fs::create_dir(world.path("d")).unwrap();
    fs::write(world.path("d/f"), "content").unwrap();
    let session = world.begin();
    let directory = world.lookup(session, "d").node;
    let lookup = Request::Lookup { parent: directory, name: name("f"), also_open: None };
    let Ok(Reply::Entry { attr, .. }) = world.ask(session, lookup, b"") else { panic!("not found") };
    let open = Request::Open { node: attr.node, flags: libc::O_RDWR as u32, content_bytes_max: 0 };
    let Ok(Reply::Opened { fh, .. }) = world.ask(session, open.clone(), b"") else { panic!("not opened") };
    let Ok(Reply::Opened { fh: closed, .. }) = world.ask(session, open.clone(), b"") else {
        panic!("not opened")
    };
    let release = vec![nearfs_protocol::message::ReleasedFile { fh: closed, flock_owner: None }];
    world.ask(session, Request::Release { files: release }, b"").unwrap();
    let lock = Lock { start: 3, end: 9, kind: LockKind::Write, style: LockStyle::Posix, owner: 1, pid: 1 };
    world.ask(session, Request::SetLock { fh, lock, wait: false }, b"").unwrap();
    for _ in 0..3 {
        world.restart();
        assert_eq!(world.read(session, fh).unwrap(), b"content");
        assert_eq!(world.read(session, closed), Err(Errno::EBADF));
        assert_eq!(world.files(session).lock_count(), 1);
        assert_eq!(world.files(session).node_count(), 3);
        let get = Request::GetAttr { node: attr.node, fh: None };
        assert!(matches!(world.ask(session, get, b""), Ok(Reply::Attr(again)) if again.node == attr.node));
    }
    let Ok(Reply::Opened { fh: next, .. }) = world.ask(session, open, b"") else { panic!("not opened") };
    assert!(next > closed, "numbers go on");
}

#[test]
fn a_lock_cannot_be_stolen_and_goes_with_its_session() {
    let mut world = World::new();
    fs::write(world.path("f"), "").unwrap();
    let (holder, thief) = (world.begin(), world.begin());
    let lock = Lock { start: 0, end: 9, kind: LockKind::Write, style: LockStyle::Flock, owner: 1, pid: 1 };
    let fh = world.open(holder, "f", libc::O_RDWR);
    world.ask(holder, Request::SetLock { fh, lock, wait: false }, b"").unwrap();
    world.restart();
    let theirs = world.open(thief, "f", libc::O_RDWR);
    let steal = Request::SetLock { fh: theirs, lock, wait: false };
    assert_eq!(world.ask(thief, steal.clone(), b""), Err(Errno::EAGAIN));
    world.files(holder).end();
    assert!(world.ask(thief, steal, b"").is_ok());
    world.restart();
    let life = world.life.as_ref().unwrap();
    assert!(!life.sessions.contains_key(&holder), "an ended session is not restored");
    assert_eq!(world.files(thief).lock_count(), 1);
}

#[test]
fn names_that_moved_are_found_again() {
    let mut world = World::new();
    fs::create_dir(world.path("a")).unwrap();
    fs::write(world.path("a/f"), "1").unwrap();
    let (one, two) = (world.begin(), world.begin());
    let directory = world.lookup(two, "a").node;
    let lookup = Request::Lookup { parent: directory, name: name("f"), also_open: None };
    let Ok(Reply::Entry { attr, .. }) = world.ask(two, lookup, b"") else { panic!("not found") };
    let root = world.files(one).root;
    let (parent, new_parent, mode) = (root, root, RenameMode::Replace);
    let rename = Request::Rename { parent, name: name("a"), new_parent, new_name: name("b"), mode };
    world.ask(one, rename, b"").unwrap();
    world.restart();
    let get = Request::GetAttr { node: attr.node, fh: None };
    assert!(world.ask(two, get, b"").is_ok(), "another session moved it");
}

#[test]
fn what_was_given_back_is_not_known_again() {
    let mut world = World::new();
    fs::write(world.path("f"), "").unwrap();
    let session = world.begin();
    let node = world.lookup(session, "f").node;
    world.restart();
    assert_eq!(world.lookup(session, "f").node, node);
    world.ask(session, Request::Forget { nodes: vec![(node, 1)] }, b"").unwrap();
    assert_eq!(world.files(session).node_count(), 2, "more lookups were told of than since the restart");
    world.ask(session, Request::Forget { nodes: vec![(node, 1)] }, b"").unwrap();
    assert_eq!(world.files(session).node_count(), 1);
    // Some of them, and then the others.
    (0..3).for_each(|_| assert_eq!(world.lookup(session, "f").node, node));
    for left in [true, true, false] {
        world.restart();
        world.ask(session, Request::Forget { nodes: vec![(node, 1)] }, b"").unwrap();
        assert_eq!(world.files(session).node_count(), 1 + usize::from(left));
    }
    world.restart();
    assert_eq!(world.files(session).node_count(), 1);
}

#[test]
fn a_file_that_is_gone_answers_eio_until_it_is_closed() {
    let mut world = World::new();
    fs::write(world.path("f"), "").unwrap();
    let session = world.begin();
    let fh = world.open(session, "f", libc::O_RDONLY);
    let life = world.life.as_ref().unwrap();
    life.tree.export.unnamed.stay();
    fs::remove_file(world.path("f")).unwrap();
    fs::write(world.path("f"), "another").unwrap();
    world.restart();
    assert_eq!(world.read(session, fh), Err(Errno::EIO));
    let files = vec![nearfs_protocol::message::ReleasedFile { fh, flock_owner: None }];
    world.ask(session, Request::Release { files }, b"").unwrap();
    assert_eq!(world.read(session, fh), Err(Errno::EBADF));
}

#[test]
fn answers_are_remembered_and_refer_to_what_is_open() {
    let mut world = World::new();
    let session = world.begin();
    let parent = world.files(session).root;
    let id = world.next_id();
    let create = Request::Create { parent, name: name("f"), mode: 0o600, umask: 0, flags: 0o302 };
    let Ok(Reply::Created { fh, .. }) = world.ask_as(session, id, create, b"") else { panic!("not created") };
    world.restart();
    let remembered = &world.life.as_ref().unwrap().remembered[&session];
    let answer =
        remembered.iter().find(|remembered| remembered.id == id).map(|remembered| &remembered.answer);
    assert!(matches!(answer, Some(Ok(Reply::Created { fh: again, .. })) if *again == fh));
    assert!(world.read(session, fh).is_ok());
}

#[test]
fn a_file_of_which_the_client_was_never_told_is_not_open() {
    let mut world = World::new();
    fs::write(world.path("f"), "").unwrap();
    let session = world.begin();
    let node = world.lookup(session, "f").node;
    let id = world.next_id();
    world.files(session).note_begun(id, 77);
    let open = Request::Open { node, flags: 0, content_bytes_max: 0 };
    let call = Call { caller: Caller::default(), request: open };
    let Served::Answered(response) = world.files(session).serve(id, call, Payload::empty()) else {
        panic!("slow")
    };
    let Ok(Reply::Opened { fh, .. }) = response.answer else { panic!("not opened") };
    // The file is noted, and its answer is not.
    let file = world.files(session).files.get(fh).unwrap();
    let how = world.files(session).how_to_reopen(id, &file);
    world.files(session).keeper.as_ref().unwrap().record.opened(fh, how);
    drop(file);
    world.restart();
    assert_eq!(world.files(session).open_file_count(), 0);
}

#[test]
fn after_a_loss_of_power_sessions_go_on_without_answers() {
    let mut world = World::new();
    fs::write(world.path("f"), "content").unwrap();
    let session = world.begin();
    let fh = world.open(session, "f", libc::O_RDONLY);
    world.boot = BootId([2; 16]);
    world.restart();
    assert_eq!(world.read(session, fh).unwrap(), b"content");
    assert_eq!(world.life.as_ref().unwrap().remembered[&session], []);
}

#[test]
fn a_damaged_session_is_dropped_and_the_others_stay() {
    for file in ["log", "slots"] {
        let mut world = World::new();
        let (one, two) = (world.begin(), world.begin());
        world
            .ask(
                one,
                Request::Symlink { parent: world.files(one).root, name: name("l"), target: b"t".to_vec() },
                b"",
            )
            .unwrap();
        let path = world.base.path().join(format!("state/sessions/{one}/{file}"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(path, bytes).unwrap();
        world.restart();
        let sessions = &world.life.as_ref().unwrap().sessions;
        assert!(!sessions.contains_key(&one) && sessions.contains_key(&two), "{file}");
        assert!(world.begin() > two, "its number is not used again");
    }
}

/// Each kind of mutation, what the test does in its place, and how its answer begins.
#[test]
fn each_mutation_in_limbo_is_taken_for_what_it_was() {
    type Effect = fn(&World);
    type Case = (fn(Node, Fh, &Attr) -> Request, Effect, &'static str);
    let cases: [Case; 18] = [
        (
            |parent, _, _| Request::MakeDir { parent, name: name("n"), mode: 0o700, umask: 0 },
            |world| fs::create_dir(world.path("n")).unwrap(),
            "Ok(Made",
        ),
        (
            |parent, _, _| Request::Symlink { parent, name: name("n"), target: b"t".to_vec() },
            |world| std::os::unix::fs::symlink("t", world.path("n")).unwrap(),
            "Ok(Made",
        ),
        (
            |parent, _, _| Request::MakeNode { parent, name: name("n"), mode: 0o600, umask: 0, rdev: 0 },
            |world| drop(fs::File::create(world.path("n")).unwrap()),
            "Ok(Made",
        ),
        (
            |parent, _, _| Request::Create { parent, name: name("n"), mode: 0o400, umask: 0, flags: 0o302 },
            |world| drop(fs::File::create(world.path("n")).unwrap()),
            "Ok(Created",
        ),
        (
            |new_parent, _, attr| Request::Link { node: attr.node, new_parent, new_name: name("n") },
            |world| fs::hard_link(world.path("f"), world.path("n")).unwrap(),
            "Ok(Made",
        ),
        (
            |parent, _, _| Request::Unlink { parent, name: name("g") },
            |world| fs::remove_file(world.path("g")).unwrap(),
            "Ok(Removed",
        ),
        (
            // Somebody else has made another of that name by the time.
            |parent, _, _| Request::Unlink { parent, name: name("g") },
            |world| {
                fs::remove_file(world.path("g")).unwrap();
                fs::write(world.path("g"), "").unwrap();
            },
            "Ok(Removed",
        ),
        (
            |parent, _, _| Request::RemoveDir { parent, name: name("d") },
            |world| fs::remove_dir(world.path("d")).unwrap(),
            "Ok(Removed",
        ),
        (
            |parent, _, _| {
                let (new_parent, mode) = (parent, RenameMode::NoReplace);
                Request::Rename { parent, name: name("f"), new_parent, new_name: name("n"), mode }
            },
            |world| fs::rename(world.path("f"), world.path("n")).unwrap(),
            "Ok(Renamed",
        ),
        (
            |parent, _, _| {
                let (new_parent, mode) = (parent, RenameMode::Replace);
                Request::Rename { parent, name: name("f"), new_parent, new_name: name("g"), mode }
            },
            |world| fs::rename(world.path("f"), world.path("g")).unwrap(),
            "Ok(Renamed",
        ),
        (
            |parent, _, _| {
                let (new_parent, mode) = (parent, RenameMode::Exchange);
                Request::Rename { parent, name: name("f"), new_parent, new_name: name("d"), mode }
            },
            |world| {
                let (f, d) = (world.path("f"), world.path("d"));
                let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
                rustix::fs::renameat_with(cwd, f, cwd, d, flags).unwrap();
            },
            "Ok(Renamed",
        ),
        (
            |_, fh, _| Request::Write { fh, at: WriteAt::End, sync: WriteSync::None },
            |world| append(world, b"append"),
            "Ok(Written(Written { size: 6, offset: 8",
        ),
        (
            |_, fh, _| Request::Allocate { fh, mode: 8, offset: 0, length: 4 },
            |world| cut_off(world, 4),
            "Ok(Changed",
        ),
        (
            |_, _, attr| {
                let (node, mode) = (attr.node, XattrMode::Create);
                Request::SetXattr { node, name: b"user.new".to_vec(), mode }
            },
            |world| set_xattr(world, c"user.new"),
            "Ok(Done",
        ),
        (
            |_, _, attr| Request::RemoveXattr { node: attr.node, name: b"user.old".to_vec() },
            |world| rustix::fs::removexattr(world.path("f"), c"user.old").unwrap(),
            "Ok(Done",
        ),
        (
            |_, fh, attr| {
                let set = SetAttr { size: Some(3), mode: Some(0o640), ..SetAttr::default() };
                Request::SetAttr { node: attr.node, fh: Some(fh), set }
            },
            |world| cut_off(world, 3),
            "Ok(Changed",
        ),
        (
            // Somebody else has written to it by the time.
            |_, fh, attr| {
                let set = SetAttr { size: Some(3), ..SetAttr::default() };
                Request::SetAttr { node: attr.node, fh: Some(fh), set }
            },
            |world| {
                cut_off(world, 3);
                append(world, b"others");
            },
            "Ok(Changed",
        ),
        (
            |_, _, attr| {
                let flags = (libc::O_WRONLY | libc::O_TRUNC) as u32;
                Request::Open { node: attr.node, flags, content_bytes_max: 0 }
            },
            |world| {
                cut_off(world, 0);
                append(world, b"others");
            },
            "Ok(Opened",
        ),
    ];
    for (number, (request, effect, expected)) in cases.into_iter().enumerate() {
        for done in [false, true] {
            let mut world = World::new();
            fs::write(world.path("f"), "12345678").unwrap();
            fs::write(world.path("g"), "").unwrap();
            fs::create_dir(world.path("d")).unwrap();
            set_xattr(&world, c"user.old");
            let session = world.begin();
            let (fh, attr) = (world.open(session, "f", libc::O_RDWR), world.lookup(session, "f"));
            let request = request(world.files(session).root, fh, &attr);
            let answer = world.killed_within(session, &request, done.then_some(&effect));
            let told = format!("{answer:?}");
            let right = if done { told.starts_with(&format!("Some({expected}")) } else { answer.is_none() };
            assert!(right, "case {number}, done {done}: {request:?}: {told}");
            if done && let Some(Ok(Reply::Created { fh, .. })) = answer {
                assert!(world.read(session, fh).is_ok() || number == 3, "it is open");
                assert_eq!(world.files(session).files.get(fh).map(|file| file.writable), Ok(true));
            }
            // Whatever happens now is not taken for it when the server is killed again.
            effect_of_another(&world);
            world.restart();
            let again = &world.life.as_ref().unwrap().remembered[&session];
            assert_eq!(
                again.iter().any(|again| Some(&again.answer) == answer.as_ref()),
                done,
                "case {number}"
            );
        }
    }
}

fn effect_of_another(world: &World) {
    let _ = fs::create_dir(world.path("n"));
    let _ = fs::remove_file(world.path("g"));
    append(world, b"0123456789");
}

fn append(world: &World, bytes: &[u8]) {
    use std::io::Write;
    if let Ok(mut file) = fs::OpenOptions::new().append(true).open(world.path("f")) {
        file.write_all(bytes).unwrap();
    }
}

fn cut_off(world: &World, size: u64) {
    fs::OpenOptions::new().write(true).open(world.path("f")).unwrap().set_len(size).unwrap();
}

fn set_xattr(world: &World, name: &std::ffi::CStr) {
    rustix::fs::setxattr(world.path("f"), name, b"v", rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn half_an_append_is_taken_back() {
    let mut world = World::new();
    fs::write(world.path("f"), "12345678").unwrap();
    let session = world.begin();
    let fh = world.open(session, "f", libc::O_WRONLY);
    let request = Request::Write { fh, at: WriteAt::End, sync: WriteSync::None };
    assert_eq!(world.killed_within(session, &request, Some(&|world| append(world, b"app"))), None);
    assert_eq!(fs::read(world.path("f")).unwrap(), b"12345678");
}

#[test]
fn what_was_there_before_was_not_made() {
    let mut world = World::new();
    fs::create_dir(world.path("n")).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let session = world.begin();
    let parent = world.files(session).root;
    let request = Request::MakeDir { parent, name: name("n"), mode: 0o700, umask: 0 };
    assert_eq!(world.killed_within(session, &request, None), None);
    let wrong = Request::Create { parent, name: name("o"), mode: 0o700, umask: 0, flags: 0o302 };
    let make = |world: &World| fs::create_dir(world.path("o")).unwrap();
    assert_eq!(world.killed_within(session, &wrong, Some(&make)), None, "another kind");
}

#[test]
fn of_two_who_wanted_to_make_it_one_did() {
    let mut world = World::new();
    let (one, two) = (world.begin(), world.begin());
    let parent = world.files(one).root;
    let request = Request::MakeDir { parent, name: name("n"), mode: 0o700, umask: 0 };
    let call = Call { caller: Caller::default(), request };
    for session in [one, two] {
        let id = RequestId::new(0, 1000);
        world.files(session).note_begun(id, 77);
        world.files(session).intend(id, &call).unwrap();
    }
    fs::create_dir(world.path("n")).unwrap();
    world.restart();
    let remembered = &world.life.as_ref().unwrap().remembered;
    let made = |session| remembered[&session].iter().any(|answered| answered.id == RequestId::new(0, 1000));
    assert!(made(one) != made(two));
}

#[test]
fn session_numbers_are_their_stores() {
    let mut world = World::new();
    let one = world.begin();
    world.files(one).end();
    world.restart();
    assert!(world.begin() > one);
}

/// A call that slept too long for an orderly stop goes on until the process is gone.
#[test]
fn what_comes_after_a_session_was_left_has_no_effect() {
    let mut world = World::new();
    fs::write(world.path("f"), "1").unwrap();
    let session = world.begin();
    let parent = world.files(session).root;
    let fh = world.open(session, "f", libc::O_WRONLY);
    let late = [
        (Request::MakeDir { parent, name: name("d"), mode: 0o700, umask: 0 }, &b""[..]),
        (Request::Write { fh, at: WriteAt::End, sync: WriteSync::None }, b"2"),
    ];
    let ids = late.clone().map(|(request, payload)| {
        let id = world.next_id();
        world.files(session).note_begun(id, 77);
        (id, request, payload)
    });
    world.files(session).leave();
    for (id, request, payload) in ids.clone() {
        assert_eq!(world.ask_as(session, id, request, payload), Err(Errno::ECANCELED));
    }
    assert!(!world.path("d").exists());
    assert_eq!(fs::read(world.path("f")).unwrap(), b"1");
    world.restart();
    for (id, request, payload) in ids {
        assert!(!world.life.as_ref().unwrap().remembered[&session].iter().any(|known| known.id == id));
        assert!(world.ask_as(session, id, request, payload).is_ok());
    }
    assert_eq!(fs::read(world.path("f")).unwrap(), b"12");
}
