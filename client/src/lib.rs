//! The nearfs client library: what a mount and a shell have in common.
//!
//! [`vfs::Vfs`] is the remote file system as a kernel wants it; begin there. [`remote::Remote`] is the same by paths, for
//! whoever has no kernel between, and [`transfer`] brings whole trees through it. Below them `rpc` brings requests to
//! the server, [`cache`] remembers what came back, `nodes` and `files` keep what the kernel holds.
//!
//! Imports go down: (`vfs`, `remote`) -> (`rpc`, `cache`, `nodes`, `files`, `identity`) -> `cancel`, `config`, `status`, `error`.

pub mod cache;
pub mod cancel;
pub mod config;
pub mod error;
mod files;
mod foresight;
pub mod identity;
mod nodes;
pub mod remote;
mod roster;
mod rpc;
pub mod status;
pub mod transfer;
pub mod vfs;

#[cfg(test)]
mod testing;
