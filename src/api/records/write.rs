//! `POST /topics/{topic}/records`: JSON, NDJSON as a stream, or one raw value, by `Content-Type`.

pub mod lines;
mod ndjson;
mod raw;
mod shapes;

use axum::Extension;
use axum::extract::{RawQuery, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::{JSON, NDJSON};
use crate::api::fields::Moment;
use crate::api::ingest::Caller;
use crate::auth::Principal;
use crate::codec::encode;
use crate::codec::format::Format;
use crate::codec::parse::{self, Formats, Parsed};
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query};
use crate::http::idempotency::{Answer, IDEMPOTENCY_KEY, key_of};
use crate::http::request_id::RequestId;
use crate::http::{encoding, negotiate};
use crate::kafka::producer::Outcome;
use crate::write::OnInvalid;
use ndjson::Results;
use raw::Meta;
use shapes::{NewRecords, RawValue, ResultLine, WrittenRecords};

/// How many records of a batch were not written; absent when all were.
pub(crate) const FAILED_RECORDS: HeaderName = HeaderName::from_static("tidegate-failed-records");

/// A record to be written
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct NewRecord {
    /// Any JSON; `null` is a tombstone. Kept byte for byte.
    #[schema(value_type = Value, required = true, nullable)]
    value: (),
    /// A string (stored as its UTF-8) or other JSON (stored as its text). Absent or `null`: no key.
    #[schema(value_type = Option<Value>)]
    key: (),
    /// An object of headers, or an array of `[name, value]` pairs where names repeat. A value is a
    /// string, `null`, or `{"b64": "…"}` for other bytes. As other gateways have it, also an array of
    /// `{"name": …, "value": …}` or `{"key": …, "value": …}` with base64 or `null`.
    #[schema(value_type = Option<Value>, example = json!({"source": "curl"}))]
    headers: (),
    /// The partition, which must be that of the parameter `partition` where there is one; without either the key
    /// decides (murmur2, as Kafka's own clients).
    #[schema(minimum = 0)]
    partition: Option<i32>,
    /// Milliseconds since 1970, more than 0, or an ISO 8601 time; without it, now.
    timestamp: Option<Moment>,
}

/// Where a record was written
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct WrittenRecord {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    partition: i32,
    /// The record's offset; `null` where `offset_unknown` says why it is not known.
    #[schema(required = true)]
    offset: Option<i64>,
    /// Only when the offset is not known: `retried` (the answer to the first try was lost; the record is in
    /// the topic once) or `acks_0` (the producer asks for no answer).
    offset_unknown: Option<String>,
    /// Milliseconds since 1970, as stored.
    timestamp: i64,
}

/// Write records to a topic
///
/// The `Content-Type` says what the body is.
///
/// `application/json`: one object is one record; an array is many, written in its order. Nothing is
/// written when any of the request is not acceptable. A single record that Kafka refuses gets the
/// error's own status; of an array the answer is 200 with an error in the place of each record that
/// was not written, and the header `Tidegate-Failed-Records` has their number.
///
/// `application/x-ndjson`: a record on each line, of any number, read and answered as they come: one
/// result line for each record, in order. A line that is not acceptable gets an error with its
/// number, and the others go on. Read while you send, or ask for `results=summary`.
///
/// Any other type (but forms): the body is the value of one record, byte for byte; `key` and
/// `timestamp` are parameters, and headers `Kafka-Header-<name>` become the record's, with their
/// names in lower case.
///
/// The parameter `partition` is for all three: a record that names no partition goes there, and one
/// that names another is not acceptable.
///
/// With `Idempotency-Key` (not for NDJSON), the same request under the same key within five minutes
/// gets the first answer again and writes nothing. Kept by this process only.
///
/// Needs `produce` on the topic.
#[utoipa::path(
    post,
    path = "/topics/{topic}/records",
    operation_id = "writeRecords",
    tag = "Records",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("key_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`; of raw values not `json`"),
        ("value_format" = Option<String>, Query, description = "JSON and NDJSON: `auto`, `json`, `string` or `binary`"),
        ("results" = Option<String>, Query, description = "NDJSON: `all` (default), `errors` or `summary`"),
        ("key" = Option<String>, Query, description = "Raw values: the key; base64 with `key_format=binary`"),
        ("partition" = Option<i32>, Query, description = "The partition of the raw value, or of all records that name none of their own; one that names another is refused (422)", minimum = 0),
        ("timestamp" = Option<String>, Query, description = "Raw values: milliseconds since 1970 or an ISO 8601 time"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters"),
    ),
    request_body(
        content((NewRecords = "application/json"), (NewRecord = "application/x-ndjson"), (RawValue = "application/octet-stream")),
        description = "A record, or an array of them; a record on each line; or one raw value",
    ),
    responses(
        (status = 200, description = "Written: where, for one record; an array of the same, or of errors, for an array; a line for each record of NDJSON",
            content((WrittenRecords = "application/json", example = json!({"topic": "orders", "partition": 0, "offset": 42, "timestamp": 1_700_000_000_000_i64})), (ResultLine = "application/x-ndjson"))),
        (status = 400, description = "The body or a parameter cannot be read", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker; or one of Kafka's own topics, which nobody writes to", body = ErrorBody),
        (status = 404, description = "No such topic or partition", body = ErrorBody),
        (status = 406, description = "`Accept` rules out the answer's type", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time", body = ErrorBody),
        (status = 413, description = "The body, a record or their number is over the limit", body = ErrorBody),
        (status = 415, description = "No content type, or a form's; the answer lists what is read", body = ErrorBody),
        (status = 422, description = "A record is not acceptable, or its key or value is not valid by the topic's schema; `field` says what of it, and `records` tells of all that are not valid. Or the `Idempotency-Key` was used for another request", body = ErrorBody),
        (status = 503, description = "Kafka cannot be reached or takes no more right now; try again", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time; `maybe_written` says whether the record may be there", body = ErrorBody),
        (status = 507, description = "The embedded broker is full", body = ErrorBody),
    )
)]
pub async fn post(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path(topic): Path<String>,
    Extension(request_id): Extension<RequestId>,
    RawQuery(raw_query): RawQuery,
    mut query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let kind = Kind::of(&parts.headers)?;
    let decoder = match kind {
        Kind::Json => Decoder::Json(formats(&mut query)?, partition(&mut query)?),
        Kind::Raw => Decoder::Raw(Meta::parse(&mut query)?),
        Kind::NdJson => {
            let formats = formats(&mut query)?;
            let partition = partition(&mut query)?;
            let results = query.take_as("results", Results::EXPECTED)?;
            query.finish()?;
            negotiate::accept(&parts.headers, &[NDJSON])?;
            if parts.headers.contains_key(IDEMPOTENCY_KEY) {
                return Err(
                    ApiError::bad_request("a stream cannot be given again").at("Idempotency-Key")
                );
            }
            let body = encoding::decoded(&parts.headers, body)?;
            let caller = Caller {
                gateway,
                principal,
                request_id,
            };
            let shape = ndjson::Shape {
                formats,
                partition,
                results: results.unwrap_or_default(),
            };
            return ndjson::answer(caller, &topic, shape, body).await;
        }
    };
    query.finish()?;
    negotiate::accept(&parts.headers, &[JSON])?;
    let key = key_of(&parts.headers)?;
    let body = gateway.body(&parts, body).await?;
    let placed = move |error: ApiError| match kind {
        Kind::Raw => error.placed(raw::place),
        Kind::Json | Kind::NdJson => error,
    };
    let Some(key) = key else {
        let parsed = decoder.decode(&parts.headers, body)?;
        return Ok(write(&gateway, &principal, &topic, parsed)
            .await
            .map_err(placed)?
            .into_response());
    };
    let fingerprint = fingerprint(&topic, raw_query.as_deref(), &parts, &body);
    let parsed = decoder.decode(&parts.headers, body)?;
    let work = {
        let (gateway, principal) = (gateway.clone(), principal.clone());
        async move {
            let written = write(&gateway, &principal, &topic, parsed).await;
            written.map_err(placed)
        }
    };
    gateway
        .answers()
        .once(&principal, key, fingerprint, work)
        .await
}

/// What a body is.
#[derive(Clone, Copy)]
enum Kind {
    Json,
    NdJson,
    Raw,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let unsupported = |message: String| {
            Err(ApiError::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
                .at("Content-Type")
                .header(
                    header::ACCEPT,
                    HeaderValue::from_static("application/json, application/x-ndjson, */*"),
                ))
        };
        if negotiate::is_ndjson(headers) {
            return Ok(Self::NdJson);
        }
        match negotiate::content_type(headers).as_deref() {
            Some(JSON) => Ok(Self::Json),
            // What curl sends with -d or -F when it is not told otherwise.
            Some(form @ ("application/x-www-form-urlencoded" | "multipart/form-data")) => {
                unsupported(format!(
                    "the body came as {form}; with curl, add -H 'content-type: {JSON}', or \
                     {NDJSON} for a record on each line; any other type but a form's is one raw \
                     value"
                ))
            }
            Some(_) => Ok(Self::Raw),
            None => unsupported(format!(
                "the request has no Content-Type; expected {JSON}, {NDJSON} for a record on each \
                 line, or another type for one raw value"
            )),
        }
    }
}

/// How a body that is read whole becomes records.
enum Decoder {
    Json(Formats, Option<i32>),
    Raw(Meta),
}

impl Decoder {
    fn decode(self, headers: &HeaderMap, body: Bytes) -> Result<Parsed, ApiError> {
        match self {
            Self::Json(formats, partition) => {
                Ok(parse::body(&body, formats)?.in_partition(partition)?)
            }
            Self::Raw(meta) => Ok(Parsed::One(meta.record(headers, body))),
        }
    }
}

/// `key_format` and `value_format`.
pub(super) fn formats(query: &mut Query) -> Result<Formats, ApiError> {
    Ok(Formats {
        key: query
            .take_as("key_format", Format::EXPECTED)?
            .unwrap_or_default(),
        value: query
            .take_as("value_format", Format::EXPECTED)?
            .unwrap_or_default(),
    })
}

/// `partition`: where records go that name no partition of their own.
fn partition(query: &mut Query) -> Result<Option<i32>, ApiError> {
    const MAX: u64 = i32::MAX.unsigned_abs() as u64;
    let partition = query.take_number("partition", 0..=MAX)?;
    Ok(partition.and_then(|partition| i32::try_from(partition).ok()))
}

/// A hash of all that makes a write what it is.
fn fingerprint(topic: &str, query: Option<&str>, parts: &Parts, body: &Bytes) -> u128 {
    let mut hasher = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&bytes.len().to_le_bytes());
        hasher.update(bytes);
    };
    part(topic.as_bytes());
    part(query.unwrap_or_default().as_bytes());
    let kind = negotiate::content_type(&parts.headers).unwrap_or_default();
    part(kind.as_bytes());
    for header in raw::record_headers(&parts.headers) {
        part(header.name.as_bytes());
        part(header.value.as_deref().unwrap_or_default());
    }
    part(body);
    hasher.digest128()
}

async fn write(
    gateway: &Gateway,
    principal: &Principal,
    topic: &str,
    parsed: Parsed,
) -> Result<Answer, ApiError> {
    let writer = gateway.writer();
    match parsed {
        Parsed::One(record) => {
            let outcomes = writer
                .submit(principal, topic, vec![record], OnInvalid::RejectBatch)
                .await
                .map_err(|rejected| ApiError::from_rejected(rejected, |_| String::new()))?;
            one_answer(topic, outcomes)
        }
        Parsed::Many(records) => {
            let outcomes = writer
                .submit(principal, topic, records, OnInvalid::RejectBatch)
                .await
                .map_err(|rejected| ApiError::from_rejected(rejected, |at| format!("/{at}")))?;
            Ok(many_answer(topic, &outcomes))
        }
    }
}

fn one_answer(topic: &str, outcomes: Vec<Outcome>) -> Result<Answer, ApiError> {
    match outcomes.into_iter().next() {
        Some(Ok(written)) => {
            let mut out = Vec::with_capacity(96 + topic.len());
            encode::written(&mut out, topic, &written);
            Ok(json_answer(out))
        }
        Some(Err(fault)) => Err(ApiError::from_fault(&fault)),
        None => Err(ApiError::internal(
            "one record was handed to the producer, and no outcome came back",
        )),
    }
}

fn many_answer(topic: &str, outcomes: &[Outcome]) -> Answer {
    let mut out = Vec::with_capacity(2 + outcomes.len() * (80 + topic.len()));
    out.push(b'[');
    for (index, outcome) in outcomes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_outcome(&mut out, topic, outcome);
    }
    out.push(b']');
    let mut answer = json_answer(out);
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    if failed > 0 {
        answer
            .headers
            .insert(FAILED_RECORDS, HeaderValue::from(failed));
    }
    answer
}

fn json_answer(body: Vec<u8>) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    Answer {
        status: StatusCode::OK,
        headers,
        body: body.into(),
    }
}

/// Writes what became of a record that was to be written to `topic`.
fn write_outcome(out: &mut Vec<u8>, topic: &str, outcome: &Outcome) {
    match outcome {
        Ok(at) => encode::written(out, topic, at),
        Err(fault) => encode::json(out, &ApiError::from_fault(fault).into_body()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::fault::{Fault, FaultKind};

    #[test]
    fn a_record_that_was_not_written_has_its_error_in_its_place() {
        let mut out = Vec::new();
        let fault = Fault::new(FaultKind::TooLarge, "too large");
        write_outcome(&mut out, "orders", &Err(Box::new(fault)));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"error_code":413,"message":"too large","retriable":false}"#
        );
    }
}
