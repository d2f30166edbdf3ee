//! The WebSocket session: one socket is one session, which may be a member of a consumer group. How a
//! connection becomes one is in `api/ws.rs`.
//!
//! - `registry.rs`: which sessions there are, and how much they keep together
//! - `static_members.rs`: which of them has which static member
//! - `socket.rs`: frames in and out of one socket, its timers and its end
//! - `outbox.rs`: frames on their way into the socket
//! - `steps.rs`: how far to read without passing the end of a frame
//! - `protocol/`: the frames
//! - `machine/`: the session as a state machine without I/O
//! - `driver.rs`: does what the machine wants done: the session, its member and its socket together

pub mod driver;
pub mod machine;
mod outbox;
pub mod protocol;
pub mod registry;
pub mod socket;
mod static_members;
mod steps;
