//! What reads give, and when.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::{BINARY, BOUND, Consumer, JSON, SOON, V2, VERY_PATIENT, created, from_earliest};
use super::{numbers, refusal};
use crate::kafka::log_append_time::{check, stamped};
use crate::support::gateway::Gateway;
use crate::support::groups::{broker, fill, gateway, write};
use crate::support::http::{client, send};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::{eventually, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_read_after_subscribing_has_the_records() {
    let gateway = gateway().await;
    let name = created("v2-first", 3).await;
    for partition in 0..3 {
        fill(gateway, &name, partition, 0..5).await;
    }
    let consumer = Consumer::of(gateway, &name).await;
    let begun = Instant::now();

    let records = consumer.read(VERY_PATIENT).await;

    assert!(!records.is_empty());
    assert!(begun.elapsed() < SOON, "it did not wait");
    let rest = 15 - records.len();
    if rest > 0 {
        consumer.read_all(rest).await;
    }
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_returns_with_the_first_record_and_with_nothing_when_its_time_is_over() {
    let gateway = gateway().await;
    let name = created("v2-wait", 1).await;
    let consumer = Consumer::of(gateway, &name).await;
    consumer.has(1).await;
    let begun = Instant::now();
    assert!(consumer.read("timeout=700").await.is_empty());
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(690), "{waited:?}");
    assert!(waited < SOON, "{waited:?}");

    let reading = tokio::spawn(async move { (consumer.read(VERY_PATIENT).await, consumer) });
    // Most likely it waits by then; it does not matter which of the two comes first.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    fill(gateway, &name, 0, 0..1).await;
    let (records, consumer) = reading.await.unwrap();
    assert_eq!(numbers(&records), [0]);
    assert!(begun.elapsed() < SOON);
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_have_the_fields_of_confluent_rest_proxy_and_two_more() {
    let gateway = gateway().await;
    let name = created("v2-fields", 1).await;
    let records = json!([
        {"key": "k", "value": {"a": 1.10}, "timestamp": 1_700_000_000_000_i64, "headers": {"h": "v", "n": null}},
        {"value": null},
    ]);
    write(gateway, &name, records).await;
    let group = topic("v2-fields-group");
    let binary = json!({"auto.offset.reset": "earliest", "consumer.request.timeout.ms": 20_000});
    let consumer = Consumer::make(gateway, &group, &binary).await;
    consumer.subscribe(&[&name]).await;

    let reply = consumer.get("/records").await;

    assert_eq!(reply.header("content-type"), BINARY);
    let start = format!(
        "[{{\"topic\":\"{name}\",\"key\":\"aw==\",\"value\":\"eyJhIjoxLjF9\",\"partition\":0,\
         \"offset\":0,\"timestamp\":1700000000000,\"headers\":[[\"h\",\"v\"],[\"n\",null]]}},"
    );
    assert!(reply.text().starts_with(&start), "{}", reply.text());
    let body = reply.json();
    assert_eq!(body[1]["value"], Value::Null);
    assert_eq!(body[1]["key"], Value::Null);
    assert_eq!(body[1]["headers"], json!([]));
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grouped_and_assigned_instances_have_the_brokers_time() {
    let gateway = gateway().await;
    let (name, times) = stamped().await;
    let grouped = Consumer::of(gateway, &name).await;
    check(&grouped.read_all(times.len()).await, &times, "grouped");
    grouped.delete().await;
    let assigned = Consumer::alone(gateway).await;
    let partitions = json!({"partitions": [
        {"topic": name, "partition": 0}, {"topic": name, "partition": 1},
    ]});
    assigned.told("/assignments", &partitions).await;
    check(&assigned.read_all(times.len()).await, &times, "assigned");
    assigned.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_comes_back_with_every_byte() {
    let gateway = gateway().await;
    let name = created("v2-json", 1).await;
    let plain = broker().await.plain();
    let texts: [&[u8]; 4] = [
        b"{\"n\": 12345678901234567890.10}",
        b"0",
        b"\"\\u00fc\"",
        b"false",
    ];
    for value in texts {
        plain
            .produce(OutgoingRecord {
                topic: &name,
                value: Some(value),
                key: Some(b"\"k\""),
                ..OutgoingRecord::default()
            })
            .await;
    }
    let consumer = Consumer::of(gateway, &name).await;
    let mut text = String::new();
    while text.matches("\"topic\"").count() < 4 {
        let reply = consumer.get("/records").await;
        assert_eq!(reply.header("content-type"), JSON);
        assert_ne!(reply.text(), "[]", "all have come within its time");
        text.push_str(reply.text());
    }
    for value in texts {
        let value = std::str::from_utf8(value).unwrap();
        assert!(text.contains(&format!("\"value\":{value},")), "{text}");
    }
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_has_the_type_that_was_asked_for() {
    let gateway = gateway().await;
    let consumer = Consumer::alone(gateway).await;
    let name = created("v2-accept", 1).await;
    consumer.subscribe(&[&name]).await;
    let read = async |accept: &str| {
        let request = consumer.request(Method::GET, "/records?timeout=1");
        send(request.header("accept", accept)).await
    };
    for (accept, kind) in [
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (V2, V2),
        ("application/json", "application/json"),
        ("text/html, application/vnd.kafka.json.v2+json;q=0.1", JSON),
    ] {
        let reply = read(accept).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("content-type")),
            (200, kind),
            "{accept}"
        );
    }
    for format in ["binary", "avro", "jsonschema", "protobuf"] {
        let reply = read(&format!("application/vnd.kafka.{format}.v2+json")).await;
        assert_eq!(refusal(&reply), (406, 40601, "Accept".into()), "{format}");
    }
    assert_eq!(refusal(&read("image/png").await).1, 406);
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn max_bytes_lets_one_record_through_and_drops_none() {
    let gateway = gateway().await;
    let name = created("v2-max-bytes", 1).await;
    let records: Vec<Value> = (0..20)
        .map(|n| json!({"value": n, "key": "k".repeat(if n % 5 == 0 { 2_000 } else { 10 })}))
        .collect();
    let url = gateway.url(&format!("/topics/{name}/records?key_format=json"));
    let body = serde_json::to_string(&records).unwrap();
    let reply = crate::support::http::post_text(&url, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let consumer = Consumer::of(gateway, &name).await;
    let mut seen = Vec::new();
    while seen.len() < 20 {
        // The large ones are over it, alone or with others.
        let records = consumer.read("timeout=20000&max_bytes=30").await;
        assert!((1..=3).contains(&records.len()), "{}", records.len());
        seen.extend(numbers(&records));
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_for_as_many_bytes_as_the_instance_was_made_with() {
    let gateway = gateway().await;
    let name = created("v2-min-bytes", 1).await;
    let mut body = from_earliest();
    body["fetch.min.bytes"] = json!(300_000);
    let consumer = Consumer::make(gateway, &topic("v2-min-group"), &body).await;
    consumer.subscribe(&[&name]).await;
    consumer.has(1).await;
    let text = "x".repeat(50_000);
    write(gateway, &name, json!([{"value": text}])).await;
    // Not enough, so the time is used up; then it is given all the same, if it has come by then.
    let end = Instant::now() + BOUND;
    let first = loop {
        let begun = Instant::now();
        let first = consumer.read("timeout=2000").await;
        assert!(begun.elapsed() >= Duration::from_millis(1_990));
        if !first.is_empty() {
            break first;
        }
        assert!(begun < end, "it did not come");
    };
    assert_eq!(first.len(), 1);
    let reading = tokio::spawn(async move { (consumer.read(VERY_PATIENT).await, consumer) });
    let begun = Instant::now();
    for _ in 0..8 {
        write(gateway, &name, json!([{"value": text}])).await;
    }
    let (records, consumer) = reading.await.unwrap();
    assert!(records.len() >= 6, "{}", records.len());
    assert!(begun.elapsed() < SOON);
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_it_waits_loses_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let gateway = gateway().await;
    let name = created("v2-leaves", 1).await;
    let consumer = Consumer::of(gateway, &name).await;
    consumer.has(1).await;
    let path = consumer.base.strip_prefix(&gateway.url("")).unwrap();
    let head = format!("GET {path}/records HTTP/1.1\r\nhost: localhost\r\naccept: {JSON}\r\n\r\n");
    let mut seen = BTreeSet::new();
    for round in 0..5 {
        let mut socket = tokio::net::TcpStream::connect(gateway.address())
            .await
            .unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        // It goes away about when the record comes, and what was written to it by then counts as
        // delivered: it is looked for there too.
        fill(gateway, &name, 0, round..round + 1).await;
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(BOUND, socket.read_to_end(&mut answer))
            .await
            .expect("the gateway lets go of who left")
            .unwrap();
        let answer = String::from_utf8(answer).unwrap();
        seen.extend((0..=round).filter(|n| answer.contains(&format!("\"value\":{n}"))));
    }
    // The last one has no reader that leaves.
    fill(gateway, &name, 0, 5..6).await;
    let rest = consumer
        .read_until(500, |rest| rest.last() == Some(&5))
        .await;
    assert!(rest.windows(2).all(|w| w[0] < w[1]), "{rest:?}");
    seen.extend(rest);
    assert!(seen.iter().copied().eq(0..=5), "{seen:?}");
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_written_is_given_again() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let gateway = gateway().await;
    let name = created("v2-again", 1).await;
    // More than the system's own buffers hold.
    let text = "x".repeat(500_000);
    for _ in 0..20 {
        write(gateway, &name, json!([{"value": text}])).await;
    }
    let mut body = from_earliest();
    body["fetch.min.bytes"] = json!(9_000_000);
    let consumer = Consumer::make(gateway, &topic("v2-again-group"), &body).await;
    consumer.subscribe(&[&name]).await;
    consumer.has(1).await;
    let path = consumer.base.strip_prefix(&gateway.url("")).unwrap();
    let mut socket = tokio::net::TcpStream::connect(gateway.address())
        .await
        .unwrap();
    let head = format!("GET {path}/records HTTP/1.1\r\nhost: localhost\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut some = vec![0; 200_000];
    tokio::time::timeout(BOUND, socket.read_exact(&mut some))
        .await
        .expect("an answer")
        .unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200"));
    // A commit would be of what was delivered: nothing. It waits to know, so the client goes first.
    drop(socket);
    consumer.commit().await;
    let committed = consumer.committed(&name, &[0]).await;
    assert_eq!(committed, [(0, 0)]);

    let records = consumer.read_all(20).await;

    let offsets: Vec<i64> = records
        .iter()
        .map(|record| record["offset"].as_i64().unwrap())
        .collect();
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    consumer.commit().await;
    assert_eq!(consumer.committed(&name, &[0]).await, [(0, 20)]);
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_reads_follow_each_other_at_once() {
    let gateway = gateway().await;
    let name = created("v2-http2", 1).await;
    fill(gateway, &name, 0, 0..1_000).await;
    let mut consumer = Consumer::of(gateway, &name).await;
    consumer.client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    consumer.has(1).await;
    let begun = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < 1_000 {
        seen.extend(numbers(&consumer.read("timeout=20000&max_bytes=60").await));
        consumer.commit().await;
    }
    assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
    // Less than one of them may wait for the answer before it.
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_takes_no_records() {
    let gateway = gateway().await;
    let name = created("v2-head", 1).await;
    fill(gateway, &name, 0, 0..3).await;
    let consumer = Consumer::of(gateway, &name).await;
    let head = consumer.call(Method::HEAD, "/records", None).await;
    assert_eq!(head.status, 200);
    assert_eq!(numbers(&consumer.read_all(3).await), [0, 1, 2]);
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_are_packed_for_those_who_ask() {
    let gateway = gateway().await;
    let name = created("v2-gzip", 1).await;
    fill(gateway, &name, 0, 0..3_000).await;
    let consumer = Consumer::of(gateway, &name).await;
    consumer.has(1).await;
    let mut seen = 0;
    let mut packed = false;
    while seen < 3_000 {
        let request = consumer.request(Method::GET, "/records");
        let reply = send(request.header("accept-encoding", "gzip")).await;
        assert_eq!(reply.status, 200);
        let text = if reply.header("content-encoding") == "gzip" {
            packed = true;
            unpacked(&reply.body).await
        } else {
            reply.body.clone()
        };
        let records: Vec<Value> = serde_json::from_slice(&text).unwrap();
        assert_eq!(records[0]["value"], seen);
        seen += i64::try_from(records.len()).unwrap();
    }
    assert!(packed);
    consumer.delete().await;
}

async fn unpacked(bytes: &[u8]) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut out = Vec::new();
    let mut decoder = async_compression::tokio::bufread::GzipDecoder::new(bytes);
    decoder.read_to_end(&mut out).await.unwrap();
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_once_wait_for_each_other() {
    let gateway = gateway().await;
    let name = created("v2-at-once", 1).await;
    fill(gateway, &name, 0, 0..200).await;
    let consumer = std::sync::Arc::new(Consumer::of(gateway, &name).await);
    consumer.has(1).await;
    let mut reads = Vec::new();
    for n in 0..40 {
        let consumer = std::sync::Arc::clone(&consumer);
        reads.push(tokio::spawn(async move {
            if n % 4 == 3 {
                consumer.commit().await;
                return Vec::new();
            }
            numbers(&consumer.read("timeout=300&max_bytes=20").await)
        }));
    }
    let mut seen = Vec::new();
    for read in reads {
        seen.extend(read.await.unwrap());
    }
    let first = seen.len();
    assert!(first >= 30, "{first}");
    seen.extend(numbers(&consumer.read_all(200 - first).await));
    seen.sort_unstable();
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_sees_of_transactions_what_the_instance_was_made_for() {
    let gateway = gateway().await;
    let name = created("v2-isolation", 1).await;
    let plain = broker().await.plain();
    let record = |value: &'static [u8]| OutgoingRecord {
        topic: &name,
        partition: Some(0),
        value: Some(value),
        ..OutgoingRecord::default()
    };
    plain.produce(record(b"1")).await;
    let transaction = plain.transaction(&topic("v2-isolation-id")).await;
    transaction.produce(record(b"2")).await;
    transaction.abort().await;
    // The marker comes after the answer.
    eventually(BOUND, async || plain.watermarks(&name, 0).await == (0, 3)).await;
    plain.produce(record(b"3")).await;
    for (level, expected) in [
        (Some("read_committed"), vec![1, 3]),
        (Some("READ_UNCOMMITTED"), vec![1, 2, 3]),
        (None, vec![1, 3]),
    ] {
        for by_hand in [false, true] {
            let mut body = from_earliest();
            body["isolation.level"] = json!(level);
            let consumer = Consumer::make(gateway, &topic("v2-isolation-group"), &body).await;
            if by_hand {
                let partitions = json!({"partitions": [{"topic": name, "partition": 0}]});
                consumer.told("/assignments", &partitions).await;
            } else {
                consumer.subscribe(&[&name]).await;
            }
            let records = consumer.read_all(expected.len()).await;
            assert_eq!(numbers(&records), expected, "{level:?} {by_hand}");
            consumer.commit().await;
            assert_eq!(consumer.committed(&name, &[0]).await, [(0, 4)]);
            consumer.delete().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_may_come_later() {
    let gateway = gateway().await;
    let consumer = Consumer::alone(gateway).await;
    let (name, other) = (topic("v2-later"), topic("v2-later"));
    consumer.subscribe(&[&name, &other]).await;
    let shown = consumer.get("/subscription").await;
    assert_eq!(
        shown.text(),
        format!("{{\"topics\":[\"{name}\",\"{other}\"]}}")
    );
    assert!(consumer.read("timeout=200").await.is_empty());
    let plain = broker().await.plain();
    // The gateway has just heard that it is not there, so it is written to past it.
    let put = async |name: &str, n: i64| {
        let value = n.to_string();
        plain
            .produce(OutgoingRecord {
                topic: name,
                value: Some(value.as_bytes()),
                ..OutgoingRecord::default()
            })
            .await;
    };
    plain.create_topic(&name, 1, &[]).await;
    put(&name, 0).await;
    put(&name, 1).await;
    assert_eq!(numbers(&consumer.read_all(2).await), [0, 1]);
    consumer.delete().await;

    let by_pattern = Consumer::alone(gateway).await;
    let prefix = topic("v2-pattern");
    let pattern = json!({"topic_pattern": format!("{prefix}-[ab]")});
    by_pattern.told("/subscription", &pattern).await;
    assert_eq!(
        by_pattern.get("/subscription").await.json(),
        json!({"topics": []})
    );
    for (end, n) in [("c", 3), ("a", 1)] {
        let name = format!("{prefix}-{end}");
        plain.create_topic(&name, 1, &[]).await;
        put(&name, n).await;
    }
    assert_eq!(numbers(&by_pattern.read_all(1).await), [1]);
    assert_eq!(
        by_pattern.get("/subscription").await.json(),
        json!({"topics": [format!("{prefix}-a")]})
    );
    by_pattern.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_replaced_and_ended() {
    let gateway = gateway().await;
    let (one, two) = (created("v2-sub", 1).await, created("v2-sub", 1).await);
    fill(gateway, &one, 0, 0..5).await;
    fill(gateway, &two, 0, 10..12).await;
    let consumer = Consumer::of(gateway, &one).await;
    assert_eq!(consumer.read("timeout=20000&max_bytes=1").await.len(), 1);
    // Nothing of the first comes any more, whatever was read ahead.
    consumer.subscribe(&[&two]).await;
    assert_eq!(numbers(&consumer.read_all(2).await), [10, 11]);
    // Neither of the two fields: nothing happens, as in Confluent REST Proxy.
    consumer.told("/subscription", &json!({})).await;
    assert_eq!(
        consumer.get("/subscription").await.json(),
        json!({"topics": [two]})
    );
    let ended = consumer.call(Method::DELETE, "/subscription", None).await;
    assert_eq!(ended.status, 204);
    assert_eq!(
        consumer.get("/subscription").await.json(),
        json!({"topics": []})
    );
    assert!(consumer.assignments().await.is_empty());
    assert_eq!(refusal(&consumer.get("/records").await).1, 40903);
    // Another kind of it now, and partitions as well.
    let pattern = json!({"topic_pattern": two});
    consumer.told("/subscription", &pattern).await;
    consumer.told("/subscription", &json!({"topics": []})).await;
    assert!(consumer.assignments().await.is_empty());
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_instance_reads_and_commits_on_the_embedded_broker() {
    let gateway = Gateway::embedded().start().await;
    write(&gateway, "orders", json!([{"value": 1}, {"value": 2}])).await;
    let consumer = Consumer::of(&gateway, "orders").await;
    assert_eq!(numbers(&consumer.read_all(2).await), [1, 2]);
    consumer.commit().await;
    let partitions: Vec<i32> = vec![0];
    assert_eq!(consumer.committed("orders", &partitions).await.len(), 1);
    consumer.delete().await;
    let gone = send(client().get(format!("{}/records", consumer.base))).await;
    assert_eq!(gone.status, 404);
}
