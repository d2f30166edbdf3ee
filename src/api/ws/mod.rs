//! The WebSocket door: one socket is one session, which may be a member of a consumer group.
//!
//! - `protocol/`: the frames
//! - `session/`: the session as a state machine, and what does its bidding
//! - `claims.rs`: which session has which static member

mod claims;
pub mod protocol;
pub mod session;
