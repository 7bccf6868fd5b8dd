//! A session, and what is held in it: nodes and open files that are given back when they are dropped.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use nearfs_protocol::attr::Attr;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::greeting::{Refusal, Welcome};
use nearfs_protocol::id::{Fh, Node};
use nearfs_protocol::limits::{REPORT_BYTES_MAX, cut};
use nearfs_protocol::message::{ReleasedFile, Reply, Request};
use nearfs_protocol::session::client::Ending;
use nearfs_protocol::version::Features;
use nearfs_transport::address::Source;
use nearfs_transport::pool::Payload;

use crate::cancel::{Cancel, Listening};
use crate::config::VfsConfig;
use crate::error::ConnectError;
use crate::identity::{Caller, Ids};
use crate::remote::RemoteConfig;
use crate::remote::error::Reason;
use crate::rpc::{Ask, Rpc};
use crate::status::Status;

pub use crate::rpc::{Outcome, Patience};

/// How long a good-bye may take.
const BYE_TIME_MAX: Duration = Duration::from_secs(2);

/// A session with the server, and the wish that ends what waits in it. Clones are the same session; the last one that
/// is dropped says good-bye. Nodes and open files belong to one session and mean nothing in another.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
    cancel: Cancel,
    /// Brings the wish here for as long as anybody may wait.
    _listening: Option<Arc<Listening>>,
}

struct Inner {
    rpc: Arc<Rpc>,
    welcome: Welcome,
    ids: Ids,
    caller: Caller,
    umask: u32,
}

/// A node that the server knows for us, until this is dropped.
pub struct Held {
    inner: Arc<Inner>,
    node: Node,
    /// The root is known without being counted.
    is_counted: bool,
    /// The directory that it was found in, kept for as long: through it the server may have to find the node.
    _above: Option<Arc<Held>>,
}

impl Session {
    pub(super) fn begin(
        source: &Source,
        config: &RemoteConfig,
        cancel: &Cancel,
    ) -> Result<Session, ConnectError> {
        let vfs = VfsConfig {
            timeout: config.timeout,
            connections: config.connections,
            client_name: config.client_name.clone(),
            shell: true,
            ..VfsConfig::default()
        };
        let (rpc, welcome) = Rpc::connect(source, &vfs)?;
        let ids = Ids::new(welcome.identity, config.identity);
        let caller = Caller { pid: std::process::id(), ..config.caller };
        let inner = Arc::new(Inner { rpc, welcome, ids, caller, umask: config.umask });
        Ok(Session { inner, cancel: cancel.clone(), _listening: None })
    }

    /// What the server granted when the session began.
    pub fn welcome(&self) -> &Welcome {
        &self.inner.welcome
    }

    /// How it goes. Answers at once, whatever the server does.
    pub fn status(&self) -> Status {
        self.inner.rpc.status(|subjects| subjects.iter().map(|(ino, _)| format!("#{ino}")).collect())
    }

    /// Why the session is over, once it is.
    pub fn ending(&self) -> Option<String> {
        self.inner.rpc.ending().map(|ending| ending.to_string())
    }

    /// Whether it is over because the server's owner ended it. Nobody begins another by himself then.
    pub fn is_dismissed(&self) -> bool {
        matches!(self.inner.rpc.ending(), Some(Ending::Refused(Refusal::EndedByOwner)))
    }

    /// The permission bits that new files and directories do not get.
    pub fn umask(&self) -> u32 {
        self.inner.umask
    }

    /// Asks the server, and returns as soon as the request is on its way: the way to have many under way at once. Waits
    /// only while as much is in flight as the server admits. `done` runs once, with the answer or with the reason why
    /// there is none, on a thread that must not wait: it may send to a channel, but neither ask again nor block. What
    /// the answer brings, lookup counts and open files, is the caller's to give back: [`Session::hold`],
    /// [`Session::release`].
    pub fn start(
        &self,
        request: Request,
        payload: Option<Arc<Payload>>,
        patience: Patience,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) {
        let ask = Ask {
            caller: self.inner.ids.outgoing(self.inner.caller),
            pid: 0,
            survives_caller: false,
            ino: 0,
            request,
            patience,
            cancel: Some(self.cancel.clone()),
        };
        self.inner.rpc.call(ask, payload, done);
    }

    /// Asks the server and waits for the answer.
    pub fn ask(&self, request: Request, payload: Option<Arc<Payload>>) -> Result<(Reply, Payload), Errno> {
        let (tell, told) = mpsc::sync_channel(1);
        self.start(request, payload, Patience::Bounded, move |outcome| drop(tell.send(outcome)));
        told.recv().unwrap_or(Err(Errno::EIO))
    }

    /// Copies bytes to where they can stay until the server has them, for a payload.
    pub fn keep(&self, bytes: &[u8]) -> Arc<Payload> {
        self.inner.rpc.keep(bytes)
    }

    /// Takes over a lookup count that came with an answer about a name in this directory. It is given back when what is
    /// returned is dropped, and before that of the directory.
    pub fn hold(&self, node: Node, above: &Arc<Held>) -> Held {
        Held { inner: Arc::clone(&self.inner), node, is_counted: true, _above: Some(Arc::clone(above)) }
    }

    /// The root of the share.
    pub fn root(&self) -> Held {
        let node = self.inner.welcome.root.node;
        Held { inner: Arc::clone(&self.inner), node, is_counted: false, _above: None }
    }

    /// Closes an open file, some time soon.
    pub fn release(&self, fh: Fh) {
        self.inner.rpc.batch_release(ReleasedFile { fh, flock_owner: None }, false);
    }

    /// Attributes as people here shall see them.
    pub fn shown(&self, attr: Attr) -> Attr {
        self.inner.ids.shown(attr)
    }

    /// Says good-bye now. Returns what was lost, a line each.
    pub fn end(&self) -> Vec<String> {
        self.inner.rpc.shutdown(BYE_TIME_MAX).iter().map(ToString::to_string).collect()
    }

    /// The wish that ends what waits here.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The same session, with another wish that ends its waits.
    #[must_use]
    pub fn with_cancel(&self, cancel: &Cancel) -> Session {
        Session { inner: Arc::clone(&self.inner), cancel: cancel.clone(), _listening: None }
    }

    /// The same session, with a wish that whoever listens brings here.
    pub(super) fn listened(&self, cancel: &Cancel, listening: &Arc<Listening>) -> Session {
        Session { _listening: Some(Arc::clone(listening)), ..self.with_cancel(cancel) }
    }

    /// Tells the server, for its log, of a person's command that has failed, and what the person was told; with an empty
    /// failure of one that was carried out. Does not wait.
    pub fn report(&self, verb: &str, failure: &str) {
        if self.inner.welcome.features.contains(Features::REPORT) && self.ending().is_none() {
            let [verb, failure] = [verb, failure].map(|text| cut(text, REPORT_BYTES_MAX).to_owned());
            self.tell(Request::Report { verb, failure });
        }
    }

    /// Asks for something whose answer interests nobody, also when the wish has been told.
    pub(super) fn tell(&self, request: Request) {
        self.inner.rpc.tell(request);
    }

    pub(super) fn end_waits(&self, cancel: &Cancel) {
        self.inner.rpc.cancelled(cancel);
    }

    /// What an error number means here: when the session is over, that.
    pub(super) fn reason(&self, errno: Errno) -> Reason {
        match (errno, self.ending()) {
            (Errno::EIO | Errno::ESTALE, Some(ending)) => Reason::SessionOver(ending),
            (errno, _) => errno.into(),
        }
    }

    pub(super) fn outgoing(&self, set: nearfs_protocol::attr::SetAttr) -> nearfs_protocol::attr::SetAttr {
        self.inner.ids.sent(set)
    }
}

impl Held {
    /// The node, for requests of the same session.
    pub fn node(&self) -> Node {
        self.node
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_counted {
            self.inner.rpc.batch_forget(self.node, 1);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for lost in self.rpc.shutdown(BYE_TIME_MAX) {
            log::debug!("lost: {lost}");
        }
    }
}
