//! A tail: a subscription that follows topics by itself, without a group. Nothing of it is acknowledged or
//! committed; where it stands is the client's to know. A state machine without I/O, as the session is:
//! followers of `kafka::tail` are elsewhere (`session/followers.rs`), and asked for more only when it wants more.
//!
//! - `mod.rs`: what came
//! - `sending.rs`: what goes out
//! - `commands.rs`: what the client asks for
//! - `conflation.rs`: what goes out where newer records take the places of those that wait
//! - `options.rs`: its options
//! - `open_tail.rs`: where it begins, and other questions to Kafka

mod commands;
mod conflation;
pub mod open_tail;
pub mod options;
mod sending;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::open_tail::Begun;
use self::options::Options;
use crate::auth::policy::RecordVisibility;
use crate::kafka::tail::conflation::Conflation;
use crate::kafka::tail::{self, Ended, Entry, Next};
use crate::observe::topics::TopicReads;
use crate::position::{Offsets, ResumeTokens};
use crate::session::effect::{Effect, TailEffect};
use crate::session::protocol::server::{
    Eof, Gap, GapReason, Offset, ServerFrame, State, StateName,
};
use crate::session::subscription::SessionContext;
use crate::stream::encoder::SharedEncoder;

/// Most tails of a session.
pub const MAX_TAILS: usize = 16;
/// Bytes of records that are taken from a follower at once, about.
const PIECE: u64 = 32 << 10;
/// How long Kafka must have been away, or the tail been behind, before the client is told.
pub(crate) const DOWN: Duration = Duration::from_secs(3);
pub(crate) const BEHIND: Duration = Duration::from_secs(1);
/// How often it is seen how far a tail of one key has come over records of others, which do not wake it:
/// where ends are told, and where it only keeps the position from lying so far back that the log may
/// begin after it.
pub(crate) const LOOK_FOR_ENDS: Duration = Duration::from_secs(1);
pub(crate) const LOOK: Duration = Duration::from_secs(15);

/// How much may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// So much may be given out and not be taken by the socket.
    Window {
        /// Records.
        records: u64,
        /// Bytes of their keys, values and headers.
        bytes: u64,
    },
    /// So much may still go.
    Credit {
        /// Records.
        records: u64,
        /// Bytes, once the client has given any.
        bytes: Option<u64>,
    },
}

/// What waits to go out, in its order.
#[derive(Debug)]
enum Item {
    Record(usize, Arc<Entry>),
    Gap(usize, tail::Gap),
    Ended(usize, Ended),
}

/// One topic.
#[derive(Debug)]
struct Part {
    topic: Arc<str>,
    /// The next offset of each partition after what was given out.
    sent: Offsets,
    /// What that becomes when nothing waits any more.
    ahead: Option<Offsets>,
    paused: Vec<i32>,
    /// With `eof`: partitions that were at their end, and the offset at which the client was told.
    ends: Vec<i32>,
    told: Offsets,
    lag: i64,
    down: Option<Instant>,
    read: TopicReads,
}

/// What came of a follower, and how it stands after that.
#[derive(Debug)]
pub struct Came<'a> {
    /// What came.
    pub next: Next,
    /// The next offset of each partition.
    pub cursor: &'a [(i32, i64)],
    /// Partitions of which it has all.
    pub ends: Vec<i32>,
    /// How many offsets it is behind.
    pub lag: Option<i64>,
    /// Since when Kafka is away.
    pub down: Option<Instant>,
}

/// What goes out next.
#[derive(Debug)]
pub enum Given {
    /// Nothing, or what has been put before.
    Nothing,
    /// A frame of records.
    Frame(Vec<u8>),
    /// Nothing comes any more of the topic of this name.
    Ended(Arc<str>, Ended),
}

/// The subscription.
#[derive(Debug)]
pub struct Tail {
    id: u64,
    name: Box<str>,
    parts: Box<[Part]>,
    resume_tokens: ResumeTokens,
    encoder: Arc<SharedEncoder>,
    flow: Flow,
    /// Records and bytes that were given out and not taken by the socket.
    out: (u64, u64),
    batch_records: usize,
    batch_bytes: u64,
    linger: Duration,
    queue: VecDeque<Item>,
    queued_records: usize,
    queued_bytes: u64,
    /// With `max_rate` or `conflate`, the records that wait: before what is queued, which then are no
    /// records.
    latest: Option<Box<Conflation>>,
    /// The next of them is due, and goes as soon as it can.
    is_due: bool,
    /// Since when a frame waits for more records.
    lingers: Option<Instant>,
    /// It has waited long enough, and goes as soon as it can.
    lingered: bool,
    pressure: u32,
    /// Requests of the client that wait for Kafka.
    waiting: usize,
    eof: bool,
    /// When to see how far it has come, if it would not be told.
    looks: Option<Instant>,
    state: StateName,
    behind: Option<Instant>,
    delivered: u64,
}

impl Tail {
    /// A tail that has been opened, and is behind `gaps`. With `eof` it tells of ends.
    pub(crate) fn new(
        id: u64,
        options: &Options,
        begun: Begun,
        eof: bool,
        pressure: u32,
        context: &mut SessionContext<'_>,
    ) -> Self {
        let parts = begun.parts.into_iter().map(|part| Part {
            read: TopicReads::of(&part.topic, &begun.owner),
            ends: if eof {
                part.starts
                    .iter()
                    .zip(&part.ends)
                    .filter(|((_, start), (_, end))| start >= end)
                    .map(|((partition, _), _)| *partition)
                    .collect()
            } else {
                Vec::new()
            },
            topic: part.topic,
            sent: part.starts,
            ahead: None,
            paused: Vec::new(),
            told: Offsets::new(),
            lag: 0,
            down: None,
        });
        let mut this = Self {
            id,
            name: options.common.sub.as_str().into(),
            parts: parts.collect(),
            resume_tokens: begun.resume_tokens,
            encoder: begun.encoder,
            flow: options.flow,
            out: (0, 0),
            batch_records: options.common.batch_records,
            batch_bytes: options.common.batch_bytes,
            linger: options.common.linger,
            queue: VecDeque::new(),
            queued_records: 0,
            queued_bytes: 0,
            latest: (options.max_rate.is_some() || options.conflate)
                .then(|| Box::new(Conflation::new(options.max_rate, options.conflate))),
            is_due: false,
            lingers: None,
            lingered: false,
            pressure,
            waiting: 0,
            eof,
            looks: None,
            state: StateName::Active,
            behind: None,
            delivered: 0,
        };
        for (index, gap) in begun.gaps {
            this.gap(index, gap, context);
        }
        let is_keyed = |topic: &Arc<str>| this.encoder.key(topic).is_some();
        if this.parts.iter().any(|part| is_keyed(&part.topic)) {
            this.looks = Some(context.now + this.look_after());
        }
        this.arrive(context);
        this
    }

    fn look_after(&self) -> Duration {
        if self.eof { LOOK_FOR_ENDS } else { LOOK }
    }

    /// What its followers are found by.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What the client calls it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its topics.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.parts.iter().map(|part| &part.topic)
    }

    /// Which of their records it may show.
    pub fn visibility(&self) -> &RecordVisibility {
        self.encoder.visibility()
    }

    /// Bytes of records that are kept for it.
    pub fn held_bytes(&self) -> u64 {
        let waiting = self.latest.as_ref().map_or(0, |latest| latest.bytes());
        self.queued_bytes + self.out.1 + waiting as u64
    }

    /// Records that were given out since this was last asked.
    pub fn delivered(&mut self) -> u64 {
        std::mem::take(&mut self.delivered)
    }

    /// Divides what is taken at once by two to this power, while memory is short.
    pub fn set_pressure(&mut self, pressure: u32) {
        self.pressure = pressure;
    }

    /// Where it stands, as `from` takes it.
    pub fn position(&self) -> String {
        self.resume_tokens
            .encode(self.parts.iter().map(|part| part.sent.as_slice()))
    }

    /// The same, written out.
    pub fn positions(&self) -> Vec<Offset> {
        let parts = self.parts.iter();
        parts
            .flat_map(|part| {
                part.sent.iter().map(|(partition, offset)| Offset {
                    topic: part.topic.to_string(),
                    partition: *partition,
                    offset: *offset,
                })
            })
            .collect()
    }

    /// Whether its followers are asked for ends.
    pub fn wants_ends(&self) -> bool {
        self.eof
    }

    /// How many bytes of records are wanted of its followers now; `None` while none are.
    pub fn wants(&self) -> Option<usize> {
        let most = (self.batch_bytes.min(PIECE) >> self.pressure).max(1);
        let most = usize::try_from(most).unwrap_or(1);
        // Whatever keeps records from going, newer ones take their places. What else is queued goes
        // before those that come after it.
        if let Some(latest) = &self.latest {
            let more = self.queue.is_empty() && !latest.is_full(self.pressure);
            return more.then_some(most);
        }
        if matches!(
            self.flow,
            Flow::Credit { records: 0, .. } | Flow::Credit { bytes: Some(0), .. }
        ) {
            return None;
        }
        // What the socket does not take is not read: then nothing is kept but what is in the socket.
        if self.out.0 > 0 {
            return None;
        }
        let enough = if self.linger.is_zero() {
            !self.queue.is_empty()
        } else {
            self.queued_records >= self.batch_records || self.queued_bytes >= self.batch_bytes
        };
        // What ended gives nothing more.
        let over = matches!(self.queue.back(), Some(Item::Ended(..)));
        (!enough && !over).then_some(most)
    }

    // What came.

    /// Something came of the follower of the topic at `index`.
    pub fn came(&mut self, index: usize, came: Came<'_>, context: &mut SessionContext<'_>) {
        match came.next {
            Next::Records(entries) => {
                for entry in entries {
                    self.take_in(index, entry);
                }
                let waits = self.queued_records > 0 || self.is_any_latest();
                if waits && !self.linger.is_zero() {
                    self.lingers.get_or_insert(context.now);
                }
            }
            Next::Gap(gap) => self.queue.push_back(Item::Gap(index, gap)),
            Next::Ended(ended) => self.queue.push_back(Item::Ended(index, ended)),
            Next::Moved | Next::Health => {}
        }
        let Some(part) = self.parts.get_mut(index) else {
            return;
        };
        part.ends = came.ends;
        part.lag = came.lag.unwrap_or(0);
        part.down = came.down;
        match &mut part.ahead {
            Some(ahead) => {
                ahead.clear();
                ahead.extend_from_slice(came.cursor);
            }
            ahead => *ahead = Some(came.cursor.to_vec()),
        }
        self.arrive(context);
        self.stand(context);
    }

    fn take_in(&mut self, index: usize, entry: Arc<Entry>) {
        match &mut self.latest {
            // The newest is that of those that are wanted.
            Some(latest) => {
                if let Some(made) = self.encoder.of(&entry) {
                    latest.came(index, entry.record(), made);
                }
            }
            None => {
                self.queued_records += 1;
                self.queued_bytes += entry.record().size() as u64;
                self.queue.push_back(Item::Record(index, entry));
            }
        }
    }

    /// Where nothing waits, the tail has come as far as its followers.
    fn arrive(&mut self, context: &mut SessionContext<'_>) {
        if !self.queue.is_empty() || self.is_any_latest() {
            return;
        }
        for part in &mut self.parts {
            if let Some(ahead) = part.ahead.take() {
                part.sent = ahead;
            }
            for partition in std::mem::take(&mut part.ends) {
                let Some(offset) = at(&part.sent, partition) else {
                    continue;
                };
                if !self.eof || at(&part.told, partition) == Some(offset) {
                    continue;
                }
                put(&mut part.told, partition, offset);
                context.send(&ServerFrame::Eof(Eof {
                    sub: self.name.to_string(),
                    topic: part.topic.to_string(),
                    partition,
                    offset,
                }));
            }
        }
    }

    /// Tells the client when Kafka is away, or the tail is behind, and when that is over.
    fn stand(&mut self, context: &mut SessionContext<'_>) {
        let down = self.down_since();
        let lag: i64 = self.parts.iter().map(|part| part.lag).sum();
        if lag == 0 {
            self.behind = None;
        } else {
            self.behind.get_or_insert(context.now);
        }
        let (state, since, detail) = match (down, self.behind) {
            (Some(since), _) if context.now >= since + DOWN => (
                StateName::KafkaUnavailable,
                since,
                Some("Kafka does not answer; the tail goes on where it is when it does".to_owned()),
            ),
            // It may be over soon.
            (Some(_), _) => return,
            (None, Some(since)) if context.now >= since + BEHIND => (
                StateName::Behind,
                since,
                Some(format!("{lag} offsets behind")),
            ),
            (None, Some(_)) if self.state == StateName::Active => return,
            (None, _) => (StateName::Active, context.now, None),
        };
        if self.state == state {
            return;
        }
        self.state = state;
        context.send(&ServerFrame::State(State {
            sub: self.name.to_string(),
            state,
            since: context.clock.wall(since),
            detail,
            partitions: None,
        }));
    }

    fn down_since(&self) -> Option<Instant> {
        self.parts.iter().filter_map(|part| part.down).min()
    }

    fn gap(&self, index: usize, gap: tail::Gap, context: &mut SessionContext<'_>) {
        let Some(part) = self.parts.get(index) else {
            return;
        };
        metrics::counter!("stream_gaps_total", "reason" => gap.reason.name()).increment(1);
        context.send(&ServerFrame::Gap(Gap {
            sub: self.name.to_string(),
            topic: part.topic.to_string(),
            partition: gap.partition,
            from: gap.from,
            to: gap.to,
            reason: match gap.reason {
                tail::GapReason::Retention => GapReason::Retention,
                tail::GapReason::Overrun => GapReason::Overrun,
                tail::GapReason::Truncated => GapReason::Reset,
            },
        }));
    }

    // Time.

    /// When [`Tail::tick`] will have something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let lingers = self.lingers.filter(|_| !self.lingered);
        let lingers = lingers.map(|since| since + self.linger);
        let latest = self.latest.as_ref().filter(|_| !self.is_due);
        let due = latest
            .and_then(|latest| latest.due())
            .map(tokio::time::Instant::into_std);
        let down = self
            .down_since()
            .filter(|_| self.state != StateName::KafkaUnavailable)
            .map(|since| since + DOWN);
        let next = [lingers, due, down, self.looks];
        next.into_iter().flatten().min()
    }

    /// Does what time has brought about.
    pub fn tick(&mut self, context: &mut SessionContext<'_>) {
        if self
            .lingers
            .is_some_and(|since| context.now >= since + self.linger)
        {
            // The frame may still have to wait for room, and this must not be asked until then.
            self.lingered = true;
        }
        let due = self.latest.as_ref().and_then(|latest| latest.due());
        if due.is_some_and(|due| context.now >= due.into_std()) {
            self.is_due = true;
        }
        if self.looks.is_some_and(|at| context.now >= at) {
            self.looks = Some(context.now + self.look_after());
            context
                .effects
                .push(Effect::Tail(self.id, TailEffect::Look));
        }
        self.stand(context);
    }
}

fn at(offsets: &[(i32, i64)], partition: i32) -> Option<i64> {
    let index = offsets
        .binary_search_by_key(&partition, |(id, _)| *id)
        .ok()?;
    offsets.get(index).map(|(_, offset)| *offset)
}

pub(crate) fn put(offsets: &mut Offsets, partition: i32, offset: i64) {
    match offsets.binary_search_by_key(&partition, |(id, _)| *id) {
        Ok(index) => {
            if let Some((_, known)) = offsets.get_mut(index) {
                *known = offset;
            }
        }
        Err(index) => offsets.insert(index, (partition, offset)),
    }
}

fn undecoded(topic: &str, partition: i32, offset: i64) -> String {
    format!(
        "the record at offset {offset} of partition {partition} of topic {topic} is not in the \
         format that was asked for"
    )
}
