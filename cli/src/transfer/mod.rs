//! `get` and `put`: files brought from the server and to it, with progress; `cp`, `mirror`, `cat` and `check`.
//!
//! The work is the client library's; here is what people say and see: where to ([`target`]), how it goes ([`progress`]),
//! how fast it was ([`rates`]).

mod check;
mod cp;
mod get;
mod mirror;
mod options;
mod progress;
mod put;
mod rates;
mod run;

pub(crate) use check::{CatOptions, CheckOptions, cat, check};
pub(crate) use cp::{CpOptions, cp};
pub(crate) use get::{GetOptions, get};
pub(crate) use mirror::{MirrorCommand, mirror};
pub(crate) use put::{PutOptions, put};
