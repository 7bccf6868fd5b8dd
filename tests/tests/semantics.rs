//! What SEMANTICS.md promises to programs, sentence by sentence, on a real mount.
#![allow(clippy::unwrap_used, clippy::expect_used)] // The allowance for tests does not reach their shared functions.

#[path = "semantics/attributes.rs"]
mod attributes;
#[path = "semantics/content.rs"]
mod content;
#[path = "semantics/failure.rs"]
mod failure;
#[path = "semantics/identity.rs"]
mod identity;
#[path = "semantics/names.rs"]
mod names;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nearfs_tests::harness::{Mount, Watchdog, World, can_mount, watchdog};

/// No test takes longer.
const TEST_TIME_MAX: Duration = Duration::from_secs(90);

/// A world with one mount, whose test is bounded in time; none where mounting is impossible.
fn mounted() -> Option<(World, Mount, Watchdog)> {
    mounted_with("")
}

fn mounted_with(options: &str) -> Option<(World, Mount, Watchdog)> {
    if !can_mount() {
        return None;
    }
    let watchdog = watchdog(TEST_TIME_MAX);
    let world = World::new();
    let mount = world.mount("mount", options);
    Some((world, mount, watchdog))
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// The errno of what must have failed.
#[track_caller]
fn errno<T>(result: std::io::Result<T>) -> i32 {
    result.err().expect("it fails").raw_os_error().expect("it has an errno")
}

/// The outcome of a system call.
fn checked(result: i64) -> std::io::Result<u64> {
    u64::try_from(result).map_err(|_| std::io::Error::last_os_error())
}
