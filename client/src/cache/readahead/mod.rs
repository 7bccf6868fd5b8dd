//! What a reader is about to want.
//!
//! Per open file, [`Readahead`] watches where reads fall and tells which blocks to fetch ahead of them: for
//! sequential readers, several in one file, and for strided ones. How far ahead pays is a matter of the
//! link, which all files share: [`link`].

pub mod link;
mod stride;
#[cfg(test)]
mod tests;

use std::ops::Range;

use self::stride::Stride;
use super::block::BLOCK_BYTES;

/// Bytes fetched ahead of a reader who was just found to be sequential.
const WINDOW_BYTES_FIRST: u64 = 256 * 1024;
/// A first read at the file's start of at least this size is taken for the beginning of a whole read.
const WHOLE_READ_BYTES_MIN: u64 = 64 * 1024;
/// How far a sequential reader's requests may arrive out of order, and how much it may leave out.
const SLACK_BYTES: u64 = 1024 * 1024;
/// What was left out is forgiven by this share with each read in order.
const FORGIVEN_SHARE: u64 = 16;
/// Most bytes that wait to be asked for until it is worth it.
const STEP_BYTES_MAX: u64 = 1024 * 1024;
/// A reader who has read so much in order is not expected to come back soon to what it has read.
const LONG_RUN_BYTES: u64 = 4 * 1024 * 1024;
/// Most readers of one open file that are told apart.
const STREAMS_MAX: usize = 4;

/// The readers of one open file.
#[derive(Debug, Default)]
pub struct Readahead {
    streams: Vec<Stream>,
    stride: Stride,
    read_count: u64,
    in_order: bool,
    left_behind: Range<u64>,
}

/// A reader that goes through the file in order.
#[derive(Debug)]
struct Stream {
    /// The end of its furthest read.
    next: u64,
    /// Reads in order so far.
    run: u32,
    /// Bytes before `next` that it left out, or that are still to arrive.
    skipped_bytes: u64,
    window_bytes: u64,
    /// The block up to which all was asked for.
    asked_until: u64,
    /// Where its run began.
    start: u64,
    /// The block up to which it was told to have left all behind.
    left_until: u64,
    /// The count of reads when it was last seen.
    seen_at: u64,
}

impl Readahead {
    /// Nothing is known of the readers yet.
    pub fn new() -> Readahead {
        Readahead::default()
    }

    /// A program reads; reads may be told slightly out of order. Returns the blocks to fetch in addition to
    /// those it asks for, in the order in which they will be wanted: never past the end of a file of
    /// `file_bytes`, never more than `window_bytes_max` ahead of it.
    pub fn on_read(
        &mut self,
        offset: u64,
        size: usize,
        file_bytes: u64,
        window_bytes_max: u64,
    ) -> Vec<Range<u64>> {
        self.read_count += 1;
        self.left_behind = 0..0;
        let end = offset.saturating_add(size as u64).min(file_bytes);
        if offset >= end {
            return Vec::new();
        }
        let read = offset..end;
        let followed = self.streams.iter_mut().filter(|stream| stream.follows(&read));
        if let Some(stream) = followed.max_by_key(|stream| (stream.is_sequential(), stream.seen_at)) {
            stream.seen_at = self.read_count;
            stream.advance(&read);
            self.left_behind = stream.leave_behind();
            self.stride.forget();
            self.in_order = true;
            return stream.ask(file_bytes, window_bytes_max).into_iter().collect();
        }
        self.in_order = fills_blocks(&read, file_bytes);
        let mut stream = Stream::starting_with(&read, self.read_count);
        let ahead = stream.ask(file_bytes, window_bytes_max);
        self.replace_oldest(stream);
        let strided = self.stride.on_read(read, file_bytes, window_bytes_max);
        self.in_order |= self.stride.is_foreseen();
        ahead.into_iter().chain(strided).collect()
    }

    /// Whether what lies around the last read will be wanted too: then whole blocks are worth fetching, else
    /// exactly what was asked for.
    pub fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// The blocks that the last reader has left behind since it was told before, if it goes through much of the file.
    pub fn left_behind(&self) -> Range<u64> {
        self.left_behind.clone()
    }

    /// A reader who has proven sequential is only given up for lack of any other.
    fn replace_oldest(&mut self, stream: Stream) {
        if self.streams.len() >= STREAMS_MAX {
            let oldest = (0..self.streams.len())
                .min_by_key(|&at| (self.streams[at].is_sequential(), self.streams[at].seen_at));
            if let Some(oldest) = oldest {
                self.streams.swap_remove(oldest);
            }
        }
        self.streams.push(stream);
    }
}

/// Whether whole blocks hold little else than a read that follows no other, or much of it will be wanted:
/// so at the start of a file, where most programs begin that read it whole.
fn fills_blocks(read: &Range<u64>, file_bytes: u64) -> bool {
    let is_edge = |at: u64| at.is_multiple_of(BLOCK_BYTES) || at == file_bytes;
    read.start == 0 || file_bytes <= BLOCK_BYTES || (is_edge(read.start) && is_edge(read.end))
}

impl Stream {
    fn starting_with(read: &Range<u64>, seen_at: u64) -> Stream {
        let is_whole_read = read.start == 0 && read.end >= WHOLE_READ_BYTES_MIN;
        Stream {
            next: read.end,
            run: if is_whole_read { 2 } else { 1 },
            skipped_bytes: 0,
            window_bytes: WINDOW_BYTES_FIRST,
            asked_until: 0,
            start: read.start,
            left_until: read.start.div_ceil(BLOCK_BYTES),
            seen_at,
        }
    }

    fn is_sequential(&self) -> bool {
        self.run >= 2
    }

    /// Whether a read is this reader's next, or one that others overtook.
    fn follows(&self, read: &Range<u64>) -> bool {
        if read.start == self.next {
            return true;
        }
        if !self.is_sequential() {
            return false;
        }
        match read.start.checked_sub(self.next) {
            Some(gap_bytes) => self.skipped_bytes + gap_bytes <= SLACK_BYTES,
            None => {
                let bytes = read.end - read.start;
                read.end <= self.next && bytes <= self.skipped_bytes && self.next - read.start <= SLACK_BYTES
            }
        }
    }

    fn advance(&mut self, read: &Range<u64>) {
        if read.start < self.next {
            self.skipped_bytes -= read.end - read.start;
            return;
        }
        self.run = self.run.saturating_add(1);
        self.skipped_bytes -= self.skipped_bytes / FORGIVEN_SHARE;
        self.skipped_bytes += read.start - self.next;
        self.next = read.end;
    }

    /// What others may still overtake is not left behind yet.
    fn leave_behind(&mut self) -> Range<u64> {
        if self.next - self.start < LONG_RUN_BYTES {
            return 0..0;
        }
        let until = (self.next.saturating_sub(SLACK_BYTES) / BLOCK_BYTES).max(self.left_until);
        std::mem::replace(&mut self.left_until, until)..until
    }

    /// What to fetch so that a window's worth is under way or here. The window doubles each time it is
    /// used up by a step.
    fn ask(&mut self, file_bytes: u64, window_bytes_max: u64) -> Option<Range<u64>> {
        if !self.is_sequential() {
            return None;
        }
        self.window_bytes = self.window_bytes.min(window_bytes_max);
        let from = self.asked_until.max(self.next.div_ceil(BLOCK_BYTES));
        // Whole blocks within the window; the last one of the file may be short.
        let until = match self.next.saturating_add(self.window_bytes) {
            end if end >= file_bytes => file_bytes.div_ceil(BLOCK_BYTES),
            end => end / BLOCK_BYTES,
        };
        let step_bytes = STEP_BYTES_MAX.min(self.window_bytes / 2);
        let reaches_end = until == file_bytes.div_ceil(BLOCK_BYTES);
        let is_worth_it = until > from && (reaches_end || (until - from) * BLOCK_BYTES >= step_bytes);
        is_worth_it.then(|| {
            self.window_bytes = (self.window_bytes * 2).min(window_bytes_max);
            self.asked_until = until;
            from..until
        })
    }
}
