//! One stream: what its body is made of, piece by piece.
//!
//! The body is pulled: a piece is made when the connection has taken the last one, so a stream holds
//! one piece and its followers' cursors, however slow its reader is.
//!
//! - `open.rs`: where it begins, and an end that comes with a time
//! - `records.rs`: records on their way into a piece
//! - `events.rs`: what it tells beside them

mod events;
mod open;
mod records;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use serde_json::json;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::encoder::SharedEncoder;
use super::error::{StreamError, TellError};
use super::event_format::{self, Transport};
use super::limits::Permit;
use super::until_time::Ahead;
use crate::auth::standing::Changes;
use crate::auth::{Principal, notice};
use crate::kafka::tail::conflation::Conflation;
use crate::kafka::tail::{Follower, Next};
use crate::observe::topics::TopicReads;
use crate::passthrough::KafkaClients;
use crate::position::{Offsets, ResumeTokens};
use crate::read::allowed::may_go_on;
use crate::read::partitions::Part;
use crate::stream::params::Asked;

/// Bytes of records in a piece, about.
const PIECE: usize = 32 << 10;
/// Bytes of a piece on a connection that others share: whether they are taken is all that tells that the
/// reader reads.
const SHARED_PIECE: usize = 16 << 10;
/// Most pulls that are put into one piece.
const MOST_PULLS: usize = 64;
/// What stands after the id of a stream that is over for good: who comes back with it gets 204.
pub(crate) const OVER: char = '~';
/// Between these a client waits before it connects again, in milliseconds.
const RETRY: std::ops::RangeInclusive<u64> = 1_000..=5_000;
/// How long clients of an overloaded gateway wait.
pub(crate) const RETRY_BUSY: u64 = 30_000;

/// What a stream reads: topics of a cluster.
pub(crate) struct StreamTopics {
    pub(crate) parts: Vec<Part>,
    pub(crate) cluster_id: Arc<str>,
}

/// A stream under way.
pub(crate) struct RecordStream {
    clients: Arc<KafkaClients>,
    principal: Principal,
    /// Tells when the principal is to be judged again.
    changes: Changes,
    permit: Permit,
    encoder: Arc<SharedEncoder>,
    tell_error: TellError,
    parts: Vec<Part>,
    cluster_id: Arc<str>,
    resume_tokens: ResumeTokens,
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
    latest: Option<Box<Conflation>>,
    read: Vec<TopicReads>,
    /// What is to be written: bytes that are shared with other streams if they are all of it, else made
    /// for this one.
    shared: Bytes,
    out: Vec<u8>,
    /// What did not fit into the last piece.
    rest: Bytes,
    /// The last bytes that the connection has taken.
    taken: Taken,
    over: bool,
    heartbeat: Duration,
    retry: u64,
    beat: Instant,
    ends: Option<Instant>,
    expiry: Option<Expiry>,
    /// The end of the ticket, which the stream outlives.
    ticket: Option<Expiry>,
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

impl Expiry {
    /// Of what is good until then, for so long. A page that gets a new ticket when it is told must not be told at
    /// once where those are short-lived.
    fn new(seconds: u64, left: Duration, begun: Instant) -> Self {
        let before = notice(left);
        Self {
            seconds,
            warns: Some(begun + (left - before)),
            ends: begun + left,
        }
    }

    fn told(&self, what: &str, now: Instant) -> serde_json::Value {
        let left = self.ends.saturating_duration_since(now);
        json!({
            "expires": self.seconds,
            "in": left.as_secs(),
            "in_ms": u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            "what": what,
        })
    }
}

enum Woken {
    Next(usize, Next),
    Stopping,
    /// Something was read again: the principal is to be judged.
    Changed,
    Time,
}

impl RecordStream {
    /// One that has `permit`, of topics that are read with `clients`.
    pub(crate) fn new(
        clients: &Arc<KafkaClients>,
        principal: &Principal,
        permit: Permit,
        encoder: Arc<SharedEncoder>,
        tell_error: TellError,
        topics: StreamTopics,
        asked: Asked,
    ) -> Self {
        let StreamTopics { parts, cluster_id } = topics;
        let topics: Vec<_> = parts.iter().map(|part| &*part.topic).collect();
        let resume_tokens = ResumeTokens::new(&cluster_id, &topics);
        let begun = Instant::now();
        let streams = permit.streams();
        let heartbeat = asked.heartbeat.unwrap_or_else(|| streams.heartbeat());
        let expiry = principal
            .expires()
            .zip(principal.time_left())
            .map(|(seconds, left)| Expiry::new(seconds, left, begun));
        let ticket = principal
            .ticket_expires()
            // With its token it ends the stream, and that is told.
            .filter(|seconds| principal.expires() != Some(*seconds))
            .zip(principal.ticket_time_left())
            .map(|(seconds, left)| Expiry::new(seconds, left, begun));
        let read = parts
            .iter()
            .map(|part| TopicReads::of(&part.topic.name, principal.identity()))
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
                .then(|| Box::new(Conflation::new(asked.max_rate, asked.conflate))),
            begin: Some(Box::new(asked)),
            timer: Box::pin(sleep_until(begun + heartbeat)),
            stopping: Box::pin(streams.stopping().clone().cancelled_owned()),
            clients: Arc::clone(clients),
            principal: principal.clone(),
            changes: principal.changes(),
            permit,
            encoder,
            tell_error,
            parts,
            cluster_id,
            resume_tokens,
            followers: Vec::new(),
            turn: 0,
            sent: Vec::new(),
            moved: false,
            read,
            shared: Bytes::new(),
            out: Vec::new(),
            rest: Bytes::new(),
            taken: Taken::default(),
            over: false,
            heartbeat,
            beat: begun + heartbeat,
            expiry,
            ticket,
            drain: None,
        }
    }

    /// What comes before anything of Kafka is known: the client sees at once that it is connected.
    pub(crate) fn hello(&mut self) {
        match self.encoder.transport() {
            Transport::Sse => {
                self.out.extend_from_slice(
                    concat!(": tidegate ", env!("CARGO_PKG_VERSION"), "\n").as_bytes(),
                );
                event_format::retry(&mut self.out, self.retry);
            }
            Transport::Ndjson | Transport::Ws(_) => self.out.push(b'\n'),
        }
    }

    /// The next piece; `None` is the end.
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        if let Some(reader) = self.permit.reader() {
            reader.is_asked();
        }
        loop {
            if self.changes.came() {
                self.judge();
            }
            if self.rest.is_empty() {
                self.write_latest(false);
                self.check_ahead();
                self.rest = self.take();
            }
            if !self.rest.is_empty() {
                self.beat = Instant::now() + self.heartbeat;
                let mut most = usize::MAX;
                if let Some(reader) = self.permit.reader() {
                    reader.gave();
                    if reader.is_shared() {
                        most = SHARED_PIECE;
                    }
                }
                let piece = self.rest.split_to(self.rest.len().min(most));
                self.taken.take(&piece);
                return Some(piece);
            }
            if self.over {
                return None;
            }
            if let Some(asked) = self.begin.take() {
                // On the heap, for it is large and soon over.
                if let Err(error) = Box::pin(self.begin(&asked)).await {
                    self.failed(error.into());
                }
                continue;
            }
            if self.ahead.as_ref().is_some_and(Ahead::is_due) {
                if let Err(error) = self.close_ahead().await {
                    self.failed(error.into());
                }
                continue;
            }
            match self.woken().await {
                Woken::Next(index, next) => {
                    self.next(index, next);
                    self.pull_more(index);
                }
                Woken::Stopping => self.stopping(),
                // It is judged before anything else.
                Woken::Changed => {}
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
                || self.latest.as_ref().is_some_and(|latest| latest.is_full(0));
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

    /// Waits for what comes first. Whatever does not come first loses nothing.
    async fn woken(&mut self) -> Woken {
        let until = [
            Some(self.beat),
            self.ends,
            self.expiry.and_then(|expiry| expiry.warns),
            self.expiry.map(|expiry| expiry.ends),
            self.ticket.and_then(|ticket| ticket.warns),
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
        if !told && self.permit.streams().stopping().is_cancelled() {
            return Woken::Stopping;
        }
        if until <= Instant::now() {
            return Woken::Time;
        }
        let full = self.latest.as_ref().is_some_and(|latest| latest.is_full(0));
        let Self {
            followers,
            turn,
            timer,
            stopping,
            changes,
            ..
        } = self;
        let mut next = pin!(next(followers, turn));
        let mut changed = pin!(changes.wait());
        poll_fn(|context| {
            if !full && let Poll::Ready((index, next)) = next.as_mut().poll(context) {
                return Poll::Ready(Woken::Next(index, next));
            }
            // Only now: most of the time there are records, and these cost nothing.
            if !told && stopping.as_mut().poll(context).is_ready() {
                return Poll::Ready(Woken::Stopping);
            }
            if changed.as_mut().poll(context).is_ready() {
                return Poll::Ready(Woken::Changed);
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

    /// Ends the stream where its principal is none any more, or may not be shown these records. Nothing that
    /// waits is shown then, but the rest of a record that the client has a part of.
    fn judge(&mut self) {
        let topics = self.parts.iter().map(|part| Arc::clone(&part.topic.name));
        let topics: Vec<_> = topics.collect();
        let Err(error) = may_go_on(&self.principal, &topics, self.encoder.visibility()) else {
            return;
        };
        let is_said = self.rest.is_empty() && self.shared.is_empty() && self.out.is_empty();
        if self.over && is_said {
            return;
        }
        let begun = self
            .taken
            .rest_of_frame(&self.rest, self.encoder.transport());
        self.rest = Bytes::new();
        self.latest = None;
        self.begin = None;
        self.ahead = None;
        self.shared = Bytes::new();
        self.out.clear();
        self.out.extend_from_slice(&begun);
        // Without an id: the client has not got all that lies before the place.
        self.error_event(None, error.into());
        self.close();
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

    fn stopping(&mut self) {
        // Not all at once: those that come back are the next process's load.
        let within = self.permit.streams().drain();
        let within = u64::try_from(within.as_millis()).unwrap_or(0).max(1);
        self.drain = Some(Instant::now() + Duration::from_millis(fastrand::u64(0..within)));
    }

    fn time(&mut self) {
        let now = Instant::now();
        // All that is said now has a position.
        self.look();
        if self.drain.is_some_and(|at| at <= now) {
            self.retry = fastrand::u64(RETRY);
            self.event("drain", &json!({"retry": self.retry}));
            return self.close();
        }
        if let Some(expiry) = &mut self.expiry {
            if expiry.ends <= now {
                return self.failed(StreamError::Expired);
            }
            if expiry.warns.is_some_and(|at| at <= now) {
                expiry.warns = None;
                let data = expiry.told("token", now);
                return self.event("auth-expiring", &data);
            }
        }
        if let Some(ticket) = self.ticket
            && ticket.warns.is_some_and(|at| at <= now)
        {
            self.ticket = None;
            return self.event("auth-expiring", &ticket.told("ticket", now));
        }
        if self.ends.is_some_and(|at| at <= now) {
            return self.end("timeout", None);
        }
        if self.beat <= now && self.shared.is_empty() && self.out.is_empty() {
            self.heartbeat();
        }
    }

    /// Sees how far the followers have come. One of a key is not woken by others' records.
    fn look(&mut self) {
        for index in 0..self.followers.len() {
            if self.followers.get_mut(index).is_some_and(Follower::advance) {
                self.catch_up_with(index);
            }
        }
    }
}

/// The end of what a connection has taken: whether that is within a frame.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    /// The last bytes, if there are any.
    last: [Option<u8>; 2],
}

impl Taken {
    fn take(&mut self, piece: &[u8]) {
        for byte in piece.iter().rev().take(2).rev() {
            self.last = [self.last[1], Some(*byte)];
        }
    }

    /// What of `rest` belongs to the frame that was begun: to the end of its line, or as an event to the
    /// empty line after it.
    fn rest_of_frame(&self, rest: &Bytes, transport: Transport) -> Bytes {
        let is_end = |before: Option<u8>, byte: u8| {
            byte == b'\n' && (transport != Transport::Sse || before == Some(b'\n'))
        };
        let [before, last] = self.last;
        if last.is_none_or(|last| is_end(before, last)) {
            return Bytes::new();
        }
        let mut before = last;
        for (at, byte) in rest.iter().enumerate() {
            if is_end(before, *byte) {
                return rest.slice(..=at);
            }
            before = Some(*byte);
        }
        rest.clone()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_a_frame_that_was_begun_is_still_shown() {
        let after = |pieces: &[&[u8]], rest: &'static [u8], transport| {
            let mut taken = Taken::default();
            for piece in pieces {
                taken.take(piece);
            }
            taken.rest_of_frame(&Bytes::from_static(rest), transport)
        };
        let sse = |pieces: &[&[u8]], rest| after(pieces, rest, Transport::Sse);
        let next = b"data: 2\n\n";
        assert_eq!(sse(&[], next), "");
        assert_eq!(sse(&[b"data: 1\n\n"], next), "");
        assert_eq!(sse(&[b"data: 1\n", b"\n"], next), "");
        assert_eq!(sse(&[b"data: 1\n"], b"\ndata: 2\n\n"), "\n");
        assert_eq!(sse(&[b"da"], b"ta: 1\n\ndata: 2\n\n"), "ta: 1\n\n");
        assert_eq!(sse(&[b"id: 1\nda"], b"ta: 1\n\ndata: 2\n\n"), "ta: 1\n\n");
        let line = |pieces: &[&[u8]], rest| after(pieces, rest, Transport::Ndjson);
        assert_eq!(line(&[b"{}\n"], b"{}\n"), "");
        assert_eq!(line(&[b"{"], b"}\n{}\n"), "}\n");
        assert_eq!(line(&[b"{"], b"}"), "}");
    }
}
