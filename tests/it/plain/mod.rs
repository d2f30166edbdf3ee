//! Administration the plain way, on a real Kafka. Every answer is checked against the OpenAPI document.
//!
//! - `topics`: topics, made and deleted
//! - `groups`: groups, their lag, and what they have committed
//! - `storage`: how large a topic is, and how its oldest records are deleted

mod groups;
mod storage;
mod topics;

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, send};
use crate::support::openapi;

/// For what Kafka does in its own time, on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

async fn call(gateway: &Gateway, method: Method, path: &str, body: Option<&Value>) -> Reply {
    let request = client().request(method.clone(), gateway.url(path));
    let reply = send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await;
    openapi::check(method.as_str(), path, &reply);
    reply
}

/// Status, `error_code` and `field` of an error.
fn error(reply: &Reply) -> (u16, u64, String) {
    let body = reply.json();
    let field = body["field"].as_str().unwrap_or_default().to_owned();
    (
        reply.status.as_u16(),
        body["error_code"].as_u64().unwrap(),
        field,
    )
}
