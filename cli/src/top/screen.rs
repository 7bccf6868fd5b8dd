//! The picture that is drawn anew on a terminal, and the keys that end it.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, TryRecvError};

use nearfs_protocol::roster::SessionReport;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::top::table;

/// How often new pictures are looked for while no key is pressed.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Lines of a terminal that does not tell its size.
const ROWS_DEFAULT: usize = 24;
/// The byte of Ctrl-C, which raises no signal meanwhile.
const INTERRUPT: u8 = 3;

/// Another page, without a cursor, without lines that wrap.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// A terminal that gives each key at once, until this is dropped.
struct Keys(Termios);

/// Shows pictures of the server `name` as they come, until q or Ctrl-C.
pub(crate) fn show(
    name: &str,
    first: Vec<SessionReport>,
    pictures: &Receiver<Result<Vec<SessionReport>, String>>,
) -> io::Result<()> {
    let _keys = Keys::take()?;
    let (mut sessions, mut trouble) = (first, None);
    loop {
        draw(name, &sessions, trouble.as_deref())?;
        loop {
            if leaves()? {
                return Ok(());
            }
            match pictures.try_recv() {
                Ok(Ok(next)) => (sessions, trouble) = (next, None),
                Ok(Err(line)) => trouble = Some(line),
                Err(TryRecvError::Empty) => continue,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            break;
        }
    }
}

fn draw(name: &str, sessions: &[SessionReport], trouble: Option<&str>) -> io::Result<()> {
    let lines = table::lines(sessions);
    let rows = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    let rows = if rows == 0 { ROWS_DEFAULT } else { rows };
    let state = trouble.map_or_else(|| "q leaves".to_owned(), |line| line.escape_debug().to_string());
    let mut picture =
        format!("\x1b[H{}  ({state})\x1b[K\r\n{}\x1b[K\r\n", name.escape_debug(), table::heading());
    let room = rows.saturating_sub(3);
    // What counts them all stands last and is always shown.
    let shown = if lines.len() <= room { lines.len() } else { room.saturating_sub(1) };
    for line in lines.iter().take(shown) {
        picture.push_str(&format!("{line}\x1b[K\r\n"));
    }
    if let Some(summary) = lines.last().filter(|_| shown < lines.len()) {
        picture.push_str(&format!("{summary}; {} lines more than fit\x1b[K\r\n", lines.len() - 1 - shown));
    }
    picture.push_str("\x1b[J");
    let mut out = io::stdout().lock();
    out.write_all(picture.as_bytes())?;
    out.flush()
}

/// Waits a little for a key. Whether it ends the picture; so does the end of the terminal.
fn leaves() -> io::Result<bool> {
    let stdin = io::stdin();
    let mut waiting = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut waiting, Some(&LOOK_INTERVAL)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(false),
        Ok(_) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut keys = [0; 64];
    let count = rustix::io::read(&stdin, &mut keys)?;
    Ok(count == 0 || keys[..count].iter().any(|key| [b'q', b'Q', INTERRUPT].contains(key)))
}

impl Keys {
    fn take() -> io::Result<Keys> {
        let before = tcgetattr(io::stdin())?;
        let mut each = before.clone();
        each.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &each)?;
        let keys = Keys(before);
        let mut out = io::stdout().lock();
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        Ok(keys)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        let _ = io::stdout().lock().write_all(LEAVE.as_bytes());
        let _ = io::stdout().lock().flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
