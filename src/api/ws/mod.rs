//! The WebSocket door: one socket is one session, which may be a member of a consumer group.
//!
//! - `protocol/`: the frames

pub mod protocol;
