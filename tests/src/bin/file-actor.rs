//! A program among programs: does to a file what a test tells it, as a process that can be killed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use rustix::fs::FlockOperation;

/// What to do.
#[derive(Parser)]
enum Act {
    /// Appends records of a fixed length through one descriptor: the tag, a number, a line's end
    Append { tag: String, count: u32, file: PathBuf },
    /// Adds 1 to the number in a file so often, each time under a lock
    Count { style: Style, times: u32, file: PathBuf },
    /// Takes an exclusive lock, prints "locked", and keeps it until its input ends
    Hold { style: Style, file: PathBuf },
    /// Tries to take an exclusive lock without waiting, and prints "locked" or "refused"
    Try { style: Style, file: PathBuf },
    /// Creates files 0, 1, 2... of a directory with O_EXCL, and prints how many it was the first to create
    CreateFirst { count: u32, directory: PathBuf },
}

#[derive(Clone, Copy, ValueEnum)]
enum Style {
    Flock,
    Posix,
}

fn main() -> io::Result<()> {
    match Act::parse() {
        Act::Append { tag, count, file } => append(&tag, count, &OpenOptions::new().append(true).open(file)?),
        Act::Count { style, times, file } => count(style, times, &mut read_write(file)?),
        Act::Hold { style, file } => hold(style, &read_write(file)?),
        Act::Try { style, file } => {
            let took = lock(style, &read_write(file)?, false)?;
            println!("{}", if took { "locked" } else { "refused" });
            Ok(())
        }
        Act::CreateFirst { count, directory } => create_first(count, &directory),
    }
}

fn read_write(path: PathBuf) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn append(tag: &str, count: u32, mut file: &File) -> io::Result<()> {
    for number in 0..count {
        file.write_all(format!("{tag} {number:06}\n").as_bytes())?;
    }
    Ok(())
}

fn count(style: Style, times: u32, file: &mut File) -> io::Result<()> {
    for _ in 0..times {
        lock(style, file, true)?;
        let mut text = String::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut text)?;
        let number: u64 = text.trim().parse().map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(format!("{:08}\n", number + 1).as_bytes())?;
        unlock(style, file)?;
    }
    Ok(())
}

fn hold(style: Style, file: &File) -> io::Result<()> {
    lock(style, file, true)?;
    println!("locked");
    io::stdin().lock().lines().for_each(drop);
    Ok(())
}

fn create_first(count: u32, directory: &std::path::Path) -> io::Result<()> {
    let mut first = 0;
    for number in 0..count {
        match OpenOptions::new().write(true).create_new(true).open(directory.join(number.to_string())) {
            Ok(_) => first += 1,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    println!("{first}");
    Ok(())
}

/// Whether the lock was taken.
fn lock(style: Style, file: &File, wait: bool) -> io::Result<bool> {
    let outcome = match style {
        Style::Flock if wait => {
            rustix::fs::flock(borrow(file), FlockOperation::LockExclusive).map_err(Into::into)
        }
        Style::Flock => {
            rustix::fs::flock(borrow(file), FlockOperation::NonBlockingLockExclusive).map_err(Into::into)
        }
        Style::Posix => posix(file.as_raw_fd(), libc::F_WRLCK, wait),
    };
    match outcome {
        Ok(()) => Ok(true),
        Err(error)
            if error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EACCES) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn unlock(style: Style, file: &File) -> io::Result<()> {
    match style {
        Style::Flock => Ok(rustix::fs::flock(borrow(file), FlockOperation::Unlock)?),
        Style::Posix => posix(file.as_raw_fd(), libc::F_UNLCK, true),
    }
}

fn borrow(file: &File) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(file)
}

fn posix(file: RawFd, kind: i32, wait: bool) -> io::Result<()> {
    // SAFETY: a `flock` of zeros is a valid one, of the whole file.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as i16;
    range.l_whence = libc::SEEK_SET as i16;
    let command = if wait { libc::F_SETLKW } else { libc::F_SETLK };
    // SAFETY: the descriptor is open and `range` outlives the call.
    match unsafe { libc::fcntl(file, command, &range) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
