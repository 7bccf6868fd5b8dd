//! Tests, measuring tools and fault injection for nearfs.

pub mod bench;
pub mod harness;
pub mod injection;
pub mod model;
pub mod mutations;
pub mod passthrough;
pub mod proxy;
pub mod random;
pub mod soak;
