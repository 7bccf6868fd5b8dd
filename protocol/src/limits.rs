//! Every bound of the protocol, in one place. Both sides enforce them on what they receive.

use std::time::Duration;

/// Bytes of a frame header.
pub const HEADER_BYTES: usize = 24;
/// Most bytes of the encoded control part of a frame.
pub const CONTROL_BYTES_MAX: usize = 256 * 1024;
/// Most bytes of raw payload behind it, and so of one read or write.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of control part and payload together before the peer is admitted.
pub const GREETING_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of a name (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
/// Most bytes of a symlink's target (`PATH_MAX` without its NUL).
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// Most bytes of an extended attribute's value (`XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of all names of a node's extended attributes (`XATTR_LIST_MAX`).
pub const XATTR_NAMES_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of an extended attribute's name (`XATTR_NAME_MAX`).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Most bytes of an export's name.
pub const EXPORT_NAME_BYTES_MAX: usize = 255;
/// Most supplementary groups of a caller that are sent; Linux allows 65,536, which would not be sane
/// to carry in every request.
pub const GROUPS_MAX: usize = 1024;
/// Most bytes of the whole content that a lookup or an open carries back.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Most items of a batch (forgotten nodes, released files).
pub const BATCH_ITEMS_MAX: usize = 4096;
/// Bytes of a hash of content (BLAKE3).
pub const HASH_BYTES: usize = 32;
/// Most bytes of a file that one request has hashed: some tens of milliseconds.
pub const HASHED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most hashes of one answer.
pub const HASHES_MAX: usize = 1024;
/// Most files that one request publishes.
pub const PUBLISHED_MAX: usize = 256;

/// Most requests of one session that are under way at once: its slots.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 512;
/// Most payload bytes of one session that are under way at once.
pub const IN_FLIGHT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most connections of one session (`-o nconnect=`).
pub const CONNECTIONS_MAX: usize = 16;
/// Most byte-range locks of one session.
pub const LOCKS_MAX: usize = 10_000;

/// Most bytes of what a client calls itself that are kept and shown to others.
pub const CLIENT_NAME_BYTES_MAX: usize = 255;
/// Most sessions in one answer that lists them.
pub const SESSIONS_PAGE_MAX: usize = 128;
/// Most kinds of requests that are told of one of them.
pub const RECENT_REQUESTS_MAX: usize = 4;
/// Most transfers that are told of one of them.
pub const TRANSFERS_SHOWN_MAX: usize = 2;
/// Most bytes of the place that is told of a transfer.
pub const SHOWN_PATH_BYTES_MAX: usize = 512;
/// Most bytes of what is told of a command that has failed.
pub const REPORT_BYTES_MAX: usize = 1024;
/// Most transfers of one session that run at once.
pub const TRANSFERS_MAX: usize = 1024;
/// Most open files whose bytes count for one transfer.
pub const TRANSFER_FILES_MAX: usize = 256;

/// How long a peer may take from the first byte of its connection to its complete greeting.
pub const GREETING_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a client asks for a sign of life on each of its connections.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// A link on which nothing arrived for this long is dead.
pub const LINK_SILENCE_MAX: Duration = Duration::from_secs(6);
/// How long a session keeps everything after its last connection was lost.
pub const LEASE: Duration = Duration::from_secs(10);
/// How long it stays after that if nobody conflicts with it.
pub const COURTESY: Duration = Duration::from_secs(24 * 60 * 60);
/// First and longest wait between two attempts to connect again.
pub const RECONNECT_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The beginning of a text, in whole characters, so that it has at most so many bytes.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

const _: () = {
    assert!(PAYLOAD_BYTES_MAX * 4 <= IN_FLIGHT_BYTES_MAX);
    assert!(XATTR_VALUE_BYTES_MAX <= PAYLOAD_BYTES_MAX && INLINE_BYTES_MAX <= PAYLOAD_BYTES_MAX);
    assert!(SYMLINK_BYTES_MAX < CONTROL_BYTES_MAX && GROUPS_MAX * 4 + 4096 < CONTROL_BYTES_MAX);
    assert!(HASHES_MAX * HASH_BYTES <= PAYLOAD_BYTES_MAX);
    assert!(PUBLISHED_MAX * (2 * NAME_BYTES_MAX + 36) + GROUPS_MAX * 4 + 1024 < CONTROL_BYTES_MAX);
    assert!(BATCH_ITEMS_MAX * 24 + 1024 < CONTROL_BYTES_MAX);
    // Numbers, lengths and an address take less than 320 bytes beside what is counted.
    let transfers = TRANSFERS_SHOWN_MAX * (SHOWN_PATH_BYTES_MAX + 64);
    let session = 320 + CLIENT_NAME_BYTES_MAX + RECENT_REQUESTS_MAX * 32 + transfers;
    assert!(SESSIONS_PAGE_MAX * session + 1024 < CONTROL_BYTES_MAX);
    assert!(REQUESTS_IN_FLIGHT_MAX <= u16::MAX as usize);
    assert!(KEEPALIVE_INTERVAL.as_secs() * 2 < LINK_SILENCE_MAX.as_secs());
    assert!(LINK_SILENCE_MAX.as_secs() < LEASE.as_secs());
};
