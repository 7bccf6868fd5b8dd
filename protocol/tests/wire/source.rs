//! Reads names out of the crate's own source, so that nothing that is added there can be forgotten here.

pub(crate) const MESSAGE: &str = include_str!("../../src/message.rs");
pub(crate) const GREETING: &str = include_str!("../../src/greeting.rs");
pub(crate) const ROSTER: &str = include_str!("../../src/roster.rs");
pub(crate) const ATTR: &str = include_str!("../../src/attr.rs");
pub(crate) const CODEC: &str = include_str!("../../src/codec.rs");
pub(crate) const LIMITS: &str = include_str!("../../src/limits.rs");

/// The variants of an enum that is formatted by rustfmt.
pub(crate) fn variants(source: &str, name: &str) -> Vec<String> {
    let start = source.find(&format!("\npub enum {name} {{")).expect("the enum is there");
    let body = source[start + 1..].lines().skip(1).take_while(|line| *line != "}");
    let variants: Vec<_> = body
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .map(first_word)
        .collect();
    assert!(!variants.is_empty(), "{name}");
    variants
}

/// The names of all public constants.
pub(crate) fn constants(source: &str) -> Vec<String> {
    source.lines().filter_map(|line| line.strip_prefix("pub const ")).map(first_word).collect()
}

/// What stands before the first character that no identifier has.
pub(crate) fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// Whether the text has this word, not merely a longer one that contains it.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|found| found == word)
}
