//! Several members of a group, and brokers and processes that come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use super::{BOUND, Consumer, PATIENT, SOON, created, from_earliest, numbers};
use crate::support::broker::Broker;
use crate::support::gateway::Gateway;
use crate::support::groups::{broker, fill, gateway};
use crate::support::{eventually, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_and_a_plain_client_share_partitions() {
    let gateway = gateway().await;
    let name = topic("v2-shared");
    let plain = broker().await.plain();
    plain.create_topic(&name, 6, &[]).await;
    let group = topic("v2-shared-group");
    let one = Consumer::make(gateway, &group, &from_earliest()).await;
    let two = Consumer::make(gateway, &group, &from_earliest()).await;
    one.subscribe(&[&name]).await;
    two.subscribe(&[&name]).await;
    let member = plain.member(&group, &name).await;
    eventually(BOUND, async || {
        let counts = (
            one.assignments().await.len(),
            two.assignments().await.len(),
            member.partitions().await,
        );
        counts == (2, 2, 2)
    })
    .await;

    for partition in 0..6 {
        let start = i64::from(partition) * 100;
        fill(gateway, &name, partition, start..start + 10).await;
    }

    let mut seen = Vec::new();
    let (first, second) = (one.read_all(20).await, two.read_all(20).await);
    seen.extend(numbers(&first));
    seen.extend(numbers(&second));
    seen.extend(member.take(20).await);
    let expected: BTreeSet<i64> = (0..6).flat_map(|p| p * 100..p * 100 + 10).collect();
    assert_eq!(seen.len(), 60);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    one.commit().await;
    two.commit().await;
    // Who leaves gives the others its partitions, where they go on after what is committed.
    two.delete().await;
    member.leave().await;
    one.has(6).await;
    for partition in 0..6 {
        fill(gateway, &name, partition, 1_000..1_001).await;
    }
    let news = |seen: &[i64]| seen.iter().filter(|n| **n == 1_000).count() == 6;
    let values = one.read_until(1_000, news).await;
    // Of the plain client's partitions, which committed nothing, all comes again.
    assert_eq!(values.len(), 26, "{values:?}");
    one.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebalance_holds_up_no_read() {
    let gateway = gateway().await;
    let name = created("v2-rebalance", 4).await;
    let group = topic("v2-rebalance-group");
    let stays = Consumer::make(gateway, &group, &from_earliest()).await;
    stays.subscribe(&[&name]).await;
    stays.has(4).await;
    // These never read at all, and so never "poll": they keep nobody waiting.
    let mut others = Vec::new();
    for _ in 0..3 {
        let other = Consumer::make(gateway, &group, &from_earliest()).await;
        other.subscribe(&[&name]).await;
        let begun = std::time::Instant::now();
        stays.read("timeout=200").await;
        assert!(begun.elapsed() < SOON);
        others.push(other);
    }
    stays.has(1).await;
    for other in others {
        other.delete().await;
    }
    stays.has(4).await;
    for partition in 0..4 {
        fill(gateway, &name, partition, 0..1).await;
    }
    assert_eq!(stays.read_all(4).await.len(), 4);
    stays.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_gateway_had_not_committed_comes_again() {
    let kafka = broker().await;
    let killed = Gateway::start(&kafka.bootstrap()).await;
    let name = topic("v2-killed");
    kafka.plain().create_topic(&name, 1, &[]).await;
    fill(&killed, &name, 0, 0..10).await;
    let group = topic("v2-killed-group");
    let body = json!({
        "format": "json", "auto.offset.reset": "earliest",
        "consumer.request.timeout.ms": 20_000,
    });
    let consumer = Consumer::make(&killed, &group, &body).await;
    consumer.subscribe(&[&name]).await;
    assert_eq!(consumer.read("max_bytes=4").await.len(), 4);
    consumer.commit().await;
    assert_eq!(consumer.read("max_bytes=3").await.len(), 3);

    killed.kill();

    let next = Consumer::make(gateway().await, &group, &body).await;
    next.subscribe(&[&name]).await;
    // The group has to find out first that the other one is dead.
    assert_eq!(numbers(&next.read_all(6).await), [4, 5, 6, 7, 8, 9]);
    next.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a Kafka of its own is stopped and started"]
async fn an_open_instance_outlives_its_broker() {
    let kafka = Broker::builder().fast_groups().start().await;
    let gateway = Gateway::builder(&kafka.bootstrap())
        .set("kafka.metadata_timeout_ms", "5000")
        .start()
        .await;
    let name = topic("v2-outage");
    kafka.plain().create_topic(&name, 1, &[]).await;
    fill(&gateway, &name, 0, 0..5).await;
    let subscribed = Consumer::of(&gateway, &name).await;
    assert_eq!(numbers(&subscribed.read_all(5).await), [0, 1, 2, 3, 4]);
    subscribed.commit().await;
    let by_hand = Consumer::alone(&gateway).await;
    let partitions = json!({"partitions": [{"topic": name, "partition": 0}]});
    by_hand.told("/assignments", &partitions).await;
    assert_eq!(by_hand.read_all(5).await.len(), 5);

    kafka.stop().await;

    for consumer in [&subscribed, &by_hand] {
        eventually(BOUND, async || {
            let reply = consumer.get("/records?timeout=1500").await;
            let is_said = [500, 503].contains(&reply.status.as_u16());
            assert!(is_said || reply.text() == "[]", "{}", reply.text());
            is_said && !reply.header("retry-after").is_empty()
        })
        .await;
        // What is known without Kafka is answered as ever.
        assert_eq!(consumer.assignments().await.len(), 1);
    }

    kafka.restart().await;

    let url = gateway.url(&format!("/topics/{name}/records"));
    eventually(BOUND, async || {
        let reply = crate::support::http::post_json(&url, &json!({"value": 5})).await;
        reply.status == 200
    })
    .await;
    for consumer in [&subscribed, &by_hand] {
        let seen = consumer
            .read_until(5_000, |seen| seen.last() == Some(&5))
            .await;
        assert!(seen.iter().all(|n| *n == 5), "{seen:?}");
    }
    // What the broker keeps of groups may still be on its way back, too.
    eventually(BOUND, async || {
        let reply = subscribed.call(Method::POST, "/offsets", None).await;
        reply.status == 200
    })
    .await;
    assert_eq!(subscribed.committed(&name, &[0]).await.len(), 1);
    subscribed.delete().await;
    by_hand.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_returns_at_once_while_other_brokers_have_nothing_new() {
    let broker = Broker::builder().nodes(3).fast_groups().start().await;
    let gateway = Gateway::start(&broker.bootstrap()).await;
    let name = topic("v2-prompt");
    let plain = broker.plain();
    plain.create_topic_on(&name, &[1, 2, 3], &[]).await;
    let consumer = Consumer::of(&gateway, &name).await;
    consumer.has(3).await;

    let mut times = Vec::new();
    for n in 0..60 {
        let begun = Instant::now();
        fill(&gateway, &name, 0, n..n + 1).await;
        assert_eq!(numbers(&consumer.read(PATIENT).await), [n]);
        times.push(begun.elapsed());
    }

    times.sort_unstable();
    println!("p50 {:?}, p99 {:?}", times[30], times[59]);
    // Half of what a broker holds a fetch for that finds nothing.
    assert!(times[30] < Duration::from_millis(250));
    consumer.delete().await;
}
