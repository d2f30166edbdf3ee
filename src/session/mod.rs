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
//! - `subscription/`: its subscriptions, which are such machines too: groups and tails
//! - `effect.rs`: what the machine and its subscriptions want done outside of them
//! - `frame_queue.rs`: frames that wait to go out
//! - `clock.rs`: the time of day
//! - `rules.rs`: what all sessions are held to
//! - `model/`: a whole session played for the property test and the fuzz target
//! - `driver.rs`: does what the machine wants done: the session, its member and its socket together
//! - `followers.rs`: the followers that the driver has for the session's tails

use std::sync::Arc;

use crate::auth::Authenticator;
use crate::passthrough::PrincipalClients;
use crate::stream::limits::Streams;

pub mod clock;
pub mod driver;
pub mod effect;
mod followers;
pub mod frame_queue;
pub mod machine;
#[cfg(any(test, feature = "fuzzing"))]
pub mod model;
mod outbox;
pub mod protocol;
pub mod registry;
pub mod rules;
pub mod socket;
mod static_members;
mod steps;
pub mod subscription;

/// What sessions are served with.
#[derive(Debug)]
pub struct Services {
    /// Which sessions there are.
    pub sessions: registry::Sessions,
    /// Among which their tails are counted.
    pub streams: Streams,
    /// Who shows a token in a frame.
    pub auth: Arc<Authenticator>,
    /// Which Kafka clients serve whom.
    pub kafka: PrincipalClients,
}
