//! Who keeps a mount busy.

use std::fs;
use std::path::Path;

use crate::mountinfo::MountEntry;

/// Most holders that are named.
const HOLDERS_MAX: usize = 10;

/// Processes that use a mount, as "name (pid 123, how)", and mounts that lie on it. Nothing here touches the
/// mount itself; processes that this one may not look into are passed over.
pub(crate) fn holders(entry: &MountEntry, all: &[MountEntry]) -> Vec<String> {
    let below = all.iter().filter(|other| other.parent == entry.id);
    let mounts = below.map(|other| format!("a mount of {} on {}", other.source, other.mount_point.display()));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let how = use_of(&process.path(), entry)?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(format!("{} (pid {pid}, {how})", name.trim()))
    });
    mounts.chain(processes).take(HOLDERS_MAX).collect()
}

fn use_of(process: &Path, entry: &MountEntry) -> Option<&'static str> {
    let leads_in = |link: &str| {
        fs::read_link(process.join(link)).is_ok_and(|target| target.starts_with(&entry.mount_point))
    };
    if leads_in("cwd") {
        Some("current directory")
    } else if leads_in("root") {
        Some("root directory")
    } else if has_open_file(process, entry) {
        Some("open file")
    } else if has_mapping(process, entry) {
        Some("mapped file")
    } else {
        None
    }
}

/// Open files tell the id of their mount (proc_pid_fdinfo(5)).
fn has_open_file(process: &Path, entry: &MountEntry) -> bool {
    fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten().any(|file| {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        id.and_then(|id| id.trim().parse().ok()) == Some(entry.id)
    })
}

/// Mappings tell the device (proc_pid_maps(5)).
fn has_mapping(process: &Path, entry: &MountEntry) -> bool {
    let (major, minor) = entry.device;
    let device = format!("{major:02x}:{minor:02x}");
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    maps.lines().any(|line| line.split_whitespace().nth(3) == Some(&device))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::mountinfo;

    #[test]
    fn whoever_has_a_file_open_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let all = mountinfo::read().unwrap();
        let file = fs::File::create(path.join("held")).unwrap();
        let id: u64 = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))
            .unwrap()
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
            .unwrap();
        let entry = all.iter().find(|entry| entry.id == id).unwrap();
        assert_eq!(
            use_of(Path::new("/proc/self"), &MountEntry { mount_point: path, ..entry.clone() }),
            Some("open file")
        );
    }
}
