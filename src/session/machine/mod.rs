//! A session as a state machine without I/O: what came and the time go in; frames, and what is to be
//! done elsewhere, come out. `session/driver.rs` is the thin shell that does it.
//!
//! ```text
//! Opened --credentials or hello--> Ready --drain--> Draining
//!    \------------- anything that ends it ------------> Closing: commit, goodbye, close, leave
//! ```
//!
//! - `mod.rs`: what a session is made of, and its phases
//! - `credentials.rs`: whose it is: `hello`, and tokens
//! - `frames.rs`: what the client sends, and where it goes
//! - `behind.rs`: frames that wait for the answer to one before them
//! - `subscribing.rs`: the subscription of a group comes and goes
//! - `authorization.rs`: what the principal may do and is shown
//! - `producing.rs`: `produce` frames and their answers
//! - `outbound.rs`: what goes out
//! - `timers.rs`: what time brings about
//! - `close.rs`: how it ends
//! - `tails.rs`: subscriptions without a group come and go
//! - `produce_window.rs`: the window of what is written
//! - `rate_limit.rs`: how often a client may do what costs us something
//! - `url_subscription.rs`: the short way, a subscription in the URL

#![expect(
    clippy::result_large_err,
    reason = "an error here is a frame to be sent; the ways that may fail are not the hot ones"
)]

mod authorization;
mod behind;
mod close;
mod credentials;
mod frames;
mod outbound;
pub mod produce_window;
mod producing;
mod rate_limit;
mod subscribing;
mod tails;
#[cfg(test)]
mod tests;
mod timers;
pub mod url_subscription;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::behind::Behind;
use self::close::draining;
use self::produce_window::Producing;
use self::producing::Request;
use self::rate_limit::{Errors, Rate};
use self::tails::Opening;
use super::clock::Clock;
use super::effect::Effect;
use super::frame_queue::FrameQueue;
use super::protocol::Id;
use super::protocol::client::{Hello, Subscribe};
use super::protocol::close::Close;
use super::protocol::server::Error;
use super::rules::Rules;
use super::subscription::SessionContext;
use super::subscription::group::{self, Counted, Group};
use super::subscription::tail;
use crate::auth::Principal;

/// Bounds of `heartbeat_ms`, and what it is without.
const HEARTBEAT_MS: (i64, i64, i64) = (5_000, 60_000, 20_000);

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for credentials until then.
    Opened(Instant),
    /// Waits for its first token to be checked.
    Checking,
    Ready,
    /// Ends then at the latest.
    Draining(Instant),
    /// Ends as soon as what is acknowledged is committed.
    Closing,
    /// All is said.
    Closed,
}

/// How a session came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The code.
    pub close: Close,
    /// What happened.
    pub message: String,
    retry_after_ms: Option<u64>,
    /// The frame that is answered with what was committed: `bye`'s.
    bye: Option<Option<Id>>,
}

/// The session.
#[derive(Debug)]
pub struct Session {
    id: String,
    rules: Arc<Rules>,
    principal: Option<Principal>,
    phase: Phase,
    clock: Clock,
    out: FrameQueue,
    effects: Vec<Effect>,
    group: Option<Box<Group>>,
    tails: Vec<tail::Tail>,
    /// Tails that are being opened.
    opening: Vec<Opening>,
    next_tail: u64,
    /// Which subscription is asked first for records.
    turn: usize,
    /// The client asked for `eof`.
    eof: bool,
    /// By which power of two windows are divided.
    pressure: u32,
    /// The name of the subscription that ended last.
    ended: Option<String>,
    /// A subscription whose topics are being looked up.
    subscribing: Option<Box<group::options::Options>>,
    /// Frames that wait for the answer to one before them.
    behind: Behind,
    /// The question for the topics of the subscription that is under way, and the next one's number.
    lookup: Option<u64>,
    next_lookup: u64,
    short: Option<Box<Result<Subscribe, Error>>>,
    is_short: bool,
    producing: Option<Box<Producing>>,
    requests: Vec<Request>,
    next_ticket: u64,
    next_tag: u64,
    errors: Errors,
    rate: Rate,
    /// A token is being checked for the `auth` frame with this id, or for `hello`.
    renewing: Option<Option<Id>>,
    hello: Option<Hello>,
    /// No frame has come yet.
    fresh: bool,
    heartbeat: Duration,
    last_frame: Instant,
    /// When the client is to be told that its credential expires, if it has not been.
    warn_at: Option<Instant>,
    next_pattern: Option<Instant>,
    closing: Option<Closing>,
    /// When a client of a gateway that stops is to connect again.
    reconnect_after_ms: u64,
    /// The socket is gone: nothing is sent any more.
    lost: bool,
    counted: Counted,
    produced: u64,
}

impl Session {
    /// A session that begins now, for `principal` if the upgrade has shown one. With `short` it
    /// subscribes at once, or after its `hello`.
    pub fn new(
        id: String,
        rules: Arc<Rules>,
        principal: Option<Principal>,
        short: Option<Result<Subscribe, Error>>,
        clock: Clock,
        now: Instant,
    ) -> Self {
        let mut session = Self {
            phase: Phase::Opened(now + rules.hello_timeout),
            id,
            rules,
            principal: None,
            clock,
            out: FrameQueue::default(),
            effects: Vec::new(),
            group: None,
            tails: Vec::new(),
            opening: Vec::new(),
            next_tail: 1,
            turn: 0,
            eof: false,
            pressure: 0,
            ended: None,
            subscribing: None,
            behind: Behind::default(),
            lookup: None,
            next_lookup: 1,
            is_short: short.is_some(),
            short: short.map(Box::new),
            producing: None,
            requests: Vec::new(),
            next_ticket: 1,
            next_tag: 1,
            errors: Errors::default(),
            rate: Rate::new(now),
            renewing: None,
            hello: None,
            fresh: true,
            heartbeat: Duration::from_millis(u64::try_from(HEARTBEAT_MS.2).unwrap_or(20_000)),
            last_frame: now,
            warn_at: None,
            next_pattern: None,
            closing: None,
            reconnect_after_ms: 0,
            lost: false,
            counted: Counted::default(),
            produced: 0,
        };
        if let Some(principal) = principal {
            session.belongs_to(principal, now);
            session.ready(None, now);
        }
        session
    }

    /// Its name in logs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whose it is, once that is known.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// The group that it is a member of.
    pub fn group(&self) -> Option<&Group> {
        self.group.as_deref()
    }

    /// Bytes of records that are kept for it: to be delivered, to be written, and answers.
    pub fn held_bytes(&self) -> u64 {
        self.group.as_ref().map_or(0, |group| group.held_bytes())
            + self.tails.iter().map(|tail| tail.held_bytes()).sum::<u64>()
            + self
                .producing
                .as_ref()
                .map_or(0, |producing| producing.bytes())
            + self.out.bytes() as u64
            + self.behind.bytes() as u64
    }

    /// What was counted since this was last asked; records written too.
    pub fn counted(&mut self) -> (Counted, u64) {
        let mut counted = std::mem::take(&mut self.counted);
        if let Some(group) = &mut self.group {
            let more = group.counted();
            counted.delivered += more.delivered;
            counted.redelivered += more.redelivered;
            counted.acks += more.acks;
            counted.nacks += more.nacks;
            counted.expired += more.expired;
            counted.dead_letters += more.dead_letters;
            counted.rebalances += more.rebalances;
        }
        for tail in &mut self.tails {
            counted.delivered += tail.delivered();
        }
        (counted, std::mem::take(&mut self.produced))
    }

    /// What is to be done; each is said once.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// How it ended, or is about to.
    pub fn end(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// Whether all that was to be said has been given out, so that the socket may be closed.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether it has no member any more, or none that it waits for.
    pub fn is_over(&self) -> bool {
        self.is_closed() && self.group.is_none()
    }

    /// Divides what may be in flight by two to this power, while memory is short.
    pub fn set_pressure(&mut self, pressure: u32) {
        // Subscriptions to come begin with it.
        self.pressure = pressure;
        if let Some(group) = &mut self.group {
            group.set_pressure(pressure);
        }
        for tail in &mut self.tails {
            tail.set_pressure(pressure);
        }
    }

    /// The subscription, with where it puts what is to be sent and done.
    fn with_group<T>(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut Group, &mut SessionContext<'_>) -> T,
    ) -> Option<T> {
        let group = self.group.as_mut()?;
        let said = self.out.len();
        let mut context = SessionContext {
            out: &mut self.out,
            effects: &mut self.effects,
            clock: self.clock,
            now,
        };
        let result = act(group, &mut context);
        // The member goes on for a moment, but nothing comes after goodbye.
        if self.lost || self.phase == Phase::Closed {
            self.out.truncate(said);
        }
        Some(result)
    }
}
