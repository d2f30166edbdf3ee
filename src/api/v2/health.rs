//! `/healthy`, `/ready` and `/_health`: where probes that were written for Strimzi's bridge or Karapace look.
//! Health lives on the management listener, whose address can be kept from the public; the setting
//! `http.health_paths` opens these paths beside it.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::gateway::Gateway;
use crate::http::error::ApiError;

/// Ask whether the process answers
///
/// As Strimzi's bridge has it. Only with `http.health_paths`; else the answer says where health lives.
#[utoipa::path(
    get,
    path = "/healthy",
    operation_id = "getHealthy",
    tag = "Compatible REST v2",
    responses(
        (status = 204, description = "It does"),
        (status = 404, description = "`http.health_paths` is off", body = crate::http::error::ErrorBody),
    )
)]
pub async fn healthy(State(gateway): State<Gateway>) -> Result<StatusCode, ApiError> {
    opened(&gateway)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ask whether Kafka answers the process
///
/// As Strimzi's bridge has it. Only with `http.health_paths`; else the answer says where health lives.
#[utoipa::path(
    get,
    path = "/ready",
    operation_id = "getReady",
    tag = "Compatible REST v2",
    responses(
        (status = 204, description = "It does, and the process is not about to stop"),
        (status = 404, description = "`http.health_paths` is off", body = crate::http::error::ErrorBody),
        (status = 503, description = "It does not, or the process is about to stop", body = crate::http::error::ErrorBody),
    )
)]
pub async fn ready(State(gateway): State<Gateway>) -> Result<StatusCode, ApiError> {
    opened(&gateway)?;
    match gateway.ready().await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(reason) => Err(ApiError::plain(StatusCode::SERVICE_UNAVAILABLE, reason).retry()),
    }
}

/// Ask whether the process answers, with a body
///
/// Where Karapace has its own. Only with `http.health_paths`; else the answer says where health lives.
#[utoipa::path(
    get,
    path = "/_health",
    operation_id = "getHealth",
    tag = "Compatible REST v2",
    responses(
        (status = 200, description = "It does", body = Object, content_type = "application/json", example = json!({"status": "ok"})),
        (status = 404, description = "`http.health_paths` is off", body = crate::http::error::ErrorBody),
    )
)]
pub async fn health(State(gateway): State<Gateway>) -> Result<Response, ApiError> {
    opened(&gateway)?;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, "{\"status\":\"ok\"}").into_response())
}

fn opened(gateway: &Gateway) -> Result<(), ApiError> {
    if gateway.settings().http.health_paths {
        return Ok(());
    }
    Err(ApiError::plain(
        StatusCode::NOT_FOUND,
        "health is told on the management listener (management.listen), at /healthz and /readyz; \
         http.health_paths opens this path here",
    ))
}
