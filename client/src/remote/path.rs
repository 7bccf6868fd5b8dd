//! Paths as people write them: bytes between slashes, counted from the root of the share.

use std::fmt;

use nearfs_protocol::name::{Name, NameError};

/// A place in the share: names from its root on, without `.` and `..`. Nothing leads above the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemotePath(Vec<Name>);

impl RemotePath {
    /// The root of the share.
    pub fn root() -> RemotePath {
        RemotePath::default()
    }

    /// Reads a path that counts from the root, with or without a slash before it. `..` takes back the name before it,
    /// and nothing at the root.
    pub fn parse(text: &[u8]) -> Result<RemotePath, NameError> {
        RemotePath::root().join(text)
    }

    /// Reads a path that counts from this one, or from the root if it begins with a slash.
    pub fn join(&self, text: &[u8]) -> Result<RemotePath, NameError> {
        let mut names = if text.first() == Some(&b'/') { Vec::new() } else { self.0.clone() };
        for part in text.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(Name::new(name)?),
            }
        }
        Ok(RemotePath(names))
    }

    /// A name in this directory.
    #[must_use]
    pub fn child(&self, name: Name) -> RemotePath {
        let mut names = self.0.clone();
        names.push(name);
        RemotePath(names)
    }

    /// The directory that has it; `None` for the root.
    pub fn parent(&self) -> Option<RemotePath> {
        let (_, names) = self.0.split_last()?;
        Some(RemotePath(names.to_vec()))
    }

    /// Its name there; `None` for the root.
    pub fn name(&self) -> Option<&Name> {
        self.0.last()
    }

    /// All names from the root on.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// Whether this is `other` or lies below it.
    pub fn is_within(&self, other: &RemotePath) -> bool {
        self.0.starts_with(&other.0)
    }

    /// As bytes, with a slash before each name; the root is one slash.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return b"/".to_vec();
        }
        self.0.iter().flat_map(|name| [b"/", name.as_bytes()].concat()).collect()
    }
}

impl FromIterator<Name> for RemotePath {
    fn from_iter<T: IntoIterator<Item = Name>>(names: T) -> Self {
        RemotePath(names.into_iter().collect())
    }
}

impl fmt::Display for RemotePath {
    /// For people: on one line and without anything that a terminal would obey.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.to_bytes()))
    }
}

/// Bytes of a name for people: what is no UTF-8 and what is no letter of a line is escaped.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if c.is_control() || is_invisible(c) => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// What turns the direction of writing around, or breaks a line, without being a control character.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &[u8]) -> String {
        RemotePath::parse(text).unwrap().to_string()
    }

    #[test]
    fn dots_are_resolved_and_nothing_is_above_the_root() {
        for (written, meant) in [
            (&b""[..], "/"),
            (b"/", "/"),
            (b"a//b/./c/", "/a/b/c"),
            (b"/a/../b", "/b"),
            (b"../../a/..", "/"),
            (b"...", "/..."),
        ] {
            assert_eq!(shown(written), meant);
        }
        let here = RemotePath::parse(b"/a/b").unwrap();
        assert_eq!(here.join(b"../c").unwrap().to_string(), "/a/c");
        assert_eq!(here.join(b"/c").unwrap().to_string(), "/c");
        assert_eq!(here.parent().unwrap().to_string(), "/a");
        assert!(RemotePath::root().parent().is_none() && RemotePath::root().name().is_none());
        assert!(here.is_within(&RemotePath::parse(b"a").unwrap()));
        assert!(!RemotePath::parse(b"ab").unwrap().is_within(&RemotePath::parse(b"a").unwrap()));
    }

    #[test]
    fn names_are_bytes_and_print_on_one_line() {
        let odd = RemotePath::parse(b"a\nb/\xe9 \xc3\xa9/\x1b[31m/\xe2\x80\xae").unwrap();
        assert_eq!(odd.to_string(), "/a\\nb/\\xe9 \u{e9}/\\u{1b}[31m/\\u{202e}");
        assert_eq!(RemotePath::parse(&odd.to_bytes()).unwrap(), odd);
        assert_eq!(RemotePath::parse(b"a\0b"), Err(NameError::Invalid));
        assert_eq!(RemotePath::parse(&[b'x'; 256]), Err(NameError::TooLong));
    }
}
