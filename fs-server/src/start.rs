//! From the command line to a running server, and to its end.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use nearfs_protocol::greeting::Identity;
use nearfs_transport::listen::{ListenAddress, Listener};
use nearfs_transport::stream::Stream;
use rustix::process::{Resource, Rlimit, getegid, geteuid, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Timings};
use crate::descriptor::Descriptors;
use crate::export::OpenError;
use crate::journal::{AccessLog, Journal};
use crate::options::{IdentityOption, ServeOptions};
use crate::progress::Screen;
use crate::server::Server;
use crate::state::boot_id;
use crate::store::{StateError, Store, default_directories};
use crate::tree::Tree;

/// Exit code for what failed.
const FAILED: u8 = 1;
/// Exit code for options that make no sense together.
const USAGE: u8 = 2;
/// Most threads that run what does not sleep, beside one that is kept free for others while calls hang.
const WORKERS_MAX: usize = 16;
/// Most threads that sleep. What finds none waits for one: 16 sessions that hang with all their calls leave none.
const SLEEPERS_MAX: usize = 256;
/// One of so many descriptors may be a connection; most are for files.
const DESCRIPTORS_PER_CONNECTION: usize = 8;
/// Descriptors for everything else: listeners, the log, directories that are being made.
const DESCRIPTORS_SPARE: usize = 128;
/// What is assumed where the system sets no limit of descriptors.
const DESCRIPTORS_UNLIMITED: usize = 1 << 20;

/// Runs `nearfs serve` to its end. What goes wrong is one line on standard error.
pub fn run(options: &ServeOptions) -> ExitCode {
    close_inherited();
    let outcome = match refuse_usage(options) {
        Some(why) => Err((USAGE, anyhow!(why))),
        None => serve(options).map_err(|error| (FAILED, error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            eprintln!("nearfs: {error:#}");
            ExitCode::from(code)
        }
    }
}

/// What clap cannot know to be wrong.
fn refuse_usage(options: &ServeOptions) -> Option<String> {
    let exposed = options.listen.iter().find(|address| !address.is_local());
    match exposed {
        Some(address) if !options.insecure && !options.stdio => Some(format!(
            "{address} can be reached from the network, where nothing tells clients from others; \
             --insecure serves everybody"
        )),
        Some(_) | None if options.identity == IdentityOption::Passthrough && !geteuid().is_root() => {
            Some("--identity passthrough needs root".into())
        }
        Some(_) | None => None,
    }
}

fn serve(options: &ServeOptions) -> anyhow::Result<()> {
    let screen = if options.progress { Screen::open() } else { None };
    start_log(options, screen.clone())?;
    let journal = Arc::new(open_journal(options)?);
    let limit = raise_descriptor_limit();
    let connections_max = (limit / DESCRIPTORS_PER_CONNECTION).max(1);
    // Where there are few of them all have to do with less.
    let shared_out = limit.saturating_sub(connections_max + DESCRIPTORS_SPARE).max(limit / 2);
    let descriptors = Descriptors::new(shared_out);
    // Modes are what clients ask for, with their own mask.
    rustix::process::umask(rustix::fs::Mode::empty());
    let tree = Arc::new(open_tree(options, &descriptors)?);
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, WORKERS_MAX));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores + 1)
        .max_blocking_threads(SLEEPERS_MAX)
        .thread_name("nearfs-serve")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let store = open_store(options)?.map(Arc::new);
    let server = Server::new(Config {
        tree,
        store,
        insecure: options.insecure,
        sessions_max: options.max_clients as usize,
        connections_max,
        timings: Timings::default(),
        journal: journal.clone(),
    })?;
    server.keep_pulse(runtime.handle()).context("cannot start threads")?;
    if let Some(screen) = &screen {
        runtime.spawn(screen.clone().show(server.clone()));
    }
    let outcome = runtime.block_on(serve_until_told(options, &server, journal));
    // Calls that still sleep are left to their disks.
    runtime.shutdown_background();
    if let Some(screen) = screen {
        screen.clear();
    }
    outcome
}

async fn serve_until_told(
    options: &ServeOptions,
    server: &Server,
    journal: Arc<Journal>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    if options.access_log.is_some() {
        let mut hangup = signal(SignalKind::hangup()).context("cannot wait for signals")?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                journal.reopen();
            }
        });
    }
    let clock = server.clone();
    tokio::spawn(async move { clock.keep_time().await });
    let served = async {
        if options.stdio {
            server.connect(Stream::from_stdio()?).await;
            return Ok(());
        }
        listen(&options.listen, server)?;
        std::future::pending().await
    };
    let outcome = tokio::select! {
        outcome = served => outcome,
        _ = terminate.recv() => Ok(()),
        // A terminal's Ctrl-C is meant for whoever runs this as a command, and ends that if it wants to.
        _ = interrupt.recv(), if !options.stdio => Ok(()),
    };
    tell_service_manager(NotifyState::Stopping);
    server.stop().await;
    outcome
}

/// Begins to listen everywhere, and says so when clients can connect.
fn listen(addresses: &[ListenAddress], server: &Server) -> anyhow::Result<()> {
    let listeners = addresses.iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
    let mut out = io::stdout().lock();
    for listener in listeners {
        writeln!(out, "listening on {}", listener.local()).context("cannot write to standard output")?;
        log::info!("listening on {}", listener.local());
        let server = server.clone();
        tokio::spawn(async move { server.listen(listener).await });
    }
    out.flush().context("cannot write to standard output")?;
    tell_service_manager(NotifyState::Ready);
    Ok(())
}

fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("cannot notify the service manager: {error}");
    }
}

fn open_tree(options: &ServeOptions, descriptors: &Descriptors) -> anyhow::Result<Tree> {
    let directory = &options.directory;
    if options.create {
        create(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let identity = match options.identity {
        IdentityOption::Squash => Identity::Squash { uid: geteuid().as_raw(), gid: getegid().as_raw() },
        IdentityOption::Passthrough => Identity::Passthrough,
    };
    Tree::open(directory, identity, options.read_only, descriptors).map_err(|error| match error {
        OpenError::Missing(_) => anyhow!("{error}; --create makes it"),
        OpenError::NotADirectory(_) | OpenError::Refused { .. } => error.into(),
    })
}

/// Takes the state directory, if sessions are to be kept. One that was asked for must be usable.
fn open_store(options: &ServeOptions) -> anyhow::Result<Option<Store>> {
    let served = options.directory.canonicalize().context("cannot find the served directory")?;
    let boot = boot_id().context("cannot tell when the system was started")?;
    if let Some(directory) = &options.state_dir {
        return Ok(Some(Store::open(directory, &served, boot)?));
    }
    // Nobody finds a server again that is at other ends of a pipe, or at another port each time.
    let is_found_again = |address: &ListenAddress| match address {
        ListenAddress::Tcp(address) => address.port() != 0,
        ListenAddress::Unix(_) => true,
    };
    if options.stdio || !options.listen.iter().any(is_found_again) {
        return Ok(None);
    }
    let addresses: Vec<String> = options.listen.iter().map(ListenAddress::to_string).collect();
    let mut why = "every place for it would be in the served directory".to_owned();
    for directory in default_directories(&served, &addresses) {
        match Store::open(&directory, &served, boot) {
            Ok(store) => return Ok(Some(store)),
            // One that is there and cannot be used is told, rather than to serve on without what it has.
            Err(error @ (StateError::InUse(_) | StateError::Foreign(_) | StateError::NotOurs(_))) => {
                return Err(error.into());
            }
            Err(error @ (StateError::Served(_) | StateError::Io { .. })) => why = error.to_string(),
        }
    }
    log::warn!("mounts will not survive a restart of the server: {why}; --state-dir names a place");
    Ok(None)
}

/// Makes a directory that only its owner may enter, and those above it.
fn create(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // Something else of that name is reported when it is opened.
    if directory.exists() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)
}

fn start_log(options: &ServeOptions, screen: Option<Screen>) -> anyhow::Result<()> {
    let level = match options.verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let mut log = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    if let Some(path) = &options.log_file {
        let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o640).open(path);
        let file = file.with_context(|| format!("cannot write the log to {}", path.display()))?;
        log.target(env_logger::Target::Pipe(Box::new(file)));
    } else if let Some(screen) = screen {
        log.target(env_logger::Target::Pipe(Box::new(screen)));
    }
    // It fails only when the program has set up a log before, which then is used.
    let _ = log.try_init();
    Ok(())
}

fn open_journal(options: &ServeOptions) -> anyhow::Result<Journal> {
    let Some(path) = &options.access_log else { return Ok(Journal::default()) };
    let access = AccessLog::open(path);
    let access = access.with_context(|| format!("cannot write the access log to {}", path.display()))?;
    Ok(Journal::with_access_log(access))
}

/// Closes what the caller left open by mistake: a server must not keep its lock files and pipes.
fn close_inherited() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: called before anything was opened, so that nobody uses or owns what is closed.
    unsafe {
        libc::close_range(FIRST, libc::c_uint::MAX, 0);
    }
}

/// Takes all the descriptors that the system grants. How many there are.
fn raise_descriptor_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or(DESCRIPTORS_UNLIMITED).min(DESCRIPTORS_UNLIMITED)
}
