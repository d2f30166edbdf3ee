//! What is delivered and what may be committed of it, on a real Kafka: holes, random orders,
//! transactions, credit, batches, filters, formats.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::gateway::Gateway;
use crate::support::groups::{assigned, broker, committed, epochs, fill, gateway, spot, write};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::ws::{Client, offsets, tags};
use crate::support::{eventually, http, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_holds_the_commit_whatever_becomes_of_the_process() {
    let (other, plain) = (gateway().await, broker().await.plain());
    let killed = Gateway::start(&broker().await.bootstrap()).await;
    let topic = topic("ws-hole");
    plain.create_topic(&topic, 1, &[]).await;
    fill(other, &topic, 0, 0..100).await;
    let options = json!({"offset_reset": "earliest", "commit_interval_ms": 100});
    let mut first = Client::welcomed(&killed).await;
    first.subscribe(&topic, &topic, options.clone()).await;
    let records = first.records(100).await;
    let all_but_one: Vec<u64> = records
        .iter()
        .filter(|record| record["offset"] != 37)
        .map(|record| record["tag"].as_u64().unwrap())
        .collect();
    first.ack(&all_but_one).await;
    committed(&plain, &topic, &topic, 0, 37).await;
    // Two intervals more, in which nothing may come beyond it.
    let end = Instant::now() + Duration::from_millis(300);
    while Instant::now() < end {
        assert_eq!(plain.committed(&topic, &topic, 0).await, Some(37));
    }
    killed.kill();
    assert_eq!(first.closed().await.code, None);

    let mut second = Client::welcomed(other).await;
    let assigned = second.subscribe(&topic, &topic, options).await;
    assert_eq!(assigned["partitions"][0]["start"], 37);
    let again = second.records(63).await;
    assert_eq!(offsets(&again), (37..100).collect::<Vec<_>>());
    second.ack(&tags(&again)[1..]).await;
    let done = second
        .ask(json!({"type": "commit", "sub": "o", "id": 1}))
        .await;
    let there = json!([{"topic": topic, "partition": 0, "offset": 37}]);
    assert_eq!(done["positions"], there, "what is there already");
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(37));
    second.ack(&tags(&again)[..1]).await;
    committed(&plain, &topic, &topic, 0, 100).await;
    second.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_commit_passes_what_is_not_acknowledged() {
    const RECORDS: usize = 10_000;
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-random");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..10_000).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({
        "offset_reset": "earliest", "commit_interval_ms": 100, "ack_timeout_ms": 0,
        "flow": {"records": RECORDS, "bytes": 32 << 20}, "batch": {"records": 1000},
    });
    client.subscribe(&topic, &topic, options).await;
    let records = client.records(RECORDS).await;
    assert_eq!(offsets(&records), (0..10_000).collect::<Vec<_>>());
    // Anywhere within two thousand places of its own, so that the first hole moves on.
    let mut order: Vec<(usize, usize)> = (0..RECORDS)
        .map(|n| (n + fastrand::usize(0..2_000), n))
        .collect();
    order.sort_unstable();
    let mut waits: BTreeSet<usize> = (0..RECORDS).collect();
    let tags = tags(&records);
    for (batch, acks) in order.chunks(50).enumerate() {
        let acks: Vec<u64> = acks
            .iter()
            .map(|(_, n)| {
                waits.remove(n);
                tags[*n]
            })
            .collect();
        client.ack(&acks).await;
        if batch % 5 == 0 {
            let committed = plain.committed(&topic, &topic, 0).await.unwrap_or(0);
            let first = waits.first().map_or(RECORDS, |first| *first);
            let first = i64::try_from(first).unwrap();
            assert!(committed <= first, "{committed} is beyond {first}");
        }
        // And each time that nothing more is said it comes to it.
        if batch % 40 == 39 {
            let first = waits.first().map_or(RECORDS, |first| *first);
            let first = i64::try_from(first).unwrap();
            committed(&plain, &topic, &topic, 0, first).await;
        }
    }
    committed(&plain, &topic, &topic, 0, 10_000).await;
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_reader_sees_does_not_hold_the_commit() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-transactions");
    plain.create_topic(&topic, 1, &[]).await;
    let record = |value: &'static str| OutgoingRecord {
        topic: "",
        partition: Some(0),
        value: Some(value.as_bytes()),
        ..OutgoingRecord::default()
    };
    for (n, commits) in [true, false, true, false].into_iter().enumerate() {
        let transaction = plain.transaction(&format!("{topic}-{n}")).await;
        for value in ["1", "2", "3"] {
            let record = OutgoingRecord {
                topic: &topic,
                ..record(value)
            };
            transaction.produce(record).await;
        }
        if commits {
            transaction.commit().await;
        } else {
            transaction.abort().await;
        }
        // Three records and a marker, which comes after the answer.
        let end = 4 * (i64::try_from(n).unwrap() + 1);
        eventually(Duration::from_secs(60), async || {
            plain.watermarks(&topic, 0).await == (0, end)
        })
        .await;
    }
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"offset_reset": "earliest", "commit_interval_ms": 100});
    client.subscribe(&topic, &topic, options).await;
    let records = client.records(6).await;
    // 3 records and a marker each time.
    assert_eq!(offsets(&records), [0, 1, 2, 8, 9, 10]);
    client.ack(&tags(&records)).await;
    committed(&plain, &topic, &topic, 0, 16).await;
    // Kafka knows of a commit a moment before the gateway does.
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let position = client
            .ask(json!({"type": "position", "sub": "o", "id": 1}))
            .await;
        assert_eq!(position["positions"][0]["acked"], 16);
        if position["positions"][0]["lag"] == 0 {
            break;
        }
        assert!(Instant::now() < end, "{position}");
    }
    client.bye().await;

    let mut client = Client::welcomed(gateway).await;
    let group = format!("{topic}-all");
    let options = json!({"offset_reset": "earliest", "isolation": "read_uncommitted"});
    client.subscribe(&group, &topic, options).await;
    assert_eq!(client.records(12).await.len(), 12);
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_filter_leaves_out_counts_as_acknowledged() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let filters = [
        (json!({"where": "/price>=10"}), vec![1, 3]),
        (json!({"key": "a"}), vec![0]),
        (json!({"key_prefix": "a"}), vec![0, 1]),
        (json!({"headers": {"kind": "x"}}), vec![2]),
        (json!({"where": "/price>=10", "key_prefix": "b"}), vec![3]),
        (json!({"where": "/price>1000"}), vec![]),
    ];
    let topic = topic("ws-filter");
    plain.create_topic(&topic, 1, &[]).await;
    let records = json!([
        {"key": "a", "value": {"price": 9}},
        {"key": "ab", "value": {"price": 10}},
        {"key": "b", "value": "no object", "headers": [["kind", "x"]]},
        {"key": "bc", "value": {"price": 11}},
        {"value": null},
    ]);
    write(gateway, &topic, records).await;
    for (n, (filter, expected)) in filters.into_iter().enumerate() {
        let group = format!("{topic}-{n}");
        let mut client = Client::welcomed(gateway).await;
        let options = json!({
            "offset_reset": "earliest", "commit_interval_ms": 100, "filter": filter,
        });
        client.subscribe(&group, &topic, options).await;
        let records = client.records(expected.len()).await;
        assert_eq!(offsets(&records), expected);
        if let Some(first) = expected.first().filter(|first| **first > 0) {
            committed(&plain, &group, &topic, 0, *first).await;
        }
        if !records.is_empty() {
            client.ack(&tags(&records)).await;
        }
        committed(&plain, &group, &topic, 0, 5).await;
        client.bye().await;
    }
    let mut client = Client::welcomed(gateway).await;
    let wrong = client
        .ask(json!({
            "type": "subscribe", "id": 1, "sub": "o", "group": topic, "topics": [topic],
            "filter": {"where": "/price>>1"},
        }))
        .await;
    assert_eq!(
        (&wrong["code"], &wrong["field"]),
        (&json!("invalid_subscription"), &json!("filter.where"))
    );
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_have_as_many_records_as_was_asked_for() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-batch");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..25).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"offset_reset": "earliest", "batch": {"records": 10, "linger_ms": 700}});
    client.subscribe(&topic, &topic, options).await;
    let mut sizes = Vec::new();
    for _ in 0..2 {
        sizes.push(
            client.until("records").await["records"]
                .as_array()
                .unwrap()
                .len(),
        );
    }
    sizes.push(
        client.until("records").await["records"]
            .as_array()
            .unwrap()
            .len(),
    );
    assert_eq!(
        sizes,
        [10, 10, 5],
        "full ones at once, the rest after the linger"
    );
    let before = Instant::now();
    fill(gateway, &topic, 0, 25..26).await;
    assert_eq!(offsets(&client.records(1).await), [25]);
    assert!(
        before.elapsed() >= Duration::from_millis(690),
        "{:?}",
        before.elapsed()
    );
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_credit_makes_room_where_that_is_the_mode() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-credit");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..20).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({
        "offset_reset": "earliest", "flow": {"mode": "credit"}, "ack_timeout_ms": 5000,
        "order": "relaxed",
    });
    client.subscribe(&topic, &topic, options).await;
    client.silent(Duration::from_millis(500)).await;
    client
        .send(json!({"type": "credit", "sub": "o", "records": 3}))
        .await;
    let records = client.records(3).await;
    assert_eq!(offsets(&records), [0, 1, 2]);
    client.ack(&tags(&records)[..2]).await;
    // The third comes again when its time is over: what it took of the credit came back, because
    // the client cannot know of it.
    let again = client.records(1).await;
    assert_eq!(
        (offsets(&again), &again[0]["deliveries"]),
        (vec![2], &json!(2))
    );
    client.ack(&tags(&again)).await;
    client.silent(Duration::from_millis(500)).await;
    client
        .send(json!({"type": "credit", "sub": "o", "records": 17, "bytes": 5}))
        .await;
    let left = client.records(5).await;
    assert_eq!(offsets(&left), [3, 4, 5, 6, 7], "a digit is a byte");
    client.ack(&tags(&left)).await;
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_acknowledgement_stands_for_all_before_it() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-cumulative");
    plain.create_topic(&topic, 2, &[]).await;
    for partition in 0..2 {
        fill(gateway, &topic, partition, 0..10).await;
    }
    let mut client = Client::welcomed(gateway).await;
    let options = json!({
        "offset_reset": "earliest", "ack": "cumulative", "commit_interval_ms": 100,
    });
    client.subscribe(&topic, &topic, options).await;
    let records = client.records(20).await;
    let of = |partition: i64, offset: i64| {
        let found = records
            .iter()
            .find(|record| spot(record) == (partition, offset));
        found.unwrap()["tag"].as_u64().unwrap()
    };
    client.ack(&[of(0, 6)]).await;
    committed(&plain, &topic, &topic, 0, 7).await;
    assert_eq!(
        plain.committed(&topic, &topic, 1).await,
        Some(0),
        "another partition is not meant"
    );
    let upto = json!([{"topic": topic, "partition": 1, "offset": 3}]);
    client
        .send(json!({"type": "ack", "sub": "o", "upto": upto}))
        .await;
    committed(&plain, &topic, &topic, 1, 4).await;
    let foreign = json!([{"topic": topic, "partition": 7, "offset": 3}]);
    let error = client
        .ask(json!({"type": "ack", "sub": "o", "id": 1, "upto": foreign}))
        .await;
    let error = match error["type"].as_str() {
        Some("acked") => client.until("error").await,
        _ => error,
    };
    assert_eq!(error["code"], "not_assigned");
    let unknown = client
        .ask(json!({"type": "ack", "sub": "o", "id": 2, "tags": [999]}))
        .await;
    let unknown = match unknown["type"].as_str() {
        Some("acked") => client.until("error").await,
        _ => unknown,
    };
    assert_eq!(
        (&unknown["code"], &unknown["tags"]),
        (&json!("ack_unknown"), &json!([999]))
    );
    // Twice is once.
    client.ack(&[of(0, 6), of(0, 2)]).await;
    client.bye().await;
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_decoded_goes_as_was_asked_for() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-decode");
    plain.create_topic(&topic, 1, &[]).await;
    let dead = format!("{topic}.dead");
    plain.create_topic(&dead, 1, &[]).await;
    for value in [&b"1"[..], b"\xff\xfe", b"text", b"2"] {
        let record = OutgoingRecord {
            topic: &topic,
            partition: Some(0),
            value: Some(value),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    let subscribed = async |on_decode_error: &str| {
        let group = format!("{topic}-{on_decode_error}");
        let mut client = Client::welcomed(gateway).await;
        let options = json!({
            "offset_reset": "earliest", "on_decode_error": on_decode_error, "dlq": dead,
            "commit_interval_ms": 100,
        });
        client.subscribe(&group, &topic, options).await;
        (client, group)
    };
    let (mut client, _) = subscribed("deliver").await;
    let records = client.records(4).await;
    let formats: Vec<&Value> = records.iter().map(|record| &record["vf"]).collect();
    assert_eq!(
        formats,
        [
            &Value::Null,
            &json!("binary"),
            &json!("string"),
            &Value::Null
        ]
    );
    assert_eq!(records[1]["value"], "//4=");
    client.bye().await;

    let (mut client, group) = subscribed("skip").await;
    let records = client.records(2).await;
    assert_eq!(offsets(&records), [0, 3]);
    client.ack(&tags(&records)).await;
    committed(&plain, &group, &topic, 0, 4).await;
    client.bye().await;

    let (mut client, group) = subscribed("dlq").await;
    let records = client.records(2).await;
    assert_eq!(offsets(&records), [0, 3]);
    client.ack(&tags(&records)).await;
    committed(&plain, &group, &topic, 0, 4).await;
    client.bye().await;
    // Written side by side.
    let mut letters = plain.consume_all(&dead).await;
    letters.sort_by(|a, b| b.value.cmp(&a.value));
    let values: Vec<_> = letters
        .iter()
        .map(|letter| letter.value.clone().unwrap())
        .collect();
    assert_eq!(values, [b"\xff\xfe".to_vec(), b"text".to_vec()]);
    let error = letters[0]
        .headers
        .iter()
        .find(|(name, _)| name == "error")
        .unwrap();
    let error = String::from_utf8(error.1.clone().unwrap()).unwrap();
    assert!(error.contains("offset 1"), "{error}");

    let (mut client, group) = subscribed("close").await;
    let records = client.records(1).await;
    client.ack(&tags(&records)).await;
    let closed = client.closed().await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (Some(4512), "decode_error")
    );
    assert!(plain.committed(&group, &topic, 0).await.unwrap_or(0) <= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_too_large_for_a_frame_comes_with_a_link_to_it() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-large");
    plain.create_topic(&topic, 1, &[]).await;
    // Each byte of it takes two in a frame.
    let value = "\"".repeat(3_000);
    write(gateway, &topic, json!([{"value": value}, {"value": 1}])).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({
        "offset_reset": "earliest", "max_record_bytes": 5000, "flow": {"bytes": 1024},
    });
    client.subscribe(&topic, &topic, options).await;
    let large = client.records(1).await;
    assert_eq!(
        (offsets(&large), &large[0]["value"]),
        (vec![0], &Value::Null)
    );
    let stored = serde_json::to_string(&value).unwrap();
    assert_eq!(large[0]["truncated"]["bytes"], stored.len());
    let href = large[0]["truncated"]["href"].as_str().unwrap();
    let reply = http::get(&gateway.url(href)).await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.text().contains(&stored),
        "the link leads to the bytes"
    );
    // It is larger than the window and went alone.
    client.silent(Duration::from_millis(300)).await;
    client.ack(&tags(&large)).await;
    assert_eq!(offsets(&client.records(1).await), [1]);
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: longer than the session timeout of a group"]
async fn a_session_that_is_not_read_from_keeps_its_place() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-stalled");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..5_000).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"offset_reset": "earliest", "flow": {"records": 100}});
    client.subscribe(&topic, &topic, options).await;
    let before = epochs(broker().await, &topic);
    let records = client.records(100).await;
    // More than the group's session timeout without an acknowledgement.
    client.silent(Duration::from_secs(8)).await;
    assert_eq!(epochs(broker().await, &topic), before);
    client.ack(&tags(&records)).await;
    assert_eq!(
        offsets(&client.records(100).await),
        (100..200).collect::<Vec<_>>()
    );
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_automatic_subscription_commits_what_it_has_written() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-auto");
    plain.create_topic(&topic, 3, &[]).await;
    for partition in 0..3 {
        fill(gateway, &topic, partition, 0..700).await;
    }
    let mut client = Client::welcomed(gateway).await;
    let options = json!({
        "type": "subscribe", "sub": "o", "group": topic, "topics": [topic], "ack": "auto",
        "offset_reset": "earliest", "commit_interval_ms": 100,
    });
    client.send(options).await;
    assigned(&mut client, 3).await;
    let all: BTreeSet<_> = client.records(2_100).await.iter().map(spot).collect();
    assert_eq!(all.len(), 2_100);
    for partition in 0..3 {
        committed(&plain, &topic, &topic, partition, 700).await;
    }
    client.bye().await;
}
