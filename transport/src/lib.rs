//! Moves nearfs frames: over TCP, Unix sockets, and the standard streams of a command such as ssh.
//!
//! A client parses a [`address::Source`], [`dial`]s it and splits the [`link::Link`] into a
//! [`frame::FrameReader`] and a [`frame::FrameWriter`], which block. A server accepts
//! [`stream::Stream`]s from a [`listen::Listener`] without blocking. Both share [`assembler`], which
//! cuts bytes into frames, and [`pool`], from which large payloads get their room.

pub mod address;
pub mod assembler;
pub mod dial;
pub mod frame;
pub mod link;
pub mod listen;
pub mod pool;
pub mod stream;
