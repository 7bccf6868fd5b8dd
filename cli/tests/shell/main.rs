//! `nearfs shell` and its verbs as commands, against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The allowance for tests does not reach their shared functions.

mod names;
mod once;
mod person;
mod script;
mod site;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod top;
mod trouble;
mod verbs;
