//! The management listener: `/healthz`, `/readyz`, `/metrics`. Its paths are not part of the public
//! API, so they stand in a list of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use metrics_process::Collector;
use serde_json::json;

use crate::gateway::Gateway;
use crate::http::csrf::CsrfRules;
use crate::http::response_layer::{ResponseSettings, with_response_layer};

/// What the management handlers need.
#[derive(Clone)]
pub struct Management {
    /// The gateway, to ask Kafka.
    pub gateway: Gateway,
    /// The recorder's handle.
    pub metrics: PrometheusHandle,
    /// What the process uses: memory, CPU time, file descriptors.
    pub process: Collector,
}

impl std::fmt::Debug for Management {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Management").finish_non_exhaustive()
    }
}

/// The router of the management listener.
#[expect(
    clippy::disallowed_methods,
    reason = "the management listener's own list"
)]
pub fn router(management: Management) -> Router {
    let response = ResponseSettings {
        access_log: false,
        embedded: management.gateway.cluster().is_embedded(),
        audited: false,
    };
    let csrf = Arc::new(CsrfRules::management(management.gateway.settings()));
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(management);
    with_response_layer(csrf.guard(router), response)
}

/// The process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Kafka has answered lately, and the process is not about to stop.
async fn readyz(State(management): State<Management>) -> Response {
    let gateway = &management.gateway;
    let reason = gateway.ready().await.err();
    let ready = reason.is_none();
    let broker = if gateway.cluster().is_embedded() {
        "embedded"
    } else {
        "kafka"
    };
    let mut body = json!({ "ready": ready, "broker": broker });
    if let (Some(reason), Some(object)) = (reason, body.as_object_mut()) {
        object.insert("reason".to_owned(), reason.into());
    }
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        format!("{body}\n"),
    )
        .into_response()
}

async fn scrape(State(management): State<Management>) -> Response {
    management.gateway.observe();
    management.process.collect();
    management.metrics.run_upkeep();
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        crate::observe::metrics::render(&management.metrics),
    )
        .into_response()
}
