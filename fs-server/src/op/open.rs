//! Regular files: opened, created, closed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nearfs_protocol::attr::{Attr, FileKind, LockStyle, SetAttr};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Fh, Node, RequestId};
use nearfs_protocol::limits::{BATCH_ITEMS_MAX, INLINE_BYTES_MAX};
use nearfs_protocol::message::{ReleasedFile, Reply};
use nearfs_protocol::name::Name;
use nearfs_transport::pool::Payload;

use super::{Outcome, Stop};
use crate::descriptor::Slot;
use crate::export::{Opening, Patience, Reached, c_name};
use crate::handle::OpenFile;
use crate::identity;
use crate::lock::Owner;
use crate::node::Place;
use crate::op::{Pace, Response};
use crate::session_files::SessionFiles;
use crate::store::AfterTruncation;
use crate::tree::named;

/// How often a file that others create and remove at the same time is tried to be created or opened.
const CREATE_TRIES: usize = 8;
/// The mask of access(2) for executing.
const EXECUTE: u8 = libc::X_OK as u8;

/// A file that was opened, before it has a number.
pub(crate) struct Opened {
    file: Arc<OpenFile>,
    attr: Attr,
}

/// How a file is to be opened, and for which request.
struct Asked<'a> {
    id: RequestId,
    opening: Opening,
    pace: Pace,
    /// What the request asks for beside cutting the file off.
    rest: &'a dyn Fn() -> AfterTruncation,
}

impl SessionFiles {
    pub(crate) fn open(
        self: &Arc<Self>,
        id: RequestId,
        node: Node,
        flags: u32,
        content_bytes_max: u32,
        pace: Pace,
    ) -> Outcome {
        let opening = Opening::from_flags(flags)?;
        let asked = Asked { id, opening, pace, rest: &|| AfterTruncation::Open { flags } };
        self.known.check(node)?;
        let (kind, place) = self.tree.nodes.place(node)?;
        only_regular(kind)?;
        let opened = self.open_placed(node, &place, None, &asked)?;
        self.answer_opened(opened, content_bytes_max, opened_reply)
    }

    pub(crate) fn create(
        self: &Arc<Self>,
        id: RequestId,
        (parent, name): (Node, &Name),
        (mode, umask): (u32, u32),
        flags: u32,
        pace: Pace,
    ) -> Outcome {
        let opening = Opening::from_flags(flags)?;
        let rest = || AfterTruncation::Create { parent, name: name.clone(), flags };
        let asked = Asked { id, opening, pace, rest: &rest };
        let directory = self.reach(parent)?;
        let place = named(parent, name);
        let c_name = c_name(name)?;
        identity::set_umask(umask)?;
        for _ in 0..CREATE_TRIES {
            let slot = self.slot()?;
            let changing = self.changing_name((parent, name), &directory)?;
            let (opened, created) = match self.tree.export.create(&directory, &c_name, mode, opening) {
                Ok(fd) => {
                    let attr = self.tree.export.attr(&fd)?;
                    (self.opened(fd, attr, opening, slot), true)
                }
                Err(Errno::EEXIST) if flags & libc::O_EXCL as u32 == 0 => {
                    match self.open_existing((directory.as_fd(), &c_name), &place, &asked) {
                        Err(Stop::Refused(Errno::ENOENT)) => continue,
                        opened => (opened?, false),
                    }
                }
                Err(errno) => return Err(errno.into()),
            };
            let parent = changing.done(u64::from(created))?;
            let Opened { file, attr } = opened;
            self.count(&attr, &place);
            let fh = self.files.insert(file);
            return Ok(Reply::Created { fh, attr, created, parent }.into());
        }
        Err(Errno::EAGAIN.into())
    }

    /// Opens what was not there when the client looked.
    fn open_existing(
        &self,
        (directory, name): (BorrowedFd<'_>, &CStr),
        place: &Place,
        asked: &Asked<'_>,
    ) -> Result<Opened, Stop> {
        let found = self.tree.export.open_path(directory, name)?;
        let attr = self.tree.export.attr(&found)?;
        match only_regular(attr.kind) {
            Ok(()) => self.open_placed(attr.node, place, Some(found.as_fd()), asked),
            Err(Errno::EISDIR) => Err(Errno::EISDIR.into()),
            // The client's kernel looks it up again and does what is right for its kind.
            Err(_) => Err(Errno::ESTALE.into()),
        }
    }

    pub(crate) fn create_unnamed(
        self: &Arc<Self>,
        parent: Node,
        (mode, umask): (u32, u32),
        flags: u32,
    ) -> Outcome {
        let opening = Opening::from_flags(flags)?;
        let directory = self.reach(parent)?;
        let slot = self.slot()?;
        identity::set_umask(umask)?;
        let linkable = flags & libc::O_EXCL as u32 == 0;
        let fd = self.tree.export.create_unnamed(directory.as_fd(), mode, opening, linkable)?;
        let attr = self.tree.export.attr(&fd)?;
        self.count(&attr, &Place::Nameless);
        let id = attr.node.id;
        let opened = self.opened(fd, attr, opening, slot);
        if linkable && self.keeper.is_some() {
            identity::as_server(|| self.tree.export.keep_nameless(opened.file.as_fd(), id));
        }
        self.answer_opened(opened, 0, created_reply)
    }

    pub(crate) fn release(&self, files: &[ReleasedFile]) -> Outcome {
        if files.len() > BATCH_ITEMS_MAX {
            return Err(Errno::EINVAL.into());
        }
        for released in files {
            let file = self.files.remove(released.fh);
            self.note_closed(released.fh);
            let Some(file) = file else { continue };
            self.transfers.released(&self.tree.transfers, released.fh);
            if let Some(owner) = released.flock_owner {
                let owner = Owner { session: self.session, owner };
                // A client that cannot tell the styles apart asks for flock(2) as ranges over the whole file.
                for style in [LockStyle::Flock, LockStyle::Posix] {
                    self.tree.locks.release(file.node.id, style, owner);
                }
            }
        }
        Ok(Reply::Done.into())
    }

    /// A file that was opened just now.
    pub(crate) fn opened(&self, fd: OwnedFd, attr: Attr, opening: Opening, slot: Slot) -> Opened {
        let file = OpenFile::new(fd, attr.node, opening, slot, &self.tree.export.unnamed);
        Opened { file: Arc::new(file), attr }
    }

    /// Numbers a file that was opened.
    pub(crate) fn number(&self, opened: Opened) -> Fh {
        self.files.insert(opened.file)
    }

    /// Numbers an open file and answers with it; with its whole content if that is small enough.
    pub(crate) fn answer_opened(
        self: &Arc<Self>,
        opened: Opened,
        content_bytes_max: u32,
        reply: fn(Attr, Fh, bool) -> Reply,
    ) -> Outcome {
        let Opened { file, attr } = opened;
        let wanted = file.readable && attr.size <= u64::from(content_bytes_max).min(INLINE_BYTES_MAX as u64);
        let fh = self.files.insert(file.clone());
        if !wanted || content_bytes_max == 0 {
            return Ok(reply(attr, fh, false).into());
        }
        let answer = move |content: Option<Payload>| {
            let whole = content.is_some();
            Response { answer: Ok(reply(attr, fh, whole)), payload: content.unwrap_or_default() }
        };
        match self.whole_content(&file, attr.size, Patience::Cached) {
            Err(Errno::EAGAIN) => {
                let files = self.clone();
                Err(Stop::Later(Box::new(move || {
                    let content = files.whole_content(&file, attr.size, Patience::Disk);
                    answer(content.ok().flatten())
                })))
            }
            content => Ok(answer(content.ok().flatten())),
        }
    }

    /// A file's content, if it is just as long as its attributes said.
    pub(super) fn whole_content(
        &self,
        file: &OpenFile,
        size: u64,
        patience: Patience,
    ) -> Result<Option<Payload>, Errno> {
        if size == 0 {
            return Ok(Some(Payload::empty()));
        }
        // One byte more shows whether it has grown.
        let mut room = self.pool.take(size as usize + 1);
        let count = self.read_into(file, &mut room, 0, patience)?;
        room.truncate(count);
        Ok((count as u64 == size).then_some(room))
    }

    /// Opens a regular file by the place at which it was found last, else by the node itself, which is `at` if that is
    /// at hand already.
    fn open_placed(
        &self,
        node: Node,
        place: &Place,
        at: Option<BorrowedFd<'_>>,
        &Asked { id, opening, pace, rest }: &Asked<'_>,
    ) -> Result<Opened, Stop> {
        let slot = self.slot()?;
        let _changing = if opening.truncate { Some(self.changing(node, pace)?) } else { None };
        let (fd, attr) = match self.open_at_place(node, place, opening)? {
            Some(opened) => opened,
            None => match at {
                Some(at) => self.open_by_node(node, at, opening, pace)?,
                None => self.open_by_node(node, self.reach(node)?.as_fd(), opening, pace)?,
            },
        };
        if !opening.truncate {
            return Ok(self.opened(fd, attr, opening, slot));
        }
        self.intend_truncation(id, &attr, 0, rest())?;
        let reached = if opening.writable { Reached::Open(fd.as_fd()) } else { Reached::Path(fd.as_fd()) };
        self.tree.export.set_attr(reached, &SetAttr { size: Some(0), ..SetAttr::default() })?;
        let attr = self.tree.export.attr(&fd)?;
        Ok(self.opened(fd, attr, opening, slot))
    }

    /// Opens by parent and name, which is the quickest way; `None` if the node is not there any more or cannot be
    /// opened that way, though perhaps another.
    fn open_at_place(
        &self,
        node: Node,
        place: &Place,
        opening: Opening,
    ) -> Result<Option<(OwnedFd, Attr)>, Errno> {
        let Place::Named(parent, name) = place else { return Ok(None) };
        let Ok(directory) = self.tree.reach(*parent) else { return Ok(None) };
        match self.open_by_name((directory.as_fd(), name), node, opening) {
            Ok(opened) => Ok(Some(opened)),
            Err(
                Errno::ENOENT
                | Errno::ENOTDIR
                | Errno::EISDIR
                | Errno::ELOOP
                | Errno::ENXIO
                | Errno::ESTALE
                | Errno::EACCES
                | Errno::EAGAIN,
            ) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens a name that is known to be the node, or was a moment ago.
    ///
    /// Errors: `ESTALE` if it is another by now.
    pub(crate) fn open_by_name(
        &self,
        (directory, name): (BorrowedFd<'_>, &Name),
        node: Node,
        opening: Opening,
    ) -> Result<(OwnedFd, Attr), Errno> {
        let fd = self.tree.export.open_name(directory, &c_name(name)?, opening)?;
        let attr = self.tree.check(node, fd.as_fd())?;
        Ok((fd, attr))
    }

    fn open_by_node(
        &self,
        node: Node,
        at: BorrowedFd<'_>,
        opening: Opening,
        pace: Pace,
    ) -> Result<(OwnedFd, Attr), Stop> {
        let export = &self.tree.export;
        let patience = match pace {
            Pace::Quick => Patience::Cached,
            Pace::Slow => Patience::Disk,
        };
        let fd = match export.open_node(at, opening, patience) {
            Err(Errno::EAGAIN) if pace == Pace::Quick => return Err(Stop::MaySleep),
            // What may be executed need not be readable, but the client's kernel has to read it.
            Err(Errno::EACCES) if opening.execute && export.access(at, EXECUTE).is_ok() => {
                identity::as_server(|| export.open_node(at, opening, patience))?
            }
            opened => opened?,
        };
        let attr = self.tree.check(node, fd.as_fd())?;
        Ok((fd, attr))
    }
}

/// Errors: those of open(2) for what is no regular file; nothing else is ever opened here.
pub(super) fn only_regular(kind: FileKind) -> Result<(), Errno> {
    match kind {
        FileKind::File => Ok(()),
        FileKind::Directory => Err(Errno::EISDIR),
        FileKind::Symlink => Err(Errno::ELOOP),
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => Err(Errno::ENXIO),
    }
}

fn opened_reply(attr: Attr, fh: Fh, whole: bool) -> Reply {
    Reply::Opened { fh, attr, created: false, whole }
}

fn created_reply(attr: Attr, fh: Fh, whole: bool) -> Reply {
    Reply::Opened { fh, attr, created: true, whole }
}
