//! A batch: from its body to records, and from what became of them to the answer, in which those that were
//! written and those that were not stand apart.

use std::collections::HashSet;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{self, Parts};
use super::request;
use crate::api::ingest::Outcomes;
use crate::api::json::JSON;
use crate::api::records::write::FAILED_RECORDS;
use crate::codec::encode::string;
use crate::codec::parse;
use crate::http::error::ApiError;
use crate::kafka::producer::Outcome;
use crate::record::ProducerRecord;

/// Longest id of an entry.
const MAX_ID: usize = 80;

/// One entry: its id, and what the result says of it, or why it cannot be written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) record: Result<Parts, ApiError>,
}

/// The entries of a body, and the records of those that can be written, in the same order.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    pub(super) records: Vec<ProducerRecord>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow)]
    entries: Option<Vec<&'a RawValue>>,
}

/// Reads a batch of at most `most` entries.
///
/// # Errors
///
/// What is wrong with the batch as a whole: 400 for what is no JSON, 422 for a field that no batch has, 422
/// with 42208 for a batch without entries, with too many of them, and for their ids.
pub(super) fn read(body: &Bytes, most: usize) -> Result<Batch, ApiError> {
    if body.trim_ascii().is_empty() {
        return Err(refused("the body is empty"));
    }
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|error| unreadable(body, &error))?;
    // serde takes an array of the fields' values for the object.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(not_a_batch("it is no object"));
    }
    let wires = wire.entries.unwrap_or_default();
    if wires.is_empty() {
        return Err(refused("there are no entries"));
    }
    if wires.len() > most {
        let given = wires.len();
        return Err(refused(format!(
            "{given} entries in one batch; the limit is {most} (limits.records_per_request)"
        )));
    }
    let mut ids = HashSet::with_capacity(wires.len());
    let mut batch = Batch {
        entries: Vec::with_capacity(wires.len()),
        records: Vec::with_capacity(wires.len()),
    };
    for (index, raw) in wires.into_iter().enumerate() {
        let request::Entry { id, record } = request::entry(body, raw)?;
        let id = id_of(id, index)?;
        if !ids.insert(id.clone()) {
            return Err(refused(format!("the id {id} is given twice")));
        }
        let record = record.map(|(record, parts)| {
            batch.records.push(record);
            parts
        });
        batch.entries.push(Entry { id, record });
    }
    Ok(batch)
}

fn id_of(raw: Option<&RawValue>, index: usize) -> Result<String, ApiError> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let id = raw.and_then(parse::string);
    let id = id.filter(|id| (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_allowed));
    id.map(std::borrow::Cow::into_owned).ok_or_else(|| {
        refused(format!(
            "/entries/{index}/id: expected a string of 1 to {MAX_ID} letters, digits, - and _"
        ))
    })
}

/// The error of a batch as a whole.
fn refused(why: impl std::fmt::Display) -> ApiError {
    ApiError::unprocessable(format!("{why}; nothing was written"))
        .coded(StatusCode::UNPROCESSABLE_ENTITY, 42208)
}

fn unreadable(body: &[u8], error: &serde_json::Error) -> ApiError {
    if let Err(syntax) = serde_json::from_slice::<&RawValue>(body) {
        return ApiError::not_json(&syntax);
    }
    let message = error.to_string();
    if message.starts_with("unknown field") || message.starts_with("duplicate field") {
        return ApiError::unprocessable(message);
    }
    not_a_batch(&message)
}

fn not_a_batch(why: &str) -> ApiError {
    ApiError::bad_request(format!(
        "Bad Request: expected {{\"entries\": [{{\"id\": …, \"value\": …}}]}}: {why}"
    ))
}

/// The answer: those that were written, then those that were not, each in the order of the request.
/// `outcomes` has one for each record, or why none was written.
pub(super) fn answer(
    cluster: &str,
    topic: &str,
    entries: Vec<Entry>,
    outcomes: Result<Vec<Outcome>, ApiError>,
) -> Response {
    let mut outcomes = Outcomes::new(outcomes);
    let mut successes = b"{\"successes\":[".to_vec();
    let mut failures = Vec::new();
    let (mut count_written, mut count_failed) = (0_u32, 0_u32);
    for Entry { id, record } in entries {
        let result = record.and_then(|parts| match outcomes.take_next() {
            Ok(Ok(at)) => Ok((parts, at)),
            Ok(Err(fault)) => Err(answer::refused(&fault)),
            Err(error) => Err(error),
        });
        let (out, count) = match result {
            Ok(_) => (&mut successes, &mut count_written),
            Err(_) => (&mut failures, &mut count_failed),
        };
        if *count > 0 {
            out.push(b',');
        }
        *count += 1;
        out.extend_from_slice(b"{\"id\":");
        string(out, &id);
        out.push(b',');
        match result {
            Ok((parts, at)) => answer::written(out, cluster, topic, parts, &at),
            Err(error) => answer::failed(out, error),
        }
        out.push(b'}');
    }
    let mut out = successes;
    out.extend_from_slice(b"],\"failures\":[");
    out.extend_from_slice(&failures);
    out.extend_from_slice(b"]}");
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    if count_failed > 0 {
        headers.insert(FAILED_RECORDS, HeaderValue::from(count_failed));
    }
    (StatusCode::MULTI_STATUS, headers, out).into_response()
}

#[cfg(test)]
mod tests;
