//! Random operations come to the same on a model, a local directory, a mount, and the client library without a kernel.
//!
//! `NEARFS_MODEL_CASES` sets how many sequences are tried. A sequence that fails is made as short as possible, printed,
//! and kept beside this file to be tried first from then on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The allowance for tests does not reach their shared functions.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nearfs_client::config::VfsConfig;
use nearfs_tests::harness::{World, can_mount, watchdog};
use nearfs_tests::model::client::Client;
use nearfs_tests::model::directory::Directory;
use nearfs_tests::model::memory::Memory;
use nearfs_tests::model::{HANDS, Op, Place, Subject, Value};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

const CASES: u32 = 60;
const OPS_MAX: usize = 60;
const KINDS_OF_OPS: usize = 28;
const SHRINKS_MAX: u32 = 400;
/// For each sequence; a run with more of them may take longer.
const CASE_TIME_MAX: Duration = Duration::from_secs(3);

#[test]
fn all_file_systems_agree() {
    let cases = std::env::var("NEARFS_MODEL_CASES").map_or(CASES, |text| text.parse().unwrap());
    if !can_mount() {
        return;
    }
    let _watchdog = watchdog(CASE_TIME_MAX * cases + Duration::from_secs(120));
    rustix::process::umask(rustix::fs::Mode::empty());
    let world = World::new();
    let mount = world.mount("mount", "");
    let vfs = world.client(VfsConfig::default());
    let local = world.directory("local");
    let next = AtomicUsize::new(0);

    let config = Config { cases, max_shrink_iters: SHRINKS_MAX, ..Config::with_source_file(file!()) };
    let outcome = TestRunner::new(config).run(&ops(), |ops| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (mounted, direct) = (format!("mount{number}"), format!("client{number}"));
        let directory = |root: std::path::PathBuf| {
            fs::create_dir(&root).unwrap();
            root
        };
        let mut model = Memory::new();
        let mut subjects: [Box<dyn Subject>; 3] = [
            Box::new(Directory::new("a local directory", directory(local.join(&mounted)))),
            Box::new(Directory::new("the mount", directory(mount.join(&mounted)))),
            Box::new(Client::new(vfs.clone(), &direct)),
        ];
        compare(&mut model, &mut subjects, &ops)?;
        // And what the server has on its disk is what the mount shows.
        let mut on_disk = Directory::new("the server's disk", world.export().join(&mounted));
        compare_trees(&mut model, &mut on_disk)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Operations that all fail, or never meet, would compare nothing.
#[test]
fn the_sequences_do_something() {
    let mut runner = TestRunner::deterministic();
    let sequences = ops();
    let (mut all, mut succeeded) = (0, BTreeMap::<String, u32>::new());
    for _ in 0..300 {
        let mut model = Memory::new();
        for op in sequences.new_tree(&mut runner).unwrap().current() {
            all += 1;
            if model.apply(&op).is_ok_and(|value| value != Value::Nothing) {
                let kind = format!("{op:?}").split(' ').next().unwrap_or_default().to_owned();
                *succeeded.entry(kind).or_default() += 1;
            }
        }
    }
    let share = succeeded.values().sum::<u32>() * 100 / all;
    assert!(share >= 40, "only {share} of 100 operations succeed: {succeeded:?}");
    assert!(succeeded.len() == KINDS_OF_OPS && succeeded.values().all(|count| *count >= 5), "{succeeded:?}");
}

fn compare(model: &mut Memory, subjects: &mut [Box<dyn Subject>], ops: &[Op]) -> Result<(), TestCaseError> {
    for (at, op) in ops.iter().enumerate() {
        let expected = model.apply(op);
        for subject in subjects.iter_mut() {
            let found = subject.apply(op);
            if found != expected {
                let name = subject.name();
                let report = format!("{name}: operation {at}, {op:?}: {found:?} instead of {expected:?}");
                return Err(TestCaseError::fail(report));
            }
        }
    }
    subjects.iter_mut().try_for_each(|subject| compare_trees(model, subject.as_mut()))
}

fn compare_trees(model: &mut Memory, subject: &mut dyn Subject) -> Result<(), TestCaseError> {
    let expected = model.tree(&|_| true);
    let found = subject.tree(&|path| model.is_timed(path));
    if found == expected {
        return Ok(());
    }
    let report = format!("{}: in the end {found:#?} instead of {expected:#?}", subject.name());
    Err(TestCaseError::fail(report))
}

/// Operations, mostly on a tree that has something in it already.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    let more = proptest::collection::vec(op(), 1..OPS_MAX);
    (proptest::bool::weighted(0.9), more).prop_map(|(furnished, more)| {
        if furnished { furniture().into_iter().chain(more).collect() } else { more }
    })
}

fn furniture() -> Vec<Op> {
    let at = |path: &'static str| Place(path.split('/').collect());
    let file = |path, seed| {
        let place = at(path);
        [
            Op::Create { place: place.clone(), exclusive: true },
            Op::Write { place, offset: 0, size: 140_000, seed },
        ]
    };
    let directory = |path| Op::MakeDir { place: at(path) };
    let mut ops = vec![directory("b"), directory("c"), directory("b/b"), Op::Symlink { place: at("c/c") }];
    let files = [file("a", 1), file("b/a", 2), file("b/b/a", 3), file("c/a", 4), file("c/b", 5)];
    ops.extend(files.into_iter().flatten());
    ops.push(directory("b/c"));
    ops.push(Op::SetXattr { place: at("a"), name: "user.one", value: b"1".to_vec(), flags: 0 });
    ops.push(Op::Hold { place: at("b/a"), hand: 0 });
    ops
}

fn place() -> impl Strategy<Value = Place> {
    // The last two are free in the beginning.
    let name = || select(vec!["a", "a", "b", "b", "c", "c", "d", "e"]);
    prop_oneof![
        4 => name().prop_map(|one| Place(vec![one])),
        6 => (select(vec!["b", "b", "c", "c", "a"]), name()).prop_map(|(one, two)| Place(vec![one, two])),
        2 => (select(vec!["b", "c"]), select(vec!["b", "c"]), name())
            .prop_map(|(one, two, three)| Place(vec![one, two, three])),
    ]
}

/// Places in files: around the edges of pages and of the client's blocks, and anywhere.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => select(vec![0, 1, 4095, 4096, 65_536, 131_071, 131_072, 131_073, 262_144]),
        2 => 0..20_000_u64,
        1 => 0..400_000_u64,
    ]
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1..100_usize, 2 => select(vec![1, 4096, 131_072]), 1 => 1..200_000_usize]
}

fn op() -> impl Strategy<Value = Op> {
    let hand = || 0..HANDS;
    let xattr = || select(vec!["user.one", "user.two"]);
    let names = prop_oneof![
        6 => (place(), any::<bool>()).prop_map(|(place, exclusive)| Op::Create { place, exclusive }),
        4 => place().prop_map(|place| Op::MakeDir { place }),
        4 => place().prop_map(|place| Op::RemoveDir { place }),
        2 => place().prop_map(|place| Op::Unlink { place }),
        5 => (place(), place(), select(vec![0, 0, libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE]))
            .prop_map(|(from, to, flags)| Op::Rename { from, to, flags }),
        3 => (place(), place()).prop_map(|(from, to)| Op::Link { from, to }),
        1 => place().prop_map(|place| Op::Symlink { place }),
        1 => place().prop_map(|place| Op::ReadLink { place }),
        2 => place().prop_map(|place| Op::List { place }),
        3 => place().prop_map(|place| Op::Stat { place }),
        1 => (place(), 0..0o1000_u32).prop_map(|(place, mode)| Op::Chmod { place, mode }),
        1 => (place(), -2_000_000_000..4_000_000_000_i64, 0..1_000_000_000_u32)
            .prop_map(|(place, secs, nanos)| Op::SetModified { place, secs, nanos }),
    ];
    let content = prop_oneof![
        4 => (place(), offset(), size(), any::<u8>())
            .prop_map(|(place, offset, size, seed)| Op::Write { place, offset, size, seed }),
        2 => (place(), size(), any::<u8>()).prop_map(|(place, size, seed)| Op::Append { place, size, seed }),
        4 => (place(), offset(), size()).prop_map(|(place, offset, size)| Op::Read { place, offset, size }),
        2 => (place(), offset()).prop_map(|(place, size)| Op::Truncate { place, size }),
        1 => (place(), offset(), offset(), any::<bool>()).prop_map(|(place, offset, size, hole)| {
            Op::Allocate { place, offset, size: size + 1, hole }
        }),
        2 => (place(), offset(), place(), offset(), offset()).prop_map(
            |(from, from_offset, to, to_offset, size)| {
                Op::CopyRange { from, from_offset, to, to_offset, size: size + 1 }
            }
        ),
    ];
    let attributes = prop_oneof![
        (place(), xattr(), proptest::collection::vec(any::<u8>(), 0..100), 0..3_i32)
            .prop_map(|(place, name, value, flags)| Op::SetXattr { place, name, value, flags }),
        (place(), xattr()).prop_map(|(place, name)| Op::GetXattr { place, name }),
        place().prop_map(|place| Op::ListXattr { place }),
        (place(), xattr()).prop_map(|(place, name)| Op::RemoveXattr { place, name }),
    ];
    let held = prop_oneof![
        4 => (place(), hand()).prop_map(|(place, hand)| Op::Hold { place, hand }),
        3 => (hand(), offset(), size(), any::<u8>())
            .prop_map(|(hand, offset, size, seed)| Op::WriteHeld { hand, offset, size, seed }),
        3 => (hand(), offset(), size()).prop_map(|(hand, offset, size)| Op::ReadHeld { hand, offset, size }),
        1 => (hand(), offset()).prop_map(|(hand, size)| Op::TruncateHeld { hand, size }),
        2 => hand().prop_map(|hand| Op::StatHeld { hand }),
        1 => hand().prop_map(|hand| Op::LetGo { hand }),
    ];
    prop_oneof![5 => names, 4 => content, 2 => attributes, 3 => held]
}
