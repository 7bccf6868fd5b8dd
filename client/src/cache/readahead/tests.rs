//! Readers of all kinds, and what is fetched for them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::block::BLOCK_BYTES;
use super::Readahead;
use super::link::LinkEstimate;

const MIB: u64 = 1024 * 1024;

/// A reader's readahead, and the blocks that it asked for.
struct Watched {
    readahead: Readahead,
    asked: BTreeSet<u64>,
    file_bytes: u64,
    window_bytes_max: u64,
}

impl Watched {
    fn new(file_bytes: u64, window_bytes_max: u64) -> Watched {
        Watched { readahead: Readahead::new(), asked: BTreeSet::new(), file_bytes, window_bytes_max }
    }

    fn read(&mut self, offset: u64, size: u64) -> Vec<Range<u64>> {
        let ahead = self.readahead.on_read(offset, size as usize, self.file_bytes, self.window_bytes_max);
        for block in ahead.iter().cloned().flatten() {
            assert!(block * BLOCK_BYTES < self.file_bytes, "block {block} is past the end");
            assert!(self.asked.insert(block), "block {block} was asked for twice");
        }
        ahead
    }

    /// Bytes from `offset` on that were asked for without a gap.
    fn bytes_ahead(&self, offset: u64) -> u64 {
        let first = offset.div_ceil(BLOCK_BYTES);
        let until = (first..).find(|block| !self.asked.contains(block)).unwrap_or(first);
        (until * BLOCK_BYTES).min(self.file_bytes).saturating_sub(offset)
    }
}

#[test]
fn a_sequential_reader_gets_a_growing_window() {
    let mut file = Watched::new(1 << 30, 16 * MIB);
    assert!(file.read(0, 4096).is_empty(), "one small read is no sequence");
    file.read(4096, 4096);
    assert!((128 * 1024..=256 * 1024).contains(&file.bytes_ahead(8192)));
    for read in 2..16 * 1024 {
        file.read(read * 4096, 4096);
        assert!(file.readahead.is_in_order());
    }
    let ahead = file.bytes_ahead(64 * MIB);
    assert!((15 * MIB..=16 * MIB).contains(&ahead), "a full pipe, always: {ahead}");
}

#[test]
fn who_goes_through_a_long_file_leaves_behind_what_nobody_can_overtake() {
    let mut file = Watched::new(1 << 30, 16 * MIB);
    let mut left = 0;
    for read in 0..64 * 16 {
        file.read(read * MIB / 16, MIB / 16);
        let blocks = file.readahead.left_behind();
        if !blocks.is_empty() {
            assert_eq!(blocks.start, left, "each block once, in order");
            left = blocks.end;
        }
        let until = (read + 1) * MIB / 16;
        assert!(left * BLOCK_BYTES <= until.saturating_sub(MIB), "{left} after {until}");
        assert!(until < 4 * MIB || left * BLOCK_BYTES + MIB + BLOCK_BYTES > until, "{left} after {until}");
    }
}

#[test]
fn who_reads_little_or_here_and_there_leaves_nothing_behind() {
    let mut file = Watched::new(3 * MIB, 16 * MIB);
    for read in 0..3 * 16 {
        file.read(read * MIB / 16, MIB / 16);
        assert!(file.readahead.left_behind().is_empty());
    }
    let mut file = Watched::new(1 << 30, 16 * MIB);
    for read in 0..500 {
        file.read(read * 7919 % 8000 * BLOCK_BYTES, 4096);
        assert!(file.readahead.left_behind().is_empty());
    }
}

#[test]
fn the_window_is_full_after_a_few_mebibytes() {
    let mut file = Watched::new(1 << 30, 16 * MIB);
    for read in 0..48 {
        file.read(read * BLOCK_BYTES, BLOCK_BYTES);
    }
    assert!(file.bytes_ahead(48 * BLOCK_BYTES) >= 14 * MIB);
}

#[test]
fn a_whole_read_of_a_file_begins_at_once_and_ends_with_it() {
    let file_bytes = 5 * BLOCK_BYTES + 100;
    let mut file = Watched::new(file_bytes, 16 * MIB);
    file.read(0, BLOCK_BYTES);
    assert_eq!(file.asked, (1..3).collect());
    for read in 1..6 {
        file.read(read * BLOCK_BYTES, BLOCK_BYTES);
    }
    assert_eq!(file.asked, (1..6).collect());
    assert!(file.read(6 * BLOCK_BYTES, 10).is_empty());
    assert!(file.read(file_bytes, 10).is_empty());
}

#[test]
fn random_reads_fetch_nothing_ahead() {
    let mut file = Watched::new(1 << 30, 16 * MIB);
    let mut at = 12_345u64;
    for _ in 0..2000 {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        file.read((at >> 20) % (1 << 18) * 4096, 4096);
    }
    assert!(file.asked.len() < 20, "{} blocks for nothing", file.asked.len());
    assert!(!file.readahead.is_in_order());
}

#[test]
fn a_reader_that_turns_random_is_left_alone() {
    let mut file = Watched::new(1 << 30, 16 * MIB);
    for read in 0..64 {
        file.read(read * BLOCK_BYTES, BLOCK_BYTES);
    }
    let before = file.asked.len();
    for read in [700u64, 13, 5000, 77, 910, 4321, 333, 6000, 2500] {
        file.read(read * BLOCK_BYTES + 512, 4096);
    }
    assert_eq!(file.asked.len(), before);
}

#[test]
fn requests_that_overtake_each_other_are_one_reader() {
    let mut file = Watched::new(64 * MIB, 4 * MIB);
    let mut order: Vec<u64> = (0..512).collect();
    order.chunks_mut(4).for_each(|group| group.reverse());
    for read in order {
        file.read(read * BLOCK_BYTES, BLOCK_BYTES);
    }
    assert!(file.asked.len() > 500, "{}", file.asked.len());
}

#[test]
fn two_readers_of_one_file_do_not_disturb_each_other() {
    let mut file = Watched::new(1 << 30, 4 * MIB);
    for read in 0..64 {
        file.read(read * BLOCK_BYTES, BLOCK_BYTES);
        file.read(512 * MIB + read * BLOCK_BYTES, BLOCK_BYTES);
    }
    for start in [64 * BLOCK_BYTES, 512 * MIB + 64 * BLOCK_BYTES] {
        assert!(file.bytes_ahead(start) >= 3 * MIB);
    }
}

#[test]
fn strides_are_foreseen_forward_and_backward() {
    for stride in [10 * BLOCK_BYTES as i64, -10 * BLOCK_BYTES as i64, -(BLOCK_BYTES as i64)] {
        let mut file = Watched::new(1 << 30, 16 * MIB);
        let start = 512 * MIB;
        let mut foreseen = 0;
        for read in 0..40 {
            let offset = start.checked_add_signed(stride * read).unwrap();
            foreseen += u32::from(file.asked.contains(&(offset / BLOCK_BYTES)));
            file.read(offset, 4096);
        }
        assert!(foreseen >= 34, "{foreseen} of 40 with stride {stride}");
        assert!(file.asked.len() <= 40 + 64, "{}", file.asked.len());
    }
}

#[test]
fn a_stride_ends_with_the_file() {
    let mut file = Watched::new(20 * BLOCK_BYTES, 16 * MIB);
    for read in 0..10 {
        file.read(read * 2 * BLOCK_BYTES + 10, 100);
    }
    assert!(file.asked.iter().all(|block| block % 2 == 0));
    let mut file = Watched::new(20 * BLOCK_BYTES, 16 * MIB);
    for read in (0..10).rev() {
        file.read(read * 2 * BLOCK_BYTES + 10, 100);
    }
    assert!(file.asked.contains(&0));
}

proptest! {
    #[test]
    fn never_past_the_end_and_never_more_than_the_window(
        reads in prop::collection::vec((0..400u64, 1..9u64), 1..100),
        file_blocks in 1..300u64,
        window_blocks in 1..64u64,
    ) {
        let mut readahead = Readahead::new();
        let (file_bytes, window_bytes_max) = (file_blocks * BLOCK_BYTES - 7, window_blocks * BLOCK_BYTES);
        for (at, count) in reads {
            let (offset, size) = (at * BLOCK_BYTES / 2, count * BLOCK_BYTES / 4);
            let ahead = readahead.on_read(offset, size as usize, file_bytes, window_bytes_max);
            prop_assert!(ahead.iter().all(|blocks| blocks.end <= file_blocks && !blocks.is_empty()));
            let bytes: u64 = ahead.iter().map(|blocks| (blocks.end - blocks.start) * BLOCK_BYTES).sum();
            // A stream and a stride may both want a window.
            prop_assert!(bytes <= 2 * window_bytes_max);
        }
    }
}

/// A link with a latency and a bandwidth, and a reader who always has the window under way.
struct Reader {
    link: LinkEstimate,
    now: Instant,
    window_bytes_sum: u64,
    fetches: u64,
}

impl Reader {
    fn new() -> Reader {
        Reader { link: LinkEstimate::new(), now: Instant::now(), window_bytes_sum: 0, fetches: 0 }
    }

    /// The mean window over this time.
    fn window_over(&mut self, secs: u64, latency_us: u64, bytes_per_sec: u64) -> u64 {
        let latency = Duration::from_micros(latency_us);
        let carry = Duration::from_secs_f64(BLOCK_BYTES as f64 / bytes_per_sec as f64);
        let end = self.now + Duration::from_secs(secs);
        (self.window_bytes_sum, self.fetches) = (0, 0);
        let (mut free_at, mut under_way, mut bytes) = (self.now, std::collections::VecDeque::new(), 0);
        while self.now < end {
            while bytes + BLOCK_BYTES <= self.link.window_bytes() {
                free_at = free_at.max(self.now) + carry;
                under_way.push_back((self.link.started(BLOCK_BYTES, self.now), free_at + latency));
                bytes += BLOCK_BYTES;
            }
            let (start, arrives_at) = under_way.pop_front().expect("the window has room for a block");
            self.now = arrives_at;
            bytes -= BLOCK_BYTES;
            self.link.completed(start, self.now);
            self.window_bytes_sum += self.link.window_bytes();
            self.fetches += 1;
        }
        under_way.into_iter().for_each(|(start, _)| self.link.failed(start));
        self.window_bytes_sum / self.fetches
    }
}

#[test]
fn the_window_fits_the_link() {
    let long_fat = Reader::new().window_over(30, 20_000, 500_000_000);
    assert!(long_fat >= 10 * MIB, "20 ms at 500 MB/s needs 10 MiB under way, not {long_fat}");
    let thin = Reader::new().window_over(300, 20_000, 10_000_000);
    assert!(thin <= MIB, "{thin} bytes queue for long on a thin link");
    let near = Reader::new().window_over(5, 50, 1_000_000_000);
    assert!(near <= MIB, "a near link needs no window of {near}");
}

#[test]
fn a_link_that_changed_is_learnt() {
    let mut reader = Reader::new();
    assert!(reader.window_over(5, 50, 1_000_000_000) <= MIB);
    reader.window_over(15, 20_000, 500_000_000);
    assert!(reader.window_over(5, 20_000, 500_000_000) >= 10 * MIB);
    reader.window_over(15, 50, 1_000_000_000);
    assert!(reader.window_over(5, 50, 1_000_000_000) <= MIB);
}

#[test]
fn the_pipe_of_a_long_fat_link_stays_full() {
    let mut reader = Reader::new();
    reader.window_over(30, 20_000, 500_000_000);
    let bytes_per_sec = reader.fetches * BLOCK_BYTES / 30;
    assert!(bytes_per_sec >= 480_000_000, "{bytes_per_sec}");
}
