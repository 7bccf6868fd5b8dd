//! Deliberate faults of the product, one a file in `tests/mutations`, each with the test that must notice it.
//!
//! A file has three parts: lines of `key: value`, the text to find, and the text to put in its place.
//!
//! ```text
//! breaks: a change is carried out once, however often it is sent
//! file: protocol/src/session/server.rs
//! test: nearfs-protocol --test pair
//! --- find
//! ...
//! --- put
//! ...
//! ```
//!
//! The text is found exactly once. `test`, of which there may be several, is what follows `cargo test -p`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The name of its file.
    pub name: String,
    /// The promise that it breaks.
    pub breaks: String,
    /// The source that it changes, from the top of the project.
    pub file: PathBuf,
    /// Arguments of `cargo test` behind `-p`; each must fail.
    pub tests: Vec<Vec<String>>,
    find: String,
    put: String,
}

/// Why a mutation cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MutationError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// It does not have the form described above.
    #[error("{0}: {1}")]
    Form(String, &'static str),
    /// The source has changed so that it does not apply.
    #[error("{name}: its text occurs {count} times in {}, instead of once", file.display())]
    Stale {
        /// Of the mutation.
        name: String,
        /// Where the text is looked for.
        file: PathBuf,
        /// How often it is there.
        count: usize,
    },
}

/// All mutations of the project whose top is `root`, by name.
pub fn all(root: &Path) -> Result<Vec<Mutation>, MutationError> {
    let directory = root.join("tests/mutations");
    let named = |path: &Path, error| MutationError::Io(path.to_owned(), error);
    let entries = fs::read_dir(&directory).map_err(|error| named(&directory, error))?;
    let mut mutations = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| named(&directory, error))?.path();
        let text = fs::read_to_string(&path).map_err(|error| named(&path, error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        mutations.push(Mutation::parse(name, &text)?);
    }
    mutations.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(mutations)
}

impl Mutation {
    fn parse(name: String, text: &str) -> Result<Mutation, MutationError> {
        let form = |what| MutationError::Form(name.clone(), what);
        let (head, rest) = text.split_once("--- find\n").ok_or_else(|| form("has no text to find"))?;
        let (find, put) = rest.split_once("--- put\n").ok_or_else(|| form("has no text to put"))?;
        let values = |key: &'static str| {
            head.lines().filter_map(move |line| Some(line.strip_prefix(key)?.strip_prefix(": ")?.to_owned()))
        };
        let words = |line: String| line.split_whitespace().map(str::to_owned).collect();
        let mutation = Mutation {
            breaks: values("breaks").next().ok_or_else(|| form("breaks nothing"))?,
            file: values("file").next().ok_or_else(|| form("names no file"))?.into(),
            tests: values("test").map(words).collect(),
            find: find.to_owned(),
            put: put.to_owned(),
            name: name.clone(),
        };
        match &mutation {
            Mutation { tests, .. } if tests.is_empty() => Err(form("names no test")),
            Mutation { find, put, .. } if find.trim().is_empty() || find == put => {
                Err(form("changes nothing"))
            }
            Mutation { .. } => Ok(mutation),
        }
    }

    /// The source as it is below `root`, and as the mutation has it.
    pub fn apply(&self, root: &Path) -> Result<(String, String), MutationError> {
        let path = root.join(&self.file);
        let source = fs::read_to_string(&path).map_err(|error| MutationError::Io(path, error))?;
        match source.matches(&self.find).count() {
            1 => {
                let mutated = source.replacen(&self.find, &self.put, 1);
                Ok((source, mutated))
            }
            count => Err(MutationError::Stale { name: self.name.clone(), file: self.file.clone(), count }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "breaks: counting\nfile: count.rs\ntest: count --lib\n--- find\n    n + 1\n--- put\n    n\n";

    #[test]
    fn a_mutation_is_applied_to_the_one_place_that_it_means() {
        let place = tempfile::tempdir().unwrap();
        let mutation = Mutation::parse("no-count".to_owned(), TEXT).unwrap();
        assert_eq!(mutation.tests, [["count", "--lib"]]);
        fs::write(place.path().join("count.rs"), "fn next(n: u8) -> u8 {\n    n + 1\n}\n").unwrap();
        let (_, mutated) = mutation.apply(place.path()).unwrap();
        assert_eq!(mutated, "fn next(n: u8) -> u8 {\n    n\n}\n");
        for (source, count) in [("", 0), ("    n + 1\n    n + 1\n", 2)] {
            fs::write(place.path().join("count.rs"), source).unwrap();
            let error = mutation.apply(place.path()).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("no-count: its text occurs {count} times in count.rs, instead of once")
            );
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = |text: &str| Mutation::parse("m".to_owned(), text).unwrap_err().to_string();
        assert_eq!(error("breaks: x\n"), "m: has no text to find");
        assert_eq!(error(&TEXT.replace("test:", "toast:")), "m: names no test");
        assert_eq!(error(&TEXT.replace("    n\n", "    n + 1\n")), "m: changes nothing");
    }
}
