//! The bytes of every message, as they are written in `golden.txt`. They change only with the protocol's
//! version; `NEARFS_GOLDEN=write cargo test --test wire` writes the file anew.

use std::fmt::Write as _;
use std::path::Path;

use nearfs_protocol::codec::Header;
use nearfs_protocol::limits::HEADER_BYTES;

use crate::control::Control;
use crate::samples::{Sample, samples};
use crate::source::{ATTR, CODEC, GREETING, MESSAGE, ROSTER, first_word, variants};

const GOLDEN: &str = include_str!("golden.txt");

const PREFACE: &str = "\
# The bytes of one frame of every kind, and of at least one message of every variant, in hexadecimal.
# `header` and `control` are what precedes the payload, which is not shown.
";

#[test]
fn every_message_has_its_golden_bytes() {
    let pages: Vec<_> = samples().iter().map(page).collect();
    let text = format!("{PREFACE}{}", pages.concat());
    if std::env::var_os("NEARFS_GOLDEN").is_some_and(|wish| wish == "write") {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/golden.txt");
        std::fs::write(file, &text).expect("the golden file can be written");
        return;
    }
    for (golden, ours) in GOLDEN.split("\n\n").zip(text.split("\n\n")) {
        assert_eq!(golden, ours);
    }
    assert_eq!(GOLDEN, text, "messages were added or removed");
}

#[test]
fn golden_bytes_are_understood() {
    let frames: Vec<_> = GOLDEN.split("\n\n").skip(1).map(unhex).collect();
    let samples = samples();
    assert_eq!(frames.len(), samples.len());
    for (frame, sample) in frames.iter().zip(&samples) {
        let (header, control) = Control::parse(frame).expect("golden bytes are well-formed");
        let expected = Header {
            kind: sample.control.kind(),
            control_bytes: (frame.len() - HEADER_BYTES) as u32,
            payload_bytes: sample.payload_bytes as u32,
            id: sample.id,
        };
        assert_eq!(header, expected);
        assert_eq!(control, sample.control);
    }
}

#[test]
fn no_variant_is_missing() {
    let all: String = samples().iter().fold(String::new(), |mut all, sample| {
        let _ = write!(all, "\n{:?} {:?}", sample.control.kind(), sample.control);
        all
    });
    // Each enum with what stands before its variants where they are printed.
    let enums = [
        (CODEC, "FrameKind", "\n"),
        (GREETING, "SessionWish", "session: "),
        (GREETING, "Identity", "identity: "),
        (GREETING, "Refusal", "Refused("),
        (ATTR, "FileKind", "kind: "),
        (ATTR, "SetTime", "Some("),
        (ATTR, "LockKind", "kind: "),
        (ATTR, "LockStyle", "style: "),
        (MESSAGE, "Request", "request: "),
        (MESSAGE, "Reply", "Answer(Ok("),
        (MESSAGE, "Push", "Push("),
        (MESSAGE, "RenameMode", "mode: "),
        (MESSAGE, "WriteAt", "at: "),
        (MESSAGE, "WriteSync", "sync: "),
        (MESSAGE, "XattrMode", "mode: "),
        (MESSAGE, "SeekTarget", "target: "),
        (ROSTER, "TransferKind", "kind: "),
        (ROSTER, "TransferOutcome", "outcome: "),
    ];
    for (source, name, before) in enums {
        let printed: Vec<_> = all.split(before).skip(1).map(first_word).collect();
        for variant in variants(source, name) {
            assert!(printed.contains(&variant), "no sample of {name}::{variant}");
        }
    }
}

/// What the golden file says of one frame.
fn page(sample: &Sample) -> String {
    let frame = sample.control.encode(sample.id, sample.payload_bytes);
    let (header, control) = frame.split_at(HEADER_BYTES);
    let mut page = format!("\n{:?}", sample.control);
    if sample.payload_bytes > 0 {
        let _ = write!(page, " and {} bytes of payload", sample.payload_bytes);
    }
    let _ = write!(page, "\nheader  {}\n", hex(header));
    for (row, bytes) in control.chunks(32).enumerate() {
        let _ = writeln!(page, "{} {}", if row == 0 { "control" } else { "       " }, hex(bytes));
    }
    page
}

/// Groups of four bytes.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().enumerate().fold(String::new(), |mut hex, (at, byte)| {
        let gap = if at > 0 && at % 4 == 0 { " " } else { "" };
        let _ = write!(hex, "{gap}{byte:02x}");
        hex
    })
}

fn unhex(page: &str) -> Vec<u8> {
    let rows = page.lines().skip(1);
    let columns =
        rows.flat_map(|row| row.split_whitespace().filter(|word| *word != "header" && *word != "control"));
    let digits: Vec<_> = columns.flat_map(str::bytes).collect();
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hexadecimal digit") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
