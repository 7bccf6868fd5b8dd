//! The server as its clients see it: raw frames over real sockets.

mod greeting;
mod harness;
mod hostile;
mod idle;
mod resume;
mod service;
