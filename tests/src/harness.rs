//! A server, clients and mounts of it for a test: everything ends with the test, and nothing waits without a bound.
//!
//! A [`World`] is a directory with a server on it; what it gives out keeps it alive. The server and the mounts are
//! the program `nearfs` as people run it, so that they can be measured and killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // It serves tests, which fail by panicking.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nearfs_client::config::VfsConfig;
use nearfs_client::vfs::Vfs;
use serde_json::Value;

use crate::proxy::{FaultProxy, Way};

/// Longest time for something that should come at once.
pub const PROMPT: Duration = Duration::from_secs(20);
/// Longest time for the program to be built.
const BUILD_TIME_MAX: Duration = Duration::from_secs(900);

/// Whether mounts can be made here at all; says so if not.
pub fn can_mount() -> bool {
    let can = Path::new("/dev/fuse").exists() && rustix::process::geteuid().is_root();
    if !can {
        eprintln!("SKIPPED: mounting needs root and /dev/fuse");
        return false;
    }
    // It may have to be built first, which is not to count as the time of a test.
    program();
    true
}

/// The program under test: the one that `NEARFS_PROGRAM` names, else the workspace's own, brought up to date.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("NEARFS_PROGRAM").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    // A test's own program lies in target/PROFILE/deps.
    let own = std::env::current_exe().unwrap();
    let directory = own.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "nearfs", "--bin", "nearfs"]);
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    run_within(cargo.current_dir(env!("CARGO_MANIFEST_DIR")), BUILD_TIME_MAX);
    directory.join("nearfs")
}

/// An address that nobody else uses, at which a server can be started again and again. A port of 127.0.0.1 that was free
/// a moment ago may be another process' by then, if only as the end of a connection.
pub fn own_address() -> SocketAddr {
    static LAST_PORT: AtomicU16 = AtomicU16::new(20_000);
    // Numbers of processes have up to 22 bits.
    let [high, middle, low] = [16, 8, 0].map(|shift| (std::process::id() >> shift) as u8);
    let port = LAST_PORT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, high | 0x40, middle, low], port))
}

/// A directory with a server on it.
pub struct World {
    ground: Arc<Ground>,
}

/// What lasts as long as anything that stands on it.
struct Ground {
    server: Server,
    directory: tempfile::TempDir,
}

impl World {
    /// A server that acts as its own user.
    pub fn new() -> World {
        World::with(&[])
    }

    /// A server with further options.
    pub fn with(options: &[&str]) -> World {
        World::with_user(0, options)
    }

    /// A server that runs as this user, to whom the served directory belongs.
    pub fn with_user(uid: u32, options: &[&str]) -> World {
        let directory = tempfile::Builder::new().prefix("nearfs-test-").tempdir().unwrap();
        // Other users shall get to the export and the mounts.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let export = directory.path().join("export");
        fs::create_dir(&export).unwrap();
        std::os::unix::fs::chown(&export, Some(uid), Some(uid)).unwrap();
        let server = Server::start(&export, uid, options);
        World { ground: Arc::new(Ground { server, directory }) }
    }

    /// The served directory itself.
    pub fn export(&self) -> PathBuf {
        self.ground.directory.path().join("export")
    }

    /// A directory beside it, made new.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.ground.directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.ground.server
    }

    /// A client of its own, without a mount.
    pub fn client(&self, config: VfsConfig) -> Arc<Vfs> {
        Vfs::connect(&format!("nearfs://{}/", self.server().address).parse().unwrap(), config).unwrap()
    }

    /// A mount in a directory of this name, with the words of `-o`.
    #[track_caller]
    pub fn mount(&self, name: &str, options: &str) -> Mount {
        self.mount_through(&self.server().address, name, options)
    }

    /// Mounts the server over a link that delays everything by so much each way.
    #[track_caller]
    pub fn mount_far(&self, delay: Duration, options: &str) -> (FaultProxy, Mount) {
        let target: SocketAddr = self.server().address.parse().unwrap();
        let proxy = FaultProxy::start(target).unwrap();
        proxy.set_delay(&[Way::Up, Way::Down], delay);
        let mount = self.mount_through(&proxy.endpoint().to_string(), "far", options);
        (proxy, mount)
    }

    /// The same by another address, which leads to the server. Unless told otherwise, programs wait for their writes as where
    /// the server is near, however slow this machine is.
    #[track_caller]
    pub fn mount_through(&self, address: &str, name: &str, options: &str) -> Mount {
        let place = self.directory(name);
        let mut command = Command::new(program());
        command.arg("mount").arg(format!("nearfs://{address}/")).arg(&place);
        command.args(["-o", &format!("write_behind=0,{options}")]);
        command.arg("--log-file").arg(self.ground.directory.path().join(format!("{name}.log")));
        run_within(&mut command, PROMPT);
        Mount { place, ground: Arc::clone(&self.ground) }
    }
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}

/// A running server.
pub struct Server {
    companion: Companion,
    /// Where it listens.
    pub address: String,
}

impl Server {
    fn start(export: &Path, uid: u32, options: &[&str]) -> Server {
        let mut command = Command::new(program());
        if uid != 0 {
            command.uid(uid).gid(uid);
        }
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(options).arg(export);
        let companion = Companion::start(&mut command);
        let address =
            companion.line().strip_prefix("listening on ").expect("it says where it listens").to_owned();
        Server { companion, address }
    }

    /// Its process.
    pub fn companion(&self) -> &Companion {
        &self.companion
    }
}

/// A mount of the served directory.
pub struct Mount {
    place: PathBuf,
    ground: Arc<Ground>,
}

impl Mount {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// A path in it.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.place.join(path)
    }

    /// What `nearfs status --json` says of it.
    #[track_caller]
    pub fn status(&self) -> Value {
        let mut command = Command::new(program());
        command.args(["status", "--json"]).arg(&self.place);
        serde_json::from_slice(&run_within(&mut command, PROMPT)).unwrap()
    }

    /// Requests of this kind that it has sent.
    #[track_caller]
    pub fn sent(&self, kind: &str) -> u64 {
        self.status()["requests_sent"]["by_kind"][kind].as_u64().unwrap_or(0)
    }

    /// The process that serves it.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        u32::try_from(self.status()["pid"].as_u64().unwrap()).unwrap()
    }

    /// Unmounts as people do.
    #[track_caller]
    pub fn unmount(self) {
        run_within(Command::new(program()).arg("umount").arg(&self.place), PROMPT);
        assert!(!is_mounted(&self.place));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A stopped server would only make it slower.
        self.ground.server.companion.signal(libc::SIGCONT);
        if is_mounted(&self.place) {
            let mut command = Command::new(program());
            let _ = end_within(command.args(["umount", "--force"]).arg(&self.place), PROMPT);
        }
        if is_mounted(&self.place) {
            let _ = rustix::mount::unmount(&self.place, rustix::mount::UnmountFlags::DETACH);
            assert!(thread::panicking(), "{} could not be unmounted", self.place.display());
        }
    }
}

/// Whether something is mounted there, found without touching it.
pub fn is_mounted(place: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == place.to_str())
}

/// A process of the test's own, killed in the end.
pub struct Companion {
    child: parking_lot::Mutex<Child>,
    pid: u32,
    lines: parking_lot::Mutex<std::sync::mpsc::Receiver<String>>,
    stdin: parking_lot::Mutex<Option<ChildStdin>>,
}

impl Companion {
    /// Starts a command, in a process group of its own.
    pub fn start(command: &mut Command) -> Companion {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().unwrap();
        let stdin = child.stdin.take();
        let (sender, lines) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more when the test is over.
                let _ = sender.send(line);
            }
        });
        let pid = child.id();
        Companion { child: child.into(), pid, lines: lines.into(), stdin: stdin.into() }
    }

    /// Starts the program that does to files what it is told.
    pub fn actor(actor: &str, words: &[&str], file: &Path) -> Companion {
        Companion::start(Command::new(actor).args(words).arg(file))
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The next line that it prints.
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.lock().recv_timeout(PROMPT).expect("the process prints a line")
    }

    /// Whether it prints a line in this time.
    pub fn prints_within(&self, time: Duration) -> bool {
        self.lines.lock().recv_timeout(time).is_ok()
    }

    /// Says a line to it.
    pub fn say(&self, line: &str) {
        let mut stdin = self.stdin.lock();
        writeln!(stdin.as_mut().expect("its input is open"), "{line}").unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for, so that its id is still its own.
        unsafe { libc::kill(self.pid.cast_signed(), signal) };
    }

    /// Stops it until it gets SIGCONT. No thread of it runs any more when this returns.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
        let stopped = |task: &fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        };
        let tasks = || fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        assert!(holds_within(PROMPT, || tasks().all(|task| stopped(&task.unwrap()))));
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&self) -> ExitStatus {
        drop(self.stdin.lock().take());
        let ended = wait_for(PROMPT * 3, || self.child.lock().try_wait().unwrap());
        ended.unwrap_or_else(|| panic!("process {} does not end", self.pid))
    }

    /// A line of its `/proc/PID/status` that holds a number, as of `VmRSS` in KiB.
    pub fn status_number(&self, field: &str) -> u64 {
        status_number(self.pid, field)
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap().count()
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let mut child = self.child.lock();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A line of `/proc/PID/status` that holds a number.
pub fn status_number(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// Runs a command that must succeed in this time. What it printed.
#[track_caller]
pub fn run_within(command: &mut Command, time: Duration) -> Vec<u8> {
    let (status, out, err) = end_within(command, time);
    assert!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&err));
    out
}

/// Runs a command to its end; one that takes too long is killed and fails the test.
#[track_caller]
pub fn end_within(command: &mut Command, time: Duration) -> (ExitStatus, Vec<u8>, Vec<u8>) {
    // Files, because a daemon may keep what it inherited, and a pipe would stay open with it.
    let (out, err) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let file = |file: &tempfile::NamedTempFile| File::options().append(true).open(file.path()).unwrap();
    command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let Some(status) = wait_for(time, || child.try_wait().unwrap()) else {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("{command:?} took longer than {time:?}");
    };
    (status, fs::read(out.path()).unwrap(), fs::read(err.path()).unwrap())
}

/// Asks again until there is an answer or the time is over.
pub fn wait_for<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether it comes true in this time.
pub fn holds_within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    wait_for(time, || condition().then_some(())).is_some()
}

/// Ends the test program if a test hangs on a mount, so that the run ends by itself. Returned guard stops it.
pub fn watchdog(time: Duration) -> Watchdog {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    thread::spawn(move || {
        if receiver.recv_timeout(time) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("the test takes longer than {time:?}: it hangs");
            std::process::abort();
        }
    });
    Watchdog { _stop: sender }
}

/// Stops the watchdog when it is dropped.
pub struct Watchdog {
    _stop: std::sync::mpsc::Sender<()>,
}
