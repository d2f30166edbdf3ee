//! Streams of records, NDJSON and server-sent events. What the tests share is here.
//!
//! - `broker_outage`: brokers that are away
//! - `clients/`: clients that others wrote
//! - `credentials`: streams whose ticket or token ends
//! - `fanout`: many readers of one topic
//! - `http2`: several streams on one connection
//! - `last_event_id`: ids that a client comes back with
//! - `limits`: how many streams one client may have, and readers that stop reading
//! - `memory`: what is kept of a topic for its readers
//! - `open`: where streams begin and end, and what they say of themselves
//! - `params`: several topics, parts of them, one key, an end that has not come yet
//! - `partitions`: many partitions, and where ids stand
//! - `recipes/`: what docs/streams.md says, as it stands there
//! - `reconnect`: cut at random bytes, through leader changes and restarts of the gateway
//! - `silent_broker`: one broker of several that does not answer
//! - `topic_changes`: topics and positions that change or go away under a stream, and between two

mod broker_outage;
mod clients;
mod credentials;
mod fanout;
mod http2;
mod last_event_id;
mod limits;
mod memory;
mod open;
mod params;
mod partitions;
mod recipes;
mod reconnect;
mod silent_broker;
mod topic_changes;

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::gateway::Gateway;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
pub use crate::support::topic_of;
use crate::support::{eventually, http, metric};

/// Longest wait for something that should come at once.
const PROMPT: Duration = Duration::from_secs(60);

/// What a client of server-sent events sees, by the rules of the HTML standard (9.2.6).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    pub name: String,
    pub data: String,
    pub id: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Bytes to events.
#[derive(Default)]
struct Parser {
    rest: Vec<u8>,
    current: Event,
    has_data: bool,
    last_id: String,
    /// What a client would come back with: the last id of a whole block.
    resume: Option<String>,
    retry: Option<u64>,
    comments: usize,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8(line).unwrap();
            let line = line.trim_end_matches('\n');
            assert!(!line.contains('\r'), "{line:?}");
            if line.is_empty() {
                // The id counts even where there is no data.
                self.current.id.clone_from(&self.last_id);
                if !self.last_id.is_empty() {
                    self.resume = Some(self.last_id.clone());
                }
                let event = std::mem::take(&mut self.current);
                if std::mem::take(&mut self.has_data) {
                    events.push(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => self.comments += 1,
                "event" => value.clone_into(&mut self.current.name),
                "data" => {
                    assert!(!self.has_data, "one line of data each");
                    self.has_data = true;
                    value.clone_into(&mut self.current.data);
                }
                "id" => value.clone_into(&mut self.last_id),
                "retry" => self.retry = Some(value.parse().unwrap()),
                other => panic!("a field {other:?}"),
            }
        }
        events
    }
}

impl From<reqwest::Response> for Stream {
    fn from(response: reqwest::Response) -> Self {
        Self {
            response,
            parser: Parser::default(),
            events: std::collections::VecDeque::new(),
        }
    }
}

/// An open stream.
pub struct Stream {
    response: reqwest::Response,
    parser: Parser,
    events: std::collections::VecDeque<Event>,
}

impl Stream {
    pub async fn open(url: &str, last_id: Option<&str>) -> Self {
        Self::of(&reqwest::Client::new(), url, last_id).await
    }

    /// Over a connection of this client, if it has one that can take it.
    pub async fn of(client: &reqwest::Client, url: &str, last_id: Option<&str>) -> Self {
        let mut request = client.get(url).header("accept", "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = timeout(PROMPT, request.send()).await.unwrap().unwrap();
        assert_eq!(response.status(), 200, "{url}");
        Self::from(response)
    }

    fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next event; `None` is the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let chunk = timeout(PROMPT, self.response.chunk()).await;
            let chunk = chunk.expect("an event in time").ok()??;
            self.events.extend(self.parser.push(&chunk));
        }
    }

    /// The next event of this name; records on the way are dropped.
    pub async fn named(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("no {name}"));
            if event.name == name {
                return event;
            }
        }
    }

    /// The next records.
    pub async fn records(&mut self, count: usize) -> Vec<Event> {
        let mut records = Vec::new();
        while records.len() < count {
            let event = self.next().await.expect("more records");
            if event.name.is_empty() {
                records.push(event);
            }
        }
        records
    }
}

pub fn place(event: &Event) -> (String, i64, i64) {
    let record = event.json();
    (
        record["topic"].as_str().unwrap().to_owned(),
        record["partition"].as_i64().unwrap(),
        record["offset"].as_i64().unwrap(),
    )
}

pub async fn write(plain: &KafkaClient, topic: &str, partition: i32, value: &str) -> i64 {
    let record = OutgoingRecord {
        topic,
        partition: Some(partition),
        value: Some(value.as_bytes()),
        ..OutgoingRecord::default()
    };
    plain.produce(record).await.1
}

/// Waits until the one reader of the only topic that is followed reads: what is written from now on comes from
/// it to everyone, and not by a page to those who were there before it.
pub async fn is_read_by_one(gateway: &Gateway) {
    eventually(PROMPT, async || {
        metric(gateway, "tail_upstreams").await == 1.0
            && metric(gateway, "tail_upstream_fetches_total").await > 0.5
    })
    .await;
}

pub async fn ndjson(url: &str) -> Vec<Value> {
    let request = http::client()
        .get(url)
        .header("accept", "application/x-ndjson");
    let reply = http::send(request).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/x-ndjson");
    reply
        .text()
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
