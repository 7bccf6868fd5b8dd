//! Extended attributes, of the namespaces that a client may see.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::limits::{XATTR_NAME_BYTES_MAX, XATTR_NAMES_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use nearfs_protocol::message::XattrMode;
use rustix::fs::XattrFlags;

use super::{Export, proc_path};
use crate::errno::from_os;

/// Room in which most values fit, so that they cost no second call.
const USUAL_BYTES: usize = 1024;

/// What a caller may do with attributes that only root may touch. The kernel cannot tell: a thread that acts as
/// somebody else keeps privileges that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XattrRights {
    /// `user.*`, ACLs, and reading or dropping capabilities.
    Ordinary,
    /// Also `trusted.*`, and granting capabilities.
    Root,
}

/// The name of an extended attribute that is let through.
pub(crate) struct XattrName(CString);

impl XattrName {
    /// Checks a name, for setting or for anything else.
    ///
    /// Errors: `EOPNOTSUPP` for a namespace that is not served, `EPERM` for one that takes root, `ERANGE` for an empty or
    /// too long name, `EINVAL` for a NUL.
    pub(crate) fn check(name: &[u8], rights: XattrRights, sets: bool) -> Result<XattrName, Errno> {
        if name.is_empty() || name.len() > XATTR_NAME_BYTES_MAX {
            return Err(Errno::ERANGE);
        }
        let root = rights == XattrRights::Root;
        if !is_served(name, rights) {
            // What xattr(7) says of trusted attributes and a caller who may not see them.
            let trusted = name.starts_with(b"trusted.");
            return Err(match (trusted, sets) {
                (true, true) => Errno::EPERM,
                (true, false) => Errno::ENODATA,
                (false, _) => Errno::EOPNOTSUPP,
            });
        }
        if sets && !root && name.starts_with(b"security.") {
            return Err(Errno::EPERM);
        }
        CString::new(name).map(XattrName).map_err(|_| Errno::EINVAL)
    }
}

fn is_served(name: &[u8], rights: XattrRights) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
        || (rights == XattrRights::Root && name.starts_with(b"trusted."))
}

impl Export {
    /// An attribute's value.
    pub(crate) fn xattr(&self, node: BorrowedFd<'_>, name: &XattrName) -> Result<Vec<u8>, Errno> {
        let path = proc_path(node);
        sized(XATTR_VALUE_BYTES_MAX, |room| rustix::fs::getxattr(&path, &name.0, room))
    }

    /// Whether a node has an attribute of this name.
    pub(crate) fn has_xattr(&self, node: impl AsFd, name: &[u8]) -> Result<bool, Errno> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        match rustix::fs::getxattr(proc_path(node.as_fd()), &name, &mut [0_u8; 0]) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::NODATA) => Ok(false),
            Err(error) => Err(from_os(error)),
        }
    }

    /// Sets an attribute.
    pub(crate) fn set_xattr(
        &self,
        node: BorrowedFd<'_>,
        name: &XattrName,
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), Errno> {
        let flags = match mode {
            XattrMode::Set => XattrFlags::empty(),
            XattrMode::Create => XattrFlags::CREATE,
            XattrMode::Replace => XattrFlags::REPLACE,
        };
        rustix::fs::setxattr(proc_path(node), &name.0, value, flags).map_err(from_os)
    }

    /// The names of the attributes that a caller may see, NUL after each.
    pub(crate) fn xattr_names(&self, node: BorrowedFd<'_>, rights: XattrRights) -> Result<Vec<u8>, Errno> {
        let path = proc_path(node);
        let all = sized(XATTR_NAMES_BYTES_MAX, |room| rustix::fs::listxattr(&path, room))?;
        let served =
            all.split_inclusive(|&byte| byte == 0).filter(|name| is_served(&name[..name.len() - 1], rights));
        Ok(served.flatten().copied().collect())
    }

    /// Removes an attribute.
    pub(crate) fn remove_xattr(&self, node: BorrowedFd<'_>, name: &XattrName) -> Result<(), Errno> {
        rustix::fs::removexattr(proc_path(node), &name.0).map_err(from_os)
    }
}

/// Calls with the usual room, and with the most there can be if that was too little.
fn sized(
    bytes_max: usize,
    call: impl Fn(&mut [u8]) -> Result<usize, rustix::io::Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut room = vec![0; USUAL_BYTES];
    let mut outcome = call(&mut room);
    if outcome == Err(rustix::io::Errno::RANGE) {
        room.resize(bytes_max, 0);
        outcome = call(&mut room);
    }
    room.truncate(outcome.map_err(from_os)?);
    Ok(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &str, rights: XattrRights, sets: bool) -> Result<(), Errno> {
        XattrName::check(name.as_bytes(), rights, sets).map(|_| ())
    }

    #[test]
    fn namespaces_take_the_rights_they_take_locally() {
        use XattrRights::{Ordinary, Root};
        for (name, rights, sets, expected) in [
            ("user.a", Ordinary, true, Ok(())),
            ("system.posix_acl_default", Ordinary, true, Ok(())),
            ("security.capability", Ordinary, false, Ok(())),
            ("security.capability", Ordinary, true, Err(Errno::EPERM)),
            ("security.capability", Root, true, Ok(())),
            ("security.selinux", Root, false, Err(Errno::EOPNOTSUPP)),
            ("trusted.a", Ordinary, true, Err(Errno::EPERM)),
            ("trusted.a", Ordinary, false, Err(Errno::ENODATA)),
            ("trusted.a", Root, true, Ok(())),
            ("other", Root, true, Err(Errno::EOPNOTSUPP)),
            ("", Root, true, Err(Errno::ERANGE)),
            ("user.\0", Root, true, Err(Errno::EINVAL)),
        ] {
            assert_eq!(verdict(name, rights, sets), expected, "{name} {rights:?} {sets}");
        }
    }
}
