//! How messages look on the wire: golden bytes, round trips, and bytes that nobody should send.

mod arbitrary;
mod control;
mod documented;
mod golden;
mod hostile;
mod lengths;
mod round_trip;
mod samples;
mod source;
