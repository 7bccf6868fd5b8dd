//! Every length below and at its limit, and just above.

use nearfs_protocol::codec::{DecodeError, FrameKind, Header, decode_control, encode_frame};
use nearfs_protocol::id::{Generation, Node, NodeId, RequestId};
use nearfs_protocol::limits::{
    BATCH_ITEMS_MAX, CONTROL_BYTES_MAX, GROUPS_MAX, HEADER_BYTES, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX,
    PUBLISHED_MAX, SYMLINK_BYTES_MAX,
};
use nearfs_protocol::message::{Call, Caller, Publication, RenameMode, Request};
use nearfs_protocol::name::Name;

use crate::control::Control;
use crate::samples::samples;

const NODE: Node = Node { id: NodeId(u64::MAX), generation: Generation(u64::MAX) };

#[test]
fn headers_are_refused_above_the_limits() {
    let header = |control_bytes, payload_bytes| {
        let id = RequestId(1);
        Header::parse(&Header { kind: FrameKind::Call, control_bytes, payload_bytes, id }.to_bytes())
    };
    let (control, payload) = (CONTROL_BYTES_MAX as u32, PAYLOAD_BYTES_MAX as u32);
    for (control_bytes, payload_bytes) in [(0, 0), (1, 1), (control - 1, payload - 1), (control, payload)] {
        let parsed = header(control_bytes, payload_bytes).expect("within the limits");
        assert_eq!(parsed.body_bytes(), control_bytes as usize + payload_bytes as usize);
    }
    for (control_bytes, payload_bytes) in [(control + 1, 0), (0, payload + 1), (u32::MAX, u32::MAX)] {
        let refused = header(control_bytes, payload_bytes);
        assert_eq!(refused, Err(DecodeError::TooLarge { control_bytes, payload_bytes }));
    }
}

#[test]
fn headers_with_anything_unknown_are_refused() {
    let good =
        Header { kind: FrameKind::Bye, control_bytes: 0, payload_bytes: 0, id: RequestId(0) }.to_bytes();
    for at in 0..16 {
        for bit in 0..8 {
            let mut bad: [u8; HEADER_BYTES] = good;
            bad[at] ^= 1 << bit;
            let parsed = Header::parse(&bad);
            match at {
                0 | 1 => assert_eq!(parsed, Err(DecodeError::NotNearfs)),
                2 => assert!(parsed.is_err() || parsed.is_ok_and(|header| header.kind != FrameKind::Bye)),
                3 | 12..16 => assert_eq!(parsed, Err(DecodeError::Reserved)),
                _ => assert!(matches!(parsed, Ok(_) | Err(DecodeError::TooLarge { .. }))),
            }
        }
    }
    let kinds = (0..=u8::MAX).filter(|kind| {
        let mut bytes = good;
        bytes[2] = *kind;
        Header::parse(&bytes).is_ok()
    });
    assert!(kinds.eq(1..=11));
}

#[test]
fn control_parts_are_encoded_up_to_the_limit() {
    // Eight bytes say how many follow.
    let encode = |length: usize, payload_bytes| {
        let mut out = b"before".to_vec();
        let control = serde_bytes::ByteBuf::from(vec![7; length]);
        encode_frame(&mut out, FrameKind::Call, RequestId(1), &control, payload_bytes).map(|()| out)
    };
    let whole = encode(CONTROL_BYTES_MAX - 8, PAYLOAD_BYTES_MAX).expect("at the limit");
    let control = &whole[b"before".len() + HEADER_BYTES..];
    assert_eq!(control.len(), CONTROL_BYTES_MAX);
    let decoded: serde_bytes::ByteBuf = decode_control(control).expect("at the limit");
    assert_eq!(decoded.len(), CONTROL_BYTES_MAX - 8);
    assert!(encode(CONTROL_BYTES_MAX - 7, 0).is_err());
    assert!(encode(0, PAYLOAD_BYTES_MAX + 1).is_err());
}

#[test]
fn what_cannot_be_encoded_leaves_nothing_behind() {
    let mut out = b"before".to_vec();
    let control = serde_bytes::ByteBuf::from(vec![7; CONTROL_BYTES_MAX]);
    assert!(encode_frame(&mut out, FrameKind::Call, RequestId(1), &control, 0).is_err());
    assert_eq!(out, b"before");
}

#[test]
fn the_largest_messages_fit() {
    let name = Name::new(&[b'x'; NAME_BYTES_MAX]).expect("a name");
    let caller = Caller { uid: u32::MAX, gid: u32::MAX, groups: vec![u32::MAX; GROUPS_MAX] };
    let (staged, mode) = (name.clone(), RenameMode::NoReplace);
    let publication = Publication { parent: NODE, staged, name: name.clone(), mode };
    let requests = [
        Request::Forget { nodes: vec![(NODE, u64::MAX); BATCH_ITEMS_MAX] },
        Request::Symlink { parent: NODE, name: name.clone(), target: vec![b'x'; SYMLINK_BYTES_MAX] },
        Request::Publish { items: vec![publication; PUBLISHED_MAX] },
    ];
    for request in requests {
        let control = Control::Call(Call { caller: caller.clone(), request });
        let frame = control.encode(RequestId(1), PAYLOAD_BYTES_MAX);
        assert_eq!(Control::parse(&frame).map(|(_, control)| control), Ok(control));
    }
}

#[test]
fn control_parts_are_neither_too_short_nor_too_long() {
    for sample in samples() {
        let frame = sample.control.encode(sample.id, sample.payload_bytes);
        let (kind, control) = (sample.control.kind(), &frame[HEADER_BYTES..]);
        for length in 0..control.len() {
            let cut = Control::decode(kind, &control[..length]);
            assert!(cut.is_err(), "{:?} cut to {length} bytes is {cut:?}", sample.control);
        }
        let longer = [control, &[0]].concat();
        assert!(Control::decode(kind, &longer).is_err(), "{:?} and a byte more", sample.control);
    }
}
