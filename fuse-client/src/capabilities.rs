//! What this side asks of the kernel's side of FUSE when they meet (`FUSE_INIT`).

use fuser::{InitFlags, KernelConfig};
use nearfs_client::config::LocalLock;

/// Largest write the kernel sends in one request, in bytes; also the protocol's largest payload.
pub(crate) const WRITE_BYTES_MAX: u32 = 1024 * 1024;
/// How far the kernel may read ahead, in bytes, where its own limit allows it.
pub(crate) const READAHEAD_BYTES_MAX: u32 = 1024 * 1024;
/// Requests without a waiting program (read-ahead, asynchronous I/O) that may be under way.
const BACKGROUND_REQUESTS_MAX: u16 = 128;
/// Above this many of them the kernel holds writers back.
const CONGESTION_THRESHOLD: u16 = 96;

/// Always asked for. `FUSE_WRITEBACK_CACHE` is not among them: it would make this machine's kernel the
/// authority on sizes and times, and two mounts would lose each other's appended records. The library
/// accepts some further ones without carrying them out (`HANDLE_KILLPRIV_V2`, `SETXATTR_EXT`,
/// `ALLOW_IDMAP`, `CREATE_SUPP_GROUP`), which must not be asked for.
const ALWAYS: InitFlags = InitFlags::FUSE_ASYNC_READ
    .union(InitFlags::FUSE_ATOMIC_O_TRUNC)
    .union(InitFlags::FUSE_BIG_WRITES)
    .union(InitFlags::FUSE_MAX_PAGES)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO)
    .union(InitFlags::FUSE_ASYNC_DIO)
    .union(InitFlags::FUSE_CACHE_SYMLINKS)
    .union(InitFlags::FUSE_AUTO_INVAL_DATA)
    .union(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
    .union(InitFlags::FUSE_DONT_MASK);

/// What depends on the mount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Which locks stay in this machine's kernel.
    pub(crate) local_lock: LocalLock,
    /// Whether the kernel checks permissions by POSIX ACLs. Turns `default_permissions` on.
    pub(crate) posix_acl: bool,
}

/// Asks for what is wanted; what this kernel does not have is left out.
pub(crate) fn negotiate(config: &mut KernelConfig, wanted: &Wanted) {
    for flag in flags(wanted).iter() {
        if config.add_capabilities(flag).is_err() {
            log::info!("this kernel does without {flag:?}");
        }
    }
    // The library answers with the nearest possible value, which is then the one to take.
    if let Err(nearest) = config.set_max_write(WRITE_BYTES_MAX) {
        let _ = config.set_max_write(nearest);
    }
    if let Err(nearest) = config.set_max_readahead(READAHEAD_BYTES_MAX) {
        let _ = config.set_max_readahead(nearest);
    }
    let _ = config.set_max_background(BACKGROUND_REQUESTS_MAX);
    let _ = config.set_congestion_threshold(CONGESTION_THRESHOLD);
}

fn flags(wanted: &Wanted) -> InitFlags {
    let mut flags = ALWAYS;
    let (posix, flock) = match wanted.local_lock {
        LocalLock::None => (true, true),
        LocalLock::Flock => (true, false),
        LocalLock::Posix => (false, true),
        LocalLock::All => (false, false),
    };
    flags.set(InitFlags::FUSE_POSIX_LOCKS, posix);
    flags.set(InitFlags::FUSE_FLOCK_LOCKS, flock);
    flags.set(InitFlags::FUSE_POSIX_ACL, wanted.posix_acl);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_go_to_the_server_unless_they_shall_stay_here() {
        for (local_lock, posix, flock) in [
            (LocalLock::None, true, true),
            (LocalLock::Flock, true, false),
            (LocalLock::Posix, false, true),
            (LocalLock::All, false, false),
        ] {
            let flags = flags(&Wanted { local_lock, posix_acl: false });
            assert_eq!(flags.contains(InitFlags::FUSE_POSIX_LOCKS), posix, "{local_lock:?}");
            assert_eq!(flags.contains(InitFlags::FUSE_FLOCK_LOCKS), flock, "{local_lock:?}");
        }
    }

    #[test]
    fn what_would_lose_appended_records_or_is_broken_is_never_asked_for() {
        let flags = flags(&Wanted { local_lock: LocalLock::None, posix_acl: true });
        assert!(!flags.intersects(
            InitFlags::FUSE_WRITEBACK_CACHE
                | InitFlags::FUSE_HANDLE_KILLPRIV_V2
                | InitFlags::FUSE_SETXATTR_EXT
                | InitFlags::FUSE_ALLOW_IDMAP
                | InitFlags::FUSE_CREATE_SUPP_GROUP
                | InitFlags::FUSE_SECURITY_CTX
        ));
        assert!(flags.contains(InitFlags::FUSE_POSIX_ACL | InitFlags::FUSE_DONT_MASK));
    }
}
