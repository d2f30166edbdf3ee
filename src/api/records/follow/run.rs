//! One stream: what its body is made of, piece by piece.
//!
//! The body is pulled: a piece is made when the connection has taken the last one, so a stream holds
//! one piece and its followers' cursors, however slow its reader is.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use futures::FutureExt;
use metrics::Counter;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::ahead::Ahead;
use super::asked::{Asked, Origin};
use super::frames::{self, Door};
use super::lane::{Lane, Place};
use super::latest::Latest;
use super::registry::Seat;
use super::start::{self, Start};
use crate::api::records::partitions::Part;
use crate::auth::Principal;
use crate::auth::jwt::now;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::kafka::tail::{Ended, Entry, Follow, Follower, Gap, Next};
use crate::observe::metrics::topic_label;
use crate::position::{From, Offsets, Vectors};

/// Bytes of records in a piece, about.
const PIECE: usize = 32 << 10;
/// Bytes of a piece on a connection that others share: whether they are taken is all that tells that the
/// reader reads.
const SHARED_PIECE: usize = 16 << 10;
/// Most pulls that are put into one piece.
const MOST_PULLS: usize = 64;
/// Above so many partitions only the last event of a piece has an id.
const FEW_PARTITIONS: usize = 8;
/// How long before its end a principal is told that its token expires.
const EXPIRING: Duration = Duration::from_secs(60);
/// What stands after the id of a stream that is over for good: who comes back with it gets 204.
pub(super) const OVER: char = '~';
/// Between these a client waits before it connects again, in milliseconds.
const RETRY: std::ops::RangeInclusive<u64> = 1_000..=5_000;
/// How long clients of an overloaded gateway wait.
pub(super) const RETRY_BUSY: u64 = 30_000;

/// A stream under way.
pub(super) struct Run {
    gateway: Gateway,
    seat: Seat,
    lane: Arc<Lane>,
    parts: Vec<Part>,
    cluster_id: Arc<str>,
    vectors: Vectors,
    begin: Option<Box<Asked>>,
    followers: Vec<Follower>,
    /// Which of several is looked at first.
    turn: usize,
    /// The next offset of each partition after what was written.
    sent: Vec<Offsets>,
    /// `sent` has moved since an id was written.
    moved: bool,
    every_id: bool,
    /// The time of the last record that was passed in each partition, where ids have it.
    times: Option<Vec<BTreeMap<i32, i64>>>,
    /// The time of the last record of each part.
    last: Vec<Option<i64>>,
    /// An end that has not come yet.
    ahead: Option<Ahead>,
    left: Option<u64>,
    /// What waits where not every record is to be written.
    latest: Option<Box<Latest>>,
    read: Vec<Counter>,
    /// What is to be written: bytes that are shared with other streams if they are all of it, else made
    /// for this one.
    shared: Bytes,
    out: Vec<u8>,
    /// What did not fit into the last piece.
    rest: Bytes,
    over: bool,
    heartbeat: Duration,
    retry: u64,
    beat: Instant,
    ends: Option<Instant>,
    expiry: Option<Expiry>,
    drain: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
}

#[derive(Debug, Clone, Copy)]
struct Expiry {
    seconds: u64,
    warns: Option<Instant>,
    ends: Instant,
}

enum Woken {
    Next(usize, Next),
    Stopping,
    Time,
}

impl Run {
    pub(super) fn new(
        gateway: Gateway,
        principal: &Principal,
        seat: Seat,
        lane: Arc<Lane>,
        parts: Vec<Part>,
        cluster_id: Arc<str>,
        asked: Asked,
    ) -> Self {
        let topics: Vec<_> = parts.iter().map(|part| &*part.topic).collect();
        let vectors = Vectors::new(&cluster_id, &topics);
        let begun = Instant::now();
        let heartbeat = asked
            .heartbeat
            .unwrap_or(gateway.settings().streams.heartbeat);
        let expiry = principal.expires().map(|seconds| {
            let ends = begun + Duration::from_secs(seconds.saturating_sub(now()));
            Expiry {
                seconds,
                warns: Some(ends.checked_sub(EXPIRING).unwrap_or(begun)),
                ends,
            }
        });
        let read = parts
            .iter()
            .map(|part| {
                metrics::counter!("kafka_messages_read_total", "topic" => topic_label(&part.topic.name))
            })
            .collect();
        Self {
            retry: asked.retry.unwrap_or_else(|| fastrand::u64(RETRY)),
            every_id: asked.every_id,
            times: asked.timed.then(Vec::new),
            last: vec![None; parts.len()],
            ahead: None,
            left: asked.limit,
            ends: asked.timeout.map(|timeout| begun + timeout),
            latest: (asked.max_rate.is_some() || asked.conflate)
                .then(|| Box::new(Latest::new(asked.max_rate, asked.conflate))),
            begin: Some(Box::new(asked)),
            timer: Box::pin(sleep_until(begun + heartbeat)),
            stopping: Box::pin(gateway.stopping().clone().cancelled_owned()),
            gateway,
            seat,
            lane,
            parts,
            cluster_id,
            vectors,
            followers: Vec::new(),
            turn: 0,
            sent: Vec::new(),
            moved: false,
            read,
            shared: Bytes::new(),
            out: Vec::new(),
            rest: Bytes::new(),
            over: false,
            heartbeat,
            beat: begun + heartbeat,
            expiry,
            drain: None,
        }
    }

    /// What comes before anything of Kafka is known: the client sees at once that it is connected.
    pub(super) fn hello(&mut self) {
        match self.lane.door() {
            Door::Sse => {
                self.out.extend_from_slice(
                    concat!(": tidegate ", env!("CARGO_PKG_VERSION"), "\n").as_bytes(),
                );
                frames::retry(&mut self.out, self.retry);
            }
            Door::Ndjson | Door::Ws(_) => self.out.push(b'\n'),
        }
    }

    /// The next piece; `None` is the end.
    pub(super) async fn piece(&mut self) -> Option<Bytes> {
        self.seat.is_asked();
        loop {
            if self.rest.is_empty() {
                self.write_latest(false);
                self.check_ahead();
                self.rest = self.take();
            }
            if !self.rest.is_empty() {
                self.beat = Instant::now() + self.heartbeat;
                self.seat.gave();
                let most = if self.seat.is_shared() {
                    SHARED_PIECE
                } else {
                    usize::MAX
                };
                return Some(self.rest.split_to(self.rest.len().min(most)));
            }
            if self.over {
                return None;
            }
            if let Some(asked) = self.begin.take() {
                // On the heap, for it is large and soon over.
                if let Err(error) = Box::pin(self.begin(&asked)).await {
                    self.failed(error);
                }
                continue;
            }
            if self.ahead.as_ref().is_some_and(Ahead::is_due) {
                if let Err(error) = self.close_ahead().await {
                    self.failed(error);
                }
                continue;
            }
            match self.woken().await {
                Woken::Next(index, next) => {
                    self.next(index, next);
                    self.pull_more(index);
                }
                Woken::Stopping => self.stopping(),
                Woken::Time => self.time(),
            }
        }
    }

    /// Adds bytes that are shared with other streams.
    fn give(&mut self, bytes: &Bytes) {
        if self.out.is_empty() && self.shared.is_empty() {
            self.shared = bytes.clone();
        } else {
            self.own().extend_from_slice(bytes);
        }
    }

    /// What is written for this stream alone.
    fn own(&mut self) -> &mut Vec<u8> {
        if !self.shared.is_empty() {
            let shared = std::mem::take(&mut self.shared);
            self.out.extend_from_slice(&shared);
        }
        &mut self.out
    }

    /// What has been written so far.
    fn take(&mut self) -> Bytes {
        if self.out.is_empty() {
            std::mem::take(&mut self.shared)
        } else {
            std::mem::take(&mut self.out).into()
        }
    }

    /// What else is there at once goes into the same piece, as long as that is not large.
    fn pull_more(&mut self, index: usize) {
        for _ in 0..MOST_PULLS {
            let full = self.shared.len() + self.out.len() >= PIECE
                || self.latest.as_ref().is_some_and(|latest| latest.is_full());
            let follower = self.followers.get_mut(index);
            let Some(follower) =
                follower.filter(|follower| !self.over && !full && follower.has_more())
            else {
                return;
            };
            let Some(next) = follower.next(PIECE).now_or_never() else {
                return;
            };
            self.next(index, next);
        }
    }

    async fn begin(&mut self, asked: &Asked) -> Result<(), ApiError> {
        let gateway = self.gateway.clone();
        let cluster = gateway.cluster();
        let start = start::resolve(
            cluster,
            &self.cluster_id,
            &self.parts,
            &asked.origin,
            &asked.fallback,
            asked.until.as_ref(),
        )
        .await?;
        // Who is to see how far the topic has come cannot leave out the records of others.
        let lane = start.ahead.is_none().then(|| Arc::clone(&self.lane));
        self.followers = self
            .parts
            .iter()
            .enumerate()
            .map(|(index, part)| {
                let of = |offsets: &Vec<Offsets>| offsets.get(index).cloned().unwrap_or_default();
                let follow = Follow {
                    topic: Arc::clone(&part.topic),
                    start: of(&start.offsets),
                    all: part.all,
                    until: start.until.as_ref().map(of),
                    on_lag: asked.on_lag,
                };
                let key = lane.as_ref().and_then(|lane| lane.key(&part.topic.name));
                cluster
                    .tails
                    .follow_key(follow, key.map(Bytes::copy_from_slice))
            })
            .collect();
        self.sent.clone_from(&start.offsets);
        if let Some(times) = &mut self.times {
            times.clone_from(&start.times);
        }
        self.say_where(asked, &start);
        if let Some((time, ends)) = start.ahead {
            self.ahead = Some(Ahead::new(time, ends));
        }
        Ok(())
    }

    /// The clock has passed the end: where the logs end now, the stream does.
    async fn close_ahead(&mut self) -> Result<(), ApiError> {
        let gateway = self.gateway.clone();
        let read = self.parts.iter().zip(&self.sent).map(async |(part, sent)| {
            let partitions: Vec<i32> = sent.iter().map(|(id, _)| *id).collect();
            gateway
                .cluster()
                .bounds(&part.topic.name, &partitions)
                .await
        });
        let bounds = futures::future::try_join_all(read).await?;
        if let Some(ahead) = &mut self.ahead {
            for (index, bounds) in bounds.iter().enumerate() {
                ahead.close(index, bounds);
            }
        }
        Ok(())
    }

    fn check_ahead(&mut self) {
        let reached = |ahead: &Ahead| ahead.is_reached(&self.sent);
        if !self.over && self.ahead.as_ref().is_some_and(reached) {
            self.end("until", None);
        }
    }

    /// `ready`, and what of the wish could not be fulfilled.
    fn say_where(&mut self, asked: &Asked, start: &Start) {
        let wish = match &asked.origin {
            Origin::Id(id) => id.chars().take(200).collect(),
            Origin::From(from) => match from {
                From::Latest => "latest".to_owned(),
                From::Earliest => "earliest".to_owned(),
                From::Last(count) => format!("-{count}"),
                From::Time(time) => time.to_string(),
                From::Vector(vector) => vector.chars().take(200).collect(),
            },
        };
        let from = json!(self.places());
        let mut gaps = start.gaps.iter().peekable();
        let told = gaps.peek().is_none();
        if let Some(reason) = &start.reset {
            let data = json!({"asked": wish, "reason": reason, "from": from});
            self.event_at("reset", told, &data);
        }
        let exact = start.reset.is_none() && told && !start.by_time;
        let data = json!({"from": from, "asked": wish, "exact": exact, "backlog": start.backlog});
        self.event_at("ready", told, &data);
        while let Some((index, gap)) = gaps.next() {
            self.gap(*index, gap, gaps.peek().is_none());
        }
    }

    fn places(&self) -> BTreeMap<&str, BTreeMap<i32, i64>> {
        let topics = self.parts.iter().zip(&self.sent);
        topics
            .map(|(part, offsets)| (&*part.topic.name, offsets.iter().copied().collect()))
            .collect()
    }

    /// Waits for what comes first. Whatever does not come first loses nothing.
    async fn woken(&mut self) -> Woken {
        let until = [
            Some(self.beat),
            self.ends,
            self.expiry.and_then(|expiry| expiry.warns),
            self.expiry.map(|expiry| expiry.ends),
            self.drain,
            self.ahead
                .as_ref()
                .and_then(Ahead::due)
                .map(|left| Instant::now() + left),
            self.latest.as_ref().and_then(|latest| latest.due()),
        ];
        let until = until.into_iter().flatten().min().unwrap_or(self.beat);
        let told = self.drain.is_some();
        // Records may never stop to come.
        if !told && self.gateway.stopping().is_cancelled() {
            return Woken::Stopping;
        }
        if until <= Instant::now() {
            return Woken::Time;
        }
        let full = self.latest.as_ref().is_some_and(|latest| latest.is_full());
        let Self {
            followers,
            turn,
            timer,
            stopping,
            ..
        } = self;
        let mut next = pin!(next(followers, turn));
        poll_fn(|context| {
            if !full && let Poll::Ready((index, next)) = next.as_mut().poll(context) {
                return Poll::Ready(Woken::Next(index, next));
            }
            // Only now: most of the time there are records, and these cost nothing.
            if !told && stopping.as_mut().poll(context).is_ready() {
                return Poll::Ready(Woken::Stopping);
            }
            // One that is early is set again when it is over; the heartbeat moves with every piece.
            if timer.deadline() > until || timer.is_elapsed() {
                timer.as_mut().reset(until);
            }
            while timer.as_mut().poll(context).is_ready() {
                if until <= Instant::now() {
                    return Poll::Ready(Woken::Time);
                }
                timer.as_mut().reset(until);
            }
            Poll::Pending
        })
        .await
    }

    fn next(&mut self, index: usize, next: Next) {
        match next {
            Next::Records(entries) => self.records(index, &entries),
            Next::Moved | Next::Health => self.catch_up_with(index),
            Next::Gap(gap) => {
                self.write_latest(true);
                let more = self.followers.get(index).is_some_and(Follower::has_gaps);
                if !more {
                    self.catch_up_with(index);
                }
                self.gap(index, &gap, !more);
            }
            Next::Ended(ended) => self.ended(index, &ended),
        }
    }

    /// The followers have come as far as this.
    fn catch_up_with(&mut self, index: usize) {
        if self
            .latest
            .as_ref()
            .is_some_and(|latest| !latest.is_empty())
        {
            // What waits must not be passed over.
            return;
        }
        if let (Some(follower), Some(sent)) = (self.followers.get(index), self.sent.get_mut(index))
            && sent.as_slice() != follower.cursor()
        {
            sent.clear();
            sent.extend_from_slice(follower.cursor());
            if let Some(ahead) = &self.ahead {
                ahead.bound(index, sent);
            }
            self.moved = true;
        }
    }

    /// Whether each record has an id.
    fn each_has_id(&self) -> bool {
        let partitions: usize = self.sent.iter().map(Vec::len).sum();
        self.lane.door() == Door::Sse && (self.every_id || partitions <= FEW_PARTITIONS)
    }

    fn records(&mut self, index: usize, entries: &[Arc<Entry>]) {
        if self.latest.is_some() {
            return self.keep_latest(index, entries);
        }
        // What other streams of the lane write too: where there is one topic, the position tells all.
        let shareable = self.left.is_none()
            && self.ahead.is_none()
            && self.times.is_none()
            && self.followers.len() == 1;
        let before = if shareable {
            self.sent.first().cloned().unwrap_or_default()
        } else {
            Vec::new()
        };
        let each = self.each_has_id();
        let after = self.followers.get(index).map(Follower::cursor);
        let place = Place {
            entries,
            each,
            before: &before,
            after: after.unwrap_or_default(),
        };
        if shareable && let Some(piece) = self.lane.piece(place) {
            self.catch_up_with(index);
            if let Some(entry) = entries.last() {
                let record = entry.record();
                self.passed(index, record.partition, record.timestamp);
            }
            self.moved = piece.moved;
            self.give(&piece.out);
            return self.count(index, piece.written);
        }
        let so_far = self.take();
        let written = self.write(index, entries, each);
        let out = Bytes::from(std::mem::take(&mut self.out));
        if shareable && let Some(after) = self.sent.first() {
            let place = Place {
                entries,
                each,
                before: &before,
                after,
            };
            Lane::keep(&self.lane, place, &out, written, self.moved);
        }
        self.give(&so_far);
        self.give(&out);
        self.count(index, written);
        if self.left == Some(0) {
            self.end("limit", None);
        }
    }

    fn count(&self, index: usize, written: u64) {
        if written > 0 {
            self.lane.delivered.increment(written);
            if let Some(read) = self.read.get(index) {
                read.increment(written);
            }
        }
    }

    /// Writes records, and tells how many are shown.
    fn write(&mut self, index: usize, entries: &[Arc<Entry>], each: bool) -> u64 {
        let mut written = 0;
        // The last one waits, so that an id may be put before it.
        let mut held: Option<Bytes> = None;
        for entry in entries {
            if !self.is_before_end(index, entry) {
                continue;
            }
            let made = self.lane.of(entry);
            if made.is_some()
                && let Some(held) = held.take()
            {
                if each {
                    self.put_id();
                }
                self.out.extend_from_slice(&held);
            }
            // An id is of the place after its own record, and of what was passed over since.
            let record = entry.record();
            self.pass(index, record.partition, record.offset);
            self.passed(index, record.partition, record.timestamp);
            if let Some(made) = made {
                held = Some(made);
                written += 1;
                if let Some(left) = &mut self.left {
                    *left -= 1;
                    if *left == 0 {
                        break;
                    }
                }
            }
        }
        if self.left != Some(0) {
            self.catch_up_with(index);
        }
        if let Some(held) = held {
            if self.lane.door() == Door::Sse {
                self.put_id();
            }
            self.out.extend_from_slice(&held);
        }
        written
    }

    fn is_before_end(&mut self, index: usize, entry: &Entry) -> bool {
        match &mut self.ahead {
            Some(ahead) => ahead.takes(index, entry.record()),
            None => true,
        }
    }

    /// The position moves over a record.
    fn pass(&mut self, index: usize, partition: i32, offset: i64) {
        if let Some(sent) = self.sent.get_mut(index) {
            match sent.binary_search_by_key(&partition, |(id, _)| *id) {
                Ok(at) => {
                    if let Some((_, next)) = sent.get_mut(at) {
                        *next = offset + 1;
                    }
                }
                Err(at) => sent.insert(at, (partition, offset + 1)),
            }
            self.moved = true;
        }
    }

    /// Takes in records of which only the newest are to be written.
    fn keep_latest(&mut self, index: usize, entries: &[Arc<Entry>]) {
        for entry in entries {
            if !self.is_before_end(index, entry) {
                continue;
            }
            let made = self.lane.of(entry);
            if let (Some(made), Some(latest)) = (made, &mut self.latest) {
                latest.came(index, entry.record(), made);
            }
        }
        self.catch_up_with(index);
    }

    /// Writes what may leave of what waits, up to a piece of it; or all of it.
    fn write_latest(&mut self, all: bool) {
        if self.latest.is_none() {
            return;
        }
        let now = Instant::now();
        let each = self.each_has_id();
        let sse = self.lane.door() == Door::Sse;
        while !self.over && (all || self.shared.len() + self.out.len() < PIECE) {
            let Some(latest) = &mut self.latest else {
                return;
            };
            let Some(waiting) = latest.leave(now, all) else {
                return;
            };
            let last = latest.is_empty();
            let due = latest.due().is_some_and(|due| due > now);
            self.pass(waiting.index, waiting.partition, waiting.offset);
            self.passed(waiting.index, waiting.partition, waiting.timestamp);
            if last {
                // What was replaced or left out lies before it.
                for index in 0..self.followers.len() {
                    self.catch_up_with(index);
                }
            }
            if each || (sse && (last || due)) {
                self.put_id();
            }
            self.own().extend_from_slice(&waiting.made);
            self.count(waiting.index, 1);
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    return self.end("limit", None);
                }
            }
        }
    }

    /// What has been passed has this time.
    fn passed(&mut self, index: usize, partition: i32, time: i64) {
        if let Some(last) = self.last.get_mut(index) {
            *last = Some(time);
        }
        if let Some(times) = self.times.as_mut().and_then(|times| times.get_mut(index)) {
            times.insert(partition, time);
        }
    }

    fn put_id(&mut self) {
        let id = self.id();
        frames::id(self.own(), &id);
        self.moved = false;
    }

    fn id(&self) -> String {
        let offsets = self.sent.iter().map(Vec::as_slice);
        match &self.times {
            None => self.vectors.encode(offsets),
            Some(times) => self.vectors.encode_with_times(offsets, |index, partition| {
                times.get(index)?.get(&partition).copied()
            }),
        }
    }

    /// Of several gaps only the last one has an id: whoever is cut off between them comes back to
    /// where it was, and is told of all of them.
    fn gap(&mut self, index: usize, gap: &Gap, last: bool) {
        let Some(part) = self.parts.get(index) else {
            return;
        };
        let data = json!({
            "topic": &*part.topic.name,
            "partition": gap.partition,
            "from": gap.from,
            "to": gap.to,
            "reason": gap.reason.name(),
        });
        metrics::counter!("stream_gaps_total", "reason" => gap.reason.name()).increment(1);
        self.event_at("gap", last, &data);
    }

    fn ended(&mut self, index: usize, ended: &Ended) {
        self.write_latest(true);
        if self.over {
            return;
        }
        self.catch_up_with(index);
        let topic = self
            .parts
            .get(index)
            .map(|part| part.topic.name.to_string());
        match ended {
            Ended::Until => {
                if self.followers.iter().all(Follower::is_over) {
                    self.end("until", None);
                }
            }
            Ended::Deleted => self.end("topic deleted", topic),
            // Not for good: whoever comes back is told by `reset` where it begins.
            Ended::Recreated => {
                let topic = topic.unwrap_or_default();
                self.failed(
                    ApiError::plain(
                        StatusCode::SERVICE_UNAVAILABLE,
                        format!("topic {topic} was deleted and created again; connect again"),
                    )
                    .retry(),
                );
            }
            Ended::Overrun => self.close(),
            Ended::Busy => {
                self.retry = RETRY_BUSY;
                self.failed(
                    ApiError::plain(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "too many others are catching up; connect again with the last id",
                    )
                    .retry(),
                );
            }
            Ended::Failed(fault) => self.failed(ApiError::from(fault.clone())),
        }
    }

    /// It is over for good.
    fn end(&mut self, reason: &str, topic: Option<String>) {
        let id = format!("{}{OVER}", self.id());
        let data = match topic {
            Some(topic) => json!({"reason": reason, "topic": topic}),
            None => json!({"reason": reason}),
        };
        self.event_with("end", Some(&id), &data);
        self.over = true;
    }

    /// It is over, and goes on when the client connects again.
    fn close(&mut self) {
        if self.lane.door() == Door::Sse {
            let retry = self.retry;
            frames::retry(self.own(), retry);
        }
        self.over = true;
    }

    fn failed(&mut self, error: ApiError) {
        self.event("stream-error", &error.into_body());
        self.close();
    }

    fn stopping(&mut self) {
        // Not all at once: those that come back are the next process's load.
        let grace = self.gateway.settings().server.shutdown_grace / 4;
        let within = u64::try_from(grace.as_millis()).unwrap_or(0).max(1);
        self.drain = Some(Instant::now() + Duration::from_millis(fastrand::u64(0..within)));
    }

    fn time(&mut self) {
        let now = Instant::now();
        if self.drain.is_some_and(|at| at <= now) {
            self.retry = fastrand::u64(RETRY);
            self.event("drain", &json!({"retry": self.retry}));
            return self.close();
        }
        if let Some(expiry) = &mut self.expiry {
            if expiry.ends <= now {
                let error = ApiError::unauthenticated(
                    Some("invalid_token"),
                    "the token has expired; connect again with a new one",
                );
                return self.failed(error);
            }
            if expiry.warns.is_some_and(|at| at <= now) {
                expiry.warns = None;
                let data = json!({"expires": expiry.seconds, "in": (expiry.ends - now).as_secs()});
                return self.event("auth-expiring", &data);
            }
        }
        if self.ends.is_some_and(|at| at <= now) {
            return self.end("timeout", None);
        }
        if self.beat <= now {
            self.look();
            if self.shared.is_empty() && self.out.is_empty() {
                self.heartbeat();
            }
        }
    }

    /// Sees how far the followers have come. One of a key is not woken by others' records.
    fn look(&mut self) {
        for index in 0..self.followers.len() {
            let follower = self.followers.get_mut(index);
            let follower = follower.filter(|follower| !follower.is_over());
            let next = follower.and_then(|follower| follower.next(PIECE).now_or_never());
            if let Some(next) = next
                && !self.over
            {
                self.next(index, next);
            }
        }
    }

    /// A sign of life after silence: with the position where it has moved over what the client did not
    /// want to see, so that it comes back to here and not to where it last saw something.
    fn heartbeat(&mut self) {
        let lag: i64 = self.followers.iter().filter_map(Follower::lag).sum();
        if lag > 0 {
            return self.event("lag", &json!({"records": lag, "ms": self.lag_ms()}));
        }
        match self.lane.door() {
            Door::Ndjson if self.moved && !self.lane.is_bare() => {
                self.event("position", &json!({"from": self.places()}));
            }
            Door::Sse if self.moved => {
                self.put_id();
                self.out.push(b'\n');
            }
            Door::Sse => self.give(&Bytes::from_static(b": hb\n\n")),
            Door::Ndjson | Door::Ws(_) => self.give(&Bytes::from_static(b"\n")),
        }
    }

    /// How much older the last record is than the newest one that the gateway has read, at most; `None`
    /// where either is not known.
    fn lag_ms(&self) -> Option<i64> {
        let parts = self.followers.iter().zip(&self.last);
        let lags = parts.filter_map(|(follower, last)| {
            follower.lag()?;
            Some((follower.newest()? - (*last)?).max(0))
        });
        lags.max()
    }

    /// An event, with an id unless more is to be told before the place that we have come to counts.
    fn event_at<T: Serialize>(&mut self, name: &str, counts: bool, data: &T) {
        if counts {
            self.event(name, data);
        } else {
            self.event_with(name, None, data);
        }
    }

    fn event<T: Serialize>(&mut self, name: &str, data: &T) {
        let id = self.id();
        self.moved = false;
        // Before there is a position there is no id: the client keeps the one it has.
        let id = (!self.sent.is_empty()).then_some(id);
        self.event_with(name, id.as_deref(), data);
    }

    fn event_with<T: Serialize>(&mut self, name: &str, id: Option<&str>, data: &T) {
        let door = self.lane.door();
        // Where lines are values, there is no place for anything else.
        if door == Door::Ndjson && self.lane.is_bare() {
            return;
        }
        frames::event(self.own(), door, name, id, data);
    }
}

/// What comes next of any of the followers. Each of them comes first once in a while.
async fn next(followers: &mut [Follower], turn: &mut usize) -> (usize, Next) {
    if let [one] = followers {
        return (0, one.next(PIECE).await);
    }
    *turn += 1;
    let count = followers.len().max(1);
    let first = *turn % count;
    let mut waiting: Vec<_> = followers
        .iter_mut()
        .enumerate()
        .filter(|(_, follower)| !follower.is_over())
        .map(|(index, follower)| Box::pin(async move { (index, follower.next(PIECE).await) }))
        .collect();
    if waiting.is_empty() {
        return std::future::pending().await;
    }
    let first = first.min(waiting.len() - 1);
    waiting.rotate_left(first);
    futures::future::select_all(waiting).await.0
}
