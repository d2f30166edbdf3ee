//! A tail: a subscription that follows topics by itself, without a group. Nothing of it is acknowledged or
//! committed; where it stands is the client's to know. A state machine without I/O, as the session is:
//! followers of `kafka::tail` are elsewhere (`follow.rs`), and asked for more only when it wants more.
//!
//! - `mod.rs`: what came, what goes out, and what the client asks for
//! - `newest.rs`: what goes out where newer records take the places of those that wait
//! - `options.rs`: its options
//! - `open.rs`: where it begins, and other questions to Kafka
//! - `follow.rs`: its followers

pub mod follow;
mod newest;
pub mod open;
pub mod options;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::Counter;

use self::open::Begun;
use self::options::Options;
use super::group::Sink;
use super::{Effect, TailEffect};
use crate::api::records::follow::lane::Lane;
use crate::api::ws::protocol::client::{Pause, Seek, SeekName, SeekOffset};
use crate::api::ws::protocol::records::Joined;
use crate::api::ws::protocol::server::{
    CommittedOffset, Done, Eof, Error, Gap, GapReason, Offset, PartitionPosition, Positions,
    Seeked, ServerFrame, State, StateName,
};
use crate::api::ws::protocol::{Id, Partition};
use crate::auth::policy::Sight;
use crate::kafka::Bounds;
use crate::kafka::fault::Fault;
use crate::kafka::tail::latest::Latest;
use crate::kafka::tail::{self, Ended, Entry, Next};
use crate::observe::metrics::topic_label;
use crate::position::{Offsets, Vectors};

/// Most tails of a session.
pub const MAX_TAILS: usize = 16;
/// Bytes of records that are taken from a follower at once, about.
const PIECE: u64 = 32 << 10;
/// Requests of the client that wait for Kafka at once.
const MAX_WAITING: usize = 8;
/// Smallest room in which a frame is begun.
const LEAST_ROOM: usize = 16 << 10;
/// How long Kafka must have been away, or the tail been behind, before the client is told.
const DOWN: Duration = Duration::from_secs(3);
const BEHIND: Duration = Duration::from_secs(1);

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
    read: Counter,
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
    vectors: Vectors,
    lane: Arc<Lane>,
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
    latest: Option<Box<Latest>>,
    /// The next of them is due, and goes as soon as it can.
    is_due: bool,
    /// Since when a frame waits for more records.
    lingers: Option<Instant>,
    /// It has waited long enough, and goes as soon as it can.
    lingered: bool,
    squeeze: u32,
    /// Requests of the client that wait for Kafka.
    waiting: usize,
    eof: bool,
    state: StateName,
    behind: Option<Instant>,
    delivered: u64,
}

impl Tail {
    /// A tail that has been opened, and is behind `gaps`. With `eof` it tells of ends.
    pub(super) fn new(
        id: u64,
        options: &Options,
        begun: Begun,
        eof: bool,
        squeeze: u32,
        sink: &mut Sink<'_>,
    ) -> Self {
        let parts = begun.parts.into_iter().map(|part| Part {
            read: metrics::counter!(
                "kafka_messages_read_total", "topic" => topic_label(&part.topic)
            ),
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
            name: options.sub.as_str().into(),
            parts: parts.collect(),
            vectors: begun.vectors,
            lane: begun.lane,
            flow: options.flow,
            out: (0, 0),
            batch_records: options.batch_records,
            batch_bytes: options.batch_bytes,
            linger: options.linger,
            queue: VecDeque::new(),
            queued_records: 0,
            queued_bytes: 0,
            latest: (options.max_rate.is_some() || options.conflate)
                .then(|| Box::new(Latest::new(options.max_rate, options.conflate))),
            is_due: false,
            lingers: None,
            lingered: false,
            squeeze,
            waiting: 0,
            eof,
            state: StateName::Active,
            behind: None,
            delivered: 0,
        };
        for (index, gap) in begun.gaps {
            this.gap(index, gap, sink);
        }
        this.arrive(sink);
        this
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
    pub fn sight(&self) -> &Sight {
        self.lane.sight()
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
    pub fn squeeze(&mut self, squeeze: u32) {
        self.squeeze = squeeze;
    }

    /// Where it stands, as `from` takes it.
    pub fn position(&self) -> String {
        self.vectors
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
        let most = (self.batch_bytes.min(PIECE) >> self.squeeze).max(1);
        let most = usize::try_from(most).unwrap_or(1);
        // Whatever keeps records from going, newer ones take their places. What else is queued goes
        // before those that come after it.
        if let Some(latest) = &self.latest {
            let more = self.queue.is_empty() && !latest.is_full(self.squeeze);
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
    pub fn came(&mut self, index: usize, came: Came<'_>, sink: &mut Sink<'_>) {
        match came.next {
            Next::Records(entries) => {
                for entry in entries {
                    self.take_in(index, entry);
                }
                let waits = self.queued_records > 0 || self.is_any_latest();
                if waits && !self.linger.is_zero() {
                    self.lingers.get_or_insert(sink.now);
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
        self.arrive(sink);
        self.stand(sink);
    }

    fn take_in(&mut self, index: usize, entry: Arc<Entry>) {
        match &mut self.latest {
            // The newest is that of those that are wanted.
            Some(latest) => {
                if let Some(made) = self.lane.of(&entry) {
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
    fn arrive(&mut self, sink: &mut Sink<'_>) {
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
                sink.out.push(&ServerFrame::Eof(Eof {
                    sub: self.name.to_string(),
                    topic: part.topic.to_string(),
                    partition,
                    offset,
                }));
            }
        }
    }

    /// Tells the client when Kafka is away, or the tail is behind, and when that is over.
    fn stand(&mut self, sink: &mut Sink<'_>) {
        let down = self.down_since();
        let lag: i64 = self.parts.iter().map(|part| part.lag).sum();
        if lag == 0 {
            self.behind = None;
        } else {
            self.behind.get_or_insert(sink.now);
        }
        let (state, since, detail) = match (down, self.behind) {
            (Some(since), _) if sink.now >= since + DOWN => (
                StateName::KafkaUnavailable,
                since,
                Some("Kafka does not answer; the tail goes on where it is when it does".to_owned()),
            ),
            // It may be over soon.
            (Some(_), _) => return,
            (None, Some(since)) if sink.now >= since + BEHIND => (
                StateName::Behind,
                since,
                Some(format!("{lag} offsets behind")),
            ),
            (None, Some(_)) if self.state == StateName::Active => return,
            (None, _) => (StateName::Active, sink.now, None),
        };
        if self.state == state {
            return;
        }
        self.state = state;
        sink.out.push(&ServerFrame::State(State {
            sub: self.name.to_string(),
            state,
            since: sink.clock.wall(since),
            detail,
            partitions: None,
        }));
    }

    fn down_since(&self) -> Option<Instant> {
        self.parts.iter().filter_map(|part| part.down).min()
    }

    fn gap(&self, index: usize, gap: tail::Gap, sink: &mut Sink<'_>) {
        let Some(part) = self.parts.get(index) else {
            return;
        };
        metrics::counter!("stream_gaps_total", "reason" => gap.reason.name()).increment(1);
        sink.out.push(&ServerFrame::Gap(Gap {
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

    // What goes out.

    /// The next frame, if there is something that may go, in about so many bytes.
    ///
    /// # Errors
    ///
    /// A record cannot be decoded, and the session is to end for it.
    pub fn next_frame(&mut self, room: usize, sink: &mut Sink<'_>) -> Result<Given, String> {
        if self.is_any_latest() {
            return if room < LEAST_ROOM || !self.is_latest_worth_sending(sink.now) {
                Ok(Given::Nothing)
            } else {
                self.frame_of_latest(room, sink)
            };
        }
        while let Some(item) = self.queue.front() {
            match item {
                Item::Record(..) => break,
                Item::Gap(index, gap) => {
                    let (index, gap) = (*index, *gap);
                    self.queue.pop_front();
                    self.gap(index, gap, sink);
                    if let Some(part) = self.parts.get_mut(index) {
                        put(&mut part.sent, gap.partition, gap.to);
                    }
                    self.arrive(sink);
                }
                Item::Ended(index, ended) => {
                    let topic = self.parts.get(*index).map(|part| Arc::clone(&part.topic));
                    return Ok(Given::Ended(topic.unwrap_or_default(), ended.clone()));
                }
            }
        }
        if room < LEAST_ROOM || !self.is_worth_sending(sink.now) {
            return Ok(Given::Nothing);
        }
        self.frame(room, sink)
    }

    /// Whether there is something, and it is enough or has waited long enough.
    fn is_worth_sending(&self, now: Instant) -> bool {
        let waits = self.lingers.is_some_and(|since| now < since + self.linger);
        // Behind what waits there is something else: then there is no more to wait for.
        let all_records = self.queued_records == self.queue.len();
        !self.queue.is_empty()
            && (self.lingered
                || !waits
                || !all_records
                || self.queued_records >= self.batch_records
                || self.queued_bytes >= self.batch_bytes)
    }

    fn frame(&mut self, room: usize, sink: &mut Sink<'_>) -> Result<Given, String> {
        let lane = Arc::clone(&self.lane);
        let mut frame: Option<Joined> = None;
        let mut bytes = 0;
        let mut passed = false;
        while let Some(Item::Record(index, entry)) = self.queue.front() {
            let (index, entry) = (*index, Arc::clone(entry));
            let record = entry.record();
            let size = record.size() as u64;
            let begun = frame.as_ref().map_or((0, 0), |f| (f.records(), f.len()));
            let full =
                begun.0 >= self.batch_records || bytes + size > self.batch_bytes || begun.1 >= room;
            if !self.has_room(size) || (begun.0 > 0 && full) {
                break;
            }
            if let Some(made) = lane.of(&entry) {
                if made.is_empty() {
                    if frame.is_some() {
                        // What came before it goes out first.
                        break;
                    }
                    return Err(undecoded(&record.topic, record.partition, record.offset));
                }
                if begun.0 > 0 && begun.1 + made.len() > room {
                    break;
                }
                let name = &self.name;
                frame
                    .get_or_insert_with(|| Joined::new(name, made.len()))
                    .add(&made);
                bytes += size;
                self.spend(size);
                if let Some(part) = self.parts.get(index) {
                    part.read.increment(1);
                }
            }
            let (partition, next) = (record.partition, record.offset + 1);
            if let Some(part) = self.parts.get_mut(index) {
                put(&mut part.sent, partition, next);
            }
            self.queue.pop_front();
            self.queued_records -= 1;
            self.queued_bytes = self.queued_bytes.saturating_sub(size);
            passed = true;
        }
        if passed {
            self.lingers = (self.queued_records > 0 && !self.linger.is_zero()).then_some(sink.now);
            self.lingered = false;
            self.arrive(sink);
        }
        // What a burst needed is not kept.
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            self.queue = VecDeque::new();
        }
        Ok(self.given(frame))
    }

    /// Counts what goes.
    fn given(&mut self, frame: Option<Joined>) -> Given {
        let Some(frame) = frame else {
            return Given::Nothing;
        };
        let count = frame.records() as u64;
        self.lane.delivered.increment(count);
        self.delivered += count;
        Given::Frame(frame.finish())
    }

    /// Whether one more record of so many bytes may go. One that is larger than the window goes alone.
    fn has_room(&self, size: u64) -> bool {
        match self.flow {
            Flow::Window { records, bytes } => {
                let (given, of) = self.out;
                given == 0
                    || (given < (records >> self.squeeze).max(1)
                        && of + size <= (bytes >> self.squeeze))
            }
            Flow::Credit { records, bytes } => records > 0 && bytes.is_none_or(|bytes| bytes > 0),
        }
    }

    fn spend(&mut self, size: u64) {
        self.out.0 += 1;
        self.out.1 += size;
        if let Flow::Credit { records, bytes } = &mut self.flow {
            *records = records.saturating_sub(1);
            if let Some(bytes) = bytes {
                *bytes = bytes.saturating_sub(size);
            }
        }
    }

    /// All that was given by `next_frame` has been taken by the socket.
    pub fn flushed(&mut self) {
        self.out = (0, 0);
    }

    // What the client wants.

    /// `credit`.
    ///
    /// # Errors
    ///
    /// A field that cannot be.
    pub fn credit(&mut self, more: i64, more_bytes: Option<i64>) -> Result<(), Error> {
        let number = |number: i64, name: &str| {
            u64::try_from(number).map_err(|_| field(name, "expected a number from 0"))
        };
        let Flow::Credit { records, bytes } = &mut self.flow else {
            return Err(field(
                "sub",
                "this subscription has flow.mode window: what the connection takes makes room there",
            ));
        };
        let more = number(more, "records")?;
        let more_bytes = more_bytes.map(|m| number(m, "bytes")).transpose()?;
        *records = records.saturating_add(more);
        if let Some(more) = more_bytes {
            *bytes = Some(bytes.unwrap_or(0).saturating_add(more));
        }
        Ok(())
    }

    /// `pause` and `resume`.
    ///
    /// # Errors
    ///
    /// A partition that is not followed.
    pub fn pause(&mut self, pause: Pause, paused: bool, sink: &mut Sink<'_>) -> Result<(), Error> {
        let mut lost = false;
        let mut named: Vec<Vec<i32>> = vec![Vec::new(); self.parts.len()];
        match pause.partitions {
            None => {
                for (part, named) in self.parts.iter().zip(&mut named) {
                    named.extend(part.sent.iter().map(|(partition, _)| *partition));
                }
            }
            Some(partitions) => {
                for (nth, wanted) in partitions.iter().enumerate() {
                    let place = format!("partitions[{nth}]");
                    let index = self.find(&wanted.topic, wanted.partition, &place)?;
                    if let Some(named) = named.get_mut(index) {
                        named.push(wanted.partition);
                    }
                }
            }
        }
        for (index, mut named) in named.into_iter().enumerate() {
            if named.is_empty() {
                continue;
            }
            named.sort_unstable();
            named.dedup();
            // What waits of them is read again when it is wanted again.
            let rewound = if paused {
                self.drop_queued(index, &named, &mut lost)
            } else {
                Offsets::new()
            };
            let Some(part) = self.parts.get_mut(index) else {
                continue;
            };
            part.paused.retain(|partition| !named.contains(partition));
            if paused {
                part.paused.extend(named);
                part.paused.sort_unstable();
                part.paused.dedup();
            }
            sink.effects.push(Effect::Tail(
                self.id,
                TailEffect::Hold {
                    index,
                    held: part.paused.clone(),
                    rewound,
                },
            ));
        }
        if lost {
            self.rewind(sink);
        }
        self.arrive(sink);
        let all = self.parts.iter().flat_map(|part| {
            part.paused.iter().map(|partition| Partition {
                topic: part.topic.to_string(),
                partition: *partition,
            })
        });
        sink.out.push(&ServerFrame::Ok(Done {
            id: pause.id,
            sub: Some(self.name.to_string()),
            paused: Some(all.collect()),
        }));
        Ok(())
    }

    /// Drops what waits of these partitions; where each of them that had something goes on. `lost` is
    /// set when with it what it took the place of in others is lost.
    fn drop_queued(&mut self, index: usize, partitions: &[i32], lost: &mut bool) -> Offsets {
        let mut dropped: Vec<i32> = Vec::new();
        if let Some(latest) = &mut self.latest {
            dropped = latest.drop_of(index, partitions);
            self.is_due = false;
            *lost |= !dropped.is_empty() && latest.is_of_all();
        }
        let (mut records, mut bytes) = (0, 0);
        self.queue.retain(|item| {
            let (of, partition) = match item {
                Item::Record(of, entry) => (*of, entry.record().partition),
                Item::Gap(of, gap) => (*of, gap.partition),
                Item::Ended(..) => return true,
            };
            if of != index || !partitions.contains(&partition) {
                return true;
            }
            if let Item::Record(_, entry) = item {
                records += 1;
                bytes += entry.record().size() as u64;
            }
            if !dropped.contains(&partition) {
                dropped.push(partition);
            }
            false
        });
        self.queued_records -= records;
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        if self.queued_records == 0 && !self.is_any_latest() {
            self.lingers = None;
            self.lingered = false;
        }
        let Some(part) = self.parts.get_mut(index) else {
            return Offsets::new();
        };
        let mut rewound = Offsets::with_capacity(dropped.len());
        for partition in dropped {
            if let Some(offset) = at(&part.sent, partition) {
                if let Some(ahead) = &mut part.ahead {
                    put(ahead, partition, offset);
                }
                part.ends.retain(|end| *end != partition);
                rewound.push((partition, offset));
            }
        }
        rewound
    }

    fn find(&self, topic: &str, partition: i32, place: &str) -> Result<usize, Error> {
        let found = self.parts.iter().position(|part| *part.topic == *topic);
        found
            .filter(|index| {
                let part = self.parts.get(*index);
                part.is_some_and(|part| at(&part.sent, partition).is_some())
            })
            .ok_or_else(|| Error {
                field: Some(place.to_owned()),
                ..Error::new(
                    "not_assigned",
                    format!(
                        "{place}: partition {partition} of topic {topic} is not followed by this \
                         subscription"
                    ),
                )
            })
    }

    /// `seek`.
    ///
    /// # Errors
    ///
    /// A field that cannot be, or a partition that is not followed.
    pub fn seek(&mut self, seek: Seek, sink: &mut Sink<'_>) -> Result<(), Error> {
        if seek.positions.is_empty() {
            return Err(field("positions", "expected at least one"));
        }
        self.admit()?;
        let mut wanted: Vec<open::Seek> = Vec::with_capacity(seek.positions.len());
        for (nth, position) in seek.positions.iter().enumerate() {
            let place = |name: &str| format!("positions[{nth}]{name}");
            let index = self.find(&position.topic, position.partition, &place(""))?;
            let to = match (&position.offset, position.timestamp) {
                (Some(SeekOffset::Offset(offset)), None) if *offset >= 0 => {
                    open::SeekTo::Offset(*offset)
                }
                (Some(SeekOffset::Offset(_)), None) => {
                    return Err(field(&place(".offset"), "an offset is 0 or more"));
                }
                (Some(SeekOffset::Name(SeekName::Beginning)), None) => open::SeekTo::Beginning,
                (Some(SeekOffset::Name(SeekName::End)), None) => open::SeekTo::End,
                (Some(SeekOffset::Name(SeekName::Committed)), None) => {
                    return Err(Error {
                        field: Some(place(".offset")),
                        ..Error::new(
                            "invalid_for_tail",
                            format!(
                                "{}: a tail has no group that could have committed",
                                place(".offset")
                            ),
                        )
                    });
                }
                (None, Some(time)) if time >= 0 => open::SeekTo::Time(time),
                (None, Some(_)) => {
                    return Err(field(
                        &place(".timestamp"),
                        "expected milliseconds since 1970",
                    ));
                }
                _ => {
                    return Err(field(&place(""), "expected either offset or timestamp"));
                }
            };
            let twice = wanted
                .iter()
                .any(|other| other.index == index && other.partition == position.partition);
            if twice {
                return Err(field(&place(""), "this partition is named twice"));
            }
            wanted.push(open::Seek {
                index,
                topic: Arc::from(position.topic.as_str()),
                partition: position.partition,
                to,
            });
        }
        self.waiting += 1;
        sink.effects
            .push(Effect::Tail(self.id, TailEffect::Seek(seek.id, wanted)));
        Ok(())
    }

    /// Where a seek has gone: its followers are there already.
    pub fn sought(
        &mut self,
        id: Option<Id>,
        results: &[(open::Seek, Result<i64, Fault>)],
        sink: &mut Sink<'_>,
    ) {
        self.waiting = self.waiting.saturating_sub(1);
        let mut lost = false;
        let mut positions = Vec::with_capacity(results.len());
        for (seek, result) in results {
            if let Ok(offset) = result {
                self.drop_queued(seek.index, &[seek.partition], &mut lost);
                if let Some(part) = self.parts.get_mut(seek.index) {
                    put(&mut part.sent, seek.partition, *offset);
                    if let Some(ahead) = &mut part.ahead {
                        put(ahead, seek.partition, *offset);
                    }
                    part.ends.retain(|end| *end != seek.partition);
                    part.told.retain(|(of, _)| *of != seek.partition);
                }
            }
            positions.push(CommittedOffset {
                topic: seek.topic.to_string(),
                partition: seek.partition,
                offset: result.as_ref().map_or(-1, |offset| *offset),
                error: result.as_ref().err().map(|fault| fault.name().to_owned()),
            });
        }
        if lost {
            self.rewind(sink);
        }
        self.arrive(sink);
        sink.out.push(&ServerFrame::Seeked(Seeked {
            id,
            sub: self.name.to_string(),
            positions,
        }));
    }

    /// `position`.
    ///
    /// # Errors
    ///
    /// Too many requests wait for Kafka.
    pub fn ask_position(&mut self, id: Option<Id>, sink: &mut Sink<'_>) -> Result<(), Error> {
        self.admit()?;
        self.waiting += 1;
        let partitions = self.parts.iter().map(|part| {
            let all = part.sent.iter().map(|(partition, _)| *partition);
            (Arc::clone(&part.topic), all.collect())
        });
        let ask = TailEffect::Ends(id, partitions.collect());
        sink.effects.push(Effect::Tail(self.id, ask));
        Ok(())
    }

    /// Where the log of each partition ends, as far as Kafka has said.
    pub fn ends(&mut self, id: Option<Id>, found: &[(Arc<str>, Vec<Bounds>)], sink: &mut Sink<'_>) {
        self.waiting = self.waiting.saturating_sub(1);
        let end_of = |topic: &str, partition: i32| {
            let (_, bounds) = found.iter().find(|(of, _)| **of == *topic)?;
            let bound = bounds.iter().find(|bound| bound.partition == partition)?;
            Some(bound.end)
        };
        let mut positions = Vec::new();
        for part in &self.parts {
            for (partition, delivered) in &part.sent {
                let end = end_of(&part.topic, *partition);
                positions.push(PartitionPosition {
                    topic: part.topic.to_string(),
                    partition: *partition,
                    delivered: *delivered,
                    acked: None,
                    committed: None,
                    end,
                    lag: end.map(|end| (end - delivered).max(0)),
                });
            }
        }
        sink.out.push(&ServerFrame::Positions(Positions {
            id,
            sub: self.name.to_string(),
            positions,
            position: Some(self.position()),
        }));
    }

    fn admit(&self) -> Result<(), Error> {
        if self.waiting < MAX_WAITING {
            return Ok(());
        }
        Err(Error {
            retriable: true,
            retry_after_ms: Some(100),
            ..Error::new(
                "limit_exceeded",
                format!("{MAX_WAITING} requests wait for Kafka; wait for their answers"),
            )
        })
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
        [lingers, due, down].into_iter().flatten().min()
    }

    /// Does what time has brought about.
    pub fn tick(&mut self, sink: &mut Sink<'_>) {
        if self
            .lingers
            .is_some_and(|since| sink.now >= since + self.linger)
        {
            // The frame may still have to wait for room, and this must not be asked until then.
            self.lingered = true;
        }
        let due = self.latest.as_ref().and_then(|latest| latest.due());
        if due.is_some_and(|due| sink.now >= due.into_std()) {
            self.is_due = true;
        }
        self.stand(sink);
    }
}

fn at(offsets: &[(i32, i64)], partition: i32) -> Option<i64> {
    let index = offsets
        .binary_search_by_key(&partition, |(id, _)| *id)
        .ok()?;
    offsets.get(index).map(|(_, offset)| *offset)
}

fn put(offsets: &mut Offsets, partition: i32, offset: i64) {
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

fn field(name: &str, message: impl std::fmt::Display) -> Error {
    Error {
        field: Some(name.to_owned()),
        ..Error::new("invalid_frame", format!("{name}: {message}"))
    }
}
