//! `GET /topics/{topic}/records`, a page at a time, and `GET …/records/{offset}`, one record.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::parse::Formats;
use super::write::formats;
use super::{EVENT_STREAM, JSON, NDJSON, encode, follow};
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query, unexpected};
use crate::http::negotiate;
use crate::http::wire::Wire;
use crate::kafka::fault::FaultKind;
use crate::kafka::metadata::Topic;
use crate::kafka::reader::{Page, PageRequest, Span};
use crate::kafka::{Bounds, Cluster};
use crate::observe::metrics::topic_label;
use crate::position::{self, From, Offsets, PositionError};
use crate::record::Delivered;

/// Records on a page when `limit` is not given.
const DEFAULT_LIMIT: u64 = 100;
/// Longest `wait`, in milliseconds: below the idle timeouts of common proxies.
const MAX_WAIT_MS: u64 = 25_000;

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
    /// The value in the format asked for; `null` is a tombstone.
    #[schema(value_type = Value, nullable)]
    value: (),
    /// The key's format, when it is not the one asked for.
    kf: Option<String>,
    /// The value's format, when it is not the one asked for.
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
}

/// Read a topic: a page, or a stream
///
/// With `Accept: application/x-ndjson` or `text/event-stream` the answer is a stream that goes on as
/// records come; `GET /records` says what it is made of and which parameters it takes.
///
/// As JSON it is a page. No consumer group and no state between calls: `next` of a page is `from` of the next one. The
/// answer comes at once unless `wait` says otherwise. Aborted transactions are left out.
///
/// Needs `consume` on the topic.
#[utoipa::path(
    get,
    path = "/topics/{topic}/records",
    operation_id = "readRecords",
    tag = "Records",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("from" = Option<String>, Query, description = "`latest` (default), `earliest`, `-N` (the last N of each partition), an ISO 8601 time or milliseconds, `next` of an earlier page, or `topic:partition@offset,…`", example = "earliest"),
        ("partitions" = Option<String>, Query, description = "Only these, as a comma list; ranges as `0-3`", example = "0,2-3"),
        ("limit" = Option<u64>, Query, description = "Most records on the page (100)", minimum = 1, maximum = 10000),
        ("wait" = Option<u64>, Query, description = "When there is nothing to read yet: milliseconds to wait for the first record (0)", maximum = 25000),
        ("until" = Option<String>, Query, description = "`end`: never wait, stop at what is there now"),
        ("key_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        ("value_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
    ),
    responses(
        (status = 200, description = "The page; empty when there is nothing to read yet", content((RecordPage = "application/json"), (String = "application/x-ndjson"), (String = "text/event-stream")),
            example = json!({"records": [{"topic": "orders", "partition": 0, "offset": 42, "timestamp": 1_700_000_000_000_i64, "key": "c-17", "value": {"id": 1}, "headers": [["source", "curl"]]}], "next": "AYbQ5lUBACs"})),
        (status = 400, description = "A parameter cannot be read, or `from` belongs elsewhere", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker", body = ErrorBody),
        (status = 404, description = "No such topic or partition", body = ErrorBody),
        (status = 406, description = "`Accept` asks for what is not offered; the answer lists what is", body = ErrorBody),
        (status = 410, description = "`from` is no longer in the log; `earliest` says where it starts now", body = ErrorBody),
        (status = 503, description = "Kafka cannot be reached, or too many reads are under way; try again", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time", body = ErrorBody),
    )
)]
pub async fn page(
    State(gateway): State<Gateway>,
    Path(topic): Path<String>,
    Extension(principal): Extension<Principal>,
    wire: Option<Extension<Arc<Wire>>>,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, ApiError> {
    if let Ok(kind @ (NDJSON | EVENT_STREAM)) =
        negotiate::accept(&headers, &[JSON, NDJSON, EVENT_STREAM])
    {
        let caller = follow::Caller {
            gateway,
            principal,
            wire: wire.map(|Extension(wire)| wire),
            headers,
        };
        return Ok(follow::answer(caller, vec![topic], kind, query).await);
    }
    let asked = Asked::parse(&mut query, &gateway)?;
    query.finish()?;
    negotiate::accept(&headers, &[JSON, NDJSON, EVENT_STREAM])?;
    let cluster = gateway.cluster();
    let topic = known(cluster, &topic).await?;
    let partitions = asked.partitions.choose(&topic)?;
    let cluster_id = cluster.id().await?;
    let spans = spans(cluster, &topic, &partitions, &asked.from, &cluster_id).await?;
    let request = PageRequest {
        topic: Arc::clone(&topic),
        spans,
        limit: asked.limit,
        max_bytes: gateway.settings().http.max_body_bytes,
        wait: asked.wait,
    };
    let page = read(cluster, request).await?;
    metrics::counter!("kafka_messages_read_total", "topic" => topic_label(&topic.name))
        .increment(page.records.len() as u64);
    let next = position::encode(&cluster_id, &[&topic], &[page.next]);
    Ok(json_answer(page_body(&page.records, &next, asked.formats)))
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
        ("key_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        ("value_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
    ),
    responses(
        (status = 200, description = "The record", content((Record = "application/json"), (Vec<u8> = "application/octet-stream"))),
        (status = 204, description = "A tombstone, where bytes were asked for"),
        (status = 400, description = "A parameter cannot be read", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker", body = ErrorBody),
        (status = 404, description = "No such topic or partition, or no record at this offset: not written yet, compacted away, or not a record", body = ErrorBody),
        (status = 406, description = "`Accept` asks for what is not offered; the answer lists what is", body = ErrorBody),
        (status = 410, description = "The offset is no longer in the log; `earliest` says where it starts now", body = ErrorBody),
        (status = 503, description = "Kafka cannot be reached, or too many reads are under way; try again", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time", body = ErrorBody),
    )
)]
pub async fn one(
    State(gateway): State<Gateway>,
    Path((topic, partition, offset)): Path<(String, String, String)>,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, ApiError> {
    let partition: i32 = number("partition", &partition)?;
    let offset: i64 = number("offset", &offset)?;
    let formats = formats(&mut query)?;
    query.finish()?;
    let kind = negotiate::accept(&headers, &[JSON, BYTES])?;
    let cluster = gateway.cluster();
    let topic = known(cluster, &topic).await?;
    check_partition(&topic, partition)?;
    let bounds = cluster.bounds(&topic.name, &[partition]).await?;
    let Some(bound) = bounds.first() else {
        return Err(ApiError::internal());
    };
    if offset < bound.low {
        return Err(gone(&topic, &[(partition, offset)], &bounds));
    }
    let found = if offset >= bound.end {
        None
    } else {
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
        };
        read(cluster, request).await?.records.into_iter().next()
    };
    let Some(record) = found else {
        return Err(ApiError::plain(
            StatusCode::NOT_FOUND,
            if offset >= bound.end {
                format!("partition {partition} ends at offset {}", bound.end)
            } else {
                "there is no record at this offset: it was compacted away, aborted, or marks a \
                 transaction"
                    .to_owned()
            },
        )
        .at("offset"));
    };
    metrics::counter!("kafka_messages_read_total", "topic" => topic_label(&topic.name))
        .increment(1);
    if kind == BYTES {
        return Ok(raw(record));
    }
    let mut out = Vec::new();
    encode::record(&mut out, &record, formats);
    Ok(json_answer(out))
}

/// Reads, and says where the log starts when it was truncated after the bounds had been asked for.
async fn read(cluster: &Cluster, request: PageRequest) -> Result<Page, ApiError> {
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

/// The parameters of a page.
struct Asked {
    from: From,
    partitions: Partitions,
    limit: usize,
    wait: Duration,
    formats: Formats,
}

impl Asked {
    fn parse(query: &mut Query, gateway: &Gateway) -> Result<Self, ApiError> {
        let from = match query.take("from")? {
            None => From::Latest,
            Some(text) => From::parse(&text).map_err(|error| at_from(&error))?,
        };
        let partitions = match query.take("partitions")? {
            None => Partitions::All,
            Some(text) => Partitions::parse(&text)
                .ok_or_else(|| unexpected("partitions", &text, "a list such as 0,2-3"))?,
        };
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
            formats: formats(query)?,
        })
    }
}

/// The partitions of a page.
pub(super) enum Partitions {
    All,
    Some(Vec<std::ops::RangeInclusive<i32>>),
}

impl Partitions {
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.split(',')
            .map(|part| {
                let part = part.trim();
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
                (first <= last).then_some(i32::from(first)..=i32::from(last))
            })
            .collect::<Option<_>>()
            .map(Self::Some)
    }

    /// The partitions of `topic` that are meant, sorted.
    pub(super) fn choose(&self, topic: &Topic) -> Result<Vec<i32>, ApiError> {
        let all = || topic.partitions.iter().map(|partition| partition.id);
        let chosen: Vec<i32> = match self {
            Self::All => all().collect(),
            Self::Some(ranges) => {
                for partition in ranges
                    .iter()
                    .flat_map(|range| [*range.start(), *range.end()])
                {
                    check_partition(topic, partition).map_err(|error| error.at("partitions"))?;
                }
                all()
                    .filter(|id| ranges.iter().any(|range| range.contains(id)))
                    .collect()
            }
        };
        if chosen.len() > position::MAX_PARTITIONS {
            return Err(ApiError::bad_request(format!(
                "{} partitions; one read may have {}: name some of them",
                chosen.len(),
                position::MAX_PARTITIONS
            ))
            .at("partitions"));
        }
        Ok(chosen)
    }
}

/// The topic that the path names.
pub(super) async fn known(cluster: &Cluster, topic: &str) -> Result<Arc<Topic>, ApiError> {
    cluster
        .metadata
        .topic(topic)
        .await
        .map_err(|fault| ApiError::from_topic_fault(&fault))
}

fn check_partition(topic: &Topic, partition: i32) -> Result<(), ApiError> {
    match topic.partition(partition) {
        Ok(_) => Ok(()),
        Err(fault) => Err(ApiError::from(fault).at("partition")),
    }
}

/// Turns `from` into offsets.
async fn spans(
    cluster: &Cluster,
    topic: &Topic,
    partitions: &[i32],
    from: &From,
    cluster_id: &str,
) -> Result<Vec<Span>, ApiError> {
    let vector: Option<Offsets> = match from {
        From::Vector(text) => position::decode(text, cluster_id, &[topic])
            .map_err(|error| at_from(&error))?
            .into_iter()
            .next(),
        _ => None,
    };
    let times = async {
        match from {
            From::Time(time) => cluster
                .offsets_at(&topic.name, partitions, *time)
                .await
                .map(Some),
            _ => Ok(None),
        }
    };
    let (bounds, times) = tokio::try_join!(cluster.bounds(&topic.name, partitions), times)?;
    if let Some(vector) = &vector {
        check_vector(topic, vector, &bounds)?;
    }
    let start = |index: usize, bound: &Bounds| match from {
        From::Latest => bound.end,
        From::Earliest => bound.low,
        From::Last(count) => bound.low.max(bound.end.saturating_sub(*count)),
        // No record is that new: the end, so that the next one written is the first.
        From::Time(_) => times
            .as_ref()
            .and_then(|times| times.get(index).copied().flatten())
            .unwrap_or(bound.end),
        // A partition that the vector does not know came into being after it was written.
        From::Vector(_) => vector
            .as_ref()
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

/// 410: what was asked for is not in the log any more.
fn gone(topic: &Topic, asked: &[(i32, i64)], bounds: &[Bounds]) -> ApiError {
    let lost: Vec<String> = asked
        .iter()
        .filter_map(|(partition, offset)| {
            let bound = bounds.iter().find(|bound| bound.partition == *partition)?;
            (*offset < bound.low).then(|| {
                format!(
                    "{}:{partition} starts at {}, after {offset}",
                    topic.name, bound.low
                )
            })
        })
        .collect();
    let message = format!(
        "no longer in the log: {}; go on with from=earliest",
        lost.join(", ")
    );
    ApiError::plain(StatusCode::GONE, message)
        .at("from")
        .earliest(bounds.iter().map(|bound| (bound.partition, bound.low)))
}

pub(super) fn at_from(error: &PositionError) -> ApiError {
    ApiError::bad_request(format!("from: {error}")).at("from")
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

fn raw(record: Delivered) -> Response {
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
