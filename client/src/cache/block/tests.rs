//! The block cache against a model of one file on a server: answers are served and delivered in any order,
//! and every read must see what a file that is read somewhere between its start and its end can show.

use std::sync::Arc;

use bytes::Bytes;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Change, Generation, Node, NodeId};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::super::epoch::Epochs;
use super::*;

const NODE: Node = Node { id: NodeId(7), generation: Generation(1) };
/// All offsets of the model are multiples of this.
const CELL_BYTES: u64 = BLOCK_BYTES / 4;
const CELLS: u64 = 14;

#[derive(Clone, Debug)]
enum Op {
    Read {
        cell: u64,
        count: u64,
    },
    Prefetch {
        block: u64,
        count: u64,
    },
    Leave {
        block: u64,
        count: u64,
    },
    /// The server answers the nth fetch, which is under way.
    Serve {
        nth: usize,
        unsure: bool,
    },
    Deliver {
        nth: usize,
    },
    FailFetch {
        nth: usize,
    },
    BeginWrite {
        cell: u64,
        count: u64,
        append: bool,
    },
    ServeWrite {
        nth: usize,
    },
    FinishWrite {
        nth: usize,
    },
    LoseWrite {
        nth: usize,
    },
    Truncate {
        cell: u64,
    },
    /// Somebody else writes, and the server says so before it acknowledges it.
    ForeignPushed {
        cell: u64,
    },
    /// Somebody else writes, and it shows at the next look at the attributes.
    ForeignUnseen {
        cell: u64,
    },
    Revalidate,
}

fn op() -> impl Strategy<Value = Op> {
    let (cell, count, nth) = (0..CELLS, 1..9u64, 0..8usize);
    prop_oneof![
        6 => (cell.clone(), count.clone()).prop_map(|(cell, count)| Op::Read { cell, count }),
        2 => (0..4u64, 1..4u64).prop_map(|(block, count)| Op::Prefetch { block, count }),
        1 => (0..4u64, 1..4u64).prop_map(|(block, count)| Op::Leave { block, count }),
        8 => (nth.clone(), prop::bool::weighted(0.1)).prop_map(|(nth, unsure)| Op::Serve { nth, unsure }),
        8 => nth.clone().prop_map(|nth| Op::Deliver { nth }),
        1 => nth.clone().prop_map(|nth| Op::FailFetch { nth }),
        3 => (cell.clone(), 1..6u64, prop::bool::weighted(0.3))
            .prop_map(|(cell, count, append)| Op::BeginWrite { cell, count, append }),
        4 => nth.clone().prop_map(|nth| Op::ServeWrite { nth }),
        4 => nth.clone().prop_map(|nth| Op::FinishWrite { nth }),
        1 => nth.prop_map(|nth| Op::LoseWrite { nth }),
        1 => cell.clone().prop_map(|cell| Op::Truncate { cell }),
        1 => cell.clone().prop_map(|cell| Op::ForeignPushed { cell }),
        2 => cell.prop_map(|cell| Op::ForeignUnseen { cell }),
        3 => Just(Op::Revalidate),
    ]
}

/// A state of the file: what each cell holds, `None` past the end.
#[derive(Clone)]
struct Version {
    cells: Vec<Option<u8>>,
    /// Whether readers that start now must see it.
    settled: bool,
}

struct Fetch {
    fill: BlockFill,
    answer: Option<(Change, Bytes)>,
}

struct Write {
    ticket: WriteTicket,
    cell: Option<u64>,
    content: Vec<u8>,
    /// Its version, where it landed, the counters before and after, and the size after.
    served: Option<(usize, u64, Change, Change, u64)>,
}

/// A read under way or done.
struct Read {
    cells: std::ops::Range<u64>,
    /// What each cell could show at the start.
    allowed: Vec<Vec<Option<u8>>>,
    started_at: usize,
    result: Arc<Mutex<Option<Result<Bytes, Errno>>>>,
}

struct World {
    cache: BlockCache,
    bytes_max: u64,
    versions: Vec<Version>,
    next_value: u8,
    fetches: Vec<Fetch>,
    writes: Vec<Write>,
    reads: Vec<Read>,
}

impl World {
    fn new(bytes_max: u64) -> World {
        let cells = (0..CELLS).map(|cell| (cell < 10).then_some(1)).collect();
        World {
            cache: BlockCache::new(Arc::new(Epochs::new()), bytes_max),
            bytes_max,
            versions: vec![Version { cells, settled: true }],
            next_value: 2,
            fetches: Vec::new(),
            writes: Vec::new(),
            reads: Vec::new(),
        }
    }

    fn cells(&self) -> &[Option<u8>] {
        &self.versions[self.versions.len() - 1].cells
    }

    fn change(&self) -> Change {
        Change(self.versions.len() as u64)
    }

    fn size(&self) -> u64 {
        self.cells().iter().take_while(|cell| cell.is_some()).count() as u64
    }

    fn push_version(&mut self, settled: bool, edit: impl FnOnce(&mut Vec<Option<u8>>)) -> usize {
        let mut cells = self.cells().to_vec();
        edit(&mut cells);
        self.versions.push(Version { cells, settled });
        self.versions.len() - 1
    }

    fn bytes_of(&self, index: u64) -> Bytes {
        let cells = self.cells().iter().skip(index as usize * 4).take(4).map_while(|cell| *cell);
        cells.flat_map(|value| std::iter::repeat_n(value, CELL_BYTES as usize)).collect::<Vec<u8>>().into()
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Read { cell, count } => self.read(cell, count),
            Op::Prefetch { block, count } => {
                let fills = self.cache.prefetch(NODE, block..block + count);
                self.fetches.extend(fills.into_iter().map(|fill| Fetch { fill, answer: None }));
            }
            Op::Leave { block, count } => self.cache.leave(NODE, block..block + count),
            Op::Serve { nth, unsure } => {
                let Some(at) = pick(nth, self.fetches.len()) else { return };
                let change = if unsure { Change::UNSURE } else { self.change() };
                let bytes = self.bytes_of(self.fetches[at].fill.offset() / BLOCK_BYTES);
                self.fetches[at].answer.get_or_insert((change, bytes));
            }
            Op::Deliver { nth } => {
                let Some(at) = pick(nth, self.fetches.len()) else { return };
                if let Some((change, bytes)) = self.fetches[at].answer.take() {
                    self.fetches.swap_remove(at).fill.complete(change, bytes);
                }
            }
            Op::FailFetch { nth } => {
                let Some(at) = pick(nth, self.fetches.len()) else { return };
                self.fetches.swap_remove(at).fill.fail(Errno::ETIMEDOUT);
            }
            Op::BeginWrite { cell, count, append } => self.begin_write(cell, count, append),
            Op::ServeWrite { nth } => self.serve_write(nth),
            Op::FinishWrite { nth } => self.finish_write(nth),
            Op::LoseWrite { nth } => {
                let Some(at) = pick(nth, self.writes.len()) else { return };
                let Write { ticket, served, .. } = self.writes.swap_remove(at);
                drop(ticket);
                if let Some((version, ..)) = served {
                    self.versions[version].settled = true;
                }
            }
            Op::Truncate { cell } => {
                let before = self.change();
                self.push_version(true, |cells| {
                    for (at, value) in cells.iter_mut().enumerate() {
                        *value = (at < cell as usize).then_some(value.unwrap_or(0));
                    }
                });
                self.cache.truncate(NODE, cell * CELL_BYTES);
                self.cache.rebase(NODE, before, self.change());
            }
            Op::ForeignPushed { cell } => {
                self.foreign_write(cell, true);
                self.cache.drop_node(NODE);
            }
            Op::ForeignUnseen { cell } => self.foreign_write(cell, false),
            Op::Revalidate => {
                self.cache.revalidate(NODE, self.change());
                let under_way: Vec<usize> = self
                    .writes
                    .iter()
                    .filter_map(|write| write.served.map(|(version, ..)| version))
                    .collect();
                for (at, version) in self.versions.iter_mut().enumerate() {
                    version.settled |= !under_way.contains(&at);
                }
            }
        }
        assert!(self.cache.bytes() <= self.bytes_max);
    }

    fn foreign_write(&mut self, cell: u64, settled: bool) {
        let value = self.fresh_value();
        let size = self.size();
        self.push_version(settled, |cells| {
            cells[size.min(cell) as usize..cell as usize].fill(Some(0));
            cells[cell as usize] = Some(value);
        });
    }

    fn begin_write(&mut self, cell: u64, count: u64, append: bool) {
        let count = count.min(CELLS - cell);
        let content: Vec<u8> = (0..count).map(|_| self.fresh_value()).collect();
        let cell = (!append).then_some(cell);
        let size = (count * CELL_BYTES) as usize;
        let ticket = self.cache.begin_write(NODE, cell.map(|cell| cell * CELL_BYTES), size);
        self.writes.push(Write { ticket, cell, content, served: None });
    }

    fn serve_write(&mut self, nth: usize) {
        let Some(at) = pick(nth, self.writes.len()) else { return };
        if self.writes[at].served.is_some() {
            return;
        }
        let size = self.size();
        let cell = self.writes[at].cell.unwrap_or(size);
        let mut content = self.writes[at].content.clone();
        content.truncate((CELLS - cell) as usize);
        self.writes[at].content.clone_from(&content);
        let before = self.change();
        let version = self.push_version(false, |cells| {
            cells[size.min(cell) as usize..cell as usize].fill(Some(0));
            for (offset, value) in content.into_iter().enumerate() {
                cells[cell as usize + offset] = Some(value);
            }
        });
        self.writes[at].served = Some((version, cell, before, self.change(), self.size() * CELL_BYTES));
    }

    fn finish_write(&mut self, nth: usize) {
        let Some(at) = pick(nth, self.writes.len()) else { return };
        let Some((version, cell, before, after, size)) = self.writes[at].served else { return };
        let Write { ticket, content, .. } = self.writes.swap_remove(at);
        let bytes: Vec<u8> =
            content.into_iter().flat_map(|value| std::iter::repeat_n(value, CELL_BYTES as usize)).collect();
        ticket.finish(cell * CELL_BYTES, &bytes, before, after, size);
        self.versions[version].settled = true;
    }

    fn read(&mut self, cell: u64, count: u64) {
        let cells = cell..(cell + count).min(CELLS);
        let allowed = cells.clone().map(|cell| self.showable(cell as usize)).collect();
        let result = Arc::new(Mutex::new(None));
        let (offset, size) = (cell * CELL_BYTES, ((cells.end - cell) * CELL_BYTES) as usize);
        let read = Read { cells, allowed, started_at: self.versions.len(), result: Arc::clone(&result) };
        self.reads.push(read);
        let fills = self.cache.read(NODE, offset, size, move |slices| {
            let twice = result.lock().replace(slices.map(Slices::into_bytes));
            assert!(twice.is_none(), "a read was completed twice");
        });
        self.fetches.extend(fills.into_iter().map(|fill| Fetch { fill, answer: None }));
        self.check_reads();
    }

    /// What a cell can show to a reader that starts now: its newest content, and older content as long as
    /// all that replaced it may not have been noticed yet.
    fn showable(&self, cell: usize) -> Vec<Option<u8>> {
        let mut values = vec![self.cells()[cell]];
        for (newer, older) in self.versions.iter().rev().zip(self.versions.iter().rev().skip(1)) {
            if newer.cells[cell] != older.cells[cell] {
                if newer.settled {
                    break;
                }
                values.push(older.cells[cell]);
            }
        }
        values
    }

    /// Checks the reads that are complete, and forgets them.
    fn check_reads(&mut self) {
        let versions = &self.versions;
        self.reads.retain(|read| {
            let Some(result) = read.result.lock().take() else { return true };
            let Ok(bytes) = result else { return false };
            assert_eq!(bytes.len() as u64 % CELL_BYTES, 0);
            for (position, cell) in read.cells.clone().enumerate() {
                let piece = bytes.chunks(CELL_BYTES as usize).nth(position);
                let value = piece.map(|piece| piece[0]);
                assert!(piece.is_none_or(|piece| piece.iter().all(|byte| Some(*byte) == value)));
                let meanwhile =
                    versions[read.started_at..].iter().map(|version| version.cells[cell as usize]);
                let allowed: Vec<_> = read.allowed[position].iter().copied().chain(meanwhile).collect();
                assert!(allowed.contains(&value), "cell {cell} showed {value:?}, not one of {allowed:?}");
            }
            false
        });
    }

    fn fresh_value(&mut self) -> u8 {
        self.next_value = self.next_value.checked_add(1).unwrap_or(2);
        self.next_value
    }

    /// Lets everything come to an end.
    fn settle(mut self) {
        while let Some(fetch) = self.fetches.pop() {
            let bytes = self.bytes_of(fetch.fill.offset() / BLOCK_BYTES);
            fetch.fill.complete(self.change(), bytes);
        }
        self.check_reads();
        assert!(self.reads.is_empty(), "a read was never completed");
        self.writes.clear();
        self.cache.drop_node(NODE);
        let state = self.cache.shared.state.lock();
        assert!(state.nodes.is_empty(), "something of the node was left behind");
        assert_eq!(state.bytes(), 0);
    }
}

fn pick(nth: usize, len: usize) -> Option<usize> {
    (len > 0).then(|| nth % len)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn reads_show_what_the_file_can_show(
        blocks_max in prop::sample::select(vec![0u64, 1, 2, 3, 100]),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut world = World::new(blocks_max * (BLOCK_BYTES + 1024));
        for op in ops {
            world.apply(op);
            world.check_reads();
        }
        world.settle();
    }
}

fn cache(blocks_max: u64) -> BlockCache {
    BlockCache::new(Arc::new(Epochs::new()), blocks_max * (BLOCK_BYTES + 1024))
}

fn full(value: u8) -> Bytes {
    vec![value; BLOCK_BYTES as usize].into()
}

type Results = Arc<Mutex<Vec<Result<Bytes, Errno>>>>;

/// Starts a read of one block and returns its fills and where its result will be.
fn read(cache: &BlockCache, index: u64) -> (Vec<BlockFill>, Results) {
    let results = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&results);
    let fills = cache.read(NODE, index * BLOCK_BYTES, BLOCK_BYTES as usize, move |slices| {
        into.lock().push(slices.map(Slices::into_bytes));
    });
    (fills, results)
}

#[test]
fn two_readers_share_a_fetch_without_a_copy() {
    let cache = cache(10);
    let (mut fills, first) = read(&cache, 3);
    let (more, second) = read(&cache, 3);
    assert_eq!((fills.len(), more.len()), (1, 0));
    let bytes = full(5);
    let at = bytes.as_ptr();
    fills.pop().unwrap().complete(Change(1), bytes);
    for results in [first, second] {
        assert_eq!(results.lock()[0].as_ref().unwrap().as_ptr(), at);
    }
    assert_eq!(cache.read_if_here(NODE, 3 * BLOCK_BYTES + 5, 10).unwrap().into_bytes(), [5; 10][..]);
    assert_eq!(cache.count(), HitCount { hits: 1, misses: 0 });
}

#[test]
fn a_failed_or_forgotten_fetch_wakes_all() {
    let cache = cache(10);
    let (mut fills, first) = read(&cache, 0);
    let (_, second) = read(&cache, 0);
    fills.pop().unwrap().fail(Errno::ETIMEDOUT);
    assert_eq!(*first.lock(), [Err(Errno::ETIMEDOUT)]);
    assert_eq!(*second.lock(), [Err(Errno::ETIMEDOUT)]);
    let (fills, third) = read(&cache, 0);
    drop(fills);
    assert_eq!(*third.lock(), [Err(Errno::EIO)]);
}

#[test]
fn an_invalidation_under_way_kills_the_fetch_but_not_its_readers() {
    let cache = cache(10);
    let (mut old, before) = read(&cache, 0);
    cache.drop_node(NODE);
    let (mut new, after) = read(&cache, 0);
    assert_eq!(new.len(), 1, "a reader from after the invalidation must ask again");
    new.pop().unwrap().complete(Change(2), full(2));
    old.pop().unwrap().complete(Change(1), full(1));
    assert_eq!(*before.lock(), [Ok(full(1))]);
    assert_eq!(*after.lock(), [Ok(full(2))]);
    assert_eq!(cache.read_if_here(NODE, 0, 1).unwrap().into_bytes(), [2][..]);
}

#[test]
fn own_writes_stay_cached_and_keep_the_rest_valid() {
    let cache = cache(10);
    for index in 0..2 {
        read(&cache, index).0.pop().unwrap().complete(Change(1), full(1));
    }
    let (late, _) = read(&cache, 2);
    let ticket = cache.begin_write(NODE, Some(BLOCK_BYTES - 2), 4);
    ticket.finish(BLOCK_BYTES - 2, &[9; 4], Change(1), Change(2), 3 * BLOCK_BYTES);
    late.into_iter().for_each(|fill| fill.complete(Change(1), full(3)));
    cache.revalidate(NODE, Change(2));
    let slices = cache.read_if_here(NODE, BLOCK_BYTES - 3, 6).unwrap();
    assert_eq!(slices.into_bytes(), [1, 9, 9, 9, 9, 1][..]);
    assert_eq!(cache.read_if_here(NODE, 2 * BLOCK_BYTES, 1).unwrap().into_bytes(), [3][..]);
    cache.revalidate(NODE, Change(3));
    assert!(cache.read_if_here(NODE, 0, 1).is_none());
}

#[test]
fn writes_told_in_another_order_keep_the_blocks() {
    let cache = cache(10);
    read(&cache, 0).0.pop().unwrap().complete(Change(1), full(1));
    let first = cache.begin_write(NODE, Some(0), 1);
    let second = cache.begin_write(NODE, Some(1), 1);
    second.finish(1, &[3], Change(2), Change(3), BLOCK_BYTES);
    first.finish(0, &[2], Change(1), Change(2), BLOCK_BYTES);
    cache.revalidate(NODE, Change(3));
    assert_eq!(cache.read_if_here(NODE, 0, 3).unwrap().into_bytes(), [2, 3, 1][..]);
}

#[test]
fn a_write_behind_the_end_moves_it() {
    let cache = cache(10);
    read(&cache, 0).0.pop().unwrap().complete(Change(1), Bytes::from_static(b"end"));
    let ticket = cache.begin_write(NODE, Some(2 * BLOCK_BYTES), 1);
    ticket.finish(2 * BLOCK_BYTES, &[9], Change(1), Change(2), 2 * BLOCK_BYTES + 1);
    assert!(cache.read_if_here(NODE, 0, 10).is_none());
    read(&cache, 0).0.pop().unwrap().complete(Change(2), full(0));
    cache.truncate(NODE, 5);
    assert!(cache.read_if_here(NODE, 0, 10).is_none());
}

#[test]
fn of_overlapping_writes_nobody_knows_the_outcome() {
    let cache = cache(10);
    for index in 0..2 {
        read(&cache, index).0.pop().unwrap().complete(Change(1), full(1));
    }
    let first = cache.begin_write(NODE, Some(0), 2);
    let second = cache.begin_write(NODE, Some(1), 2);
    first.finish(0, &[2, 2], Change(2), Change(3), 2 * BLOCK_BYTES);
    second.finish(1, &[3, 3], Change(1), Change(2), 2 * BLOCK_BYTES);
    assert!(cache.read_if_here(NODE, 0, 1).is_none());
    assert!(cache.read_if_here(NODE, BLOCK_BYTES, 1).is_some());
}

#[test]
fn who_reads_after_a_look_at_the_attributes_joins_no_older_fetch() {
    let cache = cache(10);
    let (old, _) = read(&cache, 0);
    read(&cache, 1).0.pop().unwrap().complete(Change(2), full(2));
    let (since, _) = read(&cache, 2);
    cache.revalidate(NODE, Change(2));
    assert_eq!(read(&cache, 0).0.len(), 1, "it may have been answered before the counter was 2");
    assert_eq!(read(&cache, 2).0.len(), 0, "it was asked for when the counter was 2 already");
    cache.revalidate(NODE, Change(3));
    assert_eq!(read(&cache, 2).0.len(), 1);
    drop((old, since));
}

#[test]
fn what_is_read_ahead_leaves_room_for_what_was_read() {
    let cache = cache(8);
    for index in 0..4 {
        read(&cache, index).0.pop().unwrap().complete(Change(1), full(0));
    }
    let fills = cache.prefetch(NODE, 100..200);
    assert!((3..=4).contains(&fills.len()));
    fills.into_iter().for_each(|fill| fill.complete(Change(1), full(0)));
    assert!(cache.prefetch(NODE, 200..300).is_empty());
    assert!((0..4).all(|index| cache.read_if_here(NODE, index * BLOCK_BYTES, 1).is_some()));
    // Nobody came for them while much else was read: others may be read ahead in their place.
    for _ in 0..40 {
        cache.read_if_here(NODE, 0, 1);
    }
    assert!(!cache.prefetch(NODE, 200..300).is_empty());
}

#[test]
fn what_a_reader_left_behind_makes_room_but_not_what_others_are_about_to_read() {
    let cache = cache(8);
    for index in 0..4 {
        read(&cache, index).0.pop().unwrap().complete(Change(1), full(0));
    }
    cache.prefetch(NODE, 4..6).into_iter().for_each(|fill| fill.complete(Change(1), full(0)));
    let before = cache.bytes();
    cache.leave(NODE, 0..6);
    assert!(before - cache.bytes() >= 4 * BLOCK_BYTES && cache.bytes() >= 2 * BLOCK_BYTES);
    let is_here = |index: u64| cache.read_if_here(NODE, index * BLOCK_BYTES, 1).is_some();
    assert_eq!((0..6).map(is_here).collect::<Vec<_>>(), [false, false, false, false, true, true]);
    assert_eq!(read(&cache, 0).0.len(), 1, "it can be fetched again");
}

#[test]
fn what_a_reader_left_behind_before_it_arrived_is_passed_on_and_not_kept() {
    let cache = cache(8);
    let ahead = cache.prefetch(NODE, 0..3);
    let (own, first) = read(&cache, 0);
    let (_, second) = read(&cache, 1);
    assert!(own.is_empty(), "it is under way");
    cache.leave(NODE, 0..1);
    cache.leave(NODE, 2..3);
    ahead.into_iter().for_each(|fill| fill.complete(Change(1), full(3)));
    assert_eq!((first.lock().len(), second.lock().len()), (1, 1));
    let is_here = |index: u64| cache.read_if_here(NODE, index * BLOCK_BYTES, 1).is_some();
    assert_eq!((0..3).map(is_here).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn what_was_fetched_ahead_and_is_awaited_when_it_arrives_can_be_left_behind() {
    let cache = cache(8);
    let ahead = cache.prefetch(NODE, 0..2);
    let (_, first) = read(&cache, 0);
    ahead.into_iter().for_each(|fill| fill.complete(Change(1), full(3)));
    assert_eq!(first.lock().len(), 1);
    cache.leave(NODE, 0..2);
    let is_here = |index: u64| cache.read_if_here(NODE, index * BLOCK_BYTES, 1).is_some();
    assert_eq!((0..2).map(is_here).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn small_files_do_not_hold_big_buffers() {
    let cache = cache(1);
    let mut fills = read(&cache, 0).0;
    let buffer = full(1);
    fills.pop().unwrap().complete(Change(1), buffer.slice(..10));
    assert!(buffer.try_into_mut().is_ok(), "the receive buffer is still referred to");
    assert!(cache.bytes() < 1024);
}
