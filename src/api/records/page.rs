//! Pages as JSON: what is asked for in the query, and the records with where the next page goes on.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::JSON;
use super::params::{filter, partitions};
use super::read::isolation;
use super::write::formats;
use crate::auth::Principal;
use crate::codec::encode;
use crate::codec::parse::Formats;
use crate::codec::projection::Fields;
use crate::filter::Filter;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::{Query, unexpected};
use crate::observe::topics::TopicReads;
use crate::position::StartPosition;
use crate::read::allowed::while_allowed;
use crate::read::error::ReadError;
use crate::read::page::{self, PageLimits, Unanswered};
use crate::read::partitions::{Part, Partitions, Scope};
use crate::read::start_offsets::Shown;
use crate::reader_options::Isolation;
use crate::record::ConsumerRecord;

/// Records on a page when `limit` is not given.
const DEFAULT_LIMIT: u64 = 100;
/// Longest `wait`, in milliseconds: below the idle timeouts of common proxies.
const MAX_WAIT_MS: u64 = 25_000;

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
            Some(text) => StartPosition::parse(&text).map_err(ReadError::Position)?,
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

/// Records that were read, and what is to be said beside them.
pub(crate) struct ReadPage {
    pub(crate) records: Vec<ConsumerRecord>,
    /// The resume token of the next page.
    pub(crate) next: String,
    pub(crate) formats: Formats,
    parts: Vec<Part>,
    unanswered: Vec<Unanswered>,
}

impl ReadPage {
    /// The partitions that have not answered, each with its topic and why.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (&str, i32, &str)> {
        let all = self.parts.iter().zip(&self.unanswered);
        all.flat_map(|(part, of)| {
            let of = of.iter();
            of.map(|(id, why)| (&*part.topic.name, *id, why.as_str()))
        })
    }
}

/// A page of these topics, as JSON. The permissions have been asked for.
pub(super) async fn answer(
    gateway: &Gateway,
    principal: &Principal,
    topics: &[String],
    query: Query,
) -> Result<Response, ApiError> {
    let page = read(gateway, principal, topics, None, query).await?;
    let mut body = page_body(&page.records, &page.next, page.formats);
    if page.unanswered().next().is_some() {
        // Before the last brace.
        body.pop();
        put_unanswered(&mut body, &page);
        body.push(b'}');
    }
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

/// Reads a page of these topics as the query says; of `partition` alone, where the path names one. The
/// permissions have been asked for.
pub(crate) async fn read(
    gateway: &Gateway,
    principal: &Principal,
    topics: &[String],
    partition: Option<Partitions>,
    mut query: Query,
) -> Result<ReadPage, ApiError> {
    let mut asked = Asked::parse(&mut query, gateway)?;
    query.finish()?;
    if let Some(partition) = partition {
        asked.partitions = partition;
    }
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
    let limits = PageLimits {
        shown: Shown {
            visibility: &scope.visibility,
            filter: &asked.filter,
            isolation: asked.isolation,
        },
        limit: asked.limit,
        max_bytes: gateway.settings().http.max_body_bytes,
        until,
    };
    let parts = scope.parts.iter();
    let names: Vec<_> = parts.map(|part| Arc::clone(&part.topic.name)).collect();
    let reading = page::read(cluster, &scope, &asked.from, limits);
    let page = while_allowed(principal, &names, &scope.visibility, reading).await?;
    for topic in &names {
        let read = page.records.iter().filter(|r| r.topic == *topic);
        TopicReads::of(topic, principal.identity()).count(read.count() as u64);
    }
    let mut records = page.records;
    if let Some(fields) = &asked.fields {
        for record in &mut records {
            *record = fields.of(record);
        }
    }
    Ok(ReadPage {
        records,
        next: page.next,
        formats: asked.formats,
        parts: scope.parts,
        unanswered: page.unanswered,
    })
}

fn put_unanswered(out: &mut Vec<u8>, page: &ReadPage) {
    out.extend_from_slice(b",\"unanswered\":[");
    for (index, (topic, partition, why)) in page.unanswered().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"topic\":");
        encode::string(out, topic);
        out.extend_from_slice(b",\"partition\":");
        encode::number(out, i64::from(partition));
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
