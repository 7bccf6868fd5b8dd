//! From a path to a node: one name at a time, following symbolic links within the share.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::errno::Errno;
use nearfs_protocol::limits::SYMLINK_BYTES_MAX;
use nearfs_protocol::message::{Reply, Request};
use nearfs_protocol::name::Name;

use crate::remote::error::{Reason, RemoteError};
use crate::remote::path::{RemotePath, printable};
use crate::remote::{Held, Remote, Session};

/// Symbolic links that are followed on one way, as Linux has it (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Names that a way may have in all, those of links included.
const STEPS_MAX: usize = 4096;
/// Directories that are remembered, so that the way to a neighbour is not walked again.
const WALKED_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// How long a directory that was walked through is believed to be where it was.
const WALKED_TIME_MAX: Duration = Duration::from_secs(1);

/// What happens to a symbolic link at the end of a path. Those on the way are always followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It stands for what it points to (stat(2)).
    Yes,
    /// It is meant itself (lstat(2)).
    No,
}

/// What a path leads to.
#[derive(Clone)]
pub struct Found {
    /// Its node.
    pub node: Arc<Held>,
    /// Its attributes, as people here shall see them.
    pub attr: Attr,
    /// Where it really is, when symbolic links were followed.
    pub path: RemotePath,
    /// The session to which the node belongs.
    pub session: Session,
}

/// A directory in which a name is to be looked for, made or removed.
pub struct Parent {
    /// Its node; that it is a directory, the server checks.
    pub node: Arc<Held>,
    /// Where it really is.
    pub path: RemotePath,
    /// The session to which the node belongs.
    pub session: Session,
}

/// Directories by their real path.
pub(super) struct Walked(LruCache<RemotePath, (Arc<Held>, Instant)>);

impl Default for Walked {
    fn default() -> Self {
        Walked(LruCache::new(WALKED_MAX))
    }
}

/// What is at the end of the way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// What is asked about: it is looked at afresh.
    Itself(Follow),
    /// A directory in which something else is wanted.
    Parent,
}

/// A piece of the way that is still to be gone.
enum Step {
    Down(Name),
    Up,
}

/// Where one is on the way.
struct Position {
    path: RemotePath,
    /// The directories from the root on, itself included.
    nodes: Vec<Arc<Held>>,
    /// Attributes that have just been read.
    attr: Option<Attr>,
}

impl Remote {
    /// Finds what a path leads to.
    pub fn find(&self, path: &RemotePath, follow: Follow) -> Result<Found, RemoteError> {
        self.again(path, |session| {
            let position = self.walk(session, path.names(), Goal::Itself(follow))?;
            let node = position.node(session);
            let attr = match position.attr {
                Some(attr) => attr,
                None => get_attr(session, &node)?,
            };
            let attr = session.shown(attr);
            Ok(Found { node, attr, path: position.path, session: session.clone() })
        })
    }

    /// Finds the directory that has, or will have, the last name of a path, and the name.
    pub fn find_parent(&self, path: &RemotePath) -> Result<(Parent, Name), RemoteError> {
        let Some((name, way)) = path.names().split_last() else {
            return Err(RemoteError::new(path, Errno::EBUSY));
        };
        let parent = self.again(path, |session| {
            let position = self.walk(session, way, Goal::Parent)?;
            let node = position.node(session);
            Ok(Parent { node, path: position.path, session: session.clone() })
        })?;
        Ok((parent, name.clone()))
    }

    /// Does what changes nothing; once more if the session turned out to be over, or if a directory that was walked
    /// through before is gone.
    pub(super) fn again<T>(
        &self,
        path: &RemotePath,
        ask: impl Fn(&Session) -> Result<T, Reason>,
    ) -> Result<T, RemoteError> {
        let attempt = || {
            let session = self.session()?;
            ask(&session).map_err(|reason| match reason {
                Reason::Errno(errno) => session.reason(errno),
                reason => reason,
            })
        };
        let result = match attempt() {
            Err(Reason::Errno(Errno::ESTALE) | Reason::SessionOver(_)) => {
                self.forget_walked();
                attempt()
            }
            result => result,
        };
        result.map_err(|reason| RemoteError::new(path, reason))
    }

    /// Directories may be elsewhere from here on.
    pub(super) fn forget_walked(&self) {
        let walked = std::mem::take(&mut self.shared.current.lock().walked);
        drop(walked); // Gives nodes back, not under the lock.
    }

    /// Directories that were at or below a place, by their real paths, may be elsewhere from here on.
    pub(super) fn forget_within(&self, place: &RemotePath) {
        let mut current = self.shared.current.lock();
        let walked = &mut current.walked.0;
        let within = |(path, _): (&RemotePath, _)| path.is_within(place).then(|| path.clone());
        let paths: Vec<RemotePath> = walked.iter().filter_map(within).collect();
        let gone: Vec<_> = paths.iter().filter_map(|path| walked.pop(path)).collect();
        drop(current);
        drop(gone); // Gives nodes back, not under the lock.
    }

    fn walk(&self, session: &Session, names: &[Name], goal: Goal) -> Result<Position, Reason> {
        let mut position = Position { path: RemotePath::root(), nodes: Vec::new(), attr: None };
        let mut way: Vec<Step> = names.iter().rev().cloned().map(Step::Down).collect();
        let (mut links, mut steps) = (0, 0);
        let mut last_link = None;
        while let Some(step) = way.pop() {
            steps += 1;
            if steps > STEPS_MAX {
                return Err(Errno::ELOOP.into());
            }
            let Step::Down(name) = step else {
                position.up().ok_or_else(|| leaves(last_link.take()))?;
                continue;
            };
            let path = position.path.child(name.clone());
            let is_passed = !way.is_empty() || goal == Goal::Parent;
            if is_passed && let Some(node) = self.walked(&path) {
                position.down(path, node, None);
                continue;
            }
            let (node, attr) = look_up(session, &position.node(session), name)?;
            let is_followed = is_passed || goal == Goal::Itself(Follow::Yes);
            if attr.kind != FileKind::Symlink || !is_followed {
                if attr.kind == FileKind::Directory {
                    self.remember(&path, &node);
                }
                position.down(path, node, Some(attr));
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(Errno::ELOOP.into());
            }
            let target = read_link(session, &node)?;
            way.extend(steps_of(&target, &path)?.into_iter().rev());
            last_link = Some((path, target));
        }
        Ok(position)
    }

    fn walked(&self, path: &RemotePath) -> Option<Arc<Held>> {
        let mut current = self.shared.current.lock();
        let (node, since) = current.walked.0.get(path)?;
        (since.elapsed() < WALKED_TIME_MAX).then(|| Arc::clone(node))
    }

    fn remember(&self, path: &RemotePath, node: &Arc<Held>) {
        let mut current = self.shared.current.lock();
        let old = current.walked.0.push(path.clone(), (Arc::clone(node), Instant::now()));
        drop(current);
        drop(old); // Gives a node back, not under the lock.
    }
}

impl Position {
    fn node(&self, session: &Session) -> Arc<Held> {
        self.nodes.last().cloned().unwrap_or_else(|| Arc::new(session.root()))
    }

    fn down(&mut self, path: RemotePath, node: Arc<Held>, attr: Option<Attr>) {
        self.path = path;
        self.nodes.push(node);
        self.attr = attr;
    }

    /// `None` at the root.
    fn up(&mut self) -> Option<()> {
        self.path = self.path.parent()?;
        self.nodes.pop();
        self.attr = None;
        Some(())
    }
}

/// The way that a link's text describes, from the directory that has it. An absolute one counts from the server's own
/// root, of which nothing is known here.
fn steps_of(target: &[u8], link: &RemotePath) -> Result<Vec<Step>, Reason> {
    if target.first() == Some(&b'/') {
        return Err(leaves(Some((link.clone(), target.to_vec()))));
    }
    let mut steps = Vec::new();
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => steps.push(Step::Up),
            name => steps.push(Step::Down(Name::new(name)?)),
        }
    }
    Ok(steps)
}

/// Paths themselves have no way up, so that it was a link.
fn leaves(link: Option<(RemotePath, Vec<u8>)>) -> Reason {
    let (link, target) = link.unwrap_or_default();
    Reason::LinkLeaves { link, target: printable(&target) }
}

fn look_up(session: &Session, parent: &Arc<Held>, name: Name) -> Result<(Arc<Held>, Attr), Reason> {
    let request = Request::Lookup { parent: parent.node(), name, also_open: None };
    match session.ask(request, None)?.0 {
        Reply::Entry { attr, .. } => Ok((Arc::new(session.hold(attr.node, parent)), attr)),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn get_attr(session: &Session, node: &Held) -> Result<Attr, Reason> {
    match session.ask(Request::GetAttr { node: node.node(), fh: None }, None)?.0 {
        Reply::Attr(attr) => Ok(attr),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn read_link(session: &Session, node: &Held) -> Result<Vec<u8>, Reason> {
    match session.ask(Request::ReadLink { node: node.node() }, None)? {
        (Reply::Done, target) if (1..=SYMLINK_BYTES_MAX).contains(&target.len()) => Ok(target.to_vec()),
        (other, _) => Err(unexpected(&other)),
    }
}

/// The server answered something that does not belong to the request.
pub(super) fn unexpected(reply: &Reply) -> Reason {
    log::error!("the server's answer does not fit the request: {reply:?}");
    Errno::EPROTO.into()
}
