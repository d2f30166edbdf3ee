//! The one error shape of every API, and the one table that turns Kafka's failures into it.
//!
//! A handler answers with an [`ApiError`]; [`super::response_layer`] writes the body, so that the request id
//! is in it. Which constructor to use: [`ApiError::bad_request`] when the request could not be read
//! at all, [`ApiError::unprocessable`] when it could and something in it is not acceptable,
//! [`ApiError::from_fault`] for everything that Kafka said.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::rate_limit;
use crate::auth::failure_limiter::TooMany;
use crate::auth::jwt::Refused;
use crate::auth::permission::Denied;
use crate::auth::policy::NotVisible;
use crate::codec::error::DecodeError;
use crate::kafka::fault::{Fault, FaultKind};
use crate::passthrough::NoClients;
use crate::read::error::ReadError;
use crate::stream::error::StreamError;
use crate::write::{Field, InvalidRecord, WriteError};

/// Seconds after which it makes sense to try again, where nothing better is known.
const RETRY_AFTER_S: u32 = 1;

/// A failed request.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    body: Box<ErrorBody>,
    headers: Vec<(HeaderName, HeaderValue)>,
    content_type: &'static str,
    /// What went wrong inside the gateway, which the log says and the client does not get to see.
    cause: Option<Arc<str>>,
}

/// The body of every error.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// The reference's five-digit code where it has one, else the HTTP status.
    #[schema(example = 40401)]
    pub error_code: u32,
    /// What is wrong and, where there is something to do, what to do next.
    #[schema(example = "topic orders does not exist")]
    pub message: String,
    /// The JSON Pointer into the body, or the name of the parameter or header, that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/value")]
    pub field: Option<Cow<'static, str>>,
    /// The Kafka protocol's name of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "UNKNOWN_TOPIC_OR_PARTITION")]
    pub kafka_error: Option<&'static str>,
    /// Whether the same request may succeed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retriable: Option<bool>,
    /// True when a record may have been written although no acknowledgement came: sending it again
    /// can make a duplicate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maybe_written: Option<bool>,
    /// The earliest offset that is still in the log, by partition, where the asked one is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest: Option<std::collections::BTreeMap<i32, i64>>,
    /// The partitions for which the request could not be carried out, where it was for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Vec<PartitionError>>,
    /// The records of a request that are not valid by the topic's schemas, the first 100; nothing of the
    /// request was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<Vec<RecordError>>,
    /// The request's id, as in the `X-Request-Id` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What is wrong with one partition
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PartitionError {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What is wrong.
    pub message: String,
    /// The Kafka protocol's name of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_error: Option<&'static str>,
}

/// What is wrong with one record of a request
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RecordError {
    /// The record's place in the request, from 0.
    pub index: usize,
    /// The JSON Pointer into the body to what is wrong.
    #[schema(example = "/3/value/price")]
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl ApiError {
    /// An error with a code of its own.
    pub fn new(status: StatusCode, error_code: u32, message: impl Into<String>) -> Self {
        Self {
            status,
            body: Box::new(ErrorBody {
                error_code,
                message: message.into(),
                ..ErrorBody::default()
            }),
            headers: Vec::new(),
            content_type: "application/json",
            cause: None,
        }
    }

    /// An error whose code is the HTTP status.
    pub fn plain(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, u32::from(status.as_u16()), message)
    }

    /// 400: the request could not be read.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::BAD_REQUEST, message)
    }

    /// 400: the body is not JSON; `error` has line and column.
    pub fn not_json(error: &serde_json::Error) -> Self {
        Self::bad_request(format!("the body is not valid JSON: {error}"))
    }

    /// 422: the request was read, and something in it is not acceptable.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// 500 for a state that should not be reachable. `cause` goes to the log, under the id of the request
    /// that is answered so ([`super::response_layer`]), and not to the client.
    pub fn internal(cause: impl fmt::Display) -> Self {
        let error = Self::plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "an error inside the gateway; its log has the details under this request id",
        );
        Self {
            cause: Some(Arc::from(cause.to_string())),
            ..error
        }
    }

    /// 401 with its challenge (RFC 6750, section 3); `error` is absent where no credentials were shown.
    pub fn unauthenticated(error: Option<&str>, message: impl Into<String>) -> Self {
        let message = message.into();
        let challenge = match error {
            None => "Bearer realm=\"tidegate\"".to_owned(),
            Some(error) => {
                // What may stand in a quoted string without escapes.
                let description: String = message
                    .chars()
                    .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'))
                    .collect();
                format!(
                    "Bearer realm=\"tidegate\", error=\"{error}\", error_description=\"{description}\""
                )
            }
        };
        let unauthenticated = Self::new(StatusCode::UNAUTHORIZED, 40101, message);
        match HeaderValue::from_str(&challenge) {
            Ok(challenge) => unauthenticated.header(header::WWW_AUTHENTICATE, challenge),
            Err(_) => unauthenticated,
        }
    }

    /// Adds the challenge for a name and a password (RFC 7617, section 2.1), where these are offered.
    #[must_use]
    fn with_basic(self, is_offered: bool) -> Self {
        const BASIC: HeaderValue =
            HeaderValue::from_static("Basic realm=\"tidegate\", charset=\"UTF-8\"");
        match is_offered {
            true => self.header(header::WWW_AUTHENTICATE, BASIC),
            false => self,
        }
    }

    /// Names the field, parameter or header at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.body.field = Some(field.into());
        self
    }

    /// Names what is at fault as `place` has it, where something is named.
    #[must_use]
    pub fn placed(mut self, place: impl FnOnce(&str) -> Option<String>) -> Self {
        let field = self.body.field.take();
        self.body.field = field.and_then(|field| place(&field)).map(Cow::Owned);
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Marks the request as worth trying again, in `Retry-After` too.
    #[must_use]
    pub fn retry(self) -> Self {
        self.retry_after(u64::from(RETRY_AFTER_S))
    }

    /// The same, where it is known when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.body.retriable = Some(true);
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Says where the log starts now.
    #[must_use]
    pub fn earliest(mut self, offsets: impl IntoIterator<Item = (i32, i64)>) -> Self {
        self.body.earliest = Some(offsets.into_iter().collect());
        self
    }

    /// Puts other words in the place of the message.
    #[must_use]
    pub fn saying(mut self, message: String) -> Self {
        self.body.message = message;
        self
    }

    /// Says what is wrong with each partition.
    #[must_use]
    pub fn of_partitions(mut self, partitions: Vec<PartitionError>) -> Self {
        self.body.partitions = Some(partitions);
        self
    }

    /// The table from Kafka's failures to HTTP's.
    pub fn from_fault(fault: &Fault) -> Self {
        let (status, code) = status_of(fault.kind);
        let mut error = Self::new(status, code, fault.message.clone());
        error.body.kafka_error = fault.kafka_error;
        error.body.maybe_written = fault.maybe_written.then_some(true);
        if let Some(field) = &fault.field {
            error = error.at(field.to_string());
        }
        if fault.retriable {
            error.retry()
        } else {
            error.body.retriable = Some(false);
            error
        }
    }

    /// Whether nothing was written for certain, and the same request may succeed later.
    pub fn is_worth_retrying(&self) -> bool {
        self.body.retriable == Some(true) && self.body.maybe_written != Some(true)
    }

    /// A failure to find the topic that a request names, which names the parameter where it is the
    /// request that is at fault.
    pub fn from_topic_fault(fault: &Fault) -> Self {
        let error = Self::from_fault(fault);
        match fault.kind {
            FaultKind::UnknownTopic | FaultKind::Invalid => error.at("topic"),
            _ => error,
        }
    }

    /// Puts an API's own status and code in the place of the table's.
    #[must_use]
    pub fn coded(mut self, status: StatusCode, error_code: u32) -> Self {
        self.status = status;
        self.body.error_code = error_code;
        self
    }

    /// Names the body's media type, where an API has one of its own.
    #[must_use]
    pub fn typed(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }

    /// The body's media type.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.body.message
    }

    /// What went wrong inside the gateway, for the one who logs it with the request's id.
    pub(super) fn take_cause(&mut self) -> Option<Arc<str>> {
        self.cause.take()
    }

    /// The same, whose cause has been logged under the request's id, as that of an answer is: for an error inside
    /// an answer that has begun.
    #[must_use]
    pub fn logged_under(mut self, request_id: &str) -> Self {
        if let Some(cause) = self.cause.take() {
            tracing::error!(
                request_id,
                status = self.status.as_u16(),
                %cause,
                error = self.message(),
                "an answer that had begun failed"
            );
        }
        self
    }

    /// The body without the request id, as per-record errors and events of streams carry it. No answer of
    /// this status follows, so that a cause that nobody has logged is logged here.
    pub fn into_body(self) -> ErrorBody {
        if let Some(cause) = self.cause {
            tracing::error!(%cause, "an error inside the gateway");
        }
        *self.body
    }
}

/// HTTP status and error code of each kind of failure.
fn status_of(kind: FaultKind) -> (StatusCode, u32) {
    match kind {
        FaultKind::UnknownTopic => (StatusCode::NOT_FOUND, 40401),
        FaultKind::UnknownPartition => (StatusCode::NOT_FOUND, 40402),
        FaultKind::NotFound => (StatusCode::NOT_FOUND, 404),
        FaultKind::NotAuthorized => (StatusCode::FORBIDDEN, 40301),
        // Not a 401: it is the gateway that could not log in, the client can do nothing about it.
        FaultKind::Unauthenticated => (StatusCode::SERVICE_UNAVAILABLE, 503),
        FaultKind::Invalid => (StatusCode::BAD_REQUEST, 40002),
        FaultKind::ReservedHeader | FaultKind::InvalidBySchema => {
            (StatusCode::UNPROCESSABLE_ENTITY, 422)
        }
        FaultKind::Exists => (StatusCode::CONFLICT, 409),
        FaultKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 413),
        FaultKind::OffsetOutOfRange => (StatusCode::GONE, 410),
        FaultKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, 50302),
        FaultKind::TimedOut => (StatusCode::GATEWAY_TIMEOUT, 504),
        FaultKind::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, 503),
        FaultKind::Throttled => (StatusCode::TOO_MANY_REQUESTS, 42901),
        FaultKind::Unsupported => (StatusCode::NOT_IMPLEMENTED, 501),
        FaultKind::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, 507),
        FaultKind::Other => (StatusCode::INTERNAL_SERVER_ERROR, 50002),
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self::from_fault(&fault)
    }
}

impl From<NoClients> for ApiError {
    fn from(why: NoClients) -> Self {
        let message = why.to_string();
        match why {
            NoClients::NoToken => Self::new(StatusCode::FORBIDDEN, 40301, message),
            NoClients::Expiring | NoClients::Unusable(_) | NoClients::Refused => {
                Self::unauthenticated(Some("invalid_token"), message)
            }
            NoClients::Full => Self::plain(StatusCode::SERVICE_UNAVAILABLE, message).retry(),
            NoClients::Kafka(fault) => fault.into(),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::Denied(denied) => denied.into(),
            ReadError::NotVisible(not_visible) => not_visible.into(),
            ReadError::TooManyRefusals(too_many) => too_many.into(),
            ReadError::VisibilityChanged => Self::new(StatusCode::FORBIDDEN, 40301, message),
            ReadError::Invalid { field, .. } => Self::bad_request(message).at(field),
            ReadError::NoSuchPartition(fault) => Self::from(fault).at("partitions"),
            ReadError::Topic(fault) => Self::from_topic_fault(&fault),
            ReadError::Position(_) => Self::bad_request(message).at("from"),
            ReadError::Gone {
                field, earliest, ..
            } => Self::plain(StatusCode::GONE, message)
                .at(field)
                .earliest(earliest),
            ReadError::Kafka(fault) => fault.into(),
        }
    }
}

impl From<StreamError> for ApiError {
    fn from(error: StreamError) -> Self {
        let message = error.to_string();
        match error {
            StreamError::Kafka(fault) => fault.into(),
            StreamError::NotAllowed(error) => error.into(),
            StreamError::Expired => Self::unauthenticated(Some("invalid_token"), message),
            StreamError::Recreated(_) | StreamError::Busy => {
                Self::plain(StatusCode::SERVICE_UNAVAILABLE, message).retry()
            }
        }
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Unreadable(message) => Self::bad_request(message),
            DecodeError::Unacceptable { pointer, message } => {
                Self::unprocessable(message).at(pointer)
            }
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        if denied == Denied::Untold {
            return Self::plain(StatusCode::SERVICE_UNAVAILABLE, denied.to_string()).retry();
        }
        if denied == Denied::Gone {
            return Self::unauthenticated(Some("invalid_token"), denied.to_string());
        }
        Self::new(StatusCode::FORBIDDEN, 40301, denied.to_string()).header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"tidegate\", error=\"insufficient_scope\""),
        )
    }
}

impl From<NotVisible> for ApiError {
    fn from(not_visible: NotVisible) -> Self {
        Self::new(StatusCode::FORBIDDEN, 40301, not_visible.to_string())
    }
}

impl From<TooMany> for ApiError {
    fn from(TooMany { limit, wait }: TooMany) -> Self {
        let message =
            format!("more than {limit} requests refused in a second (limits.refused_per_second)");
        rate_limit::refused(u64::from(limit), wait, message)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Missing(ref offered) => {
                Self::unauthenticated(None, refused.to_string()).with_basic(offered.passwords)
            }
            Refused::Other(ref offered) => {
                Self::unauthenticated(Some("invalid_request"), refused.to_string())
                    .with_basic(offered.passwords)
            }
            Refused::Password => Self::unauthenticated(None, refused.to_string()).with_basic(true),
            Refused::Invalid(message) => Self::unauthenticated(Some("invalid_token"), message),
            Refused::KeysUnavailable | Refused::Untold(_) | Refused::Busy => {
                Self::plain(StatusCode::SERVICE_UNAVAILABLE, refused.to_string()).retry()
            }
            Refused::TooMany(too_many) => too_many.into(),
        }
    }
}

impl ApiError {
    /// A refused batch. `place` is the JSON Pointer of a record, by its place in the batch.
    pub fn from_rejected(rejected: WriteError, place: impl Fn(usize) -> String) -> Self {
        match rejected {
            WriteError::Denied(denied) => denied.into(),
            WriteError::Kafka(fault) => Self::from_topic_fault(&fault),
            WriteError::TooMany { .. } => Self::too_large(rejected.to_string()),
            WriteError::Record {
                index,
                field,
                fault,
            } => {
                let pointer = match field {
                    Field::Record => place(index),
                    Field::Partition => format!("{}/partition", place(index)),
                    Field::Headers => format!("{}/headers", place(index)),
                };
                let error = Self::from_fault(&fault);
                if pointer.is_empty() {
                    error
                } else {
                    error.at(pointer)
                }
            }
            WriteError::Invalid(ref invalid) => {
                let field = |record: &InvalidRecord| {
                    let field = record.fault.field.as_deref().unwrap_or_default();
                    format!("{}{field}", place(record.index))
                };
                let mut error = Self::unprocessable(rejected.to_string());
                error.body.retriable = Some(false);
                if let Some(first) = invalid.told.first() {
                    error = error.at(field(first));
                }
                if invalid.of > 1 {
                    let one = |record: &InvalidRecord| RecordError {
                        index: record.index,
                        field: field(record),
                        message: record.fault.message.clone(),
                    };
                    error.body.records = Some(invalid.told.iter().map(one).collect());
                }
                error
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        for (name, value) in &self.headers {
            response.headers_mut().append(name.clone(), value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::captured_logs::CapturedLogs;

    #[test]
    fn an_error_inside_an_answer_that_has_begun_has_its_cause_in_the_log_under_the_requests_id() {
        let logs = CapturedLogs::start();
        let error = ApiError::internal("no outcome").logged_under("request-7");
        let body = serde_json::to_string(&error.into_body()).unwrap();
        let lines = logs.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["level"], "ERROR");
        assert_eq!(lines[0]["request_id"], "request-7");
        assert_eq!(lines[0]["cause"], "no outcome");
        assert!(!body.contains("no outcome"), "{body}");
    }

    #[test]
    fn a_body_that_cannot_be_read_is_400_and_one_that_cannot_be_taken_422_with_its_field() {
        let unreadable = DecodeError::Unreadable("the body is empty".to_owned());
        let unacceptable = DecodeError::Unacceptable {
            pointer: "/0/headers".to_owned(),
            message: "/0/headers: expected an object".to_owned(),
        };
        for (error, status, field) in [
            (unreadable, StatusCode::BAD_REQUEST, None),
            (
                unacceptable,
                StatusCode::UNPROCESSABLE_ENTITY,
                Some("/0/headers"),
            ),
        ] {
            let message = error.to_string();
            let error = ApiError::from(error);
            assert_eq!(error.status(), status);
            let body = error.into_body();
            assert_eq!(body.message, message);
            assert_eq!(body.field.as_deref(), field);
        }
    }
}
