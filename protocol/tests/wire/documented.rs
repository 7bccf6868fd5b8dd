//! PROTOCOL.md tells of everything there is.

use nearfs_protocol::errno::Errno;

use crate::source::{ATTR, CODEC, GREETING, LIMITS, MESSAGE, constants, has_word, variants};

const PROTOCOL: &str = include_str!("../../../PROTOCOL.md");

#[test]
fn every_message_is_documented() {
    let enums = [
        (CODEC, &["FrameKind"][..]),
        (GREETING, &["SessionWish", "Identity", "Refusal"]),
        (ATTR, &["FileKind", "SetTime", "LockKind", "LockStyle"]),
        (
            MESSAGE,
            &["Request", "Reply", "Push", "RenameMode", "WriteAt", "WriteSync", "XattrMode", "SeekTarget"],
        ),
    ];
    for (source, names) in enums {
        for name in names {
            for variant in variants(source, name) {
                assert!(has_word(PROTOCOL, &variant), "PROTOCOL.md does not mention {name}::{variant}");
            }
        }
    }
    for errno in Errno::ALL {
        assert!(has_word(PROTOCOL, errno.symbol()), "PROTOCOL.md does not mention {errno}");
    }
}

/// The number of each variant on the wire is its place in the table.
#[test]
fn messages_are_numbered_as_they_are() {
    for name in ["Request", "Reply"] {
        for (number, variant) in variants(MESSAGE, name).iter().enumerate() {
            let row = format!("| {number} | {variant} |");
            assert!(PROTOCOL.contains(&row), "PROTOCOL.md has no row beginning with {row}");
        }
    }
}

#[test]
fn every_limit_is_documented() {
    for limit in constants(LIMITS) {
        assert!(has_word(PROTOCOL, &limit), "PROTOCOL.md does not mention {limit}");
    }
}
