//! Patterns of names, on both sides: `*`, `?`, `[a-z]`, `{one,other}`.
//!
//! They are matched name by name as bytes, so that names in any encoding are found. A name that begins with a dot is
//! matched only by a pattern that begins with one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobMatcher};
use nearfs_client::remote::path::printable;

use crate::shell::failure::Failure;
use crate::shell::parser::{is_pattern, unescape};

/// Most names that a pattern may stand for.
const MATCHES_MAX: usize = 100_000;

/// Who is told of names, until he fails.
pub(crate) type EachName<'a> = dyn FnMut(&[u8]) -> Result<(), Failure> + 'a;

/// Where names are looked for.
pub(crate) trait Names {
    /// Calls `name` with each name in a directory, with none if it is no directory or not there.
    fn each(&self, directory: &[u8], name: &mut EachName<'_>) -> Result<(), Failure>;
    /// Whether there is something of this path.
    fn exists(&self, path: &[u8]) -> Result<bool, Failure>;
}

/// All paths that a pattern stands for, sorted. One without anything to be matched stands for itself, whether it exists
/// or not; else there are only those that do.
pub(crate) fn expand(pattern: &[u8], tree: &dyn Names) -> Result<Vec<Vec<u8>>, Failure> {
    if !is_pattern(pattern) {
        return Ok(vec![unescape(pattern)]);
    }
    let is_absolute = pattern.first() == Some(&b'/');
    let mut found: Vec<Vec<u8>> = vec![if is_absolute { b"/".to_vec() } else { Vec::new() }];
    let parts: Vec<&[u8]> = components(pattern).into_iter().filter(|part| !part.is_empty()).collect();
    let mut was_matched = false;
    for (at, part) in parts.iter().enumerate() {
        if is_pattern(part) {
            was_matched = true;
            found = matching(&found, part, tree)?;
        } else {
            let name = unescape(part);
            found.iter_mut().for_each(|path| push(path, &name));
            if was_matched && at + 1 == parts.len() {
                let mut there = Vec::new();
                for path in found {
                    if tree.exists(&path)? {
                        there.push(path);
                    }
                }
                found = there;
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A pattern for one name.
pub(crate) fn matcher(pattern: &[u8], ignores_case: bool) -> Result<GlobMatcher, Failure> {
    let text = std::str::from_utf8(pattern)
        .map_err(|_| Failure::Usage(format!("{}: a pattern must be UTF-8", printable(pattern))))?;
    let glob = GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .case_insensitive(ignores_case)
        .build()
        .map_err(|error| Failure::Usage(format!("{text}: {}", error.kind())))?;
    Ok(glob.compile_matcher())
}

/// Whether a name fits.
pub(crate) fn fits(matcher: &GlobMatcher, name: &[u8]) -> bool {
    matcher.is_match(OsStr::from_bytes(name))
}

fn matching(directories: &[Vec<u8>], part: &[u8], tree: &dyn Names) -> Result<Vec<Vec<u8>>, Failure> {
    let matcher = matcher(part, false)?;
    let wants_hidden = part.first() == Some(&b'.');
    let mut found = Vec::new();
    for directory in directories {
        tree.each(directory, &mut |name| {
            if (!wants_hidden && name.first() == Some(&b'.')) || !fits(&matcher, name) {
                return Ok(());
            }
            if found.len() == MATCHES_MAX {
                let part = printable(part);
                return Err(Failure::Refused(format!(
                    "{part} stands for more than {MATCHES_MAX} names; name the directory, or fewer names"
                )));
            }
            let mut path = directory.clone();
            push(&mut path, name);
            found.push(path);
            Ok(())
        })?;
    }
    Ok(found)
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() && path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend(name);
}

/// Cuts at slashes, but not at those within braces and brackets.
fn components(pattern: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut start, mut depth, mut at) = (Vec::new(), 0, 0_usize, 0);
    while let Some(&byte) = pattern.get(at) {
        match byte {
            b'\\' => at += 1,
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b'/' if depth == 0 => {
                parts.push(&pattern[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&pattern[start.min(pattern.len())..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of paths; what ends with a slash is a directory.
    struct Paths(&'static [&'static str]);

    impl Names for Paths {
        fn each(&self, directory: &[u8], name: &mut EachName<'_>) -> Result<(), Failure> {
            let directory = String::from_utf8(directory.to_vec()).unwrap();
            let prefix = if directory.is_empty() || directory.ends_with('/') {
                directory
            } else {
                format!("{directory}/")
            };
            let below = self.0.iter().filter_map(|path| path.strip_prefix(prefix.as_str()));
            let mut names: Vec<&str> = below.filter_map(|rest| rest.split('/').next()).collect();
            names.dedup();
            names.into_iter().try_for_each(|found| name(found.as_bytes()))
        }

        fn exists(&self, path: &[u8]) -> Result<bool, Failure> {
            let path = String::from_utf8(path.to_vec()).unwrap();
            Ok(self.0.iter().any(|known| {
                known.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }))
        }
    }

    fn expanded(pattern: &str) -> Vec<String> {
        let tree =
            Paths(&["a.txt", "b.txt", ".hidden", "d/c.txt", "d/x/y", "e/c.txt", "odd*name", "/root/f"]);
        let found = expand(pattern.as_bytes(), &tree).unwrap();
        found.into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
    }

    #[test]
    fn patterns_stand_for_what_is_there() {
        assert_eq!(expanded("*.txt"), ["a.txt", "b.txt"]);
        assert_eq!(expanded("[b-z].txt"), ["b.txt"]);
        assert_eq!(expanded("*/c.txt"), ["d/c.txt", "e/c.txt"]);
        assert_eq!(expanded("*/x/*"), ["d/x/y"]);
        assert_eq!(expanded("{a,b}.t?t"), ["a.txt", "b.txt"]);
        assert_eq!(expanded(".h*"), [".hidden"]);
        assert_eq!(expanded("/ro*/f"), ["/root/f"]);
        assert!(expanded("*.none").is_empty());
    }

    #[test]
    fn what_is_quoted_stands_for_itself() {
        assert_eq!(expanded("odd\\*name"), ["odd*name"]);
        assert_eq!(expanded("odd\\**"), ["odd*name"]);
        assert_eq!(expanded("missing"), ["missing"]);
        assert_eq!(expanded("\\-x"), ["-x"]);
    }

    /// A directory that never ends.
    struct Endless;

    impl Names for Endless {
        fn each(&self, _directory: &[u8], name: &mut EachName<'_>) -> Result<(), Failure> {
            (0_u64..).try_for_each(|number| name(number.to_string().as_bytes()))
        }

        fn exists(&self, _path: &[u8]) -> Result<bool, Failure> {
            Ok(true)
        }
    }

    #[test]
    fn a_pattern_stands_for_so_many_names_at_most() {
        let failure = expand(b"*", &Endless).unwrap_err();
        assert_eq!(failure.code(), 1);
        assert!(failure.to_string().contains("more than 100000 names; name the directory"), "{failure}");
    }

    #[test]
    fn names_are_matched_as_bytes() {
        assert!(fits(&matcher(b"a*z", false).unwrap(), b"a\xff\nz"));
        assert!(fits(&matcher(b"A*", true).unwrap(), b"abc"));
        assert!(matcher(b"a\xff*", false).is_err() && matcher(b"[a", false).is_err());
    }
}
