//! The remote file system by paths, for whoever has no kernel between: the shell and its transfers.
//!
//! A [`Remote`] is told paths, waits for answers, and says in words what was wrong. It begins a new session by itself when
//! the server has been started again and the old one is gone. Many requests at once go through
//! [`Session::start`]; there one works with nodes, which [`Remote::find`] and listings bring.
//!
//! The server follows no symbolic links: their text is followed here ([`walk`]), within the share.

mod error;
mod file;
mod listing;
mod name;
pub mod path;
mod roster;
mod session;
mod walk;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use nearfs_transport::address::Source;
use parking_lot::Mutex;

use crate::cancel::{Cancel, Listening};
use crate::config::IdentityMap;
use crate::error::ConnectError;
use crate::identity::Caller;
use crate::remote::walk::Walked;

pub use crate::remote::error::{Reason, RemoteError, words};
pub use crate::remote::file::RemoteFile;
pub use crate::remote::listing::{Listed, Listing};
pub use crate::remote::path::RemotePath;
pub use crate::remote::roster::{Announced, Transfer};
pub use crate::remote::session::{Held, Outcome, Patience, Session};
pub use crate::remote::walk::{Follow, Found, Parent};

/// What whoever connects may choose.
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Connections of the session, 1 or more: one for small requests, the others for bulk data.
    pub connections: u16,
    /// Who connects, for people to read at the server.
    pub client_name: String,
    /// On whose behalf, where the server asks for that; its pid is filled in.
    pub caller: Caller,
    /// Whose files these are, as people here see it.
    pub identity: IdentityMap,
    /// Permission bits that new files and directories do not get (umask(2)).
    pub umask: u32,
}

/// A share of a server. Clones are the same share.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
    cancel: Cancel,
    /// Brings the wish to the session that is current then.
    listening: Arc<Listening>,
}

struct Shared {
    source: Source,
    config: RemoteConfig,
    current: Mutex<Current>,
    /// Held while a new session is begun, so that there is one.
    beginning: Mutex<()>,
}

struct Current {
    session: Session,
    walked: Walked,
    sessions: u64,
    /// We said good-bye ourselves.
    is_closed: bool,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        RemoteConfig {
            timeout: Duration::from_secs(30),
            connections: 3,
            client_name: String::new(),
            caller: Caller::default(),
            identity: IdentityMap::default(),
            umask: 0o022,
        }
    }
}

impl Remote {
    /// Connects and begins a session, or says in one line why not. A wish that is told meanwhile ends the wait.
    pub fn connect(source: &Source, config: RemoteConfig, cancel: &Cancel) -> Result<Remote, ConnectError> {
        let session = begin(source, &config, cancel)?;
        let current = Current { session, walked: Walked::default(), sessions: 1, is_closed: false };
        let shared = Arc::new(Shared {
            source: source.clone(),
            config,
            current: Mutex::new(current),
            beginning: Mutex::default(),
        });
        Ok(Remote::of(shared, cancel))
    }

    /// The same share, with another wish that ends its waits.
    #[must_use]
    pub fn with_cancel(&self, cancel: &Cancel) -> Remote {
        Remote::of(Arc::clone(&self.shared), cancel)
    }

    fn of(shared: Arc<Shared>, cancel: &Cancel) -> Remote {
        let (told, wish) = (Arc::downgrade(&shared), cancel.clone());
        let listening = cancel.listen(move || {
            if let Some(shared) = told.upgrade() {
                let session = shared.current.lock().session.clone();
                session.end_waits(&wish);
            }
        });
        Remote { shared, cancel: cancel.clone(), listening: Arc::new(listening) }
    }

    /// Where it is.
    pub fn source(&self) -> &Source {
        &self.shared.source
    }

    /// The session; a new one if the last is over for a reason other than our own good-bye, or that the server's owner has
    /// ended it.
    pub fn session(&self) -> Result<Session, Reason> {
        let current = self.current();
        let stays = current.ending().is_none() || current.is_dismissed();
        if stays || self.shared.current.lock().is_closed {
            return Ok(current);
        }
        let _beginning = self.shared.beginning.lock();
        let current = self.current();
        if current.ending().is_none() {
            return Ok(current); // Somebody else began it.
        }
        let session = begin(&self.shared.source, &self.shared.config, &self.cancel)?;
        let mut current = self.shared.current.lock();
        current.walked = Walked::default();
        current.sessions += 1;
        let over = std::mem::replace(&mut current.session, session);
        drop(current);
        drop(over);
        Ok(self.current())
    }

    /// The session as it stands, be it over.
    pub fn current(&self) -> Session {
        self.shared.current.lock().session.listened(&self.cancel, &self.listening)
    }

    /// How many sessions there have been: one more after each that was lost for good.
    pub fn session_count(&self) -> u64 {
        self.shared.current.lock().sessions
    }

    /// Says good-bye: no session is begun after this one. Returns what was lost, a line each.
    pub fn disconnect(&self) -> Vec<String> {
        let mut current = self.shared.current.lock();
        current.is_closed = true;
        current.walked = Walked::default();
        let session = current.session.clone();
        drop(current);
        session.end()
    }
}

/// Begins a session on a thread of its own, so that who waits for it can be let go.
fn begin(source: &Source, config: &RemoteConfig, cancel: &Cancel) -> Result<Session, ConnectError> {
    let (tell, told) = mpsc::sync_channel(2);
    let tell_begun = tell.clone();
    let (source, config, wish) = (source.clone(), config.clone(), cancel.clone());
    std::thread::Builder::new().name("nearfs-begin".into()).spawn(move || {
        // Nobody listens any more when he was let go; the session then ends with its last reference.
        let _ = tell_begun.send(Session::begin(&source, &config, &wish));
    })?;
    let _listening = cancel.listen(move || {
        let _ = tell.try_send(Err(ConnectError::Local(std::io::ErrorKind::Interrupted.into())));
    });
    told.recv().unwrap_or_else(|_| Err(ConnectError::Local(std::io::ErrorKind::Interrupted.into())))
}
