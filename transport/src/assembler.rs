//! Cuts a stream of bytes into frames, with no IO of its own: what blocks and what does not share it.
//!
//! Small frames are cut out of one buffer, many to a read. The payload of a frame that has not arrived
//! whole is read straight to where it will stay.

use std::io::IoSliceMut;
use std::ops::Range;

use nearfs_protocol::codec::{DecodeError, Header};
use nearfs_protocol::limits::{CONTROL_BYTES_MAX, GREETING_BYTES_MAX, HEADER_BYTES, PAYLOAD_BYTES_MAX};

use crate::pool::{Payload, Pool};

/// A connection that says little has a buffer of this size.
const BUFFER_BYTES_MIN: usize = 2 * 1024;
/// A client's connection begins with this: a page and the message beside it, and some more.
const BUFFER_BYTES_ROOMY: usize = 8 * 1024;
/// One that fills its buffer gets a larger one, up to this size; beyond it only for one large control
/// part. What is read here of a large payload is copied once more, so it must not be larger than useful.
const BUFFER_BYTES_USUAL: usize = 16 * 1024;

/// A complete frame.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Its fixed part.
    pub header: Header,
    /// Its encoded message.
    pub control: &'a [u8],
    /// The raw bytes beside it.
    pub payload: Payload,
}

/// Bytes in, frames out.
pub struct Assembler {
    pool: Pool,
    body_bytes_max: usize,
    /// All of it is initialised; `held` is what has arrived and was not taken out.
    buffer: Vec<u8>,
    held: Range<usize>,
    arriving: Option<Arriving>,
}

/// The payload of the frame at the beginning of the buffer.
struct Arriving {
    payload: Payload,
    filled: usize,
}

/// Where the parts of a complete frame are.
pub(crate) struct Complete {
    header: Header,
    control: Range<usize>,
    payload: Payload,
}

impl Assembler {
    /// For one connection, with payloads from `pool`. Before the peer is admitted only frames of at most
    /// [`GREETING_BYTES_MAX`] are taken: see [`admit`](Assembler::admit).
    pub fn new(pool: Pool) -> Assembler {
        let body_bytes_max = GREETING_BYTES_MAX;
        Assembler { pool, body_bytes_max, buffer: Vec::new(), held: 0..0, arriving: None }
    }

    /// The same with a buffer that small payloads fit into from the start: one read less for each, where few connections
    /// make that cheap.
    pub fn roomy(pool: Pool) -> Assembler {
        Assembler { buffer: vec![0; BUFFER_BYTES_ROOMY], ..Assembler::new(pool) }
    }

    /// Takes frames of every size that the protocol allows from here on.
    pub fn admit(&mut self) {
        self.body_bytes_max = CONTROL_BYTES_MAX + PAYLOAD_BYTES_MAX;
    }

    /// The next frame that has arrived whole, in order. After an error the stream is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, DecodeError> {
        Ok(self.complete()?.map(|complete| self.frame(complete)))
    }

    /// Whether the bytes end where a frame ends. All complete frames must have been taken out.
    pub fn at_boundary(&self) -> bool {
        self.held.is_empty() && self.arriving.is_none()
    }

    /// Where the next bytes go, in this order. The second part is never empty.
    pub fn room(&mut self) -> [IoSliceMut<'_>; 2] {
        self.make_room();
        let payload = match &mut self.arriving {
            Some(arriving) => &mut arriving.payload[arriving.filled..],
            None => &mut [],
        };
        [IoSliceMut::new(payload), IoSliceMut::new(&mut self.buffer[self.held.end..])]
    }

    /// So many bytes were put into the room.
    pub fn filled(&mut self, bytes: usize) {
        let mut rest = bytes;
        if let Some(arriving) = &mut self.arriving {
            let into_payload = rest.min(arriving.payload.len() - arriving.filled);
            arriving.filled += into_payload;
            rest -= into_payload;
        }
        self.held.end = (self.held.end + rest).min(self.buffer.len());
    }

    pub(crate) fn complete(&mut self) -> Result<Option<Complete>, DecodeError> {
        let Some(header) = self.header()? else { return Ok(None) };
        let control_start = self.held.start + HEADER_BYTES;
        let control = control_start..control_start + header.control_bytes as usize;
        if control.end > self.held.end {
            return Ok(None);
        }
        let arriving = match self.arriving.take() {
            Some(arriving) => arriving,
            None => self.begin_payload(header.payload_bytes as usize, control.end),
        };
        if arriving.filled < arriving.payload.len() {
            self.arriving = Some(arriving);
            return Ok(None);
        }
        self.held.start = control.end;
        Ok(Some(Complete { header, control, payload: arriving.payload }))
    }

    pub(crate) fn frame(&self, complete: Complete) -> Frame<'_> {
        let Complete { header, control, payload } = complete;
        Frame { header, control: &self.buffer[control], payload }
    }

    fn header(&self) -> Result<Option<Header>, DecodeError> {
        let Some(bytes) = self.buffer[self.held.clone()].first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::parse(bytes)?;
        if header.body_bytes() > self.body_bytes_max {
            let Header { control_bytes, payload_bytes, .. } = header;
            return Err(DecodeError::TooLarge { control_bytes, payload_bytes });
        }
        Ok(Some(header))
    }

    /// Moves what has arrived of the payload behind the control part out of the buffer. Later frames that
    /// have arrived too close up to the control part, so that the buffer holds no gap.
    fn begin_payload(&mut self, payload_bytes: usize, control_end: usize) -> Arriving {
        if payload_bytes == 0 {
            return Arriving { payload: Payload::empty(), filled: 0 };
        }
        let mut payload = self.pool.take(payload_bytes);
        let filled = payload_bytes.min(self.held.end - control_end);
        payload[..filled].copy_from_slice(&self.buffer[control_end..control_end + filled]);
        self.buffer.copy_within(control_end + filled..self.held.end, control_end);
        self.held.end -= filled;
        Arriving { payload, filled }
    }

    fn make_room(&mut self) {
        if self.held.is_empty() {
            self.held = 0..0;
            if self.buffer.len() > BUFFER_BYTES_USUAL {
                self.buffer = vec![0; BUFFER_BYTES_USUAL];
            }
        }
        // A header that does not parse is reported by `complete`; here it only asks for no more room.
        let wanted = match self.header() {
            Ok(Some(header)) => HEADER_BYTES + header.control_bytes as usize,
            Ok(None) | Err(_) => HEADER_BYTES,
        };
        let full = self.held.end == self.buffer.len();
        let cramped = self.buffer.len() - self.held.end < self.buffer.len() / 2;
        if cramped || self.held.start + wanted >= self.buffer.len() {
            self.buffer.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
            let roomier = if full { (2 * self.buffer.len()).min(BUFFER_BYTES_USUAL) } else { 0 };
            let bytes = roomier.max(BUFFER_BYTES_MIN).max(wanted + HEADER_BYTES);
            if bytes > self.buffer.len() {
                self.buffer.resize(bytes, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfs_protocol::codec::FrameKind;
    use nearfs_protocol::id::RequestId;
    use proptest::prelude::*;

    fn frame_bytes(id: u64, control: &[u8], payload: &[u8]) -> Vec<u8> {
        let header = Header {
            kind: FrameKind::Call,
            control_bytes: control.len() as u32,
            payload_bytes: payload.len() as u32,
            id: RequestId(id),
        };
        [&header.to_bytes(), control, payload].concat()
    }

    fn pour(assembler: &mut Assembler, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        for mut room in assembler.room() {
            let part = rest.len().min(room.len());
            room[..part].copy_from_slice(&rest[..part]);
            rest = &rest[part..];
        }
        let poured = bytes.len() - rest.len();
        assembler.filled(poured);
        poured
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_come_out_as_they_went_in(
            sizes in prop::collection::vec((0..40_000usize, 0..200_000usize), 1..12),
            small in any::<bool>(),
            pieces in prop::collection::vec(1..50_000usize, 1..8),
        ) {
            let part = |n: usize, of: usize| vec![n as u8; if small { of % 90 } else { of }];
            let parts: Vec<_> = sizes.iter().enumerate().map(|(n, s)| (part(n, s.0), part(n, s.1))).collect();
            let stream: Vec<u8> =
                parts.iter().enumerate().flat_map(|(n, (c, p))| frame_bytes(n as u64, c, p)).collect();
            let mut assembler = Assembler::new(Pool::new(1 << 20));
            assembler.admit();
            let (mut sent, mut got) = (0, Vec::new());
            for piece in pieces.iter().cycle() {
                sent += pour(&mut assembler, &stream[sent..stream.len().min(sent + piece)]);
                while let Some(frame) = assembler.next_frame().unwrap() {
                    prop_assert_eq!(frame.header.id.0, got.len() as u64);
                    got.push((frame.control.to_vec(), frame.payload.to_vec()));
                }
                if sent == stream.len() {
                    break;
                }
            }
            prop_assert!(assembler.at_boundary());
            prop_assert_eq!(got, parts);
        }
    }

    #[test]
    fn a_frame_is_not_complete_before_its_last_byte() {
        let stream = frame_bytes(1, b"control", b"payload");
        for cut in 1..stream.len() {
            let mut assembler = Assembler::new(Pool::new(0));
            assert_eq!(pour(&mut assembler, &stream[..cut]), cut);
            assert!(assembler.next_frame().unwrap().is_none());
            assert!(!assembler.at_boundary(), "{cut}");
        }
    }

    #[test]
    fn strangers_may_say_little() {
        let large = frame_bytes(1, b"", &[0; GREETING_BYTES_MAX + 1]);
        let mut assembler = Assembler::new(Pool::new(0));
        pour(&mut assembler, &large[..HEADER_BYTES]);
        assert!(matches!(assembler.next_frame(), Err(DecodeError::TooLarge { .. })));
        assembler.admit();
        assert!(matches!(assembler.next_frame(), Ok(None)));
    }

    #[test]
    fn memory_follows_what_is_said() {
        let mut assembler = Assembler::new(Pool::new(0));
        assembler.admit();
        pour(&mut assembler, &frame_bytes(1, b"small", b""));
        assert!(assembler.next_frame().unwrap().is_some());
        assert_eq!(assembler.buffer.len(), BUFFER_BYTES_MIN);
        let large = frame_bytes(2, &vec![0; CONTROL_BYTES_MAX], b"");
        let mut sent = 0;
        while sent < large.len() {
            sent += pour(&mut assembler, &large[sent..]);
            assert!(assembler.next_frame().unwrap().is_some() == (sent == large.len()));
        }
        assert!(assembler.buffer.len() <= CONTROL_BYTES_MAX + 2 * HEADER_BYTES);
        assembler.room();
        assert_eq!(assembler.buffer.len(), BUFFER_BYTES_USUAL);
    }
}
