//! What whoever connects may choose.

use std::time::Duration;

/// Longest time for which an answer of the server is believed without asking again. There are no leases
/// that would call an answer back, so that this bounds how old what a program sees can be.
pub const TRUST_MAX: Duration = Duration::from_secs(1);

/// About what a guess costs both sides together.
pub const FAR_ROUND_TRIP: Duration = Duration::from_millis(1);

/// How a client shall behave.
#[derive(Clone, Debug)]
pub struct VfsConfig {
    /// Longest wait of a read or a metadata operation for the server; then `ETIMEDOUT`.
    pub timeout: Duration,
    /// Whether writes and fsync wait for the server as long as it takes (`hard`), or fail like the rest.
    pub hard: bool,
    /// Bytes of all caches together; 0 turns the caches off.
    pub cache_bytes: u64,
    /// How long attributes are believed, at most [`TRUST_MAX`].
    pub attr_timeout: Duration,
    /// How long a name is believed, at most [`TRUST_MAX`].
    pub entry_timeout: Duration,
    /// How long the absence of a name is believed, at most [`TRUST_MAX`].
    pub negative_timeout: Duration,
    /// Connections of the session, 1 or more (`nconnect=`): one for small requests, the others for bulk data.
    pub connections: u16,
    /// With a longer round trip the client guesses what will be asked next: that spares round trips, and costs both sides
    /// a little more work.
    pub far_round_trip: Duration,
    /// Most bytes that are read ahead of a sequential reader.
    pub readahead_bytes: u64,
    /// Whose files these are, as the programs here see it.
    pub identity: IdentityMap,
    /// Which locks stay on this machine.
    pub local_lock: LocalLock,
    /// Whether each write is on the server's disk before it returns.
    pub sync: bool,
    /// Whether each change of a directory is on the server's disk before it returns.
    pub dirsync: bool,
    /// Who connects, for people to read in the server's log.
    pub client_name: String,
    /// Whether people or scripts give the commands, instead of a kernel: the server's log then tells each.
    pub shell: bool,
}

/// How the ids of a server that acts as one user (`squash`) look to programs here.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdentityMap {
    /// Every file belongs to this user (`uid=`).
    pub uid: Option<u32>,
    /// Every file belongs to this group (`gid=`).
    pub gid: Option<u32>,
    /// Permission bits that no file shows (`umask=`).
    pub umask: Option<u32>,
    /// Who mounts: the server's own user is shown as this one.
    pub own_uid: u32,
    /// His group.
    pub own_gid: u32,
}

/// Which locks stay on this machine, where other mounts do not see them (as NFS's `local_lock=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalLock {
    /// None: every lock is the server's.
    #[default]
    None,
    /// Those of flock(2).
    Flock,
    /// Those of fcntl(2).
    Posix,
    /// All.
    All,
}

impl Default for VfsConfig {
    fn default() -> Self {
        VfsConfig {
            timeout: Duration::from_secs(30),
            hard: true,
            cache_bytes: 256 * 1024 * 1024,
            attr_timeout: TRUST_MAX,
            entry_timeout: TRUST_MAX,
            negative_timeout: TRUST_MAX,
            connections: 3,
            far_round_trip: FAR_ROUND_TRIP,
            readahead_bytes: 24 * 1024 * 1024,
            identity: IdentityMap::default(),
            local_lock: LocalLock::None,
            sync: false,
            dirsync: false,
            client_name: String::new(),
            shell: false,
        }
    }
}
