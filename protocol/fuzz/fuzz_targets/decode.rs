//! Frames from strangers: whatever is understood can be said again, and means the same.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use nearfs_protocol::codec::{FrameKind, Header, decode_control, encode_frame};
use nearfs_protocol::greeting::{Hello, Refusal, Welcome};
use nearfs_protocol::limits::{CONTROL_BYTES_MAX, HEADER_BYTES, PAYLOAD_BYTES_MAX};
use nearfs_protocol::message::{Answer, Call, Push};
use serde::Serialize;
use serde::de::DeserializeOwned;

// A first byte that says how to read the rest: a fuzzer finds no header with the right lengths by itself.
fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 7 {
        0 => stable::<Hello>(bytes),
        1 => stable::<Welcome>(bytes),
        2 => stable::<Refusal>(bytes),
        3 => stable::<Call>(bytes),
        4 => stable::<Answer>(bytes),
        5 => stable::<Push>(bytes),
        _ => header(bytes),
    }
});

fn header(bytes: &[u8]) {
    if let Some(Ok(header)) = bytes.first_chunk::<HEADER_BYTES>().map(Header::parse) {
        assert_eq!(Some(&header.to_bytes()), bytes.first_chunk());
        assert!(header.body_bytes() <= CONTROL_BYTES_MAX + PAYLOAD_BYTES_MAX);
    }
}

fn stable<T: Serialize + DeserializeOwned + PartialEq + Debug>(control: &[u8]) {
    let Ok(decoded) = decode_control::<T>(control) else { return };
    let mut frame = Vec::new();
    encode_frame(&mut frame, FrameKind::Call, Default::default(), &decoded, 0).expect("it was small enough");
    assert_eq!(decode_control::<T>(&frame[HEADER_BYTES..]), Ok(decoded));
}
