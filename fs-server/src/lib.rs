//! Serves a directory over the nearfs protocol.
//!
//! A [`server::Server`] greets connections and gives each a task; what they carry is a session, which
//! outlives them. [`session_files::SessionFiles`] is what it holds of a [`tree::Tree`], [`dispatch`] carries out
//! what it asks for.

mod admission;
pub mod config;
mod connection;
pub mod descriptor;
pub mod dispatch;
mod errno;
pub mod export;
mod greeting;
mod group_sync;
mod handle;
mod identity;
pub mod journal;
mod keep;
mod known;
mod listings;
mod lobby;
mod lock;
mod node;
mod op;
pub mod options;
mod outbox;
mod peer_uid;
mod progress;
mod pulse;
mod restore;
mod roster;
mod search;
pub mod server;
mod session;
pub mod session_files;
mod sessions;
mod sock_diag;
mod start;
mod state;
pub mod store;
mod telling;
mod transfers;
pub mod tree;
mod visitor;
mod wire;

pub use start::run;
