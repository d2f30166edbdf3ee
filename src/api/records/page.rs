//! Pages: some records of one or several topics as JSON, and where the next page goes on.
//!
//! Several topics are read one after the other, each at first up to its share of the page, so that a
//! long one does not keep the others from it. Where a filter leaves records out, reading goes on until
//! the page is full or there is nothing more, for a few seconds at the most: what was passed over then
//! is behind `next`, as what is on the page is.
//!
//! A broker that does not answer is not waited for where others do: the page has what they have, and
//! names the partitions that did not answer. In `next` these stay where they were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep_until};

use super::JSON;
use super::params::{filter, partitions};
use super::read::{at_from, gone, isolation};
use super::write::formats;
use crate::auth::Principal;
use crate::auth::policy::RecordVisibility;
use crate::codec::encode;
use crate::codec::parse::Formats;
use crate::codec::projection::Fields;
use crate::filter::Filter;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::{Query, unexpected};
use crate::kafka::admin::Isolation;
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::metadata::Topic;
use crate::kafka::reader::{Page, PageRequest, Span};
use crate::kafka::{self, Cluster, Watermarks};
use crate::observe::topics::TopicReads;
use crate::position::{self, Offsets, Position, PositionError, Since, StartPosition};
use crate::read::allowed::while_allowed;
use crate::read::partitions::{Part, Partitions, Scope};
use crate::record::ConsumerRecord;
use crate::stream::now_ms;
use crate::stream::start_offsets::{Shown, since_of};

/// Records on a page when `limit` is not given.
const DEFAULT_LIMIT: u64 = 100;
/// Longest `wait`, in milliseconds: below the idle timeouts of common proxies.
const MAX_WAIT_MS: u64 = 25_000;
/// How long is read on for records that are wanted where others are left out.
const LOOKING: Duration = Duration::from_secs(5);
/// How often several topics are looked at while none of them has anything. One is waited for at the
/// broker; several would each hold a connection meanwhile.
const LOOK: Duration = Duration::from_millis(200);
/// Records that are read at once at least where most of them may be left out. What has no place on
/// the page is read again for the next one.
const LOOKED_AT: usize = 1_000;

/// The parameters of a page.
struct Asked {
    from: StartPosition,
    partitions: Partitions,
    limit: usize,
    wait: Duration,
    filter: Filter,
    fields: Option<Fields>,
    formats: Formats,
    isolation: Isolation,
}

impl Asked {
    fn parse(query: &mut Query, gateway: &Gateway) -> Result<Self, ApiError> {
        let from = match query.take("from")? {
            None => StartPosition::Latest,
            Some(text) => StartPosition::parse(&text).map_err(|error| at_from(&error))?,
        };
        let partitions = partitions(query)?;
        let most = gateway.settings().limits.records_per_request as u64;
        let limit = query
            .take_number("limit", 1..=most)?
            .unwrap_or(DEFAULT_LIMIT.min(most));
        let wait = query.take_number("wait", 0..=MAX_WAIT_MS)?.unwrap_or(0);
        let wait = match query.take("until")?.as_deref() {
            None => wait,
            Some("end") => 0,
            Some(other) => return Err(unexpected("until", other, "end")),
        };
        Ok(Self {
            from,
            partitions,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            wait: Duration::from_millis(wait),
            filter: filter(query)?,
            fields: Fields::take(query)?,
            formats: formats(query)?,
            isolation: isolation(query, gateway.cluster())?,
        })
    }
}

/// A page of these topics. The permissions have been asked for.
pub(super) async fn answer(
    gateway: &Gateway,
    principal: &Principal,
    topics: &[String],
    mut query: Query,
) -> Result<Response, ApiError> {
    let asked = Asked::parse(&mut query, gateway)?;
    query.finish()?;
    // Nothing is waited for after the credential has expired.
    let wait = principal
        .time_left()
        .map_or(asked.wait, |left| left.min(asked.wait));
    let until = Instant::now() + wait;
    let cluster = gateway.cluster();
    let keyed_topics = &gateway.settings().streams.keyed_topics;
    let scope = Scope::new(
        cluster,
        keyed_topics,
        principal,
        topics,
        &asked.partitions,
        &asked.filter,
    )
    .await?;
    let cluster_id = cluster.id().await?;
    let found = starts(cluster, &scope, &asked, &cluster_id).await?;
    let since: Vec<Since> = found.iter().map(|of| of.since.clone()).collect();
    let (spans, unanswered) = found
        .into_iter()
        .map(|of| (of.spans, of.unanswered))
        .unzip();
    let filtered = scope.visibility.hides() || !asked.filter.is_all();
    let mut reading = Reading {
        cluster,
        parts: &scope.parts,
        visibility: &scope.visibility,
        filter: &asked.filter,
        filtered,
        spans,
        unanswered,
        records: Vec::new(),
        limit: asked.limit,
        bytes: 0,
        most_bytes: gateway.settings().http.max_body_bytes,
        isolation: asked.isolation,
    };
    let names: Vec<_> = scope
        .parts
        .iter()
        .map(|part| Arc::clone(&part.topic.name))
        .collect();
    while_allowed(principal, &names, &scope.visibility, reading.run(until)).await?;
    let topics: Vec<&Topic> = scope.parts.iter().map(|part| &*part.topic).collect();
    for topic in &topics {
        let read = reading.records.iter().filter(|r| r.topic == topic.name);
        TopicReads::of(&topic.name, principal.identity()).count(read.count() as u64);
    }
    let next: Vec<Offsets> = reading.spans.iter().map(|spans| places(spans)).collect();
    let next = position::encode_since(&cluster_id, &topics, &next, &since);
    let unanswered = reading.unanswered;
    let mut records = reading.records;
    if let Some(fields) = &asked.fields {
        for record in &mut records {
            *record = fields.of(record);
        }
    }
    let mut body = page_body(&records, &next, asked.formats);
    if unanswered.iter().any(|of| !of.is_empty()) {
        // Before the last brace.
        body.pop();
        put_unanswered(&mut body, &topics, &unanswered);
        body.push(b'}');
    }
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

fn places(spans: &[Span]) -> Offsets {
    spans
        .iter()
        .map(|span| (span.partition, span.from))
        .collect()
}

/// Partitions whose brokers did not answer, each with why there is nothing of it.
type Unanswered = BTreeMap<i32, String>;

/// A page that is being read.
struct Reading<'a> {
    cluster: &'a Cluster,
    parts: &'a [Part],
    visibility: &'a RecordVisibility,
    filter: &'a Filter,
    /// Records may be left out.
    filtered: bool,
    /// Of each part; where it goes on, and where the log ended when it was asked.
    spans: Vec<Vec<Span>>,
    /// Of each part, which of its partitions have not answered.
    unanswered: Vec<Unanswered>,
    records: Vec<ConsumerRecord>,
    limit: usize,
    bytes: usize,
    most_bytes: usize,
    isolation: Isolation,
}

impl Reading<'_> {
    /// Reads until the page is full, there is nothing more, or, where that holds at once, until a
    /// record has come or it is `until`.
    async fn run(&mut self, until: Instant) -> Result<(), ApiError> {
        let stop = Instant::now() + LOOKING;
        loop {
            self.fill(stop.max(until)).await?;
            if !self.records.is_empty() || Instant::now() >= until {
                return Ok(());
            }
            match self.ready().is_empty() {
                true => self.wait(until).await?,
                // There is something, and it does not come.
                false => sleep_until(until.min(Instant::now() + LOOK)).await,
            }
        }
    }

    /// Reads what there is.
    async fn fill(&mut self, stop: Instant) -> Result<(), ApiError> {
        loop {
            let mut ready = self.ready();
            let left = self.limit - self.records.len().min(self.limit);
            if ready.is_empty() || left == 0 {
                return Ok(());
            }
            // Where the page has no place for all, it is not always the same ones.
            if ready.len() > left {
                fastrand::shuffle(&mut ready);
                ready.truncate(left);
            }
            let count = ready.len();
            for (nth, index) in ready.into_iter().enumerate() {
                let share = left / count + usize::from(nth < left % count);
                let bytes = (self.most_bytes.saturating_sub(self.bytes)) / (count - nth);
                let page = match self.page(index, share, bytes, Duration::ZERO).await {
                    Ok(page) => page,
                    // The next page meets the error again.
                    Err(_) if !self.records.is_empty() => return Ok(()),
                    Err(error) => return Err(error),
                };
                if !self.take(index, page) {
                    return Ok(());
                }
            }
            let once = self.parts.len() == 1 && !self.filtered;
            if once || Instant::now() >= stop {
                return Ok(());
            }
        }
    }

    /// Waits until there may be something.
    async fn wait(&mut self, until: Instant) -> Result<(), ApiError> {
        if self.parts.len() == 1 && !self.open(0).is_empty() {
            let wait = until.saturating_duration_since(Instant::now());
            let page = self.page(0, self.limit, self.most_bytes, wait).await?;
            self.take(0, page);
            return Ok(());
        }
        sleep_until(until.min(Instant::now() + LOOK)).await;
        let bounds = join_all(self.parts.iter().enumerate().map(async |(index, part)| {
            let ids: Vec<i32> = self.open(index).iter().map(|s| s.partition).collect();
            let bounds = self
                .cluster
                .watermarks_of_each(self.isolation, &part.topic, &ids);
            ids.iter().copied().zip(bounds.await).collect::<Vec<_>>()
        }))
        .await;
        for (index, bounds) in bounds.into_iter().enumerate() {
            for (partition, bound) in bounds {
                let spans = self.spans.get_mut(index).into_iter().flatten();
                match bound {
                    Ok(bound) => {
                        for span in spans.filter(|span| span.partition == partition) {
                            span.end = span.end.max(bound.end);
                        }
                    }
                    Err(fault) if fault.retriable => {
                        if let Some(of) = self.unanswered.get_mut(index) {
                            of.insert(partition, fault.message);
                        }
                    }
                    Err(fault) => return Err(fault.into()),
                }
            }
        }
        Ok(())
    }

    /// What of a part can be read: those of its partitions that answer.
    fn open(&self, index: usize) -> Vec<Span> {
        let silent = self.unanswered.get(index);
        let answers = |span: &&Span| silent.is_none_or(|of| !of.contains_key(&span.partition));
        let spans = self.spans.get(index).into_iter().flatten();
        spans.filter(answers).copied().collect()
    }

    /// The parts that have something to read.
    fn ready(&self) -> Vec<usize> {
        let has = |index: &usize| self.open(*index).iter().any(|span| span.from < span.end);
        (0..self.parts.len()).filter(has).collect()
    }

    async fn page(
        &self,
        index: usize,
        limit: usize,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Page, ApiError> {
        let Some(part) = self.parts.get(index) else {
            let cause = format_args!("there is no part {index} of a page to read");
            return Err(ApiError::internal(cause));
        };
        let request = PageRequest {
            topic: Arc::clone(&part.topic),
            spans: self.open(index),
            limit: match self.filtered {
                true => limit.max(LOOKED_AT),
                false => limit,
            },
            max_bytes,
            wait,
            isolation: self.isolation,
        };
        read(self.cluster, request).await
    }

    /// Puts what was read on the page; `false` when no more has a place on it. What has none is for
    /// the next page, and so is what comes after it in its partition.
    fn take(&mut self, index: usize, page: Page) -> bool {
        if let (Some(part), Some(of)) = (self.parts.get(index), self.unanswered.get_mut(index)) {
            let silent = page.unanswered.iter().copied();
            of.extend(silent.map(|id| (id, kafka::silent(&part.topic, id).message)));
        }
        let mut put_back: Offsets = Vec::new();
        for record in page.records {
            if put_back.iter().any(|(id, _)| *id == record.partition) {
                continue;
            }
            if !self.visibility.shows(&record) || !self.filter.wants(&record) {
                continue;
            }
            let size = record.size();
            let first = self.records.is_empty();
            let full = self.records.len() >= self.limit || self.bytes + size > self.most_bytes;
            if full && !first {
                put_back.push((record.partition, record.offset));
                continue;
            }
            self.bytes += size;
            self.records.push(record);
        }
        let mut moved = false;
        for span in self.spans.get_mut(index).into_iter().flatten() {
            let of = |offsets: &[(i32, i64)]| {
                let found = offsets.iter().find(|(id, _)| *id == span.partition);
                found.map(|(_, offset)| *offset)
            };
            let next = of(&put_back).or_else(|| of(&page.next));
            if let Some(next) = next {
                moved |= next > span.from;
                span.from = next;
                span.end = span.end.max(next);
            }
        }
        put_back.is_empty() && moved
    }
}

/// Reads, and says where the log starts when it was truncated after the bounds had been asked for.
pub(super) async fn read(cluster: &Cluster, request: PageRequest) -> Result<Page, ApiError> {
    let topic = Arc::clone(&request.topic);
    let asked: Offsets = request
        .spans
        .iter()
        .map(|span| (span.partition, span.from))
        .collect();
    let fault = match cluster.reader.page(request).await {
        Ok(page) => return Ok(page),
        Err(fault) => fault,
    };
    if fault.kind == FaultKind::OffsetOutOfRange {
        let partitions: Vec<i32> = asked.iter().map(|(partition, _)| *partition).collect();
        let bounds = cluster.watermarks(&topic.name, &partitions).await?;
        let truncated = bounds
            .iter()
            .zip(&asked)
            .any(|(bound, (_, offset))| *offset < bound.low);
        if truncated {
            return Err(gone(&topic, &asked, &bounds));
        }
    }
    Err(fault.into())
}

/// Where a part begins.
#[derive(Default)]
struct Starts {
    /// What is read; of partitions that have not answered nothing, but from where on.
    spans: Vec<Span>,
    /// Partitions that have not answered, and whose place is not known either.
    since: Since,
    unanswered: Unanswered,
}

/// How much older than the request a record may be that comes only after it: a partition that has not
/// answered begins so long before it, where its end or its last records were asked for.
const EARLIER_MS: i64 = 60_000;
/// How long those topics are waited for, from the beginning on, none of whose brokers answer while those
/// of others do.
const PATIENCE: Duration = Duration::from_millis(700);

/// Turns `from` into offsets.
async fn starts(
    cluster: &Cluster,
    scope: &Scope,
    asked: &Asked,
    cluster_id: &str,
) -> Result<Vec<Starts>, ApiError> {
    let parts = &scope.parts;
    let topics: Vec<&Topic> = parts.iter().map(|part| &*part.topic).collect();
    let position = match &asked.from {
        StartPosition::ResumeToken(text) => {
            Some(position::read(text, cluster_id, &topics).map_err(|error| at_from(&error))?)
        }
        _ => None,
    };
    let resume_tokens = match &position {
        None => None,
        Some(Position {
            offsets: Some(offsets),
            ..
        }) => Some(offsets),
        Some(_) => return Err(at_from(&PositionError::Foreign)),
    };
    let since = position.as_ref().and_then(|all| all.since.as_ref());
    let (some, answered) = tokio::sync::watch::channel(false);
    let patience = Instant::now() + PATIENCE;
    let of_parts = parts.iter().enumerate().map(async |(index, part)| {
        let resume_token = resume_tokens.and_then(|all| all.get(index));
        let since = since.and_then(|all| all.get(index));
        let mut others = answered.clone();
        let patience = async {
            // It fails only when all are there.
            let _ = others.wait_for(|some| *some).await;
            sleep_until(patience).await;
        };
        let (bounds, times) = tokio::select! {
            known = known(cluster, part, asked, since) => known,
            () = patience => silent(part),
        };
        some.send_modify(|some| *some |= bounds.iter().any(Result::is_ok));
        let shown = Shown {
            visibility: &scope.visibility,
            filter: &asked.filter,
            isolation: asked.isolation,
        };
        let last = last(cluster, part, shown, asked, &bounds).await;
        starts_of(part, asked, resume_token, since, &bounds, &times, &last)
    });
    let (starts, faults): (Vec<_>, Vec<_>) = try_join_all(of_parts).await?.into_iter().unzip();
    match faults.into_iter().flatten().next() {
        // Nobody has answered, so there is no page.
        Some(fault) if !*some.borrow() => Err(fault.into()),
        _ => Ok(starts),
    }
}

/// The bounds of a part's partitions, and where times fall in them.
type Known = (
    Vec<Result<Watermarks, Fault>>,
    BTreeMap<i32, Result<Option<i64>, Fault>>,
);

async fn known(cluster: &Cluster, part: &Part, asked: &Asked, since: Option<&Since>) -> Known {
    let (topic, partitions) = (&part.topic, &part.partitions);
    let wanted: Vec<(i32, i64)> = match asked.from {
        StartPosition::Time(time) => partitions.iter().map(|id| (*id, time)).collect(),
        _ => since_of(part, since),
    };
    let (bounds, times) = tokio::join!(
        cluster.watermarks_of_each(asked.isolation, topic, partitions),
        cluster.times_of_each(asked.isolation, topic, &wanted)
    );
    let times = wanted.iter().map(|(id, _)| *id).zip(times).collect();
    (bounds, times)
}

/// Where the last records that are shown begin, where these were asked for, in the partitions that answer.
async fn last(
    cluster: &Cluster,
    part: &Part,
    shown: Shown<'_>,
    asked: &Asked,
    bounds: &[Result<Watermarks, Fault>],
) -> Offsets {
    let StartPosition::Last(count) = asked.from else {
        return Offsets::new();
    };
    let known: Vec<Watermarks> = bounds.iter().flatten().copied().collect();
    let starts = shown.last(cluster, &part.topic, &known, count).await;
    let ids = known.iter().map(|bound| bound.partition);
    ids.zip(starts.iter().copied()).collect()
}

/// No broker of the part has answered.
fn silent(part: &Part) -> Known {
    let fault = |id: &i32| Err(kafka::silent(&part.topic, *id));
    (part.partitions.iter().map(fault).collect(), BTreeMap::new())
}

/// Where the part begins, and why it cannot where none of its partitions has answered.
fn starts_of(
    part: &Part,
    asked: &Asked,
    resume_token: Option<&Offsets>,
    since: Option<&Since>,
    bounds: &[Result<Watermarks, Fault>],
    times: &BTreeMap<i32, Result<Option<i64>, Fault>>,
    last: &Offsets,
) -> Result<(Starts, Option<Fault>), ApiError> {
    let topic = &part.topic;
    let find = |of: Option<&Vec<(i32, i64)>>, id: i32| {
        let (_, found) = of?.iter().find(|(known, _)| *known == id)?;
        Some(*found)
    };
    if let Some(resume_token) = resume_token {
        let known: Vec<Watermarks> = bounds.iter().flatten().copied().collect();
        check_resume_token(topic, resume_token, &known)?;
    }
    let mut starts = Starts::default();
    let mut first = None;
    for (id, bound) in part.partitions.iter().zip(bounds) {
        let place = find(resume_token, *id);
        let bound = match times.get(id) {
            Some(Err(fault)) if place.is_none() => Err(fault),
            _ => bound.as_ref(),
        };
        match bound {
            Ok(bound) => {
                // No record is that new: the end, so that the next one written is the first.
                let by_time = times.get(id).and_then(|time| time.as_ref().ok());
                let by_time = by_time.map(|found| found.unwrap_or(bound.end));
                let from = match &asked.from {
                    StartPosition::Latest => bound.end,
                    StartPosition::Earliest => bound.low,
                    StartPosition::Last(_) => find(Some(last), *id).unwrap_or(bound.end),
                    StartPosition::Time(_) => by_time.unwrap_or(bound.end),
                    // A partition that the resume token does not know came into being after it was
                    // written.
                    StartPosition::ResumeToken(_) => place.or(by_time).unwrap_or(bound.low),
                };
                starts.spans.push(Span {
                    partition: *id,
                    from,
                    end: bound.end,
                });
            }
            Err(fault) if !fault.retriable => return Err(fault.clone().into()),
            Err(fault) => {
                first.get_or_insert_with(|| fault.clone());
                starts.unanswered.insert(*id, fault.message.clone());
                let time = match &asked.from {
                    StartPosition::Latest | StartPosition::Last(_) => {
                        Some((now_ms() - EARLIER_MS).max(0))
                    }
                    StartPosition::Time(time) => Some(*time),
                    StartPosition::Earliest => None,
                    StartPosition::ResumeToken(_) => find(since, *id),
                };
                match (place, time) {
                    (Some(offset), _) => starts.spans.push(Span {
                        partition: *id,
                        from: offset,
                        end: offset,
                    }),
                    (None, Some(time)) => starts.since.push((*id, time)),
                    // It is left out of the resume token, and begins at its beginning.
                    (None, None) => {}
                }
            }
        }
    }
    Ok((starts, first))
}

fn check_resume_token(
    topic: &Topic,
    resume_token: &Offsets,
    bounds: &[Watermarks],
) -> Result<(), ApiError> {
    let bound_of = |partition: i32| bounds.iter().find(|bound| bound.partition == partition);
    let truncated = resume_token
        .iter()
        .any(|(partition, offset)| bound_of(*partition).is_some_and(|b| *offset < b.low));
    if truncated {
        return Err(gone(topic, resume_token, bounds));
    }
    let beyond = resume_token.iter().find_map(|(partition, offset)| {
        let bound = bound_of(*partition)?;
        (*offset > bound.end).then_some((*bound, *offset))
    });
    match beyond {
        None => Ok(()),
        Some((bound, offset)) => Err(ApiError::bad_request(format!(
            "offset {offset} is beyond the end of {}:{}, which is {}",
            topic.name, bound.partition, bound.end
        ))
        .at("from")),
    }
}

fn put_unanswered(out: &mut Vec<u8>, topics: &[&Topic], unanswered: &[Unanswered]) {
    out.extend_from_slice(b",\"unanswered\":[");
    let all = topics.iter().zip(unanswered);
    let all = all.flat_map(|(topic, of)| of.iter().map(|(id, why)| (&topic.name, id, why)));
    for (index, (topic, partition, why)) in all.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"topic\":");
        encode::string(out, topic);
        out.extend_from_slice(b",\"partition\":");
        encode::number(out, i64::from(*partition));
        out.extend_from_slice(b",\"message\":");
        encode::string(out, why);
        out.push(b'}');
    }
    out.push(b']');
}

fn page_body(records: &[ConsumerRecord], next: &str, formats: Formats) -> Vec<u8> {
    let size: usize = records
        .iter()
        .map(|r| 128 + r.value.as_ref().map_or(0, bytes::Bytes::len))
        .sum();
    let mut out = Vec::with_capacity(64 + size);
    out.extend_from_slice(b"{\"records\":[");
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode::record(&mut out, record, formats);
    }
    out.extend_from_slice(b"],\"next\":");
    encode::string(&mut out, next);
    out.push(b'}');
    out
}
