//! A client's connection: a stream socket, and the command behind it if there is one.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, sendmsg};
use socket2::Socket;

/// A connection whose halves may be used by different threads. It ends when the link and all its halves
/// are dropped, or at once by [`LinkCloser::close`].
pub struct Link {
    shared: Arc<Shared>,
}

/// Reads from a link.
pub struct LinkReader(Arc<Shared>);

/// Writes to a link, without ever raising SIGPIPE.
pub struct LinkWriter(Arc<Shared>);

/// Ends a link from any thread.
#[derive(Clone)]
pub struct LinkCloser(Arc<Shared>);

struct Shared {
    socket: Socket,
    /// The command at the other end of the socket.
    command: Mutex<Option<RunningCommand>>,
}

struct RunningCommand {
    child: Child,
    /// Disconnects when everything it said was passed on.
    silence: Option<mpsc::Receiver<()>>,
}

/// Longest wait for the last words of a command that has ended: its own children may keep its standard
/// error open.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_millis(100);

impl Link {
    /// A link over a connected stream socket that blocks.
    pub fn from_socket(socket: Socket) -> Link {
        Link { shared: Arc::new(Shared { socket, command: Mutex::new(None) }) }
    }

    pub(crate) fn from_child(socket: Socket, child: Child, silence: Option<mpsc::Receiver<()>>) -> Link {
        let command = Mutex::new(Some(RunningCommand { child, silence }));
        Link { shared: Arc::new(Shared { socket, command }) }
    }

    /// Two links that are connected with each other, for tests.
    pub fn pair() -> io::Result<(Link, Link)> {
        let (one, other) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        Ok((Link::from_socket(one), Link::from_socket(other)))
    }

    /// The longest that one write may wait for the peer to take something; then it fails with
    /// `WouldBlock`, and the link is of no more use. `None` waits for ever.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.socket.set_write_timeout(timeout)
    }

    /// The longest that one read may wait; then it fails with `WouldBlock`, and nothing is lost.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.socket.set_read_timeout(timeout)
    }

    /// A half that reads. There should be one.
    pub fn reader(&self) -> LinkReader {
        LinkReader(self.shared.clone())
    }

    /// A half that writes. Writers of several threads take turns outside of it.
    pub fn writer(&self) -> LinkWriter {
        LinkWriter(self.shared.clone())
    }

    /// What ends the link while the halves are in use.
    pub fn closer(&self) -> LinkCloser {
        LinkCloser(self.shared.clone())
    }
}

impl LinkCloser {
    /// Ends the link: reads that wait return the end of the stream, writes fail. A command at the other
    /// end is killed.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Shared {
    fn wait(&self, wanted: PollFlags) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.socket, wanted)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn close(&self) {
        // It fails only when the peer has gone before.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        if let Some(RunningCommand { mut child, silence }) = self.command.lock().take() {
            // It fails only when the command has ended before; waiting takes its exit status away.
            let _ = child.kill();
            let _ = child.wait();
            if let Some(silence) = silence {
                let _ = silence.recv_timeout(LAST_WORDS_TIME_MAX);
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

impl Read for LinkReader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let (read, _) = recv(&self.0.socket, room, RecvFlags::empty())?;
        Ok(read)
    }

    fn read_vectored(&mut self, rooms: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(rustix::io::readv(&self.0.socket, rooms)?)
    }
}

impl LinkReader {
    /// Waits until something can be read, or the link has ended, whatever the read timeout.
    pub fn wait_readable(&self) -> io::Result<()> {
        self.0.wait(PollFlags::IN)
    }
}

impl Write for LinkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0.socket, bytes, SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(sendmsg(&self.0.socket, parts, &mut Default::default(), SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LinkWriter {
    /// Writes what the socket takes at once, and fails with `WouldBlock` if that is nothing.
    pub fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(sendmsg(&self.0.socket, parts, &mut Default::default(), flags)?)
    }

    /// Waits until the socket takes something, or the link has ended.
    pub fn wait_writable(&self) -> io::Result<()> {
        self.0.wait(PollFlags::OUT)
    }

    /// Tells the peer that nothing more will come, as the end of its stream.
    pub fn finish(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0.socket, Shutdown::Write)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_wakes_both_halves() {
        let (near, _far) = Link::pair().unwrap();
        let (mut reader, mut writer, closer) = (near.reader(), near.writer(), near.closer());
        let reading = std::thread::spawn(move || reader.read(&mut [0; 1]).unwrap());
        let writing = std::thread::spawn(move || {
            while writer.write(&[0; 65536]).is_ok() {}
            writer.write(&[0]).unwrap_err().kind()
        });
        std::thread::sleep(Duration::from_millis(20));
        closer.close();
        assert_eq!(reading.join().unwrap(), 0);
        assert_eq!(writing.join().unwrap(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_write_that_nobody_takes_ends() {
        let (near, _far) = Link::pair().unwrap();
        near.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut writer = near.writer();
        let error = loop {
            if let Err(error) = writer.write(&[0; 65536]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
