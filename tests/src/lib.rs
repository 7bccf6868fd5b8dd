//! Tests, measuring tools and fault injection for nearfs.

pub mod proxy;
