//! Connecting, leaving, and how it goes.

use clap::Args;
use nearfs_client::remote::RemotePath;
use nearfs_protocol::greeting::Identity;
use serde_json::{Value, json};

use crate::shell::failure::Failure;
use crate::shell::output::{Kind, count, joined, text_fields};
use crate::shell::state::{Shell, source_of};

/// Connects to a server
#[derive(Args, Debug)]
pub(crate) struct ConnectOptions {
    /// Which: a host, or a source as `nearfs mount` takes it; the configured one if there is none
    #[arg(value_name = "HOST")]
    server: Option<String>,
    /// Its port, if it is not the usual one
    port: Option<u16>,
    /// Talk to another machine although everybody on the way may read along
    #[arg(long)]
    insecure: bool,
}

pub(crate) fn connect(shell: &mut Shell, options: &ConnectOptions) -> Result<(), Failure> {
    if let Some(connection) = &shell.connection {
        return Err(Failure::Refused(format!(
            "already connected to {}; use `disconnect` first",
            connection.label
        )));
    }
    let Some(server) = options.server.clone().or_else(|| shell.config.server.clone()) else {
        return Err(Failure::Usage("connect to which server? `connect HOST [PORT]`".into()));
    };
    let source = source_of(&server, options.port.unwrap_or(shell.config.port))?;
    let was_insecure = shell.is_insecure;
    shell.is_insecure |= options.insecure;
    let connected = shell.connect(&source);
    shell.is_insecure = was_insecure;
    connected?;
    tell_connected(shell)
}

/// Says where one is connected to.
pub(crate) fn tell_connected(shell: &mut Shell) -> Result<(), Failure> {
    let Some(connection) = &shell.connection else { return Ok(()) };
    let welcome = connection.remote.current().welcome().clone();
    let read_only = if welcome.read_only { ", read-only" } else { "" };
    let text = format!("connected to {}{read_only}, in {}", connection.label, connection.place);
    let server = json!({ "server": connection.label, "read_only": welcome.read_only });
    let object = joined(server, directory(&connection.place));
    shell.out.object(&object)?;
    shell.out.say(Kind::Done, &text)
}

pub(crate) fn disconnect(shell: &mut Shell) -> Result<(), Failure> {
    let label = shell.disconnect().ok_or(Failure::NotConnected)?;
    shell.out.object(&json!({ "server": label, "connected": false }))?;
    shell.out.say(Kind::Done, &format!("disconnected from {label}"))
}

pub(crate) fn status(shell: &mut Shell) -> Result<(), Failure> {
    let connection = shell.connection.as_ref().ok_or(Failure::NotConnected)?;
    let session = connection.remote.current();
    let (status, welcome) = (session.status(), session.welcome().clone());
    let seconds = connection.since.elapsed().unwrap_or_default().as_secs();
    let ending = session.ending();
    let state = match (&ending, status.connected) {
        (Some(ending), _) if session.is_dismissed() => format!("over: {ending}"),
        (Some(ending), _) => format!("lost: {ending}; the next command connects anew"),
        (None, true) => "connected".to_owned(),
        (None, false) => "the connection is lost, and is being made again".to_owned(),
    };
    let identity = match welcome.identity {
        Identity::Squash { uid, .. } => format!("acts as one user (uid {uid})"),
        Identity::Passthrough => "acts as whoever asks".to_owned(),
    };
    let round_trip = status.round_trip.map(|time| time.as_secs_f64() * 1e3);
    let sent: u64 = status.requests_sent.iter().map(|(_, count)| count).sum();
    let object = json!({
        "server": connection.label,
        "connected": status.connected && ending.is_none(),
        "seconds": seconds,
        "round_trip_ms": round_trip,
        "connections": status.connections,
        "requests_sent": sent,
        "pending": status.pending.len(),
        "reconnects": status.reconnects,
        "sessions": connection.remote.session_count(),
        "read_only": welcome.read_only,
        "last_error": status.last_error,
    });
    let object = joined(object, directory(&connection.place));
    let mut lines = vec![
        format!("server      {}, {state}", connection.label),
        format!("directory   {}", connection.place),
        format!("since       {}", duration(seconds)),
    ];
    if let Some(milliseconds) = round_trip {
        lines.push(format!("round trip  {milliseconds:.2} ms"));
    }
    let connections = count(status.connections as u64, "connection", "connections");
    lines.push(format!("requests    {sent} sent, {} pending, over {connections}", status.pending.len()));
    lines.push(format!("rights      {identity}{}", if welcome.read_only { ", read-only" } else { "" }));
    if status.reconnects > 0 || ending.is_some() {
        let why = status.last_error.map(|error| format!(" (last: {error})")).unwrap_or_default();
        lines.push(format!("reconnects  {}{why}", status.reconnects));
    }
    shell.out.object(&object)?;
    lines.iter().try_for_each(|line| shell.out.line(line))
}

/// Where one is, for scripts.
pub(crate) fn directory(place: &RemotePath) -> Value {
    text_fields("directory", &place.to_bytes())
}

/// A time for people: `3 s`, `2 min 5 s`, `1 h 20 min`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
