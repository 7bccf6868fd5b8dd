//! Where the log of a mount goes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use env_logger::{Builder, Env, Target};
use log::{Level, LevelFilter};

/// The system's log: journald and every syslogd listen there.
const SYSLOG: &str = "/dev/log";
/// The facility "daemon" of syslog(3).
const FACILITY_DAEMON: u8 = 3 << 3;

/// Writes to standard error, for a mount in the foreground.
pub(crate) fn to_stderr(verbose: u8) {
    finish(&mut builder(verbose));
}

/// Appends to a file.
pub(crate) fn to_file(path: &Path, verbose: u8) -> io::Result<()> {
    let file: File = OpenOptions::new().create(true).append(true).open(path)?;
    finish(builder(verbose).target(Target::Pipe(Box::new(file))));
    Ok(())
}

/// Writes to the system's log where there is one; otherwise nowhere.
pub(crate) fn to_system(verbose: u8) {
    let socket = UnixDatagram::unbound().and_then(|socket| socket.connect(SYSLOG).map(|()| socket));
    let Ok(socket) = socket else { return };
    // The log must never hold up the mount.
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    let mut builder = builder(verbose);
    builder.format(|line, record| {
        let priority = FACILITY_DAEMON | severity(record.level());
        write!(line, "<{priority}>nearfs[{}]: {}", std::process::id(), record.args())
    });
    finish(builder.target(Target::Pipe(Box::new(Syslog(socket)))));
}

/// Sends panics to the log as well: standard error is closed in the background.
pub(crate) fn panics_to_log() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        log::error!("bug in thread {}: {panic}", thread.name().unwrap_or("without a name"));
    }));
}

/// One datagram a line.
struct Syslog(UnixDatagram);

impl Write for Syslog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A line that the log does not take is lost; there is nowhere else to say so.
        let _ = self.0.send(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn builder(verbose: u8) -> Builder {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut builder = Builder::new();
    // The FUSE library tells at level "info" what only its developers want to know.
    builder.filter_level(level).filter_module("fuser", level.min(LevelFilter::Warn));
    builder.parse_env(Env::default());
    builder
}

fn finish(builder: &mut Builder) {
    if let Err(error) = builder.try_init() {
        log::debug!("there is a log already: {error}");
    }
}

fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
