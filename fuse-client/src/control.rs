//! The socket of a running mount, by which `nearfs status` and `nearfs umount` talk to it.
//!
//! One request a connection: a line of JSON there, a line of JSON back. It answers whatever has become of the server:
//! only the question who is connected to that waits for it, within a bound. The socket lies in a directory that only the
//! mount's owner may enter, under the number of the mount's device and that of its process: the kernel gives
//! a device's number to the next mount while the process of the last one is still about to end.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nearfs_protocol::roster::SessionReport;
use serde::{Deserialize, Serialize};

use crate::mountinfo::MountEntry;
use crate::status::StatusReport;

/// Most bytes of a request or an answer.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most connections that are served at once; further ones wait.
const CONNECTIONS_MAX: usize = 8;
/// Longest wait for a request once a connection stands.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(2);

/// What can be asked of a running mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// How it is.
    Status,
    /// Who else is connected to its server.
    Sessions,
    /// To unmount and end.
    Unmount(HowToUnmount),
}

/// What becomes of programs that use a mount when it shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HowToUnmount {
    /// They keep it.
    UnlessBusy,
    /// It goes out of sight at once, and ends when they are done.
    Lazily,
    /// They get errors.
    ByForce,
}

/// What a running mount answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// How it is.
    Status(Box<StatusReport>),
    /// Who is connected to its server.
    Sessions(Vec<SessionReport>),
    /// It is out of sight, and ends when its last user is done.
    Detached,
    /// It has ended; what was lost, one line each.
    Unmounted { lost: Vec<String> },
    /// Something uses it.
    Busy,
    /// It could not.
    Failed { reason: String },
}

/// The socket of this process's mount.
pub(crate) struct ControlSocket {
    path: PathBuf,
    connections: Arc<AtomicUsize>,
}

impl ControlSocket {
    /// Answers from here on, on a thread of its own.
    pub(crate) fn open(
        entry: &MountEntry,
        answer: impl Fn(Ask) -> Answer + Send + Sync + 'static,
    ) -> io::Result<ControlSocket> {
        let uid = rustix::process::getuid().as_raw();
        let directory = own_directory(uid)?;
        remove_stale(&directory, entry);
        let path = directory.join(format!("{}{}.sock", socket_prefix(entry), std::process::id()));
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let name = "control".to_owned();
        thread::Builder::new().name(name).spawn(move || serve(&listener, &Arc::new(answer), &count))?;
        Ok(ControlSocket { path, connections })
    }

    /// The mount is gone: nobody new shall find this socket.
    pub(crate) fn hide(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("{} stays: {error}", self.path.display());
        }
    }

    /// Waits until everyone has the answer that is being given, at most so long.
    pub(crate) fn drain(&self, within: Duration) {
        let deadline = Instant::now() + within;
        while self.connections.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Asks a mount and waits at most so long for its answer.
pub(crate) fn ask(entry: &MountEntry, ask: Ask, within: Duration) -> io::Result<Answer> {
    let mut stream = connect(entry)?;
    stream.set_write_timeout(Some(within))?;
    stream.set_read_timeout(Some(within))?;
    writeln!(stream, "{}", serde_json::to_string(&ask)?)?;
    Ok(serde_json::from_str(&read_line(&stream)?)?)
}

/// Whether a process serves the mount, be it frozen.
pub(crate) fn is_served(entry: &MountEntry) -> bool {
    connect(entry).is_ok()
}

/// The process that serves the mount, if it belongs to the mount's owner.
pub(crate) fn serving_process(entry: &MountEntry) -> Option<rustix::process::Pid> {
    let peer = rustix::net::sockopt::socket_peercred(connect(entry).ok()?).ok()?;
    (Some(peer.uid.as_raw()) == entry.owner_uid()).then_some(peer.pid)
}

/// The newest process that answers for the device.
fn connect(entry: &MountEntry) -> io::Result<UnixStream> {
    let uid = entry.owner_uid().ok_or(io::ErrorKind::NotFound)?;
    let own = |directory: &PathBuf| directory.metadata().is_ok_and(|metadata| metadata.uid() == uid);
    let directories = directories(uid).into_iter().filter(own);
    let mut sockets: Vec<_> = directories.flat_map(|directory| sockets(&directory, entry)).collect();
    sockets.sort_by_key(|socket| socket.metadata().and_then(|metadata| metadata.modified()).ok());
    let connected = sockets.iter().rev().find_map(|socket| UnixStream::connect(socket).ok());
    connected.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Processes that were killed leave their sockets behind.
fn remove_stale(directory: &Path, entry: &MountEntry) {
    for socket in sockets(directory, entry) {
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if UnixStream::connect(&socket).is_err_and(refused) {
            let removed = fs::remove_file(&socket);
            log::debug!("{} was left behind: {removed:?}", socket.display());
        }
    }
}

fn sockets(directory: &Path, entry: &MountEntry) -> Vec<PathBuf> {
    let prefix = socket_prefix(entry);
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let ours = files.filter(|file| file.file_name().to_string_lossy().starts_with(&prefix));
    ours.map(|file| file.path()).collect()
}

fn serve(
    listener: &UnixListener,
    answer: &Arc<impl Fn(Ask) -> Answer + Send + Sync + 'static>,
    count: &Arc<AtomicUsize>,
) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("control socket: {error}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        while count.load(Ordering::Acquire) >= CONNECTIONS_MAX {
            thread::sleep(Duration::from_millis(10));
        }
        let (answer, counted) = (Arc::clone(answer), Counted::new(count));
        let spawned = thread::Builder::new().name("control".into()).spawn(move || {
            if let Err(error) = converse(&stream, answer.as_ref()) {
                log::debug!("control socket: {error}");
            }
            drop(counted);
        });
        if let Err(error) = spawned {
            log::warn!("control socket: {error}");
        }
    }
}

fn converse(mut stream: &UnixStream, answer: &impl Fn(Ask) -> Answer) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIME_MAX))?;
    stream.set_write_timeout(Some(REQUEST_TIME_MAX))?;
    let ask = serde_json::from_str(&read_line(stream)?)?;
    let mut line = serde_json::to_string(&answer(ask))?;
    if line.len() as u64 >= LINE_BYTES_MAX {
        let reason = "there is too much to tell of; ask the server itself".to_owned();
        line = serde_json::to_string(&Answer::Failed { reason })?;
    }
    writeln!(stream, "{line}")
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    Ok(line)
}

/// One connection that is being served.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn socket_prefix(entry: &MountEntry) -> String {
    let (major, minor) = entry.device;
    format!("mount-{major}-{minor}-")
}

/// Where the sockets of a user's mounts may be.
fn directories(uid: u32) -> Vec<PathBuf> {
    if uid == 0 {
        return vec!["/run/nearfs".into()];
    }
    vec![format!("/run/user/{uid}/nearfs").into(), format!("/tmp/nearfs-{uid}").into()]
}

/// Makes the first of them that can be made, for its owner alone.
fn own_directory(uid: u32) -> io::Result<PathBuf> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for directory in directories(uid) {
        result = make_private(&directory, uid).map(|()| directory);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn make_private(directory: &Path, uid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = directory.symlink_metadata()?;
    let private = metadata.is_dir() && metadata.uid() == uid && metadata.mode() & 0o077 == 0;
    private.then_some(()).ok_or_else(|| io::ErrorKind::PermissionDenied.into())
}
