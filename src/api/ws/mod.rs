//! The WebSocket door: one socket is one session, which may be a member of a consumer group.
//!
//! - `upgrade.rs`: what is asked before a connection becomes a session
//! - `registry.rs`: which sessions there are, and how much they keep together
//! - `claims.rs`: which of them has which static member
//! - `socket.rs`: frames in and out of one socket, its timers and its end
//! - `outbox.rs`: frames on their way into the socket
//! - `protocol/`: the frames
//! - `session/`: the session as a state machine, and what does its bidding

mod claims;
mod outbox;
pub mod protocol;
pub mod registry;
pub mod session;
pub mod socket;
mod steps;
pub mod upgrade;
