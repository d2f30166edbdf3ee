//! One who follows a topic: a cursor, and where it reads on from.
//!
//! ```text
//!             misses something                        nothing is missing
//!  begin --> catch-up: a page from the cursor --> ring: what came after the cursor
//!               ^        up to where the ring begins           |
//!               '------------- fell out of the ring -----------'
//! ```
//!
//! There is one source at a time, and only the cursor decides what comes next: a record is delivered
//! if its offset is at or after its partition's cursor, which it then moves. So going from one source
//! to the other neither loses a record nor brings one twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Feeds;
use super::catch_up::{CatchUpPool, LEAST_BYTES, Loaded, Loading, MOST_BYTES, Slot};
use super::entry::Entry;
use super::feed::Feed;
use crate::kafka::fault::Fault;
use crate::kafka::fetcher::is_other_topic;
use crate::kafka::metadata::Topic;
use crate::kafka::reader::Span;
use crate::kafka::watermarks::Watermarks;
use crate::reader_options::{Isolation, OnLag};
use crate::record::ConsumerRecord;

/// Pause before a catch-up read that failed is tried again.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1_000 });
/// Most records of a key that are looked at to see how far others have come: who has let more wait has
/// other cares.
const MOST_WAITING: usize = 4_096;

/// What to follow.
#[derive(Debug)]
pub struct Follow {
    /// The topic.
    pub topic: Arc<Topic>,
    /// The first offset of each partition, sorted by partition.
    pub start: Vec<(i32, i64)>,
    /// Partitions that are added later are followed too, from their beginning.
    pub all: bool,
    /// Where to end: an offset for each partition of `start`.
    pub until: Option<Vec<(i32, i64)>>,
    /// What to do when it falls behind.
    pub on_lag: OnLag,
    /// Which records of transactions it sees.
    pub isolation: Isolation,
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// Records, in order within each partition.
    Records(Vec<Arc<Entry>>),
    /// The cursor moved over what is not delivered, or it has caught up.
    Moved,
    /// Offsets that will not come.
    Gap(Gap),
    /// Kafka does not answer, or does again: see [`Follower::down_since`].
    Health,
    /// Nothing comes any more.
    Ended(Ended),
}

/// Offsets of a partition that do not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The partition.
    pub partition: i32,
    /// The first of them.
    pub from: i64,
    /// Where it goes on.
    pub to: i64,
    /// Why.
    pub reason: GapReason,
}

/// Why offsets do not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// They were deleted before they were read.
    Retention,
    /// The follower was too slow, and did not want to wait.
    Overrun,
    /// The log ends before them: it lost its end.
    Truncated,
}

impl GapReason {
    /// Its name, for clients and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Overrun => "overrun",
            Self::Truncated => "truncated",
        }
    }
}

/// Why nothing comes any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The end that was asked for is reached.
    Until,
    /// The topic was deleted.
    Deleted,
    /// The topic was deleted and created again.
    Recreated,
    /// It fell behind ([`OnLag::Close`]).
    Overrun,
    /// Too many others were catching up.
    Busy,
    /// Kafka refuses.
    Failed(Fault),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Until => "its end is reached",
            Self::Deleted => "it was deleted",
            Self::Recreated => "it was deleted and created again",
            Self::Overrun => "it was too fast",
            Self::Busy => "too many others were catching up",
            Self::Failed(fault) => &fault.message,
        })
    }
}

/// Follows a topic. All that it holds is its cursor and, while it catches up, a page.
#[derive(Debug)]
pub struct Follower {
    feeds: Arc<Feeds>,
    feed: Arc<Feed>,
    catch_up: Arc<CatchUpPool>,
    changes: watch::Receiver<u64>,
    cursor: Vec<(i32, i64)>,
    until: Option<Vec<(i32, i64)>>,
    /// The only key that it follows.
    key: Option<Bytes>,
    all: bool,
    on_lag: OnLag,
    /// Where it stands in the ring; `None` while it catches up.
    place: Option<u64>,
    rewinds: u64,
    begun: u64,
    page: Option<(Arc<Slot>, usize)>,
    /// How large the next page is to be: smaller where one was let go of before it was finished.
    page_bytes: usize,
    loading: Option<Load>,
    /// Partitions of which nothing is wanted for now.
    held: Vec<i32>,
    /// What was last said of Kafka.
    down: Option<Instant>,
    gaps: VecDeque<Gap>,
    ended: Option<Ended>,
    /// It has said that it ended.
    told: bool,
    /// The last look left something.
    more: bool,
}

/// A catch-up read under way.
struct Load(Loading);

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Load")
    }
}

/// What a look at the sources says.
enum Step {
    Next(Next),
    /// The ring must move first.
    Wait,
    /// These must be read first.
    Load(Vec<Span>),
    /// Look again.
    Again,
}

impl Follower {
    pub(super) fn new(
        feeds: Arc<Feeds>,
        feed: Arc<Feed>,
        catch_up: Arc<CatchUpPool>,
        follow: Follow,
        key: Option<Bytes>,
    ) -> Self {
        let changes = feed.changes(key.as_ref());
        let rewinds = feed.ring.read().rewinds();
        Self {
            feeds,
            feed,
            catch_up,
            changes,
            cursor: follow.start,
            until: follow.until,
            key,
            all: follow.all,
            on_lag: follow.on_lag,
            place: None,
            rewinds,
            begun: 0,
            page: None,
            page_bytes: MOST_BYTES,
            loading: None,
            held: Vec::new(),
            down: None,
            gaps: VecDeque::new(),
            ended: None,
            told: false,
            more: false,
        }
    }

    /// The topic.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.feed.topic
    }

    /// The next offset of each partition, sorted by partition.
    pub fn cursor(&self) -> &[(i32, i64)] {
        &self.cursor
    }

    /// Whether it has come to its end, and said so.
    pub fn is_over(&self) -> bool {
        self.told
    }

    /// Whether there is more at once.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// Whether the next thing that it says is of a gap.
    pub fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// How many offsets it is behind the topic reader; `None` unless it is catching up.
    pub fn lag(&self) -> Option<i64> {
        if self.place.is_some() || self.until.is_some() {
            return None;
        }
        let ring = self.feed.ring.read();
        let wanted = self.cursor.iter().filter(|(id, _)| !self.is_held(*id));
        let lag = |(partition, offset): &(i32, i64)| {
            ring.next(*partition)
                .map_or(0, |next| (next - offset).max(0))
        };
        Some(wanted.map(lag).sum()).filter(|lag| *lag > 0)
    }

    /// Which records of transactions it sees.
    pub fn isolation(&self) -> Isolation {
        self.feed.isolation
    }

    /// Since when the topic cannot be read; `None` while it can.
    pub fn down_since(&self) -> Option<Instant> {
        self.down
    }

    /// The partitions of which it has all that the topic reader has read.
    pub fn ends(&self) -> Vec<i32> {
        if self.place.is_none() || self.down.is_some() {
            return Vec::new();
        }
        let ring = self.feed.ring.read();
        let at_end = |(partition, offset): &(i32, i64)| {
            let next = ring.next(*partition);
            next.is_some_and(|next| *offset >= next)
                .then_some(*partition)
        };
        self.cursor.iter().filter_map(at_end).collect()
    }

    /// Of one who follows a key: moves the cursor over what came of other keys since it last looked,
    /// and tells whether there was any. The key's own records stay to come, and so does whatever else
    /// there is to say. Needed from time to time and before the cursor is told to anybody, as nothing
    /// of this wakes it.
    pub fn advance(&mut self) -> bool {
        let (Some(key), Some(place)) = (&self.key, self.place) else {
            return false;
        };
        if !self.gaps.is_empty() || self.ended.is_some() {
            return false;
        }
        let ring = self.feed.ring.read();
        if ring.rewinds() != self.rewinds || (place < ring.first() && !ring.has_all_of(key, place))
        {
            return false;
        }
        let Some(known) = ring.of_key(key, place) else {
            return false;
        };
        let mut place = ring.end();
        // Of each partition the first record that is to come.
        let mut waiting: Vec<(i32, i64)> = Vec::new();
        for (nth, (at, entry)) in known.enumerate() {
            if nth == MOST_WAITING {
                return false;
            }
            let record = entry.record();
            if !self.wants(record) {
                continue;
            }
            place = place.min(at);
            if !waiting.iter().any(|(of, _)| *of == record.partition) {
                waiting.push((record.partition, record.offset));
            }
        }
        let mut moved = false;
        for (index, (partition, offset)) in self.cursor.iter_mut().enumerate() {
            if self.held.contains(partition) {
                continue;
            }
            let first = waiting.iter().find(|(of, _)| of == partition);
            let to = first.map(|(_, first)| *first).or(ring.next(*partition));
            let to = to.map_or(*offset, |to| to.min(until(self.until.as_ref(), index)));
            moved |= to > *offset;
            *offset = (*offset).max(to);
        }
        self.place = Some(place);
        moved
    }

    /// Goes on at these offsets, of partitions that it follows; the others stay where they are. What
    /// was to be said of these partitions is not said any more.
    pub fn seek(&mut self, offsets: &[(i32, i64)]) {
        // The others are not to read again what is known not to be theirs.
        self.advance();
        for (partition, offset) in offsets {
            if let Ok(index) = self.index(*partition)
                && let Some((_, cursor)) = self.cursor.get_mut(index)
            {
                *cursor = *offset;
                self.gaps.retain(|gap| gap.partition != *partition);
            }
        }
        self.look_again();
    }

    /// Wants nothing of these partitions until it is told others: they stay where they are.
    pub fn hold(&mut self, partitions: Vec<i32>) {
        self.advance();
        self.held = partitions;
        self.look_again();
    }

    fn is_held(&self, partition: i32) -> bool {
        self.held.contains(&partition)
    }

    /// Only the cursor counts: what was being read by an older one is not.
    fn look_again(&mut self) {
        self.place = None;
        self.page = None;
        self.loading = None;
    }

    /// The timestamp of the last record that the topic reader has read and that is still kept.
    pub fn newest(&self) -> Option<i64> {
        self.feed.ring.read().newest()
    }

    /// Waits for what comes next: up to `most_bytes` of records, at least one. Nothing is lost when
    /// the future is dropped.
    pub async fn next(&mut self, most_bytes: usize) -> Next {
        loop {
            if let Some(gap) = self.gaps.pop_front() {
                metrics::counter!("tail_gaps_total", "reason" => gap.reason.name()).increment(1);
                return Next::Gap(gap);
            }
            if let Some(ended) = &self.ended {
                self.told = true;
                return Next::Ended(ended.clone());
            }
            if let Some(Load(loading)) = &mut self.loading {
                let loaded = loading.await;
                self.loading = None;
                self.loaded(loaded);
                continue;
            }
            // Before the look, so that what changes after it is noticed.
            self.changes.borrow_and_update();
            let down = self.feed.down_since();
            if down != self.down {
                self.down = down;
                return Next::Health;
            }
            match self.step(most_bytes) {
                Step::Next(next) => return next,
                Step::Again => {}
                Step::Load(spans) => {
                    self.load(spans, Duration::ZERO);
                }
                Step::Wait => {
                    if self.changes.changed().await.is_err() {
                        // The feed holds the sender, and this holds the feed.
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    fn step(&mut self, most_bytes: usize) -> Step {
        if self.page.is_some() {
            return self.page_on(most_bytes);
        }
        let feed = Arc::clone(&self.feed);
        let ring = feed.ring.read();
        if self.all && self.until.is_none() && ring.partitions().count() > self.cursor.len() {
            for (partition, _) in ring.partitions() {
                if let Err(at) = self.cursor.binary_search_by_key(&partition, |(id, _)| *id) {
                    self.cursor.insert(at, (partition, 0));
                    self.place = None;
                }
            }
        }
        if ring.rewinds() != self.rewinds {
            self.rewinds = ring.rewinds();
            self.place = None;
            for (partition, offset) in &mut self.cursor {
                if let Some(next) = ring.next(*partition)
                    && *offset > next
                {
                    self.gaps.push_back(Gap {
                        partition: *partition,
                        from: *offset,
                        to: next,
                        reason: GapReason::Truncated,
                    });
                    *offset = next;
                }
            }
            return Step::Again;
        }
        if ring.begun() != self.begun {
            // Of these it may lack what comes before the ring.
            self.begun = ring.begun();
            self.place = None;
        }
        if self.is_done() {
            self.ended = Some(Ended::Until);
            return Step::Again;
        }
        let place = match self.place {
            Some(place) if place >= ring.first() => place,
            // What the ring has let go of since was not of its key.
            Some(place)
                if self
                    .key
                    .as_ref()
                    .is_some_and(|key| ring.has_all_of(key, place)) =>
            {
                place
            }
            _ => {
                let (missing, unread) = self.missing(&ring);
                if missing.is_empty() && !unread {
                    self.place = Some(ring.place_of(&self.cursor));
                    return Step::Next(Next::Moved);
                } else if let Some(ended) = feed.ended() {
                    self.ended = Some(ended);
                    return Step::Again;
                } else if self.place.is_some() && self.on_lag != OnLag::Catchup {
                    self.overrun(|partition| ring.next(partition));
                    return Step::Again;
                } else if missing.is_empty() {
                    return Step::Wait;
                } else {
                    self.place = None;
                    return Step::Load(missing);
                }
            }
        };
        let before: i64 = self.cursor.iter().map(|(_, offset)| offset).sum();
        let pull = match &self.key {
            None => ring.pull(place, most_bytes, |record| self.wants(record)),
            Some(key) => ring.pull_key(key, place, most_bytes, |record| self.wants(record)),
        };
        self.place = Some(pull.place);
        self.more = !pull.at_end;
        for entry in &pull.entries {
            self.pass(entry.record());
        }
        if pull.at_end {
            for (index, (partition, offset)) in self.cursor.iter_mut().enumerate() {
                if self.held.contains(partition) {
                    continue;
                }
                let next = ring.next(*partition).unwrap_or(*offset);
                let last = until(self.until.as_ref(), index);
                *offset = (*offset).max(next.min(last));
            }
        }
        let after: i64 = self.cursor.iter().map(|(_, offset)| offset).sum();
        if !pull.entries.is_empty() {
            Step::Next(Next::Records(pull.entries))
        } else if after > before {
            Step::Next(Next::Moved)
        } else if !pull.at_end {
            Step::Again
        } else if let Some(ended) = feed.ended() {
            self.ended = Some(ended);
            Step::Again
        } else {
            Step::Wait
        }
    }

    /// What comes before the ring, and whether the ring knows none of the partitions yet. Those that it
    /// does not know may be of a broker that is silent: the others do not wait for them.
    fn missing(&self, ring: &super::ring::Ring) -> (Vec<Span>, bool) {
        let mut missing = Vec::new();
        let (mut wanted, mut known) = (false, self.until.is_some());
        for (index, (partition, offset)) in self.cursor.iter().enumerate() {
            if self.is_held(*partition) {
                continue;
            }
            let last = until(self.until.as_ref(), index);
            let low = ring.low(*partition);
            wanted = true;
            known |= low.is_some();
            let end = match low {
                Some(low) => low.min(last),
                None if self.until.is_some() => last,
                None => continue,
            };
            if *offset < end {
                missing.push(Span {
                    partition: *partition,
                    from: *offset,
                    end,
                });
            }
        }
        (missing, wanted && !known)
    }

    /// It was too slow: what it missed stands in gaps.
    fn overrun(&mut self, next: impl Fn(i32) -> Option<i64>) {
        for (partition, offset) in &mut self.cursor {
            if let Some(next) = next(*partition)
                && *offset < next
                && !self.held.contains(partition)
            {
                self.gaps.push_back(Gap {
                    partition: *partition,
                    from: *offset,
                    to: next,
                    reason: GapReason::Overrun,
                });
                if self.on_lag == OnLag::Skip {
                    *offset = next;
                }
            }
        }
        if self.on_lag != OnLag::Skip {
            self.ended = Some(Ended::Overrun);
        }
        self.place = None;
    }

    fn page_on(&mut self, most_bytes: usize) -> Step {
        let Some((slot, mut at)) = self.page.take() else {
            return Step::Again;
        };
        let Some(page) = self.catch_up.page(&slot) else {
            // What is left of it is read again, from the cursor on.
            self.page_bytes = (self.page_bytes / 2).max(LEAST_BYTES);
            return Step::Again;
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = page.entries.get(at) {
            let record = entry.record();
            if self.wants(record) {
                let size = record.size();
                if !entries.is_empty() && bytes + size > most_bytes {
                    break;
                }
                bytes += size;
                self.pass(record);
                entries.push(Arc::clone(entry));
            }
            at += 1;
        }
        self.more = at < page.entries.len();
        if self.more {
            self.page = Some((slot, at));
        } else {
            self.page_bytes = (self.page_bytes * 2).min(MOST_BYTES);
            for (partition, next) in &page.next {
                if let Ok(index) = self.index(*partition)
                    && !self.is_held(*partition)
                {
                    let last = until(self.until.as_ref(), index);
                    if let Some((_, offset)) = self.cursor.get_mut(index) {
                        *offset = (*offset).max((*next).min(last));
                    }
                }
            }
        }
        Step::Next(if entries.is_empty() {
            Next::Moved
        } else {
            Next::Records(entries)
        })
    }

    fn load(&mut self, spans: Vec<Span>, pause: Duration) {
        let loading = self
            .catch_up
            .load(&self.feed, spans, self.page_bytes, pause);
        self.loading = Some(Load(loading));
    }

    fn loaded(&mut self, loaded: Loaded) {
        match loaded {
            Loaded::Page(page) => self.page = Some((page, 0)),
            Loaded::Watermarks(bounds) => self.bounded(&bounds),
            Loaded::Busy if self.on_lag == OnLag::Skip && self.until.is_none() => {
                let feed = Arc::clone(&self.feed);
                let ring = feed.ring.read();
                self.overrun(|partition| ring.next(partition));
            }
            Loaded::Busy => self.ended = Some(Ended::Busy),
            Loaded::Failed(fault) if is_other_topic(&fault) => {
                self.ended = Some(Ended::Recreated);
            }
            Loaded::Failed(fault) if fault.kind == crate::kafka::fault::FaultKind::UnknownTopic => {
                self.ended = Some(Ended::Deleted);
            }
            Loaded::Failed(fault) if fault.retriable => {
                tracing::debug!(
                    topic = &*self.feed.topic.name,
                    "catching up goes on after: {fault}"
                );
                let (missing, _) = self.missing(&self.feed.ring.read());
                if !missing.is_empty() {
                    self.load(missing, PAUSE);
                }
            }
            Loaded::Failed(fault) => self.ended = Some(Ended::Failed(fault)),
        }
    }

    /// What is to be read next is not in the log: it goes on where the log begins.
    fn bounded(&mut self, bounds: &[Watermarks]) {
        let mut moved = false;
        for bound in bounds {
            let Ok(index) = self.index(bound.partition) else {
                continue;
            };
            let Some((_, offset)) = self.cursor.get_mut(index) else {
                continue;
            };
            let (to, reason) = if *offset < bound.low {
                (bound.low, GapReason::Retention)
            } else if *offset > bound.end {
                (bound.end, GapReason::Truncated)
            } else {
                continue;
            };
            self.gaps.push_back(Gap {
                partition: bound.partition,
                from: *offset,
                to,
                reason,
            });
            *offset = to;
            moved = true;
        }
        if !moved {
            // The log's start moved and moved back, or a replica is behind: look again, not at once.
            let (missing, _) = self.missing(&self.feed.ring.read());
            if !missing.is_empty() {
                self.load(missing, PAUSE);
            }
        }
    }

    fn index(&self, partition: i32) -> Result<usize, usize> {
        self.cursor.binary_search_by_key(&partition, |(id, _)| *id)
    }

    fn wants(&self, record: &ConsumerRecord) -> bool {
        if self.key.is_some() && self.key != record.key {
            return false;
        }
        let Ok(index) = self.index(record.partition) else {
            return false;
        };
        let cursor = self
            .cursor
            .get(index)
            .map_or(i64::MAX, |(_, offset)| *offset);
        record.offset >= cursor
            && !self.is_held(record.partition)
            && record.offset < until(self.until.as_ref(), index)
    }

    fn pass(&mut self, record: &ConsumerRecord) {
        if let Ok(index) = self.index(record.partition)
            && let Some((_, offset)) = self.cursor.get_mut(index)
        {
            *offset = (*offset).max(record.offset + 1);
        }
    }

    fn is_done(&self) -> bool {
        self.until.is_some()
            && self
                .cursor
                .iter()
                .enumerate()
                .all(|(index, (_, offset))| *offset >= until(self.until.as_ref(), index))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.feed.left_key(key);
        }
        self.feeds.left(&self.feed);
    }
}

/// Where the partition at `index` of a cursor ends.
fn until(until: Option<&Vec<(i32, i64)>>, index: usize) -> i64 {
    match until {
        None => i64::MAX,
        Some(until) => until.get(index).map_or(i64::MAX, |(_, offset)| *offset),
    }
}
