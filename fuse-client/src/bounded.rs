//! Calls that may never return.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Makes a call on a thread of its own and waits for it at most so long. The thread of a call that does not
/// return stays behind: the process is expected to end soon, or the call to have a later bound of its own.
pub(crate) fn within<T: Send + 'static>(
    time: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new().name("bounded".into()).spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = sender.send(call());
    });
    spawned.ok().and_then(|_| receiver.recv_timeout(time).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_takes_too_long_is_left_behind() {
        assert_eq!(within(Duration::from_secs(10), || 7), Some(7));
        let slow = || thread::sleep(Duration::from_secs(5));
        assert_eq!(within(Duration::from_millis(10), slow), None);
    }
}
