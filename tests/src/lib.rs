//! Tests, measuring tools and fault injection for nearfs.

pub mod bench;
pub mod passthrough;
pub mod proxy;
