//! What is asked and answered once a session stands: [`Call`], [`Answer`] and [`Push`].
//!
//! Names follow the system calls and the FUSE operations behind them. Raw bytes (file content, extended
//! attribute values, listings of their names) travel beside these messages as the frame's payload.

use serde::{Deserialize, Serialize};

use crate::attr::{Attr, DirEntry, Lock, SetAttr, StatFs};
use crate::errno::Errno;
use crate::id::{Change, ContentHash, Fh, Node, SessionId, TransferId};
use crate::name::Name;
use crate::roster::{Busy, SessionReport, Tally, TransferKind, TransferOutcome};

/// The control part of a request frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// On whose behalf. Ignored by a server that squashes.
    pub caller: Caller,
    /// What to do.
    pub request: Request,
}

/// On whose behalf the client asks (credentials(7)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// File system user id.
    pub uid: u32,
    /// File system group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What a lookup shall do beyond finding the name, to spare a round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlsoOpen {
    /// Open a regular file for reading, and send its whole content if it has at most this many bytes.
    pub content_bytes_max: u32,
}

/// A request: one variant an operation. Requests marked *mutation* carry out an effect once, however
/// often they are sent with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "fields are named like the arguments of the system calls")]
pub enum Request {
    /// Finds a name in a directory. Answered by `Entry`, with the content as payload if it was opened.
    Lookup { parent: Node, name: Name, also_open: Option<AlsoOpen> },
    /// Gives back lookup counts: each answer with an `Attr` of a node's own, and each listed entry with
    /// attributes, counts one. Mutation. Answered by `Done`.
    Forget { nodes: Vec<(Node, u64)> },
    /// Reads attributes, through an open file where one is given. Answered by `Attr`.
    GetAttr { node: Node, fh: Option<Fh> },
    /// Changes attributes. Mutation. Answered by `Changed`.
    SetAttr { node: Node, fh: Option<Fh>, set: SetAttr },
    /// Asks whether the caller may read (4), write (2) or execute (1) (access(2)). Answered by `Done`.
    Access { node: Node, mask: u8 },
    /// Reads a symlink's target. Answered by `Done` with the target as payload.
    ReadLink { node: Node },
    /// Makes a symlink. Mutation. Answered by `Made`.
    Symlink {
        parent: Node,
        name: Name,
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
    },
    /// Gives a node another name. Mutation. Answered by `Made`.
    Link { node: Node, new_parent: Node, new_name: Name },
    /// Makes a regular file, fifo, socket or device (mknod(2)): `mode` with type bits. Mutation. Answered by `Made`.
    MakeNode { parent: Node, name: Name, mode: u32, umask: u32, rdev: u64 },
    /// Makes a directory. Mutation. Answered by `Made`.
    MakeDir { parent: Node, name: Name, mode: u32, umask: u32 },
    /// Removes a name that is no directory. Mutation. Answered by `Removed`.
    Unlink { parent: Node, name: Name },
    /// Removes an empty directory. Mutation. Answered by `Removed`.
    RemoveDir { parent: Node, name: Name },
    /// Renames (renameat2(2)). Mutation. Answered by `Renamed`.
    Rename { parent: Node, name: Name, new_parent: Node, new_name: Name, mode: RenameMode },
    /// Opens a regular file. `flags` are Linux's `O_*` less those the client's kernel carries out itself
    /// (`O_CREAT`, `O_EXCL`, `O_NOFOLLOW`, `O_CLOEXEC`). Mutation. Answered by `Opened`, with the whole content as payload
    /// if it has at most `content_bytes_max` bytes and is opened for reading.
    Open { node: Node, flags: u32, content_bytes_max: u32 },
    /// Creates if missing and opens. Mutation. Answered by `Created`.
    Create { parent: Node, name: Name, mode: u32, umask: u32, flags: u32 },
    /// Creates a file without a name and opens it (`O_TMPFILE`). Mutation. Answered by `Opened`.
    CreateUnnamed { parent: Node, mode: u32, umask: u32, flags: u32 },
    /// Reads from an open file. Answered by `Read` with the bytes as payload: fewer than asked for only at the end.
    Read { fh: Fh, offset: u64, size: u32 },
    /// Writes the payload into an open file, all of it or as far as an error allowed. Mutation. Answered by `Written`.
    Write { fh: Fh, at: WriteAt, sync: WriteSync },
    /// A descriptor was closed: gives back the POSIX locks of this owner (close(2)). Mutation. Answered by `Done`.
    Flush { fh: Fh, owner: u64 },
    /// Brings an open file's content to stable storage (fsync(2), fdatasync(2)). Answered by `Done`.
    Fsync { fh: Fh, data_only: bool },
    /// Closes open files; unknown ones are passed over. Mutation. Answered by `Done`.
    Release { files: Vec<ReleasedFile> },
    /// Lists a directory from a cookie on (0 for the start). Answered by `Listing`.
    ReadDir { node: Node, cookie: u64, entry_bytes_max: u32, with_attrs: bool },
    /// Brings a directory's names to stable storage. Answered by `Done`.
    FsyncDir { node: Node, data_only: bool },
    /// Reads the file system's figures. Answered by `StatFs`.
    StatFs { node: Node },
    /// Reads an extended attribute. Answered by `Done` with the value as payload.
    GetXattr {
        node: Node,
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
    },
    /// Sets an extended attribute to the payload. Mutation. Answered by `Done`.
    SetXattr {
        node: Node,
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
        mode: XattrMode,
    },
    /// Lists the names of extended attributes. Answered by `Done` with the names, NUL after each, as payload.
    ListXattr { node: Node },
    /// Removes an extended attribute. Mutation. Answered by `Done`.
    RemoveXattr {
        node: Node,
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
    },
    /// Allocates or frees space (fallocate(2)), `mode` being Linux's bits. Mutation. Answered by `Changed`.
    Allocate { fh: Fh, mode: u32, offset: u64, length: u64 },
    /// Finds the next data or hole (lseek(2)). Answered by `Offset`.
    Seek { fh: Fh, offset: u64, target: SeekTarget },
    /// Copies between two open files on the server (copy_file_range(2)). Mutation. Answered by `Written`.
    CopyRange { from: Fh, from_offset: u64, to: Fh, to_offset: u64, length: u64 },
    /// Asks which lock would be in the way. Answered by `Lock`.
    GetLock { fh: Fh, lock: Lock },
    /// Takes or gives back a lock; with `wait` the answer may take as long as the others hold theirs. Mutation. Answered
    /// by `Attr`, read when the lock was taken, which tell whether its last holder changed the file; by `Done` when a lock
    /// was given back or waited for.
    SetLock { fh: Fh, lock: Lock, wait: bool },
    /// Hashes a range of an open file where it is, a hash for each chunk; the last chunk ends with the range or the
    /// file. Answered by `Hashed` with the hashes as payload.
    HashRange { fh: Fh, offset: u64, length: u64, chunk_bytes: u32 },
    /// Reads a whole small regular file by its name. Answered by `Fetched` with the content as payload.
    Fetch { parent: Node, name: Name, content_bytes_max: u32 },
    /// Makes a regular file of the payload, which must have this hash, under a name that must not exist, and sets its
    /// attributes. Nothing is synced: that is for `Publish`. Mutation. Answered by `Attr`.
    Store { parent: Node, name: Name, mode: u32, umask: u32, set: SetAttr, hash: ContentHash },
    /// Brings staged files to stable storage, and after that gives them their names, which are then synced too.
    /// Mutation. Answered by `Published`.
    Publish { items: Vec<Publication> },
    /// Lists the server's sessions in the order of their ids, those after a given one (0 for the start). Answered by
    /// `Sessions`.
    ListSessions { after: SessionId },
    /// Ends a session of another client, or those of all others: what it has is freed at once, and it is told why. For
    /// the server's own user and root; `EPERM` for others. Mutation. Answered by `Kicked`.
    Kick { session: Option<SessionId> },
    /// Says that a name is about to be uploaded, downloaded, deleted or renamed: others see it, with what the server
    /// counts of it, and another shell that announces something for a name that is uploaded, deleted or renamed is
    /// told so. It ends with `EndTransfer`, with the release of the last open file that was counted for it, or with the
    /// session. `total_bytes` is 0 where that is not known. What passes through `fh` is counted; without any open file
    /// whatever the session moves in that direction through files that are counted for nothing else. Mutation. Answered
    /// by `Announced`, or by `Busy`.
    Announce { kind: TransferKind, parent: Node, name: Name, total_bytes: u64, fh: Option<Fh> },
    /// Counts what passes through an open file for a transfer of the session. Mutation. Answered by `Done`.
    CountFile { transfer: TransferId, fh: Fh },
    /// Ends a transfer of the session. Mutation. Answered by `Transferred`.
    EndTransfer { transfer: TransferId, outcome: TransferOutcome },
    /// Tells of a person's command that has failed at the client, as a line for the server's journal: which command, and
    /// what the person was told. Both are cut to `REPORT_BYTES_MAX`. Answered by `Done`.
    Report { verb: String, failure: String },
}

/// A complete file under a name that nobody looks for, and the name it is to get in the same directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The directory.
    pub parent: Node,
    /// The name it has.
    pub staged: Name,
    /// The name it gets.
    pub name: Name,
    /// Whether it may take the place of what has that name. They never change places.
    pub mode: RenameMode,
}

/// What happens to a file that has the new name (renameat2(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// The rename is refused with `EEXIST`.
    NoReplace,
    /// Both change places.
    Exchange,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteAt {
    /// At this byte.
    Offset(u64),
    /// At the end, which the server finds in the same step (`O_APPEND`).
    End,
}

/// What must be on stable storage before a write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteSync {
    /// Nothing.
    None,
    /// The content (`O_DSYNC`).
    Data,
    /// The content and all attributes (`O_SYNC`).
    All,
}

/// Whether an extended attribute may or must exist (setxattr(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrMode {
    /// It does not matter.
    Set,
    /// It must not (`XATTR_CREATE`).
    Create,
    /// It must (`XATTR_REPLACE`).
    Replace,
}

/// What a seek looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeekTarget {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// An open file that its last descriptor left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasedFile {
    /// Which.
    pub fh: Fh,
    /// The owner of flock(2) locks that end with it.
    pub flock_owner: Option<u64>,
}

/// The control part of an answer frame.
pub type Answer = Result<Reply, Errno>;

/// What an operation returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variant's doc tells what its fields are")]
pub enum Reply {
    /// It is done.
    Done,
    /// A name's node, with a lookup count. `fh` if the lookup also opened it; `whole` if the payload is its whole content.
    Entry { attr: Attr, fh: Option<Fh>, whole: bool },
    /// Attributes.
    Attr(Attr),
    /// Attributes after a change, and the counter before it: what the client cached with it is still right but for
    /// what it changed itself.
    Changed { before: Change, attr: Attr },
    /// An open file. One without a name carries a lookup count; `created` if it was made by this, and so has no extended
    /// attribute but those that its directory gives; `whole` if the payload is its whole content.
    Opened { fh: Fh, attr: Attr, created: bool, whole: bool },
    /// Bytes as payload. `change` was read before them.
    Read { change: Change },
    /// What was written.
    Written(Written),
    /// A piece of a directory.
    Listing {
        /// Its entries, in the directory's own order; each one with attributes carries a lookup count.
        entries: Vec<DirEntry>,
        /// Whether there are no more.
        end: bool,
        /// Whether there are no more, and any name that is not among them is absent: the directory compares names byte
        /// for byte.
        exact: bool,
        /// The directory's counter, read before the entries.
        change: Change,
    },
    /// Figures of the file system.
    StatFs(StatFs),
    /// A place in a file.
    Offset(u64),
    /// The lock in the way, or none.
    Lock(Option<Lock>),
    /// Hashes as payload, one for each chunk that begins before the end of the file. `change` was read before them.
    Hashed { change: Change },
    /// Attributes of a file, without a lookup count; if `whole`, its content as payload and the hash of that.
    Fetched { attr: Attr, whole: bool, hash: ContentHash },
    /// What became of each item, in their order: none, or why it does not have its name.
    Published { refusals: Vec<Option<Errno>> },
    /// A name was made: its node, with a lookup count, and its directory. `empty` if it is a directory and any name
    /// was absent in it when its attributes had been read.
    Made { attr: Attr, empty: bool, parent: Box<DirChange> },
    /// A file was opened by name, and comes with a lookup count; `created` as in `Opened`. Its directory did not change
    /// if it was there already.
    Created { fh: Fh, attr: Attr, created: bool, parent: Box<DirChange> },
    /// A name was removed: its directory.
    Removed { parent: Box<DirChange> },
    /// A name was moved: what it leads to, unless others moved it on already; the directory that it was in, and the one
    /// that it is in if that is another.
    Renamed { moved: Option<Attr>, from: Box<DirChange>, to: Option<Box<DirChange>> },
    /// A page of the sessions.
    Sessions {
        /// At most [`crate::limits::SESSIONS_PAGE_MAX`], by rising ids.
        sessions: Vec<SessionReport>,
        /// Whether there are no more.
        end: bool,
    },
    /// So many sessions were ended.
    Kicked(u64),
    /// A transfer was announced.
    Announced(TransferId),
    /// Somebody else is at that name.
    Busy(Busy),
    /// What was counted of a transfer.
    Transferred(Tally),
}

/// A directory after a change of the names in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirChange {
    /// The counter before, if this change alone is what became of the names since then, else [`Change::UNSURE`]: what the
    /// client knew with it is still right but for what it changed itself.
    pub before: Change,
    /// The directory's attributes after.
    pub attr: Attr,
}

/// The outcome of a write or a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Bytes written; fewer than asked for if an error or a full disk stopped it.
    pub size: u64,
    /// Where the first went.
    pub offset: u64,
    /// The counter before: what the client cached with it is still right outside of what it wrote.
    pub before: Change,
    /// The attributes after.
    pub attr: Attr,
}

/// What the server says unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Push {
    /// The server is about to stop in an orderly way; it will be back, or not.
    Stopping,
    /// The session was ended by the server's owner: the connection ends, and it cannot be resumed.
    EndedByOwner,
}
