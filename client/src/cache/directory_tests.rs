//! What is remembered of directories against a naive model: one's own changes, those of others, which nobody tells of, and
//! answers that arrive in any order.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use nearfs_protocol::attr::{Attr, FileKind};
use nearfs_protocol::id::{Change, Node, NodeId};
use nearfs_protocol::message::DirChange;
use nearfs_protocol::name::Name;
use proptest::prelude::*;

use super::dentry::Dentry;
use super::limits::CacheLimits;
use super::*;

const TIMES: TrustTimes = TrustTimes {
    attr: Duration::from_secs(3),
    entry: Duration::from_secs(2),
    negative: Duration::from_secs(1),
};

const DIRECTORIES: u64 = 2;
const NAMES: u64 = 4;

/// A directory and a name in it.
type Place = (u64, u64);

#[derive(Clone, Debug)]
enum Op {
    LookUp(Place),
    Stat(u64),
    List(u64),
    /// We ourselves make or remove a name; `disturbed`: others change another at the same time.
    Change(Place, Option<u64>),
    /// We ourselves change it, and nobody knows what came of it.
    ChangeInVain(Place),
    /// Others change a name.
    Elsewhere(Place),
    /// An answer that is under way arrives.
    Arrive(usize),
    /// Everything arrives, and then time passes.
    Elapse(u64),
}

fn place() -> impl Strategy<Value = Place> {
    (1..=DIRECTORIES, 1..=NAMES)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => place().prop_map(Op::LookUp),
        4 => (1..=DIRECTORIES).prop_map(Op::Stat),
        3 => (1..=DIRECTORIES).prop_map(Op::List),
        6 => (place(), prop::option::weighted(0.2, 1..=NAMES)).prop_map(|(at, other)| Op::Change(at, other)),
        1 => place().prop_map(Op::ChangeInVain),
        2 => place().prop_map(Op::Elsewhere),
        8 => (0..4usize).prop_map(Op::Arrive),
        3 => (0..1500u64).prop_map(Op::Elapse),
    ]
}

/// An answer that is under way.
enum Answer {
    Name(FillToken, Place, Change, Dentry),
    Attr(FillToken, Attr),
    Names(FillToken, u64, Change, Vec<Name>),
    Changed(FillToken, Place, DirChange, Dentry),
}

/// What a name stood for from some step and moment on.
struct Truth {
    dentry: Dentry,
    step: u64,
    since: Instant,
}

struct Model {
    cache: Cache,
    now: Instant,
    step: u64,
    counters: HashMap<u64, u64>,
    history: BTreeMap<Place, Vec<Truth>>,
    /// The step of our own last change of a name that was answered.
    own: HashMap<Place, u64>,
    under_way: Vec<Answer>,
}

impl Model {
    fn new(bytes_max: u64) -> Model {
        let now = Instant::now();
        let places = (1..=DIRECTORIES).flat_map(|id| (1..=NAMES).map(move |name| (id, name)));
        let absent = || vec![Truth { dentry: Dentry::Absent, step: 0, since: now }];
        Model {
            cache: Cache::new(CacheLimits::from_cache_bytes(bytes_max), TIMES),
            now,
            step: 0,
            counters: (1..=DIRECTORIES).map(|id| (id, 1)).collect(),
            history: places.map(|place| (place, absent())).collect(),
            own: HashMap::new(),
            under_way: Vec::new(),
        }
    }

    fn truth(&self, place: Place) -> Dentry {
        self.history[&place].last().unwrap().dentry
    }

    /// A name appears or disappears at the server.
    fn flip(&mut self, place: Place) -> Dentry {
        self.step += 1;
        let dentry = match self.truth(place) {
            Dentry::Absent => Dentry::Node(node(100 + self.step)),
            Dentry::Node(_) => Dentry::Absent,
        };
        *self.counters.get_mut(&place.0).unwrap() += 1;
        let truth = Truth { dentry, step: self.step, since: self.now };
        self.history.get_mut(&place).unwrap().push(truth);
        dentry
    }

    fn attr(&self, directory: u64) -> Attr {
        directory_attr(directory, self.counters[&directory])
    }

    fn run(&mut self, op: Op) {
        let token = self.cache.begin_fill();
        match op {
            Op::LookUp(place) => {
                let change = self.cache.attrs.last_change(node(place.0));
                self.under_way.push(Answer::Name(token, place, change, self.truth(place)));
            }
            Op::Stat(id) => self.under_way.push(Answer::Attr(token, self.attr(id))),
            Op::List(id) => {
                let there = self.history.iter().filter(|((directory, _), _)| *directory == id);
                let there = there.filter(|(_, truths)| truths.last().unwrap().dentry != Dentry::Absent);
                let names = there.map(|((_, id), _)| name(*id)).collect();
                self.under_way.push(Answer::Names(token, id, Change(self.counters[&id]), names));
            }
            // The kernel changes a directory once at a time.
            Op::Change(place, other) if !self.changes(place.0) => {
                let mut before = Change(self.counters[&place.0]);
                let dentry = self.flip(place);
                if let Some(other) = other.filter(|other| *other != place.1) {
                    self.flip((place.0, other));
                    before = Change::UNSURE;
                }
                let change = DirChange { before, attr: self.attr(place.0) };
                self.under_way.push(Answer::Changed(token, place, change, dentry));
            }
            Op::ChangeInVain(place) if !self.changes(place.0) => {
                self.flip(place);
                self.cache.unlinked(node(place.0), &name(place.1));
                self.own.insert(place, self.step);
            }
            Op::Change(..) | Op::ChangeInVain(_) => {}
            Op::Elsewhere(place) => drop(self.flip(place)),
            Op::Arrive(nth) if !self.under_way.is_empty() => {
                let answer = self.under_way.swap_remove(nth % self.under_way.len());
                self.arrived(answer);
            }
            Op::Arrive(_) => {}
            Op::Elapse(millis) => {
                while let Some(answer) = self.under_way.pop() {
                    self.arrived(answer);
                }
                self.now += Duration::from_millis(millis);
            }
        }
    }

    fn changes(&self, id: u64) -> bool {
        self.under_way.iter().any(|answer| matches!(answer, Answer::Changed(_, place, ..) if place.0 == id))
    }

    fn arrived(&mut self, answer: Answer) {
        match answer {
            Answer::Name(token, place, change, dentry) => {
                let at = (node(place.0), &name(place.1));
                self.cache.fill_name(token, at, change, dentry, self.now);
            }
            Answer::Attr(token, attr) => drop(self.cache.fill_attr(token, &attr, self.now)),
            Answer::Names(token, id, change, names) => {
                self.cache.fill_names(token, node(id), change, names.into_iter(), self.now);
            }
            Answer::Changed(token, place, change, dentry) => {
                let step =
                    self.history[&place].iter().rev().find(|truth| truth.dentry == dentry).unwrap().step;
                self.own.insert(place, step);
                self.cache.own_names(token, &change, &[(&name(place.1), dentry)], self.now);
            }
        }
    }

    /// Whatever the cache says was so a moment ago that is recent enough, and not before our own last change.
    fn check(&self) -> Result<(), TestCaseError> {
        for (place, truths) in &self.history {
            let Some((dentry, left)) = self.cache.name(node(place.0), &name(place.1), self.now) else {
                continue;
            };
            prop_assert!(!left.is_zero() && left <= TIMES.attr);
            let own = self.own.get(place).copied().unwrap_or(0);
            let ends =
                truths.iter().skip(1).map(|next| (next.step, next.since)).chain([(u64::MAX, self.now)]);
            let was_so = truths.iter().zip(ends).any(|(truth, (next_step, ended))| {
                truth.dentry == dentry && next_step > own && ended + TIMES.attr >= self.now + left
            });
            prop_assert!(was_so, "{:?} of {:?} for {:?}", dentry, place, left);
        }
        Ok(())
    }
}

fn node(id: u64) -> Node {
    Node { id: NodeId(id), ..Node::default() }
}

fn directory_attr(id: u64, change: u64) -> Attr {
    Attr { node: node(id), change: Change(change), kind: FileKind::Directory, ..crate::testing::attr(0, 0) }
}

fn name(id: u64) -> Name {
    Name::new(format!("name{id}").as_bytes()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn directories_are_as_they_were_a_moment_ago(
        bytes_max in prop::sample::select(vec![0u64, 4000, 12_000, 1 << 20]),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut model = Model::new(bytes_max);
        for op in ops {
            model.run(op);
            model.check()?;
            prop_assert!(model.cache.bytes() <= bytes_max);
        }
    }
}

fn changed(before: u64, after: u64) -> DirChange {
    DirChange { before: Change(before), attr: directory_attr(1, after) }
}

#[test]
fn what_is_known_of_a_directory_moves_along_with_own_changes_only() {
    let cache = Cache::new(CacheLimits::from_cache_bytes(1 << 20), TIMES);
    let start = Instant::now();
    let told = |secs, name: u64, dentry, change: DirChange| {
        let now = start + Duration::from_secs(secs);
        cache.own_names(cache.begin_fill(), &change, &[(&self::name(name), dentry)], now);
    };
    let ask = |secs, id: u64| {
        let found = cache.name(node(1), &name(id), start + Duration::from_secs(secs));
        found.map(|(dentry, _)| dentry)
    };
    // Made empty, and then only changed by us: all names are known, however long that goes on.
    cache.fill_names(cache.begin_fill(), node(1), Change(1), std::iter::empty(), start);
    told(0, 1, Dentry::Node(node(101)), changed(1, 2));
    for secs in 1..60 {
        told(
            secs,
            2,
            [Dentry::Node(node(102)), Dentry::Absent][(secs % 2) as usize],
            changed(secs + 1, secs + 2),
        );
        assert_eq!([1, 2, 3].map(|id| ask(secs, id)).map(|found| found.is_some()), [true; 3], "{secs}");
        assert_eq!((ask(secs, 1), ask(secs, 3)), (Some(Dentry::Node(node(101))), Some(Dentry::Absent)));
    }
    // Nobody has vouched for it for long enough.
    assert_eq!([1, 3].map(|id| ask(62, id)), [None; 2]);
    // Others changed it as well: only what we did ourselves is known.
    told(62, 2, Dentry::Node(node(103)), changed(62, 63));
    assert_eq!([1, 2, 3].map(|id| ask(62, id)), [None, Some(Dentry::Node(node(103))), None]);
    told(62, 2, Dentry::Absent, DirChange { before: Change::UNSURE, ..changed(0, 64) });
    assert_eq!([1, 2, 3].map(|id| ask(62, id)), [None, Some(Dentry::Absent), None]);
}

/// With each a few of the 8,192 slots are noted, some of which are the same by chance.
#[test]
fn a_change_does_not_disturb_itself() {
    let cache = Cache::new(CacheLimits::from_cache_bytes(1 << 20), TIMES);
    let now = Instant::now();
    for count in 1..20_000 {
        let (gone, there) = (name(count), name(count + 1));
        let names = [(&gone, Dentry::Absent), (&there, Dentry::Node(node(101)))];
        let time = cache.own_names(cache.begin_fill(), &changed(count, count + 1), &names, now);
        assert_eq!(time, TIMES.entry, "{count}");
    }
}
