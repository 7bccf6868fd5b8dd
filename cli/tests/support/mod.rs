//! What the tests of the program share: a server, mounts of it, commands with a bound on their time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time for a command that does not wait for anything.
pub const PROMPT: Duration = Duration::from_secs(20);

/// The program under test.
pub fn nearfs() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nearfs"))
}

/// Whether mounts can be made here at all; says so if not.
pub fn can_mount() -> bool {
    let can = Path::new("/dev/fuse").exists() && is_root();
    if !can {
        eprintln!("SKIPPED: mounting needs root and /dev/fuse");
    }
    can
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Ended {
    #[track_caller]
    pub fn succeeded(self) -> Ended {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Failed with this code and one line that begins with the program's name and has these words.
    #[track_caller]
    pub fn refused(self, code: i32, words: &str) -> Ended {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(self.err.starts_with("nearfs: ") && self.err.contains(words), "{words:?} is not in {self:?}");
        self
    }
}

/// Runs a command to its end; one that takes too long is killed and fails the test.
#[track_caller]
pub fn run_within(command: &mut Command, time: Duration) -> Ended {
    let began = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let readers = [reader(child.stdout.take().unwrap()), reader(child.stderr.take().unwrap())];
    let status = match wait_for(time, || child.try_wait().unwrap()) {
        Some(status) => status,
        None => {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} took longer than {time:?}");
        }
    };
    let took = began.elapsed();
    let [out, err] = readers.map(|reader| reader.join().unwrap());
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ended { code, out, err, took }
}

#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    run_within(command, PROMPT)
}

fn reader(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
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
        thread::sleep(Duration::from_millis(10));
    }
}

/// A directory with a server on it and room for mount points; everything ends with it.
pub struct World {
    pub directory: tempfile::TempDir,
    pub server: Server,
}

impl World {
    pub fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let export = directory.path().join("export");
        fs::create_dir(&export).unwrap();
        World { server: Server::start(&mut nearfs(), &export), directory }
    }

    pub fn export(&self) -> PathBuf {
        self.directory.path().join("export")
    }

    /// An empty directory to mount on.
    pub fn place(&self, name: &str) -> PathBuf {
        let place = self.directory.path().join(name);
        fs::create_dir_all(&place).unwrap();
        place
    }

    pub fn source(&self) -> String {
        format!("nearfs://{}/", self.server.address)
    }

    /// `nearfs mount` of the export.
    pub fn mount_command(&self, place: &Path, options: &[&str]) -> Command {
        let mut command = nearfs();
        command.arg("mount").args(options).arg(self.source()).arg(place);
        command
    }

    #[track_caller]
    pub fn mount(&self, name: &str, options: &[&str]) -> Mounted {
        let place = self.place(name);
        run(&mut self.mount_command(&place, options)).succeeded();
        Mounted { place }
    }
}

/// A running server.
pub struct Server {
    pub child: Child,
    pub address: String,
}

impl Server {
    /// Starts `nearfs serve` by this command, which may have words before its own.
    #[track_caller]
    pub fn start(command: &mut Command, export: &Path) -> Server {
        Server::start_with(command, export, &[])
    }

    /// The same with further options.
    #[track_caller]
    pub fn start_with(command: &mut Command, export: &Path, options: &[&str]) -> Server {
        Server::begin(command, export, &[&["--listen", "127.0.0.1:0"], options].concat())
    }

    /// The same on this address.
    #[track_caller]
    pub fn start_on(command: &mut Command, export: &Path, listen: &str) -> Server {
        Server::begin(command, export, &["--listen", listen])
    }

    #[track_caller]
    fn begin(command: &mut Command, export: &Path, options: &[&str]) -> Server {
        let listening = export.with_extension("listening");
        let out = fs::File::create(&listening).unwrap();
        command.arg("serve").args(options).arg(export);
        let child = command.stdin(Stdio::null()).stdout(out).spawn().unwrap();
        let address = wait_for(PROMPT, || {
            let text = fs::read_to_string(&listening).unwrap();
            text.lines().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
        });
        Server { child, address: address.expect("the server listens") }
    }

    pub fn signal(&self, signal: &str) {
        send_signal(self.child.id(), signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal("CONT");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mount; unmounted in the end, whatever the test did.
pub struct Mounted {
    pub place: PathBuf,
}

impl Mounted {
    /// The fields of `nearfs status --json`.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let ended = run(nearfs().args(["status", "--json"]).arg(&self.place)).succeeded();
        serde_json::from_str(&ended.out).unwrap()
    }

    /// The process that serves it.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        u32::try_from(self.status()["pid"].as_u64().unwrap()).unwrap()
    }

    pub fn umount_command(&self, options: &[&str]) -> Command {
        let mut command = nearfs();
        command.arg("umount").args(options).arg(&self.place);
        command
    }

    pub fn is_mounted(&self) -> bool {
        is_mounted(&self.place)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        while is_mounted(&self.place) {
            let ended = run(&mut self.umount_command(&["--force"]));
            if is_mounted(&self.place) && !thread::panicking() {
                panic!("cannot unmount: {ended:?}");
            }
            if is_mounted(&self.place) {
                break;
            }
        }
    }
}

/// Whether something is mounted there, found without touching it.
pub fn is_mounted(place: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == place.to_str())
}

pub fn send_signal(pid: u32, signal: &str) {
    Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap();
}

/// Whether a process is there, other than as a zombie.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[track_caller]
pub fn assert_gone(pid: u32) {
    let gone = wait_for(Duration::from_secs(5), || (!is_running(pid)).then_some(()));
    assert!(gone.is_some(), "process {pid} is still there");
}

/// A process of the test, killed in the end.
pub struct Companion(pub Child);

impl Companion {
    pub fn start(command: &mut Command) -> Companion {
        Companion(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
