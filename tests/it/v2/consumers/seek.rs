//! Positions: reading on elsewhere.

use serde_json::json;

use super::{Consumer, created, numbers, refusal};
use crate::support::groups::{broker, fill, gateway, write};
use crate::support::kafka_client::OutgoingRecord;
use crate::support::topic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_goes_on_where_the_client_says() {
    let gateway = gateway().await;
    for by_hand in [false, true] {
        let name = created("v2-seek", 1).await;
        fill(gateway, &name, 0, 0..30).await;
        let consumer = Consumer::alone(gateway).await;
        let partition = json!({"partitions": [{"topic": name, "partition": 0}]});
        if by_hand {
            consumer.told("/assignments", &partition).await;
        } else {
            consumer.subscribe(&[&name]).await;
        }
        // Right after subscribing: the group may still be about to let it in.
        let offset = json!({"offsets": [
            {"topic": name, "partition": 0, "offset": 20, "metadata": "m"},
        ]});
        consumer.told("/positions", &offset).await;
        let some = consumer.read("timeout=20000&max_bytes=4").await;
        assert_eq!(numbers(&some), [20, 21]);
        // What was read ahead does not follow.
        consumer.told("/positions/beginning", &partition).await;
        let some = consumer.read("timeout=20000&max_bytes=2").await;
        assert_eq!(numbers(&some), [0, 1]);
        consumer.told("/positions/end", &partition).await;
        assert!(consumer.read("timeout=2000").await.is_empty());
        fill(gateway, &name, 0, 30..31).await;
        assert_eq!(numbers(&consumer.read_all(1).await), [30]);
        // No partitions are all of them.
        let all = json!({"partitions": []});
        consumer.told("/positions/beginning", &all).await;
        let some = consumer.read("timeout=20000&max_bytes=1").await;
        assert_eq!(numbers(&some), [0]);
        // Nothing was committed by all this.
        assert!(consumer.committed(&name, &[0]).await.is_empty());
        consumer.delete().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_seeks_to_a_timestamp() {
    let gateway = gateway().await;
    let name = created("v2-seek-time", 1).await;
    let at = |n: i64| 1_700_000_000_000_i64 + n * 1_000;
    let records: Vec<_> = (0..10)
        .map(|n| json!({"value": n, "timestamp": at(n)}))
        .collect();
    write(gateway, &name, json!(records)).await;
    let consumer = Consumer::of(gateway, &name).await;
    consumer.has(1).await;
    for (time, expected) in [
        (json!("2023-11-14T22:13:27Z"), 7),
        (json!(1_700_000_003), 3),
        (json!(1_700_000_003.5), 4),
    ] {
        let body = json!({"timestamps": [{"topic": name, "partition": 0, "timestamp": time}]});
        consumer.told("/positions", &body).await;
        let some = consumer.read("timeout=20000&max_bytes=1").await;
        assert_eq!(numbers(&some), [expected], "{time}");
    }
    // Later than all: the end, where Confluent REST Proxy fails.
    let body = json!({"timestamps": [
        {"topic": name, "partition": 0, "timestamp": "2100-01-01T00:00:00Z"},
    ]});
    consumer.told("/positions", &body).await;
    assert!(consumer.read("timeout=300").await.is_empty());
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_reads_on_after_deleted_records() {
    let gateway = gateway().await;
    for by_hand in [false, true] {
        let name = topic("v2-seek-gone");
        let plain = broker().await.plain();
        plain.create_topic(&name, 1, &[]).await;
        fill(gateway, &name, 0, 0..10).await;
        plain.delete_records(&name, 0, 6).await;
        let consumer = Consumer::alone(gateway).await;
        if by_hand {
            let partition = json!({"partitions": [{"topic": name, "partition": 0}]});
            consumer.told("/assignments", &partition).await;
        } else {
            consumer.subscribe(&[&name]).await;
            consumer.has(1).await;
        }
        let offset = json!({"offsets": [{"topic": name, "partition": 0, "offset": 2}]});
        consumer.told("/positions", &offset).await;
        assert_eq!(numbers(&consumer.read_all(4).await), [6, 7, 8, 9]);
        // Under the reader's feet, too.
        consumer
            .told("/positions/beginning", &json!({"partitions": []}))
            .await;
        fill(gateway, &name, 0, 10..12).await;
        plain.delete_records(&name, 0, 11).await;
        if by_hand {
            assert_eq!(numbers(&consumer.read_all(1).await), [11]);
        }
        consumer.delete().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_the_instance_does_not_have_has_no_position() {
    let gateway = gateway().await;
    let name = created("v2-seek-foreign", 1).await;
    let consumer = Consumer::alone(gateway).await;
    let partition = json!({"partitions": [{"topic": name, "partition": 0}]});
    let offset = json!({"offsets": [{"topic": name, "partition": 0, "offset": 2}]});
    for (path, body) in [
        ("/positions", &offset),
        ("/positions/beginning", &partition),
        ("/positions/end", &partition),
    ] {
        let reply = consumer.post(path, body).await;
        assert_eq!(refusal(&reply).1, 40903, "{path}");
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("Illegal state:"), "{message}");
    }
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_commits_by_itself_commits_where_it_begins() {
    let gateway = gateway().await;
    let plain = broker().await.plain();
    for by_hand in [false, true] {
        let name = created("v2-begins", 2).await;
        for partition in 0..2 {
            fill(gateway, &name, partition, 0..3).await;
        }
        let group = topic("v2-begins-group");
        let latest = json!({"format": "json", "consumer.request.timeout.ms": 50_000});
        let begin = async |consumer: &Consumer, count: usize| {
            if by_hand {
                let at = |partition: i32| json!({"topic": name, "partition": partition});
                let partitions = json!({"partitions": [at(0), at(1)]});
                consumer.told("/assignments", &partitions).await;
            } else {
                consumer.subscribe(&[&name]).await;
                consumer.has(count).await;
            }
            for partition in 0..2 {
                let committed = plain.committed(&group, &name, partition).await;
                assert_eq!(committed, Some(3), "by hand: {by_hand}");
            }
        };
        let first = Consumer::make(gateway, &group, &latest).await;
        begin(&first, 2).await;
        for partition in 0..2 {
            fill(gateway, &name, partition, 3..5).await;
        }
        assert!(!first.read("timeout=20000").await.is_empty());

        // Its client has the records, and does not come back for more.
        let next = Consumer::make(gateway, &group, &latest).await;
        begin(&next, 1).await;
        let count = if by_hand { 4 } else { 2 };
        let mut values = numbers(&next.read_all(count).await);
        values.sort_unstable();
        values.dedup();
        assert_eq!(values, [3, 4], "by hand: {by_hand}");
        first.delete().await;
        next.delete().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_appears_under_a_subscription_is_read_from_its_beginning() {
    let gateway = gateway().await;
    let plain = broker().await.plain();
    let (name, later) = (created("v2-appears", 1).await, topic("v2-appears-later"));
    fill(gateway, &name, 0, 0..3).await;
    let group = topic("v2-appears-group");
    let consumer = Consumer::make(
        gateway,
        &group,
        &json!({
            "format": "json", "auto.commit.enable": "false", "consumer.request.timeout.ms": 50_000,
        }),
    )
    .await;
    consumer.subscribe(&[&name, &later]).await;
    consumer.has(1).await;

    plain.add_partitions(&name, 3).await;
    plain.create_topic(&later, 1, &[]).await;
    // It has known nothing of these.
    let writer = broker().await.plain();
    for (topic, partition) in [(&name, 1), (&name, 2), (&later, 0)] {
        let value = partition.to_string();
        let record = OutgoingRecord {
            topic,
            partition: Some(partition),
            value: Some(value.as_bytes()),
            ..OutgoingRecord::default()
        };
        writer.produce(record).await;
    }

    let mut values = numbers(&consumer.read_all(3).await);
    values.sort_unstable();
    assert_eq!(values, [0, 1, 2]);
    for (topic, partition) in [(&name, 0), (&name, 1), (&name, 2), (&later, 0)] {
        assert_eq!(plain.committed(&group, topic, partition).await, None);
    }
    consumer.delete().await;
}
