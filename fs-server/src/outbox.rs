//! What waits to be written to one connection, in order. No IO of its own.

use std::collections::VecDeque;
use std::io::IoSlice;

use nearfs_protocol::codec::{EncodeError, FrameKind, encode_frame};
use nearfs_protocol::id::RequestId;
use nearfs_transport::pool::Payload;
use serde::Serialize;

/// Most pieces that are given to one writev(2).
pub(crate) const PIECES_MAX: usize = 32;
/// Payloads up to this size are copied behind their message: that costs less than a piece of their own.
const COPIED_BYTES_MAX: usize = 4 * 1024;
/// Small frames are gathered up to this size.
const GATHERED_BYTES_MAX: usize = 32 * 1024;

/// Encoded frames, the first perhaps written in part.
#[derive(Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that have been written.
    written: usize,
    bytes: usize,
    /// The last piece's room, kept for the next.
    spare: Vec<u8>,
}

/// Frames one behind the other, of which the last has a payload or none.
#[derive(Default)]
struct Piece {
    head: Vec<u8>,
    payload: Payload,
}

impl Outbox {
    /// Adds a frame. Errors: it is too large, and nothing was added.
    pub(crate) fn push<T: Serialize + ?Sized>(
        &mut self,
        kind: FrameKind,
        id: RequestId,
        control: &T,
        payload: Payload,
    ) -> Result<(), EncodeError> {
        let open = self.pieces.back().is_some_and(Piece::has_room);
        if !open {
            self.pieces.push_back(Piece { head: std::mem::take(&mut self.spare), payload: Payload::empty() });
        }
        let Some(piece) = self.pieces.back_mut() else { return Err(EncodeError) };
        let before = piece.head.len();
        if let Err(error) = encode_frame(&mut piece.head, kind, id, control, payload.len()) {
            if piece.head.is_empty() {
                self.pieces.pop_back();
            }
            return Err(error);
        }
        if payload.len() <= COPIED_BYTES_MAX {
            piece.head.extend_from_slice(&payload);
        } else {
            piece.payload = payload;
        }
        self.bytes += piece.head.len() - before + piece.payload.len();
        Ok(())
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What to write next, in this order; how many of them are filled.
    pub(crate) fn parts<'a>(&'a self, parts: &mut [IoSlice<'a>; PIECES_MAX]) -> usize {
        let mut skip = self.written;
        let mut count = 0;
        let all = self.pieces.iter().flat_map(|piece| [&piece.head[..], &piece.payload[..]]);
        for bytes in all {
            let unwritten = &bytes[skip.min(bytes.len())..];
            skip -= bytes.len() - unwritten.len();
            if unwritten.is_empty() {
                continue;
            }
            if count == PIECES_MAX {
                break;
            }
            parts[count] = IoSlice::new(unwritten);
            count += 1;
        }
        count
    }

    /// So many bytes have been written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.written += bytes;
        while self.pieces.front().is_some_and(|piece| self.written >= piece.len()) {
            let Some(mut piece) = self.pieces.pop_front() else { break };
            self.written -= piece.len();
            if piece.head.capacity() <= GATHERED_BYTES_MAX {
                piece.head.clear();
                self.spare = piece.head;
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Outbox::default();
    }
}

impl Piece {
    fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    fn has_room(&self) -> bool {
        self.payload.is_empty() && self.head.len() < GATHERED_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfs_transport::frame::FrameReader;
    use nearfs_transport::pool::Pool;
    use proptest::prelude::*;

    /// Takes everything out, at most `step` bytes at a time.
    fn drain(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while outbox.bytes() > 0 {
            let mut parts = [IoSlice::new(&[]); PIECES_MAX];
            let count = outbox.parts(&mut parts);
            let some: Vec<u8> =
                parts[..count].iter().flat_map(|part| part.iter().copied()).take(step).collect();
            assert!(!some.is_empty());
            outbox.advance(some.len());
            out.extend(some);
        }
        out
    }

    proptest! {
        #[test]
        fn frames_leave_in_order_whatever_the_link_takes(
            payloads in prop::collection::vec(0..20_000usize, 1..60),
            step in 1..70_000usize,
        ) {
            let mut outbox = Outbox::default();
            for (n, bytes) in payloads.iter().enumerate() {
                let payload = Payload::from(vec![n as u8; *bytes]);
                outbox.push(FrameKind::Ping, RequestId(n as u64), &n, payload).unwrap();
            }
            let bytes = drain(&mut outbox, step.max(payloads.iter().sum::<usize>() / 1000 + 1));
            prop_assert!(outbox.pieces.is_empty() && outbox.written == 0);
            let mut reader = FrameReader::new(&bytes[..], Pool::new(0));
            for (n, bytes) in payloads.iter().enumerate() {
                let frame = reader.next_frame().unwrap();
                prop_assert_eq!(frame.header.id.0, n as u64);
                prop_assert_eq!(&*frame.payload, &vec![n as u8; *bytes][..]);
            }
        }
    }

    #[test]
    fn what_is_too_large_leaves_no_trace() {
        let mut outbox = Outbox::default();
        let large = vec![0u8; nearfs_protocol::limits::CONTROL_BYTES_MAX];
        assert!(outbox.push(FrameKind::Answer, RequestId(1), &large, Payload::empty()).is_err());
        assert_eq!((outbox.bytes(), outbox.pieces.len()), (0, 0));
        outbox.push(FrameKind::Pong, RequestId(2), &(), Payload::empty()).unwrap();
        assert!(outbox.push(FrameKind::Answer, RequestId(3), &large, Payload::empty()).is_err());
        assert_eq!(drain(&mut outbox, 1000).len(), nearfs_protocol::limits::HEADER_BYTES);
    }
}
