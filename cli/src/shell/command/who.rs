//! Who else is connected, and ending that.

use std::time::SystemTime;

use clap::Args;
use nearfs_client::remote::RemoteError;
use nearfs_client::remote::path::printable;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::SessionId;
use nearfs_protocol::roster::{SessionReport, TransferReport};
use serde_json::json;

use crate::shell::command::connection::duration;
use crate::shell::failure::Failure;
use crate::shell::output::{Kind, count, moment, size};
use crate::shell::roster::{object, since};
use crate::shell::state::Shell;

/// Ends the connection of a client; for the server's owner
#[derive(Args, Debug)]
pub(crate) struct KickOptions {
    /// Which, by its number in `who`
    #[arg(value_name = "ID", required_unless_present = "all")]
    id: Option<u64>,
    /// All but our own
    #[arg(long, conflicts_with = "id")]
    all: bool,
}

pub(crate) fn who(shell: &mut Shell) -> Result<(), Failure> {
    let sessions = sessions(shell)?;
    let now = SystemTime::now();
    shell
        .out
        .line("          id  since                user        from                   idle      client")?;
    for session in &sessions {
        shell.out.object(&object(session, now))?;
        let user = session.uid.map_or_else(|| "unknown".to_owned(), |uid| format!("uid {uid}"));
        let idle = duration(session.idle_ms / 1000);
        let mut client = printable(session.client.as_bytes());
        if session.own {
            client.push_str(", which is you");
        }
        if !session.connected {
            client.push_str(", away at the moment");
        }
        let since = moment(since(session, now));
        let (id, address) = (session.id.0, printable(session.address.as_bytes()));
        shell.out.line(&format!("{id:>12}  {since}  {user:<10}  {address:<21}  {idle:<8}  {client}"))?;
        for transfer in &session.transfers {
            shell.out.line(&format!("{:>12}  {}", "", transfer_line(transfer)))?;
        }
    }
    shell.out.line(&count(sessions.len() as u64, "client", "clients"))
}

pub(crate) fn kick(shell: &mut Shell, options: &KickOptions) -> Result<(), Failure> {
    let session = shell.remote()?.session().map_err(about_server)?;
    let ended = match session.kick(options.id.map(SessionId)) {
        Ok(ended) => ended,
        Err(reason) => {
            let id = options.id.unwrap_or_default();
            return Err(match reason.errno() {
                Errno::EPERM => {
                    Failure::Refused("only the server's own user and root may end connections".into())
                }
                Errno::ENOENT => Failure::Missing(format!("nobody with the id {id} is connected; see `who`")),
                Errno::EINVAL => Failure::Refused(format!("{id} is this shell itself; `disconnect` ends it")),
                _ => about_server(reason),
            });
        }
    };
    shell.out.object(&json!({ "ended": ended }))?;
    let text = match options.id {
        Some(id) => format!("ended the connection of client {id}"),
        None => format!("ended the connections of {}", count(ended, "other client", "other clients")),
    };
    shell.out.say(Kind::Done, &text)
}

fn sessions(shell: &Shell) -> Result<Vec<SessionReport>, Failure> {
    let session = shell.remote()?.session().map_err(about_server)?;
    session.sessions().map_err(about_server)
}

/// An error that is about the server as a whole.
fn about_server(reason: nearfs_client::remote::Reason) -> Failure {
    RemoteError { path: "the server".into(), reason }.into()
}

fn transfer_line(transfer: &TransferReport) -> String {
    let path = printable(&transfer.path);
    let verb = transfer.kind.verb();
    let done = size(transfer.tally.bytes);
    match transfer.tally.percent(transfer.total_bytes) {
        Some(percent) => format!("{verb} of /{path}: {percent} % of {}", size(transfer.total_bytes)),
        None => format!("{verb} of /{path}: {done}"),
    }
}
