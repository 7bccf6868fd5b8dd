//! What commands say: text for people or JSON for scripts, coloured where that is wanted, to where it shall go.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anstyle::{AnsiColor, Style};
use bytesize::ByteSize;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nearfs_client::remote::path::printable;
use nearfs_protocol::attr::{FileKind, Time};
use serde_json::{Value, json};

use crate::shell::failure::Failure;

/// Kinds of messages, each with a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something was done.
    Done,
    /// Something failed.
    Failed,
    /// What one should know.
    Note,
    /// Where one is: the prompt.
    Place,
    /// A directory's name.
    Directory,
    /// A symbolic link's name.
    Link,
    /// A heading.
    Heading,
    /// As it is.
    Plain,
}

/// Where the output of commands goes.
pub(crate) struct Output {
    sink: Sink,
    is_colored: bool,
    /// Whether errors are coloured, which go elsewhere.
    is_error_colored: bool,
    /// Whether this is for scripts: one JSON object a line, and people's text on standard error.
    pub(crate) is_json: bool,
    /// What stands before an error: `nearfs: ` where no prompt tells who speaks.
    error_prefix: &'static str,
}

enum Sink {
    Standard(BufWriter<io::Stdout>),
    File(BufWriter<File>, String),
    Pipe(BufWriter<ChildStdin>, Child),
}

impl Output {
    /// To standard output.
    pub(crate) fn standard(is_interactive: bool) -> Output {
        Output {
            sink: Sink::Standard(BufWriter::new(io::stdout())),
            is_colored: wants_color(&io::stdout()),
            is_error_colored: wants_color(&io::stderr()),
            is_json: false,
            error_prefix: if is_interactive { "" } else { "nearfs: " },
        }
    }

    /// Into a file of this machine.
    pub(crate) fn to_file(&self, path: &Path, append: bool) -> Result<Output, Failure> {
        let file = OpenOptions::new().create(true).write(true).append(append).truncate(!append).open(path);
        let file = BufWriter::new(file.map_err(Failure::local(path))?);
        Ok(self.with_sink(Sink::File(file, shown(path))))
    }

    /// To a command of this machine.
    pub(crate) fn to_command(&self, command: &std::ffi::OsStr) -> Result<Output, Failure> {
        let failed = Failure::local(Path::new(command));
        let mut child =
            Command::new("sh").arg("-c").arg(command).stdin(Stdio::piped()).spawn().map_err(&failed)?;
        let stdin = child.stdin.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        Ok(self.with_sink(Sink::Pipe(BufWriter::new(stdin), child)))
    }

    fn with_sink(&self, sink: Sink) -> Output {
        Output {
            sink,
            is_colored: false,
            is_error_colored: self.is_error_colored,
            is_json: false,
            error_prefix: self.error_prefix,
        }
    }

    /// Writes a line of text, or nothing if scripts read it.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_json {
            return Ok(());
        }
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    /// Writes an object for scripts, or nothing if people read it.
    pub(crate) fn object(&mut self, object: &Value) -> Result<(), Failure> {
        if !self.is_json {
            return Ok(());
        }
        self.write(object.to_string().as_bytes())?;
        self.write(b"\n")
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (writer, place): (&mut dyn Write, &str) = match &mut self.sink {
            Sink::Standard(out) => (out, "standard output"),
            Sink::File(file, path) => (file, path),
            Sink::Pipe(pipe, _) => (pipe, "pipe"),
        };
        writer.write_all(bytes).map_err(Failure::local(Path::new(place)))
    }

    /// Tells people what was done, or what they should know: beside the objects where scripts read those.
    pub(crate) fn say(&mut self, kind: Kind, text: &str) -> Result<(), Failure> {
        if self.is_json {
            let text = painted(kind, text, self.is_error_colored);
            return writeln!(io::stderr(), "{text}").map_err(Failure::local(Path::new("standard error")));
        }
        let text = self.paint(kind, text);
        self.line(&text)
    }

    /// Tells what failed.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        if matches!(failure, Failure::Told(_) | Failure::Unread) {
            return;
        }
        // In this order, so that a terminal shows what came before the error before it.
        let _ = self.flush();
        let text = painted(Kind::Failed, &failure.to_string(), self.is_error_colored);
        // Where nobody reads errors there is nobody to tell.
        let _ = writeln!(io::stderr(), "{}{text}", self.error_prefix);
    }

    /// Text in the colour of its kind.
    pub(crate) fn paint(&self, kind: Kind, text: &str) -> String {
        painted(kind, text, self.is_colored)
    }

    /// Brings out what was written.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let (writer, place): (&mut dyn Write, &str) = match &mut self.sink {
            Sink::Standard(out) => (out, "standard output"),
            Sink::File(file, path) => (file, path),
            Sink::Pipe(pipe, _) => (pipe, "pipe"),
        };
        writer.flush().map_err(Failure::local(Path::new(place)))
    }

    /// Brings out what was written, and waits for the command that reads it.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let flushed = self.flush();
        if let Sink::Pipe(pipe, mut child) = self.sink {
            drop(pipe);
            // How a command of the user's ends is his business.
            let _ = child.wait();
        }
        flushed
    }
}

/// Whether colours are wanted there (NO_COLOR, CLICOLOR, TERM).
fn wants_color(stream: &impl anstream::stream::RawStream) -> bool {
    anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never
}

/// Text in the colour of its kind.
pub(crate) fn painted(kind: Kind, text: &str, is_colored: bool) -> String {
    let style = match kind {
        Kind::Done => AnsiColor::Green.on_default(),
        Kind::Failed => AnsiColor::Red.on_default(),
        Kind::Note => AnsiColor::Yellow.on_default(),
        Kind::Place => AnsiColor::Green.on_default().bold(),
        Kind::Directory => AnsiColor::Blue.on_default().bold(),
        Kind::Link => AnsiColor::Cyan.on_default(),
        Kind::Heading => Style::new().bold(),
        Kind::Plain => Style::new(),
    };
    if is_colored && kind != Kind::Plain { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// A number of bytes for people: `1.2 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// A number with the noun that goes with it: `1 file`, `3 files`.
pub(crate) fn count(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// A moment in this machine's time zone, to the second.
pub(crate) fn moment(time: Time) -> String {
    match Timestamp::new(time.secs, time.nanos.min(999_999_999).cast_signed()) {
        Ok(timestamp) => timestamp.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("@{}", time.secs),
    }
}

/// A moment for scripts (RFC 3339).
pub(crate) fn timestamp(time: Time) -> String {
    match Timestamp::new(time.secs, time.nanos.min(999_999_999).cast_signed()) {
        Ok(timestamp) => timestamp.to_string(),
        Err(_) => format!("@{}", time.secs),
    }
}

/// What a node is, for scripts and people.
pub(crate) fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
    }
}

/// Type and permissions as ls(1) writes them.
pub(crate) fn mode_word(kind: FileKind, mode: u32) -> String {
    let letter = match kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
    };
    let mut word = String::from(letter);
    let specials = [(0o4000, 's', 'S'), (0o2000, 's', 'S'), (0o1000, 't', 'T')];
    for (shift, (special, small, large)) in [6, 3, 0].into_iter().zip(specials) {
        let bits = mode >> shift;
        word.push(if bits & 4 != 0 { 'r' } else { '-' });
        word.push(if bits & 2 != 0 { 'w' } else { '-' });
        word.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => small,
            (true, false) => large,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    word
}

/// Fields of an object that tell a path.
pub(crate) fn path_fields(path: &[u8]) -> Value {
    text_fields("path", path)
}

/// Fields of an object that tell bytes which are a name. What is no UTF-8 is told in bytes as well, because a script must
/// be able to name it.
pub(crate) fn text_fields(key: &str, bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ key: text }),
        Err(_) => json!({ key: String::from_utf8_lossy(bytes), format!("{key}_bytes"): bytes }),
    }
}

/// A path of this machine for people: on one line and without anything that a terminal would obey.
pub(crate) fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// One object of two.
pub(crate) fn joined(mut first: Value, second: Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut first, second) {
        all.extend(more);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_ls_writes_them() {
        assert_eq!(mode_word(FileKind::Directory, 0o755), "drwxr-xr-x");
        assert_eq!(mode_word(FileKind::File, 0o4644), "-rwSr--r--");
        assert_eq!(mode_word(FileKind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode_word(FileKind::Symlink, 0o777), "lrwxrwxrwx");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!((size(0), size(120), size(1_258_291)), ("0 B".into(), "120 B".into(), "1.2 MiB".into()));
        assert_eq!(
            (count(1, "file", "files"), count(0, "file", "files")),
            ("1 file".into(), "0 files".into())
        );
        assert_eq!(timestamp(Time { secs: 0, nanos: 5 }), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(timestamp(Time { secs: i64::MAX, nanos: 0 }), format!("@{}", i64::MAX));
    }

    #[test]
    fn a_path_that_is_no_text_is_told_in_bytes_too() {
        assert_eq!(path_fields(b"/a b"), json!({ "path": "/a b" }));
        assert_eq!(path_fields(b"/\xe9")["path_bytes"], json!([47, 233]));
    }
}
