//! The wish of a person that what runs shall end.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Ends waits. Clones are the same wish: once one of them was told, whatever waits with any of them gets `EINTR`, and so
/// does whatever begins with it later. It cannot be taken back: each command gets one of its own.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    is_cancelled: AtomicBool,
    listeners: Mutex<Listeners>,
}

type Listener = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Listeners {
    last: u64,
    told: HashMap<u64, Listener>,
}

/// Somebody who is told; until it is dropped.
pub struct Listening {
    number: u64,
    inner: Arc<Inner>,
}

impl Cancel {
    /// A wish that nobody has yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Ends all waits. Must not be called from a signal's function, but from a thread.
    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::SeqCst);
        let listeners: Vec<Listener> = self.0.listeners.lock().told.values().cloned().collect();
        listeners.iter().for_each(|listener| listener());
    }

    /// Whether it was told.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }

    /// Calls `listener` when the wish is told, on the thread that tells it; at once if it was told before.
    pub fn listen(&self, listener: impl Fn() + Send + Sync + 'static) -> Listening {
        let listener: Listener = Arc::new(listener);
        let mut listeners = self.0.listeners.lock();
        listeners.last += 1;
        let number = listeners.last;
        listeners.told.insert(number, Arc::clone(&listener));
        drop(listeners);
        if self.is_cancelled() {
            listener();
        }
        Listening { number, inner: Arc::clone(&self.0) }
    }

    /// Whether both are the same wish.
    pub(crate) fn is(&self, other: &Cancel) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.inner.listeners.lock().told.remove(&self.number);
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn who_listens_is_told_and_who_comes_late_too() {
        let cancel = Cancel::new();
        let count = Arc::new(AtomicU32::new(0));
        let listener = || {
            let count = Arc::clone(&count);
            move || {
                count.fetch_add(1, Ordering::SeqCst);
            }
        };
        let _early = cancel.listen(listener());
        drop(cancel.listen(listener()));
        assert!(!cancel.is_cancelled());
        cancel.clone().cancel();
        assert!(cancel.is_cancelled());
        assert_eq!(count.load(Ordering::SeqCst), 1, "who no longer listens is not told");
        let _late = cancel.listen(listener());
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}
