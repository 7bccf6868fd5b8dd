//! Ctrl-C: ends the command that runs, not the shell.

use std::io;
use std::sync::Arc;

use nearfs_client::cancel::Cancel;
use parking_lot::Mutex;
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

/// The wish of whoever presses Ctrl-C, brought to the command that runs.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<Mutex<Current>>);

#[derive(Default)]
struct Current {
    cancel: Cancel,
    /// A second Ctrl-C ends the program, where there is no prompt to come back to.
    ends_program: bool,
}

impl Interrupt {
    /// Watches for Ctrl-C from here on.
    pub(crate) fn watch(ends_program: bool) -> io::Result<Interrupt> {
        let interrupt = Interrupt(Arc::new(Mutex::new(Current { ends_program, ..Current::default() })));
        let mut signals = Signals::new([SIGINT])?;
        let current = Arc::clone(&interrupt.0);
        std::thread::Builder::new().name("ctrl-c".into()).spawn(move || {
            for _ in signals.forever() {
                let (cancel, ends_program) = {
                    let current = current.lock();
                    (current.cancel.clone(), current.ends_program)
                };
                if cancel.is_cancelled() && ends_program {
                    std::process::exit(130);
                }
                cancel.cancel();
            }
        })?;
        Ok(interrupt)
    }

    /// The wish for the next command: what was wished before is over.
    pub(crate) fn next(&self) -> Cancel {
        let cancel = Cancel::new();
        self.0.lock().cancel = cancel.clone();
        cancel
    }
}
