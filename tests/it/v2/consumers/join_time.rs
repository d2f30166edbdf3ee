//! How long the group takes to let an instance in, or to let it go, and what its client sees of that.

use std::time::Duration;

use krafka::testing::{ApiKey, Control};
use serde_json::json;
use tokio::time::Instant;

use super::{BOUND, Consumer, created, from_earliest, numbers, refusal};
use crate::support::broker::Broker;
use crate::support::fault::FaultBroker;
use crate::support::gateway::Gateway;
use crate::support::groups::{fill, gateway};
use crate::support::{eventually, kafka, shared_gateway, topic};

/// Groups of this broker rebalance as they do by default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_read_of_an_instance_that_is_made_again_has_its_records() {
    let gateway = shared_gateway().await;
    let name = topic("v2-made-again");
    kafka().await.plain().create_topic(&name, 1, &[]).await;
    let group = topic("v2-made-again-group");
    // Less time than the group may take to let it in.
    let body = json!({
        "name": "one", "format": "json", "auto.offset.reset": "earliest",
        "auto.commit.enable": "false", "consumer.request.timeout.ms": 2_000,
    });
    for n in 0..6 {
        fill(gateway, &name, 0, n..n + 1).await;
        let consumer = Consumer::make(gateway, &group, &body).await;
        consumer.subscribe(&[&name]).await;
        let begun = Instant::now();
        let mut records = consumer.read("").await;
        if records.is_empty() {
            // On a machine that is swamped the group takes longer than a read waits for it.
            let waited = begun.elapsed();
            assert!(waited >= Duration::from_secs(5), "round {n}: {waited:?}");
            records = consumer.read_all(1).await;
        }
        assert_eq!(numbers(&records), [n], "round {n}");
        consumer.commit().await;
        consumer.delete().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: two brokers and a controller, one of them killed"]
async fn a_read_says_that_the_groups_coordinator_is_away() {
    let cluster = Broker::builder()
        .nodes(2)
        .fast_groups()
        .property("offsets.topic.replication.factor", "1")
        .property("offsets.topic.num.partitions", "1")
        .start()
        .await;
    let plain = cluster.plain();
    // The group's coordinator comes into being with the first commit.
    plain.create_topic("any", 1, &[]).await;
    plain.commit("any", "any", 0, 0).await;
    let coordinator = plain.leader("__consumer_offsets", 0).await.unwrap();
    let name = topic("v2-no-coordinator");
    plain.create_topic_on(&name, &[3 - coordinator], &[]).await;
    let gateway = Gateway::builder(&cluster.bootstrap())
        .set("kafka.metadata_timeout_ms", "30000")
        .start()
        .await;
    fill(&gateway, &name, 0, 0..3).await;
    let node = cluster.node(u32::try_from(coordinator).unwrap());
    node.kill();
    let consumer = Consumer::alone(&gateway).await;
    consumer.subscribe(&[&name]).await;

    // At first the broker itself may be what cannot be reached; that, too, is told.
    eventually(BOUND * 2, async || {
        let reply = consumer.get("/records?timeout=500").await;
        if reply.status == 200 {
            assert_eq!(reply.text(), "[]");
            return false;
        }
        assert_eq!(
            refusal(&reply),
            (503, 50302, String::new()),
            "{}",
            reply.text()
        );
        assert!(!reply.header("retry-after").is_empty());
        let body = reply.json();
        body["kafka_error"] == "COORDINATOR_NOT_AVAILABLE"
            && body["message"]
                .as_str()
                .unwrap()
                .contains("has not let the instance in")
    })
    .await;
    // As soon as there is one again, the records come.
    node.restart().await;
    let seen = consumer.read_until(500, |seen| seen.len() >= 3).await;
    assert_eq!(seen, [0, 1, 2]);
    consumer.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: instances are made and deleted one after the other"]
async fn deleting_an_instance_waits_for_no_fetch() {
    let gateway = gateway().await;
    let name = created("v2-deleted-soon", 1).await;
    fill(gateway, &name, 0, 0..1).await;
    let mut waits = Vec::new();
    for _ in 0..9 {
        let consumer = Consumer::of(gateway, &name).await;
        assert_eq!(numbers(&consumer.read_all(1).await), [0]);
        // There is nothing more, so that the broker holds the next fetch for half a second.
        let begun = Instant::now();
        consumer.delete().await;
        waits.push(begun.elapsed());
    }
    waits.sort();
    assert!(waits[4] < Duration::from_millis(250), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_spent_joining_is_not_taken_from_a_reads_own() {
    let kafka = FaultBroker::start().await;
    kafka.create_topic("orders", 1);
    let gateway = Gateway::start(&kafka.bootstrap()).await;
    fill(&gateway, "orders", 0, 0..1).await;
    kafka.on_times(ApiKey::ConsumerGroupHeartbeat, 1, |_| {
        Control::Delay(Duration::from_secs(3))
    });
    let consumer = Consumer::make(&gateway, "web", &from_earliest()).await;
    consumer.subscribe(&["orders"]).await;
    assert_eq!(numbers(&consumer.read("timeout=2000").await), [0]);
    consumer.delete().await;
}
