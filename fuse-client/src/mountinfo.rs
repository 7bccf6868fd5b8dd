//! The kernel's table of mounts (proc_pid_mountinfo(5)): read without touching any file system, so that it
//! answers whatever has become of their servers.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The file system type under which our mounts appear.
pub(crate) const FS_TYPE: &str = "fuse.nearfs";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// Tells it apart from everything else that is mounted now.
    pub(crate) id: u64,
    /// The mount it lies on.
    pub(crate) parent: u64,
    /// Major and minor number of its device; the minor also names its FUSE connection.
    pub(crate) device: (u32, u32),
    /// Where it is.
    pub(crate) mount_point: PathBuf,
    /// Its own options (`ro`, `nosuid`, ...).
    pub(crate) options: String,
    /// Type, with the subtype after a dot.
    pub(crate) fs_type: String,
    /// What is mounted.
    pub(crate) source: String,
    /// The options of its file system (`user_id=`, ...).
    pub(crate) super_options: String,
}

impl MountEntry {
    /// Whether it is one of ours.
    pub(crate) fn is_nearfs(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// Who mounted it.
    pub(crate) fn owner_uid(&self) -> Option<u32> {
        self.super_options.split(',').find_map(|option| option.strip_prefix("user_id=")?.parse().ok())
    }
}

/// All mounts that this process sees, lower ones first.
pub(crate) fn read() -> io::Result<Vec<MountEntry>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(parse_line).collect())
}

/// The mount that a path leads to if something is mounted exactly there: the topmost one.
pub(crate) fn topmost_at<'a>(entries: &'a [MountEntry], mount_point: &Path) -> Option<&'a MountEntry> {
    entries.iter().rev().find(|entry| entry.mount_point == mount_point)
}

/// An absolute path of a place to mount on, found without touching whatever is mounted there.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let entries = read()?;
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => return path.canonicalize(),
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let place = parent.canonicalize()?.join(name);
    if topmost_at(&entries, &place).is_some() { Ok(place) } else { path.canonicalize() }
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut text = || fields.next().map(unescape);
    let id = number(&text()?)?;
    let parent = number(&text()?)?;
    let device = string(text()?);
    let (major, minor) = device.split_once(':')?;
    let _root_within_the_file_system = text()?;
    let mount_point = PathBuf::from(OsString::from_vec(text()?));
    let options = string(text()?);
    // Any number of optional fields, up to a lone dash.
    while text()? != b"-" {}
    Some(MountEntry {
        id,
        parent,
        device: (major.parse().ok()?, minor.parse().ok()?),
        mount_point,
        options,
        fs_type: string(text()?),
        source: string(text()?),
        super_options: text().map(string).unwrap_or_default(),
    })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn string(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The kernel writes space, tab, newline and backslash as three octal digits after a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[4..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let line = br"36 35 0:57 / /mnt/a\040b\134 rw,nosuid shared:1 master:2 - fuse.nearfs nearfs://h:1/x rw,user_id=1000,group_id=5";
        let entry = parse_line(line).unwrap();
        assert_eq!((entry.id, entry.parent, entry.device), (36, 35, (0, 57)));
        assert_eq!(entry.mount_point, Path::new("/mnt/a b\\"));
        assert_eq!((entry.options.as_str(), entry.source.as_str()), ("rw,nosuid", "nearfs://h:1/x"));
        assert!(entry.is_nearfs());
        assert_eq!(entry.owner_uid(), Some(1000));
        let plain = parse_line(b"1 0 8:1 / / rw - ext4 /dev/sda1 rw").unwrap();
        assert!(!plain.is_nearfs());
        assert_eq!(plain.owner_uid(), None);
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(b"36 35 0:57 / /mnt rw shared:1"), None);
    }

    #[test]
    fn the_topmost_mount_wins() {
        let line = |id: u64| format!("{id} 1 0:{id} / /mnt rw - fuse.nearfs s rw");
        let entries: Vec<_> = [7, 8].iter().filter_map(|id| parse_line(line(*id).as_bytes())).collect();
        assert_eq!(topmost_at(&entries, Path::new("/mnt")).map(|entry| entry.id), Some(8));
        assert_eq!(topmost_at(&entries, Path::new("/other")), None);
    }

    #[test]
    fn this_machines_table_has_a_root() {
        assert!(topmost_at(&read().unwrap(), Path::new("/")).is_some());
    }
}
