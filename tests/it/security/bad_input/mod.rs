//! What clients must not send: each gets an error that says what is wrong with it, nothing of it is
//! written, and the gateway serves the next request as if nothing had been. What the tests share is here.
//!
//! - `connections`: clients that are slow, silent, leave half way, or are too many
//! - `requests`: bodies, sizes, types, addresses and methods

mod connections;
mod requests;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::gateway::{Builder, Gateway};
use crate::support::http::{self, Reply, raw_request};
use crate::support::kafka_client::KafkaClient;
use crate::support::{eventually, kafka, topic};

const RECORD_BYTES: usize = 50_000;
const BODY_BYTES: usize = 100_000;
const REQUEST_TIMEOUT: Duration = Duration::from_millis(1500);

/// For the end of a connection that is refused after the timeout above, or after the ten seconds
/// that its first bytes may take.
const CLOSED_BOUND: Duration = Duration::from_secs(60);

/// For the end of one whose client has left: less than the pages last that wait for records.
const LEFT_BOUND: Duration = Duration::from_secs(23);

/// A gateway with low limits, and a topic of two partitions in which nothing may change.
struct Victim {
    gateway: Gateway,
    topic: String,
    plain: KafkaClient,
    connections: String,
}

/// What an answer must be.
struct Refusal<'a> {
    status: u16,
    code: u32,
    /// The field at fault; empty when it is the body as a whole.
    field: &'a str,
    says: &'a [&'a str],
}

fn refusal<'a>(status: u16, field: &'a str, says: &'a [&'a str]) -> Refusal<'a> {
    Refusal {
        status,
        code: u32::from(status),
        field,
        says,
    }
}

impl Victim {
    async fn start() -> Self {
        Self::with(|gateway| gateway).await
    }

    /// One that waits for requests only as long as `REQUEST_TIMEOUT`, which a good one may miss on a
    /// busy machine.
    async fn hasty() -> Self {
        let time = REQUEST_TIMEOUT.as_millis().to_string();
        Self::with(|gateway| gateway.set("http.request_timeout_ms", &time)).await
    }

    async fn with(more: impl FnOnce(Builder) -> Builder) -> Self {
        let kafka = kafka().await;
        let gateway = Gateway::builder(&kafka.bootstrap())
            .set("limits.record_bytes", &RECORD_BYTES.to_string())
            .set("limits.records_per_request", "50")
            .set("limits.connections", "40")
            .set("http.max_body_bytes", &BODY_BYTES.to_string());
        let gateway = more(gateway).start().await;
        let topic = topic("victim");
        let plain = kafka.plain();
        plain.create_topic(&topic, 2, &[]).await;
        let mut victim = Self {
            gateway,
            topic,
            plain,
            connections: String::new(),
        };
        // The gauge comes into being with the first connection.
        victim.serves().await;
        eventually(CLOSED_BOUND, async || victim.gauge().await == "0").await;
        victim.connections = victim.gauge().await;
        victim
    }

    fn records(&self) -> String {
        self.gateway.url(&format!("/topics/{}/records", self.topic))
    }

    async fn gauge(&self) -> String {
        let metrics = http::get(&self.gateway.management_url("/metrics")).await;
        let line = metrics
            .text()
            .lines()
            .find_map(|line| line.strip_prefix("http_connections "));
        line.unwrap_or("none").to_owned()
    }

    /// A normal request is served.
    async fn serves(&self) {
        let reply = http::get(&format!("{}?from=latest", self.records())).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    async fn written(&self) -> i64 {
        let (_, first) = self.plain.watermarks(&self.topic, 0).await;
        let (_, second) = self.plain.watermarks(&self.topic, 1).await;
        first + second
    }

    /// That nothing was written, nothing panicked, no connection is left, and requests are served.
    async fn unharmed(&self) {
        assert_eq!(self.written().await, 0);
        self.serves().await;
        eventually(LEFT_BOUND, async || self.gauge().await == self.connections).await;
        let stderr = self.gateway.stderr();
        assert!(!stderr.contains("panic"), "{stderr}");
    }

    async fn post(&self, query: &str, body: impl Into<reqwest::Body>) -> Reply {
        let request = http::client()
            .post(format!("{}{query}", self.records()))
            .header("content-type", "application/json")
            .body(body);
        http::send(request).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.gateway.address()).await.unwrap()
    }

    fn head(&self, rest: &str) -> String {
        format!(
            "POST /topics/{}/records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{rest}",
            self.topic
        )
    }
}

#[track_caller]
fn assert_refused(reply: &Reply, expected: &Refusal<'_>, what: &str) {
    let what: String = what.chars().take(200).collect();
    assert_eq!(reply.status, expected.status, "{what}: {}", reply.text());
    assert_eq!(reply.header("content-type"), "application/json", "{what}");
    let error = reply.json();
    assert_eq!(error["error_code"], expected.code, "{what}: {error}");
    let field = match expected.field {
        "" => Value::Null,
        field => json!(field),
    };
    assert_eq!(error["field"], field, "{what}: {error}");
    let message = error["message"].as_str().unwrap();
    for part in expected.says {
        assert!(message.contains(part), "{what}: no {part:?} in {message:?}");
    }
    assert_ne!(reply.header("x-request-id"), "", "{what}");
    assert_eq!(error["request_id"], reply.header("x-request-id"), "{what}");
}

/// Reads until the other side closes, and says how long that took.
async fn until_closed(stream: &mut TcpStream) -> (String, Duration) {
    let started = Instant::now();
    let mut text = Vec::new();
    let read = tokio::time::timeout(CLOSED_BOUND, stream.read_to_end(&mut text));
    // A reset is a close too.
    let _ = read.await.expect("the connection is closed in time");
    (
        String::from_utf8_lossy(&text).into_owned(),
        started.elapsed(),
    )
}

/// Sends bytes as they are, and takes the answer apart.
async fn raw(victim: &Victim, bytes: &[u8]) -> Reply {
    let reply = raw_request(victim.gateway.address(), bytes, CLOSED_BOUND).await;
    let (head, body) = reply.text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut headers = reqwest::header::HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name: reqwest::header::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    Reply {
        status: status.parse().unwrap(),
        headers,
        body: body.as_bytes().to_vec(),
    }
}
