//! Topics whose records have the broker's time (`message.timestamp.type=LogAppendTime`): whichever way they
//! are read, it is the time that Kafka's own client sees, and never the producer's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::streams::{Stream, ndjson};
use crate::support::gateway::Gateway;
use crate::support::groups::{self, broker, gateway, spot};
use crate::support::kafka_client::KafkaClient;
use crate::support::ws::Client;
use crate::support::{eventually, http, topic};
use crate::ws::follow;

const BOUND: Duration = Duration::from_secs(60);
/// What the producer says.
const LONG_AGO: i64 = 1_000;
/// Records of a batch, about.
const BATCH: i64 = 40;

/// The time of each record, by partition and offset.
pub type Times = BTreeMap<(i64, i64), i64>;

/// As Kafka's own client sees them.
pub async fn times(plain: &KafkaClient, topic: &str) -> Times {
    let records = plain.consume_all(topic).await;
    let times = records.iter().map(|record| {
        let place = (i64::from(record.partition), record.offset);
        (place, record.timestamp.unwrap())
    });
    times.collect()
}

async fn write(gateway: &Gateway, topic: &str, partition: i64, count: i64) {
    let record = json!({"value": "x", "partition": partition, "timestamp": LONG_AGO});
    let records = vec![record; usize::try_from(count).unwrap()];
    groups::write(gateway, topic, json!(records)).await;
}

/// A topic of two partitions with batches of many records, the first ones with the producer's time, the
/// others with the broker's.
pub async fn stamped() -> (String, Times) {
    let (plain, gateway) = (broker().await.plain(), gateway().await);
    let name = topic("broker-clock");
    plain.create_topic(&name, 2, &[]).await;
    write(gateway, &name, 0, 5).await;
    let by_broker = [("message.timestamp.type", "LogAppendTime")];
    plain.set_topic_configs(&name, &by_broker).await;
    // The broker takes note of it in its own time.
    eventually(BOUND, async || {
        write(gateway, &name, 0, 1).await;
        let last = times(&plain, &name).await.pop_last();
        last.is_some_and(|(_, time)| time != LONG_AGO)
    })
    .await;
    for _ in 0..3 {
        for partition in 0..2 {
            write(gateway, &name, partition, BATCH).await;
        }
    }
    let times = times(&plain, &name).await;
    assert_eq!(times[&(0, 0)], LONG_AGO);
    let by_broker = times.values().filter(|time| **time != LONG_AGO);
    assert!(i64::try_from(by_broker.count()).unwrap() > 6 * BATCH);
    (name, times)
}

/// Each of these records has the time that it has in Kafka, and says whose clock that is.
#[track_caller]
pub fn check(records: &[Value], times: &Times, way: &str) {
    assert_eq!(records.len(), times.len(), "{way}");
    for record in records {
        let time = times[&spot(record)];
        assert_eq!(record["timestamp"], time, "{way}: {record}");
        let clock = match time {
            LONG_AGO => Value::Null,
            _ => json!("append"),
        };
        assert_eq!(record["timestamp_type"], clock, "{way}: {record}");
    }
}

fn only_records(lines: Vec<Value>) -> Vec<Value> {
    let lines = lines.into_iter();
    lines.filter(|line| line.get("event").is_none()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_single_records_have_the_brokers_time() {
    let gateway = gateway().await;
    let (name, times) = stamped().await;
    let url = gateway.url(&format!("/topics/{name}/records"));
    // Pages that end in the middle of batches, and one of all.
    for limit in [7, 1_000] {
        let (mut records, mut from) = (Vec::new(), "earliest".to_owned());
        let end = Instant::now() + BOUND;
        // A page may be empty where the broker was slow, so the count says when all have come.
        while records.len() < times.len() {
            assert!(Instant::now() < end, "{} records", records.len());
            let page = format!("{url}?from={from}&limit={limit}&wait=5000");
            let page = http::get(&page).await.json();
            records.extend(page["records"].as_array().unwrap().iter().cloned());
            page["next"].as_str().unwrap().clone_into(&mut from);
        }
        check(&records, &times, "pages");
    }
    for (partition, offset) in [(0, 0), (0, 50), (1, 0), (1, BATCH - 1), (1, BATCH)] {
        let time = times[&(partition, offset)];
        let url = gateway.url(&format!(
            "/topics/{name}/partitions/{partition}/records/{offset}"
        ));
        assert_eq!(http::get(&url).await.json()["timestamp"], time);
        let bytes = http::client()
            .get(&url)
            .header("accept", "application/octet-stream");
        let bytes = http::send(bytes).await;
        assert_eq!(bytes.header("kafka-timestamp"), time.to_string());
    }
    // A time in `from` is one of the same clock.
    let time = times[&(1, 2 * BATCH)];
    let page = http::get(&format!("{url}?from={time}&partitions=1&limit=1")).await;
    let first = page.json()["records"][0].clone();
    assert_eq!(first["timestamp"], time, "{first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_tails_have_the_brokers_time() {
    let (plain, gateway) = (broker().await.plain(), gateway().await);
    let (name, mut times) = stamped().await;
    let url = gateway.url(&format!("/topics/{name}/records?from=earliest"));
    let lines = ndjson(&format!("{url}&until=end")).await;
    check(&only_records(lines), &times, "NDJSON");
    let mut stream = Stream::open(&url, None).await;
    let mut client = Client::welcomed(gateway).await;
    follow(&mut client, &name, json!({"from": "earliest"})).await;
    let seen = stream.records(times.len()).await;
    let mut seen: Vec<Value> = seen.iter().map(|event| event.json()).collect();
    check(&seen, &times, "server-sent events");
    let mut told = client.records(times.len()).await;
    check(&told, &times, "a tail");
    // What comes while they are there is read by another reader than what was there.
    for _ in 0..3 {
        write(gateway, &name, 0, BATCH).await;
        write(gateway, &name, 1, 1).await;
    }
    let new = usize::try_from(3 * (BATCH + 1)).unwrap();
    times = self::times(&plain, &name).await;
    let more = stream.records(new).await;
    seen.extend(more.iter().map(|event| event.json()));
    check(&seen, &times, "server-sent events as they come");
    told.extend(client.records(new).await);
    check(&told, &times, "a tail as it goes on");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_sessions_have_the_brokers_time() {
    let (plain, gateway) = (broker().await.plain(), gateway().await);
    let (name, mut times) = stamped().await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"offset_reset": "earliest", "ack": "auto"});
    client
        .subscribe(&topic("clock-group"), &name, options)
        .await;
    let mut records = client.records(times.len()).await;
    check(&records, &times, "a group");
    write(gateway, &name, 1, BATCH).await;
    times = self::times(&plain, &name).await;
    records.extend(client.records(usize::try_from(BATCH).unwrap()).await);
    check(&records, &times, "a group as it goes on");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_the_broker_packs_anew_have_its_time() {
    let (plain, gateway) = (broker().await.plain(), gateway().await);
    let name = topic("broker-clock-packed");
    let configs = [
        ("message.timestamp.type", "LogAppendTime"),
        ("compression.type", "zstd"),
    ];
    plain.create_topic(&name, 2, &configs).await;
    for partition in 0..2 {
        write(gateway, &name, partition, BATCH).await;
    }
    let times = times(&plain, &name).await;
    let url = gateway.url(&format!("/topics/{name}/records?from=earliest&limit=1000"));
    let page = http::get(&url).await.json();
    check(page["records"].as_array().unwrap(), &times, "a page");
}
