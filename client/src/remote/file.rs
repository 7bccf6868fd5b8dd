//! Open files.

use std::sync::Arc;

use nearfs_protocol::attr::{Attr, FileKind, SetAttr};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::Fh;
use nearfs_protocol::limits::PAYLOAD_BYTES_MAX;
use nearfs_protocol::message::{Reply, Request, SeekTarget, WriteAt, WriteSync};
use nearfs_transport::pool::Payload;

use crate::remote::error::{Reason, RemoteError};
use crate::remote::path::RemotePath;
use crate::remote::walk::unexpected;
use crate::remote::{Follow, Held, Remote, Session};

/// An open file of a session. It is closed when this is dropped; errors of what was written come with
/// [`RemoteFile::sync`].
pub struct RemoteFile {
    session: Session,
    fh: Fh,
    node: Arc<Held>,
    attr: Attr,
    path: RemotePath,
}

impl Remote {
    /// Opens a file for reading (open(2)).
    pub fn open(&self, path: &RemotePath) -> Result<RemoteFile, RemoteError> {
        self.open_with(path, libc::O_RDONLY)
    }

    /// Opens a file with these flags of Linux, without those that make one.
    pub fn open_with(&self, path: &RemotePath, flags: i32) -> Result<RemoteFile, RemoteError> {
        let found = self.find(path, Follow::Yes)?;
        match found.attr.kind {
            FileKind::File => {}
            FileKind::Directory => return Err(RemoteError::new(path, Errno::EISDIR)),
            FileKind::Symlink
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => {
                return Err(RemoteError::new(path, Errno::EOPNOTSUPP));
            }
        }
        let request = Request::Open { node: found.node.node(), flags: flags as u32, content_bytes_max: 0 };
        let session = found.session;
        match session.ask(request, None).map_err(|errno| self.explained(&session, path, errno.into()))?.0 {
            Reply::Opened { fh, attr, .. } => {
                let attr = session.shown(attr);
                Ok(RemoteFile { session, fh, node: found.node, attr, path: path.clone() })
            }
            other => Err(RemoteError::new(path, unexpected(&other))),
        }
    }

    /// Creates a file and opens it with these flags of Linux (`O_RDWR`, `O_EXCL`, `O_TRUNC`). A symbolic link in its
    /// place is refused.
    pub fn create(&self, path: &RemotePath, mode: u32, flags: i32) -> Result<RemoteFile, RemoteError> {
        let (parent, name) = self.find_parent(path)?;
        let session = parent.session;
        let umask = session.umask();
        let request = Request::Create { parent: parent.node.node(), name, mode, umask, flags: flags as u32 };
        match session.ask(request, None).map_err(|errno| self.explained(&session, path, errno.into()))?.0 {
            Reply::Created { fh, attr, .. } => {
                let node = Arc::new(session.hold(attr.node, &parent.node));
                let attr = session.shown(attr);
                Ok(RemoteFile { session, fh, node, attr, path: path.clone() })
            }
            other => Err(RemoteError::new(path, unexpected(&other))),
        }
    }
}

impl RemoteFile {
    /// Takes over a file that an answer brought, with its node. `attr` as the server sent them.
    pub fn of(session: &Session, fh: Fh, node: Arc<Held>, attr: Attr, path: &RemotePath) -> RemoteFile {
        let attr = session.shown(attr);
        RemoteFile { session: session.clone(), fh, node, attr, path: path.clone() }
    }

    /// The number by which requests of the session name it.
    pub fn fh(&self) -> Fh {
        self.fh
    }

    /// Its attributes when it was opened.
    pub fn attr(&self) -> &Attr {
        &self.attr
    }

    /// Its node.
    pub fn node(&self) -> &Arc<Held> {
        &self.node
    }

    /// The session to which it belongs.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Where it was opened.
    pub fn path(&self) -> &RemotePath {
        &self.path
    }

    /// Reads at most 1 MiB (pread(2)): fewer bytes than asked for mean the end of the file.
    pub fn read_at(&self, offset: u64, size: u32) -> Result<Payload, RemoteError> {
        let size = size.min(PAYLOAD_BYTES_MAX as u32);
        match self.ask(Request::Read { fh: self.fh, offset, size }, None)? {
            (Reply::Read { .. }, bytes) if bytes.len() <= size as usize => Ok(bytes),
            (other, _) => Err(self.failed(unexpected(&other))),
        }
    }

    /// Writes all of it (pwrite(2)).
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), RemoteError> {
        let (mut offset, mut left) = (offset, bytes);
        while !left.is_empty() {
            let piece = &left[..left.len().min(PAYLOAD_BYTES_MAX)];
            let request = Request::Write { fh: self.fh, at: WriteAt::Offset(offset), sync: WriteSync::None };
            let (reply, _) = self.ask(request, Some(self.session.keep(piece)))?;
            let Reply::Written(written) = &reply else { return Err(self.failed(unexpected(&reply))) };
            match usize::try_from(written.size) {
                // A second attempt brings the error that stopped the first.
                Ok(size @ 1..) if size <= piece.len() => {
                    left = &left[size..];
                    offset += size as u64;
                }
                Ok(_) | Err(_) => return Err(self.failed(Errno::EPROTO.into())),
            }
        }
        Ok(())
    }

    /// Brings its content to the server's disk (fsync(2)). Fails if anything that was written did not get there.
    pub fn sync(&self) -> Result<(), RemoteError> {
        match self.ask(Request::Fsync { fh: self.fh, data_only: false }, None)?.0 {
            Reply::Done => Ok(()),
            other => Err(self.failed(unexpected(&other))),
        }
    }

    /// Changes its attributes through the open file. Returns them as they are then.
    pub fn set_attr(&self, set: SetAttr) -> Result<Attr, RemoteError> {
        let set = self.session.outgoing(set);
        let request = Request::SetAttr { node: self.node.node(), fh: Some(self.fh), set };
        match self.ask(request, None)?.0 {
            Reply::Changed { attr, .. } => Ok(self.session.shown(attr)),
            other => Err(self.failed(unexpected(&other))),
        }
    }

    /// Where the next data or hole is (lseek(2)); `None` behind the last data.
    pub fn seek(&self, offset: u64, target: SeekTarget) -> Result<Option<u64>, RemoteError> {
        match self.session.ask(Request::Seek { fh: self.fh, offset, target }, None) {
            Ok((Reply::Offset(found), _)) => Ok(Some(found)),
            Ok((other, _)) => Err(self.failed(unexpected(&other))),
            Err(Errno::ENXIO) => Ok(None),
            Err(errno) => Err(self.failed(errno.into())),
        }
    }

    /// Closes it, some time soon. Dropping it does the same.
    pub fn close(self) {}

    fn ask(&self, request: Request, payload: Option<Arc<Payload>>) -> Result<(Reply, Payload), RemoteError> {
        self.session.ask(request, payload).map_err(|errno| self.failed(errno.into()))
    }

    /// An error with this file. The number of an open file means nothing in another session.
    fn failed(&self, reason: Reason) -> RemoteError {
        match reason {
            Reason::Errno(errno) => RemoteError::new(&self.path, self.session.reason(errno)),
            reason => RemoteError::new(&self.path, reason),
        }
    }
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        self.session.release(self.fh);
    }
}
