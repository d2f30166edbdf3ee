//! `GET /`: the liveness answer that clients of the reference probe; a browser gets the API page.

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};

use crate::http::error::ApiError;
use crate::http::negotiate;

/// An empty object, as the reference answers
///
/// A browser (anything that prefers `text/html`) is sent to the API page.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "root",
    tag = "Gateway",
    responses(
        (status = 200, description = "The gateway serves requests", body = Object, example = json!({})),
        (status = 303, description = "To the API page, for browsers"),
        (status = 406, description = "`Accept` rules out JSON", body = crate::http::error::ErrorBody),
    )
)]
pub async fn index(headers: HeaderMap) -> Result<Response, ApiError> {
    const V2: &str = "application/vnd.kafka.v2+json";
    Ok(
        match negotiate::accept(&headers, &["application/json", V2, "text/html"])? {
            "text/html" => Redirect::to("/docs/index.html").into_response(),
            kind => ([(header::CONTENT_TYPE, kind)], "{}").into_response(),
        },
    )
}
