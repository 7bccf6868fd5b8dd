//! The metadata caches against naive models.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nearfs_protocol::attr::{Attr, FileKind, Time};
use nearfs_protocol::id::{Change, Generation, Node, NodeId};
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

fn node(id: u64) -> Node {
    Node { id: NodeId(id), generation: Generation(0) }
}

fn name(id: u64) -> Name {
    Name::new(format!("name{id}").as_bytes()).unwrap()
}

fn attr(node: Node, change: u64) -> Attr {
    let time = Time { secs: 0, nanos: 0 };
    Attr {
        node,
        change: Change(change),
        kind: FileKind::File,
        mode: 0o644,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: change,
        blocks: 0,
        blksize: 4096,
        atime: time,
        mtime: time,
        ctime: time,
        btime: None,
    }
}

fn cache(bytes_max: u64) -> Cache {
    Cache::new(CacheLimits::from_cache_bytes(bytes_max), TIMES)
}

#[derive(Clone, Debug)]
enum Op {
    Ask,
    Answer {
        nth: usize,
    },
    OwnChange,
    /// Somebody else changes it, and the server says so.
    Pushed,
    Elapse {
        millis: u64,
    },
}

fn op() -> impl Strategy<Value = (u64, Op)> {
    let op = prop_oneof![
        4 => Just(Op::Ask),
        4 => (0..4usize).prop_map(|nth| Op::Answer { nth }),
        2 => Just(Op::OwnChange),
        1 => Just(Op::Pushed),
        1 => (0..1500u64).prop_map(|millis| Op::Elapse { millis }),
    ];
    (1..6u64, op)
}

/// What the server holds of each key, and questions it has answered while they were under way.
struct Server<K, V> {
    truth: HashMap<K, V>,
    under_way: Vec<(FillToken, K, V)>,
}

fn limits() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![0u64, 2000, 8000, 1 << 20])
}

proptest! {
    /// With all changes told, a cache never shows anything but the truth.
    #[test]
    fn attributes_are_never_old(bytes_max in limits(), ops in prop::collection::vec(op(), 1..100)) {
        let cache = cache(bytes_max);
        let mut server = Server { truth: (1..6).map(|id| (id, 1u64)).collect(), under_way: Vec::new() };
        let mut now = Instant::now();
        for (id, op) in ops {
            let current = server.truth[&id];
            match op {
                Op::Ask => server.under_way.push((cache.begin_fill(), id, current)),
                Op::Answer { nth } if !server.under_way.is_empty() => {
                    let nth = nth % server.under_way.len();
                    let (token, id, change) = server.under_way.swap_remove(nth);
                    let time = cache.fill_attr(token, &attr(node(id), change), now);
                    prop_assert!(time == TIMES.attr || time.is_zero());
                    prop_assert!(time.is_zero() || change == server.truth[&id]);
                }
                Op::Answer { .. } => {}
                Op::OwnChange => {
                    let token = cache.begin_fill();
                    server.truth.insert(id, current + 1);
                    cache.own_change(token, Change(current), &attr(node(id), current + 1), now);
                }
                Op::Pushed => {
                    server.truth.insert(id, current + 1);
                    cache.invalidate(node(id));
                }
                Op::Elapse { millis } => now += Duration::from_millis(millis),
            }
            for (&id, &change) in &server.truth {
                if let Some((attr, left)) = cache.attr(node(id), now) {
                    prop_assert_eq!(attr.change, Change(change));
                    prop_assert!(!left.is_zero() && left <= TIMES.attr);
                }
            }
            prop_assert!(cache.bytes() <= bytes_max);
        }
    }

    #[test]
    fn names_are_never_old(bytes_max in limits(), ops in prop::collection::vec((op(), 1..4u64), 1..100)) {
        let cache = cache(bytes_max);
        let keys = (1..4u64).flat_map(|parent| (1..6).map(move |id| (parent, id)));
        let mut server = Server { truth: keys.map(|key| (key, None)).collect(), under_way: Vec::new() };
        let (mut now, mut next_node) = (Instant::now(), 100u64);
        for ((id, op), parent) in ops {
            let key = (parent, id);
            let made = server.truth[&key].is_none().then(|| node(next_node));
            next_node += 1;
            match op {
                Op::Ask => server.under_way.push((cache.begin_fill(), key, server.truth[&key])),
                Op::Answer { nth } if !server.under_way.is_empty() => {
                    let nth = nth % server.under_way.len();
                    let (token, (parent, id), found) = server.under_way.swap_remove(nth);
                    let place = (node(parent), &name(id));
                    cache.fill_name(token, place, Change::UNSURE, dentry(found), now);
                }
                Op::Answer { .. } => {}
                Op::OwnChange => {
                    let token = cache.begin_fill();
                    server.truth.insert(key, made);
                    let attr = Attr { node: node(parent), ..attr(node(parent), next_node) };
                    let change = DirChange { before: Change::UNSURE, attr };
                    cache.own_names(token, &change, &[(&name(id), dentry(made))], now);
                }
                Op::Pushed => {
                    server.truth.insert(key, made);
                    cache.invalidate(node(parent));
                }
                Op::Elapse { millis } => now += Duration::from_millis(millis),
            }
            for (&(parent, id), &truth) in &server.truth {
                if let Some((held, left)) = cache.name(node(parent), &name(id), now) {
                    prop_assert_eq!(held, dentry(truth));
                    let most = if truth.is_some() { TIMES.entry } else { TIMES.negative };
                    prop_assert!(!left.is_zero() && left <= most);
                }
            }
            prop_assert!(cache.bytes() <= bytes_max);
        }
    }

    #[test]
    fn xattrs_are_never_old(bytes_max in limits(), ops in prop::collection::vec(op(), 1..100)) {
        let cache = cache(bytes_max);
        let mut server = Server { truth: (1..6).map(|id| (id, 0u64)).collect(), under_way: Vec::new() };
        let mut now = Instant::now();
        let value = |change: u64| (change > 0).then(|| change.to_le_bytes());
        for (id, op) in ops {
            let current = server.truth[&id];
            let (node, xattr) = (node(id), b"security.capability");
            match op {
                Op::Ask => server.under_way.push((cache.begin_fill(), id, current)),
                Op::Answer { nth } if !server.under_way.is_empty() => {
                    let nth = nth % server.under_way.len();
                    let (token, id, change) = server.under_way.swap_remove(nth);
                    let value = value(change);
                    let value = value.as_ref().map(|value| &value[..]);
                    cache.fill_xattr(token, self::node(id), Change::UNSURE, xattr, value, now);
                }
                Op::Answer { .. } => {}
                Op::OwnChange => {
                    server.truth.insert(id, current + 1);
                    cache.xattrs.invalidate(node);
                }
                Op::Pushed => {
                    server.truth.insert(id, current + 1);
                    cache.invalidate(node);
                }
                Op::Elapse { millis } => now += Duration::from_millis(millis),
            }
            for (&id, &truth) in &server.truth {
                if let Some(held) = cache.xattr(self::node(id), xattr, now) {
                    prop_assert_eq!(held, value(truth).map(|value| Bytes::copy_from_slice(&value)));
                }
            }
            prop_assert!(cache.bytes() <= bytes_max);
        }
    }
}

fn dentry(node: Option<Node>) -> Dentry {
    node.map_or(Dentry::Absent, Dentry::Node)
}

#[test]
fn an_unchanged_directory_prolongs_its_names() {
    let cache = cache(1 << 20);
    let start = Instant::now();
    let later = start + Duration::from_secs(5);
    cache.fill_attr(cache.begin_fill(), &attr(node(1), 4), start);
    let seen = cache.attrs.last_change(node(1));
    cache.fill_name(cache.begin_fill(), (node(1), &name(1)), seen, Dentry::Absent, start);
    assert_eq!(cache.name(node(1), &name(1), later), None);
    cache.fill_attr(cache.begin_fill(), &attr(node(1), 4), later);
    assert_eq!(cache.name(node(1), &name(1), later), Some((Dentry::Absent, TIMES.attr)));
    cache.fill_attr(cache.begin_fill(), &attr(node(1), 5), later);
    assert_eq!(cache.name(node(1), &name(1), later), None);
}

#[test]
fn own_changes_told_in_another_order_end_with_the_latest() {
    let cache = cache(1 << 20);
    let now = Instant::now();
    cache.fill_attr(cache.begin_fill(), &attr(node(1), 1), now);
    let (first, second) = (cache.begin_fill(), cache.begin_fill());
    cache.own_change(second, Change(2), &attr(node(1), 3), now);
    cache.own_change(first, Change(1), &attr(node(1), 2), now);
    assert_eq!(cache.attr(node(1), now).unwrap().0.change, Change(3));
    // Of two that do not follow each other nobody knows which was later.
    let (first, second) = (cache.begin_fill(), cache.begin_fill());
    cache.own_change(second, Change(7), &attr(node(1), 8), now);
    cache.own_change(first, Change(5), &attr(node(1), 6), now);
    assert_eq!(cache.attr(node(1), now), None);
}

#[test]
fn a_write_keeps_absent_xattrs_known() {
    let cache = cache(1 << 20);
    let start = Instant::now();
    cache.fill_attr(cache.begin_fill(), &attr(node(1), 1), start);
    let change = cache.attrs.last_change(node(1));
    cache.fill_xattr(cache.begin_fill(), node(1), change, b"security.capability", None, start);
    let later = start + Duration::from_secs(10);
    cache.own_change(cache.begin_fill(), Change(1), &attr(node(1), 2), later);
    assert_eq!(cache.xattr(node(1), b"security.capability", later), Some(None));
    assert_eq!(cache.xattr(node(1), b"user.other", later), None);
    cache.fill_attr(cache.begin_fill(), &attr(node(1), 3), later);
    assert_eq!(cache.xattr(node(1), b"security.capability", later), None);
}

#[test]
fn a_change_of_mode_or_owner_brings_no_capability_and_leaves_nothing_else_certain() {
    let cache = cache(1 << 20);
    let now = Instant::now();
    cache.fill_attr(cache.begin_fill(), &attr(node(1), 1), now);
    let fill = |token, name: &[u8], value| cache.fill_xattr(token, node(1), Change(1), name, value, now);
    fill(cache.begin_fill(), b"security.capability", None);
    fill(cache.begin_fill(), b"system.posix_acl_access", None);
    fill(cache.begin_fill(), b"user.other", Some(b"x"));
    let under_way = cache.begin_fill();
    cache.xattrs.mode_or_owner_changed(node(1));
    cache.own_change(cache.begin_fill(), Change(1), &attr(node(1), 2), now);
    fill(under_way, b"system.posix_acl_access", None);
    assert_eq!(cache.xattr(node(1), b"security.capability", now), Some(None));
    assert_eq!(cache.xattr(node(1), b"system.posix_acl_access", now), None);
    assert_eq!(cache.xattr(node(1), b"user.other", now), None);
    // One that was there may be gone.
    fill(cache.begin_fill(), b"security.capability", Some(b"x"));
    cache.xattrs.mode_or_owner_changed(node(1));
    assert_eq!(cache.xattr(node(1), b"security.capability", now), None);
}

#[test]
fn targets_live_until_the_node_is_invalidated() {
    let cache = cache(1 << 20);
    let before = cache.begin_fill();
    cache.targets.fill(before, node(1), b"/where");
    assert_eq!(cache.targets.get(node(1)).unwrap(), b"/where"[..]);
    cache.invalidate(node(1));
    cache.targets.fill(before, node(1), b"/where");
    assert_eq!(cache.targets.get(node(1)), None);
    assert_eq!(cache.bytes(), 0);
    assert_eq!(cache.counts().target, HitCount { hits: 1, misses: 1 });
}

#[test]
fn many_names_of_many_directories_stay_within_the_bound() {
    let cache = cache(1 << 20);
    let now = Instant::now();
    for id in 0..50_000 {
        let place = (node(id % 300), &name(id));
        cache.fill_name(cache.begin_fill(), place, Change::UNSURE, Dentry::Node(node(id)), now);
        if id % 1000 == 0 {
            cache.invalidate(node(id % 300));
        }
        assert!(cache.bytes() <= 1 << 20);
    }
    assert!(cache.name(node(49_999 % 300), &name(49_999), now).is_some());
    assert!(cache.name(node(0), &name(0), now).is_none());
}
