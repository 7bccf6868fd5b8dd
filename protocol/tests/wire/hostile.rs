//! Bytes that nobody should send: they are refused, or mean something that can be said; they never panic, and
//! never take more memory than a control part of that kind may.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use nearfs_protocol::codec::{FrameKind, Header};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::limits::{CONTROL_BYTES_MAX, HEADER_BYTES};
use nearfs_protocol::message::{Call, Caller, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::control::{Control, EMPTY_KINDS};
use crate::samples::samples;

/// Decoded, the densest message (a listing of names of one byte) takes this many times its bytes on the wire,
/// with what a growing vector leaves unused.
const GROWTH_MAX: usize = 24;

/// What serde reserves at most because a length says so, before it sees the items: for a list, and for one within the
/// item that it is at.
const RESERVED_BYTES_MAX: usize = 2 * 1024 * 1024;

const KINDS: [FrameKind; 6] = [
    FrameKind::Hello,
    FrameKind::Welcome,
    FrameKind::Refused,
    FrameKind::Call,
    FrameKind::Answer,
    FrameKind::Push,
];

/// Counts what the current thread has allocated and not freed, and the most there was.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.get() + layout.size();
        HELD.set(held);
        MOST.set(MOST.get().max(held));
        // SAFETY: the caller's promise about `layout` is the one asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // What another thread allocated was never counted here.
        HELD.set(HELD.get().saturating_sub(layout.size()));
        // SAFETY: `at` came from `alloc` above with this layout, as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that are held at once while `work` is done.
fn most_held<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    MOST.set(before);
    let done = work();
    (done, MOST.get() - before)
}

/// Decodes; what is understood must be what can be said.
fn decode(kind: FrameKind, control: &[u8]) {
    let (decoded, bytes) = most_held(|| Control::decode(kind, control));
    let bound = control.len() * GROWTH_MAX + RESERVED_BYTES_MAX + 4096;
    assert!(bytes <= bound, "{bytes} bytes for {} of {kind:?}", control.len());
    let Ok(decoded) = decoded else { return };
    let again = decoded.encode(RequestId(1), 0);
    assert_eq!(Control::parse(&again).map(|(_, control)| control), Ok(decoded));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(control in vec(any::<u8>(), 0..300), header: [u8; HEADER_BYTES]) {
        KINDS.into_iter().chain(EMPTY_KINDS).for_each(|kind| decode(kind, &control));
        if let Ok(header) = Header::parse(&header) {
            prop_assert_eq!(Header::parse(&header.to_bytes()), Ok(header));
        }
    }

    #[test]
    fn mutated_messages(which: Index, changes in vec((any::<Index>(), any::<u8>()), 1..4), cut: Index) {
        let samples = samples();
        let sample = which.get(&samples);
        let mut control = sample.control.encode(sample.id, 0).split_off(HEADER_BYTES);
        for (at, byte) in changes {
            if !control.is_empty() {
                let at = at.index(control.len());
                control[at] = byte;
            }
        }
        decode(sample.control.kind(), &control);
        control.truncate(cut.index(control.len() + 1));
        decode(sample.control.kind(), &control);
    }
}

#[test]
fn lengths_that_lie_take_no_memory() {
    for sample in samples() {
        let control = sample.control.encode(sample.id, 0).split_off(HEADER_BYTES);
        for at in 0..control.len().saturating_sub(7) {
            for lie in [u64::MAX, 1 << 40, 1 << 20, CONTROL_BYTES_MAX as u64] {
                let mut lying = control.clone();
                lying[at..at + 8].copy_from_slice(&lie.to_le_bytes());
                decode(sample.control.kind(), &lying);
            }
        }
    }
}

#[test]
fn the_densest_messages_stay_within_their_growth() {
    let listing = |entries: usize| {
        // Answer, Ok; Listing; the number of entries; and each: a name of one byte, cookie, no attributes,
        // st_ino, no kind.
        let mut control = [0u32.to_le_bytes(), 7u32.to_le_bytes()].concat();
        control.extend((entries as u64).to_le_bytes());
        let entry =
            [&1u64.to_le_bytes()[..], b"x", &9u64.to_le_bytes(), &[0], &2u64.to_le_bytes(), &[0]].concat();
        control.extend(entry.repeat(entries));
        control.extend([[0; 8], [1; 8]].concat().split_at(6).1);
        control
    };
    let entries = (CONTROL_BYTES_MAX - 26) / 27;
    let control = listing(entries);
    assert!(control.len() <= CONTROL_BYTES_MAX && control.len() + 27 > CONTROL_BYTES_MAX);
    let (decoded, bytes) = most_held(|| Control::decode(FrameKind::Answer, &control));
    assert!(decoded.is_ok(), "{decoded:?}");
    assert!(bytes > control.len() * GROWTH_MAX / 4, "the bound is far off: {bytes}");
    decode(FrameKind::Answer, &control);

    let groups = vec![0; (CONTROL_BYTES_MAX - 64) / 4];
    let request = Request::StatFs { node: Default::default() };
    let call = Control::Call(Call { caller: Caller { uid: 0, gid: 0, groups }, request });
    decode(FrameKind::Call, &call.encode(RequestId(1), 0)[HEADER_BYTES..]);
}
