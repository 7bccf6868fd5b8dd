//! Going into the background: the process that was started ends when the mount can be used.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::process::{Pid, WaitOptions};

/// The first descriptor after standard input, output and error.
const FIRST_INHERITED: libc::c_uint = 3;

/// Which of the two processes this is.
pub(crate) enum Side {
    /// The one that was started. It ends with this code.
    Starter(ExitCode),
    /// The one that serves the mount.
    Server(Readiness),
}

/// The server's way to tell the starter that the mount can be used.
pub(crate) struct Readiness(File);

/// Closes the descriptors that the process was started with, so that a mount that lives for months keeps
/// nobody's pipe or file open. To be called before anything of its own is open.
pub(crate) fn close_inherited() {
    // SAFETY: called first thing in a process without threads, before it has opened a descriptor; nothing
    // that is closed here belongs to a Rust value.
    unsafe { libc::close_range(FIRST_INHERITED, libc::c_uint::MAX, 0) };
}

/// Becomes two processes. Must be called before there is a second thread.
pub(crate) fn split() -> io::Result<Side> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: there is one thread, so that the child finds no lock held by a thread it does not have.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            Ok(Side::Server(Readiness(writer.into())))
        }
        child => {
            drop(writer);
            Ok(Side::Starter(wait(reader.into(), child)))
        }
    }
}

impl Readiness {
    /// Lets the starter end, and this process live without its terminal, directory and streams.
    pub(crate) fn tell(mut self) -> io::Result<()> {
        rustix::process::setsid()?;
        rustix::process::chdir("/")?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(null.as_fd())?;
        rustix::stdio::dup2_stdout(null.as_fd())?;
        rustix::stdio::dup2_stderr(null.as_fd())?;
        self.0.write_all(&[1])
    }
}

/// A byte means ready; an end without one, that the child has ended and said why on standard error.
fn wait(mut reader: File, child: libc::pid_t) -> ExitCode {
    if reader.read(&mut [0]).is_ok_and(|count| count == 1) {
        return ExitCode::SUCCESS;
    }
    let status = rustix::process::waitpid(Pid::from_raw(child), WaitOptions::empty());
    let code = status.ok().flatten().and_then(|(_, status)| status.exit_status());
    match code.and_then(|code| u8::try_from(code).ok()) {
        Some(code) if code != 0 => ExitCode::from(code),
        _ => {
            eprintln!("nearfs: the process that should serve the mount has ended");
            ExitCode::FAILURE
        }
    }
}
