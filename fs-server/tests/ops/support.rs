//! A session on a temporary directory, and short words for what is asked of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nearfs_fs_server::descriptor::Descriptors;
use nearfs_fs_server::dispatch::{Response, Served};
use nearfs_fs_server::session_files::SessionFiles;
use nearfs_fs_server::tree::Tree;
use nearfs_protocol::attr::{Attr, DirEntry, SetAttr};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Identity;
use nearfs_protocol::id::{Fh, Node, RequestId, SessionId};
use nearfs_protocol::message::{Call, Caller, ReleasedFile, Reply, Request, WriteAt, WriteSync, Written};
use nearfs_protocol::name::Name;
use nearfs_transport::pool::{Payload, Pool};
use tempfile::TempDir;

/// A served directory.
pub(crate) struct Export {
    pub(crate) dir: TempDir,
    pub(crate) tree: Arc<Tree>,
}

/// One session on it, asking as one caller.
pub(crate) struct Client {
    pub(crate) files: Arc<SessionFiles>,
    pub(crate) caller: Caller,
}

static LAST_ID: AtomicU64 = AtomicU64::new(0);

pub(crate) fn own() -> Identity {
    Identity::Squash { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn user(uid: u32) -> Caller {
    Caller { uid, gid: uid, groups: vec![uid] }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(crate) fn next_id() -> RequestId {
    RequestId(LAST_ID.fetch_add(1, Ordering::Relaxed) + 1)
}

impl Export {
    pub(crate) fn new(identity: Identity) -> Export {
        Export::with(identity, false, &Descriptors::new(1000))
    }

    pub(crate) fn with(identity: Identity, read_only: bool, descriptors: &Descriptors) -> Export {
        let dir = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(dir.path(), mode).unwrap();
        let tree = Tree::open(dir.path(), identity, read_only, descriptors).unwrap();
        Export { dir, tree: Arc::new(tree) }
    }

    pub(crate) fn client(&self) -> Client {
        self.client_at(&[])
    }

    pub(crate) fn client_at(&self, path: &[Name]) -> Client {
        let files =
            SessionFiles::begin(&self.tree, SessionId(next_id().0), path, &Pool::new(1 << 20)).unwrap();
        Client { files, caller: Caller::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A client of its own directory.
pub(crate) fn client() -> (Export, Client) {
    let served = Export::new(own());
    let client = served.client();
    (served, client)
}

impl Client {
    pub(crate) fn acting_as(&self, caller: Caller) -> Client {
        Client { files: self.files.clone(), caller }
    }

    pub(crate) fn serve(&self, id: RequestId, request: Request, payload: Vec<u8>) -> Served {
        let call = Call { caller: self.caller.clone(), request };
        self.files.serve(id, call, Payload::from(payload))
    }

    /// Asks and waits, wherever it is carried out; not for locks.
    pub(crate) fn ask_with(&self, request: Request, payload: Vec<u8>) -> Result<(Reply, Vec<u8>), Errno> {
        let Response { answer, payload } = match self.serve(next_id(), request, payload) {
            Served::Answered(response) => response,
            Served::Slow(call) => call.run(),
            Served::Waits(_) => panic!("waits for a lock"),
        };
        answer.map(|reply| (reply, payload.to_vec()))
    }

    pub(crate) fn ask(&self, request: Request) -> Result<Reply, Errno> {
        self.ask_with(request, Vec::new()).map(|(reply, _)| reply)
    }

    pub(crate) fn root(&self) -> Node {
        self.files.root().unwrap().node
    }

    pub(crate) fn lookup_in(&self, parent: Node, text: &str) -> Result<Attr, Errno> {
        entry(self.ask(Request::Lookup { parent, name: name(text), also_open: None }))
    }

    pub(crate) fn lookup(&self, text: &str) -> Result<Attr, Errno> {
        self.lookup_in(self.root(), text)
    }

    pub(crate) fn attr(&self, node: Node) -> Result<Attr, Errno> {
        match self.ask(Request::GetAttr { node, fh: None })? {
            Reply::Attr(attr) => Ok(attr),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn set(&self, node: Node, set: SetAttr) -> Result<Attr, Errno> {
        match self.ask(Request::SetAttr { node, fh: None, set })? {
            Reply::Changed { attr, before } => {
                assert!(!before.same_as(attr.change), "a change shows");
                Ok(attr)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn create(&self, text: &str, mode: u32, umask: u32) -> Result<(Fh, Attr), Errno> {
        self.create_in(self.root(), text, (mode, umask), libc::O_RDWR)
    }

    pub(crate) fn create_in(
        &self,
        parent: Node,
        text: &str,
        (mode, umask): (u32, u32),
        flags: i32,
    ) -> Result<(Fh, Attr), Errno> {
        let flags = flags as u32;
        opened(self.ask(Request::Create { parent, name: name(text), mode, umask, flags }))
    }

    pub(crate) fn open(&self, node: Node, flags: i32) -> Result<(Fh, Attr), Errno> {
        opened(self.ask(Request::Open { node, flags: flags as u32, content_bytes_max: 0 }))
    }

    pub(crate) fn release(&self, fh: Fh) {
        let files = vec![ReleasedFile { fh, flock_owner: None }];
        assert_eq!(self.ask(Request::Release { files }), Ok(Reply::Done));
    }

    pub(crate) fn read(&self, fh: Fh, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        self.ask_with(Request::Read { fh, offset, size }, Vec::new()).map(|(_, bytes)| bytes)
    }

    pub(crate) fn write(&self, fh: Fh, at: WriteAt, bytes: &[u8]) -> Result<Written, Errno> {
        match self.ask_with(Request::Write { fh, at, sync: WriteSync::None }, bytes.to_vec())?.0 {
            Reply::Written(written) => Ok(written),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn mkdir(&self, parent: Node, text: &str) -> Result<Attr, Errno> {
        entry(self.ask(Request::MakeDir { parent, name: name(text), mode: 0o755, umask: 0o022 }))
    }

    pub(crate) fn unlink(&self, text: &str) -> Result<Reply, Errno> {
        self.ask(Request::Unlink { parent: self.root(), name: name(text) })
    }

    pub(crate) fn list(
        &self,
        node: Node,
        cookie: u64,
        bytes: u32,
        with_attrs: bool,
    ) -> Result<(Vec<DirEntry>, bool), Errno> {
        match self.ask(Request::ReadDir { node, cookie, entry_bytes_max: bytes, with_attrs })? {
            Reply::Listing { entries, end, .. } => Ok((entries, end)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn list_all(&self, node: Node, bytes: u32, with_attrs: bool) -> Vec<DirEntry> {
        let mut all: Vec<DirEntry> = Vec::new();
        loop {
            let cookie = all.last().map_or(0, |entry| entry.cookie);
            let (entries, end) = self.list(node, cookie, bytes, with_attrs).unwrap();
            assert!(end || !entries.is_empty(), "no progress");
            all.extend(entries);
            if end {
                return all;
            }
        }
    }
}

pub(crate) fn entry(reply: Result<Reply, Errno>) -> Result<Attr, Errno> {
    match reply? {
        Reply::Entry { attr, .. } | Reply::Made { attr, .. } => Ok(attr),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn opened(reply: Result<Reply, Errno>) -> Result<(Fh, Attr), Errno> {
    match reply? {
        Reply::Opened { fh, attr, .. } | Reply::Created { fh, attr, .. } => Ok((fh, attr)),
        other => panic!("{other:?}"),
    }
}
