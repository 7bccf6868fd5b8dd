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
use nearfs_client::vfs::Told;
use nearfs_client::vfs::types::Invalidation;
use parking_lot::{Condvar, Mutex};

/// Most different things that wait to be forgotten. Beyond, whole nodes take the place of names and parts.
const WAITING_MAX: usize = 16 * 1024;
/// The kernel counts bytes with a sign; a negative length means "to the end", a negative offset "no content".
const TO_THE_END: i64 = -1;

/// The queue: the same thing said twice before the kernel was told is told once.
#[derive(Default)]
pub(crate) struct KernelNotifier {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: HashSet<Invalidation>,
    /// Those who wait for the kernel to be told; at most one for each request under way.
    told: Vec<Told>,
    /// The mount is gone, and nobody is left to be told.
    ended: bool,
}

impl KernelNotifier {
    /// Starts the thread.
    pub(crate) fn start(kernel: Notifier) -> io::Result<Arc<KernelNotifier>> {
        let notifier = Arc::new(KernelNotifier::default());
        let queue = Arc::clone(&notifier);
        thread::Builder::new().name("notify".into()).spawn(move || queue.run(&kernel))?;
        Ok(notifier)
    }

    /// Puts into the queue; never waits. `told` is called when the kernel has been told.
    pub(crate) fn push(&self, invalidation: Invalidation, told: Option<Told>) {
        let mut queue = self.queue.lock();
        if queue.ended {
            drop(queue);
            return told.into_iter().for_each(|told| told());
        }
        if queue.waiting.len() >= WAITING_MAX {
            coarsen(&mut queue.waiting);
        }
        if queue.waiting.len() < WAITING_MAX {
            queue.waiting.insert(invalidation);
        } else {
            log::warn!("too many changes at once; one is left to the kernel's time limits");
        }
        queue.told.extend(told);
        self.filled.notify_one();
    }

    fn run(&self, kernel: &Notifier) {
        let mut ended = false;
        while !ended {
            let (batch, told) = self.take();
            for invalidation in batch {
                match tell(kernel, &invalidation).map_err(|error| (error.raw_os_error(), error)) {
                    Ok(()) => {}
                    Err((Some(libc::ENODEV | libc::ENOTCONN), _)) => ended = true,
                    Err((_, error)) => log::debug!("{invalidation:?}: {error}"),
                }
            }
            told.into_iter().for_each(|told| told());
        }
        let mut queue = self.queue.lock();
        queue.ended = true;
        let left = std::mem::take(&mut queue.told);
        drop(queue);
        left.into_iter().for_each(|told| told());
    }

    fn take(&self) -> (HashSet<Invalidation>, Vec<Told>) {
        let mut queue = self.queue.lock();
        while queue.waiting.is_empty() && queue.told.is_empty() {
            self.filled.wait(&mut queue);
        }
        (std::mem::take(&mut queue.waiting), std::mem::take(&mut queue.told))
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
            queue.push(Invalidation::Node { ino: 5 }, None);
        }
        assert_eq!(queue.take().0.len(), 1);
        for offset in 0..(WAITING_MAX as u64 * 3) {
            queue.push(Invalidation::Range { ino: 7, offset, size: 1 }, None);
        }
        let (left, _) = queue.take();
        assert!(left.len() <= WAITING_MAX && left.contains(&Invalidation::Node { ino: 7 }));
    }
}
