//! `GET /topics/{topic}/records`, a page or a stream, and `GET …/records/{offset}`, one record.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::page;
use super::write::formats;
use super::{EVENT_STREAM, JSON, NDJSON, stream};
use crate::auth::Principal;
use crate::codec::encode;
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query, unexpected};
use crate::http::negotiate;
use crate::http::request_id::RequestId;
use crate::kafka::Cluster;
use crate::kafka::metadata::Topic;
use crate::kafka::reader::{PageRequest, Span};
use crate::observe::topics::TopicReads;
use crate::read::allowed::while_allowed;
use crate::read::error::ReadError;
use crate::read::page::read_spans;
use crate::read::partitions::{known, visibility};
use crate::reader_options::Isolation;
use crate::record::ConsumerRecord;
use crate::transport::connection::Connection;

const BYTES: &str = "application/octet-stream";

/// A record that was read
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct Record {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    partition: i32,
    /// The offset.
    offset: i64,
    /// Milliseconds since 1970.
    timestamp: i64,
    /// `append` when the timestamp is the broker's, of when the record was appended.
    timestamp_type: Option<String>,
    /// The key in the format asked for; `null` where there is none.
    #[schema(value_type = Value, nullable)]
    key: (),
    /// The value in the format asked for; `null` is the JSON `null`, or a tombstone where `vf` is
    /// `null` too.
    #[schema(value_type = Value, nullable)]
    value: (),
    /// The key's format, when it is not the one asked for.
    kf: Option<String>,
    /// The value's format, when it is not the one asked for; `null` for a tombstone.
    vf: Option<String>,
    /// Pairs of name and value; a value is a string, `null` or `{"b64": "…"}`.
    #[schema(value_type = Vec<Vec<Value>>)]
    headers: (),
}

/// Records, and where to go on
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct RecordPage {
    /// The records, in order within each partition.
    records: Vec<Record>,
    /// The `from` of the next page: no record is skipped or repeated.
    #[schema(example = "AYbQ5lUBAAI")]
    next: String,
    /// Partitions whose broker did not answer although others did; absent where all have. `next` leaves
    /// them where they were: what they have comes with a later page.
    unanswered: Option<Vec<UnansweredPartition>>,
}

/// A partition that a page has nothing of because its broker did not answer
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct UnansweredPartition {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    partition: i32,
    /// Why there is nothing of it.
    message: String,
}

/// Read a topic: a page, or a stream
///
/// With `Accept: application/x-ndjson` or `text/event-stream` the answer is a stream that goes on as
/// records come; `GET /records` says what it is made of. Parameters that are of a stream are refused for a page, and
/// those of a page for a stream.
///
/// As JSON it is a page. No consumer group and no state between calls: `next` of a page is `from` of the next one. The
/// answer comes at once unless `wait` says otherwise. Records of open and aborted transactions are left out, unless
/// `isolation` says otherwise. Where records
/// are left out by a filter, an empty page need not be the end: while `next` is not the `from` that it
/// answers, there may be more.
///
/// Needs `consume` on the topic. Which records are shown may depend on the token
/// (`auth.topic_filters`).
#[utoipa::path(
    get,
    path = "/topics/{topic}/records",
    operation_id = "readRecords",
    tag = "Records",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("from" = Option<String>, Query, description = "`latest` (default), `earliest`, `-N` (the last N of each partition), an ISO 8601 time or milliseconds, `next` of an earlier page, or `topic:partition@offset,…`", example = "earliest"),
        ("partitions" = Option<String>, Query, description = "Only these, as a comma list; ranges as `0-3`", example = "0,2-3"),
        ("limit" = Option<u64>, Query, description = "Most records; of a page 100 where it is not given, and no more than 10000", minimum = 1),
        ("isolation" = Option<String>, Query, description = "`read_committed`, or `read_uncommitted` to see records of open and aborted transactions too; without it as `kafka.consumer` is set"),
        ("wait" = Option<u64>, Query, description = "Of a page, when there is nothing to read yet: milliseconds to wait for the first record (0)", maximum = 25000),
        ("until" = Option<String>, Query, description = "`end`: what is there now; of streams also a time, past or future, or a position"),
        ("key" = Option<String>, Query, description = "Only records with this key"),
        ("key_prefix" = Option<String>, Query, description = "Only records whose key begins so"),
        ("header.NAME" = Option<String>, Query, description = "Only records with a header of this name and value"),
        ("where" = Option<String>, Query, description = "Only records whose value fulfils all of these, such as `/price>=10;/type==\"x\";/a/b exists`"),
        ("fields" = Option<String>, Query, description = "Only these parts of values, as JSON Pointers", example = "/id,/customer/name"),
        ("key_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        ("value_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        stream::OfStreams,
    ),
    responses(
        (status = 200, description = "The page; empty when there is nothing to read yet", content((RecordPage = "application/json"), (String = "application/x-ndjson"), (String = "text/event-stream")),
            example = json!({"records": [{"topic": "orders", "partition": 0, "offset": 42, "timestamp": 1_700_000_000_000_i64, "key": "c-17", "value": {"id": 1}, "headers": [["source", "curl"]]}], "next": "AYbQ5lUBACs"})),
        (status = 400, description = "A parameter cannot be read, or `from` belongs elsewhere", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker, or no claim by which records are shown", body = ErrorBody),
        (status = 404, description = "No such topic or partition", body = ErrorBody),
        (status = 406, description = "`Accept` asks for what is not offered; the answer lists what is", body = ErrorBody),
        (status = 410, description = "`from` is no longer in the log; `earliest` says where it starts now", body = ErrorBody),
        (status = 503, description = "Kafka cannot be reached, or too many reads are under way; try again", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time", body = ErrorBody),
    )
)]
pub async fn page(
    gateway: Gateway,
    Path(topic): Path<String>,
    Extension(principal): Extension<Principal>,
    connection: Option<Extension<Arc<Connection>>>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, ApiError> {
    if let Ok(kind @ (NDJSON | EVENT_STREAM)) =
        negotiate::accept(&headers, &[JSON, NDJSON, EVENT_STREAM])
    {
        let caller = stream::Caller {
            gateway,
            principal,
            connection: connection.map(|Extension(connection)| connection),
            headers,
            request_id,
        };
        return Ok(stream::answer(caller, vec![topic], kind, query).await);
    }
    negotiate::accept(&headers, &[JSON, NDJSON, EVENT_STREAM])?;
    page::answer(&gateway, &principal, &[topic], query).await
}

/// Read one record
///
/// As JSON, or with `Accept: application/octet-stream` as the bytes of its value (204 for a
/// tombstone) with `Kafka-Partition`, `Kafka-Offset` and `Kafka-Timestamp` as headers.
///
/// Needs `consume` on the topic.
#[utoipa::path(
    get,
    path = "/topics/{topic}/partitions/{partition}/records/{offset}",
    operation_id = "readRecord",
    tag = "Records",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
        ("offset" = i64, Path, description = "The offset", example = 42),
        ("isolation" = Option<String>, Query, description = "`read_committed`, or `read_uncommitted` to see records of open and aborted transactions too; without it as `kafka.consumer` is set"),
        ("key_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        ("value_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
    ),
    responses(
        (status = 200, description = "The record", content((Record = "application/json"), (Vec<u8> = "application/octet-stream"))),
        (status = 204, description = "A tombstone, where bytes were asked for"),
        (status = 400, description = "A parameter cannot be read", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker, or no claim by which records are shown", body = ErrorBody),
        (status = 404, description = "No such topic or partition, or no record at this offset: not written yet, compacted away, not a record, or not shown to the principal", body = ErrorBody),
        (status = 406, description = "`Accept` asks for what is not offered; the answer lists what is", body = ErrorBody),
        (status = 410, description = "The offset is no longer in the log; `earliest` says where it starts now", body = ErrorBody),
        (status = 503, description = "Kafka cannot be reached, or too many reads are under way; try again", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time", body = ErrorBody),
    )
)]
pub async fn one(
    gateway: Gateway,
    Path((topic, partition, offset)): Path<(String, String, String)>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, ApiError> {
    let partition: i32 = number("partition", &partition)?;
    let offset: i64 = number("offset", &offset)?;
    let formats = formats(&mut query)?;
    let cluster = gateway.cluster();
    let isolation = isolation(&mut query, cluster)?;
    query.finish()?;
    let kind = negotiate::accept(&headers, &[JSON, BYTES])?;
    let names = [Arc::from(topic.as_str())];
    let visibility = visibility(&principal, &names)?;
    let topic = known(cluster, &topic).await?;
    check_partition(&topic, partition)?;
    let reading = async {
        let asked = [partition];
        let bounds = cluster.watermarks_under(isolation, &topic.name, &asked);
        let Some(bound) = bounds.await?.pop() else {
            let cause = "the bounds of a partition were asked for, and none came back";
            return Err(ApiError::internal(cause));
        };
        if offset < bound.low {
            return Err(gone(&topic, partition, offset, bound.low));
        }
        if offset >= bound.end {
            return Ok((None, bound.end));
        }
        let request = PageRequest {
            topic: Arc::clone(&topic),
            spans: vec![Span {
                partition,
                from: offset,
                end: offset + 1,
            }],
            limit: 1,
            max_bytes: usize::MAX,
            wait: Duration::ZERO,
            isolation,
        };
        let page = read_spans(cluster, request).await.map_err(|error| {
            let first = match &error {
                ReadError::Gone { earliest, .. } => earliest.first(),
                _ => None,
            };
            match first {
                // It went meanwhile.
                Some((_, low)) => gone(&topic, partition, offset, *low),
                None => error.into(),
            }
        })?;
        // One that is not shown is answered as one that is not there.
        let mut records = page.records.into_iter();
        let found = records.find(|record| visibility.shows(record));
        Ok((found, bound.end))
    };
    // Kafka may take a while, and rights may go meanwhile.
    let (found, end) = while_allowed(&principal, &names, &visibility, reading).await?;
    let Some(record) = found else {
        return Err(ApiError::plain(
            StatusCode::NOT_FOUND,
            if offset >= end {
                format!("partition {partition} ends at offset {end}")
            } else {
                "there is no record at this offset: it was compacted away, aborted, marks a \
                 transaction, or is not shown to you"
                    .to_owned()
            },
        )
        .at("offset"));
    };
    TopicReads::of(&topic.name, principal.identity()).count(1);
    if kind == BYTES {
        return Ok(raw(record));
    }
    let mut out = Vec::new();
    encode::record(&mut out, &record, formats);
    Ok(json_answer(out))
}

fn check_partition(topic: &Topic, partition: i32) -> Result<(), ApiError> {
    match topic.partition(partition) {
        Ok(_) => Ok(()),
        Err(fault) => Err(ApiError::from(fault).at("partition")),
    }
}

/// 410 for a record that is not in the log any more.
fn gone(topic: &Topic, partition: i32, offset: i64, low: i64) -> ApiError {
    let message = format!(
        "offset {offset} is no longer in the log: {}:{partition} starts at {low}",
        topic.name
    );
    ApiError::plain(StatusCode::GONE, message)
        .at("offset")
        .earliest([(partition, low)])
}

/// The parameter `isolation`: without it, as the gateway's readers are set.
pub(super) fn isolation(query: &mut Query, cluster: &Cluster) -> Result<Isolation, ApiError> {
    let Some(text) = query.take("isolation")? else {
        return Ok(cluster.reader.isolation());
    };
    Isolation::parse(&text)
        .ok_or_else(|| unexpected("isolation", &text, "read_committed or read_uncommitted"))
}

fn number<T: std::str::FromStr + PartialOrd + Default>(
    name: &'static str,
    text: &str,
) -> Result<T, ApiError> {
    text.parse()
        .ok()
        .filter(|number| *number >= T::default())
        .ok_or_else(|| unexpected(name, text, "a whole number from 0"))
}

fn raw(record: ConsumerRecord) -> Response {
    const PARTITION: HeaderName = HeaderName::from_static("kafka-partition");
    const OFFSET: HeaderName = HeaderName::from_static("kafka-offset");
    const TIMESTAMP: HeaderName = HeaderName::from_static("kafka-timestamp");
    let mut response = match record.value {
        Some(value) => (
            [
                (header::CONTENT_TYPE, BYTES),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ],
            value,
        )
            .into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(PARTITION, HeaderValue::from(record.partition));
    headers.insert(OFFSET, HeaderValue::from(record.offset));
    headers.insert(TIMESTAMP, HeaderValue::from(record.timestamp));
    response
}

fn json_answer(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}
