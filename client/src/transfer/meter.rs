//! What a transfer has done so far, for whoever shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Counts. Read by others at any time.
#[derive(Default)]
pub struct Meter {
    bytes: AtomicU64,
    bytes_expected: AtomicU64,
    files: AtomicU64,
    files_expected: AtomicU64,
    resumed_bytes: AtomicU64,
    failures: AtomicU64,
    far_bytes: AtomicU64,
    unchanged: AtomicU64,
    adjusted: AtomicU64,
    removed: AtomicU64,
    compared_bytes: AtomicU64,
    looked: AtomicU64,
    is_all_found: AtomicBool,
    running: Mutex<Vec<Arc<Running>>>,
}

/// A large file that is being transferred.
pub struct Running {
    /// Its name, for people.
    pub name: String,
    /// Its size.
    pub bytes_expected: u64,
    bytes: AtomicU64,
    /// Those of them that were there already.
    resumed_bytes: AtomicU64,
}

/// Counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of content that have arrived, those found there included.
    pub bytes: u64,
    /// Bytes of all files found so far.
    pub bytes_expected: u64,
    /// Files that have their names.
    pub files: u64,
    /// Files found so far.
    pub files_expected: u64,
    /// Bytes that an earlier attempt had brought already.
    pub resumed_bytes: u64,
    /// Files that could not be transferred.
    pub failures: u64,
    /// Bytes of content that the server says it has sent or received.
    pub far_bytes: u64,
    /// Files that were the same at the target already.
    pub unchanged: u64,
    /// Those of them that got another mode or time.
    pub adjusted: u64,
    /// Names that were removed at the target.
    pub removed: u64,
    /// Bytes of content that were compared.
    pub compared_bytes: u64,
    /// Directories that were looked into.
    pub looked: u64,
    /// Whether no more files will be found.
    pub is_all_found: bool,
}

impl Meter {
    /// The counts at this moment.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            bytes: read(&self.bytes),
            bytes_expected: read(&self.bytes_expected),
            files: read(&self.files),
            files_expected: read(&self.files_expected),
            resumed_bytes: read(&self.resumed_bytes),
            failures: read(&self.failures),
            far_bytes: read(&self.far_bytes),
            unchanged: read(&self.unchanged),
            adjusted: read(&self.adjusted),
            removed: read(&self.removed),
            compared_bytes: read(&self.compared_bytes),
            looked: read(&self.looked),
            is_all_found: self.is_all_found.load(Ordering::Relaxed),
        }
    }

    /// The large files under way.
    pub fn running(&self) -> Vec<Arc<Running>> {
        self.running.lock().clone()
    }

    pub(super) fn found(&self, bytes: u64) {
        self.files_expected.fetch_add(1, Ordering::Relaxed);
        self.bytes_expected.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn all_found(&self) {
        self.is_all_found.store(true, Ordering::Relaxed);
    }

    pub(super) fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much of a file that is begun anew does not count.
    pub(super) fn taken_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A large file is begun anew: what was counted of it does not count.
    pub(super) fn begun_anew(&self, running: &Running) {
        self.taken_back(running.bytes.swap(0, Ordering::Relaxed));
        self.resumed_bytes.fetch_sub(running.resumed_bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn far(&self, bytes: u64) {
        self.far_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much of a file was there already.
    pub(super) fn resumed(&self, running: &Running, bytes: u64) {
        self.resumed_bytes.fetch_add(bytes, Ordering::Relaxed);
        running.resumed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn unchanged(&self) {
        self.unchanged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn adjusted(&self) {
        self.adjusted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn removed(&self, names: u64) {
        self.removed.fetch_add(names, Ordering::Relaxed);
    }

    pub(super) fn compared(&self, bytes: u64) {
        self.compared_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn looked(&self) {
        self.looked.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn done(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn begin(&self, name: String, bytes_expected: u64) -> Arc<Running> {
        let running = Arc::new(Running {
            name,
            bytes_expected,
            bytes: AtomicU64::new(0),
            resumed_bytes: AtomicU64::new(0),
        });
        self.running.lock().push(Arc::clone(&running));
        running
    }

    pub(super) fn end(&self, running: &Arc<Running>) {
        self.running.lock().retain(|other| !Arc::ptr_eq(other, running));
    }
}

impl Running {
    /// Bytes of it that have arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Counts {
    /// Bytes that this transfer itself has moved. The counts are not of quite the same moment, so that more may seem to
    /// have been there than there is.
    pub fn moved_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.resumed_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_begun_anew_counts_once() {
        let meter = Meter::default();
        let running = meter.begin("f".into(), 10);
        let count = |bytes, resumed| {
            meter.moved(bytes);
            running.moved(bytes);
            meter.resumed(&running, resumed);
        };
        count(7, 5);
        meter.begun_anew(&running);
        assert_eq!(meter.counts(), Counts::default());
        count(10, 0);
        assert_eq!((meter.counts().moved_bytes(), meter.counts().resumed_bytes), (10, 0));
        meter.resumed(&running, 11);
        assert_eq!(meter.counts().moved_bytes(), 0, "counts of different moments");
    }
}
