//! The verbs, a family a file.

pub(crate) mod announce;
pub(crate) mod connection;
pub(crate) mod find;
pub(crate) mod help;
pub(crate) mod list;
pub(crate) mod local;
pub(crate) mod look;
pub(crate) mod make;
pub(crate) mod place;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod who;
