//! Frames over anything that blocks: what a client's threads use.

use std::io::{self, IoSlice, Read, Write};

use nearfs_protocol::codec::{DecodeError, EncodeError, FrameKind, encode_frame};
use nearfs_protocol::id::RequestId;
use serde::Serialize;

use crate::assembler::{Assembler, Frame};
use crate::pool::Pool;

/// Reads frames, many of them with one read(2) when they are small.
pub struct FrameReader<R> {
    source: R,
    assembler: Assembler,
}

/// Why there is no next frame.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The peer ended the stream where a frame ends.
    #[error("the connection was closed")]
    Closed,
    /// The peer ended the stream within a frame.
    #[error("the connection was cut within a frame")]
    Cut,
    /// The peer broke the protocol.
    #[error(transparent)]
    Protocol(#[from] DecodeError),
    /// The link failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl<R: Read> FrameReader<R> {
    /// Reads from `source`, with payloads from `pool`. Frames above the size of a greeting are refused
    /// until the reader [`admit`](FrameReader::admit)s the peer.
    pub fn new(source: R, pool: Pool) -> FrameReader<R> {
        FrameReader { source, assembler: Assembler::roomy(pool) }
    }

    /// Takes frames of every size that the protocol allows from here on.
    pub fn admit(&mut self) {
        self.assembler.admit();
    }

    /// What it reads from.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// Waits for the next frame. After an error there is none any more.
    pub fn next_frame(&mut self) -> Result<Frame<'_>, ReceiveError> {
        loop {
            if let Some(complete) = self.assembler.complete()? {
                return Ok(self.assembler.frame(complete));
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> Result<(), ReceiveError> {
        match self.source.read_vectored(&mut self.assembler.room()) {
            Ok(0) if self.assembler.at_boundary() => Err(ReceiveError::Closed),
            Ok(0) => Err(ReceiveError::Cut),
            Ok(bytes) => {
                self.assembler.filled(bytes);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes frames, each with one writev(2).
pub struct FrameWriter<W> {
    sink: W,
    head: Vec<u8>,
}

/// Why a frame was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It is too large; nothing was written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The link failed, perhaps within the frame: it is of no more use.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a head buffer may keep between two frames.
const HEAD_BYTES_KEPT_MAX: usize = 16 * 1024;

impl<W: Write> FrameWriter<W> {
    /// Writes to `sink`.
    pub fn new(sink: W) -> FrameWriter<W> {
        FrameWriter { sink, head: Vec::new() }
    }

    /// Encodes a frame and writes all of it.
    pub fn send<T: Serialize + ?Sized>(
        &mut self,
        kind: FrameKind,
        id: RequestId,
        control: &T,
        payload: &[u8],
    ) -> Result<(), SendError> {
        self.head.clear();
        self.head.shrink_to(HEAD_BYTES_KEPT_MAX);
        encode_frame(&mut self.head, kind, id, control, payload.len())?;
        Ok(write_all_vectored(&mut self.sink, &self.head, payload)?)
    }
}

fn write_all_vectored(sink: &mut impl Write, head: &[u8], payload: &[u8]) -> io::Result<()> {
    let (mut head, mut payload) = (head, payload);
    while !(head.is_empty() && payload.is_empty()) {
        let written = match sink.write_vectored(&[IoSlice::new(head), IoSlice::new(payload)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let of_head = written.min(head.len());
        head = &head[of_head..];
        payload = &payload[written - of_head..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes and gives a few bytes at a time, and is interrupted in between.
    struct Trickle {
        bytes: Vec<u8>,
        calls: usize,
    }

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let taken = bytes.len().min(7);
            self.bytes.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Trickle {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let taken = room.len().min(11).min(self.bytes.len());
            room[..taken].copy_from_slice(&self.bytes[..taken]);
            self.bytes.drain(..taken);
            Ok(taken)
        }
    }

    #[test]
    fn a_slow_link_carries_whole_frames() {
        let mut writer = FrameWriter::new(Trickle { bytes: vec![], calls: 0 });
        for id in 0..20 {
            let payload = vec![id as u8; id as usize * 31];
            writer.send(FrameKind::Call, RequestId(id), &id, &payload).unwrap();
        }
        let mut reader = FrameReader::new(writer.sink, Pool::new(0));
        for id in 0..20u64 {
            let frame = reader.next_frame().unwrap();
            assert_eq!((frame.header.id.0, frame.control), (id, &id.to_le_bytes()[..]));
            assert_eq!(*frame.payload, vec![id as u8; id as usize * 31]);
        }
        assert!(matches!(reader.next_frame(), Err(ReceiveError::Closed)));
    }

    #[test]
    fn a_cut_stream_is_told_from_a_closed_one() {
        let mut writer = FrameWriter::new(Trickle { bytes: vec![], calls: 0 });
        writer.send(FrameKind::Ping, RequestId(1), &(), b"").unwrap();
        writer.sink.bytes.pop();
        let mut reader = FrameReader::new(writer.sink, Pool::new(0));
        assert!(matches!(reader.next_frame(), Err(ReceiveError::Cut)));
    }
}
