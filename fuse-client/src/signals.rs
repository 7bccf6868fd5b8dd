//! Signals that ask a mount to end.

use std::io;
use std::thread;

/// What ends a mount: Ctrl-C, a polite kill, the loss of the terminal.
const ENDING: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Has a thread call `ended` for each of these signals from here on, instead of the process dying of it. To
/// be called before there is a second thread: later ones inherit the mask.
pub(crate) fn on_ending_signal(mut ended: impl FnMut() + Send + 'static) -> io::Result<()> {
    let set = block()?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        loop {
            let mut signal = 0;
            // SAFETY: both point to initialised values that live through the call.
            if unsafe { libc::sigwait(&raw const set, &raw mut signal) } == 0 {
                log::info!("signal {signal}: unmounting");
                ended();
            }
        }
    })?;
    Ok(())
}

fn block() -> io::Result<libc::sigset_t> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it; the other calls get pointers to it
    // and valid signal numbers.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in ENDING {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        match libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) {
            0 => Ok(set.assume_init()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}
