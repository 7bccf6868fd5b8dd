//! PROTOCOL.md tells of everything there is.

use std::collections::BTreeMap;
use std::time::Duration;

use nearfs_protocol::errno::Errno;
use nearfs_protocol::limits::*;
use nearfs_protocol::version::Features;

use crate::source::{ATTR, CODEC, GREETING, LIMITS, MESSAGE, ROSTER, constants, has_word, variants};

const PROTOCOL: &str = include_str!("../../../PROTOCOL.md");

#[test]
fn every_message_is_documented() {
    let enums = [
        (CODEC, &["FrameKind"][..]),
        (GREETING, &["SessionWish", "Identity", "Refusal"]),
        (ROSTER, &["TransferKind", "TransferOutcome"]),
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
fn every_limit_is_documented_with_its_value() {
    let counts = [
        ("HEADER_BYTES", HEADER_BYTES),
        ("CONTROL_BYTES_MAX", CONTROL_BYTES_MAX),
        ("PAYLOAD_BYTES_MAX", PAYLOAD_BYTES_MAX),
        ("GREETING_BYTES_MAX", GREETING_BYTES_MAX),
        ("NAME_BYTES_MAX", NAME_BYTES_MAX),
        ("SYMLINK_BYTES_MAX", SYMLINK_BYTES_MAX),
        ("XATTR_VALUE_BYTES_MAX", XATTR_VALUE_BYTES_MAX),
        ("XATTR_NAMES_BYTES_MAX", XATTR_NAMES_BYTES_MAX),
        ("XATTR_NAME_BYTES_MAX", XATTR_NAME_BYTES_MAX),
        ("EXPORT_NAME_BYTES_MAX", EXPORT_NAME_BYTES_MAX),
        ("GROUPS_MAX", GROUPS_MAX),
        ("INLINE_BYTES_MAX", INLINE_BYTES_MAX),
        ("BATCH_ITEMS_MAX", BATCH_ITEMS_MAX),
        ("REQUESTS_IN_FLIGHT_MAX", REQUESTS_IN_FLIGHT_MAX),
        ("IN_FLIGHT_BYTES_MAX", IN_FLIGHT_BYTES_MAX),
        ("CONNECTIONS_MAX", CONNECTIONS_MAX),
        ("LOCKS_MAX", LOCKS_MAX),
        ("HASH_BYTES", HASH_BYTES),
        ("HASHED_BYTES_MAX", HASHED_BYTES_MAX),
        ("HASHES_MAX", HASHES_MAX),
        ("PUBLISHED_MAX", PUBLISHED_MAX),
        ("CLIENT_NAME_BYTES_MAX", CLIENT_NAME_BYTES_MAX),
        ("SESSIONS_PAGE_MAX", SESSIONS_PAGE_MAX),
        ("RECENT_REQUESTS_MAX", RECENT_REQUESTS_MAX),
        ("TRANSFERS_SHOWN_MAX", TRANSFERS_SHOWN_MAX),
        ("SHOWN_PATH_BYTES_MAX", SHOWN_PATH_BYTES_MAX),
        ("REPORT_BYTES_MAX", REPORT_BYTES_MAX),
        ("TRANSFERS_MAX", TRANSFERS_MAX),
        ("TRANSFER_FILES_MAX", TRANSFER_FILES_MAX),
    ];
    let times = [
        ("GREETING_TIME_MAX", vec![GREETING_TIME_MAX]),
        ("KEEPALIVE_INTERVAL", vec![KEEPALIVE_INTERVAL]),
        ("LINK_SILENCE_MAX", vec![LINK_SILENCE_MAX]),
        ("LEASE", vec![LEASE]),
        ("COURTESY", vec![COURTESY]),
        ("RECONNECT_BACKOFF", vec![RECONNECT_BACKOFF.0, RECONNECT_BACKOFF.1]),
    ];
    let counts = counts.map(|(name, count)| (name, count_in_words(count)));
    let times = times
        .map(|(name, times)| (name, times.into_iter().map(time_in_words).collect::<Vec<_>>().join(", ")));
    let limits: BTreeMap<_, _> = counts.into_iter().chain(times).collect();
    for name in constants(LIMITS) {
        let value = limits.get(name.as_str()).unwrap_or_else(|| panic!("{name} is new: add it here"));
        let row = format!("| `{name}` | {value} |");
        assert!(PROTOCOL.contains(&row), "PROTOCOL.md has no row beginning with {row}");
    }
}

#[test]
fn every_feature_is_documented() {
    for (name, feature) in Features::all().iter_names() {
        let row = format!("| {} | {name} |", feature.bits().trailing_zeros());
        assert!(PROTOCOL.contains(&row), "PROTOCOL.md has no row beginning with {row}");
    }
}

fn count_in_words(count: usize) -> String {
    const KIB: usize = 1024;
    match count {
        mib if mib % (KIB * KIB) == 0 => format!("{} MiB", mib / KIB / KIB),
        kib if kib % (64 * KIB) == 0 => format!("{} KiB", kib / KIB),
        few => few.to_string(),
    }
}

fn time_in_words(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        hours if hours.is_multiple_of(3600) => format!("{} h", hours / 3600),
        seconds => format!("{seconds} s"),
    }
}
