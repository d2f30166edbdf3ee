//! Many readers of a topic are one reader of Kafka.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{CROWD, Reader, crowd_gateway, gateway, path, topic_of, write};
use crate::support::broker::Broker;
use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::kafka_client::KafkaClient;
use crate::support::{eventually, kafka, metric};

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
    let plain = KafkaClient::new(bootstrap);
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
