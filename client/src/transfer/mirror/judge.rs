//! What becomes of a name: the rules alone.

use nearfs_protocol::attr::{FileKind, Time};

use crate::transfer::side::Seen;

/// By what it is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) by_content: bool,
    /// Times that differ by no more than so many seconds are the same.
    pub(super) window_secs: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The target does not have it.
    New,
    /// Two directories, to be looked into.
    Enter,
    /// Nothing.
    Same,
    /// It has another mode or time, and is the same else.
    Adjust,
    /// Only its content tells, or the text of the link.
    Doubt,
    /// It is brought in the place of what is there.
    Differs,
    /// What is there has to go first: one of the two is a directory.
    InTheWay,
    /// Nothing that is brought.
    Special,
}

pub(super) fn judge(source: &Seen, there: Option<&Seen>, rules: &Rules) -> Verdict {
    let is_special = |kind| match kind {
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => true,
        FileKind::File | FileKind::Directory | FileKind::Symlink => false,
    };
    let Some(there) = there else {
        return if is_special(source.kind) { Verdict::Special } else { Verdict::New };
    };
    let (is_dir, was_dir) = (source.kind == FileKind::Directory, there.kind == FileKind::Directory);
    match source.kind {
        kind if is_special(kind) => Verdict::Special,
        FileKind::Directory if was_dir => Verdict::Enter,
        _ if is_dir != was_dir => Verdict::InTheWay,
        kind if kind != there.kind || source.size != there.size => Verdict::Differs,
        FileKind::Symlink => Verdict::Doubt,
        _ if rules.by_content && source.size > 0 => Verdict::Doubt,
        _ if rules.by_content || is_same_time(source.mtime, there.mtime, rules) => {
            equal(source, there, rules)
        }
        _ => Verdict::Differs,
    }
}

/// What is to be done with what has the same content.
pub(super) fn equal(source: &Seen, there: &Seen, rules: &Rules) -> Verdict {
    let is_link = source.kind == FileKind::Symlink;
    let is_same = source.mode == there.mode && is_same_time(source.mtime, there.mtime, rules);
    if is_link || is_same { Verdict::Same } else { Verdict::Adjust }
}

fn is_same_time(one: Time, other: Time, rules: &Rules) -> bool {
    one == other || (rules.window_secs > 0 && one.secs.abs_diff(other.secs) <= rules.window_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Seen =
        Seen { kind: FileKind::File, size: 5, mtime: Time { secs: 100, nanos: 7 }, mode: 0o644 };
    const BY_TIME: Rules = Rules { by_content: false, window_secs: 0 };
    const BY_CONTENT: Rules = Rules { by_content: true, window_secs: 0 };

    fn of(kind: FileKind) -> Seen {
        Seen { kind, ..FILE }
    }

    #[test]
    fn size_and_time_tell_unless_the_content_shall() {
        let at = |secs, nanos| Seen { mtime: Time { secs, nanos }, ..FILE };
        let longer = Seen { size: 6, ..FILE };
        for (there, by_time, by_content) in [
            (FILE, Verdict::Same, Verdict::Doubt),
            (longer, Verdict::Differs, Verdict::Differs),
            (at(100, 8), Verdict::Differs, Verdict::Doubt),
            (Seen { mode: 0o600, ..FILE }, Verdict::Adjust, Verdict::Doubt),
        ] {
            assert_eq!(judge(&FILE, Some(&there), &BY_TIME), by_time, "{there:?}");
            assert_eq!(judge(&FILE, Some(&there), &BY_CONTENT), by_content, "{there:?}");
        }
        let window = Rules { window_secs: 2, ..BY_TIME };
        assert_eq!(judge(&FILE, Some(&at(102, 0)), &window), Verdict::Same);
        assert_eq!(judge(&FILE, Some(&at(103, 0)), &window), Verdict::Differs);
        let empty = Seen { size: 0, ..FILE };
        assert_eq!(judge(&empty, Some(&empty), &BY_CONTENT), Verdict::Same);
        assert_eq!(equal(&FILE, &at(50, 0), &BY_CONTENT), Verdict::Adjust);
    }

    #[test]
    fn kinds_are_told_apart() {
        let (dir, link, fifo) = (of(FileKind::Directory), of(FileKind::Symlink), of(FileKind::Fifo));
        for (source, there, verdict) in [
            (dir, None, Verdict::New),
            (dir, Some(dir), Verdict::Enter),
            (dir, Some(FILE), Verdict::InTheWay),
            (dir, Some(fifo), Verdict::InTheWay),
            (FILE, None, Verdict::New),
            (FILE, Some(dir), Verdict::InTheWay),
            (FILE, Some(link), Verdict::Differs),
            (FILE, Some(fifo), Verdict::Differs),
            (link, Some(dir), Verdict::InTheWay),
            (link, Some(link), Verdict::Doubt),
            (link, Some(Seen { size: 4, ..link }), Verdict::Differs),
            (link, Some(FILE), Verdict::Differs),
            (fifo, None, Verdict::Special),
            (fifo, Some(fifo), Verdict::Special),
            (fifo, Some(dir), Verdict::Special),
        ] {
            assert_eq!(judge(&source, there.as_ref(), &BY_TIME), verdict, "{source:?} {there:?}");
        }
        assert_eq!(equal(&link, &Seen { mode: 0o777, ..link }, &BY_TIME), Verdict::Same);
    }
}
