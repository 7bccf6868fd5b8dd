//! The session machines of both sides: what outlives a connection.
//!
//! A session begins with the first greeting and ends with a good-bye, or when the server forgets it. In
//! between connections come and go:
//!
//! - Each request occupies a slot of the session until it is answered ([`crate::id::RequestId`]). The client
//!   keeps it, the server keeps the answer of a mutation until the slot carries the next request.
//! - When one connection is lost the client gives up the others too, connects anew, *resumes*, and sends
//!   again whatever was not answered. The server then runs what it has never seen, waits for what it is
//!   still doing, and repeats the answers it remembers: each request has one effect and one outcome.
//! - A caller who does not wait any longer *cancels*. The slot stays taken until the server has said what
//!   became of the request, and the request itself is never sent again.
//!
//! Both machines are plain values without IO, locks or a clock: the driver of each side calls them with what
//! arrived and with `now`, and does what they return.

mod backoff;
pub mod client;
mod in_flight;
mod link;
pub mod server;
mod slot;

/// One connection of a session. Each side counts its own, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);
