//! That the tools of the tests do what they say, against a real Kafka. Who can trust a test whose
//! pause does not pause?

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::kafka_client::{Isolation, OutgoingRecord, StoredRecord};
use crate::support::{eventually, kafka, topic};

fn texts(records: &[StoredRecord]) -> Vec<&str> {
    records.iter().filter_map(StoredRecord::text).collect()
}

fn outgoing<'a>(topic: &'a str, value: &'a str) -> OutgoingRecord<'a> {
    OutgoingRecord {
        topic,
        value: Some(value.as_bytes()),
        ..OutgoingRecord::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_comes_back_as_it_was_written() {
    let plain = kafka().await.plain();
    let topic = topic("orders");
    plain.create_topic(&topic, 3, &[]).await;

    let headers: [(&str, Option<&[u8]>); 3] = [
        ("source", Some(b"test")),
        ("empty", None),
        ("source", Some(b"again")),
    ];
    let at = plain
        .produce(OutgoingRecord {
            topic: &topic,
            partition: Some(2),
            key: Some(b"c-17"),
            value: Some(b"{\"total\":12345678901234567890}"),
            headers: &headers,
            timestamp: Some(1_700_000_000_000),
        })
        .await;
    let tombstone = OutgoingRecord {
        topic: &topic,
        partition: Some(2),
        key: Some(b"c-17"),
        ..OutgoingRecord::default()
    };
    plain.produce(tombstone).await;

    assert_eq!(at, (2, 0));
    let records = plain.consume_all(&topic).await;
    let expected = StoredRecord {
        partition: 2,
        offset: 0,
        key: Some(b"c-17".to_vec()),
        value: Some(b"{\"total\":12345678901234567890}".to_vec()),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
            .to_vec(),
        timestamp: Some(1_700_000_000_000),
    };
    assert_eq!(records[0], expected);
    assert_eq!((records[1].offset, &records[1].value), (1, &None));
    assert_eq!(records.len(), 2);
    assert_eq!(plain.watermarks(&topic, 2).await, (0, 2));
    assert_eq!(plain.watermarks(&topic, 0).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_can_be_arranged() {
    let plain = kafka().await.plain();
    let topic = topic("arranged");
    plain
        .create_topic(&topic, 1, &[("cleanup.policy", "compact")])
        .await;
    // A compacted topic refuses a record without a key; a plain one takes it.
    plain
        .set_topic_configs(&topic, &[("retention.ms", "-1")])
        .await;
    for value in ["a", "b", "c"] {
        plain.produce(outgoing(&topic, value)).await;
    }

    plain.delete_records(&topic, 0, 2).await;
    assert_eq!(plain.watermarks(&topic, 0).await, (2, 3));
    assert_eq!(texts(&plain.consume_all(&topic).await), ["c"]);

    plain.add_partitions(&topic, 2).await;
    assert_eq!(plain.watermarks(&topic, 1).await, (0, 0));

    assert_eq!(plain.committed("arrangers", &topic, 0).await, None);
    plain.commit("arrangers", &topic, 0, 3).await;
    assert_eq!(plain.committed("arrangers", &topic, 0).await, Some(3));

    plain.delete_topic(&topic).await;
    eventually(Duration::from_secs(60), async || {
        plain.leader(&topic, 0).await.is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_end_as_told() {
    let plain = kafka().await.plain();
    let topic = topic("transactions");
    plain.create_topic(&topic, 1, &[]).await;

    let aborted = plain.transaction(&topic).await;
    aborted.produce(outgoing(&topic, "aborted")).await;
    aborted.abort().await;
    let committed = plain.transaction(&topic).await;
    committed.produce(outgoing(&topic, "committed")).await;
    assert!(plain.consume_all(&topic).await.is_empty(), "still open");
    committed.commit().await;

    eventually(Duration::from_secs(60), async || {
        texts(&plain.consume_all(&topic).await) == ["committed"]
    })
    .await;
    let all = plain
        .consume_all_as(&topic, Isolation::ReadUncommitted)
        .await;
    assert_eq!(texts(&all), ["aborted", "committed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_can_be_paused_killed_stopped_and_restarted() {
    let broker = Broker::builder().fast_groups().start().await;
    let plain = broker.plain();
    plain.create_topic("kept", 1, &[]).await;
    plain.produce(outgoing("kept", "before")).await;

    broker.pause();
    let while_paused = plain.produce(outgoing("kept", "while paused"));
    tokio::pin!(while_paused);
    let answer = tokio::time::timeout(Duration::from_millis(500), &mut while_paused).await;
    assert!(answer.is_err(), "a paused broker answered");
    broker.resume();
    assert_eq!(while_paused.await, (0, 1));

    let address = broker.bootstrap();
    broker.kill();
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    broker.restart().await;
    plain.produce(outgoing("kept", "after the kill")).await;

    broker.stop().await;
    assert!(broker.node(1).log().contains("shut down"));
    broker.restart().await;
    assert_eq!(broker.bootstrap(), address);
    let records = plain.consume_all("kept").await;
    assert_eq!(
        texts(&records),
        ["before", "while paused", "after the kill"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_created_by_use_only_where_that_was_asked_for() {
    let broker = Broker::builder().auto_create_topics().start().await;
    broker.plain().produce(outgoing("made-by-use", "x")).await;
    assert_eq!(broker.plain().watermarks("made-by-use", 0).await, (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_moves_when_its_node_dies_and_comes_back() {
    let broker = Broker::builder().nodes(3).start().await;
    let plain = broker.plain();
    plain
        .create_topic("moving", 1, &[("min.insync.replicas", "2")])
        .await;
    plain.produce(outgoing("moving", "before")).await;
    let first = plain.leader("moving", 0).await.unwrap();

    let dead = broker.node(u32::try_from(first).unwrap());
    dead.kill();
    eventually(Duration::from_secs(60), async || {
        plain
            .leader("moving", 0)
            .await
            .is_some_and(|now| now != first)
    })
    .await;
    plain.produce(outgoing("moving", "after")).await;

    dead.restart().await;
    // How far the replicas are is known to a new leader only when they have asked it.
    eventually(Duration::from_secs(60), async || {
        texts(&plain.consume_all("moving").await) == ["before", "after"]
    })
    .await;
}
