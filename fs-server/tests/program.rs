//! The program: what it says, how it ends, and what it leaves behind.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nearfs_protocol::codec::{FrameKind, decode_control};
use nearfs_protocol::greeting::{Hello, SessionWish, Welcome};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::Push;
use nearfs_protocol::version::{Features, SPOKEN};
use nearfs_transport::address::{Address, Source};
use nearfs_transport::dial::dial;
use nearfs_transport::frame::{FrameReader, FrameWriter, ReceiveError};
use nearfs_transport::link::{Link, LinkReader};
use nearfs_transport::pool::Pool;
use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fs-server");
const SOON: Duration = Duration::from_secs(10);

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A server that is killed when the test is over.
struct Running {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }

    /// The address of its next line.
    fn listening_on(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).trim_end().into()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its exit code, which comes soon.
    fn exit_code(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < SOON, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn greet(link: &Link) -> FrameReader<LinkReader> {
    link.set_read_timeout(Some(SOON)).unwrap();
    let hello = Hello {
        versions: SPOKEN,
        features: Features::all(),
        session: SessionWish::New { export: vec![], path: vec![] },
        client: "program test".into(),
    };
    let mut writer = FrameWriter::new(link.writer());
    writer.send(FrameKind::Hello, RequestId(0), &hello, b"").unwrap();
    let mut reader = FrameReader::new(link.reader(), Pool::new(0));
    let frame = reader.next_frame().unwrap();
    assert_eq!(frame.header.kind, FrameKind::Welcome);
    decode_control::<Welcome>(frame.control).unwrap();
    reader
}

fn connect(source: &str) -> Link {
    let source: Source = source.parse().unwrap();
    dial(&source.address, SOON).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn it_listens_everywhere_and_ends_cleanly() {
    let directory = tempfile::tempdir().unwrap();
    let export = directory.path().join("new/export");
    let socket = format!("unix:{}", text(&directory.path().join("socket")));
    let arguments = ["--listen", "127.0.0.1:0", "--listen", &socket, "--create", text(&export)];
    let mut running = Running::start(&arguments);
    let tcp = running.listening_on();
    assert_eq!(running.listening_on(), socket);
    let links = [connect(&format!("nearfs://{tcp}")), connect(&socket)];
    for (link, signal) in links.iter().zip([Signal::TERM, Signal::INT]) {
        let mut reader = greet(link);
        if signal == Signal::INT {
            kill_process(running.pid(), signal).unwrap();
            let frame = reader.next_frame().unwrap();
            assert_eq!(frame.header.kind, FrameKind::Push);
            assert_eq!(decode_control(frame.control), Ok(Push::Stopping));
            assert!(matches!(reader.next_frame(), Err(ReceiveError::Closed)));
        }
    }
    assert_eq!(running.exit_code(), Some(0));
    assert!(!directory.path().join("socket").exists());
}

#[test]
fn it_ends_on_sigterm_without_clients() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&["--listen", "127.0.0.1:0", text(directory.path())]);
    running.listening_on();
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn what_cannot_be_served_is_said_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut other = Running::start(&["--listen", "127.0.0.1:0", text(directory.path())]);
    let taken = other.listening_on();
    let here = text(directory.path());
    let missing = format!("{here}/missing");
    for (arguments, code, words) in [
        (&[missing.as_str()][..], 1, "--create makes it"),
        (&[text(&file)], 1, "is not a directory"),
        (&["--create", text(&file)], 1, "is not a directory"),
        (&["--listen", &taken, here], 1, "in use"),
        (&["--listen", "192.0.2.1:0", "--insecure", here], 1, "no address of this machine"),
        (&["--listen", "0.0.0.0:0", here], 2, "--insecure"),
        (&["--log-file", "/no/such/directory/log", here], 1, "/no/such/directory/log"),
    ] {
        let output = run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.starts_with("nearfs: ") && said.contains(words), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
    }
    for arguments in
        [&[][..], &["--bogus", here], &["--listen", "nowhere at all", here], &["--max-clients", "0", here]]
    {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn it_speaks_over_standard_streams_and_ends_with_its_client() {
    let directory = tempfile::tempdir().unwrap();
    let words = [PROGRAM, "--stdio", text(directory.path())];
    let through_a_socket = dial(&Address::Exec(words.map(String::from).into()), SOON).unwrap();
    greet(&through_a_socket);
    let piped = format!("cat | {PROGRAM} --stdio {} | cat", text(directory.path()));
    let through_pipes = dial(&Address::Exec(vec!["sh".into(), "-c".into(), piped]), SOON).unwrap();
    greet(&through_pipes);
    through_pipes.writer().finish().unwrap();
    let mut rest = Vec::new();
    through_pipes.reader().read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn standard_streams_that_are_files_are_refused() {
    let output = run(&["--stdio", "/tmp"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("neither pipes nor a socket"));
}

#[test]
fn it_keeps_nothing_that_it_inherited() {
    let directory = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(directory.path().join("lock")).unwrap();
    rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty()).unwrap();
    let mut running = Running::start(&["--listen", "127.0.0.1:0", text(directory.path())]);
    running.listening_on();
    let descriptors = format!("/proc/{}/fd", running.child.id());
    for entry in std::fs::read_dir(&descriptors).unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert!(!target.ends_with("lock"), "{target:?} (ours is {})", lock.as_raw_fd());
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.child.id())).unwrap();
    let files: Vec<_> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4]);
}
