//! A burst of records while brokers and the gateway end: what was acknowledged is there once.

use std::time::Duration;

use super::{Burst, LONGEST};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::{assert_readable, kafka, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker is killed and restarted twice under load"]
async fn what_was_acknowledged_survives_the_only_broker() {
    let broker = Broker::start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    broker.plain().create_topic("burst", 3, &[]).await;

    let burst = Burst::start(&gateway, "burst", 8);
    for _ in 0..2 {
        burst.goes_on(500).await;
        broker.kill();
        tokio::time::sleep(Duration::from_secs(3)).await;
        broker.restart().await;
    }
    burst.goes_on(500).await;

    let told = burst.end().await;
    assert!(told.slowest < LONGEST, "{:?}", told.slowest);
    assert!(told.unanswered.is_empty());
    told.check(&broker.plain(), "burst").await;
}

/// Long enough away that records are given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a broker stays away longer than a record may wait"]
async fn records_of_a_broker_that_stays_away_are_answered_with_an_error() {
    let broker = Broker::start().await;
    let gateway = Gateway::builder(&broker.bootstrap())
        .set("kafka.producer.message.timeout.ms", "3000")
        .start()
        .await;
    broker.plain().create_topic("burst", 3, &[]).await;

    let burst = Burst::start(&gateway, "burst", 8);
    burst.goes_on(500).await;
    broker.kill();
    tokio::time::sleep(Duration::from_secs(8)).await;
    broker.restart().await;
    burst.goes_on(500).await;
    broker.pause();
    tokio::time::sleep(Duration::from_secs(8)).await;
    broker.resume();
    burst.goes_on(500).await;

    let told = burst.end().await;
    assert!(!told.not.is_empty() || !told.maybe.is_empty());
    assert!(told.slowest < Duration::from_secs(3 + 35));
    told.check(&broker.plain(), "burst").await;
    assert_readable(&gateway.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: three brokers, of which one is killed and one frozen"]
async fn what_was_acknowledged_survives_a_leader() {
    let broker = Broker::builder().nodes(3).start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let plain = broker.plain();
    plain
        .create_topic("burst", 3, &[("min.insync.replicas", "2")])
        .await;

    let burst = Burst::start(&gateway, "burst", 8);
    burst.goes_on(500).await;
    broker.node(1).kill();
    burst.goes_on(500).await;
    broker.node(1).restart().await;
    burst.goes_on(500).await;
    // Not fenced before it is frozen, or the topic has too few replicas for a while.
    broker.node(2).pause();
    tokio::time::sleep(Duration::from_secs(10)).await;
    broker.node(2).resume();
    burst.goes_on(500).await;

    let told = burst.end().await;
    assert!(told.slowest < LONGEST, "{:?}", told.slowest);
    assert!(told.unanswered.is_empty());
    told.check(&plain, "burst").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_termination_in_the_middle_of_a_burst_loses_no_acknowledged_record() {
    let plain = kafka().await.plain();
    let gateway = Gateway::start(&kafka().await.bootstrap()).await;
    let topic = topic("ended");
    plain.create_topic(&topic, 3, &[]).await;

    let burst = Burst::start(&gateway, &topic, 16);
    burst.goes_on(1000).await;
    let ended = gateway.terminate().await;
    // So that each of them has met with its absence.
    burst.goes_on(2 * 16).await;
    let told = burst.end().await;

    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(!told.unanswered.is_empty(), "the end came after the burst");
    told.check(&plain, &topic).await;
}
