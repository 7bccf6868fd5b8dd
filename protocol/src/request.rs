//! What can be said of a [`Request`] whoever sends it: its operation, the names that it is about, how much its answer
//! brings, and what it changes. Each is one list of all requests, which a new one has to join.

use crate::id::Node;
use crate::limits::HASH_BYTES;
use crate::message::Request;
use crate::name::Name;

/// What a request changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// What the server holds for sessions: nodes, open files, locks, transfers, or a session itself.
    Session,
    /// Files and directories.
    Disk,
}

impl Request {
    /// Whether sending it twice under two ids would have an effect twice, so that the server remembers
    /// its answer until the slot carries another request.
    pub fn is_mutation(&self) -> bool {
        self.effect() != Effect::Nothing
    }

    /// Whether it changes anything on disk. An open may besides, by its flags: it may cut the file off (`O_TRUNC`).
    pub fn changes(&self) -> bool {
        self.effect() == Effect::Disk
    }

    fn effect(&self) -> Effect {
        match self {
            Request::SetAttr { .. }
            | Request::Symlink { .. }
            | Request::Link { .. }
            | Request::MakeNode { .. }
            | Request::MakeDir { .. }
            | Request::Unlink { .. }
            | Request::RemoveDir { .. }
            | Request::Rename { .. }
            | Request::Create { .. }
            | Request::CreateUnnamed { .. }
            | Request::Write { .. }
            | Request::SetXattr { .. }
            | Request::RemoveXattr { .. }
            | Request::Allocate { .. }
            | Request::CopyRange { .. }
            | Request::Store { .. }
            | Request::Publish { .. } => Effect::Disk,
            Request::Forget { .. }
            | Request::Open { .. }
            | Request::Flush { .. }
            | Request::Release { .. }
            | Request::SetLock { .. }
            | Request::Kick { .. }
            | Request::Announce { .. }
            | Request::CountFile { .. }
            | Request::EndTransfer { .. }
            | Request::Lookup { also_open: Some(_), .. } => Effect::Session,
            Request::GetAttr { .. }
            | Request::Access { .. }
            | Request::ReadLink { .. }
            | Request::Read { .. }
            | Request::Fsync { .. }
            | Request::ReadDir { .. }
            | Request::FsyncDir { .. }
            | Request::StatFs { .. }
            | Request::GetXattr { .. }
            | Request::ListXattr { .. }
            | Request::Seek { .. }
            | Request::GetLock { .. }
            | Request::HashRange { .. }
            | Request::Fetch { .. }
            | Request::ListSessions { .. }
            | Request::Report { .. }
            | Request::Lookup { also_open: None, .. } => Effect::Nothing,
        }
    }

    /// The names that it is about, each in its directory; what it takes away comes before what it makes.
    pub fn names(&self) -> Vec<(Node, &Name)> {
        match self {
            Request::Lookup { parent, name, .. }
            | Request::Symlink { parent, name, .. }
            | Request::Link { new_parent: parent, new_name: name, .. }
            | Request::MakeNode { parent, name, .. }
            | Request::MakeDir { parent, name, .. }
            | Request::Unlink { parent, name }
            | Request::RemoveDir { parent, name }
            | Request::Create { parent, name, .. }
            | Request::Fetch { parent, name, .. }
            | Request::Store { parent, name, .. }
            | Request::Announce { parent, name, .. } => vec![(*parent, name)],
            Request::Rename { parent, name, new_parent, new_name, .. } => {
                vec![(*parent, name), (*new_parent, new_name)]
            }
            Request::Publish { items } => items
                .iter()
                .flat_map(|item| [(item.parent, &item.staged), (item.parent, &item.name)])
                .collect(),
            Request::Forget { .. }
            | Request::GetAttr { .. }
            | Request::SetAttr { .. }
            | Request::Access { .. }
            | Request::ReadLink { .. }
            | Request::Open { .. }
            | Request::CreateUnnamed { .. }
            | Request::Read { .. }
            | Request::Write { .. }
            | Request::Flush { .. }
            | Request::Fsync { .. }
            | Request::Release { .. }
            | Request::ReadDir { .. }
            | Request::FsyncDir { .. }
            | Request::StatFs { .. }
            | Request::GetXattr { .. }
            | Request::SetXattr { .. }
            | Request::ListXattr { .. }
            | Request::RemoveXattr { .. }
            | Request::Allocate { .. }
            | Request::Seek { .. }
            | Request::CopyRange { .. }
            | Request::GetLock { .. }
            | Request::SetLock { .. }
            | Request::HashRange { .. }
            | Request::ListSessions { .. }
            | Request::Kick { .. }
            | Request::CountFile { .. }
            | Request::EndTransfer { .. }
            | Request::Report { .. } => Vec::new(),
        }
    }

    /// Most bytes of payload that the answer may bring.
    pub fn answer_bytes_max(&self) -> u32 {
        match self {
            Request::Read { size, .. } => *size,
            Request::Open { content_bytes_max, .. } => *content_bytes_max,
            Request::Lookup { also_open, .. } => also_open.map_or(0, |also| also.content_bytes_max),
            Request::Fetch { content_bytes_max, .. } => *content_bytes_max,
            Request::HashRange { length, chunk_bytes, .. } => hashes_bytes(*length, *chunk_bytes),
            Request::Forget { .. }
            | Request::GetAttr { .. }
            | Request::SetAttr { .. }
            | Request::Access { .. }
            | Request::ReadLink { .. }
            | Request::Symlink { .. }
            | Request::Link { .. }
            | Request::MakeNode { .. }
            | Request::MakeDir { .. }
            | Request::Unlink { .. }
            | Request::RemoveDir { .. }
            | Request::Rename { .. }
            | Request::Create { .. }
            | Request::CreateUnnamed { .. }
            | Request::Write { .. }
            | Request::Flush { .. }
            | Request::Fsync { .. }
            | Request::Release { .. }
            | Request::ReadDir { .. }
            | Request::FsyncDir { .. }
            | Request::StatFs { .. }
            | Request::GetXattr { .. }
            | Request::SetXattr { .. }
            | Request::ListXattr { .. }
            | Request::RemoveXattr { .. }
            | Request::Allocate { .. }
            | Request::Seek { .. }
            | Request::CopyRange { .. }
            | Request::GetLock { .. }
            | Request::SetLock { .. }
            | Request::Store { .. }
            | Request::Publish { .. }
            | Request::ListSessions { .. }
            | Request::Kick { .. }
            | Request::Announce { .. }
            | Request::CountFile { .. }
            | Request::EndTransfer { .. }
            | Request::Report { .. } => 0,
        }
    }

    /// The operation's name, for logs and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Request::Lookup { .. } => "lookup",
            Request::Forget { .. } => "forget",
            Request::GetAttr { .. } => "getattr",
            Request::SetAttr { .. } => "setattr",
            Request::Access { .. } => "access",
            Request::ReadLink { .. } => "readlink",
            Request::Symlink { .. } => "symlink",
            Request::Link { .. } => "link",
            Request::MakeNode { .. } => "mknod",
            Request::MakeDir { .. } => "mkdir",
            Request::Unlink { .. } => "unlink",
            Request::RemoveDir { .. } => "rmdir",
            Request::Rename { .. } => "rename",
            Request::Open { .. } => "open",
            Request::Create { .. } => "create",
            Request::CreateUnnamed { .. } => "tmpfile",
            Request::Read { .. } => "read",
            Request::Write { .. } => "write",
            Request::Flush { .. } => "flush",
            Request::Fsync { .. } => "fsync",
            Request::Release { .. } => "release",
            Request::ReadDir { .. } => "readdir",
            Request::FsyncDir { .. } => "fsyncdir",
            Request::StatFs { .. } => "statfs",
            Request::GetXattr { .. } => "getxattr",
            Request::SetXattr { .. } => "setxattr",
            Request::ListXattr { .. } => "listxattr",
            Request::RemoveXattr { .. } => "removexattr",
            Request::Allocate { .. } => "fallocate",
            Request::Seek { .. } => "lseek",
            Request::CopyRange { .. } => "copy_file_range",
            Request::GetLock { .. } => "getlk",
            Request::SetLock { .. } => "setlk",
            Request::HashRange { .. } => "hash",
            Request::Fetch { .. } => "fetch",
            Request::Store { .. } => "store",
            Request::Publish { .. } => "publish",
            Request::ListSessions { .. } => "who",
            Request::Kick { .. } => "kick",
            Request::Announce { .. } => "announce",
            Request::CountFile { .. } => "count_file",
            Request::EndTransfer { .. } => "end_transfer",
            Request::Report { .. } => "report",
        }
    }
}

/// Bytes of the hashes of a range.
fn hashes_bytes(length: u64, chunk_bytes: u32) -> u32 {
    let chunks = length.div_ceil(u64::from(chunk_bytes.max(1)));
    u32::try_from(chunks.saturating_mul(HASH_BYTES as u64)).unwrap_or(u32::MAX)
}
