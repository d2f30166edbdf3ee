//! What readers see of transactions that are open or were aborted, at the isolation level that each of
//! them asks for: pages, single records, streams and tails.

use std::time::Duration;

use serde_json::{Value, json};

use crate::streams::{Stream, ndjson, place, topic_of, write};
use crate::support::gateway::Gateway;
use crate::support::http::get;
use crate::support::kafka_client::{KafkaClient, OutgoingRecord, Transaction};
use crate::support::ws::{Client, offsets};
use crate::support::{eventually, kafka, metric, shared_gateway, topic};
use crate::ws::tail;

const BOUND: Duration = Duration::from_secs(60);
const COMMITTED: &str = "read_committed";
const UNCOMMITTED: &str = "read_uncommitted";

async fn write_within(transaction: &Transaction, topic: &str, value: &str) -> i64 {
    let record = OutgoingRecord {
        topic,
        partition: Some(0),
        value: Some(value.as_bytes()),
        ..OutgoingRecord::default()
    };
    transaction.produce(record).await.1
}

/// A topic with a record at 0, one that was aborted at 1, one at 3, one of a transaction that is open
/// at 4, and one behind it at 5.
async fn mixed(plain: &KafkaClient) -> (String, Transaction) {
    let name = topic_of(plain, "isolation", 1).await;
    assert_eq!(write(plain, &name, 0, "10").await, 0);
    let aborted = plain.transaction(&topic("isolation-aborted")).await;
    assert_eq!(write_within(&aborted, &name, "11").await, 1);
    aborted.abort().await;
    // The marker is written after the answer.
    eventually(BOUND, || async { plain.watermarks(&name, 0).await.1 == 3 }).await;
    assert_eq!(write(plain, &name, 0, "13").await, 3);
    let open = plain.transaction(&topic("isolation-open")).await;
    assert_eq!(write_within(&open, &name, "14").await, 4);
    assert_eq!(write(plain, &name, 0, "15").await, 5);
    (name, open)
}

fn offsets_of(records: &[Value]) -> Vec<i64> {
    let offsets = records.iter().map(|record| record["offset"].as_i64());
    offsets.flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_sees_transactions_at_the_level_that_it_asks_for() {
    let (plain, gateway) = (kafka().await.plain(), shared_gateway().await);
    let (name, open) = mixed(&plain).await;
    let of_topic = gateway.url(&format!("/topics/{name}"));
    let of_several = gateway.url(&format!("/records?topics={name}&"));
    for (level, from, expected) in [
        ("", "earliest", &[0, 3][..]),
        (COMMITTED, "earliest", &[0, 3]),
        (UNCOMMITTED, "earliest", &[0, 1, 3, 4, 5]),
        (COMMITTED, "-1", &[3]),
        (UNCOMMITTED, "-1", &[5]),
        (COMMITTED, "latest", &[]),
        (UNCOMMITTED, "latest", &[]),
    ] {
        let level = match level {
            "" => String::new(),
            level => format!("&isolation={level}"),
        };
        let asked = format!("from={from}&until=end{level}");
        for url in [
            format!("{of_topic}/records?{asked}"),
            format!("{of_several}{asked}"),
        ] {
            let page = get(&url).await.json();
            let records = page["records"].as_array().unwrap();
            assert_eq!(offsets_of(records), expected, "{url}");
            // A stream sees the same.
            assert_eq!(offsets_of(&ndjson(&url).await), expected, "{url}");
        }
    }
    // A time finds what may be read, and nothing behind it.
    let fourth = get(&format!(
        "{of_topic}/partitions/0/records/4?isolation={UNCOMMITTED}"
    ))
    .await;
    assert_eq!(fourth.status, 200, "{}", fourth.text());
    let time = fourth.json()["timestamp"].as_i64().unwrap();
    for (level, least) in [(COMMITTED, None), (UNCOMMITTED, Some(4))] {
        let asked = format!("from={time}&until=end&isolation={level}");
        let page = get(&format!("{of_topic}/records?{asked}")).await.json();
        let found = offsets_of(page["records"].as_array().unwrap());
        // The record at 3 may be of the same millisecond.
        assert_eq!(found.iter().copied().find(|at| *at > 3), least, "{asked}");
    }
    for (offset, level, status) in [
        (1, COMMITTED, 404),
        (1, UNCOMMITTED, 200),
        (4, COMMITTED, 404),
        (4, UNCOMMITTED, 200),
        (6, UNCOMMITTED, 404),
    ] {
        let url = format!("{of_topic}/partitions/0/records/{offset}?isolation={level}");
        assert_eq!(get(&url).await.status, status, "{url}");
    }
    open.commit().await;
    // The marker is written after the answer.
    eventually(BOUND, || async { plain.watermarks(&name, 0).await.1 > 5 }).await;
    let page = get(&format!("{of_topic}/records?from=earliest&until=end")).await;
    let page = page.json();
    assert_eq!(
        offsets_of(page["records"].as_array().unwrap()),
        [0, 3, 4, 5]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_level_that_there_is_not_is_named() {
    let (plain, gateway) = (kafka().await.plain(), shared_gateway().await);
    let name = topic_of(&plain, "isolation-bad", 1).await;
    for path in [
        format!("/topics/{name}/records?isolation=serializable"),
        format!("/records?topics={name}&isolation=READ_COMMITTED"),
        format!("/topics/{name}/partitions/0/records/0?isolation="),
    ] {
        for accept in ["application/json", "text/event-stream"] {
            let url = gateway.url(&path);
            let request = crate::support::http::client().get(&url);
            let reply = crate::support::http::send(request.header("accept", accept)).await;
            if reply.status == 406 {
                continue;
            }
            assert_eq!(reply.status, 400, "{url}: {}", reply.text());
            let error = reply.json();
            assert_eq!(error["field"], "isolation", "{error}");
            assert!(reply.text().contains(UNCOMMITTED), "{error}");
        }
    }
    let mut client = Client::welcomed(gateway).await;
    let frame = format!(
        r#"{{"type":"subscribe","id":1,"sub":"t","topics":["{name}"],"isolation":"serializable"}}"#
    );
    client.send_text(&frame).await;
    let refused = client.next().await;
    assert_eq!(refused["type"], "error", "{refused}");
    assert_eq!(refused["field"], "isolation", "{refused}");
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_of_one_topic_may_have_different_isolation_levels() {
    let plain = kafka().await.plain();
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let (name, open) = mixed(&plain).await;
    let url = |level: &str| gateway.url(&format!("/topics/{name}/records?isolation={level}"));
    let mut committed = Stream::open(&url(COMMITTED), None).await;
    let ready = committed.named("ready").await.json();
    assert_eq!(ready["from"][&name]["0"], 4);
    let mut all = Stream::open(&url(UNCOMMITTED), None).await;
    let ready = all.named("ready").await.json();
    assert_eq!(ready["from"][&name]["0"], 6);
    let mut client = Client::welcomed(&gateway).await;
    let hello = json!({"type": "hello", "id": "h", "features": ["eof"]});
    client.ask(hello).await;
    for (sub, level, backlog) in [("c", COMMITTED, 4), ("u", UNCOMMITTED, 6)] {
        let options = json!({"isolation": level, "from": "earliest"});
        let subscribed = tail(&mut client, sub, &name, options).await;
        assert_eq!(subscribed["isolation"], level, "{subscribed}");
        assert_eq!(subscribed["backlog"], backlog, "{subscribed}");
        let mut seen = Vec::new();
        let eof = loop {
            let frame = client.next_but_states().await;
            match frame["type"].as_str() {
                Some("records") => seen.extend(offsets(frame["records"].as_array().unwrap())),
                Some("eof") => break frame,
                _ => panic!("{frame}"),
            }
        };
        assert_eq!(eof["sub"], sub);
        assert_eq!(eof["offset"], backlog, "where it ends for this one");
        let expected: &[i64] = match level {
            COMMITTED => &[0, 3],
            _ => &[0, 1, 3, 4, 5],
        };
        assert_eq!(seen, expected);
    }
    eventually(BOUND, async || {
        metric(&gateway, "tail_upstreams").await == 2.0
    })
    .await;

    // Who sees all sees a record while its transaction is open; the others wait for its end.
    assert_eq!(write_within(&open, &name, "16").await, 6);
    assert_eq!(place(&all.records(1).await[0]).2, 6);
    let frame = client.until("records").await;
    assert_eq!(frame["sub"], "u", "{frame}");
    for (sub, offset) in [("c", 4), ("u", 7)] {
        let seek = json!({"type": "seek", "id": sub, "sub": sub,
            "positions": [{"topic": name, "partition": 0, "offset": "end"}]});
        let answer = client.ask(seek).await;
        assert_eq!(answer["type"], "seeked", "{answer}");
        assert_eq!(answer["positions"][0]["offset"], offset, "{answer}");
    }
    open.commit().await;
    let events = committed.records(3).await;
    let seen: Vec<i64> = events.iter().map(|event| place(event).2).collect();
    assert_eq!(seen, [4, 5, 6]);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let frame = client.until("records").await;
        assert_eq!(frame["sub"], "c", "{frame}");
        seen.extend(offsets(frame["records"].as_array().unwrap()));
    }
    assert_eq!(seen, [4, 5, 6]);
    client.bye().await;

    // The id of one is a place for the other.
    let id = &events[0].id;
    let mut resumed = Stream::open(&url(UNCOMMITTED), Some(id)).await;
    assert_eq!(place(&resumed.records(1).await[0]).2, 5);
}
