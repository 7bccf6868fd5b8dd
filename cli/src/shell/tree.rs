//! Walks over trees of the server, without memory for more than the way from the top.

use std::vec::IntoIter;

use nearfs_client::remote::{Found, Listed, Listing, Reason, Remote, RemoteError, RemotePath};
use nearfs_protocol::attr::FileKind;

use crate::shell::failure::Failure;

/// Deepest tree that is walked: each level is one that is being listed.
const DEPTH_MAX: usize = 512;

/// What a walk comes by.
pub(crate) enum Event<'a> {
    /// A name; directories before what is in them.
    Entry {
        path: &'a RemotePath,
        found: &'a Found,
        /// Directories between this one and the top.
        depth: usize,
    },
    /// A directory, after what is in it.
    Left { path: &'a RemotePath, depth: usize },
    /// What could not be listed, or is too deep to be.
    Unreadable { path: &'a RemotePath, error: RemoteError },
}

/// Where to go from a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Go {
    /// Into it.
    In,
    /// Past it.
    Past,
}

struct Level {
    found: Found,
    path: RemotePath,
    listing: Listing,
    piece: IntoIter<Listed>,
}

/// Walks over a tree; the top itself is the first entry, at depth 0. Symbolic links are entries and not followed. What is
/// returned for an entry that is no directory does not matter.
pub(crate) fn walk(
    remote: &Remote,
    top: Found,
    path: &RemotePath,
    visit: &mut dyn FnMut(Event<'_>) -> Result<Go, Failure>,
) -> Result<(), Failure> {
    let is_directory = top.attr.kind == FileKind::Directory;
    if visit(Event::Entry { path, found: &top, depth: 0 })? == Go::Past || !is_directory {
        return Ok(());
    }
    let mut levels = vec![level(remote, top, path)];
    while let Some(last) = levels.last_mut() {
        let Some(listed) = last.piece.next() else {
            match last.listing.next() {
                Some(Ok(piece)) => last.piece = piece.into_iter(),
                Some(Err(error)) => {
                    let (path, error) = (last.path.clone(), error);
                    visit(Event::Unreadable { path: &path, error })?;
                }
                None => {
                    let depth = levels.len() - 1;
                    if let Some(left) = levels.pop() {
                        visit(Event::Left { path: &left.path, depth })?;
                    }
                }
            }
            continue;
        };
        let path = last.path.child(listed.name.clone());
        // What vanished while it was listed is not there.
        let Some(found) = listed.into_found(&last.found) else { continue };
        let depth = levels.len();
        let go = visit(Event::Entry { path: &path, found: &found, depth })?;
        if go == Go::In && found.attr.kind == FileKind::Directory {
            if depth > DEPTH_MAX {
                let error = RemoteError::new(&path, Reason::TooDeep(DEPTH_MAX));
                visit(Event::Unreadable { path: &path, error })?;
                visit(Event::Left { path: &path, depth })?;
                continue;
            }
            levels.push(level(remote, found, &path));
        }
    }
    Ok(())
}

fn level(remote: &Remote, found: Found, path: &RemotePath) -> Level {
    let listing = remote.list_found(found.clone(), path);
    Level { found, path: path.clone(), listing, piece: Vec::new().into_iter() }
}
