//! A session as a state machine without I/O: what came and the time go in; frames, and what is to be
//! done elsewhere, come out. `run.rs` is the thin shell that does it.
//!
//! ```text
//! Opened --credentials or hello--> Ready --drain--> Draining
//!    \------------- anything that ends it ------------> Closing: commit, goodbye, close, leave
//! ```
//!
//! - `mod.rs`: the phases of a session, and which frame goes where
//! - `group.rs`: the subscription of a group
//! - `options.rs`: its options
//! - `tails.rs`: subscriptions without a group, and tail/, one of them
//! - `produce.rs`: the window of what is written
//! - `meter.rs`: how often a client may do what costs us something
//! - `short.rs`: the short way, a subscription in the URL
//! - `run.rs`: the session, its member and its socket together

#![expect(
    clippy::result_large_err,
    reason = "an error here is a frame to be sent; the ways that may fail are not the hot ones"
)]

pub mod group;
mod meter;
pub mod options;
pub mod produce;
pub mod run;
pub mod short;
pub mod tail;
mod tails;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::protocol::client::{Bye, ClientFrame, FrameError, Hello, Mode, Produced, Subscribe};
use super::protocol::close::Close;
use super::protocol::server::{
    AuthExpiring, Committed, Done, Drain, Error, Goodbye, Heartbeat, Inflight, Limits, Pong,
    ProduceError, ProduceResult, ServerFrame, Subs, Unsubscribed, Welcome,
};
use super::protocol::{Id, MINOR};
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, decide, may};
use crate::auth::policy::{self, Sight};
use crate::delivery::DeadLetterId;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::member;
use crate::kafka::producer::Outcome;
use crate::record::Outgoing;
use crate::write::Rejected;
use group::{Counted, Ending, Over, Sink, Subscription};
use meter::{Errors, Rate};
use options::{Options, Topics};
use produce::{Admission, Producing, WINDOW, Weight};
use tail::MAX_TAILS;
use tails::Opening;

/// How long before its token expires a client is told.
const EXPIRY_NOTICE: Duration = Duration::from_secs(60);
/// How long after that the session ends.
const EXPIRY_LEEWAY: Duration = Duration::from_secs(5);
/// Bounds of `heartbeat_ms`, and what it is without.
const HEARTBEAT_MS: (i64, i64, i64) = (5_000, 60_000, 20_000);
/// How often the topics that a pattern matches are looked up again.
const PATTERN_REFRESH: Duration = Duration::from_secs(5);
/// What waits for a socket that takes nothing, beyond which it is cut.
const MOST_WAITING_BYTES: usize = 4 << 20;
/// What this gateway offers beyond the core.
const FEATURES: [&str; 2] = ["eof", "filter"];
/// Of these, what is on only for clients that ask for it.
const EOF: &str = "eof";
/// Longest `client` of `hello`, for the log.
const MAX_CLIENT: usize = 64;
/// After `produce_overrun`.
const OVERRUN_RETRY_MS: u64 = 100;
/// Within a draining gateway's time, what is kept for the last commits and frames.
const DRAIN_MARGIN: Duration = Duration::from_secs(2);

/// What all sessions of a process are held to.
#[derive(Debug, Clone)]
pub struct Rules {
    /// `auth.mode` is `none`.
    pub open: bool,
    /// Largest frame.
    pub max_frame: usize,
    /// How long a `hello` may take where one is needed.
    pub hello_timeout: Duration,
    /// How long a session may do nothing.
    pub idle_timeout: Duration,
    /// How long a revoked partition waits, unless the client says.
    pub revoke_grace: Duration,
    /// Most records with a client.
    pub max_inflight_records: u64,
    /// Most bytes with a client.
    pub max_inflight_bytes: u64,
    /// Most offsets between the first record that is not acknowledged and the last delivered.
    pub max_gap: i64,
    /// Most records that wait to come again.
    pub max_delayed: usize,
    /// The dead-letter topic, with `{topic}` for the record's own.
    pub dead_letter_topic: String,
}

/// The time of day at some moment, so that all later ones follow from it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    at: Instant,
    wall_ms: i64,
}

impl Clock {
    /// It is `wall_ms` milliseconds after 1970 at `at`.
    pub fn new(at: Instant, wall_ms: i64) -> Self {
        Self { at, wall_ms }
    }

    /// Milliseconds since 1970.
    pub fn wall(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.at).as_millis();
        self.wall_ms + i64::try_from(passed).unwrap_or(0)
    }

    /// As ISO 8601.
    pub fn iso(&self, now: Instant) -> String {
        jiff::Timestamp::from_millisecond(self.wall(now))
            .map(|time| time.to_string())
            .unwrap_or_default()
    }

    /// When it is `wall_ms`.
    fn at(&self, wall_ms: i64) -> Instant {
        match u64::try_from(wall_ms - self.wall_ms) {
            Ok(later) => self.at + Duration::from_millis(later),
            Err(_) => self.at,
        }
    }
}

/// Frames that go before records.
#[derive(Debug, Default)]
pub struct Out {
    frames: VecDeque<(Bytes, Option<Weight>)>,
    bytes: usize,
}

impl Out {
    fn push(&mut self, frame: &ServerFrame) {
        self.push_text(frame.text(), None);
    }

    fn push_text(&mut self, text: String, answers: Option<Weight>) {
        self.bytes += text.len();
        self.frames.push_back((Bytes::from(text), answers));
    }

    /// Puts those of another behind.
    fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        self.frames.append(&mut other.frames);
    }

    /// Takes back all but the first so many.
    fn cut(&mut self, frames: usize) {
        while self.frames.len() > frames
            && let Some((text, _)) = self.frames.pop_back()
        {
            self.bytes -= text.len();
        }
    }

    fn pop(&mut self) -> Option<(Bytes, Option<Weight>)> {
        let (text, answers) = self.frames.pop_front()?;
        self.bytes -= text.len();
        if self.frames.is_empty() && self.frames.capacity() > 64 {
            self.frames = VecDeque::new();
        }
        Some((text, answers))
    }
}

/// What is to be done outside of the session.
#[derive(Debug)]
pub enum Effect {
    /// Find out whose token this is; answered by [`Session::authenticated`].
    Authenticate(String),
    /// Find the topics of a subscription; answered by [`Session::resolved`].
    Resolve(Topics),
    /// Become a member; its events go to [`Session::member`].
    Join(Box<member::Options>),
    /// Tell the member.
    Command(member::Command),
    /// Write records; answered by [`Session::produced`].
    Produce {
        /// Comes back with the answer.
        ticket: u64,
        /// The topic.
        topic: String,
        /// The records, without those that are none.
        records: Vec<Outgoing>,
    },
    /// Write a dead letter; answered by [`Session::dead_lettered`].
    DeadLetter {
        /// Comes back with the answer.
        id: DeadLetterId,
        /// The topic.
        topic: String,
        /// It is the gateway's own choice, for which the client needs no right.
        own: bool,
        /// The record.
        record: Outgoing,
    },
    /// Do something for the tail with this id.
    Tail(u64, TailEffect),
}

/// What is to be done for a tail.
#[derive(Debug)]
pub enum TailEffect {
    /// Find where it begins, and follow; answered by [`Session::tail_opened`].
    Open(Box<tail::open::Ask>),
    /// Want nothing of these partitions of the topic at `index`, after some have been put back.
    Hold {
        /// The topic.
        index: usize,
        /// All partitions of it that are not wanted.
        held: Vec<i32>,
        /// Where partitions go on of which something was given back.
        rewound: crate::position::Offsets,
    },
    /// Go on elsewhere; answered by [`Session::tail_sought`].
    Seek(Option<Id>, Vec<tail::open::Seek>),
    /// Find where these partitions end; answered by [`Session::tail_ends`].
    Ends(Option<Id>, Vec<(Arc<str>, Vec<i32>)>),
}

/// Whose token it is, or why it is none.
pub type Authenticated = Result<Principal, String>;

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

/// A `produce` request that waits for its answer.
#[derive(Debug)]
struct Request {
    ticket: u64,
    id: Id,
    weight: Weight,
    /// What is wrong with records that were not handed on, by their place.
    unfit: Vec<(usize, ProduceError)>,
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
    out: Out,
    effects: Vec<Effect>,
    group: Option<Box<Subscription>>,
    tails: Vec<tail::Tail>,
    /// Tails that are being opened.
    opening: Vec<Opening>,
    next_tail: u64,
    /// Which subscription is asked first for records.
    turn: usize,
    /// The client asked for `eof`.
    eof: bool,
    /// By which power of two windows are divided.
    squeeze: u32,
    /// The name of the subscription that ended last.
    ended: Option<String>,
    /// A subscription whose topics are being looked up.
    subscribing: Option<Box<Options>>,
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
    expiring_told: bool,
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
            principal,
            clock,
            out: Out::default(),
            effects: Vec::new(),
            group: None,
            tails: Vec::new(),
            opening: Vec::new(),
            next_tail: 1,
            turn: 0,
            eof: false,
            squeeze: 0,
            ended: None,
            subscribing: None,
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
            expiring_told: false,
            next_pattern: None,
            closing: None,
            reconnect_after_ms: 0,
            lost: false,
            counted: Counted::default(),
            produced: 0,
        };
        if session.principal.is_some() {
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
    pub fn group(&self) -> Option<&Subscription> {
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
            + self.out.bytes as u64
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
    pub fn squeeze(&mut self, squeeze: u32) {
        // Subscriptions to come begin with it.
        self.squeeze = squeeze;
        if let Some(group) = &mut self.group {
            group.squeeze(squeeze);
        }
        for tail in &mut self.tails {
            tail.squeeze(squeeze);
        }
    }

    /// After how long without a frame a heartbeat is due.
    pub fn heartbeat_after(&self) -> Option<Duration> {
        matches!(self.phase, Phase::Ready | Phase::Draining(_)).then_some(self.heartbeat)
    }

    /// The text of a heartbeat.
    pub fn heartbeat(&self, now: Instant) -> Bytes {
        let t = self.clock.wall(now);
        ServerFrame::Heartbeat(Heartbeat { t }).text().into()
    }

    /// The subscription, with where it puts what is to be sent and done.
    fn with_group<T>(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut Subscription, &mut Sink<'_>) -> T,
    ) -> Option<T> {
        let group = self.group.as_mut()?;
        let said = self.out.frames.len();
        let mut sink = Sink {
            out: &mut self.out,
            effects: &mut self.effects,
            clock: self.clock,
            now,
        };
        let result = act(group, &mut sink);
        // The member goes on for a moment, but nothing comes after goodbye.
        if self.lost || self.phase == Phase::Closed {
            self.out.cut(said);
        }
        Some(result)
    }

    fn send(&mut self, frame: &ServerFrame) {
        if !self.lost && self.phase != Phase::Closed {
            self.out.push(frame);
        }
    }

    /// Says an error; too many that are the client's own end the session.
    fn error(&mut self, error: Error, now: Instant) {
        let excused = matches!(
            error.code,
            "produce_overrun"
                | "rate_limited"
                | "ack_stale"
                | "kafka_error"
                | "kafka_unavailable"
                | "timeout"
                | "draining"
                | "overrun"
        );
        self.send(&ServerFrame::Error(error));
        if !excused && !self.errors.count(now) {
            self.close(
                Close::TooManyErrors,
                "50 frames in a minute were refused",
                now,
            );
        }
    }

    // The session's course.

    fn ready(&mut self, hello: Option<Hello>, now: Instant) {
        self.phase = Phase::Ready;
        self.welcome(hello, now);
        match self.short.take().map(|short| *short) {
            Some(Ok(short)) => self.subscribe(short, now),
            Some(Err(error)) => self.refuse_subscription(error, now),
            None => {}
        }
    }

    fn welcome(&mut self, hello: Option<Hello>, now: Instant) {
        let id = hello.as_ref().and_then(|hello| hello.id.clone());
        if let Some(ms) = hello.as_ref().and_then(|hello| hello.heartbeat_ms) {
            let ms = ms.clamp(HEARTBEAT_MS.0, HEARTBEAT_MS.1);
            self.heartbeat = Duration::from_millis(u64::try_from(ms).unwrap_or(20_000));
        }
        if let Some(features) = hello.as_ref().and_then(|hello| hello.features.as_ref()) {
            self.eof = features.iter().any(|feature| feature == EOF);
        }
        if let Some(client) = hello.and_then(|hello| hello.client) {
            let client: String = client.chars().take(MAX_CLIENT).collect();
            tracing::debug!(session = self.id, client, "a client says what it is");
        }
        let principal = self
            .principal
            .as_ref()
            .filter(|principal| !principal.is_anonymous())
            .map(|principal| principal.name().to_owned());
        let welcome = Welcome {
            id,
            session: self.id.clone(),
            resume: None,
            minor: MINOR,
            features: FEATURES.to_vec(),
            principal,
            limits: Limits {
                max_frame: self.rules.max_frame,
                produce_window: WINDOW,
                max_inflight: Inflight {
                    records: self.rules.max_inflight_records,
                    bytes: self.rules.max_inflight_bytes,
                },
                subs: Subs {
                    group: 1,
                    tail: u32::try_from(MAX_TAILS).unwrap_or(0),
                },
            },
            heartbeat_ms: u64::try_from(self.heartbeat.as_millis()).unwrap_or(0),
            server_time: self.clock.wall(now),
            resumed: false,
        };
        self.send(&ServerFrame::Welcome(welcome));
        self.tell_expiry(now);
    }

    fn expires(&self) -> Option<Instant> {
        let expires = self.principal.as_ref()?.expires()?;
        let ms = i64::try_from(expires).ok()?.checked_mul(1_000)?;
        Some(self.clock.at(ms))
    }

    /// Tells the client once that its token is about to expire.
    fn tell_expiry(&mut self, now: Instant) {
        let Some(at) = self.expires() else {
            return;
        };
        if self.expiring_told || now + EXPIRY_NOTICE < at {
            return;
        }
        self.expiring_told = true;
        let left = at.saturating_duration_since(now).as_millis();
        self.send(&ServerFrame::AuthExpiring(AuthExpiring {
            at: self.clock.wall(at),
            in_ms: i64::try_from(left).unwrap_or(0),
        }));
    }

    /// Begins to end: commits what is acknowledged, then says goodbye.
    pub fn close(&mut self, close: Close, message: impl Into<String>, now: Instant) {
        self.close_with(
            Closing {
                close,
                message: message.into(),
                retry_after_ms: None,
                bye: None,
            },
            true,
            false,
            now,
        );
    }

    fn close_with(&mut self, closing: Closing, commit: bool, leave: bool, now: Instant) {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        self.phase = Phase::Closing;
        self.closing = Some(closing);
        self.subscribing = None;
        self.drop_tails();
        let stay = self
            .group
            .as_ref()
            .is_some_and(|group| group.instance_id().is_some())
            && !leave;
        self.with_group(now, |group, sink| {
            group.end(Ending::Session, commit, stay, sink);
        });
        self.close_further();
    }

    /// Says goodbye once the last commit has its answer.
    fn close_further(&mut self) {
        let committed = self
            .group
            .as_ref()
            .is_none_or(|group| group.has_committed());
        if self.phase != Phase::Closing || !committed {
            return;
        }
        let committed = self
            .group
            .as_ref()
            .map(|group| group.last_committed())
            .unwrap_or_default();
        if let Some(closing) = self.closing.clone() {
            if let Some(id) = closing.bye {
                let positions =
                    committed
                        .iter()
                        .map(|at| super::protocol::server::CommittedOffset {
                            topic: at.topic.clone(),
                            partition: at.partition,
                            offset: at.offset,
                            error: None,
                        });
                self.send(&ServerFrame::Committed(Committed {
                    id,
                    sub: self.group.as_ref().map(|group| group.name().to_owned()),
                    positions: positions.collect(),
                }));
            }
            self.send(&ServerFrame::Goodbye(Goodbye {
                code: closing.close.code(),
                name: closing.close.name(),
                message: closing.message,
                retry_after_ms: closing.retry_after_ms,
                resume: None,
                committed,
            }));
        }
        self.phase = Phase::Closed;
    }

    /// The gateway is about to stop: nothing new, and an end once nothing is outstanding, at the
    /// latest after `grace`. The client is asked to connect again after `reconnect_after`.
    pub fn drain(&mut self, grace: Duration, reconnect_after: Duration, now: Instant) {
        if matches!(
            self.phase,
            Phase::Closing | Phase::Closed | Phase::Draining(_)
        ) {
            return;
        }
        let grace = grace.saturating_sub(DRAIN_MARGIN);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(0);
        self.phase = Phase::Draining(now + grace);
        self.send(&ServerFrame::Drain(Drain {
            deadline_ms: ms(grace),
            resume: None,
            reconnect_after_ms: ms(reconnect_after),
            tails: self.tail_positions(),
        }));
        self.short = None;
        self.reconnect_after_ms = ms(reconnect_after);
        self.drain_further(now);
    }

    fn drain_further(&mut self, now: Instant) {
        let Phase::Draining(until) = self.phase else {
            return;
        };
        let quiet =
            self.requests.is_empty() && self.group.as_ref().is_none_or(|group| group.is_quiet());
        if !quiet && now < until {
            return;
        }
        self.close_with(
            Closing {
                close: Close::Drained,
                message: "the gateway stops; connect again".to_owned(),
                retry_after_ms: Some(self.reconnect_after_ms),
                bye: None,
            },
            true,
            false,
            now,
        );
    }

    /// The socket is gone: what is acknowledged is committed and the group left.
    pub fn lost(&mut self, now: Instant) {
        self.lost = true;
        self.close(Close::Bye, "the connection was lost", now);
        self.out = Out::default();
        self.phase = match self.phase {
            Phase::Closing => Phase::Closing,
            _ => Phase::Closed,
        };
    }

    // What came.

    /// A frame of the client.
    pub fn text(&mut self, text: &Bytes, now: Instant) {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        self.came(text, now);
        if self.out.bytes > MOST_WAITING_BYTES {
            self.close(
                Close::SlowConsumer,
                "answers wait and the client does not read them",
                now,
            );
        }
    }

    fn came(&mut self, text: &Bytes, now: Instant) {
        self.last_frame = now;
        let first = std::mem::replace(&mut self.fresh, false);
        let frame = match ClientFrame::parse(text) {
            Ok(frame) => frame,
            Err(FrameError::Fatal(message)) => {
                return self.close(Close::ProtocolError, message, now);
            }
            Err(_) if !self.is_known() => return self.not_yet(now),
            Err(FrameError::UnknownType { id, kind }) => {
                let message = format!("there is no frame of type {kind}");
                let error = Error {
                    id,
                    field: Some("type".to_owned()),
                    ..Error::new("unknown_type", message)
                };
                return self.error(error, now);
            }
            Err(FrameError::Invalid {
                id,
                sub,
                field,
                message,
            }) => {
                let error = Error {
                    id,
                    sub,
                    field,
                    ..Error::new("invalid_frame", message)
                };
                return self.error(error, now);
            }
        };
        if !self.is_known() {
            return match frame {
                ClientFrame::Hello(hello) if matches!(self.phase, Phase::Opened(_)) => {
                    self.hello(hello, now);
                }
                _ => self.not_yet(now),
            };
        }
        if !frame.is_unlimited() && !self.rate.admits(now) {
            let error = Error {
                id: frame.id().cloned(),
                retriable: true,
                retry_after_ms: Some(1_000),
                ..Error::new("rate_limited", "more than 2000 frames in a second")
            };
            return self.error(error, now);
        }
        self.frame(frame, first, now);
    }

    fn is_known(&self) -> bool {
        !matches!(self.phase, Phase::Opened(_) | Phase::Checking)
    }

    fn not_yet(&mut self, now: Instant) {
        self.close(
            Close::ProtocolError,
            "nothing but hello, with a token, may come before welcome",
            now,
        );
    }

    fn hello(&mut self, hello: Hello, now: Instant) {
        if self.principal.is_some() {
            return self.ready(Some(hello), now);
        }
        match hello.token.clone() {
            Some(token) => {
                self.phase = Phase::Checking;
                self.renewing = Some(hello.id.clone());
                self.hello = Some(hello);
                self.effects.push(Effect::Authenticate(token));
            }
            None => self.close(
                Close::Unauthenticated,
                "hello has no token, and the upgrade had no credentials",
                now,
            ),
        }
    }

    fn frame(&mut self, frame: ClientFrame, first: bool, now: Instant) {
        let frame = if frame.sub().is_some() && !self.tails.is_empty() {
            match self.for_tail(frame, now) {
                Some(frame) => frame,
                None => return,
            }
        } else {
            frame
        };
        match frame {
            ClientFrame::Hello(hello) if first => self.ready_again(hello, now),
            ClientFrame::Hello(hello) => {
                let error = Error {
                    id: hello.id,
                    ..Error::new("unexpected_hello", "hello is the first frame or none")
                };
                self.error(error, now);
            }
            ClientFrame::Auth(auth) => self.auth(auth.id, auth.token, now),
            ClientFrame::Subscribe(subscribe) => self.subscribe(*subscribe, now),
            ClientFrame::Unsubscribe(unsubscribe) => {
                let ending = Ending::Unsubscribe(unsubscribe.id.clone());
                let commit = unsubscribe.commit.unwrap_or(true);
                self.on_group(&unsubscribe.sub, unsubscribe.id, now, |group, sink| {
                    group.end(ending, commit, false, sink);
                    Ok(None)
                });
            }
            ClientFrame::Ack(ack) => {
                let id = ack.id.clone();
                let sub = ack.sub.clone();
                self.on_group(&sub, id, now, |group, sink| group.ack(ack, sink));
            }
            ClientFrame::Nack(nack) => {
                let id = nack.id.clone();
                let sub = nack.sub.clone();
                self.on_group(&sub, id, now, |group, sink| group.nack(nack, sink));
            }
            ClientFrame::Extend(extend) => {
                let id = extend.id.clone();
                let sub = extend.sub.clone();
                self.on_group(&sub, id, now, |group, sink| group.extend(extend, sink));
            }
            ClientFrame::Commit(commit) => {
                let id = commit.id.clone();
                let sub = commit.sub.clone();
                self.on_group(&sub, id, now, |group, sink| {
                    group.commit(commit, sink).map(|()| None)
                });
            }
            ClientFrame::Credit(credit) => {
                self.on_group(&credit.sub, credit.id, now, |group, _| {
                    group.credit(credit.records, credit.bytes).map(|()| None)
                });
            }
            ClientFrame::Pause(pause) => {
                let (id, sub) = (pause.id.clone(), pause.sub.clone());
                self.on_group(&sub, id, now, |group, sink| {
                    group.pause(pause, true, sink).map(|()| None)
                });
            }
            ClientFrame::Resume(pause) => {
                let (id, sub) = (pause.id.clone(), pause.sub.clone());
                self.on_group(&sub, id, now, |group, sink| {
                    group.pause(pause, false, sink).map(|()| None)
                });
            }
            ClientFrame::Seek(seek) => {
                let (id, sub) = (seek.id.clone(), seek.sub.clone());
                self.on_group(&sub, id, now, |group, sink| {
                    group.seek(seek, sink).map(|()| None)
                });
            }
            ClientFrame::Position(position) => {
                let id = position.id.clone();
                self.on_group(&position.sub, position.id, now, |group, sink| {
                    group.position(id, sink).map(|()| None)
                });
            }
            ClientFrame::Produce(produced) => self.produce(*produced, now),
            ClientFrame::Ping(ping) => self.send(&ServerFrame::Pong(Pong {
                id: ping.id,
                t: ping.t,
            })),
            ClientFrame::Bye(bye) => self.bye(bye, now),
        }
    }

    fn ready_again(&mut self, hello: Hello, now: Instant) {
        match hello.token.clone() {
            // A second one is as good as `auth`, with `welcome` for an answer.
            Some(token) if !self.rules.open => {
                self.renewing = Some(hello.id.clone());
                self.hello = Some(hello);
                self.effects.push(Effect::Authenticate(token));
            }
            _ => {
                self.welcome(Some(hello), now);
            }
        }
    }

    fn auth(&mut self, id: Option<Id>, token: String, now: Instant) {
        if self.rules.open {
            return self.send(&ServerFrame::Ok(Done {
                id,
                ..Done::default()
            }));
        }
        if self.renewing.is_some() {
            let error = Error {
                id,
                retriable: true,
                ..Error::new("limit_exceeded", "another token is being checked")
            };
            return self.error(error, now);
        }
        self.renewing = Some(id);
        self.effects.push(Effect::Authenticate(token));
    }

    fn bye(&mut self, bye: Bye, now: Instant) {
        self.close_with(
            Closing {
                close: Close::Bye,
                message: "bye".to_owned(),
                retry_after_ms: None,
                bye: Some(bye.id),
            },
            bye.commit.unwrap_or(true),
            bye.leave.unwrap_or(false),
            now,
        );
    }

    /// Hands a frame to the subscription that it names.
    fn on_group(
        &mut self,
        sub: &str,
        id: Option<Id>,
        now: Instant,
        act: impl FnOnce(&mut Subscription, &mut Sink<'_>) -> Result<Option<Error>, Error>,
    ) {
        let known = self
            .group
            .as_ref()
            .is_some_and(|group| group.name() == sub && !group.is_leaving());
        let done = if known {
            self.with_group(now, act)
        } else {
            None
        };
        // Not the client's fault: what it had begun when the subscription ended comes in late.
        let is_late = done.is_none()
            && (self.ended.as_deref() == Some(sub)
                || self.group.as_ref().is_some_and(|group| group.name() == sub));
        let error = match done {
            Some(Ok(None)) => None,
            Some(Ok(Some(error)) | Err(error)) => Some(error),
            None => {
                let sub: String = sub.chars().take(64).collect();
                Some(Error {
                    field: Some("sub".to_owned()),
                    ..Error::new(
                        "unknown_sub",
                        format!("sub: there is no subscription {sub}"),
                    )
                })
            }
        };
        if let Some(error) = error {
            let error = Error {
                id,
                sub: Some(sub.chars().take(64).collect()),
                ..error
            };
            if is_late {
                self.send(&ServerFrame::Error(error));
            } else {
                self.error(error, now);
            }
        }
        self.settle(now);
    }

    /// What a change may have made possible.
    fn settle(&mut self, now: Instant) {
        self.close_further();
        if matches!(self.phase, Phase::Draining(_)) {
            self.drain_further(now);
        }
    }

    fn subscribe(&mut self, asked: Subscribe, now: Instant) {
        let id = asked.id.clone();
        let sub: String = asked.sub.chars().take(64).collect();
        if let Err(error) = self.try_subscribe(asked) {
            let error = Error {
                id,
                sub: Some(sub),
                ..error
            };
            self.refuse_subscription(error, now);
        }
    }

    /// In the short way there is no frame to answer, so the session ends.
    fn refuse_subscription(&mut self, error: Error, now: Instant) {
        let is_short = error.sub.as_deref().is_none_or(|sub| sub == short::SUB);
        if !(is_short && std::mem::take(&mut self.is_short)) {
            return self.error(error, now);
        }
        let close = match error.code {
            "forbidden" => Close::Forbidden,
            "topic_not_found" => Close::NotFound,
            "kafka_unavailable" | "timeout" => Close::KafkaUnavailable,
            "kafka_error" => Close::Internal,
            "overrun" => Close::SlowConsumer,
            "limit_exceeded" | "draining" if error.retriable => Close::Overloaded,
            _ => Close::InvalidSubscription,
        };
        self.close(close, error.message, now);
    }

    fn try_subscribe(&mut self, asked: Subscribe) -> Result<(), Error> {
        if matches!(self.phase, Phase::Draining(_)) {
            return Err(draining());
        }
        options::check_sub(&asked.sub)?;
        if self.is_taken(&asked.sub) {
            return Err(Error {
                field: Some("sub".to_owned()),
                ..Error::new(
                    "already_subscribed",
                    format!("sub: {} is a subscription already", asked.sub),
                )
            });
        }
        if options::mode(&asked) == Mode::Tail {
            return self.open_tail(tail::options::Options::new(asked, &self.rules)?);
        }
        let options = Options::new(asked, &self.rules)?;
        if self.group.is_some() || self.subscribing.is_some() {
            return Err(Error::new(
                "limit_exceeded",
                "a session has at most one group subscription",
            ));
        }
        self.check_rights(&options)?;
        self.effects.push(Effect::Resolve(options.topics.clone()));
        self.subscribing = Some(Box::new(options));
        Ok(())
    }

    /// Whether a subscription, or one that is being made, is called so.
    fn is_taken(&self, name: &str) -> bool {
        let group = self.group.as_ref().map(|group| group.name());
        let subscribing = self.subscribing.as_ref().map(|o| o.sub.as_str());
        let tails = self.tails.iter().map(|tail| tail.name());
        let opening = self.opening.iter().map(|opening| opening.name());
        group
            .into_iter()
            .chain(subscribing)
            .chain(tails)
            .chain(opening)
            .any(|taken| taken == name)
    }

    fn check_rights(&self, options: &Options) -> Result<(), Error> {
        let Some(principal) = &self.principal else {
            return Err(Error::new("forbidden", "nobody is known yet"));
        };
        let forbidden =
            |denied: crate::auth::permission::Denied| Error::new("forbidden", denied.to_string());
        decide(principal, Action::Group, Resource::Group(&options.group)).map_err(forbidden)?;
        if let Topics::Names(names) = &options.topics {
            for name in names {
                decide(principal, Action::Consume, Resource::Topic(name)).map_err(forbidden)?;
            }
        }
        if let options::DeadLetters::Topic(topic) = &options.dead_letters {
            decide(principal, Action::Produce, Resource::Topic(topic)).map_err(forbidden)?;
        }
        Ok(())
    }

    /// The topics of a subscription were found: those of a list all exist, those of a pattern are
    /// all there are.
    pub fn resolved(&mut self, found: Result<Vec<Arc<str>>, Fault>, now: Instant) {
        let Some(options) = self.subscribing.take() else {
            return self.retopic(found, now);
        };
        let id = options.id().cloned();
        let sub = options.sub.clone();
        let topics = found
            .map(|topics| self.allowed(&options.topics, topics))
            .map_err(|fault| topic_error(&fault))
            .and_then(|topics| {
                if topics.is_empty() {
                    return Err(Error {
                        field: Some("pattern".to_owned()),
                        ..Error::new(
                            "topic_not_found",
                            "pattern: no topic matches that you may consume",
                        )
                    });
                }
                // The token may have been renewed since.
                self.check_rights(&options)?;
                let sight = self.sight(&topics)?;
                Ok((topics, sight))
            });
        let (topics, sight) = match topics {
            Ok(topics) => topics,
            Err(error) => {
                let error = Error {
                    id,
                    sub: Some(sub),
                    ..error
                };
                return self.refuse_subscription(error, now);
            }
        };
        self.send(&ServerFrame::Subscribed(Box::new(
            options.subscribed(&topics),
        )));
        self.effects.push(Effect::Join(Box::new(member::Options {
            group: options.group.clone(),
            instance_id: options.instance_id.clone(),
            topics: topics.clone(),
            isolation: options.isolation,
            from: options.from.clone(),
            reset: options.reset,
        })));
        self.next_pattern =
            matches!(options.topics, Topics::Pattern(_)).then(|| now + PATTERN_REFRESH);
        let mut group = Subscription::new(*options, topics, sight, self.next_tag, now);
        group.squeeze(self.squeeze);
        self.group = Some(Box::new(group));
    }

    /// Which of their records the principal is shown.
    fn sight(&self, topics: &[Arc<str>]) -> Result<Sight, Error> {
        let Some(principal) = &self.principal else {
            return Err(Error::new("forbidden", "nobody is known yet"));
        };
        policy::sight(principal, topics)
            .map_err(|hidden| Error::new("forbidden", hidden.to_string()))
    }

    /// What the principal is shown must still be this.
    fn check_sight(&self, sight: &Sight, topics: &[Arc<str>]) -> Result<(), Error> {
        if self.sight(topics)? == *sight {
            return Ok(());
        }
        Err(Error::new(
            "forbidden",
            "the new token is shown other records (auth.topic_filters): subscribe again",
        ))
    }

    /// Of what a pattern finds, what the principal may consume.
    fn allowed(&self, asked: &Topics, found: Vec<Arc<str>>) -> Vec<Arc<str>> {
        let Topics::Pattern(pattern) = asked else {
            return found;
        };
        let Some(principal) = &self.principal else {
            return Vec::new();
        };
        let mut topics = found;
        topics.retain(|name| {
            pattern.matches(name)
                && may(principal, Action::Consume, Resource::Topic(name))
                && policy::may_see(principal, name)
        });
        topics.sort_unstable();
        topics
    }

    fn retopic(&mut self, found: Result<Vec<Arc<str>>, Fault>, now: Instant) {
        let asked = match &self.group {
            Some(group) => group.asked().clone(),
            None => return,
        };
        if let Ok(found) = found {
            let topics = self.allowed(&asked, found);
            // What still comes of topics that it had is shown as before.
            let before = self.group.iter().flat_map(|group| group.topics());
            let all: Vec<_> = topics.iter().chain(before).cloned().collect();
            if let Ok(sight) = self.sight(&all) {
                self.with_group(now, |group, sink| group.retopic(topics, sight, sink));
            }
        }
    }

    /// The topics as a member cannot be made of them.
    pub fn not_joined(&mut self, fault: Fault, now: Instant) {
        self.over(Over::Failed(fault), now);
    }

    /// Something happened in the group.
    pub fn member(&mut self, event: member::Event, now: Instant) {
        let over = self.with_group(now, |group, sink| group.event(event, sink));
        if let Some(Some(over)) = over {
            self.over(over, now);
        }
        self.settle(now);
    }

    fn over(&mut self, over: Over, now: Instant) {
        let Some(mut group) = self.group.take() else {
            return;
        };
        self.next_tag = group.next_tag();
        let counted = group.counted();
        self.counted = counted;
        self.next_pattern = None;
        let sub = group.name().to_owned();
        self.ended = Some(sub.clone());
        match over {
            Over::Ended(Ending::Unsubscribe(id)) => {
                self.send(&ServerFrame::Unsubscribed(Unsubscribed { id, sub }));
            }
            Over::Ended(Ending::Forbidden | Ending::Session) => {}
            Over::Failed(fault) => {
                let fenced = matches!(
                    fault.kafka_error,
                    Some("FENCED_INSTANCE_ID" | "FENCED_MEMBER_EPOCH")
                );
                let taken = fault.kafka_error == Some("UNRELEASED_INSTANCE_ID");
                if fenced || taken {
                    let close = if fenced {
                        Close::Fenced
                    } else {
                        Close::TakenOver
                    };
                    return self.close(close, fault.message, now);
                }
                let error = Error {
                    sub: Some(sub),
                    ..topic_error(&fault)
                };
                self.refuse_subscription(error, now);
            }
        }
    }

    /// Whose the token is.
    pub fn authenticated(&mut self, found: Authenticated, now: Instant) {
        let Some(id) = self.renewing.take() else {
            return;
        };
        let hello = self.hello.take();
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        let principal = match found {
            Ok(principal) => principal,
            Err(message) => return self.close(Close::Unauthenticated, message, now),
        };
        if self
            .principal
            .as_ref()
            .is_some_and(|known| known.name() != principal.name())
        {
            return self.close(
                Close::Unauthenticated,
                "the new token is another subject's",
                now,
            );
        }
        self.principal = Some(principal);
        self.expiring_told = false;
        if self.phase == Phase::Checking {
            return self.ready(hello, now);
        }
        match hello {
            Some(hello) => {
                self.welcome(Some(hello), now);
            }
            None => {
                self.send(&ServerFrame::Ok(Done {
                    id,
                    ..Done::default()
                }));
                self.tell_expiry(now);
            }
        }
        self.check_kept_rights(now);
        self.check_tails(now);
    }

    /// A right that the new token does not have ends the subscription that needs it. So does a claim
    /// by which the new one is shown other records: what waits to be delivered was picked by the old.
    fn check_kept_rights(&mut self, now: Instant) {
        let (Some(group), Some(principal)) = (&self.group, &self.principal) else {
            return;
        };
        let of_group = decide(principal, Action::Group, Resource::Group(group.group()));
        let of_topics = group.topics().iter().map(|topic| {
            let denied = decide(principal, Action::Consume, Resource::Topic(topic));
            denied.map(|_| ())
        });
        let denied = std::iter::once(of_group)
            .chain(of_topics)
            .find_map(Result::err);
        let seen: Vec<_> = group.sees().topics().cloned().collect();
        let sees_other = || self.check_sight(group.sees(), &seen).err();
        let denied = denied
            .map(|denied| Error::new("forbidden", denied.to_string()))
            .or_else(sees_other);
        if let Some(denied) = denied {
            let error = Error {
                sub: Some(group.name().to_owned()),
                ..denied
            };
            self.error(error, now);
            self.with_group(now, |group, sink| {
                group.end(Ending::Forbidden, true, false, sink);
            });
        }
    }

    // Writing.

    fn produce(&mut self, frame: Produced, now: Instant) {
        let id = frame.id.clone();
        if let Err(error) = self.try_produce(frame, now) {
            let error = Error {
                id: Some(id),
                ..error
            };
            self.error(error, now);
        }
    }

    fn try_produce(&mut self, frame: Produced, now: Instant) -> Result<(), Error> {
        if matches!(self.phase, Phase::Draining(_)) {
            return Err(draining());
        }
        if frame.tx {
            return Err(Error {
                field: Some("tx".to_owned()),
                ..Error::new("tx_state", "tx: this gateway offers no transactions")
            });
        }
        if self.expires().is_some_and(|at| now > at + EXPIRY_LEEWAY) {
            return Err(Error::new("forbidden", "the token has expired"));
        }
        if frame.records.is_empty() {
            return Err(Error {
                field: Some("records".to_owned()),
                ..Error::new("invalid_frame", "records: expected at least one")
            });
        }
        let bytes: usize = frame.records.iter().flatten().map(Outgoing::size).sum();
        let weight = Weight {
            records: frame.records.len() as u64,
            bytes: bytes as u64,
        };
        let producing = self.producing.get_or_insert_default();
        match producing.admit(&frame.id, weight, now) {
            Admission::Admitted => {}
            Admission::Open => {
                return Err(Error {
                    field: Some("id".to_owned()),
                    ..Error::new("duplicate_id", "id: a request with it waits for its answer")
                });
            }
            Admission::Answered(results) => {
                let id = serde_json::to_string(&frame.id).unwrap_or_default();
                let text = format!(
                    "{{\"type\":\"produced\",\"id\":{id},\"results\":{results},\"duplicate\":true}}"
                );
                self.out.push_text(text, None);
                return Ok(());
            }
            Admission::Overrun(for_long) => {
                if for_long {
                    self.close(
                        Close::RateLimited,
                        "for 30 s every produce was beyond the window",
                        now,
                    );
                }
                return Err(Error {
                    retriable: true,
                    retry_after_ms: Some(OVERRUN_RETRY_MS),
                    ..Error::new(
                        "produce_overrun",
                        "more than welcome.limits.produce_window waits for an answer; nothing of \
                         this request was written",
                    )
                });
            }
        }
        let mut records = Vec::with_capacity(frame.records.len());
        let mut unfit = Vec::new();
        for (index, record) in frame.records.into_iter().enumerate() {
            match record {
                Ok(record) => records.push(record),
                Err(wrong) => unfit.push((
                    index,
                    ProduceError {
                        code: "invalid_record",
                        field: wrong.field.map(|field| format!("/records/{index}{field}")),
                        message: wrong.message,
                        retriable: false,
                        kafka_error: None,
                        maybe_written: false,
                    },
                )),
            }
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.requests.push(Request {
            ticket,
            id: frame.id,
            weight,
            unfit,
        });
        // Also when no record is left: the topic and the right to it are looked at all the same.
        self.effects.push(Effect::Produce {
            ticket,
            topic: frame.topic,
            records,
        });
        Ok(())
    }

    /// What became of a request.
    pub fn produced(&mut self, ticket: u64, outcome: Result<Vec<Outcome>, Rejected>, now: Instant) {
        let Some(index) = self.requests.iter().position(|r| r.ticket == ticket) else {
            return;
        };
        let request = self.requests.swap_remove(index);
        match outcome {
            Err(rejected) => {
                if let Some(producing) = &mut self.producing {
                    producing.answered(&request.id, None, now);
                    producing.gone(request.weight);
                }
                let error = Error {
                    id: Some(request.id),
                    ..rejection(&rejected)
                };
                self.error(error, now);
            }
            Ok(outcomes) => {
                self.produced += outcomes.iter().filter(|o| o.is_ok()).count() as u64;
                let results = results(outcomes, request.unfit);
                let results = serde_json::to_string(&results).unwrap_or_default();
                if let Some(producing) = &mut self.producing {
                    producing.answered(&request.id, Some(&results), now);
                }
                let id = serde_json::to_string(&request.id).unwrap_or_default();
                let text = format!("{{\"type\":\"produced\",\"id\":{id},\"results\":{results}}}");
                if !self.lost && self.phase != Phase::Closed {
                    self.out.push_text(text, Some(request.weight));
                }
            }
        }
        self.settle(now);
    }

    /// What became of a dead letter.
    pub fn dead_lettered(&mut self, id: DeadLetterId, failed: Option<&Fault>, now: Instant) {
        self.with_group(now, |group, sink| group.dead_lettered(id, failed, sink));
        self.settle(now);
    }

    // What goes out.

    /// The next text to send. `room` is how many bytes of records may go; 0 asks only for what must
    /// not wait for records.
    pub fn next_frame(&mut self, room: usize, now: Instant) -> Option<Bytes> {
        if let Some((text, answers)) = self.out.pop() {
            if let (Some(weight), Some(producing)) = (answers, &mut self.producing) {
                producing.gone(weight);
            }
            return Some(text);
        }
        // Draining, nothing new goes out.
        if self.phase != Phase::Ready {
            return None;
        }
        // Each subscription is asked first once in a while, so that none keeps the others from it.
        let count = self.tails.len() + 1;
        for nth in 0..count {
            let at = (self.turn + nth) % count;
            let frame = match at.checked_sub(1) {
                Some(tail) => self.next_of_tail(tail, room, now),
                None => self.next_of_group(room, now),
            };
            if let Some(frame) = frame {
                self.turn = (at + 1) % count;
                return Some(Bytes::from(frame));
            }
            // Something that goes first may have come of it.
            if let Some((text, _)) = self.out.pop() {
                return Some(text);
            }
            if self.phase != Phase::Ready {
                return None;
            }
        }
        None
    }

    fn next_of_group(&mut self, room: usize, now: Instant) -> Option<Vec<u8>> {
        match self.with_group(now, |group, sink| group.next_frame(room, sink))? {
            Ok(frame) => frame,
            Err(message) => {
                self.close(Close::DecodeError, message, now);
                None
            }
        }
    }

    /// All that was given by [`Session::next_frame`] has been taken by the socket.
    pub fn flushed(&mut self, now: Instant) {
        self.with_group(now, |group, sink| group.flushed(sink));
        for tail in &mut self.tails {
            tail.flushed();
        }
        self.settle(now);
    }

    // Time.

    /// When [`Session::tick`] will have something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Opened(until) | Phase::Draining(until) => Some(until),
            Phase::Checking | Phase::Closing | Phase::Closed => None,
            Phase::Ready => self
                .is_idle()
                .then(|| self.last_frame + self.rules.idle_timeout),
        };
        let expiry = self.expires().filter(|_| !self.is_ending()).map(|at| {
            if self.expiring_told {
                at + EXPIRY_LEEWAY
            } else {
                at.checked_sub(EXPIRY_NOTICE).unwrap_or(at)
            }
        });
        let group = self.group.as_ref().and_then(|group| group.next_tick());
        let pattern = self.next_pattern.filter(|_| !self.is_ending());
        let tails = self.tails.iter().filter_map(|tail| tail.next_tick()).min();
        [phase, expiry, group, pattern, tails]
            .into_iter()
            .flatten()
            .min()
    }

    /// Nothing goes on but what the client may ask for next.
    fn is_idle(&self) -> bool {
        self.group.is_none()
            && self.subscribing.is_none()
            && self.requests.is_empty()
            && self.tails.is_empty()
            && self.opening.is_empty()
    }

    fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Closed)
    }

    /// Does what time has brought about.
    pub fn tick(&mut self, now: Instant) {
        match self.phase {
            Phase::Opened(until) if now >= until => {
                self.close(Close::HelloTimeout, "no hello with a token came", now);
            }
            Phase::Draining(until) if now >= until => self.drain_further(now),
            Phase::Ready if self.is_idle() && now >= self.last_frame + self.rules.idle_timeout => {
                self.close(
                    Close::IdleTimeout,
                    "no subscription, and no frame in a long time",
                    now,
                );
            }
            _ => {}
        }
        if !self.is_ending()
            && let Some(at) = self.expires()
        {
            self.tell_expiry(now);
            if now >= at + EXPIRY_LEEWAY {
                self.close(Close::AuthExpired, "the token has expired", now);
            }
        }
        if !self.is_ending() && self.next_pattern.is_some_and(|at| now >= at) {
            self.next_pattern = Some(now + PATTERN_REFRESH);
            if let Some(group) = &self.group {
                self.effects.push(Effect::Resolve(group.asked().clone()));
            }
        }
        for tail in &mut self.tails {
            tail.tick(&mut Sink {
                out: &mut self.out,
                effects: &mut self.effects,
                clock: self.clock,
                now,
            });
        }
        let over = self.with_group(now, |group, sink| group.tick(sink));
        if let Some(Some(over)) = over {
            self.over(over, now);
        }
        self.settle(now);
    }
}

fn draining() -> Error {
    Error {
        retriable: true,
        ..Error::new("draining", "the gateway is about to stop; connect again")
    }
}

/// What a failure that concerns a subscription is called.
fn topic_error(fault: &Fault) -> Error {
    let code = match fault.kind {
        FaultKind::UnknownTopic => "topic_not_found",
        FaultKind::NotAuthorized => "forbidden",
        FaultKind::Unavailable => "kafka_unavailable",
        FaultKind::TimedOut => "timeout",
        _ => "kafka_error",
    };
    Error::from_fault(code, fault)
}

fn rejection(rejected: &Rejected) -> Error {
    match rejected {
        Rejected::Denied(denied) => Error::new("forbidden", denied.to_string()),
        Rejected::TooMany { .. } => Error {
            field: Some("records".to_owned()),
            ..Error::new("limit_exceeded", rejected.to_string())
        },
        Rejected::Kafka(fault) if fault.kind == FaultKind::Invalid => Error {
            field: Some("topic".to_owned()),
            ..Error::from_fault("invalid_frame", fault)
        },
        Rejected::Kafka(fault) | Rejected::Record { fault, .. } => Error {
            field: (fault.kind == FaultKind::UnknownTopic).then(|| "topic".to_owned()),
            ..topic_error(fault)
        },
    }
}

/// What became of each record of a request, in its order.
fn results(outcomes: Vec<Outcome>, unfit: Vec<(usize, ProduceError)>) -> Vec<ProduceResult> {
    let mut outcomes = outcomes.into_iter().map(|outcome| match outcome {
        Ok(written) => ProduceResult::Written {
            partition: written.partition,
            offset: written.offset,
            timestamp: written.timestamp,
        },
        Err(fault) => ProduceResult::Failed {
            error: produce_error(&fault),
        },
    });
    let mut all = Vec::with_capacity(outcomes.len() + unfit.len());
    for (index, error) in unfit {
        all.extend(outcomes.by_ref().take(index - all.len()));
        all.push(ProduceResult::Failed { error });
    }
    all.extend(outcomes);
    all
}

fn produce_error(fault: &Fault) -> ProduceError {
    let code = match fault.kind {
        FaultKind::TooLarge => "message_too_large",
        FaultKind::UnknownPartition | FaultKind::Invalid => "invalid_record",
        FaultKind::UnknownTopic => "topic_not_found",
        FaultKind::NotAuthorized => "forbidden",
        FaultKind::Unavailable | FaultKind::QueueFull => "kafka_unavailable",
        FaultKind::TimedOut => "timeout",
        _ => "kafka_error",
    };
    ProduceError {
        code,
        message: fault.message.clone(),
        retriable: fault.retriable,
        field: None,
        kafka_error: fault.kafka_error,
        maybe_written: fault.maybe_written,
    }
}
