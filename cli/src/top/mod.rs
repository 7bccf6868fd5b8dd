//! `nearfs top`: who is connected to a server and what he does, now and again.

mod screen;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use clap::Args;
use nearfs_client::cancel::Cancel;
use nearfs_client::remote::{Remote, RemoteConfig};
use nearfs_fuse_client::{roster, secrecy};
use nearfs_protocol::roster::SessionReport;
use nearfs_transport::address::{Address, Source, SourceError};

/// Longest wait for one answer of the server.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// The server that is asked unless another is named.
const SOURCE_DEFAULT: &str = "nearfs://127.0.0.1/";

/// Shows who is connected to a server, and what he does
///
/// On a terminal it is shown anew again and again; q or Ctrl-C leaves. Elsewhere, and with --once, it is one table.
#[derive(Args)]
pub(crate) struct TopOptions {
    /// The server, as for `nearfs mount`, or a mount point, whose server it is then; this machine's if none is named
    #[arg(value_name = "SOURCE")]
    source: Option<PathBuf>,

    /// One table, and the end
    #[arg(long)]
    once: bool,

    /// For scripts: one array of JSON objects, and the end
    #[arg(long)]
    json: bool,

    /// Seconds from one picture to the next
    #[arg(long, value_name = "SECS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,

    /// Use an unencrypted connection to another machine
    #[arg(long)]
    insecure: bool,
}

/// Why there is no picture: a line for people, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    line: String,
    code: u8,
}

/// Whom to ask.
struct Asked {
    /// What to call it.
    name: String,
    ask: Asker,
    /// Our own session with the server; a mount asks in its own.
    remote: Option<Remote>,
}

/// Asks for the sessions, as often as it is called.
type Asker = Box<dyn FnMut() -> Result<Vec<SessionReport>, Failure> + Send>;

pub(crate) fn run(options: &TopOptions) -> ExitCode {
    match show(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { line, code }) => {
            eprintln!("nearfs: {line}");
            ExitCode::from(code)
        }
    }
}

fn show(options: &TopOptions) -> Result<(), Failure> {
    let Asked { name, mut ask, remote } = asked(options)?;
    let first = ask()?;
    let is_live = io::stdout().is_terminal() && io::stdin().is_terminal();
    if options.json {
        return print(&table::json(&first));
    }
    if options.once || !is_live {
        return print(&table::text(&first));
    }
    let pictures = keep_asking(ask, Duration::from_secs(options.interval))?;
    let shown = screen::show(&name, first, &pictures).map_err(Failure::local);
    // Whoever asks holds it as well, and may be waiting.
    if let Some(remote) = remote {
        remote.disconnect();
    }
    shown
}

/// The server behind a mount point, or the one that is named.
fn asked(options: &TopOptions) -> Result<Asked, Failure> {
    let named = options.source.as_deref().unwrap_or(Path::new(SOURCE_DEFAULT));
    let name = named.to_string_lossy().into_owned();
    match name.parse::<Source>() {
        Ok(source) => {
            let remote = connect(&source, options.insecure)?;
            Ok(Asked { name, ask: ask_server(remote.clone()), remote: Some(remote) })
        }
        // What is a path here may be a mount point; anything else is a source that was typed wrong.
        Err(SourceError::Form(_)) if named.is_absolute() || roster::may_be_mount_point(named) => {
            let mount_point = named.to_owned();
            let ask = move || roster::of_mount(&mount_point).map_err(|line| Failure { line, code: 1 });
            Ok(Asked { name, ask: Box::new(ask), remote: None })
        }
        Err(error) => Err(Failure { line: error.to_string(), code: 2 }),
    }
}

fn connect(source: &Source, insecure: bool) -> Result<Remote, Failure> {
    if let Address::Exec(_) = source.address {
        let line = "a server that a command starts has this one client only; name a mount point instead";
        return Err(Failure { line: line.into(), code: 2 });
    }
    secrecy::check(&source.address, insecure)
        .map_err(|error| Failure { line: error.to_string(), code: 3 })?;
    let config = RemoteConfig {
        timeout: ANSWER_TIME_MAX,
        connections: 1,
        client_name: "nearfs top".into(),
        ..RemoteConfig::default()
    };
    Remote::connect(source, config, &Cancel::new())
        .map_err(|error| Failure { code: error.exit_code(), line: error.to_string() })
}

fn ask_server(remote: Remote) -> Asker {
    Box::new(move || {
        let sessions = remote.session().and_then(|session| session.sessions());
        sessions.map_err(|reason| Failure { line: format!("{}: {reason}", remote.source().address), code: 3 })
    })
}

/// Asks on a thread of its own, so that keys are answered whatever the server does.
fn keep_asking(
    mut ask: Asker,
    interval: Duration,
) -> Result<Receiver<Result<Vec<SessionReport>, String>>, Failure> {
    // One that waits to be shown is enough.
    let (tell, told) = mpsc::sync_channel(1);
    let asking = move || {
        loop {
            std::thread::sleep(interval);
            if tell.send(ask().map_err(|failure| failure.line)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("nearfs-top".into()).spawn(asking).map_err(Failure::local)?;
    Ok(told)
}

/// A reader that closes the pipe early has seen enough.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::local(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Failure {
    fn local(error: io::Error) -> Failure {
        Failure { line: error.to_string(), code: 1 }
    }
}
