//! Streams in numbers: that many readers of a topic are one reader of Kafka, that a reader who has stopped
//! costs the others nothing, and what `max_rate` and `conflate` leave out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::streams::is_read_by_one;
use crate::support::broker::Broker;
use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::{Plain, PlainOutgoing};
use crate::support::{eventually, http, kafka, metric, topic};

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

async fn topic_of(plain: &Plain, prefix: &str, partitions: i32) -> String {
    let name = topic(prefix);
    plain.create_topic(&name, partitions, &[]).await;
    name
}

async fn write(plain: &Plain, topic: &str, key: Option<&str>, value: &str) -> i64 {
    let record = PlainOutgoing {
        topic,
        partition: Some(0),
        key: key.map(str::as_bytes),
        value: Some(value.as_bytes()),
        ..PlainOutgoing::default()
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_have_stopped_do_not_hold_up_one_that_reads() {
    // More than the system takes for one, and not so many that it comes near the half minute after which those
    // that have stopped are cut.
    const RECORDS: usize = 6_000;
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "stopped", 1).await;
    let gateway = gateway(&[
        ("streams.catchup_readers", "4"),
        ("streams.catchup_bytes", "8388608"),
    ])
    .await;
    fill(&gateway, &name, 0, RECORDS).await;
    let mut stopped = Vec::new();
    for n in 0..40 {
        let from = path(&name, &format!("from=0@{n}&until=end"));
        stopped.push(Reader::open(&gateway, &from, None, 4 << 10).await);
    }
    eventually(PROMPT, async || {
        metric(&gateway, "stream_readers").await > 39.5
            && metric(&gateway, "tail_catchup_pages_total").await > 39.5
            && metric(&gateway, "tail_catchup_readers").await < 0.5
    })
    .await;
    let all = path(&name, "from=earliest&until=end");
    let mut fast = Reader::open(&gateway, &all, None, 1 << 20).await;
    let records = fast.rest().await;
    let offsets: Vec<i64> = records
        .iter()
        .map(|record| record["offset"].as_i64().unwrap())
        .collect();
    assert_eq!(offsets, (0..6_000).collect::<Vec<_>>());
    assert!(metric(&gateway, "tail_catchup_bytes").await < 16e6);
    // It has not waited for their end.
    assert!(metric(&gateway, "stream_readers_cut_total").await < 0.5);
    assert!(
        metric(&gateway, "stream_readers").await > 39.5,
        "they have stopped"
    );
    // One whose page was dropped goes on where it was.
    let mut late = stopped.swap_remove(7);
    let offsets = late.rest().await;
    assert_eq!(offsets.len(), RECORDS - 7);
    assert_eq!(offsets.last().unwrap()["offset"], 5_999);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: readers must have stopped for half a minute"]
async fn each_reader_that_has_stopped_is_cut_and_counted() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "cut", 1).await;
    let gateway = gateway(&[]).await;
    fill(&gateway, &name, 0, 12_000).await;
    let mut stopped = Vec::new();
    for _ in 0..5 {
        stopped.push(Reader::open(&gateway, &path(&name, "from=earliest"), None, 4 << 10).await);
    }
    let mut reads = Reader::open(&gateway, &path(&name, ""), None, 64 << 10).await;
    reads.named("ready").await;
    eventually(CROWD, async || {
        metric(&gateway, "stream_readers_cut_total").await > 4.5
    })
    .await;
    assert!((metric(&gateway, "stream_readers_cut_total").await - 5.0).abs() < 0.1);
    eventually(PROMPT, async || {
        (metric(&gateway, "stream_readers").await - 1.0).abs() < 0.1
    })
    .await;
    write(&plain, &name, None, "1").await;
    assert_eq!(reads.offsets(1).await, [12_000]);
}

/// The connection is alive, answers pings and serves another stream; the stream that is not read is
/// reset all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a reader must have stopped for half a minute"]
async fn over_http2_the_stream_that_is_not_read_is_reset_and_the_others_go_on() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "cut2", 1).await;
    let gateway = gateway(&[]).await;
    fill(&gateway, &name, 0, 3_000).await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .http2_initial_stream_window_size(64 << 10)
        .http2_initial_connection_window_size(4 << 20)
        .build()
        .unwrap();
    let open = async |query: &str| {
        let request = client.get(gateway.url(&path(&name, query)));
        let request = request.header("accept", "text/event-stream");
        timeout(PROMPT, request.send()).await.unwrap().unwrap()
    };
    let begun = Instant::now();
    let mut stuck = open("from=earliest").await;
    let mut reads = open("from=latest").await;
    eventually(PROMPT, async || {
        metric(&gateway, "http_connections").await < 1.5
            && metric(&gateway, "stream_readers").await > 1.5
    })
    .await;
    let mut text = String::new();
    // What is written before it stands at the end does not come.
    while !text.contains("event: ready") {
        let chunk = timeout(PROMPT, reads.chunk()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk.expect("it begins")).unwrap());
    }
    let mut written = 0;
    while metric(&gateway, "stream_readers_cut_total").await < 0.5 {
        assert!(begun.elapsed() < CROWD);
        write(&plain, &name, None, &format!("\"mark {written}\"")).await;
        let mark = format!("mark {written}");
        written += 1;
        let begun = Instant::now();
        while !text.contains(&mark) {
            assert!(begun.elapsed() < PROMPT, "{mark} does not come");
            let chunk = timeout(PROMPT, reads.chunk()).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk.expect("it goes on")).unwrap());
        }
        sleep(Duration::from_millis(500)).await;
    }
    assert!(
        begun.elapsed() > Duration::from_secs(28),
        "{:?}",
        begun.elapsed()
    );
    eventually(PROMPT, async || {
        (metric(&gateway, "stream_readers").await - 1.0).abs() < 0.1
    })
    .await;
    assert!((metric(&gateway, "stream_readers_cut_total").await - 1.0).abs() < 0.1);
    // What had come before can be read; then it is an error, and not an end.
    let error = loop {
        match timeout(PROMPT, stuck.chunk()).await.unwrap() {
            Ok(chunk) => assert!(chunk.is_some(), "an end that looks like one that was meant"),
            Err(error) => break error,
        }
    };
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    // The place is free, and the connection serves new streams.
    let again = open("from=latest").await;
    assert_eq!(again.status(), 200);
    assert!(metric(&gateway, "http_connections").await < 1.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_leaves_out_what_comes_in_between_and_never_the_newest() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "rate", 1).await;
    let gateway = gateway(&[]).await;
    let mut reader = Reader::open(&gateway, &path(&name, "max_rate=2"), None, 64 << 10).await;
    reader.named("ready").await;
    let begun = Instant::now();
    for n in 0..100 {
        write(&plain, &name, None, &n.to_string()).await;
    }
    let mut offsets = Vec::new();
    let mut ids = Vec::new();
    while offsets.last() != Some(&99) {
        offsets.extend(reader.offsets(1).await);
        ids.push(reader.id.clone());
    }
    let took = begun.elapsed().as_secs_f64();
    assert!(offsets.windows(2).all(|two| two[0] < two[1]), "{offsets:?}");
    // One at once, and two a second from then on.
    assert!(
        (offsets.len() as f64) <= 2.0 + 2.0 * took,
        "{offsets:?} in {took} s"
    );
    assert!(offsets.len() < 100, "some are left out");
    // What is behind an id comes once, what is before it does not.
    let mut again = Reader::open(&gateway, &path(&name, ""), Some(&ids[0]), 64 << 10).await;
    assert_eq!(again.offsets(1).await, [offsets[0] + 1]);
    let last = ids.last().map(String::as_str);
    let mut newest = Reader::open(&gateway, &path(&name, ""), last, 64 << 10).await;
    assert_eq!(newest.named("ready").await["from"][&name]["0"], 100);
    // At the end there is nothing to wait for.
    let begun = Instant::now();
    let all = path(&name, "from=earliest&until=end&max_rate=0.1");
    let records = Reader::open(&gateway, &all, None, 64 << 10)
        .await
        .rest()
        .await;
    assert!(records.len() as f64 <= 2.0 + begun.elapsed().as_secs_f64() / 10.0);
    assert_eq!(records.last().unwrap()["offset"], 99);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_conflated_by_key_and_the_newest_of_each_comes() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "conflate", 1).await;
    let gateway = gateway(&[]).await;
    let query = path(&name, "from=earliest&conflate=key");
    let mut reader = Reader::open(&gateway, &query, None, 4 << 10).await;
    reader.named("ready").await;
    // Nothing is read meanwhile, for less than the half minute after which it would be cut. What the system
    // takes comes as it was.
    fill(&gateway, &name, 0, 8_000).await;
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    let mut ids = Vec::new();
    let mut offsets = Vec::new();
    while newest.values().filter(|offset| **offset >= 7_990).count() < 10 {
        let event = reader.next().await.unwrap();
        if event.name.is_empty() {
            let key = event.data["key"].as_str().unwrap().to_owned();
            let offset = event.data["offset"].as_i64().unwrap();
            newest.insert(key, offset);
            offsets.push(offset);
            ids.push(reader.id.clone());
        }
    }
    assert!(offsets.windows(2).all(|two| two[0] < two[1]));
    assert!(offsets.len() < 6_500, "{} came", offsets.len());
    // Whoever comes back in the middle of the last ten gets the others of them.
    let id = &ids[ids.len() - 4];
    let mut again = Reader::open(&gateway, &path(&name, "conflate=key"), Some(id), 64 << 10).await;
    assert_eq!(again.offsets(3).await, offsets[offsets.len() - 3..]);
    let end = path(&name, "from=earliest&until=end&conflate=key&max_rate=1000");
    let records = Reader::open(&gateway, &end, None, 1 << 20)
        .await
        .rest()
        .await;
    let last: BTreeMap<&str, i64> = records
        .iter()
        .map(|r| (r["key"].as_str().unwrap(), r["offset"].as_i64().unwrap()))
        .collect();
    assert_eq!(
        last.values().copied().collect::<BTreeSet<_>>(),
        (7_990..8_000).collect()
    );
    for (query, field) in [
        ("max_rate=0", "max_rate"),
        ("max_rate=NaN", "max_rate"),
        ("max_rate=2000", "max_rate"),
        ("conflate=value", "conflate"),
    ] {
        let url = gateway.url(&path(&name, query));
        let reply = http::send(
            http::client()
                .get(&url)
                .header("accept", "text/event-stream"),
        )
        .await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.text());
        assert_eq!(reply.json()["field"], field);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_one_key_gets_it_whatever_else_comes() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "keys", 1).await;
    let gateway = gateway(&[("streams.ring_bytes", "200000")]).await;
    let mut readers = Vec::new();
    for key in 0..20 {
        let query = path(&name, &format!("key=k{key}&on_lag=skip&heartbeat=5"));
        let mut reader = Reader::open(&gateway, &query, None, 64 << 10).await;
        reader.named("ready").await;
        readers.push(reader);
    }
    assert!((metric(&gateway, "stream_lanes").await - 20.0).abs() < 0.1);
    is_read_by_one(&gateway).await;
    // Ten keys, and more than the ring holds; nothing is new to the other ten readers.
    fill(&gateway, &name, 0, 100).await;
    for reader in &mut readers[..10] {
        assert_eq!(reader.offsets(10).await.len(), 10);
    }
    let pages = metric(&gateway, "tail_catchup_pages_total").await;
    for _ in 0..5 {
        fill(&gateway, &name, 0, 100).await;
        for reader in &mut readers[..10] {
            assert_eq!(reader.offsets(10).await.len(), 10);
        }
    }
    write(&plain, &name, Some("k17"), "1").await;
    assert_eq!(readers[17].offsets(1).await, [600]);
    assert!((metric(&gateway, "tail_catchup_pages_total").await - pages).abs() < 0.1);
    // In silence the position moves all the same.
    let silent = &mut readers[12];
    while silent.id.is_empty()
        || silent
            .line()
            .await
            .is_some_and(|line| !line.starts_with("id: "))
    {}
    drop(readers);
    eventually(PROMPT, async || {
        metric(&gateway, "stream_lanes").await < 0.1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_the_broker_a_thousand_readers_are_one() {
    let broker = FaultBroker::start().await;
    broker.create_topic("one", 1);
    let fetches = || broker.request_count(krafka::testing::ApiKey::Fetch);
    let connections = || usize::try_from(broker.open_connections()).unwrap();
    many_are_one(&broker.bootstrap(), "one", &fetches, &connections).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_log_of_a_broker_shows_one_reader_of_a_thousand() {
    let broker = Broker::builder().log_requests().start().await;
    let topic = topic_of(&broker.plain(), "one", 1).await;
    let fetches = || {
        let log = broker.node(1).log();
        let ours = |line: &&str| {
            line.contains("\"requestApiKeyName\":\"FETCH\"")
                && line.contains("\"clientId\":\"tidegate\"")
        };
        log.lines().filter(ours).count()
    };
    // It tells nothing of connections.
    many_are_one(&broker.bootstrap(), &topic, &fetches, &|| 0).await;
    assert!(fetches() > 0, "the log is read");
}

/// Lets many follow a topic, each of whom sees every record, and counts what that asks of the broker.
async fn many_are_one(
    bootstrap: &str,
    topic: &str,
    fetches: &dyn Fn() -> usize,
    connections: &dyn Fn() -> usize,
) {
    const READERS: usize = 1_000;
    let gateway = crowd_gateway(bootstrap, &[]).await;
    let mut alone = Reader::open(&gateway, &path(topic, ""), None, 16 << 10).await;
    alone.named("ready").await;
    let plain = Plain::new(bootstrap);
    write(&plain, topic, None, "0").await;
    alone.offsets(1).await;
    let connected = connections();
    let mut crowd = Vec::new();
    for _ in 0..READERS {
        let mut reader = Reader::open(&gateway, &path(topic, ""), None, 16 << 10).await;
        reader.named("ready").await;
        crowd.push(reader);
    }
    let begun = Instant::now();
    let before = fetches();
    for n in 1..=20 {
        write(&plain, topic, None, &n.to_string()).await;
    }
    for reader in &mut crowd {
        assert_eq!(reader.offsets(20).await.len(), 20);
    }
    // One fetch for each record, if each comes alone, and one for each half second of silence.
    let seen = fetches() - before;
    let most = 20 + 2 * usize::try_from(begun.elapsed().as_secs()).unwrap() + 10;
    assert!(seen <= most, "{seen} fetches for 20,000 records delivered");
    assert!(connections() <= connected + 2);
}

/// As many streams as the limit of open files lets this process and the gateway have.
fn crowd() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = limit
        .maximum
        .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    10_000.min(files.saturating_sub(4_000))
}

/// Opens streams, each from where `last` says, and reads until each has all offsets up to `end`. Returns
/// the offsets of each, and its stream, which is still open.
async fn read_all(
    gateway: &Gateway,
    path: &str,
    last: Vec<Option<String>>,
    end: i64,
    over: Duration,
) -> Vec<(Vec<i64>, Reader)> {
    let mut tasks = JoinSet::new();
    let count = u32::try_from(last.len()).unwrap();
    let address = gateway.address().to_owned();
    let opened = tokio::sync::Semaphore::new(500);
    let opened = std::sync::Arc::new(opened);
    for (index, last) in (0..).zip(last) {
        let (path, address) = (path.to_owned(), address.clone());
        let opened = std::sync::Arc::clone(&opened);
        tasks.spawn(async move {
            sleep(over * index / count).await;
            let permit = opened.acquire_owned().await.unwrap();
            let id = last.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{id}\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut reader = Reader {
                stream,
                bytes: Vec::new(),
                at: 0,
                id: String::new(),
            };
            let mut offsets = Vec::new();
            let mut permit = Some(permit);
            while offsets.last() != Some(&end) {
                offsets.extend(reader.offsets(1).await);
                permit.take();
            }
            (offsets, reader)
        });
    }
    let mut all = Vec::new();
    while let Some(read) = timeout(CROWD, tasks.join_next()).await.expect("in time") {
        all.push(read.unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ten thousand streams, twice"]
async fn ten_thousand_begin_at_the_beginning_and_come_back_at_once() {
    let plain = kafka().await.plain();
    let name = topic_of(&plain, "storm", 1).await;
    let gateway = gateway(&[("streams.catchup_readers", "4")]).await;
    for n in 0..20 {
        write(&plain, &name, None, &n.to_string()).await;
    }
    let count = crowd();
    let query = path(&name, "from=earliest");
    let first = read_all(
        &gateway,
        &query,
        vec![None; count],
        19,
        Duration::from_secs(5),
    )
    .await;
    for (offsets, _) in &first {
        assert_eq!(*offsets, (0..20).collect::<Vec<_>>());
    }
    assert!((metric(&gateway, "stream_readers").await - count as f64).abs() < 0.1);
    let pages = metric(&gateway, "tail_catchup_pages_total").await;
    assert!(
        pages < 2_000.0,
        "{pages} pages for {count} at the same place"
    );
    assert!((metric(&gateway, "stream_records_encoded_total").await) < 2_000.0 * 20.0);
    let last = first
        .into_iter()
        .map(|(_, reader)| Some(reader.id))
        .collect();
    eventually(CROWD, async || {
        metric(&gateway, "stream_readers").await < 0.5
    })
    .await;
    // While nobody is there, more comes; then all are back within five seconds, with their ids.
    for n in 20..30 {
        write(&plain, &name, None, &n.to_string()).await;
    }
    let before = metric(&gateway, "tail_upstreams").await;
    let second = read_all(&gateway, &query, last, 29, Duration::from_secs(5)).await;
    assert_eq!(second.len(), count);
    for (offsets, _) in &second {
        assert_eq!(
            *offsets,
            (20..30).collect::<Vec<_>>(),
            "what was missed, once"
        );
    }
    assert!(
        (before - 1.0).abs() < 0.1,
        "the reader of the topic waits for them"
    );
}
