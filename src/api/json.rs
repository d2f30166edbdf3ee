//! Bodies and answers of the media type `application/json`.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::negotiate;

/// The media type.
pub(in crate::api) const JSON: &str = "application/json";

/// A value as JSON text.
///
/// # Errors
///
/// 500: it could not be written.
pub(in crate::api) fn written<T: Serialize>(value: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|error| {
        ApiError::internal(format_args!("an answer could not be written: {error}"))
    })
}

/// A value as JSON, with this status.
///
/// # Errors
///
/// As [`written`].
pub(in crate::api) fn json<T: Serialize>(
    status: StatusCode,
    value: &T,
) -> Result<Response, ApiError> {
    Ok((status, [(header::CONTENT_TYPE, JSON)], written(value)?).into_response())
}

/// The same with 200.
///
/// # Errors
///
/// As [`written`].
pub(in crate::api) fn ok<T: Serialize>(value: &T) -> Result<Response, ApiError> {
    json(StatusCode::OK, value)
}

/// Whether the body is JSON by its `Content-Type`. Without one it is: what is none is found out. Where it is not,
/// the error ends with `advice`.
///
/// # Errors
///
/// 415.
pub(in crate::api) fn check_type(headers: &HeaderMap, advice: &str) -> Result<(), ApiError> {
    match negotiate::content_type(headers).as_deref() {
        None | Some(JSON) => Ok(()),
        Some(other) => {
            let other: String = other.chars().take(100).collect();
            let message = format!("expected {JSON}, not {other}{advice}");
            Err(ApiError::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).at("Content-Type"))
        }
    }
}

/// The whole body of a request, which is to be JSON by its type.
///
/// # Errors
///
/// As [`check_type`] and [`Gateway::body`].
pub(in crate::api) async fn body(
    request: Request,
    gateway: &Gateway,
    advice: &str,
) -> Result<Bytes, ApiError> {
    check_type(request.headers(), advice)?;
    let (parts, body) = request.into_parts();
    gateway.body(&parts, body).await
}
