//! The session machines of both sides.
