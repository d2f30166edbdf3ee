//! Topics and offsets against krafka's test broker.

use std::time::{Duration, Instant};

use krafka::Kafka;
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control, FakeBroker};

use super::{Admin, Isolation, NewTopic, OffsetQuery, OffsetSpec};
use crate::kafka::fault::FaultKind;

const BOUND: Duration = Duration::from_secs(60);

async fn started() -> (FakeBroker, Admin) {
    let broker = FakeBroker::start().await.expect("a broker");
    let kafka = broker.kafka().connect().await.expect("connected");
    (broker, Admin::new(kafka))
}

/// Writes one record with this timestamp.
async fn write(kafka: &Kafka, topic: &str, partition: i32, time: i64) {
    let producer = kafka.producer().build().await.expect("a producer");
    let _ = producer
        .send(
            krafka::Record::new(topic, "v")
                .partition(partition)
                .timestamp(time),
        )
        .await
        .expect("written");
    producer.close().await.expect("closed");
}

#[tokio::test]
async fn a_topic_is_created_once_and_then_exists() {
    let (broker, admin) = started().await;
    let topic = NewTopic {
        partitions: Some(3),
        replication: Some(1),
        configs: vec![("retention.ms".into(), "1000".into())],
        ..NewTopic::with_broker_defaults("orders")
    };
    admin
        .create_topic(&topic, false, BOUND)
        .await
        .expect("created");
    let partitions = broker.with_state(|state| state.topics["orders"].partitions.len());
    assert_eq!(partitions, 3);
    let fault = admin
        .create_topic(&topic, false, BOUND)
        .await
        .expect_err("it exists");
    assert_eq!(fault.kind, FaultKind::Exists);
    assert_eq!(fault.kafka_error, Some("TOPIC_ALREADY_EXISTS"));
}

#[tokio::test]
async fn numbers_that_make_no_sense_are_invalid() {
    let (_broker, admin) = started().await;
    let topic = NewTopic {
        partitions: Some(0),
        ..NewTopic::with_broker_defaults("orders")
    };
    let fault = admin
        .create_topic(&topic, false, BOUND)
        .await
        .expect_err("none");
    assert_eq!(fault.kind, FaultKind::Invalid);
}

#[tokio::test]
async fn many_positions_come_back_in_the_order_they_were_asked_for() {
    let (broker, admin) = started().await;
    broker.create_topic("t", 2);
    let kafka = broker.kafka().connect().await.expect("connected");
    for time in [1_000, 2_000, 3_000] {
        write(&kafka, "t", 0, time).await;
    }
    let wanted = [
        OffsetQuery::new("t", 0, OffsetSpec::Latest),
        OffsetQuery::new("t", 1, OffsetSpec::Latest),
        OffsetQuery::new("t", 0, OffsetSpec::Earliest),
        OffsetQuery::new("t", 0, OffsetSpec::At(1_500)),
        OffsetQuery::new("t", 1, OffsetSpec::At(1_500)),
        OffsetQuery::new("t", 0, OffsetSpec::At(0)),
        OffsetQuery::new("t", 0, OffsetSpec::At(i64::MIN)),
        OffsetQuery::new("t", 0, OffsetSpec::Latest),
    ];
    let started = Instant::now();
    let found = admin
        .list_offsets(&wanted, Isolation::Uncommitted, BOUND)
        .await;
    assert_eq!(
        found,
        [
            Ok(Some(3)),
            Ok(Some(0)),
            Ok(Some(0)),
            Ok(Some(1)),
            Ok(None),
            Ok(Some(0)),
            Ok(Some(0)),
            Ok(Some(3)),
        ]
    );
    assert!(
        started.elapsed() < BOUND / 2,
        "a time after the end is an answer, not a reason to ask again"
    );
    admin.close().await;
}

#[tokio::test]
async fn one_bad_partition_does_not_spoil_the_others() {
    let (broker, admin) = started().await;
    broker.create_topic("t", 1);
    let wanted = [
        OffsetQuery::new("t", 7, OffsetSpec::Latest),
        OffsetQuery::new("t", 0, OffsetSpec::Latest),
    ];
    let found = admin
        .list_offsets(&wanted, Isolation::Committed, BOUND)
        .await;
    assert_eq!(found[1], Ok(Some(0)));
    let fault = found[0].clone().expect_err("no such partition");
    assert!(fault.message.contains("Partition 7 of topic t"), "{fault}");
}

#[tokio::test]
async fn an_open_transaction_ends_what_is_committed() {
    let (broker, admin) = started().await;
    broker.create_topic("t", 1);
    let kafka = broker.kafka().connect().await.expect("connected");
    write(&kafka, "t", 0, 1_000).await;
    write(&kafka, "t", 0, 2_000).await;
    broker.with_state(|state| {
        let partition = state.partition_mut("t", 0).expect("a partition");
        partition.open_transactions.insert(1, 1);
    });
    let wanted = [OffsetQuery::new("t", 0, OffsetSpec::Latest)];
    for (isolation, end) in [(Isolation::Committed, 1), (Isolation::Uncommitted, 2)] {
        let found = admin.list_offsets(&wanted, isolation, BOUND).await;
        assert_eq!(found, [Ok(Some(end))], "{isolation:?}");
    }
}

#[tokio::test]
async fn a_lookup_by_time_survives_a_leader_that_moves() {
    let (broker, admin) = started().await;
    broker.create_topic("t", 1);
    broker.on_once(ApiKey::ListOffsets, |_| {
        Control::Error(ErrorCode::NotLeaderForPartition)
    });
    let wanted = [OffsetQuery::new("t", 0, OffsetSpec::At(5))];
    let found = admin
        .list_offsets(&wanted, Isolation::Committed, BOUND)
        .await;
    assert_eq!(found, [Ok(None)]);
    admin.close().await;
}

#[tokio::test]
async fn a_silent_broker_is_given_up_within_the_bound() {
    let (broker, admin) = started().await;
    broker.create_topic("t", 1);
    broker.on(ApiKey::ListOffsets, |_| Control::Silence);
    let bound = Duration::from_millis(400);
    let wanted = [
        OffsetQuery::new("t", 0, OffsetSpec::At(5)),
        OffsetQuery::new("t", 0, OffsetSpec::Latest),
    ];
    let started = Instant::now();
    let found = admin
        .list_offsets(&wanted, Isolation::Committed, bound)
        .await;
    assert!(started.elapsed() < bound + Duration::from_secs(20));
    for answer in found {
        let fault = answer.expect_err("no answer");
        assert_eq!(fault.kind, FaultKind::TimedOut, "{fault:?}");
        assert!(fault.retriable);
    }
}
