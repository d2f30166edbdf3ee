//! Pages: some records of one or several topics as JSON, and where the next page goes on.
//!
//! Several topics are read one after the other, each at first up to its share of the page, so that a
//! long one does not keep the others from it. Where a filter leaves records out, reading goes on until
//! the page is full or there is nothing more, for a few seconds at the most: what was passed over then
//! is behind `next`, as what is on the page is.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, sleep_until};

use super::follow::asked::filter;
use super::follow::fields::Fields;
use super::follow::start::Shown;
use super::parse::Formats;
use super::partitions::{Part, Partitions, Scope};
use super::read::{at_from, gone, isolation};
use super::write::formats;
use super::{JSON, encode};
use crate::auth::Principal;
use crate::auth::policy::Sight;
use crate::filter::Filter;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::{Query, unexpected};
use crate::kafka::admin::Isolation;
use crate::kafka::fault::FaultKind;
use crate::kafka::metadata::Topic;
use crate::kafka::reader::{Page, PageRequest, Span};
use crate::kafka::{Bounds, Cluster};
use crate::observe::metrics::topic_label;
use crate::position::{self, From, Offsets};
use crate::record::Delivered;

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
    from: From,
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
            None => From::Latest,
            Some(text) => From::parse(&text).map_err(|error| at_from(&error))?,
        };
        let partitions = Partitions::take(query)?;
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
    let scope = Scope::new(gateway, principal, topics, &asked.partitions, &asked.filter).await?;
    let cluster = gateway.cluster();
    let cluster_id = cluster.id().await?;
    let spans = spans(cluster, &scope, &asked, &cluster_id).await?;
    let filtered = scope.sight.hides() || !asked.filter.is_all();
    let mut reading = Reading {
        cluster,
        parts: &scope.parts,
        sight: &scope.sight,
        filter: &asked.filter,
        filtered,
        spans,
        records: Vec::new(),
        limit: asked.limit,
        bytes: 0,
        most_bytes: gateway.settings().http.max_body_bytes,
        isolation: asked.isolation,
    };
    reading.run(Instant::now() + asked.wait).await?;
    let topics: Vec<&Topic> = scope.parts.iter().map(|part| &*part.topic).collect();
    for topic in &topics {
        let read = reading.records.iter().filter(|r| r.topic == topic.name);
        metrics::counter!("kafka_messages_read_total", "topic" => topic_label(&topic.name))
            .increment(read.count() as u64);
    }
    let next: Vec<Offsets> = reading.spans.iter().map(|spans| places(spans)).collect();
    let next = position::encode(&cluster_id, &topics, &next);
    let mut records = reading.records;
    if let Some(fields) = &asked.fields {
        for record in &mut records {
            *record = fields.of(record);
        }
    }
    let body = page_body(&records, &next, asked.formats);
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

fn places(spans: &[Span]) -> Offsets {
    spans
        .iter()
        .map(|span| (span.partition, span.from))
        .collect()
}

/// A page that is being read.
struct Reading<'a> {
    cluster: &'a Cluster,
    parts: &'a [Part],
    sight: &'a Sight,
    filter: &'a Filter,
    /// Records may be left out.
    filtered: bool,
    /// Of each part; where it goes on, and where the log ended when it was asked.
    spans: Vec<Vec<Span>>,
    records: Vec<Delivered>,
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
        if self.parts.len() == 1 {
            let wait = until.saturating_duration_since(Instant::now());
            let page = self.page(0, self.limit, self.most_bytes, wait).await?;
            self.take(0, page);
            return Ok(());
        }
        sleep_until(until.min(Instant::now() + LOOK)).await;
        let bounds = futures::future::try_join_all(self.parts.iter().map(|part| {
            let (topic, partitions) = (&part.topic.name, &part.partitions);
            self.cluster.bounds_under(self.isolation, topic, partitions)
        }));
        for (spans, bounds) in self.spans.iter_mut().zip(bounds.await?) {
            for (span, bound) in spans.iter_mut().zip(bounds) {
                span.end = span.end.max(bound.end);
            }
        }
        Ok(())
    }

    /// The parts that have something to read.
    fn ready(&self) -> Vec<usize> {
        let has = |spans: &Vec<Span>| spans.iter().any(|span| span.from < span.end);
        let parts = self.spans.iter().enumerate();
        parts
            .filter(|(_, spans)| has(spans))
            .map(|(index, _)| index)
            .collect()
    }

    async fn page(
        &self,
        index: usize,
        limit: usize,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Page, ApiError> {
        let (Some(part), Some(spans)) = (self.parts.get(index), self.spans.get(index)) else {
            return Err(ApiError::internal());
        };
        let request = PageRequest {
            topic: Arc::clone(&part.topic),
            spans: spans.clone(),
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
        let mut put_back: Offsets = Vec::new();
        for record in page.records {
            if put_back.iter().any(|(id, _)| *id == record.partition) {
                continue;
            }
            if !self.sight.shows(&record) || !self.filter.wants(&record) {
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
        let bounds = cluster.bounds(&topic.name, &partitions).await?;
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

/// Turns `from` into offsets.
async fn spans(
    cluster: &Cluster,
    scope: &Scope,
    asked: &Asked,
    cluster_id: &str,
) -> Result<Vec<Vec<Span>>, ApiError> {
    let parts = &scope.parts;
    let topics: Vec<&Topic> = parts.iter().map(|part| &*part.topic).collect();
    let vectors = match &asked.from {
        From::Vector(text) => {
            Some(position::decode(text, cluster_id, &topics).map_err(|error| at_from(&error))?)
        }
        _ => None,
    };
    let of_parts = parts.iter().enumerate().map(|(index, part)| {
        let vector = vectors.as_ref().and_then(|all| all.get(index));
        spans_of(cluster, part, &scope.sight, asked, vector)
    });
    futures::future::try_join_all(of_parts).await
}

async fn spans_of(
    cluster: &Cluster,
    part: &Part,
    sight: &Sight,
    asked: &Asked,
    vector: Option<&Offsets>,
) -> Result<Vec<Span>, ApiError> {
    let Asked {
        from, isolation, ..
    } = asked;
    let (topic, partitions) = (&part.topic, &part.partitions);
    let times = async {
        match from {
            From::Time(time) => cluster
                .offsets_at(*isolation, &topic.name, partitions, *time)
                .await
                .map(Some),
            _ => Ok(None),
        }
    };
    let bounds = cluster.bounds_under(*isolation, &topic.name, partitions);
    let (bounds, times) = tokio::try_join!(bounds, times)?;
    if let Some(vector) = vector {
        check_vector(topic, vector, &bounds)?;
    }
    let last = match from {
        From::Last(count) => {
            let shown = Shown {
                sight,
                filter: &asked.filter,
            };
            Some(
                shown
                    .last(cluster, topic, &bounds, *count, *isolation)
                    .await,
            )
        }
        _ => None,
    };
    let start = |index: usize, bound: &Bounds| match from {
        From::Latest => bound.end,
        From::Earliest => bound.low,
        From::Last(_) => last
            .as_ref()
            .and_then(|starts| starts.get(index).copied())
            .unwrap_or(bound.end),
        // No record is that new: the end, so that the next one written is the first.
        From::Time(_) => times
            .as_ref()
            .and_then(|times| times.get(index).copied().flatten())
            .unwrap_or(bound.end),
        // A partition that the vector does not know came into being after it was written.
        From::Vector(_) => vector
            .and_then(|v| v.iter().find(|(p, _)| *p == bound.partition))
            .map_or(bound.low, |(_, offset)| *offset),
    };
    Ok(bounds
        .iter()
        .enumerate()
        .map(|(index, bound)| Span {
            partition: bound.partition,
            from: start(index, bound),
            end: bound.end,
        })
        .collect())
}

fn check_vector(topic: &Topic, vector: &Offsets, bounds: &[Bounds]) -> Result<(), ApiError> {
    let bound_of = |partition: i32| bounds.iter().find(|bound| bound.partition == partition);
    let truncated = vector
        .iter()
        .any(|(partition, offset)| bound_of(*partition).is_some_and(|b| *offset < b.low));
    if truncated {
        return Err(gone(topic, vector, bounds));
    }
    let beyond = vector.iter().find_map(|(partition, offset)| {
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

fn page_body(records: &[Delivered], next: &str, formats: Formats) -> Vec<u8> {
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
