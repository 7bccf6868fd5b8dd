//! Every operation on a directory of the local disk, without a connection.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod attributes;
mod content;
mod dir_changes;
mod directories;
mod escape;
mod identities;
mod locks;
mod names;
mod nodes;
mod speed;
mod support;
mod transfers;
mod xattrs;
