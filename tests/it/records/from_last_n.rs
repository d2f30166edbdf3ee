//! `from=-N`: the last N records that are shown, and not N offsets. Markers of transactions have offsets too,
//! and so have aborted records and those that a filter leaves out.

use std::time::Duration;

use serde_json::{Value, json};

use crate::streams::{Stream, ndjson, place, topic_of};
use crate::support::http::get;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord};
use crate::support::ws::{Client, offsets};
use crate::support::{eventually, kafka, shared_gateway, topic};
use crate::ws::follow;

const BOUND: Duration = Duration::from_secs(60);

/// Writes these records, with the keys `a` and `b` in turn, in one transaction.
async fn transact(plain: &KafkaClient, name: &str, count: usize, commit: bool) {
    let before = plain.watermarks(name, 0).await.1;
    let transaction = plain.transaction(&topic("last")).await;
    for n in 0..count {
        let key: &[u8] = if n % 2 == 0 { b"a" } else { b"b" };
        let record = OutgoingRecord {
            topic: name,
            partition: Some(0),
            key: Some(key),
            value: Some(b"1"),
            ..OutgoingRecord::default()
        };
        transaction.produce(record).await;
    }
    if commit {
        transaction.commit().await;
    } else {
        transaction.abort().await;
    }
    // The marker is written after the answer.
    let end = before + i64::try_from(count).unwrap() + 1;
    eventually(BOUND, async || plain.watermarks(name, 0).await.1 == end).await;
}

fn offsets_of(records: &[Value]) -> Vec<i64> {
    let offsets = records.iter().map(|record| record["offset"].as_i64());
    offsets.flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_last_n_counts_only_records_that_are_shown_and_no_aborted_ones_or_markers() {
    let (plain, gateway) = (kafka().await.plain(), shared_gateway().await);
    let name = topic_of(&plain, "last", 1).await;
    // 0 with its marker at 1, 2 and 3 with 4, 5 with 6, and 7 to 31 that are aborted at 32.
    for count in [1, 2, 1] {
        transact(&plain, &name, count, true).await;
    }
    transact(&plain, &name, 25, false).await;
    let kept = [0, 2, 3, 5];
    let shown: Vec<i64> = plain
        .consume_all(&name)
        .await
        .iter()
        .map(|r| r.offset)
        .collect();
    assert_eq!(shown, kept);
    let cases: [(&str, &[i64]); 9] = [
        ("from=-0", &[]),
        ("from=-1", &[5]),
        ("from=-2", &[3, 5]),
        ("from=-3", &[2, 3, 5]),
        ("from=-4", &kept),
        ("from=-1000", &kept),
        ("from=-1&key=b", &[3]),
        ("from=-2&key=a", &[2, 5]),
        ("from=-2&isolation=read_uncommitted", &[30, 31]),
    ];
    for (query, expected) in cases {
        for url in [
            gateway.url(&format!("/topics/{name}/records?{query}&until=end")),
            gateway.url(&format!("/records?topics={name}&{query}&until=end")),
        ] {
            let page = get(&url).await.json();
            let records = page["records"].as_array().unwrap();
            assert_eq!(offsets_of(records), expected, "{url}");
            assert_eq!(offsets_of(&ndjson(&url).await), expected, "{url}");
        }
    }
    let url = gateway.url(&format!("/topics/{name}/records?from=-2"));
    let mut stream = Stream::open(&url, None).await;
    let seen: Vec<i64> = stream.records(2).await.iter().map(|e| place(e).2).collect();
    assert_eq!(seen, [3, 5]);
    let mut client = Client::welcomed(gateway).await;
    let subscribed = follow(&mut client, &name, json!({"from": -3})).await;
    assert_eq!(subscribed["positions"][0]["offset"], 2, "{subscribed}");
    assert_eq!(offsets(&client.records(3).await), [2, 3, 5]);
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_partition_gives_its_last_records() {
    let (plain, gateway) = (kafka().await.plain(), shared_gateway().await);
    let name = topic_of(&plain, "last-each", 3).await;
    transact(&plain, &name, 4, true).await;
    for value in ["0", "1", "2"] {
        crate::streams::write(&plain, &name, 1, value).await;
    }
    let url = gateway.url(&format!("/topics/{name}/records?from=-2"));
    let page = get(&url).await.json();
    let places = page["records"].as_array().unwrap().iter();
    let mut places: Vec<(i64, i64)> = places
        .map(|record| {
            let number = |name: &str| record[name].as_i64().unwrap();
            (number("partition"), number("offset"))
        })
        .collect();
    places.sort_unstable();
    assert_eq!(places, [(0, 2), (0, 3), (1, 1), (1, 2)]);
}
