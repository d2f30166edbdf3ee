//! Reading records: `GET …/topics/{topic}/records` and `GET …/partitions/{partition}/records`, the pages of the
//! records API in this API's shapes. Confluent REST Proxy reads nothing in its version 3. Keys, values and
//! headers stand as they are written.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::answer::DataType;
use crate::api::json::JSON;
use crate::api::records::page::{self, ReadPage};
use crate::api::v3::call::{Call, not_found};
use crate::api::v3::error::Errors;
use crate::api::v3::partitions::{PartitionPath, TopicPath};
use crate::api::v3::resource::ListMetadata;
use crate::codec::encode::{base64, content, json, number, string};
use crate::codec::format::Format;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::Path;
use crate::http::own_url::Segment;
use crate::read::partitions::Partitions;
use crate::record::{ConsumerRecord, TimestampType};

/// What the list is of
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub enum RecordListKind {
    /// The only one.
    #[schema(rename = "KafkaRecordList")]
    It,
}

/// What the resource is
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub enum RecordKind {
    /// The only one.
    #[schema(rename = "KafkaRecord")]
    It,
}

/// Records of a topic, and where to go on
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct RecordListV3 {
    kind: RecordListKind,
    metadata: RecordListMetadataV3,
    /// The records.
    data: Vec<RecordV3>,
    /// Only where brokers did not answer while others did: their partitions, which stay where they were.
    unanswered: Option<Vec<UnansweredV3>>,
}

/// Where a list of records is, and where it goes on
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct RecordListMetadataV3 {
    /// Its URL.
    #[schema(rename = "self")]
    url: String,
    /// The URL of what comes behind it, with the same parameters: there is always one, as a topic has no end.
    next: String,
}

/// A partition that was not read
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct UnansweredV3 {
    /// The topic.
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// Why it was not read.
    message: String,
}

/// A record that was read
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct RecordV3 {
    kind: RecordKind,
    /// The cluster's id.
    cluster_id: String,
    /// The topic.
    #[schema(example = "orders")]
    topic_name: String,
    /// The partition.
    partition_id: i32,
    /// The offset.
    offset: i64,
    /// ISO 8601; milliseconds since 1970 as a string for a time that no calendar has.
    #[schema(example = "2026-01-31T12:00:00.123Z")]
    timestamp: String,
    /// `append` when the timestamp is the broker's, of when the record was appended.
    timestamp_type: Option<String>,
    /// In the order in which they were written; names may repeat.
    headers: Vec<RecordHeaderV3>,
    /// The key; `null` where there is none.
    #[schema(required = true)]
    key: Option<RecordDataV3>,
    /// The value; `null` for a tombstone.
    #[schema(required = true)]
    value: Option<RecordDataV3>,
}

/// A header of a record that was read
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct RecordHeaderV3 {
    /// Its name.
    name: String,
    /// Base64; `null` is Kafka's null.
    #[schema(required = true)]
    value: Option<String>,
}

/// A key or value that was read
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct RecordDataV3 {
    /// `JSON`, `STRING`, or `BINARY` (base64): as asked for, else the next one that can hold it.
    #[schema(rename = "type", example = "JSON")]
    kind: String,
    /// By the type; JSON is as it stands in the topic, byte for byte.
    #[schema(value_type = Value, required = true, nullable)]
    data: (),
}

/// Read a topic
///
/// The pages of `GET /topics/{topic}/records`, with the same parameters, in this API's shapes. Not in the reference.
///
/// Needs `consume` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/records",
    operation_id = "readRecordsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("from" = Option<String>, Query, description = "Where to begin: `latest` (the default), `earliest`, `-N` for the last N, a time (ISO 8601 or milliseconds), or `partition@offset,…`; the `next` link has it"),
        ("partitions" = Option<String>, Query, description = "Only these partitions: numbers and ranges with commas between them"),
        ("limit" = Option<u64>, Query, description = "Most records, 1 to `limits.records_per_request`; without it 100", minimum = 1),
        ("wait" = Option<u64>, Query, description = "Milliseconds to wait for the first record, at most 25000", minimum = 0, maximum = 25000),
        ("isolation" = Option<String>, Query, description = "`read_committed`, or `read_uncommitted`; without it as `kafka.consumer` is set"),
        ("key_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        ("value_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        ("key" = Option<String>, Query, description = "Only records with this key"),
        ("where" = Option<String>, Query, description = "Only records whose value fits, such as `/total > 100`"),
    ),
    responses(
        (status = 200, description = "The records", body = RecordListV3),
        (status = 410, description = "The position is no longer in the log; `earliest` says where it starts now", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time", body = ErrorBody),
        Errors,
    )
)]
pub async fn of_topic(call: Call, Path(path): Path<TopicPath>) -> Result<Response, ApiError> {
    let url = call.links.url(&["topics", &path.topic, "records"]);
    answer(call, path.topic, None, url).await
}

/// Read a partition
///
/// The same of one partition. Not in the reference.
///
/// Needs `consume` on the topic.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/records",
    operation_id = "readPartitionRecordsV3",
    tag = "Compatible REST v3",
    params(
        ("cluster" = String, Path, description = "The cluster's id"),
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
        ("from" = Option<String>, Query, description = "Where to begin: `latest` (the default), `earliest`, `-N` for the last N, a time (ISO 8601 or milliseconds), or `partition@offset`; the `next` link has it"),
        ("limit" = Option<u64>, Query, description = "Most records, 1 to `limits.records_per_request`; without it 100", minimum = 1),
        ("wait" = Option<u64>, Query, description = "Milliseconds to wait for the first record, at most 25000", minimum = 0, maximum = 25000),
        ("isolation" = Option<String>, Query, description = "`read_committed`, or `read_uncommitted`; without it as `kafka.consumer` is set"),
        ("key_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        ("value_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
    ),
    responses(
        (status = 200, description = "The records", body = RecordListV3),
        (status = 410, description = "The position is no longer in the log; `earliest` says where it starts now", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time", body = ErrorBody),
        Errors,
    )
)]
pub async fn of_partition(
    call: Call,
    Path(path): Path<PartitionPath>,
) -> Result<Response, ApiError> {
    let number = path.number()?;
    let id = number.to_string();
    let url = call
        .links
        .url(&["topics", &path.topic, "partitions", &id, "records"]);
    let Some(partition) = Partitions::parse(&id) else {
        return Err(not_found(&format!("Partition {id}"), "partition"));
    };
    answer(call, path.topic, Some(partition), url).await
}

async fn answer(
    call: Call,
    topic: String,
    partition: Option<Partitions>,
    url: String,
) -> Result<Response, ApiError> {
    let Call {
        gateway,
        principal,
        links,
        query,
    } = call;
    let kept = query.without("from");
    let page = page::read(&gateway, &principal, &[topic], partition, query).await?;
    let next = format!("{url}?from={}{kept}", Segment(&page.next));
    let metadata = ListMetadata {
        url,
        next: Some(next),
    };
    let body = body(&links.id(), &metadata, &page);
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

fn body(cluster: &str, metadata: &ListMetadata, page: &ReadPage) -> Vec<u8> {
    let sizes = page.records.iter().map(|record| 256 + record.size());
    let mut out = Vec::with_capacity(256 + sizes.sum::<usize>());
    out.extend_from_slice(b"{\"kind\":\"KafkaRecordList\",\"metadata\":");
    json(&mut out, metadata);
    out.extend_from_slice(b",\"data\":[");
    for (index, one) in page.records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        record(&mut out, cluster, one, page);
    }
    out.push(b']');
    let mut before: &[u8] = b",\"unanswered\":[";
    for (topic, partition, why) in page.unanswered() {
        out.extend_from_slice(before);
        before = b",";
        out.extend_from_slice(b"{\"topic_name\":");
        string(&mut out, topic);
        out.extend_from_slice(b",\"partition_id\":");
        number(&mut out, i64::from(partition));
        out.extend_from_slice(b",\"message\":");
        string(&mut out, why);
        out.push(b'}');
    }
    if before == b"," {
        out.push(b']');
    }
    out.push(b'}');
    out
}

fn record(out: &mut Vec<u8>, cluster: &str, record: &ConsumerRecord, page: &ReadPage) {
    out.extend_from_slice(b"{\"kind\":\"KafkaRecord\",\"cluster_id\":");
    string(out, cluster);
    out.extend_from_slice(b",\"topic_name\":");
    string(out, &record.topic);
    out.extend_from_slice(b",\"partition_id\":");
    number(out, i64::from(record.partition));
    out.extend_from_slice(b",\"offset\":");
    number(out, record.offset);
    out.extend_from_slice(b",\"timestamp\":");
    match Timestamp::from_millisecond(record.timestamp) {
        Ok(time) => string(out, &format!("{time:.3}")),
        Err(_) => string(out, &record.timestamp.to_string()),
    }
    if record.timestamp_type == TimestampType::Append {
        out.extend_from_slice(b",\"timestamp_type\":\"append\"");
    }
    out.extend_from_slice(b",\"headers\":[");
    for (index, header) in record.headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        string(out, &header.name);
        out.extend_from_slice(b",\"value\":");
        match header.value.as_deref() {
            Some(value) => base64(out, value),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"key\":");
    let asked = match page.formats.key {
        Format::Auto => Format::String,
        format => format,
    };
    data(out, record.key.as_deref(), asked);
    out.extend_from_slice(b",\"value\":");
    let asked = match page.formats.value {
        Format::Auto => Format::Json,
        format => format,
    };
    data(out, record.value.as_deref(), asked);
    out.push(b'}');
}

/// Writes a key or value with its type, which is known when it is written.
fn data(out: &mut Vec<u8>, bytes: Option<&[u8]>, asked: Format) {
    if bytes.is_none() {
        out.extend_from_slice(b"null");
        return;
    }
    out.extend_from_slice(b"{\"data\":");
    let kind = match content(out, bytes, asked).unwrap_or(asked) {
        Format::Json | Format::Auto => DataType::Json,
        Format::String => DataType::String,
        Format::Binary => DataType::Binary,
    };
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(kind.name().as_bytes());
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: Option<&[u8]>, asked: Format) -> String {
        let mut out = Vec::new();
        data(&mut out, bytes, asked);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_type_is_what_could_hold_the_bytes() {
        for (bytes, asked, expected) in [
            (
                &b"{\"a\":1.0}"[..],
                Format::Json,
                r#"{"data":{"a":1.0},"type":"JSON"}"#,
            ),
            (b"text", Format::Json, r#"{"data":"text","type":"STRING"}"#),
            (b"1", Format::String, r#"{"data":"1","type":"STRING"}"#),
            (b"\xff", Format::Json, r#"{"data":"/w==","type":"BINARY"}"#),
            (b"a", Format::Binary, r#"{"data":"YQ==","type":"BINARY"}"#),
        ] {
            assert_eq!(written(Some(bytes), asked), expected);
        }
        assert_eq!(written(None, Format::Json), "null");
    }
}
