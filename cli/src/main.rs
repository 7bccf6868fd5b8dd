//! The `nearfs` program: composes the sub-commands of the other crates.
fn main() {}
