//! As whom a thread acts on the file system, and with which umask.
//!
//! Linux keeps the file system ids, the supplementary groups, the capabilities and (once unshared) the umask for each
//! thread. What a thread has set is remembered, so that consecutive calls of one caller cost nothing.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::Identity;
use nearfs_protocol::limits::GROUPS_MAX;
use nearfs_protocol::message::Caller;
use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, UnshareFlags};

/// What a thread that acts as somebody else keeps, to be able to become another: all else that root may do would
/// also let ordinary callers exceed quotas and set other people's extended attributes.
const KEPT: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// The uid and gid that chown(2) and setfsuid(2) understand as "none".
const NO_ID: u32 = u32::MAX;

thread_local! {
    static PRESENT: RefCell<Present> = const { RefCell::new(Present { acting: Acting::Unknown, umask: None }) };
}

/// Whether any thread has ever become somebody else: a thread starts with what the one that starts it has.
static OTHERS_SEEN: AtomicBool = AtomicBool::new(false);

/// What this thread has set.
struct Present {
    acting: Acting,
    umask: Option<u32>,
}

/// As whom it acts.
enum Acting {
    /// As the process, with everything it has.
    Server,
    /// As this caller.
    Caller(Caller),
    /// As whoever acted in the thread that started this one, or in between because a change failed half way.
    Unknown,
}

/// Makes this thread act for `caller` as the identity says, until the next call.
///
/// Errors: `EINVAL` for ids that name nobody, or too many groups; `EPERM` if the server may not act as others.
pub(crate) fn act_as(identity: Identity, caller: &Caller) -> Result<(), Errno> {
    match identity {
        Identity::Passthrough => become_caller(caller),
        Identity::Squash { uid, gid } if is_own(uid, gid) => become_server(),
        Identity::Squash { uid, gid } => become_caller(&Caller { uid, gid, groups: Vec::new() }),
    }
}

/// Makes this thread act as the server process again: for whatever is no caller's business.
pub(crate) fn become_server() -> Result<(), Errno> {
    PRESENT.with_borrow_mut(|present| {
        let unchanged = match present.acting {
            Acting::Server => true,
            Acting::Unknown => !OTHERS_SEEN.load(Ordering::SeqCst),
            Acting::Caller(_) => false,
        };
        if unchanged {
            return Ok(());
        }
        present.acting = Acting::Unknown;
        let (uid, gid) = at_start::ids();
        let own_groups = at_start::groups()?;
        set_ids(uid, gid, &own_groups)?;
        set_effective(at_start::permitted()?)?;
        present.acting = Acting::Server;
        Ok(())
    })
}

/// Runs `step` with the server's own rights to reach files, whoever the thread acts for: for finding a node again,
/// which was permitted when it was found first.
pub(crate) fn as_server<T>(step: impl FnOnce() -> T) -> T {
    let acting_uid = PRESENT.with_borrow(|present| match &present.acting {
        Acting::Caller(caller) => Some(caller.uid),
        Acting::Server | Acting::Unknown => None,
    });
    let _back = acting_uid.map(|uid| {
        set_fsuid(at_start::ids().0);
        BackTo(uid)
    });
    step()
}

/// Sets this thread's umask, for what it creates next.
pub(crate) fn set_umask(mask: u32) -> Result<(), Errno> {
    PRESENT.with_borrow_mut(|present| {
        if present.umask == Some(mask) {
            return Ok(());
        }
        if present.umask.is_none() {
            // SAFETY: only the umask, the root and the working directory become the thread's own; nothing in the
            // server changes the latter two, and descriptors stay shared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.map_err(crate::errno::from_os)?;
        }
        umask(Mode::from_raw_mode(mask & 0o777));
        present.umask = Some(mask);
        Ok(())
    })
}

/// Puts the caller's file system uid back when the server's own step is over, also by unwinding.
struct BackTo(u32);

impl Drop for BackTo {
    fn drop(&mut self) {
        // Cannot fail: the thread had this uid before and has kept CAP_SETUID.
        set_fsuid(self.0);
    }
}

fn is_own(uid: u32, gid: u32) -> bool {
    (uid, gid) == at_start::ids()
}

fn become_caller(caller: &Caller) -> Result<(), Errno> {
    PRESENT.with_borrow_mut(|present| {
        if matches!(&present.acting, Acting::Caller(acting) if acting == caller) {
            return Ok(());
        }
        if caller.uid == NO_ID || caller.gid == NO_ID || caller.groups.len() > GROUPS_MAX {
            return Err(Errno::EINVAL);
        }
        let permitted = at_start::permitted()?;
        at_start::groups()?;
        OTHERS_SEEN.store(true, Ordering::SeqCst);
        present.acting = Acting::Unknown;
        set_ids(caller.uid, caller.gid, &caller.groups)?;
        set_effective(if caller.uid == 0 { permitted } else { permitted & KEPT })?;
        present.acting = Acting::Caller(caller.clone());
        Ok(())
    })
}

fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    if groups.contains(&NO_ID) {
        return Err(Errno::EINVAL);
    }
    let groups: Vec<Gid> = groups.iter().map(|&group| Gid::from_raw(group)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(crate::errno::from_os)?;
    // SAFETY: plain numbers; glibc sets the ids of the calling thread only.
    let present_gid = unsafe {
        libc::setfsgid(gid);
        libc::setfsgid(NO_ID)
    };
    if set_fsuid(uid) != uid || present_gid as u32 != gid {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Sets the thread's file system uid and returns the one it has then: setfsuid(2) does not tell failure otherwise.
fn set_fsuid(uid: u32) -> u32 {
    // SAFETY: plain numbers; glibc sets the id of the calling thread only.
    unsafe {
        libc::setfsuid(uid);
        libc::setfsuid(NO_ID) as u32
    }
}

fn set_effective(effective: CapabilitySet) -> Result<(), Errno> {
    let present = rustix::thread::capabilities(None).map_err(crate::errno::from_os)?;
    rustix::thread::set_capabilities(None, CapabilitySets { effective, ..present })
        .map_err(crate::errno::from_os)
}

/// What the process started with, read once.
mod at_start {
    use std::sync::OnceLock;

    use rustix::process::{getegid, geteuid, getgroups};

    use super::{CapabilitySet, Errno};

    /// The process' effective uid and gid.
    pub(super) fn ids() -> (u32, u32) {
        static IDS: OnceLock<(u32, u32)> = OnceLock::new();
        *IDS.get_or_init(|| (geteuid().as_raw(), getegid().as_raw()))
    }

    /// What a thread may raise.
    pub(super) fn permitted() -> Result<CapabilitySet, Errno> {
        static PERMITTED: OnceLock<CapabilitySet> = OnceLock::new();
        if let Some(permitted) = PERMITTED.get() {
            return Ok(*permitted);
        }
        let present = rustix::thread::capabilities(None).map_err(crate::errno::from_os)?;
        Ok(*PERMITTED.get_or_init(|| present.permitted))
    }

    /// The process' own supplementary groups. Must be read before a thread changes its own.
    pub(super) fn groups() -> Result<Vec<u32>, Errno> {
        static GROUPS: OnceLock<Vec<u32>> = OnceLock::new();
        if let Some(groups) = GROUPS.get() {
            return Ok(groups.clone());
        }
        let groups = getgroups().map_err(crate::errno::from_os)?;
        Ok(GROUPS.get_or_init(|| groups.iter().map(|group| group.as_raw()).collect()).clone())
    }
}
