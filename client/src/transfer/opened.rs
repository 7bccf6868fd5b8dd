//! A file of the server that is open.

use nearfs_protocol::attr::Attr;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, Node};
use nearfs_protocol::message::{Reply, Request, SeekTarget};

use crate::remote::{Outcome, Session};
use crate::transfer::local::is_sparse;
use crate::transfer::remote_dir::unexpected;

/// An open file of the server, closed when this is dropped.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) fh: Fh,
}

impl Opened {
    /// Opens a file for reading. With what it is, as the server says it.
    pub(super) fn for_reading(session: &Session, node: Node) -> Result<(Opened, Attr), Errno> {
        Opened::answered(session, session.ask(Opened::asking(node), None))
    }

    /// Asks for a file to be opened for reading. For [`Opened::answered`].
    pub(super) fn asking(node: Node) -> Request {
        Request::Open { node, flags: libc::O_RDONLY as u32, content_bytes_max: 0 }
    }

    /// What came of that.
    pub(super) fn answered(session: &Session, outcome: Outcome) -> Result<(Opened, Attr), Errno> {
        match outcome? {
            (Reply::Opened { fh, attr, .. }, _) => Ok((Opened { session: session.clone(), fh }, attr)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The part from an offset on that is data; `None` behind the last. `attr` is what the file is.
    pub(super) fn next_content(&self, attr: &Attr, offset: u64) -> Result<Option<(u64, u64)>, Errno> {
        if !is_sparse(attr) {
            return Ok((offset < attr.size).then_some((offset, attr.size)));
        }
        let seek =
            |offset, target| match self.session.ask(Request::Seek { fh: self.fh, offset, target }, None) {
                Ok((Reply::Offset(found), _)) => Ok(Some(found)),
                Ok((other, _)) => Err(unexpected(&other)),
                Err(Errno::ENXIO) => Ok(None),
                Err(errno) => Err(errno),
            };
        let Some(begin) = seek(offset, SeekTarget::Data)? else { return Ok(None) };
        let end = seek(begin, SeekTarget::Hole)?.unwrap_or(attr.size);
        // A server that sends us in circles is not followed.
        if begin < offset || end <= begin { Err(Errno::EPROTO) } else { Ok(Some((begin, end))) }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.session.release(self.fh);
    }
}
