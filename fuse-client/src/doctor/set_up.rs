//! Whether this machine can mount.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::attach::FUSERMOUNT;

const DEVICE: &str = "/dev/fuse";

/// One thing that mounting needs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) what: &'static str,
    pub(super) ok: bool,
    /// How it is, and what to do about it.
    pub(super) found: String,
}

/// All of them.
pub(super) fn checks() -> Vec<Check> {
    vec![kernel(), device(), rights()]
}

fn kernel() -> Check {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let ok = known.lines().any(|line| line.split_whitespace().last() == Some("fuse"));
    let found = if ok {
        "the kernel has FUSE".into()
    } else {
        "the kernel has no FUSE: try `modprobe fuse` as root".into()
    };
    Check { what: "kernel", ok, found }
}

fn device() -> Check {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    let found = match &opened {
        Ok(_) => format!("{DEVICE} can be used"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => format!(
            "{DEVICE} is missing: try `modprobe fuse` as root; a container needs `--device {DEVICE} --cap-add \
             SYS_ADMIN`"
        ),
        Err(error) => format!("{DEVICE} cannot be opened ({error}): its mode should be 0666, or be root"),
    };
    Check { what: "device", ok: opened.is_ok(), found }
}

/// Root mounts itself, others through fusermount3.
fn rights() -> Check {
    let (ok, found) = if rustix::process::geteuid().is_root() {
        match may_mount() {
            true => (true, "root mounts without help".into()),
            false => (false, "root may not mount here: a container needs `--cap-add SYS_ADMIN`".to_owned()),
        }
    } else {
        match fusermount() {
            Some((path, true)) => (true, format!("{} mounts for you", path.display())),
            Some((path, false)) => {
                (false, format!("{0} is not setuid root: `chmod u+s {0}` as root", path.display()))
            }
            None => (false, format!("{FUSERMOUNT} is missing: install the package fuse3, or be root")),
        }
    };
    Check { what: "rights", ok, found }
}

/// Where the program is, and whether it acts as root.
fn fusermount() -> Option<(PathBuf, bool)> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&directories).map(|directory| directory.join(FUSERMOUNT));
    let path = places.find(|place| place.is_file())?;
    let is_setuid = path.metadata().is_ok_and(|found| found.permissions().mode() & libc::S_ISUID != 0);
    Some((path, is_setuid))
}

/// Whether this process has CAP_SYS_ADMIN (capabilities(7)).
fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    effective.is_none_or(|effective| effective & 1 << CAP_SYS_ADMIN != 0)
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<7} {}: {}", self.what, if self.ok { "ok" } else { "PROBLEM" }, self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_says_what_it_found() {
        for check in checks() {
            assert!(!check.found.is_empty() && check.to_string().contains(&check.found));
        }
    }
}
