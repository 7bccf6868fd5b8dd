//! The names of directories that are compared with those of others, within a bound on how many that are at once.

use std::collections::HashMap;

use nearfs_protocol::name::Name;
use parking_lot::{Mutex, MutexGuard};

use crate::transfer::failure::{Cause, Failure};
use crate::transfer::side::{Dir, Entry};

/// Most names of a directory that is compared: some 500 MB.
const NAMES_MAX: usize = 1_000_000;
/// A directory with more names is compared alone. Of the others there are as many at once as there are comparers.
const SMALL_NAMES_MAX: usize = 10_000;

/// Whose turn it is with a directory of many names.
#[derive(Default)]
pub(super) struct Turn(Mutex<()>);

/// What a directory has, by name.
#[derive(Default)]
pub(super) struct Names<'a> {
    entries: HashMap<Name, Entry>,
    turn: Option<MutexGuard<'a, ()>>,
}

impl<'a> Names<'a> {
    /// Lists a directory as far as `wanted` says which of its names count, until `is_stopped`.
    ///
    /// Errors: those of listing it; `Refused` if it has too many names.
    pub(super) fn of(
        dir: &Dir,
        turn: &'a Turn,
        wanted: impl Fn(&Entry) -> bool,
        is_stopped: impl Fn() -> bool,
    ) -> Result<Names<'a>, Failure> {
        Names::at_most(NAMES_MAX, dir, turn, wanted, is_stopped)
    }

    fn at_most(
        max: usize,
        dir: &Dir,
        turn: &'a Turn,
        wanted: impl Fn(&Entry) -> bool,
        is_stopped: impl Fn() -> bool,
    ) -> Result<Names<'a>, Failure> {
        let (mut names, mut is_too_large) = (Names::default(), false);
        dir.all(|entry| {
            if wanted(&entry) {
                is_too_large = names.entries.len() == max;
                if names.entries.len() == SMALL_NAMES_MAX && names.turn.is_none() {
                    names.turn = Some(turn.0.lock());
                }
                names.entries.insert(entry.name().clone(), entry);
            }
            !is_too_large && !is_stopped()
        })?;
        if is_too_large {
            let text = format!("has more than {max} names, too many to be compared: name its files instead");
            return Err(Failure::new(dir.to_string(), Cause::Refused(text)));
        }
        Ok(names)
    }

    /// Takes out what has this name.
    pub(super) fn remove(&mut self, name: &Name) -> Option<Entry> {
        self.entries.remove(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What has not been taken out.
    pub(super) fn rest(&mut self) -> impl ExactSizeIterator<Item = Entry> {
        std::mem::take(&mut self.entries).into_values()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::transfer::local::LocalDir;

    #[test]
    fn a_directory_with_too_many_names_is_refused_in_a_line() {
        let place = tempfile::tempdir().unwrap();
        for name in ["one", "two", "three", "passed over"] {
            std::fs::write(place.path().join(name), "").unwrap();
        }
        let dir = Dir::Here(Arc::new(LocalDir::open(place.path()).unwrap()));
        let turn = Turn::default();
        let names = |max| {
            let wanted = |entry: &Entry| entry.name().as_bytes() != b"passed over";
            Names::at_most(max, &dir, &turn, wanted, || false)
        };
        assert_eq!(names(3).unwrap().rest().len(), 3);
        let failure = names(2).err().unwrap().to_string();
        assert!(failure.ends_with("has more than 2 names, too many to be compared: name its files instead"));
    }

    #[test]
    fn large_directories_take_turns() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..=SMALL_NAMES_MAX {
            std::fs::write(place.path().join(number.to_string()), "").unwrap();
        }
        let dir = Dir::Here(Arc::new(LocalDir::open(place.path()).unwrap()));
        let turn = Turn::default();
        let names = |wanted: &dyn Fn(&Entry) -> bool| Names::of(&dir, &turn, wanted, || false).unwrap();
        let small = names(&|entry| entry.name().as_bytes() != b"0");
        assert!(small.turn.is_none());
        let large = names(&|_| true);
        assert!(large.turn.is_some() && turn.0.is_locked());
        drop(large);
        assert!(!turn.0.is_locked());
    }
}
