//! Tells the kernel what to forget, from a thread of its own.
//!
//! The kernel may make a notification wait for an operation that waits for us (`inval_entry` takes the lock
//! of the directory), so that the threads that hear of changes only put them into a queue.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::thread;

use fuser::{INodeNo, Notifier};
use nearfs_client::vfs::types::Invalidation;
use parking_lot::{Condvar, Mutex};

/// Most different things that wait to be forgotten. Beyond, whole nodes take the place of names and parts.
const WAITING_MAX: usize = 16 * 1024;
/// The kernel counts bytes with a sign; a negative length means "to the end", a negative offset "no content".
const TO_THE_END: i64 = -1;

/// The queue: the same thing said twice before the kernel was told is told once.
#[derive(Default)]
pub(crate) struct KernelNotifier {
    waiting: Mutex<HashSet<Invalidation>>,
    filled: Condvar,
}

impl KernelNotifier {
    /// Starts the thread.
    pub(crate) fn start(kernel: Notifier) -> io::Result<Arc<KernelNotifier>> {
        let notifier = Arc::new(KernelNotifier::default());
        let queue = Arc::clone(&notifier);
        thread::Builder::new().name("notify".into()).spawn(move || queue.run(&kernel))?;
        Ok(notifier)
    }

    /// Puts into the queue; never waits.
    pub(crate) fn push(&self, invalidation: Invalidation) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX {
            coarsen(&mut waiting);
        }
        if waiting.len() < WAITING_MAX {
            waiting.insert(invalidation);
        } else {
            log::warn!("too many changes at once; one is left to the kernel's time limits");
        }
        self.filled.notify_one();
    }

    fn run(&self, kernel: &Notifier) {
        loop {
            let batch = self.take();
            for invalidation in batch {
                if let Err(error) = tell(kernel, &invalidation) {
                    match error.raw_os_error() {
                        // The mount is gone.
                        Some(libc::ENODEV | libc::ENOTCONN) => return,
                        _ => log::debug!("{invalidation:?}: {error}"),
                    }
                }
            }
        }
    }

    fn take(&self) -> HashSet<Invalidation> {
        let mut waiting = self.waiting.lock();
        while waiting.is_empty() {
            self.filled.wait(&mut waiting);
        }
        std::mem::take(&mut *waiting)
    }
}

/// Parts of files become whole files.
fn coarsen(waiting: &mut HashSet<Invalidation>) {
    let all = std::mem::take(waiting);
    waiting.extend(all.into_iter().map(|invalidation| match invalidation {
        Invalidation::Range { ino, .. } | Invalidation::Node { ino } => Invalidation::Node { ino },
        entry @ Invalidation::Entry { .. } => entry,
    }));
}

fn tell(kernel: &Notifier, invalidation: &Invalidation) -> io::Result<()> {
    match invalidation {
        Invalidation::Node { ino } => kernel.inval_inode(INodeNo(*ino), 0, TO_THE_END),
        Invalidation::Range { ino, offset, size } => {
            let offset = i64::try_from(*offset).unwrap_or(i64::MAX);
            let size = i64::try_from(*size).unwrap_or(TO_THE_END);
            kernel.inval_inode(INodeNo(*ino), offset, size)
        }
        Invalidation::Entry { parent, name } => kernel.inval_entry(INodeNo(*parent), OsStr::from_bytes(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_waits_once_and_a_storm_stays_bounded() {
        let queue = KernelNotifier::default();
        for _ in 0..3 {
            queue.push(Invalidation::Node { ino: 5 });
        }
        assert_eq!(queue.take().len(), 1);
        for offset in 0..(WAITING_MAX as u64 * 3) {
            queue.push(Invalidation::Range { ino: 7, offset, size: 1 });
        }
        let left = queue.take();
        assert!(left.len() <= WAITING_MAX && left.contains(&Invalidation::Node { ino: 7 }));
    }
}
