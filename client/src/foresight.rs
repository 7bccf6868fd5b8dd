//! Files that are opened before the program asks: where lookups are followed by opens, a lookup opens the
//! file as well and brings its content, so that reading a small file costs one round trip.
//!
//! This must not make an open show what was there before another mount's close. Therefore a file is only opened ahead
//! for a thread that is within open(2) already, and only handed to that thread: its open began before the lookup.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lru::LruCache;
use nearfs_protocol::attr::Attr;
use nearfs_protocol::id::{Fh, Node};
use parking_lot::Mutex;

use crate::cache::FillToken;
use crate::identity::Caller;

/// How long a file that was opened ahead may be handed to its thread. It is a bound for opens that the kernel ended
/// after the lookup; all others follow at once.
pub(crate) const OPENED_AHEAD_TIME_MAX: Duration = Duration::from_millis(100);
/// Longer than any line of proc_pid_syscall(5): nine numbers of at most 18 characters, and what separates them.
const SYSCALL_LINE_BYTES_MAX: usize = 256;
/// Most files that are open ahead at a time.
const OPENED_AHEAD_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
/// Directories, and recent lookups, whose habits are remembered.
const HABITS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// How long lookups open as well after a file was found to be replaced between its lookup and its open. The kernel looks once
/// more, and what it finds then is not to be lost again.
const REPLACED_TIME: Duration = Duration::from_millis(100);
/// A directory gains this much with an open that follows a lookup, loses one with each lookup, and is one
/// whose lookups open from the threshold on.
const GAIN: u8 = 3;
const SCORE_MAX: u8 = 12;
const THRESHOLD: u8 = 4;

/// A file that the server opened together with its lookup.
#[derive(Debug)]
pub(crate) struct OpenedAhead {
    pub(crate) fh: Fh,
    pub(crate) attr: Attr,
    /// From before the lookup was sent.
    pub(crate) token: FillToken,
    caller: Caller,
    at: Instant,
}

/// What is expected, and what was done for it.
#[derive(Debug)]
pub(crate) struct Foresight {
    habits: Mutex<Habits>,
    opened: Mutex<LruCache<Node, OpenedAhead>>,
    /// Whether somebody looks after what is open ahead.
    sweeping: AtomicBool,
}

#[derive(Debug)]
struct Habits {
    /// In which directory a file was found.
    found_in: LruCache<Node, Node>,
    score: LruCache<Node, u8>,
    /// When a file was last gone before it could be opened.
    replaced_at: Option<Instant>,
}

impl Habits {
    fn is_replaced_lately(&self, now: Instant) -> bool {
        self.replaced_at.is_some_and(|at| now.duration_since(at) < REPLACED_TIME)
    }
}

impl Default for Foresight {
    fn default() -> Self {
        let (found_in, score) = (LruCache::new(HABITS_MAX), LruCache::new(HABITS_MAX));
        let habits = Habits { found_in, score, replaced_at: None };
        let opened = Mutex::new(LruCache::new(OPENED_AHEAD_MAX));
        Foresight { habits: Mutex::new(habits), opened, sweeping: AtomicBool::new(false) }
    }
}

impl Foresight {
    /// Whether a lookup in this directory is likely to be followed by an open.
    pub(crate) fn expects_open(&self, parent: Node, now: Instant) -> bool {
        let habits = self.habits.lock();
        habits.score.peek(&parent).is_some_and(|&score| score >= THRESHOLD) || habits.is_replaced_lately(now)
    }

    /// Whether a file was gone, just now, when it was to be opened.
    pub(crate) fn is_replaced_lately(&self, now: Instant) -> bool {
        self.habits.lock().is_replaced_lately(now)
    }

    /// A file was gone when it was to be opened.
    pub(crate) fn replaced(&self, now: Instant) {
        self.habits.lock().replaced_at = Some(now);
    }

    /// A file was looked up.
    pub(crate) fn found(&self, parent: Node, file: Node) {
        let mut habits = self.habits.lock();
        habits.found_in.put(file, parent);
        let score = habits.score.get_or_insert_mut(parent, || 0);
        *score = score.saturating_sub(1);
    }

    /// A file was opened.
    pub(crate) fn opened(&self, file: Node) {
        let mut habits = self.habits.lock();
        if let Some(parent) = habits.found_in.pop(&file) {
            let score = habits.score.get_or_insert_mut(parent, || 0);
            *score = (*score + GAIN).min(SCORE_MAX);
        }
    }

    /// Keeps a file that was opened ahead. Returns the one that had to go for it.
    pub(crate) fn keep(
        &self,
        token: FillToken,
        caller: Caller,
        fh: Fh,
        attr: Attr,
        now: Instant,
    ) -> Option<Fh> {
        let opened = OpenedAhead { fh, attr, token, caller, at: now };
        self.opened.lock().push(attr.node, opened).map(|(_, gone)| gone.fh)
    }

    /// Hands a file that was opened ahead to the thread that opens it, if that was just now and for the same user.
    pub(crate) fn take(&self, caller: Caller, node: Node, now: Instant) -> Option<OpenedAhead> {
        let mut opened = self.opened.lock();
        let fits =
            |kept: &OpenedAhead| kept.caller == caller && now.duration_since(kept.at) < OPENED_AHEAD_TIME_MAX;
        if !opened.peek(&node).is_some_and(fits) {
            return None;
        }
        opened.pop(&node)
    }

    /// Files that nobody opened in time, to be closed.
    pub(crate) fn unused(&self, now: Instant) -> Vec<Fh> {
        let mut opened = self.opened.lock();
        let mut unused = Vec::new();
        while let Some((_, oldest)) = opened.peek_lru()
            && now.duration_since(oldest.at) >= OPENED_AHEAD_TIME_MAX
            && let Some((_, gone)) = opened.pop_lru()
        {
            unused.push(gone.fh);
        }
        unused
    }

    /// Whether the caller is the one who has to close what nobody opens in time.
    pub(crate) fn begin_sweeping(&self) -> bool {
        !self.sweeping.swap(true, Ordering::AcqRel)
    }

    /// Whether whoever closes what nobody opened has to come again.
    pub(crate) fn goes_on_sweeping(&self) -> bool {
        let opened = self.opened.lock();
        self.sweeping.store(!opened.is_empty(), Ordering::Release);
        !opened.is_empty()
    }
}

/// The flags of the open(2) or openat(2) that a thread is within, if it is in one and may be looked at
/// (proc_pid_syscall(5)).
pub(crate) fn open_flags(tid: u32) -> Option<i32> {
    if tid == 0 {
        return None;
    }
    // With one read of what always fits: each lookup that may open waits for this.
    let mut line = [0; SYSCALL_LINE_BYTES_MAX];
    let count = File::open(format!("/proc/{tid}/syscall")).and_then(|mut file| file.read(&mut line)).ok()?;
    flags_of_open(str::from_utf8(line.get(..count)?).ok()?)
}

fn flags_of_open(line: &str) -> Option<i32> {
    let mut words = line.split_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let argument = match number {
        libc::SYS_openat => 2,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => 1,
        _ => return None,
    };
    let flags = u64::from_str_radix(words.nth(argument)?.strip_prefix("0x")?, 16).ok()?;
    // An int: the upper half of the register has no meaning.
    Some(flags as i32)
}

#[cfg(test)]
mod tests {
    use nearfs_protocol::id::{Generation, NodeId};

    use super::*;

    fn node(id: u64) -> Node {
        Node { id: NodeId(id), generation: Generation(0) }
    }

    #[test]
    fn a_directory_whose_files_are_opened_is_expected_to_go_on_so() {
        let (foresight, now) = (Foresight::default(), Instant::now());
        for id in 10..13 {
            assert_eq!(foresight.expects_open(node(1), now), id == 12, "{id}");
            foresight.found(node(1), node(id));
            foresight.opened(node(id));
        }
        for id in 20..40 {
            foresight.found(node(1), node(id)); // Only looked at.
        }
        assert!(!foresight.expects_open(node(1), now));
        assert!(!foresight.expects_open(node(2), now));
    }

    #[test]
    fn after_a_file_was_replaced_too_soon_lookups_open_for_a_while() {
        let (foresight, now) = (Foresight::default(), Instant::now());
        foresight.replaced(now);
        assert!(foresight.expects_open(node(1), now));
        assert!(!foresight.expects_open(node(1), now + REPLACED_TIME));
    }

    #[test]
    fn a_file_opened_ahead_goes_to_its_own_thread_and_only_at_once() {
        let foresight = Foresight::default();
        let me = Caller { uid: 1, gid: 1, pid: 9 };
        let others = [Caller { uid: 2, ..me }, Caller { gid: 2, ..me }, Caller { pid: 8, ..me }];
        let start = Instant::now();
        let attr = crate::testing::attr(1, 1);
        let token = crate::cache::epoch::Epochs::new().begin();
        assert_eq!(foresight.keep(token, me, Fh(5), attr, start), None);
        assert!(others.iter().all(|other| foresight.take(*other, attr.node, start).is_none()));
        assert!(foresight.take(me, attr.node, start + OPENED_AHEAD_TIME_MAX).is_none());
        assert!(foresight.unused(start).is_empty());
        assert_eq!(foresight.unused(start + OPENED_AHEAD_TIME_MAX), [Fh(5)]);
        assert_eq!(foresight.keep(token, me, Fh(6), attr, start), None);
        assert_eq!(foresight.keep(token, me, Fh(7), attr, start), Some(Fh(6)));
        assert_eq!(foresight.take(me, attr.node, start).map(|taken| taken.fh), Some(Fh(7)));
        assert!(foresight.begin_sweeping() && !foresight.begin_sweeping());
        assert!(!foresight.goes_on_sweeping() && foresight.begin_sweeping());
    }

    #[test]
    fn flags_are_found_in_what_the_kernel_tells_of_a_thread() {
        let number = libc::SYS_openat;
        let line = format!("{number} 0xffffff9c 0x7ffe80 0x80000 0x0 0x0 0x0 0x7ffe00 0x7f00\n");
        assert_eq!(flags_of_open(&line), Some(libc::O_CLOEXEC));
        assert_eq!(flags_of_open("running\n"), None);
        assert_eq!(flags_of_open("-1 0x7ffe00 0x7f00\n"), None);
        assert_eq!(flags_of_open(&format!("{} 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", libc::SYS_read)), None);
        assert_eq!(open_flags(0), None);
    }
}
