//! Who waits in the kernel for a mount, as `/proc` tells: for a directory or file that another's operation holds.
//!
//! Of threads of other users this process may learn nothing; they are passed over.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use super::diagnosis::Program;
use super::system_call::{Argument, SystemCall};
use crate::mountinfo::MountEntry;

/// Most threads that are looked at.
const THREADS_MAX: usize = 20_000;
/// Most waiters that are named.
const WAITERS_MAX: usize = 50;
/// Longest path (PATH_MAX).
const PATH_BYTES_MAX: usize = 4096;

/// A thread that waits in the kernel within a call for the mount.
#[derive(Clone, Debug)]
pub(super) struct KernelWaiter {
    pub(super) program: Program,
    /// What its call is about, from the mount point on.
    pub(super) path: String,
    /// Where it waits.
    pub(super) wchan: String,
}

/// All that wait within calls for the mount, for its answers or for what others hold.
pub(super) fn waiters(entry: &MountEntry) -> Vec<KernelWaiter> {
    let processes = numbers("/proc".into());
    let threads = processes.flat_map(|pid| numbers(format!("/proc/{pid}/task")));
    threads.take(THREADS_MAX).filter_map(|tid| waiter(tid, entry)).take(WAITERS_MAX).collect()
}

/// The process of a thread.
pub(super) fn program(tid: u32) -> Option<Program> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    Some(Program { pid: field("Tgid")?.parse().ok()?, tid, name: field("Name")?.to_owned() })
}

fn numbers(directory: String) -> impl Iterator<Item = u32> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    names.filter_map(|name| name.file_name().to_str()?.parse().ok())
}

fn waiter(tid: u32, entry: &MountEntry) -> Option<KernelWaiter> {
    let wchan = fs::read_to_string(format!("/proc/{tid}/wchan")).ok()?;
    if !is_held(tid, &wchan) {
        return None;
    }
    let line = fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
    let path = place(tid, &SystemCall::parse(&line)?.arguments(), entry)?;
    Some(KernelWaiter { program: program(tid)?, path, wchan })
}

/// Whether it waits for an answer of ours, or cannot be disturbed: so it is with who waits for a directory or file that
/// another's operation has locked.
fn is_held(tid: u32, wchan: &str) -> bool {
    let is_uninterruptible = || {
        let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:\tD"))
    };
    wchan.contains("fuse") || wchan.contains("request_wait") || (wchan != "0" && is_uninterruptible())
}

/// What a call is about, if that is of the mount: from the mount point on, `.` for the mount point itself.
fn place(tid: u32, arguments: &[Argument], entry: &MountEntry) -> Option<String> {
    arguments.iter().find_map(|argument| {
        let path = match *argument {
            Argument::Descriptor(fd) => {
                let info = fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
                let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
                if id?.trim().parse() != Ok(entry.id) {
                    return None;
                }
                fs::read_link(format!("/proc/{tid}/fd/{fd}")).ok()?
            }
            Argument::Path { directory, address } => {
                let base = match directory {
                    None => format!("/proc/{tid}/cwd"),
                    Some(fd) => format!("/proc/{tid}/fd/{fd}"),
                };
                absolute(&fs::read_link(base).ok()?, &text_at(tid, address)?)
            }
        };
        let below = path.strip_prefix(&entry.mount_point).ok()?;
        let text = below.display().to_string();
        Some(if text.is_empty() { ".".into() } else { text })
    })
}

/// Without looking at the file system, which may not answer: symbolic links stay as they are.
fn absolute(base: &Path, path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => whole.push(component),
        }
    }
    whole
}

/// A text that ends with a NUL in the memory of a thread.
fn text_at(tid: u32, address: u64) -> Option<PathBuf> {
    const PAGE_BYTES: usize = 4096;
    let memory = File::open(format!("/proc/{tid}/mem")).ok()?;
    let mut bytes = Vec::new();
    let mut page = [0; PAGE_BYTES];
    while bytes.len() < PATH_BYTES_MAX {
        let at = address.checked_add(bytes.len() as u64)?;
        // The next page may not be there.
        let room = &mut page[..PAGE_BYTES - at as usize % PAGE_BYTES];
        let count = memory.read_at(room, at).ok()?;
        let part = room.get(..count).filter(|part| !part.is_empty())?;
        match part.iter().position(|&byte| byte == 0) {
            Some(end) => {
                bytes.extend_from_slice(&part[..end]);
                return Some(std::ffi::OsStr::from_bytes(&bytes).into());
            }
            None => bytes.extend_from_slice(part),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_without_looking() {
        for (base, path, whole) in
            [("/a/b", "c", "/a/b/c"), ("/a/b", "../c/./d", "/a/c/d"), ("/a", "/x", "/x"), ("/", "..", "/")]
        {
            assert_eq!(absolute(Path::new(base), Path::new(path)), Path::new(whole));
        }
    }

    #[test]
    fn texts_are_read_from_memory() {
        let text = c"a/path with spaces";
        let found = text_at(std::process::id(), text.as_ptr() as u64);
        assert_eq!(found.as_deref(), Some(Path::new("a/path with spaces")));
        assert_eq!(text_at(std::process::id(), 0), None);
        let own = program(std::process::id()).unwrap();
        assert_eq!(own.pid, std::process::id());
    }
}
