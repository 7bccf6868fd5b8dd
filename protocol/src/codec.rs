//! Frames to bytes and back: the fixed header, and the control part behind it.
//!
//! A frame is `header | control | payload`. The header says how long the other two are, so that a reader
//! bounds them before it makes room. Only this file knows how control parts are encoded.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::id::RequestId;
use crate::limits::{CONTROL_BYTES_MAX, HEADER_BYTES, PAYLOAD_BYTES_MAX};

/// The first two bytes of every frame.
pub const MAGIC: [u8; 2] = *b"nf";

/// Where the id stands in a header.
const ID_AT: usize = 16;

/// What a frame is, and what its control part holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// [`crate::greeting::Hello`], the client's first.
    Hello = 1,
    /// [`crate::greeting::Welcome`].
    Welcome = 2,
    /// [`crate::greeting::Refusal`]; the connection ends.
    Refused = 3,
    /// [`crate::message::Call`], client to server.
    Call = 4,
    /// [`crate::message::Answer`] to the call with the same id.
    Answer = 5,
    /// [`crate::message::Push`], server to client; its id counts pushes.
    Push = 6,
    /// Nothing; the push with this id has been carried out.
    Ack = 7,
    /// Nothing; asks for a [`FrameKind::Pong`] with the same id.
    Ping = 8,
    /// Nothing.
    Pong = 9,
    /// Nothing; the call with this id is not wanted any more. It is still answered, once: with its outcome
    /// if it was or is being carried out, else with `ECANCELED`.
    Cancel = 10,
    /// Nothing; the session is over and everything of it may go.
    Bye = 11,
}

impl FrameKind {
    fn from_number(number: u8) -> Option<FrameKind> {
        Some(match number {
            1 => FrameKind::Hello,
            2 => FrameKind::Welcome,
            3 => FrameKind::Refused,
            4 => FrameKind::Call,
            5 => FrameKind::Answer,
            6 => FrameKind::Push,
            7 => FrameKind::Ack,
            8 => FrameKind::Ping,
            9 => FrameKind::Pong,
            10 => FrameKind::Cancel,
            11 => FrameKind::Bye,
            _ => return None,
        })
    }
}

/// The fixed part of a frame. On the wire, little-endian: magic (2), kind (1), flags (1, zero), control
/// bytes (4), payload bytes (4), reserved (4, zero), id (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: FrameKind,
    /// Bytes of the control part.
    pub control_bytes: u32,
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// Which request, push or ping; zero for the others.
    pub id: RequestId,
}

impl Header {
    /// The wire form.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..2].copy_from_slice(&MAGIC);
        bytes[2] = self.kind as u8;
        bytes[4..8].copy_from_slice(&self.control_bytes.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[ID_AT..].copy_from_slice(&self.id.0.to_le_bytes());
        bytes
    }

    /// Parses the wire form; lengths above the limits are refused here, before anything is allocated.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Header, DecodeError> {
        if bytes[0..2] != MAGIC {
            return Err(DecodeError::NotNearfs);
        }
        let kind = FrameKind::from_number(bytes[2]).ok_or(DecodeError::UnknownKind(bytes[2]))?;
        if bytes[3] != 0 || bytes[12..16] != [0; 4] {
            return Err(DecodeError::Reserved);
        }
        let control_bytes = u32_at(bytes, 4);
        let payload_bytes = u32_at(bytes, 8);
        if control_bytes as usize > CONTROL_BYTES_MAX || payload_bytes as usize > PAYLOAD_BYTES_MAX {
            return Err(DecodeError::TooLarge { control_bytes, payload_bytes });
        }
        Ok(Header { kind, control_bytes, payload_bytes, id: RequestId(u64_at(bytes, ID_AT)) })
    }

    /// Bytes of the frame behind the header.
    pub fn body_bytes(&self) -> usize {
        self.control_bytes as usize + self.payload_bytes as usize
    }
}

/// The peer broke the protocol: its connection is closed. Never an error of an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are of another protocol.
    #[error("the peer does not speak nearfs")]
    NotNearfs,
    /// A frame kind of no version known here.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// Bits that must be zero are not.
    #[error("reserved bits are set")]
    Reserved,
    /// A length above the limits.
    #[error("frame too large: {control_bytes} control bytes, {payload_bytes} payload bytes")]
    TooLarge {
        /// As the header said.
        control_bytes: u32,
        /// As the header said.
        payload_bytes: u32,
    },
    /// The control part is not what its kind asks for.
    #[error("malformed control part: {0}")]
    Control(String),
}

/// What could not be encoded: larger than [`CONTROL_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message larger than a frame may be")]
pub struct EncodeError;

/// Appends header and control part of a frame to `out`; the payload of `payload_bytes` is sent behind
/// them as it is.
pub fn encode_frame<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    kind: FrameKind,
    id: RequestId,
    control: &T,
    payload_bytes: usize,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    let encoded = unmeasured().serialize_into(&mut *out, control).map_err(|_| EncodeError);
    let control_bytes = out.len() - start - HEADER_BYTES;
    let fits = control_bytes <= CONTROL_BYTES_MAX && payload_bytes <= PAYLOAD_BYTES_MAX;
    if encoded.is_err() || !fits {
        out.truncate(start);
        return Err(EncodeError);
    }
    let header =
        Header { kind, control_bytes: control_bytes as u32, payload_bytes: payload_bytes as u32, id };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.to_bytes());
    Ok(())
}

/// Appends what a control part would be, alone: for what is kept on disk in the same form.
pub fn encode_control<T: Serialize + ?Sized>(out: &mut Vec<u8>, control: &T) -> Result<(), EncodeError> {
    let start = out.len();
    let encoded = unmeasured().serialize_into(&mut *out, control);
    if encoded.is_err() || out.len() - start > CONTROL_BYTES_MAX {
        out.truncate(start);
        return Err(EncodeError);
    }
    Ok(())
}

/// Puts another id into an encoded frame, so that a request can be encoded before it has a slot.
/// Bytes that are shorter than a header stay as they are.
pub fn set_id(frame: &mut [u8], id: RequestId) {
    if let Some(field) = frame.get_mut(ID_AT..HEADER_BYTES) {
        field.copy_from_slice(&id.0.to_le_bytes());
    }
}

/// Decodes a control part, all of it.
pub fn decode_control<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    options().deserialize(bytes).map_err(|error| DecodeError::Control(error.to_string()))
}

fn options() -> impl Options {
    unmeasured().with_limit(CONTROL_BYTES_MAX as u64)
}

/// Without a limit, for which bincode would go through a message once more before it encodes it: what was encoded is
/// measured instead.
fn unmeasured() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .with_no_limit()
        .reject_trailing_bytes()
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
