//! Any message at all, for property tests.

use nearfs_protocol::attr::*;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::*;
use nearfs_protocol::id::*;
use nearfs_protocol::message::*;
use nearfs_protocol::name::Name;
use nearfs_protocol::roster::*;
use nearfs_protocol::version::{Features, VersionRange};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::control::{Control, EMPTY_KINDS};

pub(crate) fn control() -> impl Strategy<Value = Control> {
    let caller = (word(), word(), vec(word(), 0..9));
    let call = (caller, request()).prop_map(|((uid, gid, groups), request)| {
        Control::Call(Call { caller: Caller { uid, gid, groups }, request })
    });
    prop_oneof![
        2 => hello().prop_map(Control::Hello),
        1 => welcome().prop_map(Control::Welcome),
        1 => refusal().prop_map(Control::Refused),
        12 => call,
        6 => reply().prop_map(|reply| Control::Answer(Ok(reply))),
        1 => select(Errno::ALL).prop_map(|errno| Control::Answer(Err(errno))),
        1 => select(vec![Push::Stopping, Push::EndedByOwner]).prop_map(Control::Push),
        1 => select(&EMPTY_KINDS[..]).prop_map(Control::Nothing),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    let wish = prop_oneof![
        (bytes(), vec(name(), 0..4)).prop_map(|(export, path)| SessionWish::New { export, path }),
        (long(), token()).prop_map(|(id, token)| SessionWish::Resume { session: SessionId(id), token }),
        (long(), token()).prop_map(|(id, token)| SessionWish::Join { session: SessionId(id), token }),
    ];
    (versions(), long(), wish, ".{0,20}").prop_map(|(versions, features, session, client)| Hello {
        versions,
        features: Features::from_bits_truncate(features),
        session,
        client,
    })
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let identity = prop_oneof![
        (word(), word()).prop_map(|(uid, gid)| Identity::Squash { uid, gid }),
        Just(Identity::Passthrough)
    ];
    let limits = (word(), word(), word(), any::<u16>(), word());
    let ids = (long(), any::<[u8; 16]>(), long(), token());
    (any::<u16>(), long(), ids, attr(), any::<bool>(), identity, limits).prop_map(
        |(version, features, (epoch, boot, session, token), root, read_only, identity, limits)| Welcome {
            version,
            features: Features::from_bits_truncate(features),
            epoch: BootEpoch(epoch),
            boot: BootId(boot),
            session: SessionId(session),
            token,
            root,
            read_only,
            identity,
            limits: GrantedLimits {
                requests_in_flight_max: limits.0,
                in_flight_bytes_max: limits.1,
                payload_bytes_max: limits.2,
                connections_max: limits.3,
                lease_ms: limits.4,
            },
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        versions().prop_map(Refusal::Version),
        ".{0,20}".prop_map(Refusal::NotAdmitted),
        select(vec![
            Refusal::NoExport,
            Refusal::NoSession,
            Refusal::Full,
            Refusal::Stopping,
            Refusal::Malformed,
            Refusal::EndedByOwner
        ]),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![names(), files(), attributes(), transfers(), sessions()]
}

/// Requests about names in directories.
fn names() -> impl Strategy<Value = Request> {
    let also_open = option::of(word().prop_map(|content_bytes_max| AlsoOpen { content_bytes_max }));
    let rename = select(vec![RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange]);
    prop_oneof![
        (node(), name(), also_open).prop_map(|(parent, name, also_open)| Request::Lookup {
            parent,
            name,
            also_open
        }),
        vec((node(), long()), 0..5).prop_map(|nodes| Request::Forget { nodes }),
        node().prop_map(|node| Request::ReadLink { node }),
        (node(), name(), bytes()).prop_map(|(parent, name, target)| Request::Symlink {
            parent,
            name,
            target
        }),
        (node(), node(), name()).prop_map(|(node, new_parent, new_name)| Request::Link {
            node,
            new_parent,
            new_name
        }),
        (node(), name(), modes(), long()).prop_map(|(parent, name, (mode, umask), rdev)| Request::MakeNode {
            parent,
            name,
            mode,
            umask,
            rdev
        }),
        (node(), name(), modes()).prop_map(|(parent, name, (mode, umask))| Request::MakeDir {
            parent,
            name,
            mode,
            umask
        }),
        (node(), name()).prop_map(|(parent, name)| Request::Unlink { parent, name }),
        (node(), name()).prop_map(|(parent, name)| Request::RemoveDir { parent, name }),
        (node(), name(), node(), name(), rename).prop_map(|(parent, name, new_parent, new_name, mode)| {
            Request::Rename { parent, name, new_parent, new_name, mode }
        }),
        (node(), name(), modes(), word()).prop_map(|(parent, name, (mode, umask), flags)| Request::Create {
            parent,
            name,
            mode,
            umask,
            flags
        }),
        (node(), modes(), word()).prop_map(|(parent, (mode, umask), flags)| Request::CreateUnnamed {
            parent,
            mode,
            umask,
            flags
        }),
        (node(), long(), word(), flag()).prop_map(|(node, cookie, entry_bytes_max, with_attrs)| {
            Request::ReadDir { node, cookie, entry_bytes_max, with_attrs }
        }),
        (node(), flag()).prop_map(|(node, data_only)| Request::FsyncDir { node, data_only }),
    ]
}

/// Requests about open files.
fn files() -> impl Strategy<Value = Request> {
    let at = prop_oneof![long().prop_map(WriteAt::Offset), Just(WriteAt::End)];
    let sync = select(vec![WriteSync::None, WriteSync::Data, WriteSync::All]);
    let released = (fh(), option::of(long())).prop_map(|(fh, flock_owner)| ReleasedFile { fh, flock_owner });
    let target = select(vec![SeekTarget::Data, SeekTarget::Hole]);
    prop_oneof![
        (node(), word(), word()).prop_map(|(node, flags, content_bytes_max)| Request::Open {
            node,
            flags,
            content_bytes_max
        }),
        (fh(), long(), word()).prop_map(|(fh, offset, size)| Request::Read { fh, offset, size }),
        (fh(), at, sync).prop_map(|(fh, at, sync)| Request::Write { fh, at, sync }),
        (fh(), long()).prop_map(|(fh, owner)| Request::Flush { fh, owner }),
        (fh(), flag()).prop_map(|(fh, data_only)| Request::Fsync { fh, data_only }),
        vec(released, 0..5).prop_map(|files| Request::Release { files }),
        (fh(), word(), long(), long()).prop_map(|(fh, mode, offset, length)| Request::Allocate {
            fh,
            mode,
            offset,
            length
        }),
        (fh(), long(), target).prop_map(|(fh, offset, target)| Request::Seek { fh, offset, target }),
        (fh(), long(), fh(), long(), long()).prop_map(|(from, from_offset, to, to_offset, length)| {
            Request::CopyRange { from, from_offset, to, to_offset, length }
        }),
        (fh(), lock()).prop_map(|(fh, lock)| Request::GetLock { fh, lock }),
        (fh(), lock(), flag()).prop_map(|(fh, lock, wait)| Request::SetLock { fh, lock, wait }),
        (fh(), long(), long(), word()).prop_map(|(fh, offset, length, chunk_bytes)| Request::HashRange {
            fh,
            offset,
            length,
            chunk_bytes
        }),
    ]
}

/// Requests about whole files.
fn transfers() -> impl Strategy<Value = Request> {
    let mode = select(vec![RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange]);
    let item = (node(), name(), name(), mode).prop_map(|(parent, staged, name, mode)| Publication {
        parent,
        staged,
        name,
        mode,
    });
    prop_oneof![
        (node(), name(), word()).prop_map(|(parent, name, content_bytes_max)| Request::Fetch {
            parent,
            name,
            content_bytes_max
        }),
        (node(), name(), modes(), set(), content_hash()).prop_map(
            |(parent, name, (mode, umask), set, hash)| Request::Store {
                parent,
                name,
                mode,
                umask,
                set,
                hash
            }
        ),
        vec(item, 0..5).prop_map(|items| Request::Publish { items }),
    ]
}

/// Requests about what is known of a node.
fn attributes() -> impl Strategy<Value = Request> {
    let mode = select(vec![XattrMode::Set, XattrMode::Create, XattrMode::Replace]);
    prop_oneof![
        (node(), option::of(fh())).prop_map(|(node, fh)| Request::GetAttr { node, fh }),
        (node(), option::of(fh()), set()).prop_map(|(node, fh, set)| Request::SetAttr { node, fh, set }),
        (node(), any::<u8>()).prop_map(|(node, mask)| Request::Access { node, mask }),
        node().prop_map(|node| Request::StatFs { node }),
        (node(), bytes()).prop_map(|(node, name)| Request::GetXattr { node, name }),
        (node(), bytes(), mode).prop_map(|(node, name, mode)| Request::SetXattr { node, name, mode }),
        node().prop_map(|node| Request::ListXattr { node }),
        (node(), bytes()).prop_map(|(node, name)| Request::RemoveXattr { node, name }),
    ]
}

fn set() -> impl Strategy<Value = SetAttr> {
    let set_time = || prop_oneof![Just(SetTime::Now), time().prop_map(SetTime::At)];
    (
        any::<Option<u32>>(),
        any::<Option<u32>>(),
        any::<Option<u32>>(),
        any::<Option<u64>>(),
        option::of(set_time()),
        option::of(set_time()),
    )
        .prop_map(|(mode, uid, gid, size, atime, mtime)| SetAttr { mode, uid, gid, size, atime, mtime })
}

/// Requests about sessions and their transfers.
fn sessions() -> impl Strategy<Value = Request> {
    let outcome = prop_oneof![
        Just(TransferOutcome::Done),
        select(Errno::ALL).prop_map(TransferOutcome::Failed),
        Just(TransferOutcome::GivenUp)
    ];
    let transfer = || long().prop_map(TransferId);
    prop_oneof![
        long().prop_map(|after| Request::ListSessions { after: SessionId(after) }),
        option::of(long()).prop_map(|session| Request::Kick { session: session.map(SessionId) }),
        (transfer_kind(), node(), name(), long(), option::of(fh())).prop_map(
            |(kind, parent, name, total_bytes, fh)| Request::Announce { kind, parent, name, total_bytes, fh }
        ),
        (transfer(), fh()).prop_map(|(transfer, fh)| Request::CountFile { transfer, fh }),
        (transfer(), outcome).prop_map(|(transfer, outcome)| Request::EndTransfer { transfer, outcome }),
        (".{0,40}", ".{0,200}").prop_map(|(verb, failure)| Request::Report { verb, failure }),
    ]
}

fn transfer_kind() -> impl Strategy<Value = TransferKind> {
    use TransferKind::{Delete, Download, Rename, Upload};
    select(vec![Upload, Download, Delete, Rename])
}

fn tally() -> impl Strategy<Value = Tally> {
    (long(), long(), long()).prop_map(|(bytes, files, elapsed_ms)| Tally { bytes, files, elapsed_ms })
}

fn session_report() -> impl Strategy<Value = SessionReport> {
    let transfer = (long(), transfer_kind(), bytes(), long(), tally());
    let transfer = transfer.prop_map(|(id, kind, path, total_bytes, tally)| TransferReport {
        transfer: TransferId(id),
        kind,
        path,
        total_bytes,
        tally,
    });
    let who = (long(), ".{0,20}", ".{0,20}", option::of(word()));
    let flags = (flag(), flag(), flag());
    let counts = (long(), long(), long(), long(), long(), long(), long());
    (who, flags, counts, vec(".{0,9}", 0..4), vec(transfer, 0..3)).prop_map(
        |((id, client, address, uid), (own, shell, connected), counts, recent, transfers)| SessionReport {
            id: SessionId(id),
            own,
            client,
            address,
            uid,
            shell,
            connected,
            age_ms: counts.0,
            idle_ms: counts.1,
            open_files: counts.2,
            locks: counts.3,
            read_bytes: counts.4,
            written_bytes: counts.5,
            recent,
            transfers,
            transfer_count: counts.6,
        },
    )
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![11 => file_reply(), 5 => session_reply()]
}

fn session_reply() -> impl Strategy<Value = Reply> {
    let busy = (".{0,20}", transfer_kind(), long(), tally())
        .prop_map(|(by, kind, total_bytes, tally)| Busy { by, kind, total_bytes, tally });
    prop_oneof![
        (vec(session_report(), 0..3), flag()).prop_map(|(sessions, end)| Reply::Sessions { sessions, end }),
        long().prop_map(Reply::Kicked),
        long().prop_map(|id| Reply::Announced(TransferId(id))),
        busy.prop_map(Reply::Busy),
        tally().prop_map(Reply::Transferred),
    ]
}

fn file_reply() -> impl Strategy<Value = Reply> {
    let entry = (name(), long(), option::of(attr()), long(), option::of(file_kind()))
        .prop_map(|(name, cookie, attr, ino, kind)| DirEntry { name, cookie, attr, ino, kind });
    let written = (long(), long(), long(), attr()).prop_map(|(size, offset, before, attr)| Written {
        size,
        offset,
        before: Change(before),
        attr,
    });
    let statfs =
        (word(), word(), long(), long(), long(), long(), long(), word()).prop_map(|figures| StatFs {
            block_bytes: figures.0,
            io_bytes: figures.1,
            blocks: figures.2,
            blocks_free: figures.3,
            blocks_available: figures.4,
            files: figures.5,
            files_free: figures.6,
            name_bytes_max: figures.7,
        });
    prop_oneof![
        Just(Reply::Done),
        (attr(), option::of(fh()), flag()).prop_map(|(attr, fh, whole)| Reply::Entry { attr, fh, whole }),
        attr().prop_map(Reply::Attr),
        (long(), attr()).prop_map(|(before, attr)| Reply::Changed { before: Change(before), attr }),
        (fh(), attr(), flag(), flag()).prop_map(|(fh, attr, created, whole)| Reply::Opened {
            fh,
            attr,
            created,
            whole
        }),
        long().prop_map(|change| Reply::Read { change: Change(change) }),
        written.prop_map(Reply::Written),
        (vec(entry, 0..6), flag(), flag(), long()).prop_map(|(entries, end, exact, change)| Reply::Listing {
            entries,
            end,
            exact,
            change: Change(change)
        }),
        statfs.prop_map(Reply::StatFs),
        long().prop_map(Reply::Offset),
        option::of(lock()).prop_map(Reply::Lock),
        long().prop_map(|change| Reply::Hashed { change: Change(change) }),
        (attr(), flag(), content_hash()).prop_map(|(attr, whole, hash)| Reply::Fetched { attr, whole, hash }),
        vec(option::of(select(Errno::ALL)), 0..6).prop_map(|refusals| Reply::Published { refusals }),
        (attr(), flag(), dir_change()).prop_map(|(attr, empty, parent)| Reply::Made { attr, empty, parent }),
        (fh(), attr(), flag(), dir_change()).prop_map(|(fh, attr, created, parent)| Reply::Created {
            fh,
            attr,
            created,
            parent
        }),
        dir_change().prop_map(|parent| Reply::Removed { parent }),
        (option::of(attr()), dir_change(), option::of(dir_change()))
            .prop_map(|(moved, from, to)| Reply::Renamed { moved, from, to }),
    ]
}

fn dir_change() -> impl Strategy<Value = Box<DirChange>> {
    (long(), attr()).prop_map(|(before, attr)| Box::new(DirChange { before: Change(before), attr }))
}

fn attr() -> impl Strategy<Value = Attr> {
    let owner = (word(), word(), word(), word(), long());
    let sizes = (long(), long(), word());
    let times = (time(), time(), time(), option::of(time()));
    (node(), long(), file_kind(), owner, sizes, times).prop_map(
        |(node, change, kind, (mode, nlink, uid, gid, rdev), (size, blocks, blksize), times)| Attr {
            node,
            change: Change(change),
            kind,
            mode,
            nlink,
            uid,
            gid,
            rdev,
            size,
            blocks,
            blksize,
            atime: times.0,
            mtime: times.1,
            ctime: times.2,
            btime: times.3,
        },
    )
}

fn lock() -> impl Strategy<Value = Lock> {
    let kind = select(vec![LockKind::Read, LockKind::Write, LockKind::Unlock]);
    let style = select(vec![LockStyle::Posix, LockStyle::Flock]);
    (long(), long(), kind, style, long(), word()).prop_map(|(start, end, kind, style, owner, pid)| Lock {
        start,
        end,
        kind,
        style,
        owner,
        pid,
    })
}

fn file_kind() -> impl Strategy<Value = FileKind> {
    select(vec![
        FileKind::File,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::Fifo,
        FileKind::Socket,
        FileKind::CharDevice,
        FileKind::BlockDevice,
    ])
}

fn time() -> impl Strategy<Value = Time> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Time { secs, nanos })
}

fn node() -> impl Strategy<Value = Node> {
    (long(), long()).prop_map(|(id, generation)| Node { id: NodeId(id), generation: Generation(generation) })
}

fn fh() -> impl Strategy<Value = Fh> {
    long().prop_map(Fh)
}

fn content_hash() -> impl Strategy<Value = ContentHash> {
    any::<[u8; 32]>().prop_map(ContentHash)
}

fn token() -> impl Strategy<Value = SessionToken> {
    any::<[u8; 16]>().prop_map(SessionToken)
}

fn versions() -> impl Strategy<Value = VersionRange> {
    (any::<u16>(), any::<u16>()).prop_map(|(oldest, newest)| VersionRange { oldest, newest })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn name() -> impl Strategy<Value = Name> {
    vec(any::<u8>(), 1..40).prop_filter_map("not a name", |bytes| Name::new(&bytes).ok())
}

fn long() -> impl Strategy<Value = u64> {
    any::<u64>()
}

fn modes() -> impl Strategy<Value = (u32, u32)> {
    (word(), word())
}

fn word() -> impl Strategy<Value = u32> {
    any::<u32>()
}

fn flag() -> impl Strategy<Value = bool> {
    any::<bool>()
}
