//! `nearfs mount`: from the command line to a served mount and its end.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use nearfs_client::cache::block::BLOCK_BYTES;
use nearfs_client::config::VfsConfig;
use nearfs_client::error::ConnectError;
use nearfs_client::vfs::Vfs;
use nearfs_client::vfs::behind::BEHIND_BYTES_MAX;
use nearfs_protocol::greeting::Identity;
use nearfs_transport::address::{Address, Source, SourceError};
use parking_lot::Mutex;
use rustix::mount::MountFlags;

use crate::attach::{self, AttachError, Attachment};
use crate::background::{self, Readiness, Side};
use crate::capabilities::{READAHEAD_BYTES_MAX, Wanted};
use crate::control::{self, ControlSocket};
use crate::filesystem::NearFs;
use crate::live_mount::{LiveMount, SHUTDOWN_TIME_MAX};
use crate::mount_option::{Access, MountSettings, OptionError};
use crate::mount_point::{self, MountPointError};
use crate::mountinfo::{self, MountEntry};
use crate::notify::KernelNotifier;
use crate::options::{MountOptions, MountProgramOptions};
use crate::secrecy::{self, SecrecyError};
use crate::{logging, signals};

/// Fewest and most threads that take requests from the kernel.
const THREADS: (usize, usize) = (2, 4);
/// What is read at once from a server that is near: a block. It is passed on as it arrived, while the processor's cache still
/// has it; a reply of several blocks would have to be put together first.
const NEAR_READ_BYTES_MAX: u32 = BLOCK_BYTES as u32;
/// Longest wait for a `nearfs umount` to read what it was answered.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// Why there is no mount. Each reads as one line.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// An option is wrong.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The source is wrong.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The place is wrong.
    #[error(transparent)]
    MountPoint(#[from] MountPointError),
    /// The server cannot be reached or does not want to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Others could read along.
    #[error(transparent)]
    Secrecy(#[from] SecrecyError),
    /// The kernel does not want to.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Something on this machine failed.
    #[error("{what}: {error}")]
    Local {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        error: io::Error,
    },
}

impl MountError {
    /// 2 for what was typed wrong, 3 for everything between us and the server, 1 for this machine.
    fn exit_code(&self) -> u8 {
        match self {
            MountError::Option(_) | MountError::Source(_) => 2,
            MountError::Secrecy(_) => 3,
            MountError::Connect(error) => error.exit_code(),
            MountError::MountPoint(_) | MountError::Attach(_) | MountError::Local { .. } => 1,
        }
    }
}

/// Runs `nearfs mount`.
pub fn run(options: &MountOptions) -> ExitCode {
    background::close_inherited();
    match MountSettings::parse(&options.options) {
        Ok(settings) => finish(mount(options, settings)),
        Err(error) => finish(Err(error.into())),
    }
}

/// Runs `mount.nearfs`, as mount(8) calls it.
pub fn run_for_mount(options: MountProgramOptions) -> ExitCode {
    background::close_inherited();
    let (fake, sloppy) = (options.fake, options.sloppy);
    let options = options.into_mount_options();
    let settings = if sloppy {
        MountSettings::parse_known(&options.options)
    } else {
        MountSettings::parse(&options.options)
    };
    match settings {
        Ok(_) if fake => ExitCode::SUCCESS,
        Ok(settings) => finish(mount(&options, settings)),
        Err(error) => finish(Err(error.into())),
    }
}

fn finish(result: Result<ExitCode, MountError>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("nearfs: {error}");
        ExitCode::from(error.exit_code())
    })
}

fn mount(options: &MountOptions, settings: MountSettings) -> Result<ExitCode, MountError> {
    for warning in &settings.warnings {
        eprintln!("nearfs: {warning}");
    }
    if settings.remount {
        return remount(&options.mount_point, &settings);
    }
    let source: Source = options.source.parse()?;
    let place = mount_point::check(&options.mount_point, settings.nonempty)?;
    secrecy::check(&source.address, settings.insecure)?;
    let log_file = options.log_file.as_deref().map(absolute).transpose()?;
    if options.foreground {
        match &log_file {
            Some(path) => {
                logging::to_file(path, options.verbose).map_err(local("cannot open the log file"))?
            }
            None => logging::to_stderr(options.verbose.max(1)),
        }
        return serve(&source, &options.source, &place, settings, None);
    }
    match background::split().map_err(local("cannot start a process"))? {
        Side::Starter(code) => Ok(code),
        Side::Server(readiness) => {
            match &log_file {
                Some(path) => {
                    logging::to_file(path, options.verbose).map_err(local("cannot open the log file"))?;
                }
                None => logging::to_system(options.verbose),
            }
            serve(&source, &options.source, &place, settings, Some(readiness))
        }
    }
}

/// Connects, attaches, and answers the kernel until the mount is gone.
fn serve(
    source: &Source,
    written: &str,
    place: &Path,
    settings: MountSettings,
    readiness: Option<Readiness>,
) -> Result<ExitCode, MountError> {
    logging::panics_to_log();
    let live: Arc<Mutex<Option<Arc<LiveMount>>>> = Arc::default();
    end_on_signal(&live)?;
    let vfs = Vfs::connect(source, vfs_config(&settings))?;
    let plan = Plan::new(&vfs, &settings);
    vfs.write_behind(plan.write_behind_bytes);

    // A signal from here on waits until there is something to unmount.
    let mut slot = live.lock();
    let label = settings.fsname.clone().unwrap_or_else(|| source_label(source, written));
    let device = attach::attach(place, &plan.attachment(&label, &settings))?;
    let entry = own_entry(place).map_err(local("cannot find the new mount"))?;
    let mount = Arc::new(LiveMount::new(entry.clone(), Arc::clone(&vfs)));
    *slot = Some(Arc::clone(&mount));
    drop(slot);

    let result = answer_kernel(&mount, &entry, &vfs, device, plan, readiness);
    if result.is_err() {
        abandon(&entry);
    }
    result
}

/// Answers the kernel until it lets go of the mount.
fn answer_kernel(
    mount: &Arc<LiveMount>,
    entry: &MountEntry,
    vfs: &Arc<Vfs>,
    device: OwnedFd,
    plan: Plan,
    readiness: Option<Readiness>,
) -> Result<ExitCode, MountError> {
    let filesystem = NearFs::new(Arc::clone(vfs), plan.wanted);
    let session = Session::from_fd(filesystem, device, plan.acl, plan.config);
    let session = session.map_err(local("the kernel and FUSE do not agree"))?;
    attach::raise_readahead(entry, READAHEAD_BYTES_MAX);
    let notifier = KernelNotifier::start(session.notifier()).map_err(local("cannot start a thread"))?;
    vfs.set_notifier(Box::new(move |invalidation, told| notifier.push(invalidation, told)));
    let control = open_control(entry, mount);
    if let Some(readiness) = readiness {
        readiness.tell().map_err(local("cannot go into the background"))?;
    }
    log::info!("{} is mounted on {}", entry.source, entry.mount_point.display());
    if let Err(error) = session.run() {
        log::error!("the mount ended: {error}");
    }
    Ok(end(mount, vfs, control, entry))
}

/// The kernel has let go: says good-bye to the server and tells whoever waits for it.
fn end(mount: &LiveMount, vfs: &Vfs, control: Option<ControlSocket>, entry: &MountEntry) -> ExitCode {
    if let Some(control) = &control {
        control.hide();
    }
    let lost = vfs.shutdown(SHUTDOWN_TIME_MAX);
    // If the connection was aborted, a dead mount is left behind. What somebody else serves is another one,
    // to which the kernel gave the same numbers in the meantime.
    if !control::is_served(entry) {
        abandon(entry);
    }
    let code = if mount.set_ended(lost) { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    if let Some(control) = control {
        control.drain(DRAIN_TIME_MAX);
    }
    code
}

/// Takes a mount away for which nobody would answer.
fn abandon(entry: &MountEntry) {
    if let Err(errno) = attach::detach(entry, true) {
        log::warn!("cannot unmount: {errno}");
    }
}

/// What the kind of server and the options come to.
struct Plan {
    flags: MountFlags,
    default_permissions: bool,
    wanted: Wanted,
    acl: SessionACL,
    max_read_bytes: Option<u32>,
    write_behind_bytes: u64,
    config: Config,
}

impl Plan {
    fn new(vfs: &Arc<Vfs>, settings: &MountSettings) -> Plan {
        let welcome = vfs.welcome();
        let passthrough = match welcome.identity {
            Identity::Passthrough => true,
            Identity::Squash { .. } => false,
        };
        // A server that acts as one user cannot know what others may do; the kernel can tell by the modes.
        let shared = settings.access != Access::Owner;
        let default_permissions = settings.default_permissions.unwrap_or(passthrough || shared);
        let read_only = if welcome.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        let is_far = vfs.is_measured_far();
        let mut config = Config::default();
        let threads = std::thread::available_parallelism().map_or(THREADS.0, usize::from);
        config.n_threads = Some(threads.clamp(THREADS.0, THREADS.1));
        // A clone of the device means opening it again, which fusermount3's users may not.
        config.clone_fd = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
        Plan {
            flags: settings.flags() | read_only,
            default_permissions,
            wanted: Wanted {
                local_lock: settings.vfs.local_lock,
                posix_acl: passthrough && default_permissions,
            },
            // The kernel itself turns strangers away, except that it does not know "only root".
            acl: match settings.access {
                Access::Root => SessionACL::RootAndOwner,
                Access::Owner | Access::Other => SessionACL::All,
            },
            // The kernel asks for the parts of a direct read one after the other.
            max_read_bytes: settings.max_read_bytes.or((!is_far).then_some(NEAR_READ_BYTES_MAX)),
            write_behind_bytes: settings.write_behind_bytes.unwrap_or(if is_far {
                BEHIND_BYTES_MAX
            } else {
                0
            }),
            config,
        }
    }

    fn attachment<'a>(&self, source: &'a str, settings: &MountSettings) -> Attachment<'a> {
        Attachment {
            source,
            flags: self.flags,
            access: settings.access,
            default_permissions: self.default_permissions,
            max_read_bytes: self.max_read_bytes,
        }
    }
}

/// Until there is a mount, a signal just ends the process; after that it unmounts, and a second one does
/// not wait for it.
fn end_on_signal(live: &Arc<Mutex<Option<Arc<LiveMount>>>>) -> Result<(), MountError> {
    let live = Arc::clone(live);
    let mut asked = false;
    let ended = move || {
        let mount = live.lock().clone();
        match mount.filter(|_| !asked) {
            Some(mount) => {
                asked = true;
                let spawned = std::thread::Builder::new().name("ending".into()).spawn(move || mount.end());
                if let Err(error) = spawned {
                    log::error!("cannot start a thread: {error}");
                }
            }
            None => std::process::exit(1),
        }
    };
    signals::on_ending_signal(ended).map_err(local("cannot watch for signals"))
}

/// Without its socket a mount works, but cannot be asked about.
fn open_control(entry: &MountEntry, mount: &Arc<LiveMount>) -> Option<ControlSocket> {
    let mount = Arc::clone(mount);
    ControlSocket::open(entry, move |ask| mount.answer(ask))
        .inspect_err(|error| log::warn!("no control socket, `nearfs status` will not work: {error}"))
        .ok()
}

fn own_entry(place: &Path) -> io::Result<MountEntry> {
    let entries = mountinfo::read()?;
    let entry = mountinfo::topmost_at(&entries, place).filter(|entry| entry.is_nearfs());
    entry.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn vfs_config(settings: &MountSettings) -> VfsConfig {
    let mut config = settings.vfs.clone();
    config.identity.own_uid = rustix::process::getuid().as_raw();
    config.identity.own_gid = rustix::process::getgid().as_raw();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    config.client_name = format!("{} (uid {})", host.trim(), config.identity.own_uid);
    config
}

/// The source in one spelling for the table of mounts.
fn source_label(source: &Source, written: &str) -> String {
    match source.address {
        Address::Tcp { .. } => {
            let mut label =
                format!("nearfs://{}/{}", source.address, String::from_utf8_lossy(&source.export));
            for name in &source.path {
                label.push('/');
                label.push_str(&name.to_string());
            }
            label
        }
        Address::Unix(_) | Address::Exec(_) => written.to_owned(),
    }
}

/// `-o remount`: what was not mentioned stays as it is.
fn remount(path: &Path, settings: &MountSettings) -> Result<ExitCode, MountError> {
    let place = mountinfo::resolve(path).map_err(local("cannot find the mount point"))?;
    let entry = own_entry(&place).map_err(local("nothing of nearfs is mounted there"))?;
    let of_mount = MountSettings::parse(&[&entry.options])?.set;
    let of_file_system = MountSettings::parse(&[&entry.super_options])?.set;
    let standing = of_mount | (of_file_system & (MountFlags::SYNCHRONOUS | MountFlags::DIRSYNC));
    let flags = (standing | settings.set) - settings.cleared;
    let result = attach::remount(&place, flags);
    result.map_err(|errno| MountError::Local { what: "cannot remount", error: errno.into() })?;
    Ok(ExitCode::SUCCESS)
}

/// The background process leaves the directory that a relative path counts from.
fn absolute(path: &Path) -> Result<PathBuf, MountError> {
    std::path::absolute(path).map_err(local("cannot find the log file"))
}

fn local(what: &'static str) -> impl Fn(io::Error) -> MountError {
    move |error| MountError::Local { what, error }
}
