//! The program: what it says, how it ends, and what it leaves behind.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nearfs_protocol::codec::{FrameKind, decode_control};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::{Hello, SessionWish, Welcome};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::message::{Answer, Call, Caller, Push, RenameMode, Reply, Request, WriteAt, WriteSync};
use nearfs_protocol::name::Name;
use nearfs_protocol::roster::{TransferKind, TransferOutcome};
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
        Running::start_by(Command::new(PROGRAM).args(arguments))
    }

    fn start_by(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
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
    begin(link).0
}

fn begin(link: &Link) -> (FrameReader<LinkReader>, Welcome) {
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
    let welcome = decode_control(frame.control).unwrap();
    reader.admit();
    (reader, welcome)
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
fn a_handful_of_descriptors_is_enough_for_a_few_clients() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--nofile=80:80", PROGRAM, "--listen", "127.0.0.1:0", text(directory.path())];
    let mut running = Running::start_by(Command::new("prlimit").args(arguments));
    let address = running.listening_on();
    let links = [(); 4].map(|()| connect(&format!("nearfs://{address}")));
    let greeted = links.each_ref().map(greet);
    drop(greeted);
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.exit_code(), Some(0));
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

/// The events in an access log, each without its time and what differs from run to run.
fn events(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let event = |line: &str| {
        let (time, event) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.len() == "2026-11-25T04:00:00.123Z".len(), "{line}");
        let words =
            event.split(' ').filter(|word| !["peer=", "uid=", "ms="].iter().any(|key| word.starts_with(key)));
        words.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(event).collect()
}

#[test]
fn the_access_log_tells_what_shells_did_and_forgets_no_line() {
    let directory = tempfile::tempdir().unwrap();
    let (log, export) = (directory.path().join("access"), directory.path().join("export"));
    let arguments = ["--listen", "127.0.0.1:0", "--create", "--access-log", text(&log), text(&export)];
    let mut running = Running::start(&arguments);
    let link = connect(&format!("nearfs://{}", running.listening_on()));
    let (mut reader, welcome) = begin(&link);
    let parent = welcome.root.node;
    let mut sequence = 0;
    let mut ask = |request: Request| -> Answer {
        sequence += 1;
        let call = Call { caller: Caller::default(), request };
        let mut writer = FrameWriter::new(link.writer());
        writer.send(FrameKind::Call, RequestId::new(0, sequence), &call, b"").unwrap();
        decode_control(reader.next_frame().unwrap().control).unwrap()
    };
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    let make = |text: &str| Request::MakeDir { parent, name: name(text), mode: 0o755, umask: 0 };
    ask(make("a\nb")).unwrap();
    ask(make("a\nb")).unwrap_err();
    ask(Request::Lookup { parent, name: name("absent"), also_open: None }).unwrap_err();
    let failure = "/absent: no such file\n\u{1b}[2J".to_owned() + &"x".repeat(2000);
    ask(Request::Report { verb: "ls".into(), failure: failure.clone() }).unwrap();
    let (kind, total_bytes) = (TransferKind::Upload, 9);
    let announce = Request::Announce { kind, parent, name: name("tree"), total_bytes, fh: None };
    let Ok(Reply::Announced(transfer)) = ask(announce) else { panic!("not announced") };
    ask(make("part of it")).unwrap();
    std::fs::rename(&log, directory.path().join("access.1")).unwrap();
    kill_process(running.pid(), Signal::HUP).unwrap();
    let begun = Instant::now();
    while !log.exists() {
        assert!(begun.elapsed() < SOON, "it is not opened again");
        std::thread::sleep(Duration::from_millis(5));
    }
    ask(Request::EndTransfer { transfer, outcome: TransferOutcome::Done }).unwrap();
    let moved = Request::Rename {
        parent,
        name: name("a\nb"),
        new_parent: parent,
        new_name: name("c"),
        mode: RenameMode::Replace,
    };
    ask(moved).unwrap();
    link.writer().finish().unwrap();
    let client = r#"session=1 client="program test""#;
    let by = "session=1 transfer=1 client=\"program test (127.0.0.1:";
    let begun = Instant::now();
    while events(&log).len() < 3 {
        assert!(begun.elapsed() < SOON, "{:?}", events(&log));
        std::thread::sleep(Duration::from_millis(5));
    }
    let early = events(&directory.path().join("access.1"));
    let told = failure[..1024].escape_debug();
    assert_eq!(
        early[..4],
        [
            format!("connect {client} active=1"),
            format!(r#"mkdir {client} path="a\nb" outcome="done""#),
            format!(r#"mkdir {client} path="a\nb" outcome="{}""#, Errno::EEXIST),
            format!(r#"report {client} verb="ls" failure="{told}""#),
        ]
    );
    assert!(early[4].starts_with(&format!("upload {by}")), "{}", early[4]);
    assert!(early[4].ends_with(r#"path="tree" stage="begins" total=9"#), "{}", early[4]);
    assert_eq!(early.len(), 5, "{early:?}");
    let late = events(&log);
    assert!(late[0].ends_with(r#"path="tree" stage="ends" bytes=0 files=0 outcome="done""#), "{}", late[0]);
    assert_eq!(
        late[1..],
        [
            format!(r#"rename {client} path="a\nb" to="c" outcome="done""#),
            format!(r#"disconnect {client} reason="the peer closed it" active=0"#),
        ]
    );
}

/// What a terminal of 100 columns and 24 rows shows that is a program's standard error.
struct Terminal {
    ours: std::fs::File,
    parser: vt100::Parser,
}

impl Terminal {
    /// A terminal, and its other end for a program.
    fn open() -> (Terminal, std::fs::File) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let size = rustix::termios::Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&ours, size).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        rustix::io::ioctl_fionbio(&ours, true).unwrap();
        (
            Terminal {
                ours: ours.into(),
                parser: vt100::Parser::new(24.try_into().unwrap(), 100.try_into().unwrap(), 0),
            },
            theirs,
        )
    }

    /// Waits until the screen shows something, and returns it.
    fn await_shown(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = self.ours.read(&mut bytes) {
                self.parser.process(&bytes[..count]);
            }
            // Row by row: a full row followed by another would count as one wrapped line.
            let shown = self.parser.screen().rows(0, 100).collect::<Vec<_>>().join("\n");
            if wanted(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < SOON, "{shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What stands above the clients when one of them transfers something.
const SUMMARY: &str = "clients: 1; transfers: 1";

#[test]
fn progress_is_shown_on_a_terminal_beside_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let (mut terminal, theirs) = Terminal::open();
    let mut child = Command::new(PROGRAM)
        .args(["-v", "--progress", "--listen", "127.0.0.1:0", text(directory.path())])
        .stdout(Stdio::piped())
        .stderr(theirs)
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut running = Running { child, out };
    let link = connect(&format!("nearfs://{}", running.listening_on()));
    let (mut reader, welcome) = begin(&link);
    let parent = welcome.root.node;
    let mut ask = |slot, request: Request, payload: &[u8]| -> Answer {
        let call = Call { caller: Caller::default(), request };
        let mut writer = FrameWriter::new(link.writer());
        writer.send(FrameKind::Call, RequestId::new(slot, 1), &call, payload).unwrap();
        decode_control(reader.next_frame().unwrap().control).unwrap()
    };
    terminal.await_shown(|shown| shown.contains("clients: 1; transfers: 0"));
    let name = Name::new(b"re\x1b[2Jport").unwrap();
    let (kind, total_bytes) = (TransferKind::Upload, 4096);
    let announce = Request::Announce { kind, parent, name: name.clone(), total_bytes, fh: None };
    assert!(matches!(ask(0, announce, b""), Ok(Reply::Announced(_))));
    let create = Request::Create { parent, name, mode: 0o644, umask: 0, flags: 1 };
    let fh = match ask(1, create, b"") {
        Ok(Reply::Opened { fh, .. } | Reply::Created { fh, .. }) => fh,
        other => panic!("{other:?}"),
    };
    let write = Request::Write { fh, at: WriteAt::Offset(0), sync: WriteSync::None };
    ask(2, write, &[7; 1024]).unwrap();
    let shown = terminal.await_shown(|shown| {
        shown.contains("1.00 KiB/4.00 KiB") && shown.lines().any(|line| line.trim_end() == SUMMARY)
    });
    let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
    let at = lines.iter().position(|line| *line == SUMMARY).unwrap();
    assert!(lines[at + 1].starts_with("   1  program test (127.0.0.1:"), "{shown}");
    assert!(lines[at + 2].starts_with("      upload re\\u{1b}[2Jport "), "{shown}");
    // Every line above is one of the log, whole.
    let log = lines[..at].concat();
    assert_eq!(log.matches("INFO").count(), log.matches('[').count() - log.matches("[2J").count(), "{shown}");
    assert!(log.contains("connect session=1") && log.contains(r#"stage="begins""#), "{shown}");
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.exit_code(), Some(0));
    let left = terminal.await_shown(|shown| !shown.contains("transfers: 1"));
    assert!(left.contains("connect session=1"), "{left}");
}

#[test]
fn progress_without_a_terminal_is_refused_in_one_line_and_served_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&["--progress", "--listen", "127.0.0.1:0", text(directory.path())]);
    greet(&connect(&format!("nearfs://{}", running.listening_on())));
    kill_process(running.pid(), Signal::TERM).unwrap();
    assert_eq!(running.exit_code(), Some(0));
    let mut said = String::new();
    running.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "nearfs: --progress shows nothing, because standard error is no terminal\n");
}
