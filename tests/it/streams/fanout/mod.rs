//! Streams in numbers. What the tests share is here.
//!
//! - `conflation`: what `max_rate`, `conflate` and a key leave out
//! - `crowd`: that a thousand readers of a topic are one reader of Kafka
//! - `stalled_readers`: that a reader who has stopped costs the others nothing

mod conflation;
mod crowd;
mod stalled_readers;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::gateway::Gateway;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
use crate::support::topic_of;
use crate::support::{http, kafka};

/// Longest wait for something that should come at once.
const PROMPT: Duration = Duration::from_secs(60);

/// Longest wait for what a crowd does.
const CROWD: Duration = Duration::from_secs(300);

/// A gateway that lets in as many as come from this machine.
async fn gateway(settings: &[(&str, &str)]) -> Gateway {
    crowd_gateway(&kafka().await.bootstrap(), settings).await
}

async fn crowd_gateway(bootstrap: &str, settings: &[(&str, &str)]) -> Gateway {
    let mut builder = Gateway::builder(bootstrap)
        .set("limits.connections", "30000")
        .set("limits.connections_per_address", "30000")
        // Each asks where it is to begin, and a busy machine may keep Kafka from answering for a while.
        .set("kafka.metadata_timeout_ms", "60000");
    for (key, value) in settings {
        builder = builder.set(key, value);
    }
    builder.start().await
}

async fn write(plain: &KafkaClient, topic: &str, key: Option<&str>, value: &str) -> i64 {
    let record = OutgoingRecord {
        topic,
        partition: Some(0),
        key: key.map(str::as_bytes),
        value: Some(value.as_bytes()),
        ..OutgoingRecord::default()
    };
    plain.produce(record).await.1
}

/// Writes `count` records of a kilobyte with values from `first` on and ten keys, by the gateway, which
/// takes many at once.
async fn fill(gateway: &Gateway, topic: &str, first: usize, count: usize) {
    let url = gateway.url(&format!("/topics/{topic}/records"));
    for from in (first..first + count).step_by(1_000) {
        let records: Vec<Value> = (from..(from + 1_000).min(first + count))
            .map(|n| {
                json!({
                    "key": format!("k{}", n % 10),
                    "partition": 0,
                    "value": {"n": n, "pad": "x".repeat(1_000)},
                })
            })
            .collect();
        let reply = http::post_json(&url, &json!(records)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// A stream on a socket of its own, of which nothing is read that is not asked for.
struct Reader {
    stream: TcpStream,
    bytes: Vec<u8>,
    at: usize,
    id: String,
}

/// An event: its name, and its data.
#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    data: Value,
}

impl Reader {
    /// Opens a stream; `room` is about how many bytes the system may take for it unread.
    async fn open(gateway: &Gateway, path: &str, last_id: Option<&str>, room: u32) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(room).unwrap();
        let address = gateway.address().parse().unwrap();
        let mut stream = timeout(PROMPT, socket.connect(address))
            .await
            .unwrap()
            .unwrap();
        let id = last_id.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{id}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        Self {
            stream,
            bytes: Vec::new(),
            at: 0,
            id: String::new(),
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            let rest = &self.bytes[self.at..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8(rest[..end].to_vec()).unwrap();
                self.at += end + 1;
                return Some(line.trim_end().to_owned());
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            let read = timeout(CROWD, self.stream.read_buf(&mut self.bytes)).await;
            if read.expect("bytes in time").ok()? == 0 {
                return None;
            }
        }
    }

    /// The next event; `None` is the end. Heads, comments and the sizes of chunks are passed over: no
    /// line of an event looks like them.
    async fn next(&mut self) -> Option<Event> {
        let mut name = String::new();
        loop {
            let line = self.line().await?;
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut self.id);
            } else if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {data}"));
                return Some(Event { name, data });
            } else if line == "0" {
                return None;
            }
        }
    }

    async fn named(&mut self, name: &str) -> Value {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("no {name}"));
            if event.name == name {
                return event.data;
            }
        }
    }

    /// The offsets of the next records.
    async fn offsets(&mut self, count: usize) -> Vec<i64> {
        let mut offsets = Vec::with_capacity(count);
        while offsets.len() < count {
            let event = self.next().await.expect("more records");
            match event.name.as_str() {
                "" => offsets.push(event.data["offset"].as_i64().unwrap()),
                "ready" | "lag" => {}
                other => panic!("{other}: {}", event.data),
            }
        }
        offsets
    }

    /// All records up to the end.
    async fn rest(&mut self) -> Vec<Value> {
        let mut records = Vec::new();
        while let Some(event) = self.next().await {
            match event.name.as_str() {
                "" => records.push(event.data),
                "end" => return records,
                "ready" | "lag" => {}
                other => panic!("{other}: {}", event.data),
            }
        }
        panic!("no end after {} records", records.len());
    }
}

fn path(topic: &str, query: &str) -> String {
    format!("/topics/{topic}/records?{query}")
}
