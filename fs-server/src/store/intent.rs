//! What is noted before a mutation that must not be applied twice: as much as it takes to see later, from the disk
//! alone, whether it was.

use nearfs_protocol::attr::{FileKind, SetAttr, Time};
use nearfs_protocol::id::{Change, Fh, Node};
use nearfs_protocol::message::{Caller, Publication, RenameMode};
use nearfs_protocol::name::Name;
use serde::{Deserialize, Serialize};

use crate::export::Inode;

/// A mutation that may have been carried out when the server was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Intent {
    /// A directory, symlink or special file is made: it was if there is one that was born since.
    Make { parent: Node, name: Name, kind: FileKind, since: Time },
    /// A file is created: it was if there is one that was born since. It is open then as the flags say.
    Create { parent: Node, name: Name, flags: u32, since: Time },
    /// A file is made with its content: one that was born since is taken back, since it may not be whole.
    Store { parent: Node, name: Name, since: Time },
    /// Staged files get their names, on behalf of a caller: each has it if it leads where the staged one did. One that is
    /// half done is carried to its end.
    Publish { caller: Caller, items: Vec<Publishing> },
    /// A node gets another name: it has if that leads to it, and it has changed since.
    Link { node: Node, parent: Node, name: Name, since: Time },
    /// A name is removed: it was if it does not lead there any more.
    Remove { parent: Node, name: Name, leads_to: Inode },
    /// A name is moved: it was if the new one leads where the old one did.
    Rename {
        parent: Node,
        name: Name,
        new_parent: Node,
        new_name: Name,
        mode: RenameMode,
        leads_to: Inode,
        new_leads_to: Option<Inode>,
    },
    /// Bytes are written at the end: they were if the file is longer by as many.
    Append { fh: Fh, size: u64, length: u64 },
    /// A part is inserted or taken out: it was if the file's size says so.
    Resize { fh: Fh, size_after: u64 },
    /// An extended attribute that is not there is set, or one that is there is removed.
    Xattr {
        node: Node,
        #[serde(with = "serde_bytes")]
        name: Vec<u8>,
        sets: bool,
    },
    /// A file is cut off or made longer: it was if it has that size, or has been changed since.
    Truncate { node: Node, size: u64, before: Change, rest: AfterTruncation },
}

/// What else a request asks for that cuts a file off. It may be done again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AfterTruncation {
    /// Further attributes are set, on behalf of a caller.
    Set { caller: Caller, set: SetAttr },
    /// The file is open then as the flags say.
    Open { flags: u32 },
    /// The same for a name in this directory that was to be created if it was not there.
    Create { parent: Node, name: Name, flags: u32 },
}

/// A staged file that gets its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publishing {
    pub(crate) item: Publication,
    /// Where the staged name leads; `None` if it is not there, which will be refused.
    pub(crate) leads_to: Option<Inode>,
}
