//! Whatever can be said is understood as it was meant.

use nearfs_protocol::codec::{Header, set_id};
use nearfs_protocol::id::RequestId;
use nearfs_protocol::limits::PAYLOAD_BYTES_MAX;
use proptest::prelude::*;

use crate::arbitrary::control;
use crate::control::Control;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn messages_come_out_as_they_went_in(control in control(), id: u64, payload in 0..=PAYLOAD_BYTES_MAX) {
        let mut frame = control.encode(RequestId(id), payload);
        let (header, decoded) = Control::parse(&frame).expect("what we encode is well-formed");
        prop_assert_eq!(&decoded, &control);
        let expected = Header {
            kind: control.kind(),
            control_bytes: header.control_bytes,
            payload_bytes: payload as u32,
            id: RequestId(id),
        };
        prop_assert_eq!(header, expected);

        set_id(&mut frame, RequestId(!id));
        let (header, decoded) = Control::parse(&frame).expect("the id is all that changed");
        prop_assert_eq!((header, decoded), (Header { id: RequestId(!id), ..expected }, control));
    }

    #[test]
    fn a_request_id_is_a_slot_and_a_sequence_number(slot: u16, sequence in 0u64..1 << 48) {
        let id = RequestId::new(slot, sequence);
        prop_assert_eq!((id.slot(), id.sequence()), (usize::from(slot), sequence));
    }
}
