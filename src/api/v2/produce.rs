//! `POST /topics/{topic}` and `POST /topics/{topic}/partitions/{partition}`: records with embedded
//! keys and values, and an entry for each in the answer.

mod request;

use axum::Extension;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{error, media, partitions};
use crate::api::fields::Moment;
use crate::api::records::write::FAILED_RECORDS;
use crate::auth::Principal;
use crate::codec::encode::{number, offset, string};
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::{Path, Query, unexpected};
use crate::kafka::fault::{Fault, FaultKind};
use crate::kafka::producer::Outcome;
use crate::write::{OnInvalid, WriteError};

/// Records to be written
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ProduceRequest {
    /// At least one, written in this order.
    #[schema(min_items = 1)]
    records: Vec<ProduceRecord>,
    /// Only for formats with a schema, which this version does not offer: passed over, whatever it is.
    #[schema(value_type = Option<Value>)]
    key_schema: (),
    /// The same.
    #[schema(value_type = Option<Value>)]
    key_schema_id: (),
    /// The same.
    #[schema(value_type = Option<Value>)]
    value_schema: (),
    /// The same.
    #[schema(value_type = Option<Value>)]
    value_schema_id: (),
}

/// A record to be written
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the shape is read by hand; this describes it")]
pub struct ProduceRecord {
    /// Base64, any JSON or a string, by the content type. Absent or `null`: no key.
    #[schema(value_type = Option<Value>)]
    key: (),
    /// Base64, any JSON or a string, by the content type; JSON is kept byte for byte. Absent or `null`: a
    /// tombstone.
    #[schema(value_type = Option<Value>)]
    value: (),
    /// The partition, which must be the path's where that has one; without either the key decides (murmur2,
    /// as Kafka's own clients). A string that holds the number is as good.
    #[schema(minimum = 0)]
    partition: Option<i32>,
    /// Milliseconds since 1970, or an ISO 8601 time; without it, now. Not in the reference.
    #[schema(example = 1_700_000_000_000_i64)]
    timestamp: Option<Moment>,
    /// An object of headers, or an array of `[name, value]` pairs where names repeat. A value is a
    /// string, `null`, or `{"b64": "…"}` for other bytes. As other gateways have it, also an array of
    /// `{"name": …, "value": …}` or `{"key": …, "value": …}` with base64 or `null`. Not in the reference.
    #[schema(value_type = Option<Value>, example = json!({"source": "curl"}))]
    headers: (),
}

/// What became of the records
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct ProduceResponse {
    /// One for each record, in the order of the request.
    offsets: Vec<ProduceEntry>,
    /// Always `null` without schemas.
    #[schema(required = true)]
    key_schema_id: Option<i32>,
    /// Always `null` without schemas.
    #[schema(required = true)]
    value_schema_id: Option<i32>,
}

/// What became of a record
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "written by hand; this describes it")]
pub struct ProduceEntry {
    /// Where it was written; `null` when it was not.
    #[schema(required = true)]
    partition: Option<i32>,
    /// Its offset; `null` when it was not written, or where `offset_unknown` says why it is not known.
    #[schema(required = true)]
    offset: Option<i64>,
    /// Only when the record was written and its offset is not known: `retried` (the answer to the first
    /// try was lost; it is in the topic once) or `acks_0` (the producer asks for no answer). Not in the
    /// reference.
    offset_unknown: Option<String>,
    /// `null` when it was written. 50002: Kafka refuses it. 50003: try again. 40301: the gateway's
    /// Kafka user has no right to write here. 40101: Kafka does not accept its credentials.
    #[schema(required = true)]
    error_code: Option<i32>,
    /// What is wrong; `null` when it was written.
    #[schema(required = true)]
    error: Option<String>,
    /// The Kafka protocol's name of the error; only where there is one. Not in the reference.
    kafka_error: Option<String>,
    /// True when the record may be in the topic although no acknowledgement came: sending it again
    /// can make a duplicate. Not in the reference.
    maybe_written: Option<bool>,
}

/// Write records
///
/// Nothing is written when any key or value does not fit the format that the content type names.
/// A record that Kafka refuses gets an error in its entry, and the others are written; the answer
/// is 200 then too, unless the refusal is about rights (403) or credentials (401).
///
/// Needs `produce` on the topic.
#[utoipa::path(
    post,
    path = "/topics/{topic}",
    operation_id = "produceV2",
    tag = "Compatible REST v2",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("async" = Option<bool>, Query, description = "`true`: no body in the answer when all records are written. Not in the reference"),
    ),
    request_body(
        description = "The records; the content type says how keys and values stand in them. Avro, JSON Schema and Protobuf are refused (42206, 42207) as by a reference without a schema registry.",
        content(
            (ProduceRequest = "application/vnd.kafka.json.v2+json", example = json!({"records": [{"key": "c-17", "value": {"id": 1}}, {"value": null, "partition": 0}]})),
            (ProduceRequest = "application/vnd.kafka.binary.v2+json", example = json!({"records": [{"key": "Yy0xNw==", "value": "aGVsbG8="}]})),
            (ProduceRequest = "application/vnd.kafka.text.v2+json", example = json!({"records": [{"key": "c-17", "value": "hello"}]})),
        )
    ),
    responses(
        (status = 200, description = "An entry for each record; look at `error_code` of each", headers(("Tidegate-Failed-Records" = u64, description = "How many were not written; absent when all were")), content(
            (ProduceResponse = "application/vnd.kafka.v2+json", example = json!({
                "offsets": [
                    {"partition": 0, "offset": 42, "error_code": null, "error": null},
                    {"partition": null, "offset": null, "error_code": 50002, "error": "The record is larger than the topic or the broker takes."},
                ],
                "key_schema_id": null,
                "value_schema_id": null,
            })),
            (ProduceResponse = "application/json"),
        )),
        (status = 204, description = "With `async=true`: all records are written"),
        error::ProduceErrors,
    )
)]
pub async fn to_topic(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path(topic): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    produce(&gateway, &principal, &topic, None, request).await
}

/// Write records to a partition
///
/// As to a topic; a record's own `partition`, if it has one, must be the one in the path.
///
/// Needs `produce` on the topic.
#[utoipa::path(
    post,
    path = "/topics/{topic}/partitions/{partition}",
    operation_id = "producePartitionV2",
    tag = "Compatible REST v2",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("partition" = i32, Path, description = "The partition", example = 0),
        ("async" = Option<bool>, Query, description = "`true`: no body in the answer when all records are written. Not in the reference"),
    ),
    request_body(
        description = "The records; the content type says how keys and values stand in them.",
        content(
            (ProduceRequest = "application/vnd.kafka.json.v2+json", example = json!({"records": [{"value": {"id": 1}}]})),
            (ProduceRequest = "application/vnd.kafka.binary.v2+json", example = json!({"records": [{"value": "aGVsbG8="}]})),
            (ProduceRequest = "application/vnd.kafka.text.v2+json", example = json!({"records": [{"value": "hello"}]})),
        )
    ),
    responses(
        (status = 200, description = "An entry for each record; look at `error_code` of each", headers(("Tidegate-Failed-Records" = u64, description = "How many were not written; absent when all were")), content(
            (ProduceResponse = "application/vnd.kafka.v2+json", example = json!({
                "offsets": [{"partition": 0, "offset": 42, "error_code": null, "error": null}],
                "key_schema_id": null,
                "value_schema_id": null,
            })),
            (ProduceResponse = "application/json"),
        )),
        (status = 204, description = "With `async=true`: all records are written"),
        error::ProduceToPartitionErrors,
    )
)]
pub async fn to_partition(
    gateway: Gateway,
    Extension(principal): Extension<Principal>,
    Path((topic, partition)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    produce(&gateway, &principal, &topic, Some(&partition), request).await
}

async fn produce(
    gateway: &Gateway,
    principal: &Principal,
    topic: &str,
    partition: Option<&str>,
    request: Request,
) -> Result<Response, ApiError> {
    let format = media::of_records(request.headers())?;
    let kind = media::of_answer(request.headers())?;
    let written = async {
        let partition = partition.map(partitions::number).transpose()?;
        let (parts, body) = request.into_parts();
        let is_brief = is_brief(parts.uri.query())?;
        let body = gateway.body(&parts, body).await?;
        let records = request::records(&body, format, partition)?;
        let count = records.len();
        let written = gateway
            .writer()
            .submit(principal, topic, records, OnInvalid::RejectBatchOfInvalid)
            .await;
        match written {
            Ok(outcomes) => Ok((outcomes, is_brief)),
            // What Kafka says about the topic is said of each record, as Confluent REST Proxy does.
            Err(WriteError::Kafka(fault)) if fault.kind != FaultKind::StorageFull => {
                Ok((vec![Err(Box::new(fault)); count], is_brief))
            }
            Err(rejected) => Err(error::of_rejected(rejected)),
        }
    };
    match written.await {
        Ok((outcomes, true)) if outcomes.iter().all(Result::is_ok) => {
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Ok((outcomes, _)) => Ok(answer(kind, &outcomes)),
        Err(error) => Err(error.typed(kind)),
    }
}

/// Whether the client wants no body where all went well: `async` of Strimzi's bridge, which does not even
/// wait. Other parameters are not looked at, as in Confluent REST Proxy.
fn is_brief(query: Option<&str>) -> Result<bool, ApiError> {
    let Some(query) = query else {
        return Ok(false);
    };
    match Query::parse(query)?.take("async")?.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(unexpected("async", other, "true or false")),
    }
}

/// The answer, whose status is that of the first entry which has one.
fn answer(kind: &'static str, outcomes: &[Outcome]) -> Response {
    let mut status = None;
    let mut failures: u32 = 0;
    let mut out = Vec::with_capacity(64 + outcomes.len() * 72);
    out.extend_from_slice(b"{\"offsets\":[");
    for (index, outcome) in outcomes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match outcome {
            Ok(written) => {
                out.extend_from_slice(b"{\"partition\":");
                number(&mut out, i64::from(written.partition));
                out.extend_from_slice(b",\"offset\":");
                offset(&mut out, written.offset);
                out.extend_from_slice(b",\"error_code\":null,\"error\":null}");
            }
            Err(fault) => {
                let code = error::of_record(fault);
                status = status.or_else(|| error::status_of_record(code));
                failures += 1;
                failed(&mut out, code, fault);
            }
        }
    }
    out.extend_from_slice(b"],\"key_schema_id\":null,\"value_schema_id\":null}");
    let status = status.unwrap_or(StatusCode::OK);
    let mut response = (status, [(header::CONTENT_TYPE, kind)], out).into_response();
    if failures > 0 {
        let headers = response.headers_mut();
        headers.insert(FAILED_RECORDS, HeaderValue::from(failures));
    }
    response
}

fn failed(out: &mut Vec<u8>, code: u32, fault: &Fault) {
    out.extend_from_slice(b"{\"partition\":null,\"offset\":null,\"error_code\":");
    number(out, i64::from(code));
    out.extend_from_slice(b",\"error\":");
    string(out, &fault.message);
    if let Some(name) = fault.kafka_error {
        out.extend_from_slice(b",\"kafka_error\":");
        string(out, name);
    }
    if fault.maybe_written {
        out.extend_from_slice(b",\"maybe_written\":true");
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordMetadata;

    fn written(partition: i32, offset: i64) -> Outcome {
        Ok(RecordMetadata {
            partition,
            offset: Ok(offset),
            timestamp: 1,
        })
    }

    async fn body(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn every_field_is_written_in_the_order_of_confluent_rest_proxy() {
        let fault = Fault {
            maybe_written: true,
            ..Fault::new(FaultKind::TimedOut, "no \"answer\"")
        };
        let response = answer(media::V2, &[written(3, 42), Err(Box::new(fault))]);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], media::V2);
        assert_eq!(response.headers()[FAILED_RECORDS], "1");
        let none = answer(media::V2, &[written(3, 42)]);
        assert!(!none.headers().contains_key(FAILED_RECORDS));
        assert_eq!(
            body(response).await,
            "{\"offsets\":[\
             {\"partition\":3,\"offset\":42,\"error_code\":null,\"error\":null},\
             {\"partition\":null,\"offset\":null,\"error_code\":50003,\
             \"error\":\"no \\\"answer\\\"\",\"maybe_written\":true}\
             ],\"key_schema_id\":null,\"value_schema_id\":null}"
        );
    }

    #[test]
    fn rights_and_credentials_decide_the_status() {
        let refused = |code| Err(Box::new(Fault::from_protocol_code(code, None)));
        let status = |outcomes: &[Outcome]| answer(media::V2, outcomes).status().as_u16();
        assert_eq!(status(&[written(0, 1), refused(10)]), 200);
        assert_eq!(status(&[written(0, 1), refused(29)]), 403);
        assert_eq!(status(&[refused(58), refused(29)]), 401);
    }
}
