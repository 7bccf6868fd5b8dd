//! One sync of a file system for all who ask for it at the same time.
//!
//! Who asks while one is running needs the next, as the running one may have passed what he wrote; all who wait by then
//! share that one.

use std::collections::HashMap;

use nearfs_protocol::errno::Errno;
use parking_lot::{Condvar, Mutex};

use crate::export::DeviceNumber;

/// Syncs by file system.
#[derive(Default)]
pub(crate) struct GroupSync {
    devices: Mutex<HashMap<DeviceNumber, Rounds>>,
    over: Condvar,
}

/// The syncs of one file system, counted from 1.
#[derive(Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    /// The last that failed, and why.
    failed: Option<(u64, Errno)>,
}

impl GroupSync {
    /// Returns when a sync that began after this call is over: one that this thread carries out by `sync`, or another
    /// thread.
    pub(crate) fn sync(
        &self,
        device: DeviceNumber,
        sync: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut devices = self.devices.lock();
        let needed = devices.entry(device).or_default().begun + 1;
        loop {
            let rounds = devices.entry(device).or_default();
            if rounds.ended >= needed {
                return match rounds.failed {
                    Some((round, errno)) if round >= needed => Err(errno),
                    Some(_) | None => Ok(()),
                };
            }
            if rounds.begun == rounds.ended {
                rounds.begun += 1;
                break;
            }
            self.over.wait(&mut devices);
        }
        drop(devices);
        let outcome = sync();
        let mut devices = self.devices.lock();
        let rounds = devices.entry(device).or_default();
        rounds.ended = rounds.begun;
        if let Err(errno) = outcome {
            rounds.failed = Some((rounds.ended, errno));
        }
        drop(devices);
        self.over.notify_all();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn those_who_wait_share_a_sync_that_began_after_they_asked() {
        let (group, syncs) = (Arc::new(GroupSync::default()), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let (group, syncs) = (Arc::clone(&group), Arc::clone(&syncs));
                thread::spawn(move || {
                    let asked = syncs.load(Ordering::SeqCst);
                    let slow_sync = || {
                        syncs.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(50));
                        Ok(())
                    };
                    group.sync((1, 2), slow_sync).unwrap();
                    assert!(syncs.load(Ordering::SeqCst) > asked);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!((1..=6).contains(&syncs.load(Ordering::SeqCst)), "{syncs:?} syncs");
    }

    #[test]
    fn a_failure_is_told_to_those_whom_it_concerns() {
        let group = GroupSync::default();
        assert_eq!(group.sync((1, 2), || Err(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(group.sync((1, 2), || Ok(())), Ok(()));
        assert_eq!(group.sync((1, 3), || Ok(())), Ok(()));
    }
}
