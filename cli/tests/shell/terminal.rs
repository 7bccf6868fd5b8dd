//! A person at a terminal: keys go in, and what the screen shows is looked at.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::{PROMPT, wait_for};

const ROWS: u16 = 50;
const COLUMNS: u16 = 110;

/// A program on a terminal of its own.
pub(crate) struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts a program on it.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Terminal {
        let (near, far) = open();
        let stdio = || Stdio::from(far.try_clone().unwrap());
        command.stdin(stdio()).stdout(stdio()).stderr(stdio()).env("TERM", "xterm");
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop(far);
        let screen = Arc::new(Mutex::new(blank()));
        let (mut output, shown) = (File::from(near.try_clone().unwrap()), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // It ends with an error when the last program has left the terminal.
            while let Ok(size @ 1..) = output.read(&mut chunk) {
                shown.lock().unwrap().process(&chunk[..size]);
            }
        });
        Terminal { child, keys: File::from(near), screen }
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line.
    pub(crate) fn type_line(&mut self, line: &str) {
        self.press(&format!("{line}\r"));
    }

    /// What is to be seen.
    pub(crate) fn screen(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until this is to be seen.
    #[track_caller]
    pub(crate) fn shows(&self, words: &str) {
        let seen = wait_for(PROMPT, || self.screen().contains(words).then_some(()));
        assert!(seen.is_some(), "{words:?} is not to be seen:\n{}", self.screen());
    }

    /// Waits until the last line that is not empty ends with this.
    #[track_caller]
    pub(crate) fn ends_with(&self, words: &str) {
        let seen = wait_for(PROMPT, || {
            let screen = self.screen();
            screen.trim_end().ends_with(words.trim_end()).then_some(())
        });
        assert!(seen.is_some(), "the last line is not {words:?}:\n{}", self.screen());
    }

    /// Whether this, which is to be seen, is in a colour.
    #[track_caller]
    pub(crate) fn has_color(&self, words: &str) -> bool {
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        let rows: Vec<String> = screen.rows(0, COLUMNS).collect();
        let (row, column) = rows
            .iter()
            .enumerate()
            .find_map(|(row, text)| Some((row, text.find(words)?)))
            .unwrap_or_else(|| panic!("{words:?} is not to be seen"));
        screen.cell(row as u16, column as u16).unwrap().fgcolor() != vt100::Color::Default
    }

    /// Empties the screen, as it was drawn so far.
    pub(crate) fn wipe(&self) {
        *self.screen.lock().unwrap() = blank();
    }

    /// The exit code, once the program has ended.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> i32 {
        let status = wait_for(PROMPT, || self.child.try_wait().unwrap());
        let status = status.unwrap_or_else(|| panic!("the program does not end:\n{}", self.screen()));
        status.code().expect("it was not killed")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn blank() -> vt100::Parser {
    vt100::Parser::new(ROWS.try_into().unwrap(), COLUMNS.try_into().unwrap(), 0)
}

/// Both ends of a new terminal.
fn open() -> (OwnedFd, OwnedFd) {
    use std::os::fd::FromRawFd;
    let (mut near, mut far) = (0, 0);
    let size = libc::winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointers are to values that live through the call; null asks for no name and no settings. The
    // descriptors are new and belong to nobody else.
    unsafe {
        let opened = libc::openpty(
            &raw mut near,
            &raw mut far,
            std::ptr::null_mut(),
            std::ptr::null(),
            &raw const size,
        );
        assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
        assert_eq!(libc::fcntl(near, libc::F_SETFD, libc::FD_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(near), OwnedFd::from_raw_fd(far))
    }
}
