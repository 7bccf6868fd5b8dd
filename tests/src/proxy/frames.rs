//! The frames of nearfs among the bytes that pass, so that a cut can be put before one of them.

use std::str::FromStr;

use nearfs_protocol::codec::{FrameKind, Header, decode_control};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::limits::HEADER_BYTES;
use nearfs_protocol::message::{Call, Request};

use super::script::ScriptError;

/// Which calls a cut waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Those that have an effect, whatever it is.
    Changes,
    /// Those of one operation, by the name that `nearfs status --json` has for it.
    Operation(String),
}

impl FromStr for Calls {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Calls, ScriptError> {
        match text {
            "change" => Ok(Calls::Changes),
            name if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                Ok(Calls::Operation(name.to_owned()))
            }
            other => Err(ScriptError::Malformed(other.to_owned(), "change or an operation such as mkdir")),
        }
    }
}

impl Calls {
    fn include(&self, request: &Request) -> bool {
        match self {
            Calls::Changes => request.is_mutation(),
            Calls::Operation(name) => request.name() == name,
        }
    }
}

/// A connection of the proxy, to tell request ids of one from those of another.
pub(super) type LinkNumber = u64;

/// Waits for a call to pass and for its answer to come.
#[derive(Debug)]
pub(super) struct Trap {
    calls: Calls,
    left: u64,
    /// The answer that must not pass.
    sprung_by: Option<(LinkNumber, RequestId)>,
}

impl Trap {
    /// A trap for the answer to the `number`-th of these calls.
    pub(super) fn new(calls: Calls, number: u64) -> Trap {
        Trap { calls, left: number.max(1), sprung_by: None }
    }

    /// Whether control parts of calls must be read for it.
    pub(super) fn wants_calls(&self) -> bool {
        self.sprung_by.is_none()
    }

    /// Looks at a frame that has come in; `true` if the connections are to be cut before it passes.
    pub(super) fn sees(&mut self, link: LinkNumber, frame: &Seen) -> bool {
        match (&frame.request, self.sprung_by) {
            (Some(request), None) if self.calls.include(request) => {
                self.left -= 1;
                self.sprung_by = (self.left == 0).then_some((link, frame.header.id));
                false
            }
            (_, Some(by)) => frame.header.kind == FrameKind::Answer && by == (link, frame.header.id),
            (Some(_) | None, None) => false,
        }
    }
}

/// A frame of which enough has come in.
pub(super) struct Seen {
    pub(super) header: Header,
    /// What is asked, if it is a call and was to be read.
    pub(super) request: Option<Request>,
    /// Where in the stream it begins.
    pub(super) at: u64,
}

/// Follows the frames of one direction. A stream that is none of nearfs is given up with its first bytes.
#[derive(Default)]
pub(super) struct FrameReader {
    /// The beginning of the frame at hand, as far as it is read.
    head: Vec<u8>,
    begins_at: u64,
    /// Bytes of it that are passed over.
    skip: usize,
    /// Bytes of the stream that were read.
    read: u64,
    is_foreign: bool,
}

impl FrameReader {
    /// Reads the next bytes of the stream, which come in any pieces, and returns the frames that they make known.
    /// The control parts of calls are read only if `with_calls` says so.
    pub(super) fn read(&mut self, mut bytes: &[u8], with_calls: bool) -> Vec<Seen> {
        let mut seen = Vec::new();
        while !bytes.is_empty() && !self.is_foreign {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                self.advance(&mut bytes, passed);
                continue;
            }
            if self.head.is_empty() {
                self.begins_at = self.read;
            }
            let taken = self.head_bytes(with_calls).saturating_sub(self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..taken]);
            self.advance(&mut bytes, taken);
            seen.extend(self.finish(with_calls));
        }
        seen
    }

    fn advance(&mut self, bytes: &mut &[u8], count: usize) {
        *bytes = &bytes[count..];
        self.read += count as u64;
    }

    /// How much of the frame at hand is wanted, as far as is known.
    fn head_bytes(&self, with_calls: bool) -> usize {
        match self.header() {
            Some(header) if with_calls && header.kind == FrameKind::Call => {
                HEADER_BYTES + header.control_bytes as usize
            }
            Some(_) | None => HEADER_BYTES,
        }
    }

    fn header(&self) -> Option<Header> {
        Header::parse(self.head.first_chunk()?).ok()
    }

    /// The frame at hand, if all is read that is wanted of it.
    fn finish(&mut self, with_calls: bool) -> Option<Seen> {
        if self.head.len() < HEADER_BYTES {
            return None;
        }
        let Some(header) = self.header() else {
            self.is_foreign = true;
            return None;
        };
        if self.head.len() < self.head_bytes(with_calls) {
            return None;
        }
        let control = &self.head[HEADER_BYTES..];
        let is_whole = header.kind == FrameKind::Call && control.len() == header.control_bytes as usize;
        let call = is_whole.then(|| decode_control::<Call>(control).ok()).flatten();
        self.skip = header.body_bytes() - control.len();
        self.head.clear();
        Some(Seen { header, request: call.map(|call| call.request), at: self.begins_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfs_protocol::codec::encode_frame;
    use nearfs_protocol::id::Node;
    use nearfs_protocol::message::Caller;

    fn call(number: u64, request: Request, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let call = Call { caller: Caller::default(), request };
        encode_frame(&mut frame, FrameKind::Call, RequestId(number), &call, payload.len()).unwrap();
        frame.extend_from_slice(payload);
        frame
    }

    fn answer(number: u64, payload_bytes: u32) -> Vec<u8> {
        let id = RequestId(number);
        let mut frame =
            Header { kind: FrameKind::Answer, control_bytes: 0, payload_bytes, id }.to_bytes().to_vec();
        frame.resize(frame.len() + payload_bytes as usize, 7);
        frame
    }

    fn make_dir() -> Request {
        let name = nearfs_protocol::name::Name::new(b"made").unwrap();
        Request::MakeDir { parent: Node::default(), name, mode: 0o755, umask: 0 }
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut_into_pieces() {
        let frames = [
            call(1, make_dir(), b""),
            call(2, Request::StatFs { node: Node::default() }, &[9; 1000]),
            answer(3, 70_000),
            answer(4, 0),
        ];
        let starts = (0..frames.len()).map(|number| frames[..number].concat().len() as u64);
        let expected: Vec<_> = starts.zip([Some("mkdir"), Some("statfs"), None, None]).zip(1..).collect();
        let stream = frames.concat();
        for piece in [1, 7, 24, 1000, stream.len()] {
            let mut reader = FrameReader::default();
            let seen: Vec<_> = stream.chunks(piece).flat_map(|bytes| reader.read(bytes, true)).collect();
            let found = seen
                .iter()
                .map(|seen| ((seen.at, seen.request.as_ref().map(Request::name)), seen.header.id.0));
            assert_eq!(found.collect::<Vec<_>>(), expected, "pieces of {piece}");
        }
    }

    #[test]
    fn a_foreign_stream_is_left_alone() {
        let mut reader = FrameReader::default();
        assert!(reader.read(b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n", true).is_empty());
        assert!(reader.read(&answer(1, 0), true).is_empty());
    }

    #[test]
    fn a_trap_is_sprung_by_the_answer_to_the_call_that_was_waited_for() {
        let mut trap = Trap::new(Calls::Operation("mkdir".to_owned()), 2);
        let stream = [1, 2, 3].map(|number| call(number, make_dir(), b"")).concat();
        for seen in FrameReader::default().read(&stream, true) {
            assert!(!trap.sees(5, &seen));
        }
        assert!(!trap.wants_calls());
        let answers = [1, 3, 2].map(|number| answer(number, 0)).concat();
        let answers = FrameReader::default().read(&answers, true);
        assert!(answers.iter().all(|seen| !trap.sees(6, seen)), "another connection has the same numbers");
        assert_eq!(answers.iter().map(|seen| trap.sees(5, seen)).collect::<Vec<_>>(), [false, false, true]);
    }
}
