use nearfs_protocol::attr::Time;
use nearfs_protocol::errno::Errno;
use nearfs_protocol::id::{Generation, Node, NodeId};
use nearfs_protocol::message::Reply;
use nearfs_protocol::name::Name;

use super::*;

const ID: RequestId = RequestId::new(3, 12);

fn intent(name: &str) -> Intent {
    let parent = Node { id: NodeId(2), generation: Generation(5) };
    let name = Name::new(name.as_bytes()).unwrap();
    Intent::Create { parent, name, flags: 0o102, since: Time { secs: 7, nanos: 1 } }
}

fn empty() -> Box<SlotBytes> {
    Box::new([0; SLOT_BYTES])
}

fn stages() -> Vec<(Box<SlotBytes>, Option<Kept>)> {
    let mut room = Vec::new();
    let mut slot = empty();
    let mut stages = vec![(slot.clone(), None)];
    let kept = |outcome| Some(Kept { id: ID, fingerprint: 99, outcome });
    begin(&mut slot, ID, 99);
    stages.push((slot.clone(), kept(Outcome::Begun)));
    assert!(intend(&mut slot, &intent("a"), &mut room));
    stages.push((slot.clone(), kept(Outcome::Intended(intent("a")))));
    assert!(finish(&mut slot, &Ok(Reply::Done), &mut room));
    stages.push((slot.clone(), kept(Outcome::Done(Ok(Reply::Done)))));
    stages
}

#[test]
fn each_stage_is_read_as_it_was_written() {
    for (slot, expected) in stages() {
        assert_eq!(read(&slot), Ok(expected));
    }
}

#[test]
fn the_next_request_takes_the_place_of_the_last() {
    let (mut slot, _) = stages().pop().unwrap();
    let mut room = Vec::new();
    let next = RequestId::new(3, 13);
    begin(&mut slot, next, 5);
    assert_eq!(read(&slot), Ok(Some(Kept { id: next, fingerprint: 5, outcome: Outcome::Begun })));
    assert_eq!(underway(&slot), Some(next));
    assert!(finish(&mut slot, &Err(Errno::EEXIST), &mut room));
    assert_eq!(underway(&slot), None);
}

#[test]
fn a_longer_intent_or_answer_than_there_is_room_for_is_refused() {
    let (mut slot, mut room) = (empty(), Vec::new());
    begin(&mut slot, ID, 1);
    let name = vec![b'x'; 700];
    let node = Node { id: NodeId(2), generation: Generation(5) };
    assert!(!intend(&mut slot, &Intent::Xattr { node, name, sets: true }, &mut room));
    assert!(intend(&mut slot, &intent(&"x".repeat(255)), &mut room));
    assert!(finish(&mut slot, &Ok(Reply::Offset(1)), &mut room));
}

/// A process that is killed has carried out its stores up to one of them.
#[test]
fn a_slot_that_was_being_written_is_what_it_was_or_nothing() {
    let stages = stages();
    let mut second = stages[3].0.clone();
    begin(&mut second, RequestId::new(3, 13), 4);
    let steps = stages.iter().map(|(slot, _)| slot.clone()).chain([second]).collect::<Vec<_>>();
    for pair in steps.windows(2) {
        let [before, after] = pair else { unreachable!() };
        // The stage word is the last that changes.
        for cut in 4..SLOT_BYTES {
            let mut torn = before.clone();
            torn[4..cut].copy_from_slice(&after[4..cut]);
            torn[..4].fill(0);
            assert_eq!(read(&torn), Ok(None), "while a request begins");
            torn[..4].copy_from_slice(&before[..4]);
            let same_request = torn[24..64] == before[24..64] && before[24..64] == after[24..64];
            if same_request {
                assert_eq!(read(&torn), read(before), "a part is written beside the one that counts");
            }
        }
    }
}

#[test]
fn no_flipped_bit_makes_another_answer() {
    for (slot, expected) in stages().into_iter().skip(1) {
        for bit in 0..SLOT_BYTES * 8 {
            let mut flipped = slot.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = read(&flipped) {
                assert_eq!(read, expected, "bit {bit}");
            }
        }
    }
}

#[test]
fn whatever_the_bytes_nothing_panics() {
    let mut number = 1_u64;
    for _ in 0..20_000 {
        let (mut slot, _) = stages().swap_remove((number % 3) as usize + 1);
        for _ in 0..4 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (number >> 33) as usize % 64;
            slot[at] = (number >> 20) as u8;
        }
        let _ = read(&slot);
    }
}
