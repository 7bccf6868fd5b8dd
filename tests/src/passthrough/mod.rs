//! A FUSE passthrough over a local directory: the ceiling that a network mount is compared with.
//!
//! Everything a FUSE filesystem must pay is paid here (kernel round trips, copies, the FUSE library), and
//! nothing else: no network, no second machine, and the kernel may believe its caches for a day. It is a
//! yardstick for root on one filesystem, not a conforming filesystem: files belong to the daemon's user,
//! locks stay in the kernel, and changes made beneath it are not noticed.

mod attr;
mod dir;
mod disk_handle;
mod filesystem;
mod node;
mod open_file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use fuser::{Config, MountOption, Session};

use filesystem::Passthrough;

/// How long the kernel may believe names and attributes: a day, the default of libfuse's `passthrough_hp`.
const TTL: Duration = Duration::from_secs(86_400);

/// The largest write request; the kernel's own limit with 256 pages.
const WRITE_BYTES_MAX: u32 = 1 << 20;

/// Background requests (read-ahead) that the kernel may have outstanding.
const BACKGROUND_REQUESTS_MAX: u16 = 64;

/// Descriptors asked for: one is held for every node that the kernel knows, as long as the limit allows.
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// Descriptors left for open files and directories.
const DESCRIPTORS_SPARE: u64 = 2_000;

/// The command line of the `passthrough` binary.
#[derive(Debug, clap::Parser)]
#[command(
    name = "passthrough",
    about = "Mount a local directory through FUSE, to measure what FUSE alone costs"
)]
pub struct Options {
    /// The directory to show.
    source: PathBuf,
    /// Where to show it.
    mountpoint: PathBuf,
    /// Threads that read requests from the kernel, each with a descriptor of its own.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    threads: u8,
}

/// Mounts and serves until somebody unmounts.
///
/// # Errors
/// When the source cannot be opened or the mount is refused.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let held_max = raise_descriptor_limit().saturating_sub(DESCRIPTORS_SPARE);
    let held_max = usize::try_from(held_max).unwrap_or(usize::MAX);
    let filesystem = Passthrough::open(&options.source, held_max)
        .with_context(|| format!("cannot open {}", options.source.display()))?;
    let session =
        Session::new(filesystem, &options.mountpoint, &mount_config(&options.source, options.threads))
            .with_context(|| format!("cannot mount on {}", options.mountpoint.display()))?;
    session.run().context("the FUSE session failed")
}

fn mount_config(source: &Path, threads: u8) -> Config {
    // A comma in the name would be read as further mount options by this release of the library.
    let name = source.to_string_lossy().replace([',', '\\'], "_");
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(name),
        MountOption::Subtype("passthrough".into()),
        MountOption::DefaultPermissions,
    ];
    config.n_threads = Some(usize::from(threads));
    config.clone_fd = threads > 1;
    config
}

/// Raises the limit on open files as far as the system allows, and answers what it is.
fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = Rlimit { current: Some(DESCRIPTORS_MAX), maximum: Some(DESCRIPTORS_MAX) };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        let allowed = getrlimit(Resource::Nofile).maximum;
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: allowed, maximum: allowed }) {
            log::warn!("the limit on open files stays as it is: {error}");
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(DESCRIPTORS_MAX)
}
