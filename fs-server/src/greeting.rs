//! From a connection's first byte to its session: everything that a stranger can do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nearfs_protocol::attr::Attr;
use nearfs_protocol::codec::{FrameKind, decode_control};
use nearfs_protocol::greeting::{GrantedLimits, Hello, Refusal, SessionWish, Welcome};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::limits::{
    CONNECTIONS_MAX, IN_FLIGHT_BYTES_MAX, PAYLOAD_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX,
};
use nearfs_protocol::name::Name;
use nearfs_protocol::session::server::{ConnectionId, ServerSession, negotiate};
use nearfs_protocol::version::Features;
use nearfs_transport::assembler::Assembler;
use nearfs_transport::stream::{Peer, Stream};

use crate::admission::Admitted;
use crate::connection::Connection;
use crate::keep::Keeper;
use crate::lobby::Place;
use crate::session::Session;
use crate::session_files::SessionFiles;
use crate::sessions::new_token;
use crate::state::Shared;
use crate::store::Begun;
use crate::visitor::Visitor;
use crate::wire::Wire;

/// How long a refused client has to take the reason.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(1);

/// Why no session came of a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejected {
    /// The client is told.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error("it did not say who it is in time")]
    Slow,
    #[error("it was too slow to say who it is while others waited")]
    Crowded,
    #[error("it left before it was admitted")]
    Left,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Greets a client. On success the connection carries a session, and the welcome waits to be flushed.
pub(crate) async fn greet(
    shared: &Arc<Shared>,
    stream: Stream,
    mut place: Place,
) -> Result<Connection, Rejected> {
    let peer = stream.peer();
    let wire = Arc::new(Wire::new(stream, shared.budget.clone()));
    let mut assembler = Assembler::new(shared.pool.clone());
    let greeted = tokio::select! {
        greeted = introduce(shared, peer, &wire, &mut assembler) => greeted,
        () = tokio::time::sleep(shared.timings.greeting_max) => Err(Rejected::Slow),
        () = place.lost() => Err(Rejected::Crowded),
    };
    drop(place);
    let established = match greeted {
        Ok((hello, admitted)) => {
            let (shared, wire) = (shared.clone(), wire.clone());
            // It finds the root, and closes files of others to make room, which may sleep.
            let establish = move || establish(&shared, &hello, admitted, &wire);
            let established = tokio::task::spawn_blocking(establish).await;
            established.unwrap_or(Err(Refusal::Stopping)).map_err(Rejected::Refused)
        }
        Err(rejected) => Err(rejected),
    };
    match established {
        Ok((session, id, Admitted { is_owner, .. })) => {
            assembler.admit();
            Ok(Connection { shared: shared.clone(), session, id, is_owner, wire, assembler, partial: None })
        }
        Err(Rejected::Refused(refusal)) => {
            // A refusal that cannot be delivered in time is not delivered.
            let _ = tokio::time::timeout(REFUSAL_TIME_MAX, refuse(&wire, &refusal)).await;
            Err(refusal.into())
        }
        Err(rejected) => Err(rejected),
    }
}

/// Finds out what a client wants, and whether it may.
async fn introduce(
    shared: &Arc<Shared>,
    peer: Peer,
    wire: &Wire,
    assembler: &mut Assembler,
) -> Result<(Hello, Admitted), Rejected> {
    let hello = hello(wire, assembler).await?;
    let admission = shared.admission;
    match tokio::task::spawn_blocking(move || admission.admit(peer)).await {
        Ok(admitted) => Ok((hello, admitted?)),
        Err(_) => Err(Refusal::Stopping.into()),
    }
}

async fn hello(wire: &Wire, assembler: &mut Assembler) -> Result<Hello, Rejected> {
    loop {
        if let Some(frame) = assembler.next_frame().map_err(|_| Refusal::Malformed)? {
            if frame.header.kind != FrameKind::Hello {
                return Err(Refusal::Malformed.into());
            }
            return Ok(decode_control(frame.control).map_err(|_| Refusal::Malformed)?);
        }
        match wire.stream.try_read(assembler) {
            Ok(0) => return Err(Rejected::Left),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wire.stream.ready(false).await?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Finds or makes the session that the client wishes for, and welcomes the client.
fn establish(
    shared: &Shared,
    hello: &Hello,
    admitted: Admitted,
    wire: &Arc<Wire>,
) -> Result<(Arc<Session>, ConnectionId, Admitted), Refusal> {
    let (version, features) = negotiate(hello, Features::all())?;
    if shared.is_stopping() {
        return Err(Refusal::Stopping);
    }
    let (session, root) = match &hello.session {
        SessionWish::New { export, path } => {
            let visitor = Visitor::new(&hello.client, admitted.uid, features.contains(Features::SHELL));
            let shown = visitor.shown(wire.stream.peer());
            begin(shared, export, path, (visitor, shown))?
        }
        SessionWish::Resume { session, .. } | SessionWish::Join { session, .. } => {
            let session = shared.sessions.get(*session).ok_or_else(|| shared.sessions.why_gone(*session))?;
            let root = session.files.root().map_err(|_| Refusal::NoSession)?;
            (session, root)
        }
    };
    let welcome = Welcome {
        version,
        features,
        epoch: shared.epoch,
        boot: shared.boot,
        session: session.id,
        token: session.token,
        root,
        read_only: shared.tree.is_read_only(),
        identity: shared.tree.identity(),
        limits: granted(shared),
    };
    let connection = session.attach(&hello.session, wire, &welcome).map_err(|refusal| match refusal {
        // It may have been left to the next server, or ended, while it was greeted.
        Refusal::NoSession if shared.is_stopping() => Refusal::Stopping,
        Refusal::NoSession => shared.sessions.why_gone(session.id),
        refusal => refusal,
    })?;
    Ok((session, connection, admitted))
}

/// Starts a session and keeps it.
fn begin(
    shared: &Shared,
    export: &[u8],
    path: &[Name],
    (visitor, shown): (Visitor, String),
) -> Result<(Arc<Session>, Attr), Refusal> {
    // The one directory that is served has no name: what the client took for the export's is the first
    // step into it.
    let first =
        if export.is_empty() { None } else { Some(Name::new(export).map_err(|_| Refusal::NoExport)?) };
    let path: Vec<Name> = first.into_iter().chain(path.iter().cloned()).collect();
    let id = match &shared.store {
        None => shared.sessions.next_id(),
        Some(store) => store.next_session(),
    };
    let no_export = |errno| {
        log::debug!("session {}: cannot begin: {errno}", id.0);
        Refusal::NoExport
    };
    let token = new_token().map_err(|error| {
        log::error!("no random numbers: {error}");
        Refusal::Full
    })?;
    let limits = granted(shared);
    let keep = |root| {
        let store = shared.store.as_ref()?;
        let begun = Begun {
            session: id,
            token,
            limits,
            client: visitor.name.clone(),
            uid: visitor.uid,
            is_shell: visitor.is_shell,
            shown: shown.clone(),
            path: path.clone(),
            root,
        };
        Some(Keeper::new(store, id, store.begin(begun)?))
    };
    let share = shared.sessions.make_room_for(|| shared.tree.join_descriptors()).ok_or(Refusal::Full)?;
    let tree = (&shared.tree, share);
    let files = SessionFiles::begin_kept(tree, id, &path, &shared.pool, keep).map_err(no_export)?;
    files.set_client(&shown);
    let root = files.root().map_err(no_export)?;
    let session =
        Arc::new(Session::new(ServerSession::new(id, token, limits), visitor, files, shared.journal.clone()));
    shared.sessions.insert(session.clone())?;
    Ok((session, root))
}

fn granted(shared: &Shared) -> GrantedLimits {
    GrantedLimits {
        requests_in_flight_max: REQUESTS_IN_FLIGHT_MAX as u32,
        in_flight_bytes_max: IN_FLIGHT_BYTES_MAX as u32,
        payload_bytes_max: PAYLOAD_BYTES_MAX as u32,
        connections_max: CONNECTIONS_MAX as u16,
        lease_ms: shared.timings.lease.as_millis() as u32,
    }
}

/// Tells the client why, and waits until it has taken that: closing a socket that holds unread bytes would
/// destroy what is on its way.
async fn refuse(wire: &Wire, refusal: &Refusal) -> io::Result<()> {
    wire.push(FrameKind::Refused, RequestId(0), refusal);
    wire.flush();
    wire.stream.finish()?;
    wire.stream.drain().await
}
