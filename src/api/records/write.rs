//! `POST /topics/{topic}/records`.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::format::Format;
use super::parse::{self, Formats, Parsed};
use super::{encode, json_answer};
use crate::auth::Principal;
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{Path, Query};
use crate::http::{body, negotiate};
use crate::kafka::producer::Outcome;
use crate::write::Strictness;

/// How many records of a batch were not written; absent when all were.
const FAILED_RECORDS: HeaderName = HeaderName::from_static("tidegate-failed-records");

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
    /// string, `null`, or `{"b64": "…"}` for other bytes.
    #[schema(value_type = Option<Value>, example = json!({"source": "curl"}))]
    headers: (),
    /// The partition; without it the key decides (murmur2, as Kafka's own clients).
    #[schema(minimum = 0)]
    partition: Option<i32>,
    /// Milliseconds since 1970, more than 0; without it, now.
    #[schema(minimum = 1)]
    timestamp: Option<i64>,
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
    /// The record's offset.
    offset: Option<i64>,
    /// Milliseconds since 1970, as stored.
    timestamp: i64,
}

/// Write records to a topic
///
/// One JSON object is one record; an array is many, written in its order. Nothing is written when
/// any of the request is not acceptable. A single record that Kafka refuses gets the error's own
/// status; of an array the answer is 200 with an error in the place of each record that was not
/// written, and the header `Tidegate-Failed-Records` has their number.
///
/// Needs `produce` on the topic.
#[utoipa::path(
    post,
    path = "/topics/{topic}/records",
    operation_id = "writeRecords",
    tag = "Records",
    params(
        ("topic" = String, Path, description = "The topic", example = "orders"),
        ("key_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
        ("value_format" = Option<String>, Query, description = "`auto`, `json`, `string` or `binary`"),
    ),
    request_body(
        content = NewRecord,
        description = "A record, or an array of them",
        examples(
            ("one" = (value = json!({"key": "c-17", "value": {"id": 1, "total": 99.5}, "headers": {"source": "curl"}}))),
            ("many" = (value = json!([{"key": "a", "value": 1}, {"key": "b", "value": null}]))),
        )
    ),
    responses(
        (status = 200, description = "Written: where, for one record; an array of the same, or of errors, for an array", body = WrittenRecord,
            example = json!({"topic": "orders", "partition": 0, "offset": 42, "timestamp": 1_700_000_000_000_i64})),
        (status = 400, description = "The body or a parameter cannot be read", body = ErrorBody),
        (status = 403, description = "No permission, here or at the broker", body = ErrorBody),
        (status = 404, description = "No such topic or partition", body = ErrorBody),
        (status = 406, description = "`Accept` rules out JSON", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time", body = ErrorBody),
        (status = 413, description = "The body, a record or their number is over the limit", body = ErrorBody),
        (status = 415, description = "Not a content type that is read here; the answer lists them", body = ErrorBody),
        (status = 422, description = "A record is not acceptable; `field` says what of it", body = ErrorBody),
        (status = 503, description = "Kafka cannot be reached or takes no more right now; try again", body = ErrorBody),
        (status = 504, description = "Kafka did not answer in time; `maybe_written` says whether the record may be there", body = ErrorBody),
        (status = 507, description = "The embedded broker is full", body = ErrorBody),
    )
)]
pub async fn post(
    State(gateway): State<Gateway>,
    Extension(principal): Extension<Principal>,
    Path(topic): Path<String>,
    mut query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    let formats = formats(&mut query)?;
    query.finish()?;
    let (parts, body) = request.into_parts();
    negotiate::accept(&parts.headers, &["application/json"])?;
    json_type(&parts.headers)?;
    let parsed = read(&gateway, &parts.headers, body, formats).await?;
    let writer = gateway.writer();
    match parsed {
        Parsed::One(record) => {
            let outcomes = writer
                .submit(&principal, &topic, vec![record], Strictness::Whole)
                .await
                .map_err(|rejected| ApiError::from_rejected(rejected, |_| String::new()))?;
            one_answer(&topic, outcomes)
        }
        Parsed::Many(records) => {
            let outcomes = writer
                .submit(&principal, &topic, records, Strictness::Whole)
                .await
                .map_err(|rejected| ApiError::from_rejected(rejected, |at| format!("/{at}")))?;
            Ok(many_answer(&topic, &outcomes))
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

async fn read(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: Body,
    formats: Formats,
) -> Result<Parsed, ApiError> {
    let http = &gateway.settings().http;
    let body = body::read(headers, body, http.max_body_bytes, http.request_timeout).await?;
    parse::body(&body, formats)
}

fn json_type(headers: &HeaderMap) -> Result<(), ApiError> {
    const TAKEN: &str = "application/json";
    let unsupported = |message: String| {
        Err(ApiError::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
            .at("Content-Type")
            .header(header::ACCEPT, HeaderValue::from_static(TAKEN)))
    };
    match negotiate::content_type(headers).as_deref() {
        Some(TAKEN) => Ok(()),
        // What curl sends with -d or -F when it is not told otherwise.
        Some(form @ ("application/x-www-form-urlencoded" | "multipart/form-data")) => unsupported(
            format!("the body came as {form}; with curl, add -H 'content-type: {TAKEN}'"),
        ),
        Some(other) => unsupported(format!("{other} is not read here; {TAKEN} is")),
        None => unsupported(format!("the request has no Content-Type; expected {TAKEN}")),
    }
}

fn one_answer(topic: &str, outcomes: Vec<Outcome>) -> Result<Response, ApiError> {
    match outcomes.into_iter().next() {
        Some(Ok(written)) => {
            let mut out = Vec::with_capacity(96 + topic.len());
            encode::written(&mut out, topic, &written);
            Ok(json_answer(out))
        }
        Some(Err(fault)) => Err(ApiError::from_fault(&fault)),
        None => Err(ApiError::internal()),
    }
}

fn many_answer(topic: &str, outcomes: &[Outcome]) -> Response {
    let mut out = Vec::with_capacity(2 + outcomes.len() * (80 + topic.len()));
    out.push(b'[');
    for (index, outcome) in outcomes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encode::outcome(&mut out, topic, outcome);
    }
    out.push(b']');
    let mut response = json_answer(out);
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    if failed > 0 {
        response
            .headers_mut()
            .insert(FAILED_RECORDS, HeaderValue::from(failed));
    }
    response
}
