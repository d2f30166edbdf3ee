//! WebSocket sessions under bad circumstances, on a real Kafka. What the tests share is here.
//!
//! - `browser`: a page in a real browser, which can set no header
//! - `large_records`: records of a megabyte and more
//! - `malformed_frames`: clients that send nonsense
//! - `produce_flood`: a client that writes more than it may
//! - `session_end`: a gateway that stops, and what is left of its sessions
//! - `silent_broker`: one broker of several that does not answer
//! - `slow_clients`: clients that read slowly, or not at all

mod browser;
mod large_records;
mod malformed_frames;
mod produce_flood;
mod session_end;
mod silent_broker;
mod slow_clients;

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::OutgoingRecord;
use crate::support::ws::Client;
use crate::support::{eventually, http, metric};

/// A broker whose groups rebalance quickly, which these tests share.
async fn broker() -> &'static Broker {
    static SHARED: tokio::sync::OnceCell<Broker> = tokio::sync::OnceCell::const_new();
    SHARED
        .get_or_init(|| async { Broker::builder().fast_groups().start().await })
        .await
}

/// Writes numbers as values, to one partition.
async fn fill(gateway: &Gateway, topic: &str, partition: i32, range: std::ops::Range<i64>) {
    for start in range.clone().step_by(1_000) {
        let end = (start + 1_000).min(range.end);
        let records: Vec<Value> = (start..end)
            .map(|n| json!({"value": n, "partition": partition}))
            .collect();
        let url = gateway.url(&format!("/topics/{topic}/records"));
        let reply = http::post_json(&url, &json!(records)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// Writes `count` records of `size` bytes to partition 0, by the plain client.
async fn fill_large(topic: &str, count: usize, size: usize) {
    let plain = broker().await.plain();
    // JSON, so that it is delivered as it is.
    let value = format!("\"{}\"", "x".repeat(size - 2));
    let written = futures::stream::iter(0..count)
        .map(|_| {
            plain.produce(OutgoingRecord {
                topic,
                partition: Some(0),
                key: None,
                value: Some(value.as_bytes()),
                headers: &[],
                timestamp: None,
            })
        })
        .buffer_unordered(1_000);
    assert_eq!(written.count().await, count);
}

/// A socket that is read only when the test does so, and how it ends is seen.
async fn raw(gateway: &Gateway, path: &str) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let url = format!("ws://{}{path}", gateway.address());
    client_async(url, stream).await.unwrap().0
}

/// A number of `/proc/PID/status` in KiB.
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let words = line.unwrap().split_whitespace();
    words.into_iter().next().unwrap().parse().unwrap()
}

fn open_files(gateway: &Gateway) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
    files.count()
}

/// A client's session ends because it has sent too large a message, as the so-manieth. Whoever is slow to send
/// it meets a connection that has been reset.
async fn ends_as_too_large(gateway: &Gateway, client: &mut Client, nth: f64) {
    let code = client.closed().await.code;
    assert!([Some(1009), None].contains(&code), "{code:?}");
    becomes(gateway, r#"websocket_closes_total{code="1009"}"#, nth).await;
}

async fn becomes(gateway: &Gateway, name: &str, value: f64) {
    eventually(Duration::from_secs(60), async || {
        metric(gateway, name).await == value
    })
    .await;
}
