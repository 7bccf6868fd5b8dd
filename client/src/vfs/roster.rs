//! Who else is connected to the server.

use std::sync::{Arc, mpsc};

use nearfs_protocol::errno::Errno;
use nearfs_protocol::message::Request;
use nearfs_protocol::roster::SessionReport;

use crate::identity::Caller;
use crate::roster;
use crate::vfs::Vfs;

impl Vfs {
    /// The sessions of the server, this one among them, by rising ids. Waits for the answers, so that it is for a thread
    /// that has nobody else to serve.
    ///
    /// Errors: `ETIMEDOUT` after the time-out; `EIO` if the session is over or the server makes no sense.
    pub fn sessions(self: &Arc<Self>) -> Result<Vec<SessionReport>, Errno> {
        roster::list(|request: Request| {
            let (tell, told) = mpsc::sync_channel(1);
            let root = self.welcome().root.node;
            // It is told once, and listened to until then.
            self.call(Caller::default(), root, request, move |outcome| drop(tell.send(outcome)));
            told.recv().unwrap_or(Err(Errno::EIO)).map(|(reply, _)| reply)
        })
    }
}
