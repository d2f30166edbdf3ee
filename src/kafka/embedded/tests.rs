//! The broker's account of its memory, and what two libraries can do with it.

use std::time::Duration;

use krafka::testing::{ClusterState, FakeBroker};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::usage::{Tally, Usage};
use super::{Embedded, random_id};
use crate::config::{KafkaSettings, LimitSettings, Properties};
use crate::kafka::admin::{Admin, Isolation, OffsetQuery, OffsetSpec};
use crate::kafka::client::{self, Clients, Role};
use crate::kafka::fault::FaultKind;
use crate::kafka::metadata::{Metadata, MetadataOptions};

const SECOND: Duration = Duration::from_secs(1);

async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + 60 * SECOND;
    while !condition() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited 60 s in vain"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn producer(embedded: &Embedded, extra: &[(&str, &str)]) -> FutureProducer {
    let mut settings = embedded.settings(&KafkaSettings::default());
    settings.producer = extra
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect::<Properties>();
    client::librdkafka(&settings, &LimitSettings::default(), Role::Producer)
        .create()
        .expect("a producer")
}

async fn metadata(embedded: &Embedded, auto_create: bool) -> (Admin, Metadata) {
    let settings = embedded.settings(&KafkaSettings::default());
    let admin = Admin::new(
        client::krafka(&Clients::new(settings), Role::Admin)
            .await
            .expect("connected"),
    );
    let metadata = Metadata::new(
        admin.clone(),
        MetadataOptions {
            auto_create,
            cluster_id: Some(embedded.cluster_id().clone()),
            ..MetadataOptions::default()
        },
    );
    (admin, metadata)
}

async fn send(producer: &FutureProducer, topic: &str, value: &[u8]) -> Result<i64, String> {
    producer
        .send(
            FutureRecord::<(), [u8]>::to(topic).payload(value),
            60 * SECOND,
        )
        .await
        .map(|delivery| delivery.offset)
        .map_err(|(error, _)| error.to_string())
}

#[test]
fn what_is_admitted_counts_at_once_and_only_until_it_was_counted() {
    let usage = Usage::new(100);
    usage.admit(60).expect("room");
    assert_eq!(usage.used(), 60);
    let fault = usage.admit(41).expect_err("no room");
    assert_eq!(fault.kind, FaultKind::StorageFull);
    assert!(!fault.retriable, "only a deletion makes room");
    assert_eq!(usage.used(), 60, "what was refused does not count");
    // Still on its way at the first count, in the log at the second.
    usage.counted(0, 0);
    assert_eq!(usage.used(), 60);
    usage.counted(70, 60);
    assert_eq!(usage.used(), 70);
    usage.admit(30).expect("room");
    assert!(usage.is_full());
}

#[tokio::test]
async fn the_tally_follows_growth_deletion_and_a_new_topic_of_the_same_name() {
    let broker = FakeBroker::start_in_memory(1);
    let mut tally = Tally::default();
    let grow = |topic: &'static str, bytes: usize| {
        broker.with_state(|state: &mut ClusterState| {
            let partition = state.partition_mut(topic, 0).expect("a partition");
            partition.log.push(vec![0; bytes].into());
        });
    };
    broker.create_topic("a", 2);
    grow("a", 1_000);
    assert_eq!(broker.with_state(|state| tally.count(state)), 1_096);
    grow("a", 10);
    broker.create_topic("b", 1);
    grow("b", 100);
    assert_eq!(
        broker.with_state(|state| tally.count(state)),
        1_096 + 106 + 196
    );
    broker.delete_topic("a");
    broker.create_topic("a", 1);
    grow("a", 1);
    assert_eq!(broker.with_state(|state| tally.count(state)), 196 + 97);
    broker.delete_topic("a");
    broker.delete_topic("b");
    assert_eq!(broker.with_state(|state| tally.count(state)), 0);
}

#[test]
fn each_start_has_an_id_of_its_own() {
    let one = random_id();
    assert_eq!(one.len(), 22);
    assert_ne!(one, random_id());
}

#[tokio::test]
async fn writes_past_the_gateway_are_counted_and_end_at_the_cap() {
    let embedded = Embedded::start(100_000).await.expect("a broker");
    let (_admin, metadata) = metadata(&embedded, true).await;
    metadata.ensure_topic("t").await.expect("created");
    let producer = producer(&embedded, &[]);
    send(&producer, "t", &[1; 60_000]).await.expect("written");
    until(|| embedded.used_bytes() > 60_000).await;
    assert!(embedded.used_bytes() < 62_000);
    let fault = embedded.admit(60_000).expect_err("no room");
    assert_eq!(fault.kind, FaultKind::StorageFull);
    send(&producer, "t", &[1; 60_000]).await.expect("one more");
    until(|| embedded.used_bytes() > 120_000).await;
    let error = send(&producer, "t", &[1; 10]).await.expect_err("full");
    assert!(error.contains("PolicyViolation"), "{error}");
}

#[tokio::test]
async fn the_cluster_is_described_without_the_apis_that_the_broker_lacks() {
    let embedded = Embedded::start(1 << 20).await.expect("a broker");
    let (admin, metadata) = metadata(&embedded, false).await;
    let cluster = metadata.cluster().await.expect("a cluster");
    assert_eq!(cluster.id.as_ref(), Some(embedded.cluster_id()));
    assert_eq!(cluster.brokers.len(), 1);
    assert_eq!(
        format!("{}:{}", cluster.brokers[0].host, cluster.brokers[0].port),
        embedded.bootstrap_servers()
    );
    let fault = admin
        .topic_configs("t", 60 * SECOND)
        .await
        .expect_err("not offered");
    assert_eq!(fault.kind, FaultKind::Unsupported, "{fault:?}");
}

#[tokio::test]
async fn what_librdkafka_writes_krafka_reads_whole() {
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let embedded = Embedded::start(1 << 20).await.expect("a broker");
        let (admin, metadata) = metadata(&embedded, true).await;
        metadata.ensure_topic("t").await.expect("created");
        let producer = producer(&embedded, &[("compression.type", compression)]);
        let value = vec![b'v'; 5_000];
        for time in [1_000, 2_000] {
            let headers = OwnedHeaders::new()
                .insert(Header {
                    key: "h",
                    value: Some("1"),
                })
                .insert(Header::<&str> {
                    key: "h",
                    value: None,
                });
            producer
                .send(
                    FutureRecord::to("t")
                        .key("k")
                        .payload(&value)
                        .timestamp(time)
                        .headers(headers),
                    60 * SECOND,
                )
                .await
                .map_err(|(error, _)| error)
                .expect("written");
        }
        let settings = embedded.settings(&KafkaSettings::default());
        let kafka = client::krafka(&Clients::new(settings), Role::Reader)
            .await
            .expect("connected");
        let consumer = kafka
            .consumer_without_group()
            .metrics_push(false)
            .build()
            .await
            .expect("a consumer");
        consumer.assign("t", vec![0]).await.expect("assigned");
        consumer.seek("t", 0, 0).await.expect("sought");
        let mut records = Vec::new();
        while records.len() < 2 {
            records.extend(consumer.poll(60 * SECOND).await.expect("records"));
        }
        consumer.close().await.expect("closed");
        assert_eq!(
            records[1].value.as_deref(),
            Some(value.as_slice()),
            "{compression}"
        );
        assert_eq!(records[1].timestamp, 2_000, "{compression}");
        assert_eq!(records[1].headers.len(), 2, "{compression}");
        assert_eq!(records[1].headers[1].1, None, "{compression}");
        let wanted = [
            OffsetQuery::new("t", 0, OffsetSpec::At(1_500)),
            OffsetQuery::new("t", 0, OffsetSpec::At(2_001)),
        ];
        let found = admin
            .list_offsets(&wanted, Isolation::Committed, 60 * SECOND)
            .await;
        assert_eq!(found, [Ok(Some(1)), Ok(None)], "{compression}");
        admin.close().await;
    }
}
