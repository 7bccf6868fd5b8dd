//! `nearfs get` and `nearfs put`, against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The allowance for tests does not reach their shared functions.

mod care;
mod cp;
mod crowd;
mod files;
mod mirror;
mod refused;
mod resume;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use crate::support::{World, nearfs};

/// `nearfs get` or `nearfs put` with these arguments; one that begins with `@` is a path on the server.
fn transfer(world: &World, arguments: &[&str]) -> Command {
    let mut command = nearfs();
    command.current_dir(world.directory.path());
    for argument in arguments {
        match argument.strip_prefix('@') {
            Some(path) => command.arg(format!("{}{path}", world.source().trim_end_matches('/'))),
            None => command.arg(argument),
        };
    }
    command
}

/// Names of incomplete files anywhere below a directory.
fn staged(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !entry.path().is_symlink() {
            found.extend(staged(&entry.path()));
        } else if name.starts_with(".nearfs-") {
            found.push(name);
        }
    }
    found
}

/// Content that does not repeat.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend(state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}
