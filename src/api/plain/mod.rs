//! Administration the plain way, for people with curl: topics and groups under short names, JSON without vendor
//! types. The services are those of `admin/`, which REST v3 has too.
//!
//! - `topics.rs`: `PUT` and `DELETE /topics/{topic}`; `storage.rs`: how large a topic is, and how its oldest records
//!   are deleted
//! - `groups.rs`: `/groups`: groups, their members and lag; `offsets.rs`: what a group has committed is moved or
//!   deleted

pub mod groups;
pub mod offsets;
pub mod storage;
pub mod topics;

use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use crate::admin::AdminError;
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::json_object::Object;
use crate::http::negotiate;
use crate::kafka::fault::{Fault, FaultKind};

const JSON: &str = "application/json";

/// What Kafka said, as an error that names the parameter of the path.
fn fault(gateway: &Gateway, fault: &Fault) -> ApiError {
    let error = ApiError::from_fault(fault);
    match fault.kind {
        FaultKind::UnknownTopic | FaultKind::Invalid | FaultKind::Exists => error.at("topic"),
        FaultKind::UnknownPartition => error.at("partition"),
        FaultKind::NotFound => error.at("group"),
        FaultKind::Unsupported if gateway.cluster().is_embedded() => {
            error.saying("not supported by the embedded broker".to_owned())
        }
        _ => error,
    }
}

/// Why something was not shown or changed.
fn refused(gateway: &Gateway, error: AdminError) -> ApiError {
    let message = error.to_string();
    match error {
        AdminError::Denied(denied) => denied.into(),
        AdminError::Name(why) => fault(gateway, &why),
        AdminError::Reserved | AdminError::ReadOnly(_) => {
            ApiError::new(StatusCode::FORBIDDEN, 40301, message).at("topic")
        }
        AdminError::NoSuchConfig(_) => ApiError::unprocessable(message).at("/configs"),
        AdminError::NoSuchBroker(_) => ApiError::plain(StatusCode::NOT_FOUND, message),
        AdminError::HasMembers { .. } => ApiError::plain(StatusCode::CONFLICT, message).at("group"),
        AdminError::NothingCommitted(_) => ApiError::unprocessable(message).at("/shift"),
        AdminError::OutsideLog { .. } => ApiError::unprocessable(message).at("/offsets"),
        AdminError::Kafka(why) => fault(gateway, &why),
    }
}

/// A value as JSON.
fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Response, ApiError> {
    let json = serde_json::to_vec(value).map_err(|error| {
        ApiError::internal(format_args!("an answer could not be written: {error}"))
    })?;
    Ok((status, [(header::CONTENT_TYPE, JSON)], json).into_response())
}

/// The body of a request, which is JSON.
#[derive(Debug)]
pub struct PlainBody(Bytes);

impl FromRequest<Gateway> for PlainBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, ApiError> {
        negotiate::accept(request.headers(), &[JSON])?;
        match negotiate::content_type(request.headers()).as_deref() {
            None | Some(JSON) => {}
            Some(other) => {
                let other: String = other.chars().take(100).collect();
                let message =
                    format!("expected {JSON}, not {other}; with curl: --json instead of -d");
                return Err(
                    ApiError::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).at("Content-Type")
                );
            }
        }
        let (parts, body) = request.into_parts();
        gateway.body(&parts, body).await.map(Self)
    }
}

impl PlainBody {
    /// The object that it is, which may have these fields; `None` where there is no body.
    ///
    /// # Errors
    ///
    /// 400 and 422 as [`Object::body`].
    fn object(&self, known: &[&str]) -> Result<Option<Object<'_>>, ApiError> {
        Object::body(&self.0, known)
    }

    #[cfg(test)]
    fn of(body: &str) -> Self {
        Self(Bytes::copy_from_slice(body.as_bytes()))
    }
}
