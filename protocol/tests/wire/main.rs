//! How messages look on the wire: golden bytes, round trips, and bytes that nobody should send.

#![expect(clippy::expect_used, reason = "a test that cannot go on should say why")]

mod arbitrary;
mod control;
mod documented;
mod golden;
mod hostile;
mod lengths;
mod round_trip;
mod samples;
mod source;
