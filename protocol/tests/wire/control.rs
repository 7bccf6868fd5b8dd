//! A frame with its control part, whatever its kind.

use nearfs_protocol::codec::{DecodeError, FrameKind, Header, decode_control, encode_frame};
use nearfs_protocol::greeting::{Hello, Refusal, Welcome};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::limits::HEADER_BYTES;
use nearfs_protocol::message::{Answer, Call, Push};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Control {
    Hello(Hello),
    Welcome(Welcome),
    Refused(Refusal),
    Call(Call),
    Answer(Answer),
    Push(Push),
    Nothing(FrameKind),
}

/// The kinds whose control part is empty.
pub(crate) const EMPTY_KINDS: [FrameKind; 5] =
    [FrameKind::Ack, FrameKind::Ping, FrameKind::Pong, FrameKind::Cancel, FrameKind::Bye];

impl Control {
    pub(crate) fn kind(&self) -> FrameKind {
        match self {
            Control::Hello(_) => FrameKind::Hello,
            Control::Welcome(_) => FrameKind::Welcome,
            Control::Refused(_) => FrameKind::Refused,
            Control::Call(_) => FrameKind::Call,
            Control::Answer(_) => FrameKind::Answer,
            Control::Push(_) => FrameKind::Push,
            Control::Nothing(kind) => *kind,
        }
    }

    /// Header and control part.
    pub(crate) fn encode(&self, id: RequestId, payload_bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let kind = self.kind();
        let encoded = match self {
            Control::Hello(hello) => encode_frame(&mut out, kind, id, hello, payload_bytes),
            Control::Welcome(welcome) => encode_frame(&mut out, kind, id, welcome, payload_bytes),
            Control::Refused(refusal) => encode_frame(&mut out, kind, id, refusal, payload_bytes),
            Control::Call(call) => encode_frame(&mut out, kind, id, call, payload_bytes),
            Control::Answer(answer) => encode_frame(&mut out, kind, id, answer, payload_bytes),
            Control::Push(push) => encode_frame(&mut out, kind, id, push, payload_bytes),
            Control::Nothing(_) => encode_frame(&mut out, kind, id, &(), payload_bytes),
        };
        encoded.expect("samples fit");
        out
    }

    pub(crate) fn decode(kind: FrameKind, control: &[u8]) -> Result<Control, DecodeError> {
        Ok(match kind {
            FrameKind::Hello => Control::Hello(decode_control(control)?),
            FrameKind::Welcome => Control::Welcome(decode_control(control)?),
            FrameKind::Refused => Control::Refused(decode_control(control)?),
            FrameKind::Call => Control::Call(decode_control(control)?),
            FrameKind::Answer => Control::Answer(decode_control(control)?),
            FrameKind::Push => Control::Push(decode_control(control)?),
            FrameKind::Ack | FrameKind::Ping | FrameKind::Pong | FrameKind::Cancel | FrameKind::Bye => {
                decode_control::<()>(control)?;
                Control::Nothing(kind)
            }
        })
    }

    /// Parses a whole frame without payload bytes.
    pub(crate) fn parse(frame: &[u8]) -> Result<(Header, Control), DecodeError> {
        let (header, control) = frame.split_first_chunk::<HEADER_BYTES>().expect("a whole header");
        let header = Header::parse(header)?;
        assert_eq!(header.control_bytes as usize, control.len());
        Ok((header, Control::decode(header.kind, control)?))
    }
}
