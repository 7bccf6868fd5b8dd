//! Attaching to a directory and letting go of it: mount(2) and umount2(2) where this process may call
//! them, the setuid program fusermount3 where it may not.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Output};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use crate::mount_option::Access;
use crate::mountinfo::{self, FS_TYPE, MountEntry};

const DEVICE: &str = "/dev/fuse";
pub(crate) const FUSERMOUNT: &str = "fusermount3";

/// What to attach, and how.
#[derive(Clone, Debug)]
pub(crate) struct Attachment<'a> {
    /// What the table of mounts shows as the source.
    pub(crate) source: &'a str,
    /// Flags of mount(2).
    pub(crate) flags: MountFlags,
    /// Who may use it.
    pub(crate) access: Access,
    /// Whether the kernel checks permissions.
    pub(crate) default_permissions: bool,
    /// Most bytes of one read request.
    pub(crate) max_read_bytes: Option<u32>,
}

/// Why nothing was attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No device at all.
    #[error(
        "{DEVICE} is missing: load the module with `modprobe fuse`; a container needs `--device {DEVICE}`"
    )]
    NoDevice,
    /// The device may not be opened.
    #[error("no permission to open {DEVICE}: {0}")]
    Device(io::Error),
    /// Neither mount(2) nor fusermount3 can be used.
    #[error("no permission to mount: install the package fuse3 (its fusermount3 is missing), or be root")]
    NoFusermount,
    /// fusermount3 said no.
    #[error("{0}")]
    Fusermount(String),
    /// mount(2) said no.
    #[error("cannot mount: {0}")]
    Mount(io::Error),
    /// The source cannot be shown in the table of mounts.
    #[error("the source has a NUL byte in it")]
    Source,
}

/// Attaches to a directory. The descriptor is the mount's connection to the kernel.
pub(crate) fn attach(mount_point: &Path, attachment: &Attachment<'_>) -> Result<OwnedFd, AttachError> {
    let device = match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(device) => device,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(AttachError::NoDevice),
        Err(error) if rustix::process::geteuid().is_root() => return Err(AttachError::Device(error)),
        Err(_) => return fusermount(mount_point, attachment),
    };
    match mount(mount_point, attachment, &device) {
        Ok(()) => Ok(device.into()),
        Err(Errno::PERM) => fusermount(mount_point, attachment),
        Err(errno) => Err(AttachError::Mount(errno.into())),
    }
}

/// Lets go of a mount, if it is still what its path leads to.
///
/// Fails with [`Errno::BUSY`] as umount(2) does if something uses the mount, except with `lazy`, which takes
/// it out of sight at once and leaves the rest to the last user.
pub(crate) fn detach(entry: &MountEntry, lazy: bool) -> Result<(), Errno> {
    let entries = mountinfo::read().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    match mountinfo::topmost_at(&entries, &entry.mount_point) {
        Some(top) if top.id == entry.id => {}
        // What is not there any more needs no unmounting.
        _ if !entries.iter().any(|other| other.id == entry.id) => return Ok(()),
        _ => return Err(Errno::BUSY),
    }
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(&entry.mount_point, flags | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => fusermount_unmount(&entry.mount_point, lazy),
        result => result,
    }
}

/// Ends a mount's connection: every program that waits for it gets an error (fuse(4), "Aborting").
/// Works whatever has become of its server and its client.
pub(crate) fn abort(entry: &MountEntry) -> io::Result<()> {
    let control = format!("/sys/fs/fuse/connections/{}/abort", entry.device.1);
    match OpenOptions::new().write(true).open(control) {
        Ok(mut file) => file.write_all(b"1"),
        // Gone, and with it whoever waited.
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_connections() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Changes the flags of a mount (mount(2), `MS_REMOUNT`).
pub(crate) fn remount(mount_point: &Path, flags: MountFlags) -> Result<(), Errno> {
    rustix::mount::mount_remount(mount_point, flags, c"")
}

/// Lets the kernel read ahead further than its default, where this process may say so.
pub(crate) fn raise_readahead(entry: &MountEntry, bytes: u32) {
    let (major, minor) = entry.device;
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&setting, (bytes / 1024).to_string()) {
        log::debug!("{setting} stays as it is: {error}");
    }
}

fn mount(mount_point: &Path, attachment: &Attachment<'_>, device: &File) -> Result<(), Errno> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let fd = device.as_raw_fd();
    let mut options = format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid}");
    for option in kernel_options(attachment) {
        options.push(',');
        options.push_str(&option);
    }
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(attachment.source, mount_point, FS_TYPE, attachment.flags, options.as_c_str())
}

fn kernel_options(attachment: &Attachment<'_>) -> Vec<String> {
    let mut options = Vec::new();
    // The kernel knows two kinds; the library turns away everybody but root.
    if attachment.access != Access::Owner {
        options.push("allow_other".into());
    }
    if attachment.default_permissions {
        options.push("default_permissions".into());
    }
    options.extend(attachment.max_read_bytes.map(|bytes| format!("max_read={bytes}")));
    options
}

/// Has fusermount3 mount, which hands the device back over a socket.
fn fusermount(mount_point: &Path, attachment: &Attachment<'_>) -> Result<OwnedFd, AttachError> {
    let broken = |errno: Errno| AttachError::Fusermount(format!("{FUSERMOUNT}: {errno}"));
    let flags = SocketFlags::empty();
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(broken)?;
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC).map_err(broken)?;
    let mut command = Command::new(FUSERMOUNT);
    command.arg("-o").arg(fusermount_options(attachment)).arg("--").arg(mount_point);
    command.env("_FUSE_COMMFD", theirs.as_raw_fd().to_string());
    let output = run(&mut command)?;
    drop(theirs);
    if !output.status.success() {
        return Err(AttachError::Fusermount(said(&output)));
    }
    let device = receive_descriptor(&ours).map_err(broken)?;
    device.ok_or_else(|| AttachError::Fusermount(format!("{FUSERMOUNT} handed no device over")))
}

fn fusermount_options(attachment: &Attachment<'_>) -> OsString {
    let mut options = kernel_options(attachment);
    for (flag, on, off) in [
        (MountFlags::RDONLY, "ro", "rw"),
        (MountFlags::NOSUID, "nosuid", "suid"),
        (MountFlags::NODEV, "nodev", "dev"),
        (MountFlags::NOEXEC, "noexec", "exec"),
        (MountFlags::SYNCHRONOUS, "sync", "async"),
        (MountFlags::NOATIME, "noatime", "atime"),
    ] {
        options.push(if attachment.flags.contains(flag) { on } else { off }.into());
    }
    if attachment.flags.contains(MountFlags::DIRSYNC) {
        options.push("dirsync".into());
    }
    // Otherwise a comma in the source would begin another option.
    let source = attachment.source.replace('\\', r"\\").replace(',', r"\,");
    options.push(format!("fsname={source}"));
    options.push("subtype=nearfs".into());
    options.join(",").into()
}

fn fusermount_unmount(mount_point: &Path, lazy: bool) -> Result<(), Errno> {
    let mut command = Command::new(FUSERMOUNT);
    command.arg(OsStr::new(if lazy { "-uz" } else { "-u" })).arg("--").arg(mount_point);
    match run(&mut command) {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) if said(&output).contains("busy") => Err(Errno::BUSY),
        Ok(output) => {
            log::warn!("{}", said(&output));
            Err(Errno::PERM)
        }
        Err(error) => {
            log::warn!("{error}");
            Err(Errno::PERM)
        }
    }
}

fn run(command: &mut Command) -> Result<Output, AttachError> {
    command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => AttachError::NoFusermount,
        _ => AttachError::Fusermount(format!("cannot run {FUSERMOUNT}: {error}")),
    })
}

/// The last line it wrote, without its own name.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("fusermount3 failed");
    line.trim().trim_start_matches("fusermount3: ").to_owned()
}

fn receive_descriptor(socket: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let mut byte = [0];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

/// Whether the kernel's list of connections can be seen at all.
fn has_connections() -> bool {
    Path::new("/sys/fs/fuse/connections").read_dir().is_ok_and(|mut list| list.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_cannot_smuggle_options_in() {
        let attachment = Attachment {
            source: r"host:/a,suid\,dev",
            flags: MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY,
            access: Access::Root,
            default_permissions: true,
            max_read_bytes: Some(8192),
        };
        let expected = r"allow_other,default_permissions,max_read=8192,ro,nosuid,nodev,exec,async,atime,fsname=host:/a\,suid\\\,dev,subtype=nearfs";
        assert_eq!(fusermount_options(&attachment), expected);
    }
}
