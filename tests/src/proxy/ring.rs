//! A byte queue in one fixed allocation.

/// Bytes in the order they came, at most as many as were allotted.
pub(super) struct Ring {
    bytes: Box<[u8]>,
    head: usize,
    len: usize,
}

impl Ring {
    /// A ring of `capacity` bytes. The pages are touched only as far as they are used.
    pub(super) fn new(capacity: usize) -> Ring {
        Ring { bytes: vec![0; capacity].into_boxed_slice(), head: 0, len: 0 }
    }

    /// Number of bytes queued.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The free bytes that follow the queued ones without a break, to be filled and then `commit`ted.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        let capacity = self.bytes.len();
        let tail = self.head + self.len;
        if tail < capacity { &mut self.bytes[tail..] } else { &mut self.bytes[tail - capacity..self.head] }
    }

    /// Queues the first `count` bytes of `spare`.
    pub(super) fn commit(&mut self, count: usize) {
        self.len += count;
    }

    /// The oldest bytes, as far as they lie without a break.
    pub(super) fn front(&self) -> &[u8] {
        let end = (self.head + self.len).min(self.bytes.len());
        &self.bytes[self.head..end]
    }

    /// Forgets the oldest `count` bytes. An emptied ring begins anew at its first page, so that a lane without
    /// delay keeps working in memory that is warm.
    pub(super) fn consume(&mut self, count: usize) {
        self.len -= count;
        self.head = if self.len == 0 { 0 } else { (self.head + count) % self.bytes.len() };
    }
}
