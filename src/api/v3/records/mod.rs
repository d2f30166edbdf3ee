//! Writing records: `POST …/topics/{topic}/records`, a stream of JSON objects with a result for each while
//! the body is still coming in, and `POST …/topics/{topic}/records:batch`.
//!
//! - `request`: from one JSON object to a record
//! - `values`: cuts the stream into JSON values; `stream`: its wire format, for `api::ingest`
//! - `batch`: the body and the answer of a batch
//! - `answer`: what is said of each record, and the error codes
//! - `read`: reading, which the reference does not offer

mod answer;
mod batch;
pub mod read;
mod request;
mod stream;
mod values;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::api::fields::Moment;
use crate::api::ingest;
use crate::api::json::{self, JSON};
use crate::api::v3::call::{cluster_id, shown};
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::body::discard_unread;
use crate::http::encoding;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::Path;
use crate::http::negotiate;
use crate::http::request_id::RequestId;
use crate::write::{OnInvalid, WriteError};

/// A record to be written
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ProduceRecordV3 {
    /// The partition; without it the key decides (murmur2, as Kafka's own clients).
    #[schema(minimum = 0)]
    partition_id: Option<i32>,
    /// In this order; names may repeat.
    headers: Option<Vec<ProduceHeaderV3>>,
    /// Absent or `null`: no key.
    key: Option<ProduceDataV3>,
    /// Absent or `null`: a tombstone.
    value: Option<ProduceDataV3>,
    /// An ISO 8601 time, or milliseconds since 1970; without it, now.
    #[schema(example = "2026-01-31T12:00:00.123Z")]
    timestamp: Option<Moment>,
}

/// A header of a record
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ProduceHeaderV3 {
    /// Its name.
    name: String,
    /// Base64; absent or `null` is Kafka's null.
    value: Option<String>,
}

/// A key or value
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ProduceDataV3 {
    /// `BINARY` (base64), `STRING` or `JSON`. `AVRO`, `JSONSCHEMA` and `PROTOBUF` need a schema registry,
    /// which this version does not offer.
    #[schema(rename = "type", example = "JSON")]
    kind: String,
    /// By the type; `null` is Kafka's null. JSON values are kept byte for byte.
    #[schema(value_type = Value, required = true, nullable)]
    data: (),
}

/// Where a record was written, or why it was not
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct ProduceResultV3 {
    /// 200 when it was written. 400: the object is not acceptable. 422: it needs a schema registry. 40401:
    /// no such topic or partition. 413: too large. 40301: no permission. 50002: Kafka refuses it. 50003: try
    /// again.
    error_code: u32,
    /// What is wrong; absent when it was written.
    message: Option<String>,
    /// The cluster's id.
    cluster_id: Option<String>,
    /// The topic.
    topic_name: Option<String>,
    /// The partition.
    partition_id: Option<i32>,
    /// The record's offset; `null` where `offset_unknown` says why it is not known.
    offset: Option<i64>,
    /// Only when the offset is not known: `retried` or `acks_0`. Not in the reference.
    offset_unknown: Option<String>,
    /// As stored, in ISO 8601.
    timestamp: Option<String>,
    /// Absent when the request had none.
    key: Option<ProducedDataV3>,
    /// Absent when the request had none.
    value: Option<ProducedDataV3>,
    /// The Kafka protocol's name of the error. Not in the reference.
    kafka_error: Option<String>,
    /// True when the record may be in the topic although no acknowledgement came. Not in the reference.
    maybe_written: Option<bool>,
}

/// What was written of a key or value
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct ProducedDataV3 {
    /// The type.
    #[schema(rename = "type")]
    kind: String,
    /// Its bytes; -1 for Kafka's null.
    size: i64,
}

/// A batch
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ProduceBatchV3 {
    /// At least one.
    #[schema(min_items = 1)]
    entries: Vec<ProduceBatchEntryV3>,
}

/// A record of a batch
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ProduceBatchEntryV3 {
    /// What its result is known by; no two of a batch have the same.
    #[schema(min_length = 1, max_length = 80, pattern = "^[0-9A-Za-z_-]+$")]
    id: String,
    /// The partition; without it the key decides (murmur2, as Kafka's own clients).
    #[schema(minimum = 0)]
    partition_id: Option<i32>,
    /// In this order; names may repeat.
    headers: Option<Vec<ProduceHeaderV3>>,
    /// Absent or `null`: no key.
    key: Option<ProduceDataV3>,
    /// Absent or `null`: a tombstone.
    value: Option<ProduceDataV3>,
    /// An ISO 8601 time, or milliseconds since 1970; without it, now.
    #[schema(example = "2026-01-31T12:00:00.123Z")]
    timestamp: Option<Moment>,
}

/// What became of a batch
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct ProduceBatchResultV3 {
    /// Those that were written: the fields of a result without `error_code`, behind their `id`.
    #[schema(value_type = Vec<Object>)]
    successes: Vec<()>,
    /// Those that were not: `id`, `error_code` and `message`.
    #[schema(value_type = Vec<Object>)]
    failures: Vec<()>,
}

/// Write a stream of records
///
/// The body is one JSON object or many, one behind the other with nothing or white space between them. Each
/// has a result, in order, which comes as soon as it is known, while the body is still being sent: read
/// while you send. The status is 200 also where records fail: look at `error_code` of each result. An object
/// that is not acceptable gets an error and the others go on; behind what is not JSON nothing is read.
///
/// Needs `produce` on the topic.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/topics/{topic}/records",
    operation_id = "produceV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
    ),
    request_body(
        content = ProduceRecordV3,
        content_type = "application/json",
        description = "Records, one behind the other",
        example = json!({"key": {"type": "STRING", "data": "c-17"}, "value": {"type": "JSON", "data": {"id": 1}}}),
    ),
    responses(
        (status = 200, description = "A result for each record, with `\\r\\n` behind it", body = ProduceResultV3, content_type = "application/json", example = json!({"error_code": 200, "cluster_id": "MkU3OEVBNTcwNTJENDM2Qg", "topic_name": "orders", "partition_id": 0, "offset": 42, "timestamp": "2026-01-31T12:00:00.123Z", "key": {"type": "STRING", "size": 4}, "value": {"type": "JSON", "size": 8}})),
        (status = 400, description = "The charset is neither UTF-8 nor ISO-8859-1", body = ErrorBody),
        (status = 403, description = "No permission", body = ErrorBody),
        (status = 404, description = "No such cluster", body = ErrorBody),
        (status = 406, description = "`Accept` rules out JSON", body = ErrorBody),
        (status = 408, description = "Nothing of the body arrived in time", body = ErrorBody),
        (status = 415, description = "The body is not `application/json`", body = ErrorBody),
        (status = 422, description = "The body is empty (42206)", body = ErrorBody),
        (status = 500, description = "Kafka did not tell its cluster", body = ErrorBody),
        (status = 503, description = "Kafka cannot be reached, or the gateway is stopping; try again", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time; try again", body = ErrorBody),
    )
)]
pub async fn produce(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path((cluster, topic)): Path<(String, String)>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    if let Err(refused) = before(&gateway, &cluster, &parts.headers).await {
        discard_unread(&parts.headers, body).await;
        return Err(refused);
    }
    let mut body = encoding::decoded_stream(&parts.headers, body)?;
    let bound = gateway.settings().http.request_timeout;
    let first = tokio::select! {
        first = first_of(&mut body, bound) => first?,
        () = gateway.stopping().cancelled() => return Err(stopping()),
    };
    let Some(first) = first else {
        return Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            42206,
            "Payload error. Request body is empty. Data is required.",
        ));
    };
    let topic: Arc<str> = topic.into();
    let limit = ingest::item_limit(&gateway);
    let wire = stream::Objects::new(cluster.into(), Arc::clone(&topic), limit);
    let caller = ingest::Caller {
        gateway,
        principal,
        request_id,
    };
    Ok(ingest::answer(caller, topic, wire, first, body))
}

/// Write a batch of records
///
/// Each entry has a result of its own under its `id`. It is no transaction: an entry that is not acceptable,
/// or that Kafka refuses, leaves the others written. Nothing is written when the batch as a whole is not
/// acceptable.
///
/// Needs `produce` on the topic.
#[utoipa::path(
    post,
    path = "/v3/clusters/{cluster}/topics/{topic}/records:batch",
    operation_id = "produceBatchV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
    ),
    request_body(
        content = ProduceBatchV3,
        content_type = "application/json",
        description = "The records, at most `limits.records_per_request`",
        example = json!({"entries": [{"id": "1", "key": {"type": "STRING", "data": "c-17"}, "value": {"type": "JSON", "data": {"id": 1}}}]}),
    ),
    responses(
        (status = 207, description = "What became of each entry", body = ProduceBatchResultV3, content_type = "application/json", headers(("Tidegate-Failed-Records" = u64, description = "How many were not written; absent when all were")), example = json!({
            "successes": [{"id": "1", "cluster_id": "MkU3OEVBNTcwNTJENDM2Qg", "topic_name": "orders", "partition_id": 0, "offset": 42, "timestamp": "2026-01-31T12:00:00.123Z", "key": {"type": "STRING", "size": 4}, "value": {"type": "JSON", "size": 8}}],
            "failures": [{"id": "2", "error_code": 400, "message": "Bad Request: /value/data: not valid base64: Invalid symbol 33, offset 3."}],
        })),
        (status = 400, description = "The body is not JSON, or not a batch", body = ErrorBody),
        (status = 403, description = "No permission", body = ErrorBody),
        (status = 404, description = "No such cluster", body = ErrorBody),
        (status = 406, description = "`Accept` rules out JSON", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time", body = ErrorBody),
        (status = 413, description = "The body is over the limit", body = ErrorBody),
        (status = 415, description = "The body is not `application/json`", body = ErrorBody),
        (status = 422, description = "No entries, too many, or an id that is missing, not an id or given twice (42208); or a field that no batch has", body = ErrorBody),
        (status = 500, description = "Kafka did not tell its cluster", body = ErrorBody),
        (status = 503, description = "Kafka cannot be reached; try again", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time; try again", body = ErrorBody),
    )
)]
pub async fn produce_batch(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path((cluster, topic)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    if let Err(refused) = before(&gateway, &cluster, &parts.headers).await {
        discard_unread(&parts.headers, body).await;
        return Err(refused);
    }
    let body = gateway.body(&parts, body).await?;
    let most = gateway.settings().limits.records_per_request;
    let batch::Batch { entries, records } = batch::read(&body, most)?;
    let outcomes = if records.is_empty() {
        Ok(Vec::new())
    } else {
        let writer = gateway.writer();
        let on_invalid = OnInvalid::RejectRecord;
        let written = writer.submit(&principal, &topic, records, on_invalid).await;
        match written {
            Ok(outcomes) => Ok(outcomes),
            // What Kafka says about the topic is said of each record, as Confluent REST Proxy does.
            Err(error @ WriteError::Kafka(_)) => Err(answer::rejected(error)),
            Err(error) => {
                return Err(ApiError::from_rejected(error, |at| {
                    format!("/entries/{at}")
                }));
            }
        }
    };
    Ok(batch::answer(&cluster, &topic, entries, outcomes))
}

/// What is looked at before the body is.
async fn before(gateway: &Gateway, cluster: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    is_json(headers)?;
    negotiate::accept(headers, &[JSON])?;
    cluster_id(gateway, Some(cluster)).await.map(drop)
}

/// Whether the body is JSON by its `Content-Type`. Without one it is: what is none is found out.
fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let offered = header::HeaderValue::from_static(JSON);
    json::check_type(headers, "").map_err(|error| error.header(header::ACCEPT, offered))?;
    let charset = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .into_iter()
        .flat_map(|value| value.split(';').skip(1))
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, value)| value.trim().trim_matches('"'));
    match charset {
        None => Ok(()),
        // JSON is UTF-8 whatever is said; the reference takes the other name, and reads UTF-8 too.
        Some(known)
            if known.eq_ignore_ascii_case("utf-8") || known.eq_ignore_ascii_case("iso-8859-1") =>
        {
            Ok(())
        }
        Some(other) => {
            let other = shown(other);
            let message = format!("Bad Request: the charset {other} is not read here; UTF-8 is");
            Err(ApiError::bad_request(message).at("Content-Type"))
        }
    }
}

/// The start of the body, up to the first piece that is not white space alone; `None` when there is none.
/// The stream starts with it, and with the stream the answer.
async fn first_of(body: &mut Body, bound: Duration) -> Result<Option<Bytes>, ApiError> {
    let deadline = Instant::now() + bound;
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => {
                let ms = bound.as_millis();
                return Err(ApiError::plain(
                    StatusCode::REQUEST_TIMEOUT,
                    format!("nothing of the body arrived within {ms} ms (http.request_timeout_ms)"),
                ));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(broken_off(&error)),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data()
            && !data.trim_ascii().is_empty()
        {
            return Ok(Some(data));
        }
    }
}

fn broken_off(error: &axum::Error) -> ApiError {
    match encoding::Fault::of(error) {
        Some(fault @ encoding::Fault::TooDense) => ApiError::too_large(fault.to_string()),
        Some(fault @ encoding::Fault::Corrupt(_)) => ApiError::bad_request(fault.to_string()),
        Some(encoding::Fault::Broken(_)) | None => {
            ApiError::bad_request(format!("the body broke off: {error}"))
        }
    }
}

fn stopping() -> ApiError {
    let message = "the gateway is stopping; nothing was written";
    ApiError::plain(StatusCode::SERVICE_UNAVAILABLE, message).retry()
}
