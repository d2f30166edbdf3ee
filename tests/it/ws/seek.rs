//! Where a subscription starts, and where it is told to go on, on a real Kafka.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::groups::{broker, committed, fill, gateway};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::topic;
use crate::support::ws::{Client, offsets, tags};

/// The error that comes with, after, or instead of an answer.
async fn error_of(client: &mut Client, frame: Value) -> Value {
    let answer = client.ask(frame).await;
    match answer["type"].as_str() {
        Some("error") => answer,
        _ => client.until("error").await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_from_before_a_seek_comes_after_it() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-seek");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..3_000).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"offset_reset": "earliest", "commit_interval_ms": 100});
    client.subscribe(&topic, &topic, options).await;
    let before = client.records(500).await;
    client.ack(&tags(&before)[..50]).await;
    committed(&plain, &topic, &topic, 0, 50).await;
    // Kafka knows a moment before the gateway does, which this waits for.
    let done = client
        .ask(json!({"type": "commit", "sub": "o", "id": 0}))
        .await;
    assert_eq!(done["type"], "committed");
    // The window is full again when it goes.
    let mut last = before;
    last.extend(client.records(50).await);
    let to = json!([{"topic": topic, "partition": 0, "offset": 2_000}]);
    client
        .send(json!({"type": "seek", "sub": "o", "id": 1, "positions": to}))
        .await;
    let mut passed = Vec::new();
    loop {
        let frame = client.next().await;
        match frame["type"].as_str() {
            Some("seeked") => {
                assert_eq!(frame["positions"][0]["offset"], 2_000);
                break;
            }
            _ => passed.push(frame),
        }
    }
    let revoked = passed
        .iter()
        .find(|frame| frame["type"] == "revoked")
        .unwrap();
    assert_eq!(revoked["reason"], "seek");
    assert_eq!(revoked["partitions"][0]["unacked"], 500);
    let after = client.records(500).await;
    assert_eq!(offsets(&after), (2_000..2_500).collect::<Vec<_>>());
    let ack = json!({"type": "ack", "sub": "o", "id": 2, "tags": tags(&last)[60..70]});
    let stale = error_of(&mut client, ack).await;
    assert_eq!(
        (&stale["code"], &stale["committed"]),
        (&json!("ack_stale"), &json!(50))
    );
    // A seek commits nothing by itself; what is acknowledged after it does.
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(50));
    client.ack(&tags(&after)[..1]).await;
    committed(&plain, &topic, &topic, 0, 2_001).await;
    let back = json!([{"topic": topic, "partition": 0, "offset": 10}]);
    let seeked = client
        .ask(json!({"type": "seek", "sub": "o", "id": 3, "positions": back}))
        .await;
    assert_eq!(seeked["positions"][0]["offset"], 10);
    client
        .until_such("records from 10", |frame| {
            frame["type"] == "records" && frame["records"][0]["offset"] == 10
        })
        .await;
    let moved = client
        .ask(json!({"type": "commit", "sub": "o", "id": 4}))
        .await;
    assert_eq!(moved["type"], "committed");
    assert_eq!(moved["positions"][0]["offset"], 10);
    assert_eq!(plain.committed(&topic, &topic, 0).await, Some(10));
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_behind_a_seek_commits_where_the_next_record_will_be_read() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-seek-commit");
    plain.create_topic(&topic, 2, &[]).await;
    for partition in 0..2 {
        fill(gateway, &topic, partition, 0..20).await;
    }
    let mut client = Client::welcomed(gateway).await;
    client
        .subscribe(&topic, &topic, json!({"offset_reset": "earliest"}))
        .await;
    let records = client.records(40).await;
    client.ack(&tags(&records)).await;
    // Forward and back, with what follows waiting for `seeked` and not.
    for (id, to) in [(1, 15), (2, 3), (3, 20), (4, 0)] {
        let positions = json!([{"topic": topic, "partition": 0, "offset": to}]);
        let seek = json!({"type": "seek", "sub": "o", "id": id, "positions": positions});
        let commit = json!({"type": "commit", "sub": "o", "id": "commit"});
        if id % 2 == 0 {
            client.ask(seek).await;
            client.send(commit).await;
        } else {
            client
                .send_texts([seek.to_string(), commit.to_string()])
                .await;
        }
        let committed = client.answer("commit").await;
        assert_eq!(committed["type"], "committed", "{committed}");
        for at in committed["positions"].as_array().unwrap() {
            let partition = i32::try_from(at["partition"].as_i64().unwrap()).unwrap();
            let has = plain.committed(&topic, &topic, partition).await;
            assert_eq!(at["offset"].as_i64(), has, "{committed}");
        }
        assert_eq!(plain.committed(&topic, &topic, 0).await, Some(to));
        assert_eq!(plain.committed(&topic, &topic, 1).await, Some(20));
    }
    // The last frames of a script that sets a group back.
    let positions = json!([{"topic": topic, "partition": 1, "offset": "beginning"}]);
    let last = [
        json!({"type": "seek", "sub": "o", "positions": positions}),
        json!({"type": "commit", "sub": "o"}),
        json!({"type": "bye"}),
    ];
    client.send_texts(last.map(|frame| frame.to_string())).await;
    assert_eq!(client.closed().await.code, Some(1000));
    for partition in 0..2 {
        assert_eq!(plain.committed(&topic, &topic, partition).await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seek_goes_to_any_kind_of_place() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-places");
    plain.create_topic(&topic, 2, &[]).await;
    for n in 0..10 {
        let record = OutgoingRecord {
            topic: &topic,
            partition: Some(0),
            value: Some(b"1"),
            timestamp: Some(1_700_000_000_000 + n * 1_000),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    plain.delete_records(&topic, 0, 2).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({"offset_reset": "earliest", "commit_interval_ms": 100});
    client.subscribe(&topic, &topic, options).await;
    let records = client.records(8).await;
    client.ack(&tags(&records)[..3]).await;
    committed(&plain, &topic, &topic, 0, 5).await;
    let places = [
        (json!({"offset": 7}), 7),
        (json!({"offset": "beginning"}), 2),
        (json!({"offset": "end"}), 10),
        (json!({"offset": "committed"}), 5),
        (json!({"timestamp": 1_700_000_003_500_i64}), 4),
        (json!({"timestamp": 4_000_000_000_000_i64}), 10),
        (json!({"timestamp": "2023-11-14T22:13:23.500Z"}), 4),
        (json!({"timestamp": "2023-11-14T23:13:26+01:00"}), 6),
        // Below the log is its beginning, and above it its end.
        (json!({"offset": 0}), 2),
        (json!({"offset": 1_000}), 10),
    ];
    for (n, (mut place, expected)) in places.into_iter().enumerate() {
        place["topic"] = topic.clone().into();
        place["partition"] = 0.into();
        let seek = json!({"type": "seek", "sub": "o", "id": n, "positions": [place]});
        let seeked = client.ask(seek).await;
        assert_eq!(seeked["type"], "seeked", "{seeked}");
        assert_eq!(seeked["positions"][0]["offset"], expected, "{place}");
        if expected < 10 {
            let comes = |frame: &Value| {
                frame["type"] == "records" && frame["records"][0]["offset"] == expected
            };
            client.until_such("the record there", comes).await;
        }
    }
    let own = json!({"topic": topic, "partition": 0});
    let foreign = json!({"topic": topic, "partition": 9});
    let with = |at: &Value, offset: Value| {
        let mut at = at.clone();
        at["offset"] = offset;
        at
    };
    for (frame, code, field) in [
        (
            json!({"type": "seek", "positions": [with(&own, 1.into()), with(&foreign, 1.into())]}),
            "not_assigned",
            "positions[1]",
        ),
        (
            json!({"type": "pause", "partitions": [foreign]}),
            "not_assigned",
            "partitions[0]",
        ),
        (
            json!({"type": "resume", "partitions": [own, foreign]}),
            "not_assigned",
            "partitions[1]",
        ),
        (
            json!({"type": "commit", "positions": [with(&foreign, 1.into())]}),
            "not_assigned",
            "positions[0]",
        ),
        (
            json!({"type": "ack", "upto": [with(&foreign, 1.into())]}),
            "not_assigned",
            "upto",
        ),
        (
            json!({"type": "seek", "positions": [with(&own, (-1).into())]}),
            "invalid_frame",
            "positions[0].offset",
        ),
        (
            json!({"type": "commit", "positions": [with(&own, 1_000.into())]}),
            "invalid_frame",
            "positions[0].offset",
        ),
        // Seconds since 1970, where milliseconds are meant.
        (
            json!({"type": "seek", "positions": [
                {"topic": topic, "partition": 0, "timestamp": 1_700_000_000}
            ]}),
            "invalid_frame",
            "positions[0].timestamp",
        ),
    ] {
        let mut frame = frame;
        frame["sub"] = "o".into();
        frame["id"] = "wrong".into();
        let shown = frame.to_string();
        let error = error_of(&mut client, frame).await;
        assert_eq!(
            (&error["code"], &error["field"]),
            (&json!(code), &json!(field)),
            "{shown}"
        );
    }
    let from = json!({"timestamp": 1_700_000_000});
    let error = error_of(
        &mut client,
        json!({"type": "subscribe", "id": "s", "sub": "s", "topics": [topic], "group": "s", "from": from}),
    )
    .await;
    assert_eq!(
        (&error["code"], &error["field"]),
        (&json!("invalid_subscription"), &json!("from.timestamp"))
    );
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_partition_is_silent_until_it_is_resumed() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-pause");
    plain.create_topic(&topic, 2, &[]).await;
    let mut client = Client::welcomed(gateway).await;
    let mut given = client
        .subscribe(&topic, &topic, json!({"offset_reset": "earliest"}))
        .await;
    while given["assignment"].as_array().unwrap().len() < 2 {
        given = client.until("assigned").await;
    }
    let first = json!([{"topic": topic, "partition": 0}]);
    let paused = client
        .ask(json!({"type": "pause", "sub": "o", "id": 1, "partitions": first}))
        .await;
    assert_eq!(paused["paused"], first);
    for partition in 0..2 {
        fill(gateway, &topic, partition, 0..3).await;
    }
    let records = client.records(3).await;
    assert!(records.iter().all(|record| record["partition"] == 1));
    client.silent(Duration::from_millis(700)).await;
    let resumed = client
        .ask(json!({"type": "resume", "sub": "o", "id": 2}))
        .await;
    assert_eq!(resumed["paused"], json!([]));
    let records = client.records(3).await;
    assert!(records.iter().all(|record| record["partition"] == 0));
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_from_a_paused_session_is_said_before_the_jump() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-retention");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..10).await;
    let mut client = Client::welcomed(gateway).await;
    let options = json!({
        "offset_reset": "earliest", "flow": {"records": 10_000}, "commit_interval_ms": 100,
    });
    client.subscribe(&topic, &topic, options).await;
    client.records(10).await;
    client
        .ask(json!({"type": "pause", "sub": "o", "id": 1}))
        .await;
    // More than a session keeps.
    fill(gateway, &topic, 0, 10..9_000).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    plain.delete_records(&topic, 0, 8_990).await;
    client
        .ask(json!({"type": "resume", "sub": "o", "id": 2}))
        .await;
    let mut next = 10;
    let mut gap = None;
    let mut tags_of = Vec::new();
    while next < 9_000 {
        let frame = client.next().await;
        match frame["type"].as_str() {
            Some("gap") => {
                assert!(gap.is_none(), "{frame}");
                assert_eq!(
                    (&frame["reason"], &frame["partition"]),
                    (&json!("retention"), &json!(0))
                );
                let of = |name: &str| frame[name].as_i64().unwrap();
                gap = Some((of("from"), of("to")));
            }
            Some("records") => {
                let records = frame["records"].as_array().unwrap();
                tags_of.extend(tags(records));
                for offset in offsets(records) {
                    if let Some((from, to)) = gap
                        && next == from
                    {
                        next = to;
                    }
                    assert_eq!(offset, next);
                    next += 1;
                }
            }
            _ => {}
        }
    }
    let (from, to) = gap.expect("a gap was said");
    assert!((10..8_990).contains(&from) && to == 8_990, "{from} {to}");
    // What is gone does not hold the commit.
    client
        .ack(&(1..=10).chain(tags_of).collect::<Vec<_>>())
        .await;
    committed(&plain, &topic, &topic, 0, 9_000).await;
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_starts_where_it_was_told_to() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-from");
    plain.create_topic(&topic, 1, &[]).await;
    for n in 0..10 {
        let record = OutgoingRecord {
            topic: &topic,
            partition: Some(0),
            value: Some(b"1"),
            timestamp: Some(1_700_000_000_000 + n * 1_000),
            ..OutgoingRecord::default()
        };
        plain.produce(record).await;
    }
    let at = |offset: i64| json!([{"topic": topic, "partition": 0, "offset": offset}]);
    let cases = [
        (json!({}), None, 10),
        (json!({"offset_reset": "earliest"}), None, 0),
        (
            json!({"from": "committed", "offset_reset": "earliest"}),
            Some(4),
            4,
        ),
        (json!({"from": "earliest"}), None, 0),
        (
            json!({"from": "earliest", "offset_reset": "earliest"}),
            Some(4),
            4,
        ),
        (json!({"from": "latest"}), None, 10),
        (json!({"from": "latest"}), Some(4), 4),
        (
            json!({"from": {"timestamp": 1_700_000_005_500_i64}}),
            None,
            6,
        ),
        (
            json!({"from": {"timestamp": 1_700_000_005_500_i64}}),
            Some(4),
            4,
        ),
        (json!({"from": at(3)}), None, 3),
        (json!({"from": at(3)}), Some(4), 4),
        (
            json!({"from": at(300), "offset_reset": "earliest"}),
            None,
            10,
        ),
        // Of a partition that is not named.
        (json!({"from": []}), Some(4), 4),
        (json!({"from": [], "offset_reset": "earliest"}), None, 0),
        (json!({"offset_reset": "error"}), Some(4), 4),
    ];
    for (n, (options, commit, expected)) in cases.into_iter().enumerate() {
        let group = format!("{topic}-{n}");
        if let Some(offset) = commit {
            plain.commit(&group, &topic, 0, offset).await;
        }
        let mut client = Client::welcomed(gateway).await;
        let assigned = client.subscribe(&group, &topic, options.clone()).await;
        let partition = &assigned["partitions"][0];
        assert_eq!(partition["start"], expected, "{options}");
        assert_eq!(partition["committed"], expected, "{options}");
        let now = plain.committed(&group, &topic, 0).await;
        assert_eq!(now, Some(expected), "{options}");
        if expected < 10 {
            assert_eq!(client.records(1).await[0]["offset"], expected, "{options}");
        }
        client.bye().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_to_start_the_subscription_ends() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-nowhere");
    plain.create_topic(&topic, 1, &[]).await;
    fill(gateway, &topic, 0, 0..3).await;
    let mut client = Client::welcomed(gateway).await;
    let subscribe = json!({
        "type": "subscribe", "id": 1, "sub": "o", "group": topic, "topics": [topic],
        "offset_reset": "error",
    });
    assert_eq!(client.ask(subscribe).await["type"], "subscribed");
    let error = client.until("error").await;
    assert_eq!(
        (&error["sub"], &error["code"]),
        (&json!("o"), &json!("kafka_error"))
    );
    assert_eq!(error["kafka_error"], "OFFSET_OUT_OF_RANGE");
    // The session goes on, and can subscribe in another way.
    client
        .subscribe(&topic, &topic, json!({"offset_reset": "earliest"}))
        .await;
    assert_eq!(client.records(3).await.len(), 3);
    client.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_open_is_not_begun_twice() {
    let (gateway, plain) = (gateway().await, broker().await.plain());
    let topic = topic("ws-ids");
    plain.create_topic(&topic, 1, &[]).await;
    let mut client = Client::welcomed(gateway).await;
    let produce =
        |n: i64| json!({"type": "produce", "id": "one", "topic": topic, "records": [{"value": n}]});
    client.send(produce(1)).await;
    client.send(produce(2)).await;
    let mut answers = vec![client.answer("one").await, client.answer("one").await];
    answers.sort_by_key(|answer| answer["type"] == "produced");
    if answers[0]["type"] == "error" {
        assert_eq!(answers[0]["code"], "duplicate_id");
    } else {
        assert!(
            answers.iter().any(|answer| answer["duplicate"] == true),
            "{answers:?}"
        );
    }
    assert_eq!(answers[1]["results"][0]["offset"], 0);
    let again = client.ask(produce(3)).await;
    assert_eq!(
        (&again["duplicate"], &again["results"][0]["offset"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(plain.consume_all(&topic).await.len(), 1);
    client.bye().await;
}
