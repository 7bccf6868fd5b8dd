//! Room for payloads that is used again instead of being allocated, cleared and freed each time.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use nearfs_protocol::limits::PAYLOAD_BYTES_MAX;
use parking_lot::Mutex;

/// The smallest room that is kept. Anything smaller costs more to keep than to allocate.
const ROOM_BYTES_MIN: usize = 4096;
/// A room begins where a line of the processor's cache does: the kernel copies to and from it by a fifth faster.
const LINE_BYTES: usize = 64;
/// Rooms come in powers of two, so that one fits the next payload of about the same size.
const CLASSES: usize = (PAYLOAD_BYTES_MAX / ROOM_BYTES_MIN).ilog2() as usize + 1;

/// A stock of empty rooms. Clones share it.
#[derive(Clone)]
pub struct Pool(Arc<Stock>);

struct Stock {
    idle: Mutex<Idle>,
    idle_bytes_max: usize,
}

#[derive(Default)]
struct Idle {
    rooms: [Vec<Box<[u8]>>; CLASSES],
    bytes: usize,
}

/// Raw bytes that travel beside a message. Its room goes back to the pool when it is dropped.
#[derive(Default)]
pub struct Payload {
    room: Box<[u8]>,
    /// Where in the room it begins.
    start: usize,
    len: usize,
    home: Option<Pool>,
}

impl Pool {
    /// A stock that keeps at most `idle_bytes_max` bytes that nobody uses.
    pub fn new(idle_bytes_max: usize) -> Pool {
        Pool(Arc::new(Stock { idle: Mutex::default(), idle_bytes_max }))
    }

    /// Room for `len` bytes. What they are is unspecified: the caller writes them all, or
    /// [`truncate`](Payload::truncate)s to what it wrote.
    pub fn take(&self, len: usize) -> Payload {
        match class_of(len) {
            Some(class) => {
                let kept = self.0.idle.lock().take(class);
                let room = kept.unwrap_or_else(|| vec![0; room_bytes(class)].into());
                let start = room.as_ptr().align_offset(LINE_BYTES).min(LINE_BYTES);
                Payload { room, start, len, home: Some(self.clone()) }
            }
            None => Payload::from(vec![0; len]),
        }
    }

    fn put_back(&self, room: Box<[u8]>) {
        let mut idle = self.0.idle.lock();
        if idle.bytes + room.len() <= self.0.idle_bytes_max {
            idle.put(room);
        }
    }
}

impl Idle {
    fn take(&mut self, class: usize) -> Option<Box<[u8]>> {
        let room = self.rooms[class].pop()?;
        self.bytes -= room.len();
        Some(room)
    }

    fn put(&mut self, room: Box<[u8]>) {
        if let Some(class) = class_of(room.len().saturating_sub(LINE_BYTES)) {
            self.bytes += room.len();
            self.rooms[class].push(room);
        }
    }
}

/// A payload of the class fits wherever the first line begins.
fn room_bytes(class: usize) -> usize {
    (ROOM_BYTES_MIN << class) + LINE_BYTES
}

/// Which rooms fit `len` bytes; none for what is too small or too large to be kept.
fn class_of(len: usize) -> Option<usize> {
    let kept = (ROOM_BYTES_MIN / 2 + 1..=PAYLOAD_BYTES_MAX).contains(&len);
    kept.then(|| len.div_ceil(ROOM_BYTES_MIN).next_power_of_two().ilog2() as usize)
}

impl Payload {
    /// No bytes; costs nothing.
    pub fn empty() -> Payload {
        Payload::default()
    }

    /// Keeps the first `len` bytes; does nothing if there are not that many.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The same bytes to be shared; the room goes back to the pool when the last share is dropped.
    pub fn into_bytes(self) -> bytes::Bytes {
        bytes::Bytes::from_owner(self)
    }

    /// Bytes of memory that it holds, which may be up to twice its length.
    pub fn room_bytes(&self) -> usize {
        self.room.len()
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(pool) = &self.home {
            pool.put_back(std::mem::take(&mut self.room));
        }
    }
}

impl Deref for Payload {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.room[self.start..self.start + self.len]
    }
}

impl DerefMut for Payload {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload { start: 0, len: bytes.len(), room: bytes.into(), home: None }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_used_again() {
        let pool = Pool::new(1 << 20);
        let mut first = pool.take(100_000);
        first[99_999] = 7;
        let place = first.as_ptr();
        drop(first);
        let second = pool.take(70_000);
        assert_eq!((second.as_ptr(), second.len(), second.room_bytes()), (place, 70_000, 131_136));
        assert!(place.addr().is_multiple_of(LINE_BYTES));
        assert_ne!(pool.take(70_000).as_ptr(), place);
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let pool = Pool::new(300_000);
        drop([pool.take(131_072), pool.take(131_072), pool.take(131_072)]);
        assert_eq!(pool.0.idle.lock().bytes, 262_272);
        drop([pool.take(131_072), pool.take(131_072)]);
        assert_eq!(pool.0.idle.lock().bytes, 262_272);
    }

    #[test]
    fn every_size_fits_its_room() {
        let pool = Pool::new(64 << 20);
        for len in (0..PAYLOAD_BYTES_MAX).step_by(1021).chain([2048, 2049, 4096, 4097, PAYLOAD_BYTES_MAX]) {
            let payload = pool.take(len);
            assert_eq!(payload.len(), len);
            assert!(payload.room_bytes() <= (2 * len).max(ROOM_BYTES_MIN) + LINE_BYTES, "{len}");
        }
        let mut short = Payload::from(vec![1, 2, 3]);
        short.truncate(2);
        short.truncate(9);
        assert_eq!(*short, [1, 2]);
    }
}
