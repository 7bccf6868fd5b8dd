//! The nearfs client library: what a mount and a shell have in common.
//!
//! [`vfs::Vfs`] is the remote file system as a kernel wants it; begin there. Below it `rpc` brings requests to
//! the server, [`cache`] remembers what came back, `nodes` and `files` keep what the kernel holds.
//!
//! Imports go down: `vfs` -> (`rpc`, `cache`, `nodes`, `files`, `identity`) -> `config`, `status`, `error`.

pub mod cache;
pub mod config;
pub mod error;
mod files;
mod foresight;
pub mod identity;
mod nodes;
mod rpc;
pub mod status;
pub mod vfs;

#[cfg(test)]
mod testing;
