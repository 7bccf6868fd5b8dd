//! The only place that calls the operating system's file system, and never leaves the export's root.

use std::io;
use std::path::PathBuf;

/// Why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nothing of that name.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// It is something else.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The system refuses.
    #[error("cannot open {}: {source}", .directory.display())]
    Refused {
        /// What was to be served.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
