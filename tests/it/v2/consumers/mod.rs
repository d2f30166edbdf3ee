//! Consumer instances of the v2 API, on a real Kafka. What the tests share is here.
//!
//! - `commit`, `seek`: offsets and positions
//! - `concurrency`: a thousand instances at once
//! - `delivery_receipts`: answers that are asked for again, and what of them has moved on
//! - `errors`: Confluent REST Proxy's table of codes
//! - `group`: several members, brokers and processes that come and go
//! - `join_time`: how long the group takes to let an instance in
//! - `lifecycle`: made, deleted, expired, of whom, how many
//! - `manual_assignment`: partitions by hand
//! - `other_proxies`: what only Karapace, Redpanda's proxy and Strimzi's bridge have
//! - `read`: what reads give, and when

mod commit;
mod concurrency;
mod delivery_receipts;
mod errors;
mod group;
mod join_time;
mod lifecycle;
mod manual_assignment;
mod other_proxies;
mod read;
mod seek;

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::groups::broker;
use crate::support::http::{Reply, client, send};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{eventually, topic};

const V2: &str = "application/vnd.kafka.v2+json";
const BINARY: &str = "application/vnd.kafka.binary.v2+json";
const JSON: &str = "application/vnd.kafka.json.v2+json";

/// Longest wait for what a group brings about.
const BOUND: Duration = Duration::from_secs(60);

/// A read waits this long unless a test is about that.
const PATIENT: &str = "timeout=20000";

/// For a test of what ends a wait: a read waits for this long, and is `SOON` back when it does not.
const VERY_PATIENT: &str = "timeout=50000";
const SOON: Duration = Duration::from_secs(30);

/// An instance, as its client knows it.
struct Consumer {
    base: String,
    client: Client,
}

/// What most instances of these tests are made with.
fn from_earliest() -> Value {
    json!({
        "format": "json", "auto.offset.reset": "earliest", "auto.commit.enable": "false",
        "consumer.request.timeout.ms": 50_000,
    })
}

/// A new topic.
async fn created(prefix: &str, partitions: i32) -> String {
    let name = topic(prefix);
    broker()
        .await
        .plain()
        .create_topic(&name, partitions, &[])
        .await;
    name
}

/// Writes values as they stand, which the gateway may not take, by a plain client.
async fn produced(topic: &str, values: &[&[u8]]) {
    let plain = broker().await.plain();
    for value in values {
        let record = OutgoingRecord {
            topic,
            value: Some(value),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
}

async fn make(gateway: &Gateway, group: &str, body: &Value) -> Reply {
    let request = client().post(gateway.url(&format!("/consumers/{group}")));
    send(request.header("content-type", V2).body(body.to_string())).await
}

impl Consumer {
    /// Makes an instance.
    async fn make(gateway: &Gateway, group: &str, body: &Value) -> Self {
        let reply = make(gateway, group, body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let base = reply.json()["base_uri"].as_str().unwrap().to_owned();
        Self {
            base,
            client: client(),
        }
    }

    /// One of a group of its own, from the beginning, without commits of its own, that reads JSON.
    async fn alone(gateway: &Gateway) -> Self {
        Self::make(gateway, &topic("v2-group"), &from_earliest()).await
    }

    /// The same, subscribed.
    async fn of(gateway: &Gateway, topic: &str) -> Self {
        let consumer = Self::alone(gateway).await;
        consumer.subscribe(&[topic]).await;
        consumer
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let request = self.request(method, path);
        send(match body {
            Some(body) => request.header("content-type", V2).body(body.to_string()),
            None => request,
        })
        .await
    }

    async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Posts what must be taken.
    async fn told(&self, path: &str, body: &Value) {
        let reply = self.post(path, body).await;
        assert_eq!(reply.status, 204, "{path}: {}", reply.text());
    }

    async fn subscribe(&self, topics: &[&str]) {
        self.told("/subscription", &json!({"topics": topics})).await;
    }

    async fn read(&self, query: &str) -> Vec<Value> {
        let reply = self.get(&format!("/records?{query}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    /// Reads until so many have come.
    async fn read_all(&self, count: usize) -> Vec<Value> {
        let mut records = Vec::new();
        let until = tokio::time::Instant::now() + BOUND * 2;
        while records.len() < count {
            assert!(
                tokio::time::Instant::now() < until,
                "{} of {count} records came",
                records.len()
            );
            records.extend(self.read(PATIENT).await);
        }
        assert_eq!(records.len(), count);
        records
    }

    /// Reads numbers until these are enough. An answer that says why there are none is passed over.
    async fn read_until(&self, timeout_ms: u32, enough: impl Fn(&[i64]) -> bool) -> Vec<i64> {
        let mut seen = Vec::new();
        let until = tokio::time::Instant::now() + BOUND * 2;
        while !enough(&seen) {
            assert!(tokio::time::Instant::now() < until, "only {seen:?} came");
            let reply = self.get(&format!("/records?timeout={timeout_ms}")).await;
            if reply.status == 200 {
                let records: Vec<Value> = serde_json::from_slice(&reply.body).unwrap();
                seen.extend(numbers(&records));
            }
        }
        seen
    }

    /// Commits what was delivered.
    async fn commit(&self) {
        let reply = self.call(Method::POST, "/offsets", None).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "[]"));
    }

    /// What the group has committed, as `(partition, offset)`.
    async fn committed(&self, topic: &str, partitions: &[i32]) -> Vec<(i64, i64)> {
        let wanted: Vec<Value> = partitions
            .iter()
            .map(|partition| json!({"topic": topic, "partition": partition}))
            .collect();
        let body = json!({"partitions": wanted});
        let reply = self.call(Method::GET, "/offsets", Some(&body)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let body = reply.json();
        let offsets = body["offsets"].as_array().unwrap().iter();
        offsets
            .map(|one| {
                let number = |name: &str| one[name].as_i64().unwrap();
                (number("partition"), number("offset"))
            })
            .collect()
    }

    async fn assignments(&self) -> Vec<(String, i64)> {
        let reply = self.get("/assignments").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let body = reply.json();
        let partitions = body["partitions"].as_array().unwrap().iter();
        partitions.map(crate::support::groups::place).collect()
    }

    /// Waits until the group has given it so many partitions.
    async fn has(&self, count: usize) {
        eventually(BOUND, async || self.assignments().await.len() == count).await;
    }

    async fn delete(&self) {
        let reply = self.call(Method::DELETE, "", None).await;
        assert_eq!(reply.status, 204, "{}", reply.text());
        assert!(reply.body.is_empty());
    }
}

/// Status, code and field of an error.
fn refusal(reply: &Reply) -> (u16, i64, String) {
    let body = reply.json();
    let field = body["field"].as_str().unwrap_or_default().to_owned();
    assert!(!body["message"].as_str().unwrap().is_empty());
    (
        reply.status.as_u16(),
        body["error_code"].as_i64().unwrap(),
        field,
    )
}

/// The values of records, which are numbers.
fn numbers(records: &[Value]) -> Vec<i64> {
    records
        .iter()
        .map(|record| record["value"].as_i64().unwrap())
        .collect()
}
