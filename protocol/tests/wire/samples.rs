//! One frame of every kind and at least one message of every variant.

use nearfs_protocol::attr::*;
use nearfs_protocol::codec::FrameKind;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::*;
use nearfs_protocol::id::*;
use nearfs_protocol::message::*;
use nearfs_protocol::name::Name;
use nearfs_protocol::roster::*;
use nearfs_protocol::version::{Features, VersionRange};

use crate::control::{Control, EMPTY_KINDS};

const HASH: ContentHash = ContentHash(*b"0123456789abcdef0123456789abcdef");

pub(crate) struct Sample {
    pub(crate) id: RequestId,
    pub(crate) control: Control,
    pub(crate) payload_bytes: usize,
}

pub(crate) fn samples() -> Vec<Sample> {
    let mut controls = greetings();
    let call = |request| {
        let caller = Caller { uid: 1000, gid: 100, groups: vec![4, 24] };
        Control::Call(Call { caller, request })
    };
    controls.extend(requests().into_iter().map(call));
    controls.extend(replies().into_iter().map(|reply| Control::Answer(Ok(reply))));
    controls.push(Control::Answer(Err(Errno::ENOENT)));
    controls.extend([Push::Stopping, Push::EndedByOwner].map(Control::Push));
    controls.extend(EMPTY_KINDS.map(Control::Nothing));
    controls.into_iter().map(sample).collect()
}

fn sample(control: Control) -> Sample {
    let payload_bytes = match &control {
        Control::Call(Call { request: Request::Write { .. }, .. }) => 4096,
        Control::Call(Call { request: Request::SetXattr { .. }, .. }) => 5,
        Control::Call(Call { request: Request::Store { .. }, .. }) => 4096,
        Control::Answer(Ok(Reply::Hashed { .. })) => 256,
        Control::Answer(Ok(Reply::Fetched { .. })) => 4096,
        Control::Answer(Ok(Reply::Read { .. })) => 1 << 20,
        _ => 0,
    };
    let id = match control.kind() {
        FrameKind::Hello | FrameKind::Welcome | FrameKind::Refused | FrameKind::Bye => RequestId(0),
        FrameKind::Push | FrameKind::Ack | FrameKind::Ping | FrameKind::Pong => RequestId(7),
        FrameKind::Call | FrameKind::Answer | FrameKind::Cancel => RequestId::new(3, 0x0102),
    };
    Sample { id, control, payload_bytes }
}

fn greetings() -> Vec<Control> {
    let (session, token) = (SessionId(0x5e55), SessionToken(*b"0123456789abcdef"));
    let wishes = [
        SessionWish::New { export: b"home".to_vec(), path: vec![name("a"), name("b")] },
        SessionWish::Resume { session, token },
        SessionWish::Join { session, token },
    ];
    let refusals = [
        Refusal::Version(VersionRange { oldest: 2, newest: 4 }),
        Refusal::NoExport,
        Refusal::NotAdmitted("no".into()),
        Refusal::NoSession,
        Refusal::Full,
        Refusal::Stopping,
        Refusal::Malformed,
        Refusal::EndedByOwner,
    ];
    let identities = [Identity::Squash { uid: 1000, gid: 100 }, Identity::Passthrough];
    let versions = VersionRange { oldest: 1, newest: 1 };
    let hello = |session| Hello { versions, features: Features::RESUME, session, client: "laptop".into() };
    let welcome = |identity| Welcome {
        version: 1,
        features: Features::RESUME | Features::LOOKUP_OPEN,
        epoch: BootEpoch(9),
        boot: BootId(*b"fedcba9876543210"),
        session,
        token,
        root: attr(FileKind::Directory),
        read_only: true,
        identity,
        limits: GrantedLimits {
            requests_in_flight_max: 512,
            in_flight_bytes_max: 32 << 20,
            payload_bytes_max: 1 << 20,
            connections_max: 16,
            lease_ms: 10_000,
        },
    };
    let hellos = wishes.map(|wish| Control::Hello(hello(wish)));
    let welcomes = identities.map(|identity| Control::Welcome(welcome(identity)));
    hellos.into_iter().chain(welcomes).chain(refusals.map(Control::Refused)).collect()
}

fn requests() -> Vec<Request> {
    let parent = node(1);
    let (node, fh) = (node(2), Fh(0x0f));
    let also_open = Some(AlsoOpen { content_bytes_max: 65_536 });
    let lock = |kind, style| Lock { start: 10, end: u64::MAX, kind, style, owner: 5, pid: 77 };
    let set = SetAttr {
        mode: Some(0o640),
        uid: None,
        gid: Some(100),
        size: None,
        atime: Some(SetTime::Now),
        mtime: Some(SetTime::At(Time { secs: -1, nanos: 999_999_999 })),
    };
    let rename =
        |mode| Request::Rename { parent, name: name("a"), new_parent: parent, new_name: name("b"), mode };
    let set_xattr = |mode| Request::SetXattr { node, name: b"user.a".to_vec(), mode };
    let (staged, mode) = (name("s"), RenameMode::NoReplace);
    let publication = Publication { parent, staged, name: name("a"), mode };
    let write = |at, sync| Request::Write { fh, at, sync };
    let (transfer, total_bytes) = (TransferId(0x7a), 5_000_000_000);
    let announce = |kind, fh| Request::Announce { kind, parent, name: name("a"), total_bytes, fh };
    let end = |outcome| Request::EndTransfer { transfer, outcome };
    vec![
        Request::Lookup { parent, name: name("a"), also_open: None },
        Request::Lookup { parent, name: name("a"), also_open },
        Request::Forget { nodes: vec![(node, 3)] },
        Request::GetAttr { node, fh: Some(fh) },
        Request::SetAttr { node, fh: None, set },
        Request::Access { node, mask: 5 },
        Request::ReadLink { node },
        Request::Symlink { parent, name: name("l"), target: b"../\xff".to_vec() },
        Request::Link { node, new_parent: parent, new_name: name("b") },
        Request::MakeNode { parent, name: name("p"), mode: 0o010_644, umask: 0o022, rdev: 0 },
        Request::MakeDir { parent, name: name("d"), mode: 0o777, umask: 0o022 },
        Request::Unlink { parent, name: name("a") },
        Request::RemoveDir { parent, name: name("d") },
        rename(RenameMode::Replace),
        rename(RenameMode::NoReplace),
        rename(RenameMode::Exchange),
        Request::Open { node, flags: 0o2, content_bytes_max: 0 },
        Request::Create { parent, name: name("c"), mode: 0o666, umask: 0o022, flags: 0o1 },
        Request::CreateUnnamed { parent, mode: 0o600, umask: 0, flags: 0o2 },
        Request::Read { fh, offset: 1 << 40, size: 131_072 },
        write(WriteAt::Offset(4096), WriteSync::None),
        write(WriteAt::End, WriteSync::Data),
        write(WriteAt::End, WriteSync::All),
        Request::Flush { fh, owner: 5 },
        Request::Fsync { fh, data_only: true },
        Request::Release { files: vec![ReleasedFile { fh, flock_owner: Some(5) }] },
        Request::ReadDir { node, cookie: 42, entry_bytes_max: 32_768, with_attrs: true },
        Request::FsyncDir { node, data_only: false },
        Request::StatFs { node },
        Request::GetXattr { node, name: b"user.a".to_vec() },
        set_xattr(XattrMode::Set),
        set_xattr(XattrMode::Create),
        set_xattr(XattrMode::Replace),
        Request::ListXattr { node },
        Request::RemoveXattr { node, name: b"user.a".to_vec() },
        Request::Allocate { fh, mode: 3, offset: 0, length: 4096 },
        Request::Seek { fh, offset: 0, target: SeekTarget::Data },
        Request::Seek { fh, offset: 0, target: SeekTarget::Hole },
        Request::CopyRange { from: fh, from_offset: 1, to: Fh(0x10), to_offset: 2, length: 3 },
        Request::GetLock { fh, lock: lock(LockKind::Read, LockStyle::Posix) },
        Request::SetLock { fh, lock: lock(LockKind::Write, LockStyle::Flock), wait: true },
        Request::SetLock { fh, lock: lock(LockKind::Unlock, LockStyle::Posix), wait: false },
        Request::HashRange { fh, offset: 1 << 20, length: 8 << 20, chunk_bytes: 1 << 20 },
        Request::Fetch { parent, name: name("a"), content_bytes_max: 65_536 },
        Request::Store { parent, name: name("s"), mode: 0o666, umask: 0o022, set, hash: HASH },
        Request::Publish { items: vec![publication] },
        Request::ListSessions { after: SessionId(0x5e55) },
        Request::Kick { session: Some(SessionId(0x5e55)) },
        Request::Kick { session: None },
        announce(TransferKind::Upload, Some(fh)),
        announce(TransferKind::Download, None),
        announce(TransferKind::Delete, None),
        announce(TransferKind::Rename, None),
        Request::CountFile { transfer, fh },
        end(TransferOutcome::Done),
        end(TransferOutcome::Failed(Errno::ENOSPC)),
        end(TransferOutcome::GivenUp),
        Request::Report { verb: "ls".into(), failure: "/x: no such file or directory".into() },
    ]
}

fn replies() -> Vec<Reply> {
    let file = attr(FileKind::File);
    let entry = |entry: &str, attr: Option<Attr>| DirEntry {
        name: name(entry),
        cookie: 43,
        attr,
        ino: 2,
        kind: attr.map(|attr| attr.kind),
    };
    let kinds =
        [FileKind::Symlink, FileKind::Fifo, FileKind::Socket, FileKind::CharDevice, FileKind::BlockDevice];
    let entries = vec![entry("a", Some(file)), entry("b", None)];
    let statfs = StatFs {
        block_bytes: 4096,
        io_bytes: 131_072,
        blocks: 1000,
        blocks_free: 500,
        blocks_available: 400,
        files: 100,
        files_free: 50,
        name_bytes_max: 255,
    };
    let lock = Lock { start: 0, end: 9, kind: LockKind::Write, style: LockStyle::Posix, owner: 6, pid: 78 };
    let parent = || Box::new(DirChange { before: Change(11), attr: attr(FileKind::Directory) });
    let mut replies = vec![
        Reply::Done,
        Reply::Entry { attr: file, fh: Some(Fh(0x0f)), whole: true },
        Reply::Attr(file),
        Reply::Changed { before: Change(12), attr: file },
        Reply::Opened { fh: Fh(0x0f), attr: file, created: true, whole: false },
        Reply::Read { change: Change(12) },
        Reply::Written(Written { size: 4096, offset: 8192, before: Change(11), attr: file }),
        Reply::Listing { entries, end: true, exact: true, change: Change(12) },
        Reply::StatFs(statfs),
        Reply::Offset(1 << 33),
        Reply::Lock(None),
        Reply::Lock(Some(lock)),
        Reply::Hashed { change: Change(12) },
        Reply::Fetched { attr: file, whole: true, hash: HASH },
        Reply::Published { refusals: vec![None, Some(Errno::EEXIST)] },
        Reply::Made { attr: file, empty: true, parent: parent() },
        Reply::Created { fh: Fh(0x0f), attr: file, created: true, parent: parent() },
        Reply::Removed { parent: parent() },
        Reply::Renamed { moved: Some(file), from: parent(), to: Some(parent()) },
        Reply::Renamed { moved: None, from: parent(), to: None },
        Reply::Sessions { sessions: vec![session_report()], end: true },
        Reply::Kicked(3),
        Reply::Announced(TransferId(0x7a)),
        Reply::Busy(Busy {
            by: "laptop (::1)".into(),
            kind: TransferKind::Upload,
            total_bytes: 5,
            tally: TALLY,
        }),
        Reply::Transferred(TALLY),
    ];
    replies.extend(kinds.map(|kind| Reply::Attr(attr(kind))));
    replies
}

const TALLY: Tally = Tally { bytes: 2, files: 1, elapsed_ms: 250 };

fn session_report() -> SessionReport {
    let transfer = TransferReport {
        transfer: TransferId(0x7a),
        kind: TransferKind::Upload,
        path: b"a/\xff".to_vec(),
        total_bytes: 5,
        tally: TALLY,
    };
    SessionReport {
        id: SessionId(0x5e55),
        own: true,
        client: "laptop".into(),
        address: "127.0.0.1:53210".into(),
        uid: Some(1000),
        shell: true,
        connected: true,
        age_ms: 90_000,
        idle_ms: 20,
        open_files: 3,
        locks: 1,
        read_bytes: 1 << 33,
        written_bytes: 2,
        recent: vec!["write".into(), "lookup".into()],
        transfers: vec![transfer],
        transfer_count: 1,
    }
}

fn node(id: u64) -> Node {
    Node { id: NodeId(id), generation: Generation(0x6e) }
}

fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).expect("a name")
}

fn attr(kind: FileKind) -> Attr {
    let time = |secs| Time { secs, nanos: 500_000_000 };
    Attr {
        node: node(2),
        change: Change(12),
        kind,
        mode: 0o644,
        nlink: 1,
        uid: 1000,
        gid: 100,
        rdev: 0x0801,
        size: 5_000_000_000,
        blocks: 9_765_632,
        blksize: 4096,
        atime: time(1_700_000_000),
        mtime: time(-1),
        ctime: time(1_700_000_002),
        btime: if kind == FileKind::File { Some(time(1_600_000_000)) } else { None },
    }
}
