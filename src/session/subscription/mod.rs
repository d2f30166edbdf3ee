//! A subscription of a session, whichever kind it is of: a group or a tail. A kind is a variant of [`Subscription`] here, and one of `Options`.
//!
//! - `mod.rs`: which kinds there are, and what a subscription is given of its session
//! - `options.rs`: what a client may ask for with `subscribe`, and what it is told of it
//! - `commands.rs`: what a client may want of a subscription that is there
//! - group/: the subscription of a group
//! - tail/: a subscription without a group

#![expect(
    clippy::result_large_err,
    reason = "an error here is a frame to be sent; the ways that may fail are not the hot ones"
)]

pub mod commands;
pub mod group;
pub mod options;
pub mod tail;

use std::time::Instant;

use self::group::Group;
use self::tail::Tail;
use super::clock::Clock;
use super::effect::Effect;
use super::frame_queue::FrameQueue;
use super::protocol::server::ServerFrame;

/// A subscription of a session.
#[derive(Debug)]
pub enum Subscription<'a> {
    /// The session is a member of a group.
    Group(&'a mut Group),
    /// The session follows topics by itself.
    Tail(&'a mut Tail),
}

/// What a subscription is given of its session: where it puts what is to be sent and done, and the time.
pub struct SessionContext<'a> {
    /// Frames that go before records.
    pub out: &'a mut FrameQueue,
    /// What is to be done.
    pub effects: &'a mut Vec<Effect>,
    /// The time of day.
    pub clock: Clock,
    /// Now.
    pub now: Instant,
}

impl SessionContext<'_> {
    pub(crate) fn send(&mut self, frame: &ServerFrame) {
        self.out.push(frame);
    }
}
