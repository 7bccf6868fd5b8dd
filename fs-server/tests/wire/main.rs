//! The server as its clients see it: raw frames over real sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod greeting;
mod harness;
mod hostile;
mod idle;
mod lease;
mod resume;
mod roles;
mod roster;
mod service;
mod transfers;
