//! The v3 API, on a real Kafka. Every answer but those of `produce` is checked against the OpenAPI document.
//!
//! - `acls`, `quotas`, `scram_users`: whom the brokers let do what, how much of it, and who can log in there
//! - `cluster`: the cluster, its brokers and their settings
//! - `groups`: consumer groups, their members and lag
//! - `share_groups`: share groups, their members and where they start, and the same the plain way
//! - `transactions`: transactions and producers, and those that hang
//! - `topics`: topics, made, changed and deleted, their partitions and replicas
//! - `topic_configs`: settings of topics
//! - `moved_partitions`: several brokers: replicas, and partitions that are being moved
//! - `produce`: writing, as a stream and in batches, seen in the topic by a plain client
//! - `read`: reading, a page after the other

mod acls;
mod cluster;
mod groups;
mod moved_partitions;
mod produce;
mod quotas;
mod read;
mod scram_users;
mod share_groups;
mod topic_configs;
mod topics;
mod transactions;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::gateway::Gateway;
use crate::support::http::{Reply, client, get, send};
use crate::support::{openapi, shared_gateway};

/// For what Kafka does in its own time, on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

/// The id of a gateway's cluster.
pub async fn cluster_id(gateway: &Gateway) -> String {
    let list = get(&gateway.url("/v3/clusters")).await.json();
    list["data"][0]["cluster_id"].as_str().unwrap().to_owned()
}

/// A request to what stands below the cluster.
pub async fn call_at(gateway: &Gateway, method: Method, path: &str, body: Option<&Value>) -> Reply {
    let path = format!("/v3/clusters/{}{path}", cluster_id(gateway).await);
    let request = client().request(method.clone(), gateway.url(&path));
    let reply = send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await;
    openapi::check(method.as_str(), &path, &reply);
    reply
}

/// The same of the cluster that the tests share.
pub async fn call(method: Method, path: &str, body: Option<&Value>) -> Reply {
    call_at(shared_gateway().await, method, path, body).await
}

/// Makes a topic through the gateway, which so has it in its lists at once: they may be a second old else.
pub async fn make(name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let configs = configs
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}));
    let configs: Vec<Value> = configs.collect();
    let body = json!({"topic_name": name, "partitions_count": partitions, "configs": configs});
    let made = call(Method::POST, "/topics", Some(&body)).await;
    assert_eq!(made.status, 201, "{}", made.text());
}

/// What a GET answers with 200.
pub async fn seen(path: &str) -> Value {
    let reply = call(Method::GET, path, None).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.json()
}

/// The URL of what stands below the cluster that the tests share.
pub async fn url(path: &str) -> String {
    static ID: OnceCell<String> = OnceCell::const_new();
    let gateway = shared_gateway().await;
    let id = ID.get_or_init(|| cluster_id(gateway)).await;
    gateway.url(&format!("/v3/clusters/{id}{path}"))
}

/// The name that Confluent's tools give to what stands below the cluster that the tests share.
pub async fn resource_name(tail: &str) -> String {
    format!(
        "crn:///kafka={}{tail}",
        cluster_id(shared_gateway().await).await
    )
}

/// Status and `error_code` of an error.
pub fn code(reply: &Reply) -> (u16, u64) {
    let code = reply.json()["error_code"].as_u64().unwrap();
    (reply.status.as_u16(), code)
}

/// The one of a list whose field has this value.
pub fn one_of<'a>(list: &'a Value, field: &str, value: &str) -> &'a Value {
    let data = list["data"].as_array().unwrap();
    data.iter()
        .find(|one| one[field] == value)
        .unwrap_or_else(|| panic!("no {field} {value}"))
}
