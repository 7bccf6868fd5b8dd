//! The client against a scripted peer: a server on a real socket that says exactly what a test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The allowance for tests does not reach their shared functions.

mod attending;
mod behind;
mod caching;
mod deadlines;
mod hostile;
mod operations;
mod paths;
mod reading;
mod resume;
mod round_trips;
mod scripted;
mod unwanted;
mod values;
