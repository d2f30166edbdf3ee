//! What is said of each record: where it was written, or why it was not.

use axum::http::StatusCode;
use bytes::Bytes;
use jiff::Timestamp;

use crate::codec::encode::{number, offset, string};
use crate::http::error::{ApiError, ErrorBody};
use crate::kafka::fault::{Fault, FaultKind};
use crate::record::RecordMetadata;
use crate::write::WriteError;

/// What a key or value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataType {
    Binary,
    Json,
    String,
    Avro,
    JsonSchema,
    Protobuf,
}

impl DataType {
    pub(super) const ALL: [Self; 6] = [
        Self::Binary,
        Self::Json,
        Self::String,
        Self::Avro,
        Self::JsonSchema,
        Self::Protobuf,
    ];

    /// Its name on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Binary => "BINARY",
            Self::Json => "JSON",
            Self::String => "STRING",
            Self::Avro => "AVRO",
            Self::JsonSchema => "JSONSCHEMA",
            Self::Protobuf => "PROTOBUF",
        }
    }
}

/// What a result says of a key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    kind: DataType,
    /// In bytes; -1 for Kafka's null, as Kafka's own clients have it.
    size: i64,
}

impl Part {
    pub(super) fn new(kind: DataType, bytes: Option<&Bytes>) -> Self {
        let size = bytes.map(|bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        Self {
            kind,
            size: size.unwrap_or(-1),
        }
    }
}

/// The key and the value that a request had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) key: Option<Part>,
    pub(super) value: Option<Part>,
}

/// Writes where a record stands now, without braces: the fields that both endpoints have.
pub(super) fn written(
    out: &mut Vec<u8>,
    cluster: &str,
    topic: &str,
    parts: Parts,
    at: &RecordMetadata,
) {
    out.extend_from_slice(b"\"cluster_id\":");
    string(out, cluster);
    out.extend_from_slice(b",\"topic_name\":");
    string(out, topic);
    out.extend_from_slice(b",\"partition_id\":");
    number(out, i64::from(at.partition));
    out.extend_from_slice(b",\"offset\":");
    offset(out, at.offset);
    // Kafka has times that no calendar has.
    if let Ok(time) = Timestamp::from_millisecond(at.timestamp) {
        out.extend_from_slice(b",\"timestamp\":");
        string(out, &format!("{time:.3}"));
    }
    for (name, part) in [("key", parts.key), ("value", parts.value)] {
        let Some(Part { kind, size }) = part else {
            continue;
        };
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":{\"type\":\"");
        out.extend_from_slice(kind.name().as_bytes());
        out.extend_from_slice(b"\",\"size\":");
        number(out, size);
        out.push(b'}');
    }
}

/// Writes why a record was not written, without braces.
pub(super) fn failed(out: &mut Vec<u8>, error: ApiError) {
    let ErrorBody {
        error_code,
        message,
        kafka_error,
        maybe_written,
        ..
    } = error.into_body();
    out.extend_from_slice(b"\"error_code\":");
    number(out, i64::from(error_code));
    out.extend_from_slice(b",\"message\":");
    string(out, &message);
    if let Some(name) = kafka_error {
        out.extend_from_slice(b",\"kafka_error\":");
        string(out, name);
    }
    if maybe_written == Some(true) {
        out.extend_from_slice(b",\"maybe_written\":true");
    }
}

/// The error of a record that Kafka refused.
pub(super) fn refused(fault: &Fault) -> ApiError {
    let (status, code) = match fault.kind {
        // As a key or value that cannot be read.
        FaultKind::InvalidBySchema => {
            return ApiError::from_fault(fault)
                .coded(StatusCode::BAD_REQUEST, 400)
                .saying(format!("Bad Request: {}", fault.message));
        }
        // Of both the reference only hears that they are not in the metadata.
        FaultKind::UnknownTopic | FaultKind::UnknownPartition => (StatusCode::NOT_FOUND, 40401),
        FaultKind::NotAuthorized => (StatusCode::FORBIDDEN, 40301),
        FaultKind::Unauthenticated => (StatusCode::UNAUTHORIZED, 40101),
        FaultKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 413),
        FaultKind::Throttled => (StatusCode::TOO_MANY_REQUESTS, 42901),
        FaultKind::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, 507),
        FaultKind::Invalid if fault.kafka_error == Some("INVALID_TOPIC_EXCEPTION") => {
            (StatusCode::BAD_REQUEST, 40002)
        }
        _ if fault.retriable => (StatusCode::INTERNAL_SERVER_ERROR, 50003),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, 50002),
    };
    ApiError::from_fault(fault).coded(status, code)
}

/// The error of each record when none was written.
pub(super) fn rejected(error: WriteError) -> ApiError {
    match error {
        WriteError::Kafka(fault) | WriteError::Record { fault, .. } => refused(&fault),
        other => ApiError::from_rejected(other, |_| String::new()),
    }
}

#[cfg(test)]
mod tests;
