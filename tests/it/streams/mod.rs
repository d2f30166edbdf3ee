//! Streams of records, NDJSON and server-sent events. What the tests share is here.
//!
//! - `broker_outage`: brokers that are away
//! - `clients/`: clients that others wrote
//! - `fanout`: many readers of one topic
//! - `http2`: several streams on one connection
//! - `limits`: how many streams one client may have, and readers that stop reading
//! - `memory`: what is kept of a topic for its readers
//! - `params`: several topics, parts of them, one key, an end that has not come yet
//! - `partitions`: many partitions, and where ids stand
//! - `recipes/`: what docs/streams.md says, as it stands there
//! - `reconnect`: cut at random bytes, through leader changes and restarts of the gateway
//! - `silent_broker`: one broker of several that does not answer
//! - `topic_changes`: topics and positions that change or go away under a stream, and between two

mod broker_outage;
mod clients;
mod fanout;
mod http2;
mod limits;
mod memory;
mod params;
mod partitions;
mod recipes;
mod reconnect;
mod silent_broker;
mod topic_changes;

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::http;
use crate::support::kafka_client::{Plain, PlainOutgoing};
use crate::support::tokens::{claims, seconds_from_now, sign};
use crate::support::{eventually, kafka, metric, shared_gateway, topic};

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

pub async fn write(plain: &Plain, topic: &str, partition: i32, value: &str) -> i64 {
    let record = PlainOutgoing {
        topic,
        partition: Some(partition),
        value: Some(value.as_bytes()),
        ..PlainOutgoing::default()
    };
    plain.produce(record).await.1
}

pub async fn topic_of(plain: &Plain, prefix: &str, partitions: i32) -> String {
    let name = topic(prefix);
    plain.create_topic(&name, partitions, &[]).await;
    name
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_says_where_it_begins_and_goes_on_as_records_come() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "sse", 2).await;
    write(&plain, &name, 0, r#"{"n":0}"#).await;
    write(&plain, &name, 1, "not\nJSON").await;
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    let mut stream = Stream::open(&format!("{url}?from=earliest"), None).await;
    let header = |name: &str| stream.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-store, no-transform");
    assert_eq!(header("x-accel-buffering"), "no");
    let ready = stream.next().await.unwrap();
    assert_eq!(ready.name, "ready");
    assert_eq!(ready.json()["asked"], "earliest");
    assert_eq!(ready.json()["exact"], true);
    assert_eq!(ready.json()["backlog"], 2);
    assert_eq!(ready.json()["from"][&name], json!({"0": 0, "1": 0}));
    let retry = stream.parser.retry.unwrap();
    assert!((1_000..=5_000).contains(&retry) && stream.parser.comments == 1);
    let first = stream.records(2).await;
    let values: BTreeSet<String> = first
        .iter()
        .map(|e| e.json()["value"].to_string())
        .collect();
    assert_eq!(
        values,
        [r#""not\nJSON""#.into(), r#"{"n":0}"#.into()].into()
    );
    // The ring takes over.
    for n in 1..50 {
        write(&plain, &name, 0, &format!("{{ \"n\":\n{n} }}")).await;
    }
    let more = stream.records(49).await;
    let offsets: Vec<i64> = more.iter().map(|event| place(event).2).collect();
    assert_eq!(offsets, (1..50).collect::<Vec<i64>>());
    assert_eq!(more[3].json()["value"], json!({"n": 4}));
    // The id of an event is the place after it.
    let mut again = Stream::open(&url, Some(&more[9].id)).await;
    assert_eq!(again.named("ready").await.json()["exact"], true);
    assert_eq!(place(&again.records(1).await[0]).2, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_and_ends_are_what_was_asked_for() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "ends", 1).await;
    for n in 0..20 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    let values = async |query: &str| -> Vec<i64> {
        let lines = ndjson(&format!("{url}?{query}")).await;
        assert_eq!(lines[0]["event"], "ready", "{query}");
        let end = lines.last().unwrap();
        assert_eq!(end["event"], "end", "{query}");
        assert!(end["id"].as_str().unwrap().ends_with('~'));
        lines
            .iter()
            .filter_map(|line| line["value"].as_i64())
            .collect()
    };
    let all = |range: std::ops::Range<i64>| range.collect::<Vec<_>>();
    assert_eq!(values("from=earliest&until=end").await, all(0..20));
    assert_eq!(values("from=-5&until=end").await, all(15..20));
    assert_eq!(values("from=0@7&until=0@9").await, all(7..9));
    assert_eq!(values("from=earliest&limit=3").await, all(0..3));
    assert_eq!(values("from=latest&timeout=300").await, all(0..0));
    assert_eq!(values("from=2020-01-01&until=end").await, all(0..20));
    assert_eq!(values("from=latest&until=end").await, all(0..0));
    assert_eq!(
        values("from=earliest&until=end&partitions=0&fields=/x&on_lag=skip")
            .await
            .len(),
        0,
        "numbers have no fields"
    );
    let bare = http::client()
        .get(format!("{url}?from=earliest&limit=3&meta=none"))
        .header("accept", "application/x-ndjson");
    assert_eq!(http::send(bare).await.text(), "\n0\n1\n2\n");
    // Who comes back after the end is told that there is no more.
    let lines = ndjson(&format!("{url}?from=earliest&limit=3")).await;
    let id = lines.last().unwrap()["id"].as_str().unwrap().to_owned();
    let back = http::client()
        .get(&url)
        .header("accept", "text/event-stream")
        .header("last-event-id", id);
    assert_eq!(http::send(back).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_records_that_are_wanted_come_and_the_position_moves_all_the_same() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "filter", 1).await;
    for n in 0..10 {
        let record = PlainOutgoing {
            topic: &name,
            key: Some(if n % 2 == 0 { b"even" } else { b"odd" }),
            value: Some(&format!(r#"{{"n":{n},"x":"{n}"}}"#).into_bytes()),
            headers: &[("from", Some(if n < 5 { b"a" } else { b"b" }))],
            ..PlainOutgoing::default()
        };
        plain.produce(record).await;
    }
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records"));
    let values = async |query: &str| -> Vec<Value> {
        let lines = ndjson(&format!("{url}?from=earliest&until=end&{query}")).await;
        let records = lines.into_iter().filter(|line| line["event"].is_null());
        records.map(|line| line["value"].clone()).collect()
    };
    let numbers = async |query: &str| -> Vec<i64> {
        let values = values(query).await;
        values
            .iter()
            .map(|value| value["n"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(numbers("key=odd").await, [1, 3, 5, 7, 9]);
    assert_eq!(numbers("key_prefix=ev&header.from=b").await, [6, 8]);
    assert_eq!(numbers("where=/n>=8").await, [8, 9]);
    assert_eq!(values("where=/n==3&fields=/x").await, [json!({"x": "3"})]);
    // A stream that shows nothing still tells how far it is, as soon as it was asked to.
    let seldom = Gateway::builder(&kafka().await.bootstrap())
        .set("streams.heartbeat_s", "60")
        .start()
        .await;
    let path = format!("/topics/{name}/records?from=earliest&key=none&heartbeat=5");
    let mut silent = Stream::open(&seldom.url(&path), None).await;
    let mut last = silent.named("ready").await.id;
    let begun = Instant::now();
    loop {
        while silent.parser.last_id == last {
            let chunk = timeout(PROMPT, silent.response.chunk()).await.unwrap();
            let events = silent.parser.push(&chunk.unwrap().unwrap());
            assert!(events.iter().all(|event| event.name == "lag"), "{events:?}");
        }
        last.clone_from(&silent.parser.last_id);
        let mut again = Stream::open(&url, Some(&last)).await;
        let ready = again.named("ready").await.json();
        if ready["from"][&name] == json!({"0": 10}) {
            break;
        }
        // It may tell of it while it is still on its way over them.
        assert!(ready["from"][&name]["0"].as_i64() < Some(10), "{ready}");
    }
    assert!(begun.elapsed() < Duration::from_secs(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_cannot_be_used_is_told_and_never_an_error() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "reset", 1).await;
    let other = topic_of(&plain, "reset-other", 1).await;
    for n in 0..5 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    write(&plain, &other, 0, "1").await;
    let gateway = shared_gateway().await;
    let url = |name: &str| gateway.url(&format!("/topics/{name}/records"));
    let foreign = Stream::open(&format!("{}?from=earliest", url(&other)), None)
        .await
        .named("ready")
        .await
        .id;
    let long = "A".repeat(7_000);
    for id in [
        "garbage!", "AAAA", "0@999", &foreign, &long, "nope:0@1", "0@-3", "é",
    ] {
        let mut stream = Stream::open(&format!("{}?from=earliest", url(&name)), Some(id)).await;
        let reset = stream.next().await.unwrap();
        assert_eq!(reset.name, "reset", "{id}");
        assert!(!reset.json()["reason"].as_str().unwrap().is_empty());
        let ready = stream.next().await.unwrap();
        assert_eq!(ready.json()["exact"], false, "{id}");
        let begins = if id == "0@999" { 5 } else { 0 };
        assert_eq!(reset.json()["from"][&name], json!({"0": begins}), "{id}");
    }
    // What retention took is a gap.
    plain.delete_records(&name, 0, 3).await;
    let mut stream = Stream::open(&format!("{}?last_event_id=0@1", url(&name)), None).await;
    let ready = stream.next().await.unwrap();
    assert_eq!(
        (ready.name.as_str(), ready.json()["exact"].as_bool()),
        ("ready", Some(false))
    );
    let gap = stream.next().await.unwrap();
    assert_eq!(gap.name, "gap");
    assert_eq!(
        gap.json(),
        json!({"topic": name, "partition": 0, "from": 1, "to": 3, "reason": "retention"})
    );
    assert_eq!(place(&stream.records(1).await[0]).2, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_in_the_query_counts_in_every_spelling() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "spelled", 1).await;
    for n in 0..4 {
        write(&plain, &name, 0, &n.to_string()).await;
    }
    let url = shared_gateway()
        .await
        .url(&format!("/topics/{name}/records?from=earliest&until=end"));
    let first = async |query: &str, header: Option<&str>| {
        let mut stream = Stream::open(&format!("{url}{query}"), header).await;
        place(&stream.records(1).await[0]).2
    };
    for spelling in [
        "last_event_id",
        "lastEventId",
        "lastEventID",
        "Last-Event-ID",
    ] {
        assert_eq!(
            first(&format!("&{spelling}=0@3"), None).await,
            3,
            "{spelling}"
        );
    }
    // One that a client adds at the end of a URL that has one already is the newer one, and a header is newer
    // than both.
    let both = "&last_event_id=0@1&lastEventId=0@2";
    assert_eq!(first(both, None).await, 2);
    assert_eq!(first(both, Some("0@3")).await, 3);
    assert_eq!(first("&lastEventId=", None).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_tells_of_the_end_of_its_ticket_and_outlives_it() {
    const SECRET: &str = "a secret that is long enough for HS256";
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "ticketed", 1).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .file("secret", SECRET)
        .file(
            "tidegate.toml",
            "[auth]\nmode = \"jwt\"\nsse_ticket_ttl_s = 8\n\
             [[auth.issuers]]\nsecret_file = \"secret\"\nalgorithms = [\"HS256\"]\n",
        )
        .start()
        .await;
    let token = sign(&claims("ann", "consume:*"), SECRET.as_bytes());
    let wish = json!({"kind": "sse", "topics": [name]});
    let request = http::client().post(gateway.url("/tickets")).json(&wish);
    let reply = http::send(request.bearer_auth(token)).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let ticket = reply.json();
    let expires = ticket["expires_at"].as_u64().unwrap() / 1_000;
    let path = format!(
        "/topics/{name}/records?from=earliest&ticket={}",
        ticket["ticket"].as_str().unwrap()
    );
    let url = gateway.url(&path);
    let mut stream = Stream::open(&url, None).await;
    let told = stream.named("auth-expiring").await.json();
    assert_eq!(
        (&told["what"], told["expires"].as_u64()),
        (&json!("ticket"), Some(expires)),
        "{told}"
    );
    assert!(told["in"].as_u64() <= Some(2), "{told}");
    // With it nobody is let in any more; who is in stays.
    eventually(PROMPT, async || http::get(&url).await.status == 401).await;
    write(&plain, &name, 0, "7").await;
    assert_eq!(stream.records(1).await[0].json()["value"], 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_named() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "bad", 1).await;
    let gateway = shared_gateway().await;
    for (query, field) in [
        ("from=yesterday", "from"),
        ("from=9@1", "from"),
        ("until=later", "until"),
        ("until=x:0@1", "until"),
        ("limit=0", "limit"),
        ("timeout=x", "timeout"),
        ("where=/a%3D1", "where"),
        ("where=/price%3E", "where"),
        ("fields=a", "fields"),
        ("meta=some", "meta"),
        ("on_lag=wait", "on_lag"),
        ("heartbeat=1", "heartbeat"),
        ("retry=0", "retry"),
        ("ids=some", "ids"),
        ("partitions=7", "partition"),
        ("key_format=xml", "key_format"),
        ("form=latest", "form"),
        ("header.a=1&header.a=2", "header.a"),
    ] {
        for accept in ["text/event-stream", "application/x-ndjson"] {
            let url = gateway.url(&format!("/topics/{name}/records?{query}"));
            let reply = http::send(http::client().get(&url).header("accept", accept)).await;
            assert!(
                reply.status == 400 || reply.status == 404,
                "{query}: {}",
                reply.status
            );
            let said = reply.json()["field"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            assert!(said.starts_with(field), "{query}: {}", reply.text());
        }
    }
    let said = http::send(
        http::client()
            .get(gateway.url(&format!("/topics/{name}/records?where=/price%3E")))
            .header("accept", "text/event-stream"),
    )
    .await;
    assert!(said.text().contains("column 8"), "{}", said.text());
    for (path, status) in [
        ("/records", 400),
        ("/records?topics=,", 400),
        ("/records?topics=no-such-topic-here", 404),
        ("/records?topics=a%20b", 400),
    ] {
        let reply = http::get(&gateway.url(path)).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_of_a_topic_are_one_reader_of_kafka() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "many", 2).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("limits.connections_per_address", "5000")
        .start()
        .await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let mut streams = Vec::new();
    for _ in 0..300 {
        let mut stream = Stream::open(&url, None).await;
        stream.named("ready").await;
        streams.push(stream);
    }
    is_read_by_one(&gateway).await;
    assert!((metric(&gateway, "stream_readers").await - 300.0).abs() < 0.1);
    for n in 0..20 {
        write(&plain, &name, n % 2, &n.to_string()).await;
    }
    for stream in &mut streams {
        stream.records(20).await;
    }
    assert!((metric(&gateway, "stream_records_encoded_total").await - 20.0).abs() < 0.1);
    assert!((metric(&gateway, "stream_records_delivered_total").await - 6_000.0).abs() < 0.1);
    assert!(metric(&gateway, "tail_catchup_pages_total").await < 10.0);
    drop(streams);
    eventually(PROMPT, async || {
        metric(&gateway, "stream_readers").await < 0.1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_sends_its_streams_away() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "drain", 1).await;
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = Stream::open(&url, None).await;
        stream.named("ready").await;
        streams.push(stream);
    }
    gateway.ask_to_end();
    let mut retries = BTreeSet::new();
    for mut stream in streams {
        let drain = stream.named("drain").await;
        assert_eq!(stream.next().await, None);
        assert_eq!(stream.parser.retry, drain.json()["retry"].as_u64());
        retries.insert(stream.parser.retry);
    }
    assert!(retries.len() > 1, "{retries:?}");
    assert!(gateway.ended().await.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_only_so_many_streams() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "limit", 1).await;
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .set("limits.tails", "2")
        .start()
        .await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let one = Stream::open(&url, None).await;
    let _two = Stream::open(&url, None).await;
    let ask = || {
        http::client()
            .get(&url)
            .header("accept", "text/event-stream")
    };
    let reply = http::send(ask()).await;
    assert_eq!(reply.status, 503);
    assert!(!reply.header("retry-after").is_empty());
    // An EventSource that is refused never comes back.
    let browser = http::send(ask().header("user-agent", "Mozilla/5.0 (X11)")).await;
    assert_eq!(browser.status, 200);
    assert!(
        browser.text().starts_with("retry: 30000\n"),
        "{}",
        browser.text()
    );
    drop(one);
    eventually(PROMPT, async || {
        metric(&gateway, "stream_readers").await < 1.5
    })
    .await;
    Stream::open(&url, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: brokers are stopped and started"]
async fn open_streams_survive_leader_changes_and_a_restart() {
    let kafka = Broker::builder().nodes(3).start().await;
    let plain = kafka.plain();
    let name = topic("moves");
    plain
        .create_topic(&name, 3, &[("min.insync.replicas", "1")])
        .await;
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    let mut stream = Stream::open(&format!("{url}?from=earliest"), None).await;
    stream.named("ready").await;
    let mut wanted = BTreeSet::new();
    for round in 0..3_u32 {
        for n in 0..30 {
            let offset = write(&plain, &name, n % 3, &n.to_string()).await;
            wanted.insert((name.clone(), i64::from(n % 3), offset));
        }
        kafka.node(round % 3 + 1).restart().await;
    }
    for n in 0..3 {
        let offset = write(&plain, &name, n, "last").await;
        wanted.insert((name.clone(), i64::from(n), offset));
    }
    // What a producer tried again while leaders moved may be in Kafka twice.
    for record in plain.consume_all(&name).await {
        wanted.insert((name.clone(), i64::from(record.partition), record.offset));
    }
    let got = timeout(Duration::from_secs(180), stream.records(wanted.len())).await;
    let got: Vec<_> = got.expect("all records").iter().map(place).collect();
    assert_eq!(got.len(), wanted.len());
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_token_and_shows_only_what_that_allows() {
    const SECRET: &str = "a secret that is long enough for HS256";
    let plain = kafka().await.plain();
    let (mine, other) = (
        topic_of(&plain, "mine", 1).await,
        topic_of(&plain, "other", 1).await,
    );
    let gateway = Gateway::builder(&kafka().await.bootstrap())
        .file("secret", SECRET)
        .file(
            "tidegate.toml",
            "[auth]\nmode = \"jwt\"\nleeway_s = 0\n[limits]\ntails_per_principal = 1\n\
             [[auth.issuers]]\nsecret_file = \"secret\"\nalgorithms = [\"HS256\"]\n",
        )
        .start()
        .await;
    let scope = format!("consume:{mine}");
    let long = sign(&claims("ann", &scope), SECRET.as_bytes());
    let open = async |path: &str, token: &str| {
        let request = reqwest::Client::new().get(gateway.url(path));
        let request = request.header("accept", "text/event-stream");
        request.bearer_auth(token).send().await.unwrap()
    };
    let both = open(&format!("/records?topics={mine},{other}"), &long).await;
    assert_eq!(both.status(), 403);
    // What is asked from here on to the end of the stream must come while it lasts.
    let mut short = claims("ann", &scope);
    short["exp"] = seconds_from_now(15).into();
    let short = sign(&short, SECRET.as_bytes());
    let response = open(&format!("/records?topics={mine}"), &short).await;
    assert_eq!(response.status(), 200);
    // One more is one too many for this principal.
    let more = open(&format!("/topics/{mine}/records"), &long).await;
    assert_eq!(more.status(), 429);
    let mut stream = Stream::from(response);
    let told = stream.named("auth-expiring").await.json();
    assert_eq!(told["what"], "token");
    assert!(
        told["in"].as_u64() <= Some(5) && told["in_ms"].as_u64() <= Some(5_000),
        "{told}"
    );
    let error = stream.named("stream-error").await;
    assert_eq!(error.json()["error_code"], 40101);
    assert_eq!(stream.next().await, None);
    let again = open(&format!("/topics/{mine}/records"), &short).await;
    assert_eq!(again.status(), 401);
}
