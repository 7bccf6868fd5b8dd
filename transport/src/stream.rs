//! A server's connection: bytes in and out without blocking, whatever carries them.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::FileType;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{Interest, Ready};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};

use crate::assembler::Assembler;

/// A connection of any kind.
pub struct Stream {
    carrier: Carrier,
    peer: Peer,
}

enum Carrier {
    Tcp(TcpStream),
    Unix(UnixStream),
    Pipes(pipe::Receiver, pipe::Sender),
}

/// Who is at the other end, as far as the carrier itself tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp {
        /// His end.
        peer: SocketAddr,
        /// Ours.
        local: SocketAddr,
    },
    /// Through a Unix socket.
    Unix {
        /// The user who connected (`SO_PEERCRED`, unix(7)).
        uid: u32,
    },
    /// Whoever started us, through our standard streams.
    Stdio,
}

impl Stream {
    pub(crate) fn from_tcp(stream: TcpStream, peer: SocketAddr) -> io::Result<Stream> {
        let local = stream.local_addr()?;
        Ok(Stream { carrier: Carrier::Tcp(stream), peer: Peer::Tcp { peer, local } })
    }

    /// Over a Unix socket that is connected. Belongs to the tokio runtime that it is called in.
    pub fn from_unix(stream: UnixStream) -> io::Result<Stream> {
        let uid = stream.peer_cred()?.uid();
        Ok(Stream { carrier: Carrier::Unix(stream), peer: Peer::Unix { uid } })
    }

    /// Our standard input and output, which must be pipes or one socket: what ssh, inetd and a client's
    /// `exec:` give.
    pub fn from_stdio() -> io::Result<Stream> {
        let input = std::io::stdin().as_fd().try_clone_to_owned()?;
        let output = std::io::stdout().as_fd().try_clone_to_owned()?;
        let carrier = match (file_type(&input)?, file_type(&output)?) {
            (FileType::Socket, FileType::Socket) => {
                let socket = std::os::unix::net::UnixStream::from(input);
                socket.set_nonblocking(true)?;
                Carrier::Unix(UnixStream::from_std(socket)?)
            }
            (FileType::Fifo, FileType::Fifo) => {
                Carrier::Pipes(pipe::Receiver::from_owned_fd(input)?, pipe::Sender::from_owned_fd(output)?)
            }
            _ => return Err(io::Error::other("standard input and output are neither pipes nor a socket")),
        };
        Ok(Stream { carrier, peer: Peer::Stdio })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Waits until bytes can be read or, with `write` as well, written. May return for no reason.
    pub async fn ready(&self, write: bool) -> io::Result<()> {
        match (&self.carrier, write) {
            (Carrier::Tcp(stream), false) => stream.readable().await,
            (Carrier::Unix(stream), false) => stream.readable().await,
            (Carrier::Pipes(input, _), false) => input.readable().await,
            (Carrier::Tcp(stream), true) => stream.ready(BOTH).await.map(drop_ready),
            (Carrier::Unix(stream), true) => stream.ready(BOTH).await.map(drop_ready),
            (Carrier::Pipes(input, output), true) => tokio::select! {
                ready = input.readable() => ready,
                ready = output.writable() => ready,
            },
        }
    }

    /// Waits until bytes can be written. May return for no reason.
    pub async fn writable(&self) -> io::Result<()> {
        match &self.carrier {
            Carrier::Tcp(stream) => stream.writable().await,
            Carrier::Unix(stream) => stream.writable().await,
            Carrier::Pipes(_, output) => output.writable().await,
        }
    }

    /// Reads what is there. `Ok(0)` is the end of the stream, `WouldBlock` that nothing is there.
    pub fn try_read(&self, into: &mut Assembler) -> io::Result<usize> {
        let mut room = into.room();
        let rooms = if room[0].is_empty() { &mut room[1..] } else { &mut room[..] };
        let room_bytes: usize = rooms.iter().map(|room| room.len()).sum();
        let mut read = 0;
        // What did not fill the room was all there is. Saying so within the same call spares the read that
        // would find nothing, and the next bytes wake us.
        let mut drained = |result: io::Result<usize>| match result {
            Ok(bytes) if bytes > 0 && bytes < room_bytes => {
                read = bytes;
                Err(io::ErrorKind::WouldBlock.into())
            }
            other => other,
        };
        let result = match &self.carrier {
            Carrier::Tcp(stream) => stream.try_io(Interest::READABLE, || drained(read_from(stream, rooms))),
            Carrier::Unix(stream) => stream.try_io(Interest::READABLE, || drained(read_from(stream, rooms))),
            Carrier::Pipes(input, _) => input.try_io(|| drained(read_from(input, rooms))),
        };
        let bytes = if read > 0 { read } else { result? };
        into.filled(bytes);
        Ok(bytes)
    }

    /// Writes what fits. `WouldBlock` is that nothing does.
    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.carrier {
            Carrier::Tcp(stream) => stream.try_write_vectored(parts),
            Carrier::Unix(stream) => stream.try_write_vectored(parts),
            Carrier::Pipes(_, output) => output.try_write_vectored(parts),
        }
    }

    /// Reads and drops what the peer still sends, until it ends the stream.
    pub async fn drain(&self) -> io::Result<()> {
        let mut dropped = [0; 4096];
        loop {
            let read = match &self.carrier {
                Carrier::Tcp(stream) => stream.try_read(&mut dropped),
                Carrier::Unix(stream) => stream.try_read(&mut dropped),
                Carrier::Pipes(input, _) => input.try_read(&mut dropped),
            };
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready(false).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells the peer that nothing more will come. What it still sends can be read.
    pub fn finish(&self) -> io::Result<()> {
        match &self.carrier {
            Carrier::Tcp(stream) => Ok(shutdown(stream, Shutdown::Write)?),
            Carrier::Unix(stream) => Ok(shutdown(stream, Shutdown::Write)?),
            // A pipe ends when it is closed, which happens when the stream is dropped.
            Carrier::Pipes(..) => Ok(()),
        }
    }
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

fn drop_ready(_: Ready) {}

fn read_from(source: impl AsFd, rooms: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    Ok(rustix::io::readv(source, rooms)?)
}

fn file_type(fd: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp { peer, .. } => write!(f, "{peer}"),
            Peer::Unix { uid } => write!(f, "unix:uid {uid}"),
            Peer::Stdio => f.write_str("stdio"),
        }
    }
}
