//! `GET /` and `POST /`: the liveness answer that clients of Confluent REST Proxy probe; a browser gets
//! the API page.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::value::RawValue;

use super::v2::media;
use crate::gateway::Gateway;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::{body, negotiate};

/// An empty object, as the reference answers
///
/// A browser (anything that prefers `text/html`) is sent to the API page.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "root",
    tag = "Gateway",
    responses(
        (status = 200, description = "The gateway serves requests", content(
            (Object = "application/vnd.kafka.v2+json", example = json!({})),
            (Object = "application/json", example = json!({})),
        )),
        (status = 303, description = "To the API page, for browsers"),
        (status = 406, description = "`Accept` rules out JSON", body = ErrorBody),
    )
)]
pub async fn index(headers: HeaderMap) -> Result<Response, ApiError> {
    const HTML: &str = "text/html";
    Ok(
        match negotiate::accept(&headers, &[media::V2, media::PLAIN, HTML])? {
            HTML => Redirect::to("/docs/index.html").into_response(),
            kind => nothing(kind),
        },
    )
}

/// An empty object for any object, as the reference answers
///
/// The object sent is not looked at, and no more of it is read than 512 bytes: anyone may send one.
#[utoipa::path(
    post,
    path = "/",
    operation_id = "rootPost",
    tag = "Gateway",
    request_body(content(
        (Object = "application/vnd.kafka.v2+json", example = json!({})),
        (Object = "application/json", example = json!({})),
    )),
    responses(
        (status = 200, description = "The gateway serves requests", content(
            (Object = "application/vnd.kafka.v2+json", example = json!({})),
            (Object = "application/json", example = json!({})),
        )),
        (status = 400, description = "The body is not a JSON object", content((ErrorBody = "application/vnd.kafka.v2+json"), (ErrorBody = "application/json"))),
        (status = 406, description = "`Accept` rules out JSON", body = ErrorBody),
        (status = 408, description = "The body did not arrive in time", content((ErrorBody = "application/vnd.kafka.v2+json"), (ErrorBody = "application/json"))),
        (status = 413, description = "The body is over 512 bytes", content((ErrorBody = "application/vnd.kafka.v2+json"), (ErrorBody = "application/json"))),
        (status = 415, description = "The body is not JSON by its content type", content((ErrorBody = "application/vnd.kafka.v2+json"), (ErrorBody = "application/json"))),
    )
)]
pub async fn post(State(gateway): State<Gateway>, request: Request) -> Result<Response, ApiError> {
    media::of_request(request.headers())?;
    let kind = media::of_answer(request.headers())?;
    match read(&gateway, request).await {
        Ok(()) => Ok(nothing(kind)),
        Err(error) => Err(error.typed(kind)),
    }
}

async fn read(gateway: &Gateway, request: Request) -> Result<(), ApiError> {
    let (parts, body) = request.into_parts();
    let time = gateway.settings().http.request_timeout;
    let body = body::read_of_anyone(&parts.headers, body, time).await?;
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    match serde_json::from_slice::<&RawValue>(&body) {
        Ok(json) if json.get().starts_with('{') => Ok(()),
        Ok(_) => Err(ApiError::bad_request("the body is JSON, but not an object")),
        Err(error) => Err(ApiError::not_json(&error)),
    }
}

fn nothing(kind: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], "{}").into_response()
}
