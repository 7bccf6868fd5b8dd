//! Placeholder.

pub mod dispatch;
mod errno;
pub mod export;
pub mod tree;
